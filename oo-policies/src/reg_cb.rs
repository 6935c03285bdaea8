//! RegCB: every regressor that fits the data nearly as well as the best one counts.
//!
//! The confidence set holds all θ whose penalised squared error exceeds the least one by at most β. Over it the
//! estimate of a candidate ranges over θ̂ᵀx ± √(β xᵀA⁻¹x), exactly so for ridge regression: the set is an ellipsoid.
//! For learner=sgd the same with the diagonal of A, for learner=logistic the same about the log-odds. β = `mellowness`
//! · ln(1 + Kt), for K candidates and t rows learned, in squared units of the reward; no range is assumed.
//!
//! - `variant=optimistic` takes the highest upper bound; exact ties share.
//! - `variant=elimination` draws among the candidates whose upper bound reaches the highest lower bound.
//!
//! One round costs n·d²/2 multiply-adds (ridge) or n·d (first order).
//!
//! Foster, Agarwal, Dudík, Luo, Schapire (2018), arXiv:1803.01088, Algorithm 1. Departs from it: the set is updated
//! after every row instead of in epochs, and the bounds are in closed form instead of by bisection over an oracle.

use crate::greedy::share;
use crate::regress::{Learner, learner};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Variant {
    Optimistic,
    Elimination,
}

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    variant: Variant,
    mellowness: f64,
    #[serde(flatten)]
    learner: learner::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            variant: Variant::Optimistic,
            mellowness: 0.01,
            learner: learner::Options::default(),
        }
    }
}

const OWN: &[OptionHelp] = &[
    (
        "variant",
        "optimistic (the highest upper bound) or elimination (uniform among what may be best)",
    ),
    (
        "mellowness",
        "size of the confidence set in squared units of the reward, the paper's β without its logarithm; at least 0",
    ),
];

/// See the module.
#[derive(Clone, Debug)]
pub struct RegCb {
    config: Config,
    rows: u64,
    learner: Learner,
}

impl Build for RegCb {
    const NAME: &'static str = "reg-cb";
    const SUMMARY: &'static str = "Confidence bounds over all regressors that fit nearly as well as the best";
    const PAPER: &'static str = "Foster, Agarwal, Dudík, Luo, Schapire (2018), arXiv:1803.01088";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + learner::OPTIONS.len() }>(OWN, learner::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let sound = c.mellowness >= 0.0 && c.mellowness.is_finite();
        require(sound, Self::NAME, "mellowness", "a number of at least 0", c.mellowness)?;
        let learner = Learner::new(Self::NAME, shape, &c.learner)?;
        Ok(RegCb {
            config: c,
            rows: 0,
            learner,
        })
    }
}

impl Policy for RegCb {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        out.scratch.clear();
        out.scratch.resize(self.learner.row_len(), 0.0);
        let n = out.scores.len() as f64;
        let width = (self.config.mellowness * libm::log1p(n * self.rows as f64)).sqrt();
        let mut floor = f64::NEG_INFINITY;
        self.learner.evaluate(round, out.scratch, |i, estimate| {
            let (low, high) = estimate.bounds(width);
            out.scores[i] = high;
            floor = floor.max(low);
        });
        match self.config.variant {
            Variant::Optimistic => share(out.scores, 1.0, out.probs),
            Variant::Elimination => {
                // The candidate of the highest lower bound is always among them.
                let alive = out.scores.iter().filter(|&&high| high >= floor).count();
                for (p, &high) in out.probs.iter_mut().zip(out.scores.iter()) {
                    *p = if high >= floor { 1.0 / alive as f64 } else { 0.0 };
                }
            }
        }
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        let rows = &mut self.rows;
        self.learner.update(batch, |_| *rows += 1)
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.learner.layout());
        self.learner.write(&mut w);
        w.u64s("rows", [self.rows]);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, self.learner.layout(), bytes)?;
        let learner = self.learner.read(&mut r)?;
        let rows = r.count("rows")?;
        r.finish()?;
        (self.learner, self.rows) = (learner, rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::{ActionId, Candidates, Decision, Log, UserId};

    const IDS: [ActionId; 3] = [ActionId(0), ActionId(1), ActionId(2)];

    fn round<'a>(index: u64, context: &'a [f32]) -> Round<'a> {
        Round {
            index,
            user: UserId(0),
            context,
            candidates: Candidates {
                ids: &IDS,
                features: &[],
                dim: 0,
            },
        }
    }

    /// A policy that learned 60 rows: arm 0 pays 1, arm 1 pays 0.9, arm 2 pays 0, all for the context (1).
    fn trained(spec: &str) -> Box<dyn Policy> {
        let shape = Shape {
            context: vec!["bias".into()],
            candidate: vec![],
            actions: Some(3),
        };
        let mut policy = crate::build(&oo_core::Spec::parse(spec).unwrap(), &shape).unwrap();
        let mut log = Log::new();
        for t in 0..60 {
            let arm = t as usize % 3;
            let row = log.push_parts(&round(t, &[1.0]), &[1.0 / 3.0; 3], arm, Method::Exact);
            log.settle(row, [1.0, 0.9, 0.0][arm], None);
        }
        let rows: Vec<usize> = (0..60).collect();
        policy.update(&Batch::new(&log, &rows)).unwrap();
        policy
    }

    #[test]
    fn the_upper_bound_is_where_the_error_exceeds_the_least_by_beta() {
        let mellowness = 0.03;
        let policy = trained(&format!("reg-cb{{mellowness={mellowness},lambda=2}}"));
        let mut decision = Decision::new();
        policy.decide(&round(60, &[1.0]), Key::root(1), &mut decision).unwrap();
        let beta = mellowness * libm::log1p(3.0 * 60.0);
        for (arm, reward) in [1.0, 0.9, 0.0].into_iter().enumerate() {
            // 20 rows of one reward: the penalised error of θ is 2θ² + 20 (r − θ)².
            let error = |theta: f64| 2.0 * theta * theta + 20.0 * (reward - theta) * (reward - theta);
            let least = error(20.0 * reward / 22.0);
            let bound = decision.scores()[arm];
            assert!((error(bound) - least - beta).abs() < 1e-12, "{arm}: {bound}");
            assert!(bound > reward * 20.0 / 22.0);
        }
        assert_eq!(decision.probs(), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn elimination_keeps_what_may_be_best() {
        let probs = |mellowness: f64| {
            let policy = trained(&format!("reg-cb{{variant=elimination,mellowness={mellowness}}}"));
            let mut decision = Decision::new();
            policy.decide(&round(60, &[1.0]), Key::root(1), &mut decision).unwrap();
            decision.probs().to_vec()
        };
        // Widths √(β/21): the gap of arm 1 is 0.095, that of arm 2 0.952.
        assert_eq!(probs(1e-6), [1.0, 0.0, 0.0]);
        assert_eq!(probs(0.05), [0.5, 0.5, 0.0]);
        assert_eq!(probs(5.0), [1.0 / 3.0; 3]);
    }
}
