//! Explore-then-commit: random candidates for the first rows, the best estimate ever after.
//!
//! Uniform until `rows` rows are learned, then argmax of the estimate (exact ties share); with `frozen=true` the
//! model stops learning there, as in the literature, else it goes on with what its choices bring. Rows count when
//! they are learned, so delayed feedback lengthens the exploration. A round costs what the estimates cost.
//!
//! Garivier, Kaufmann, Lattimore (2016), arXiv:1605.08988, for the regret without contexts, and against it: even the
//! best length loses a factor of 2 to policies that stop exploring by what they see.

use crate::greedy::share;
use crate::regress::{Learner, learner};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    rows: u64,
    frozen: bool,
    #[serde(flatten)]
    learner: learner::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            rows: 200,
            frozen: false,
            learner: learner::Options::default(),
        }
    }
}

const OWN: &[OptionHelp] = &[
    ("rows", "so many rows with random candidates; at least 0"),
    ("frozen", "true: learn nothing after them"),
];

/// See the module.
#[derive(Clone, Debug)]
pub struct ExploreFirst {
    config: Config,
    learned: u64,
    learner: Learner,
}

impl Build for ExploreFirst {
    const NAME: &'static str = "explore-first";
    const SUMMARY: &'static str = "Explore-then-commit: random candidates first, then the best estimate";
    const PAPER: &'static str = "Garivier, Kaufmann, Lattimore (2016), arXiv:1605.08988";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + learner::OPTIONS.len() }>(OWN, learner::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let learner = Learner::new(Self::NAME, shape, &c.learner)?;
        Ok(ExploreFirst {
            config: c,
            learned: 0,
            learner,
        })
    }
}

impl Policy for ExploreFirst {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        self.learner.means(round, out.scores, out.scratch);
        if self.learned < self.config.rows {
            out.probs.fill(1.0 / out.probs.len() as f64);
        } else {
            share(out.scores, 1.0, out.probs);
        }
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        for (row, reward) in batch.iter() {
            if !self.config.frozen || self.learned < self.config.rows {
                self.learner.learn(&row.round, row.chosen, reward, 1.0)?;
            }
            self.learned += 1;
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.learner.layout());
        self.learner.write(&mut w);
        w.u64s("learned", [self.learned]);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, self.learner.layout(), bytes)?;
        let learner = self.learner.read(&mut r)?;
        let learned = r.count("learned")?;
        r.finish()?;
        (self.learner, self.learned) = (learner, learned);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::{ActionId, Candidates, Decision, Log, UserId};

    #[test]
    fn uniform_then_greedy_and_frozen_where_asked() {
        let shape = Shape {
            context: vec!["bias".into()],
            candidate: vec![],
            actions: Some(2),
        };
        let round = Round {
            index: 0,
            user: UserId(0),
            context: &[1.0],
            candidates: Candidates {
                ids: &[ActionId(0), ActionId(1)],
                features: &[],
                dim: 0,
            },
        };
        for frozen in [true, false] {
            let config = Config {
                rows: 4,
                frozen,
                ..Config::default()
            };
            let mut policy = ExploreFirst::build(config, &shape).unwrap();
            let (mut decision, mut log) = (Decision::new(), Log::new());
            // Arm 1 pays more in the first four rows, arm 0 much more in those after.
            for t in 0..12 {
                (&policy as &dyn Policy)
                    .decide(&round, Key::root(t), &mut decision)
                    .unwrap();
                match t {
                    0..4 => assert_eq!(decision.probs(), [0.5, 0.5]),
                    4 => assert_eq!(decision.probs(), [0.0, 1.0]),
                    _ => {}
                }
                let arm = t as usize % 2;
                log.clear();
                log.push_parts(&round, &[0.5, 0.5], arm, Method::Exact);
                let reward = if t < 4 { arm as f64 } else { 9.0 * (1 - arm) as f64 };
                log.settle(0, reward, None);
                policy.update(&Batch::new(&log, &[0])).unwrap();
            }
            (&policy as &dyn Policy)
                .decide(&round, Key::root(9), &mut decision)
                .unwrap();
            assert_eq!(decision.chosen(), usize::from(frozen));
        }
    }
}
