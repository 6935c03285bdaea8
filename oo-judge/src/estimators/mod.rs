//! Off-policy evaluation: the worth of a target policy from a log of another one.
//!
//! An estimator turns each row into [`Terms`]; [`Sums`] turns terms into a value and its standard error, in one pass
//! and block by block. To add one, write its file and one line in [`ESTIMATORS`]: help, docs and the universal checks
//! follow.
//!
//! ```
//! use oo_judge::estimators::{Logged, Sizes, estimate, find};
//! let log = Logged {
//!     action: vec![0, 1, 0, 0],
//!     reward: vec![1.0, 0.0, 0.0, 1.0],
//!     propensity: vec![0.8, 0.2, 0.8, 0.8],
//!     candidates: Sizes::Fixed(2),
//!     target: vec![0.5; 8],
//!     model: vec![],
//!     cluster: vec![],
//!     first_row: 1,
//! };
//! log.check()?;
//! let ips = find("ips")?.build(None)?;
//! let sums = &estimate(&log, &[ips])[0];
//! assert!((sums.value() - 0.3125).abs() < 1e-12);
//! # Ok::<(), oo_judge::Error>(())
//! ```

mod binomial;
pub mod bootstrap;
pub mod clusters;
pub mod diagnostics;
pub mod direct;
pub mod doubly_robust;
pub mod histogram;
pub mod ips;
pub mod logged;
pub mod loggers;
pub mod marginalised;
pub mod moments;
pub mod replay;
pub mod shrinkage;
pub mod snips;
pub mod sub_gaussian;
pub mod switch_dr;
pub mod terms;
pub mod tuning;

pub use logged::{BLOCK, Logged, Sizes, Weighted};
pub use terms::{Sums, Terms};

use crate::{Error, Result};

/// A way to estimate the value of a policy, row by row.
pub trait Estimator: Send + Sync {
    /// Replaces `out` by the terms of the rows. No row's terms depend on another row.
    fn terms(&self, rounds: &Weighted, out: &mut Terms);
}

/// The one parameter that an estimator may have.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line of help, with the paper's symbol.
    pub help: &'static str,
    /// The value when none is given.
    pub default: f64,
    /// The least value; itself allowed.
    pub low: f64,
    /// The largest value; itself allowed, infinity too.
    pub high: f64,
    /// The value at which no weight is changed.
    pub unchanged: f64,
}

/// Which weights an estimator expects in [`Weighted::weight`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weights {
    /// Target probability over propensity: [`Logged::weigh`].
    Importance,
    /// The same of an embedding: [`marginalised::Embedding::weigh_rows`].
    Marginal,
    /// Target probability over that of a mixture of loggers: [`loggers::Loggers::weigh_balanced`].
    Balanced,
    /// As `Importance`, with a share for each row: [`loggers::Loggers::weigh_precise`].
    Precision,
}

/// What an estimator's expectation misses the truth by, when propensities are right and the logger has support.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bias {
    /// Nothing.
    None,
    /// Something of order 1/n.
    Vanishing,
    /// What the parameter costs; nothing at the value that changes no weight.
    Parameter,
    /// The error of the reward model.
    Model,
    /// Nothing if the reward depends on the action through its embedding alone.
    Embedding,
    /// Nothing if every action was logged with the same probability; anything otherwise.
    Logging,
}

/// One estimator in the table.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub summary: &'static str,
    /// Its formula, over rows: weight w, reward r, model q̂, the model's value of the target v.
    pub formula: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// Its parameter, if it has one.
    pub parameter: Option<Parameter>,
    /// Whether it is worth nothing without a reward model.
    pub needs_model: bool,
    /// Which weights the rows must carry.
    pub weights: Weights,
    /// What it misses the truth by.
    pub bias: Bias,
    /// Makes it; the argument is the parameter, checked.
    pub make: fn(f64) -> Box<dyn Estimator>,
}

impl Entry {
    /// Makes the estimator with a parameter, or with its default.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a value out of range, or one given to an estimator that takes none.
    pub fn build(&self, value: Option<f64>) -> Result<Box<dyn Estimator>> {
        let Some(parameter) = self.parameter else {
            return match value {
                None => Ok((self.make)(0.0)),
                Some(got) => Err(Error::Parameter {
                    owner: self.name,
                    parameter: "lambda",
                    expected: "no parameter".into(),
                    got: got.to_string(),
                }),
            };
        };
        let value = value.unwrap_or(parameter.default);
        if !(parameter.low..=parameter.high).contains(&value) {
            return Err(Error::Parameter {
                owner: self.name,
                parameter: parameter.name,
                expected: format!("a number from {} to {}", parameter.low, parameter.high),
                got: value.to_string(),
            });
        }
        Ok((self.make)(value))
    }
}

/// Every estimator of the library.
pub const ESTIMATORS: &[Entry] = &[
    direct::ENTRY,
    ips::ENTRY,
    ips::CLIPPED,
    snips::ENTRY,
    doubly_robust::ENTRY,
    doubly_robust::CLIPPED,
    snips::DOUBLY_ROBUST,
    switch_dr::ENTRY,
    shrinkage::ENTRY,
    sub_gaussian::IPS,
    sub_gaussian::DR,
    doubly_robust::MORE_ROBUST,
    replay::ENTRY,
    marginalised::ENTRY,
    loggers::BALANCED_IPS,
    loggers::BALANCED_DR,
    loggers::PRECISION_IPS,
    loggers::PRECISION_DR,
];

/// The entry of a name.
///
/// # Errors
/// [`Error::Unknown`].
pub fn find(name: &str) -> Result<&'static Entry> {
    ESTIMATORS
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Error::Unknown {
            kind: "estimator",
            name: name.into(),
            known: ESTIMATORS.iter().map(|entry| entry.name.into()).collect(),
        })
}

/// Several estimators in one pass over a checked log, one [`Sums`] each, in a few hundred kilobytes beyond the log.
pub fn estimate(log: &Logged, estimators: &[Box<dyn Estimator>]) -> Vec<Sums> {
    let mut sums = vec![Sums::new(); estimators.len()];
    let (mut rounds, mut terms) = (Weighted::default(), Terms::default());
    for start in (0..log.len()).step_by(BLOCK) {
        log.weigh_rows(start..log.len().min(start + BLOCK), &mut rounds);
        for (estimator, sums) in estimators.iter().zip(&mut sums) {
            estimator.terms(&rounds, &mut terms);
            sums.add(&terms);
        }
    }
    sums
}
