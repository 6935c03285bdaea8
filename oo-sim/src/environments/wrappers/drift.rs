//! Drift: after `at` rounds, and then every `every` rounds, what the actions pay changes hands.

use super::super::World;
use oo_core::{Environment, Error, Key, Outcome, Result, Round, Shape, UserId};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    at: u64,
    every: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { at: 1000, every: 0 }
    }
}

/// Name and help an option.
pub const OPTIONS: &[(&str, &str)] =
    &[("at", "the first round that differs"), ("every", "rounds between later changes; 0 for none")];

/// See the module. Candidate `i` pays what candidate `permutation[i]` of the inner environment would.
pub struct Drift {
    config: Config,
    inner: Box<dyn Environment>,
    key: Key,
    permutation: Vec<usize>,
    epoch: u64,
    expected: Vec<f64>,
}

impl Drift {
    /// Wraps an environment with a fixed action set.
    pub fn build(config: Config, inner: Box<dyn Environment>, world: &World) -> Result<Self> {
        let Some(n) = inner.shape().actions else {
            let why = "it needs a fixed action set; tips has an option of its own, tips{drift=...}".into();
            return Err(Error::Unfit { owner: "drift".into(), why });
        };
        let permutation = (0..n).collect();
        Ok(Drift { config, inner, key: world.key.name("drift"), permutation, epoch: 0, expected: Vec::new() })
    }
}

impl Environment for Drift {
    fn shape(&self) -> &Shape {
        self.inner.shape()
    }

    fn advance(&mut self) -> Result<bool> {
        if !self.inner.advance()? {
            return Ok(false);
        }
        let round = self.inner.round(0).index;
        let epoch = match round.checked_sub(self.config.at) {
            None => 0,
            Some(since) => 1 + since.checked_div(self.config.every).unwrap_or(0),
        };
        if epoch != self.epoch {
            self.epoch = epoch;
            self.key.fold(epoch).draws().shuffle(&mut self.permutation);
        }
        self.expected.clear();
        if let Some(inner) = self.inner.expected(0) {
            self.expected.extend(self.permutation.iter().map(|&p| inner[p]));
        }
        Ok(true)
    }

    fn now(&self) -> u64 {
        self.inner.now()
    }

    fn round(&self, i: usize) -> Round<'_> {
        self.inner.round(i)
    }

    fn expected(&self, _: usize) -> Option<&[f64]> {
        (!self.expected.is_empty()).then_some(&self.expected)
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        let moved: Vec<usize> = chosen.iter().map(|&c| self.permutation[c]).collect();
        self.inner.respond(&moved, out)
    }

    fn group(&self, user: UserId) -> Option<&str> {
        self.inner.group(user)
    }
}
