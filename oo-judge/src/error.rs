//! The error type of the crate. Messages say what was expected and what came.

use thiserror::Error;

/// What can go wrong when a log is judged.
#[derive(Clone, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A row that breaks a rule of logs.
    #[error("row {row}, column `{column}`: expected {expected}, got {got}")]
    Row {
        /// The row's number in the log, from 1.
        row: u64,
        /// The column.
        column: &'static str,
        /// The rule.
        expected: String,
        /// What stands there.
        got: String,
    },
    /// Two sizes that should agree do not.
    #[error("{what}: expected {expected}, got {got}")]
    Size {
        /// Which size.
        what: &'static str,
        /// What the rest of the log has.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// Nothing to judge.
    #[error("{what} is empty: expected at least one row")]
    Empty {
        /// What has no rows.
        what: &'static str,
    },
    /// A name that no table holds.
    #[error("unknown {kind} `{name}`; there are: {}", .known.join(", "))]
    Unknown {
        /// What was looked up.
        kind: &'static str,
        /// The name as it came.
        name: String,
        /// Everything the table holds.
        known: Vec<String>,
    },
    /// A parameter out of its range, or one where none is taken.
    #[error("parameter `{parameter}` of {owner}: expected {expected}, got {got}")]
    Parameter {
        /// The estimator, model or test.
        owner: &'static str,
        /// The parameter's name.
        parameter: &'static str,
        /// Its range.
        expected: String,
        /// The value as it came.
        got: String,
    },
    /// What the traits' error says: a spec that does not parse, an option out of range, a singular matrix.
    #[error("{0}")]
    Refused(String),
}

impl From<oo_core::Error> for Error {
    fn from(error: oo_core::Error) -> Self {
        Error::Refused(error.to_string())
    }
}
