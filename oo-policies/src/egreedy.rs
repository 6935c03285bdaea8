//! ε-greedy on a regression (see [`learner`]).
//!
//! With probability 1 − ε the candidate with the highest θᵀx, else one at random (which may be the same). ε is
//! fixed, falls as min(ε, c/t) with c = ε·`half_life` (Auer, Cesa-Bianchi, Fischer 2002, Theorem 3 with their
//! constants gathered in c), or adapts to surprise: ε ← ε + (f − ε)/`half_life`, f = tanh(|error| / 2σ), started
//! at the given value (VDBE; Tokic 2010, Eq. 5, with the state collapsed to one).

use crate::greedy::argmax;
use crate::regress::{Learner, learner};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// How ε changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Schedule {
    Fixed,
    Decay,
    Adaptive,
}

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    epsilon: f64,
    schedule: Schedule,
    half_life: f64,
    sigma: f64,
    #[serde(flatten)]
    learner: learner::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            epsilon: 0.05,
            schedule: Schedule::Fixed,
            half_life: 100.0,
            sigma: 1.0,
            learner: learner::Options::default(),
        }
    }
}

const OWN: &[OptionHelp] = &[
    ("epsilon", "probability of a random candidate, at the start; 0 to 1"),
    (
        "schedule",
        "fixed, decay (as 1/t) or adaptive (follows the prediction error)",
    ),
    (
        "half_life",
        "decay: rows before epsilon falls; adaptive: rows it averages over; at least 1",
    ),
    ("sigma", "adaptive: the error that counts as surprising; positive"),
];

/// See the module.
#[derive(Clone, Debug)]
pub struct EGreedy {
    config: Config,
    epsilon: f64,
    rows: u64,
    learner: Learner,
}

impl Build for EGreedy {
    const NAME: &'static str = "egreedy";
    const SUMMARY: &'static str = "Best estimate of a regression, a random candidate with probability epsilon";
    const PAPER: &'static str = "Auer, Cesa-Bianchi, Fischer (2002); Tokic (2010) for the adaptive schedule";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + learner::OPTIONS.len() }>(OWN, learner::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        require(
            (0.0..=1.0).contains(&c.epsilon),
            Self::NAME,
            "epsilon",
            "0 to 1",
            c.epsilon,
        )?;
        require(
            c.half_life >= 1.0,
            Self::NAME,
            "half_life",
            "a number of at least 1",
            c.half_life,
        )?;
        require(c.sigma > 0.0, Self::NAME, "sigma", "a positive number", c.sigma)?;
        let learner = Learner::new(Self::NAME, shape, &c.learner)?;
        Ok(EGreedy {
            epsilon: c.epsilon,
            config: c,
            rows: 0,
            learner,
        })
    }
}

impl Policy for EGreedy {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        self.learner.means(round, out.scores, out.scratch);
        out.probs.fill(self.epsilon / out.probs.len() as f64);
        out.probs[argmax(out.scores)] += 1.0 - self.epsilon;
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        let EGreedy {
            config,
            epsilon,
            rows,
            learner,
        } = self;
        learner.update(batch, |error| {
            *rows += 1;
            match config.schedule {
                Schedule::Fixed => {}
                Schedule::Decay => *epsilon = config.epsilon * (config.half_life / *rows as f64).min(1.0),
                Schedule::Adaptive => {
                    let surprise = libm::tanh(error.abs() / (2.0 * config.sigma));
                    *epsilon += (surprise - *epsilon) / config.half_life;
                }
            }
        })
    }

    fn contributions(&self, round: &Round<'_>, i: usize, out: &mut Vec<(usize, f64)>) -> bool {
        self.learner.contributions(round, i, out)
    }

    fn shares_weights(&self) -> bool {
        self.learner.shares_weights()
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.learner.layout());
        self.learner.write(&mut w);
        w.f64s("epsilon", [&self.epsilon]);
        w.u64s("rows", [self.rows]);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, self.learner.layout(), bytes)?;
        let learner = self.learner.read(&mut r)?;
        let [epsilon] = r.few("epsilon")?;
        let rows = r.count("rows")?;
        r.finish()?;
        *self = EGreedy {
            config: self.config.clone(),
            epsilon,
            rows,
            learner,
        };
        Ok(())
    }
}
