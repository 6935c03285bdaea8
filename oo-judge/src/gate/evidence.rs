//! What a gate is shown: differences of the challenger to the champion, with their errors, and whether their source can
//! be trusted.

use super::bounds::Looking;
use crate::stats::{Arm, Cluster, Size, difference, two_means};
use oo_core::tips::Reaction;
use std::collections::BTreeMap;

/// A difference, challenger less champion.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Seen {
    /// The difference; NaN where one of the two has nothing to show.
    pub diff: f64,
    /// Its standard error over clusters; `None` with fewer than two.
    pub std_error: Option<f64>,
    /// Clusters behind it; where the two have clusters of their own, of the one that has fewer.
    pub clusters: usize,
    /// What a bound for any number of looks counts by: clusters where each is seen once and whole; decisions, of the policy
    /// that has fewer, where the same clusters go on.
    pub time: f64,
}

impl Seen {
    /// From clusters paired by index. Pairs with nothing on either side say nothing, and do not count as clusters.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn paired(champion: &[Cluster], challenger: &[Cluster]) -> Seen {
        assert_eq!(champion.len(), challenger.len(), "clusters are paired by index");
        let pairs = champion.iter().zip(challenger).filter(|(a, b)| a.count + b.count > 0.0);
        let (champion, challenger): (Vec<Cluster>, Vec<Cluster>) = pairs.map(|(a, b)| (*a, *b)).unzip();
        let d = difference(&challenger, &champion, 0.95);
        Seen {
            diff: d.diff,
            std_error: d.std_error,
            clusters: champion.len(),
            time: champion.len() as f64,
        }
    }

    /// From two arms, each with clusters of its own that may go on: users of a live experiment.
    pub fn unpaired(champion: &Arm, challenger: &Arm) -> Seen {
        let d = two_means(challenger, champion);
        Seen {
            diff: d.diff,
            std_error: d.std_error,
            clusters: champion.clusters().min(challenger.clusters()),
            time: champion.count().min(challenger.count()),
        }
    }

    /// How much stands behind it.
    pub(super) fn size(&self) -> Size {
        Size {
            time: self.time,
            df: self.clusters as f64 - 1.0,
        }
    }

    /// The one-sided bounds: below at error rate `below`, above at `above`. Infinite where there are none.
    pub(super) fn bounds(&self, looking: Looking, below: f64, above: f64) -> (f64, f64) {
        match self.std_error.filter(|se| self.diff.is_finite() && se.is_finite()) {
            None => (f64::NEG_INFINITY, f64::INFINITY),
            Some(se) => {
                // No spread leaves no doubt, but only where there are enough clusters for a bound at all.
                let reach = |alpha| match looking.reach(self.size(), alpha) {
                    far if far.is_finite() => far * se,
                    _ => f64::INFINITY,
                };
                (self.diff - reach(below), self.diff + reach(above))
            }
        }
    }
}

/// A condition on the source itself, without which its differences mean nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct Diagnostic {
    /// What is looked at.
    pub name: String,
    /// What it must be, in words.
    pub required: String,
    /// What it is.
    pub seen: f64,
    /// Whether it holds.
    pub holds: bool,
    /// How many times as many decisions would make it hold; `None` where no number would.
    pub times: Option<f64>,
    /// True where not to hold ends the matter: the champion stays. Else it only leaves it open.
    pub ends: bool,
}

/// Where evidence comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Both policies ran.
    Run,
    /// The challenger is judged by another policy's log.
    Log,
    /// Each policy decides for users of its own, who go on coming.
    Live,
}

impl Source {
    /// In tables.
    pub fn name(self) -> &'static str {
        match self {
            Source::Run => "run",
            Source::Log => "log",
            Source::Live => "live",
        }
    }
}

/// Everything one source shows.
#[derive(Clone, PartialEq, Debug)]
pub struct Evidence {
    /// Where it comes from.
    pub source: Source,
    /// Decisions of each policy: of the one that has fewer.
    pub decisions: u64,
    /// Clusters.
    pub clusters: usize,
    /// What a cluster is: seeds, users, rows.
    pub unit: &'static str,
    /// The difference in reward a decision, one a method: `reward` for a run, estimators for a log.
    pub effect: Vec<(String, Seen)>,
    /// By reward spec, where there are reactions.
    pub rewards: BTreeMap<String, Seen>,
    /// By group of people, where there are groups.
    pub groups: BTreeMap<String, Seen>,
    /// Of the reactions' shares, where there are reactions.
    pub reactions: BTreeMap<Reaction, Seen>,
    /// Of how the policies run, where that was measured.
    pub operations: BTreeMap<Operation, Seen>,
    /// On the source itself.
    pub diagnostics: Vec<Diagnostic>,
}

/// What can go wrong with a policy in service besides its choices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Operation {
    /// The share of decisions that were drawn uniformly because the policy failed or was too slow.
    Fallbacks,
    /// The share of decisions that took longer than the rule's `slow_ms`.
    Slow,
}
