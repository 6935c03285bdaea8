//! How much each row counts when a reward model is fitted.

use crate::estimators::doubly_robust::fit_weight;
use crate::{Error, Result};

/// A weight a row; w is the importance weight and p the propensity of the logged action.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weighting {
    /// 1: the best prediction where the log is.
    #[default]
    Equal,
    /// w: the best prediction where the target policy goes.
    Importance,
    /// [`fit_weight`]: the least variance of the doubly robust estimate.
    Mrdr,
}

/// Name and one line of help.
pub const WEIGHTINGS: &[(&str, &str, Weighting)] = &[
    ("equal", "every row alike", Weighting::Equal),
    ("importance", "by the importance weight", Weighting::Importance),
    (
        "mrdr",
        "for the least variance of the doubly robust estimate (Farajtabar et al. 2018)",
        Weighting::Mrdr,
    ),
];

impl Weighting {
    /// The weighting of a name.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn named(name: &str) -> Result<Weighting> {
        let found = WEIGHTINGS.iter().find(|(n, _, _)| *n == name);
        found.map(|&(_, _, weighting)| weighting).ok_or_else(|| Error::Unknown {
            kind: "weighting of the reward model",
            name: name.into(),
            known: WEIGHTINGS.iter().map(|(n, _, _)| n.to_string()).collect(),
        })
    }

    /// The weight of a row.
    pub fn of(self, target: f64, propensity: f64) -> f64 {
        match self {
            Weighting::Equal => 1.0,
            Weighting::Importance => target / propensity,
            Weighting::Mrdr => fit_weight(target, propensity),
        }
    }
}
