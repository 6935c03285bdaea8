//! Rewards as versioned data: a reaction and its dwell, turned into a number by a table.
//!
//! r0 looks at the reaction alone, r1 adds explicit feedback, r2 pays "done" by dwell. A log that keeps reaction
//! and dwell can be scored again under any of them.

use super::{Feedback, Reaction};
use crate::judge::Response;
use crate::{Error, Result, normal};
use serde::{Deserialize, Serialize};

/// What "done" pays below a dwell.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Band {
    /// The band ends before this many milliseconds; `None` for the last.
    pub below_ms: Option<u64>,
    /// What it pays.
    pub reward: f64,
}

/// A table of rewards.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RewardSpec {
    /// r0, r1, r2, or a name of one's own.
    pub name: String,
    /// Rises when the numbers under a name change.
    pub version: u32,
    /// Bands for "done", by rising dwell; each reaches from the end of the one before.
    pub done: Vec<Band>,
    /// What a snooze pays.
    pub snooze: f64,
    /// What a dismissal pays.
    pub dismiss: f64,
    /// What explicit praise pays; 0 in r2, where dwell replaced it.
    pub helpful: f64,
    /// What explicit blame pays; likewise.
    pub not_helpful: f64,
}

impl RewardSpec {
    /// The specs that come with the library.
    pub fn all() -> Vec<RewardSpec> {
        serde_json::from_str(include_str!("rewards.json")).expect("the table is checked by a test")
    }

    /// Finds a spec by name.
    ///
    /// # Errors
    /// [`Error::Unknown`] lists what exists.
    pub fn named(name: &str) -> Result<RewardSpec> {
        let all = Self::all();
        let known = all.iter().map(|r| r.name.clone()).collect();
        all.into_iter().find(|r| r.name == name).ok_or_else(|| Error::Unknown {
            kind: "reward spec".into(),
            name: name.into(),
            known,
        })
    }

    /// The reward of a feedback. A "done" without dwell counts as the slowest.
    pub fn reward(&self, feedback: &Feedback) -> f64 {
        match feedback.reaction {
            Reaction::Done => {
                let dwell = feedback.dwell_ms.unwrap_or(u64::MAX);
                let band = self.done.iter().find(|b| b.below_ms.is_none_or(|end| dwell < end));
                band.or(self.done.last()).map_or(0.0, |b| b.reward)
            }
            Reaction::Snooze => self.snooze,
            Reaction::Dismiss => self.dismiss,
            Reaction::Helpful => self.helpful,
            Reaction::NotHelpful => self.not_helpful,
        }
    }

    /// The mean reward of a response, with lognormal dwell, in closed form.
    pub fn expected(&self, response: &Response) -> f64 {
        let (mean, sd) = response.log_dwell[0];
        let below = |end: Option<u64>| end.map_or(1.0, |ms| normal::cdf((libm::log(ms as f64) - mean) / sd));
        let mut from = 0.0;
        let mut done = 0.0;
        for band in &self.done {
            let to = below(band.below_ms);
            done += band.reward * (to - from);
            from = to;
        }
        let [p_done, p_snooze, p_dismiss] = response.probs;
        p_done * done + p_snooze * self.snooze + p_dismiss * self.dismiss
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    fn done(dwell_ms: u64) -> Feedback {
        Feedback {
            reaction: Reaction::Done,
            dwell_ms: Some(dwell_ms),
        }
    }

    #[test]
    fn r2_pays_by_dwell() {
        let r2 = RewardSpec::named("r2").unwrap();
        let at = |ms| r2.reward(&done(ms));
        assert_eq!([at(0), at(14_999), at(15_000), at(119_999)], [-0.3, -0.3, 1.0, 1.0]);
        assert_eq!([at(120_000), at(599_999), at(600_000)], [0.6, 0.6, 0.3]);
        assert_eq!(
            r2.reward(&Feedback {
                reaction: Reaction::Done,
                dwell_ms: None
            }),
            0.3
        );
        assert_eq!(
            r2.reward(&Feedback {
                reaction: Reaction::Snooze,
                dwell_ms: None
            }),
            0.1
        );
        assert_eq!(
            r2.reward(&Feedback {
                reaction: Reaction::Dismiss,
                dwell_ms: None
            }),
            -1.0
        );
    }

    #[test]
    fn r0_and_r1_ignore_dwell() {
        for name in ["r0", "r1"] {
            let spec = RewardSpec::named(name).unwrap();
            assert_eq!((spec.reward(&done(1)), spec.reward(&done(1_000_000))), (1.0, 1.0));
        }
        let praise = Feedback {
            reaction: Reaction::Helpful,
            dwell_ms: None,
        };
        assert_eq!(RewardSpec::named("r1").unwrap().reward(&praise), 0.5);
        assert!(RewardSpec::named("r9").unwrap_err().to_string().contains("r0, r1, r2"));
    }

    #[test]
    fn expected_is_the_mean_of_draws() {
        let r2 = RewardSpec::named("r2").unwrap();
        let response = Response {
            probs: [0.5, 0.3, 0.2],
            log_dwell: [(11.0, 0.8), (9.0, 0.7), (8.0, 0.6)],
        };
        let mut draws = Key::root(3).draws();
        let n = 200_000;
        let mean = (0..n)
            .map(|_| {
                let u = draws.uniform();
                let dwell = libm::exp(11.0 + 0.8 * draws.normal()) as u64;
                if u < 0.5 {
                    r2.reward(&done(dwell))
                } else if u < 0.8 {
                    r2.snooze
                } else {
                    r2.dismiss
                }
            })
            .sum::<f64>()
            / f64::from(n);
        // sd of a reward below 0.8, so 5 sd of the mean is 0.009: false alarm below 1e-6.
        assert!(
            (mean - r2.expected(&response)).abs() < 0.009,
            "{mean} {}",
            r2.expected(&response)
        );
    }
}
