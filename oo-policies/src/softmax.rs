//! Boltzmann exploration on a regression: probability ∝ exp(estimate / temperature).
//!
//! Sutton, Barto (2018), §2.8 for the distribution.

use crate::regress::{Learner, learner};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    temperature: f64,
    #[serde(flatten)]
    learner: learner::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            temperature: 0.1,
            learner: learner::Options::default(),
        }
    }
}

const OWN: &[OptionHelp] = &[(
    "temperature",
    "units of reward; low is greedy, high is uniform; positive",
)];

/// See the module.
#[derive(Clone, Debug)]
pub struct Softmax {
    temperature: f64,
    learner: Learner,
}

impl Build for Softmax {
    const NAME: &'static str = "softmax";
    const SUMMARY: &'static str = "Boltzmann exploration on a regression";
    const PAPER: &'static str = "Sutton, Barto (2018), section 2.8";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + learner::OPTIONS.len() }>(OWN, learner::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let t = c.temperature;
        require(
            t > 0.0 && t.is_finite(),
            Self::NAME,
            "temperature",
            "a positive number",
            t,
        )?;
        Ok(Softmax {
            temperature: t,
            learner: Learner::new(Self::NAME, shape, &c.learner)?,
        })
    }
}

impl Policy for Softmax {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        self.learner.means(round, out.scores, out.scratch);
        let high = out.scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for (p, s) in out.probs.iter_mut().zip(out.scores.iter()) {
            *p = libm::exp((s - high) / self.temperature);
        }
        let sum: f64 = out.probs.iter().sum();
        out.probs.iter_mut().for_each(|p| *p /= sum);
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        self.learner.update(batch, |_| ())
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
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, self.learner.layout(), bytes)?;
        let learner = self.learner.read(&mut r)?;
        r.finish()?;
        self.learner = learner;
        Ok(())
    }
}
