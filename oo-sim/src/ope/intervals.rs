//! Which interval goes with the estimates.

use anyhow::{Result, bail};

/// How an interval is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Linearisation and a normal quantile; by user with Student's quantile where the log names users.
    Normal,
    /// Percentiles of resampled rows, or of resampled users.
    Bootstrap,
    /// A binomial interval scaled by the largest weight.
    ClopperPearson,
    /// Likelihood with the constraint that weights average 1.
    CressieRead,
    /// A confidence sequence.
    Sequence,
    /// No interval.
    None,
}

/// Every method with its names and one line of help. Those of the second half know weights and rewards only: their
/// interval is one for the policy's value, and goes with every estimate that uses no reward model.
pub const METHODS: &[(&str, &str, Method)] = &[
    (
        "normal",
        "linearised; by user with Student's quantile where the log names users",
        Method::Normal,
    ),
    ("gaussian", "another name of normal", Method::Normal),
    (
        "bootstrap",
        "percentiles of --resamples resampled logs, by user where the log names users; holds the log's weights in memory",
        Method::Bootstrap,
    ),
    (
        "clopper-pearson",
        "binomial, scaled by the largest weight; for comparison: too short where weights vary much",
        Method::ClopperPearson,
    ),
    (
        "cressie-read",
        "empirical likelihood: knows that weights average 1; close to its level without any assumption on the tail",
        Method::CressieRead,
    ),
    (
        "cs",
        "confidence sequence: holds at every row at once, so one may look while the log grows",
        Method::Sequence,
    ),
    ("none", "no interval", Method::None),
];

impl Method {
    /// The method of a name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn named(name: &str) -> Result<Method> {
        match METHODS.iter().find(|m| m.0 == name) {
            Some(found) => Ok(found.2),
            None => {
                let known: Vec<&str> = METHODS.iter().map(|m| m.0).collect();
                bail!("--interval: expected one of {}, got `{name}`", known.join(", "))
            }
        }
    }

    /// The name in answers.
    pub fn name(self) -> &'static str {
        METHODS.iter().find(|m| m.2 == self).map_or("", |m| m.0)
    }

    /// Whether it is an interval for the value from weights and rewards within a known range.
    pub fn is_of_value(self) -> bool {
        matches!(self, Method::ClopperPearson | Method::CressieRead | Method::Sequence)
    }
}
