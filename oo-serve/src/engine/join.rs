//! What several feedbacks of one decision come to: one reward, learned once.
//!
//! By the rule [`Join::First`] the first one counts, and teaches at once. By every other rule all that come inside the
//! wait window count, and what they come to is learned when it ends, whether or not the process lived through it. Which
//! rule a decision goes by is settled by its first feedback.

use oo_core::tips::Feedback;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the feedbacks of a decision make one reward.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Join {
    /// The first, learned when it comes.
    #[default]
    First,
    /// The last inside the window, learned at its end; so are all that follow.
    Last,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

impl Join {
    /// All rules, in the order of their codes.
    pub const ALL: [Join; 6] = [Join::First, Join::Last, Join::Sum, Join::Mean, Join::Min, Join::Max];

    /// The name in options.
    pub fn name(self) -> &'static str {
        ["first", "last", "sum", "mean", "min", "max"][self as usize]
    }
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The feedbacks of one decision so far.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Joined {
    pub join: Join,
    pub n: u64,
    /// The sum for [`Join::Mean`], else what they come to.
    pub value: f64,
    /// The reaction behind the reward, where it is that of a single feedback.
    pub feedback: Option<Feedback>,
}

impl Joined {
    pub fn new(join: Join) -> Joined {
        Joined {
            join,
            n: 0,
            value: 0.0,
            feedback: None,
        }
    }

    /// One more.
    pub fn add(&mut self, reward: f64, feedback: Option<Feedback>) {
        let replaces = match self.join {
            _ if self.n == 0 => true,
            Join::First => false,
            Join::Last => true,
            Join::Min => reward < self.value,
            Join::Max => reward > self.value,
            Join::Sum | Join::Mean => {
                (self.value, self.feedback) = (self.value + reward, None);
                false
            }
        };
        if replaces {
            (self.value, self.feedback) = (reward, feedback);
        }
        self.n += 1;
    }

    /// What they come to.
    pub fn reward(&self) -> f64 {
        match self.join {
            Join::Mean => self.value / self.n as f64,
            _ => self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::tips::Reaction;

    #[test]
    fn every_rule_by_hand() {
        let rewards = [
            (0.5, Reaction::Snooze),
            (-1.0, Reaction::Dismiss),
            (1.0, Reaction::Done),
            (0.1, Reaction::Snooze),
        ];
        for (join, reward, reaction) in [
            (Join::First, 0.5, Some(Reaction::Snooze)),
            (Join::Last, 0.1, Some(Reaction::Snooze)),
            (Join::Sum, 0.6, None),
            (Join::Mean, 0.15, None),
            (Join::Min, -1.0, Some(Reaction::Dismiss)),
            (Join::Max, 1.0, Some(Reaction::Done)),
        ] {
            let mut joined = Joined::new(join);
            for (reward, reaction) in rewards {
                joined.add(
                    reward,
                    Some(Feedback {
                        reaction,
                        dwell_ms: None,
                    }),
                );
            }
            assert!((joined.reward() - reward).abs() < 1e-15, "{join}: {}", joined.reward());
            assert_eq!(joined.feedback.map(|f| f.reaction), reaction, "{join}");
            assert_eq!(Join::ALL[join as usize], join);
        }
        // One alone is itself by every rule.
        for join in Join::ALL {
            let mut joined = Joined::new(join);
            joined.add(-0.25, None);
            assert_eq!(joined.reward(), -0.25);
        }
    }
}
