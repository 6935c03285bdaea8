//! LinUCB: the highest optimistic estimate of a ridge regression.
//!
//! Picks argmax of θᵀx + α·√(xᵀA⁻¹x), where A = λI + Σ xxᵀ; with one θ an action (the paper's Algorithm 1),
//! one θ over candidate features, or both (its Algorithm 2; see [`cross`](crate::regress::cross)). The choice is deterministic, so its propensity is 1. One round costs n·d²/2
//! multiply-adds, an update 3·d²/2.
//!
//! Li, Chu, Langford, Schapire (2010), arXiv:1003.0146. Departs from it: λ is free (the paper has 1), and ties
//! go to the lowest index (the paper breaks them arbitrarily).

use crate::greedy::argmax;
use crate::regress::Linear;
use crate::regress::linear;
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    alpha: f64,
    #[serde(flatten)]
    linear: linear::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            alpha: 0.25,
            linear: linear::Options::default(),
        }
    }
}

const OWN: &[OptionHelp] = &[("alpha", "exploration width, the paper's α; at least 0")];

/// See the module.
#[derive(Clone, Debug)]
pub struct LinUcb {
    alpha: f64,
    linear: Linear,
}

impl Build for LinUcb {
    const NAME: &'static str = "lin-ucb";
    const SUMMARY: &'static str = "Highest upper confidence bound of a ridge regression";
    const PAPER: &'static str = "Li, Chu, Langford, Schapire (2010), arXiv:1003.0146";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + linear::OPTIONS.len() }>(OWN, linear::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        require(
            c.alpha >= 0.0 && c.alpha.is_finite(),
            Self::NAME,
            "alpha",
            "a number of at least 0",
            c.alpha,
        )?;
        Ok(LinUcb {
            alpha: c.alpha,
            linear: Linear::new(Self::NAME, shape, &c.linear)?,
        })
    }
}

impl Policy for LinUcb {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        out.scratch.clear();
        out.scratch.resize(self.linear.row_len(), 0.0);
        self.linear.evaluate(round, out.scratch, |i, estimate| {
            let (mean, variance) = estimate.both();
            out.scores[i] = mean + self.alpha * variance.sqrt();
        });
        out.probs[argmax(out.scores)] = 1.0;
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        self.linear.update(batch, |_| ())
    }

    fn contributions(&self, round: &Round<'_>, i: usize, out: &mut Vec<(usize, f64)>) -> bool {
        self.linear.contributions(round, i, out)
    }

    fn shares_weights(&self) -> bool {
        self.linear.shares_weights()
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.linear.layout());
        self.linear.write(&mut w);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, self.linear.layout(), bytes)?;
        let linear = self.linear.read(&mut r)?;
        r.finish()?;
        self.linear = linear;
        Ok(())
    }
}
