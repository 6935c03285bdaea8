//! Reward models: the expected reward of every candidate, learned from the log itself, for the direct part of an
//! estimator.
//!
//! A model that has seen a row predicts it too well, and an estimator that leans on it is then biased. So models are
//! [cross-fitted](CrossFit): rows fall into folds by a hash of their person (or of their number), and each row is
//! predicted by the model that has not seen its fold. To add a model, write its file and one line in [`MODELS`].
//!
//! ```
//! use oo_core::Key;
//! use oo_judge::estimators::{Logged, Sizes};
//! use oo_judge::models::{CrossFit, InputShape, Inputs, Weighting};
//! let mut log = Logged {
//!     action: [0, 1].repeat(20),
//!     reward: [1.0, 0.0].repeat(20),
//!     propensity: vec![0.5; 40],
//!     candidates: Sizes::Fixed(2),
//!     target: vec![0.5; 80],
//!     model: vec![],
//!     cluster: vec![],
//!     first_row: 1,
//! };
//! let shape = InputShape { context: 0, candidate: 0, arms: 2 };
//! let mut fit = CrossFit::new("linear{lambda=0.1}", shape, 2, Weighting::Equal, Key::root(1))?;
//! fit.add(&log, &Inputs::default())?;
//! fit.finish()?.fill(&mut log, &Inputs::default())?;
//! assert!(log.model[0] > log.model[1]);
//! # Ok::<(), oo_judge::Error>(())
//! ```
//!
//! Chernozhukov et al. (2018), arXiv:1608.00060.

mod cholesky;
pub mod cross_fit;
pub mod inputs;
pub mod linear;
pub mod logistic;
pub mod neural;
pub mod none;
pub mod sample;
pub mod weighting;

pub use cross_fit::{CrossFit, CrossFitted};
pub use inputs::{InputShape, Inputs, Offer};
pub use weighting::Weighting;

use crate::{Error, Result};
use oo_core::registry::OptionHelp;
use oo_core::spec::configure;
use oo_core::{Key, Spec};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// What every model is built from besides its own options.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What it reads.
    pub shape: InputShape,
    /// The number of folds, at least 1.
    pub folds: usize,
    /// For what a model draws.
    pub key: Key,
}

/// One row to learn from.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its number in the log.
    pub number: u64,
    /// Its fold.
    pub fold: usize,
    /// Which weight vector it belongs to.
    pub block: usize,
    /// Its weight in the fit; above 0.
    pub weight: f64,
    /// Its reward.
    pub reward: f64,
    /// The numbers of the logged candidate, the first of them 1.
    pub z: &'a [f32],
}

/// Rows to learn from, by column.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    dim: usize,
    number: Vec<u64>,
    fold: Vec<usize>,
    block: Vec<usize>,
    weight: Vec<f64>,
    reward: Vec<f64>,
    z: Vec<f32>,
}

impl Rows {
    /// No rows, of `dim` numbers each.
    pub fn new(dim: usize) -> Self {
        Rows { dim, ..Rows::default() }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.number.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.number.is_empty()
    }

    /// Forgets the rows and keeps the memory.
    pub fn clear(&mut self) {
        self.number.clear();
        self.fold.clear();
        self.block.clear();
        self.weight.clear();
        self.reward.clear();
        self.z.clear();
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row<'_>) {
        self.number.push(row.number);
        self.fold.push(row.fold);
        self.block.push(row.block);
        self.weight.push(row.weight);
        self.reward.push(row.reward);
        self.z.extend_from_slice(row.z);
    }

    /// Puts another row in the place of row `i`.
    pub fn replace(&mut self, i: usize, row: Row<'_>) {
        self.number[i] = row.number;
        self.fold[i] = row.fold;
        self.block[i] = row.block;
        self.weight[i] = row.weight;
        self.reward[i] = row.reward;
        self.z[i * self.dim..(i + 1) * self.dim].copy_from_slice(row.z);
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> Row<'_> {
        Row {
            number: self.number[i],
            fold: self.fold[i],
            block: self.block[i],
            weight: self.weight[i],
            reward: self.reward[i],
            z: &self.z[i * self.dim..(i + 1) * self.dim],
        }
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> + Clone {
        (0..self.len()).map(|i| self.row(i))
    }
}

/// A model that meets the log once, block after block, and can then leave out any fold.
pub trait Model: Send + Sync {
    /// Takes in rows.
    ///
    /// # Errors
    /// Rewards that the model cannot hold.
    fn add(&mut self, rows: &Rows) -> Result<()>;

    /// The model of all rows but those of fold `held_out`.
    ///
    /// # Errors
    /// Nothing to learn from, arithmetic that fails.
    fn fit(&self, held_out: Option<usize>) -> Result<Box<dyn Fitted>>;
}

/// A model that has learned.
pub trait Fitted: Send + Sync {
    /// Writes the expected reward of every candidate on offer; `scratch` is working memory.
    ///
    /// # Errors
    /// Arithmetic that fails.
    fn predict(&self, offer: &Offer<'_>, scratch: &mut Vec<f32>, out: &mut [f64]) -> Result<()>;
}

/// How a model comes from its options: its file's one promise to the table.
pub trait Build {
    /// The name on the command line.
    const NAME: &'static str;
    /// One line of help.
    const SUMMARY: &'static str;
    /// Where it was published.
    const PAPER: &'static str;
    /// Name and one line of help an option; every field of `Config` has one (tested).
    const OPTIONS: &'static [OptionHelp];
    /// The options with their defaults.
    type Config: Default + Serialize + DeserializeOwned;
    /// Makes a blank model; `None` where nothing is to be fitted.
    ///
    /// # Errors
    /// An option out of range.
    fn build(config: Self::Config, plan: &Plan) -> Result<Made>;
}

/// What a spec makes; nothing for `none`.
pub type Made = Option<Box<dyn Model>>;

/// One model in the table.
pub struct Entry {
    /// The name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// Name and help an option.
    pub options: &'static [OptionHelp],
    /// The options with their default values.
    pub defaults: fn() -> Map<String, Value>,
    make: fn(&Map<String, Value>, &Plan) -> Result<Made>,
}

const fn entry<B: Build>() -> Entry {
    Entry {
        name: B::NAME,
        summary: B::SUMMARY,
        paper: B::PAPER,
        options: B::OPTIONS,
        defaults: || match serde_json::to_value(B::Config::default()) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        },
        make: |options, plan| B::build(configure(B::NAME, options)?, plan),
    }
}

/// All reward models.
pub static MODELS: &[Entry] = &[
    entry::<linear::Linear>(),
    entry::<logistic::Logistic>(),
    entry::<neural::Neural>(),
    entry::<none::Nothing>(),
];

/// Makes the model that a spec names; `None` for `none`.
///
/// # Errors
/// A spec that does not parse, unknown names and options, options out of range.
pub fn build(text: &str, plan: &Plan) -> Result<Made> {
    let spec = Spec::parse(text)?;
    if let Some(part) = spec.wrappers().first() {
        return Err(Error::Refused(format!(
            "reward models have no wrappers: got `+{}`",
            part.name
        )));
    }
    let entry = oo_core::registry::find(MODELS, |e| e.name, spec.base(), "reward model", &[])?;
    (entry.make)(&spec.base().options, plan)
}

/// The error of a training set without rows.
fn nothing_to_learn(held_out: Option<usize>) -> Error {
    Error::Empty {
        what: match held_out {
            Some(_) => {
                "what a fold leaves to learn from (fewer persons than folds? no row that the target would take?)"
            }
            None => "what the reward model learns from",
        },
    }
}

#[cfg(test)]
mod tests;
