//! How much each row counts when a reward model is fitted.

use crate::{Error, Result};

/// A weight a row; w is the importance weight and p the propensity of the logged action.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weighting {
    /// 1: the best prediction where the log is.
    #[default]
    Equal,
    /// w: the best prediction where the target policy goes.
    Importance,
    /// w²(1 − p): the least variance of the doubly robust estimate (Farajtabar, Chow, Ghavamzadeh 2018,
    /// arXiv:1802.03493). Exact for a target that is certain of its action; for others the paper's matrix has terms
    /// off its diagonal, which couple the candidates of a row and are left out here.
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
        let w = target / propensity;
        match self {
            Weighting::Equal => 1.0,
            Weighting::Importance => w,
            Weighting::Mrdr => w * w * (1.0 - propensity),
        }
    }
}
