//! Judges of reactions. To add one, write its file and one line in [`JUDGES`].

pub mod rule;

use oo_core::judge::Judge;
use oo_core::{Error, Result};

/// One judge in the table.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub summary: &'static str,
    /// Makes the judge.
    pub build: fn() -> Box<dyn Judge>,
}

/// Every judge of reactions.
pub const JUDGES: &[Entry] = &[Entry {
    name: "rule",
    summary: "Documented response model: log-odds of done, snooze, dismiss; lognormal dwell",
    build: || Box::new(rule::RuleJudge),
}];

/// Finds a judge by name.
///
/// # Errors
/// [`Error::Unknown`] lists what exists.
pub fn judge(name: &str) -> Result<Box<dyn Judge>> {
    JUDGES
        .iter()
        .find(|j| j.name == name)
        .map(|j| (j.build)())
        .ok_or_else(|| Error::Unknown {
            kind: "judge".into(),
            name: name.into(),
            known: JUDGES.iter().map(|j| j.name.to_string()).collect(),
        })
}
