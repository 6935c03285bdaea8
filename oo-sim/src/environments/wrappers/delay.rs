//! Delay: rewards arrive late, or never. What an outcome already has of delay is kept.

use super::super::World;
use oo_core::spec::require;
use oo_core::{Arrival, Environment, Key, Outcome, Result, Round, Shape, UserId};
use serde::{Deserialize, Serialize};

/// How delays are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Fixed,
    Geometric,
}

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    time: u64,
    kind: Kind,
    missing: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config { time: 100, kind: Kind::Fixed, missing: 0.0 }
    }
}

/// Name and help an option.
pub const OPTIONS: &[(&str, &str)] = &[
    ("time", "delay, or its mean: in rounds, in the tips world in minutes"),
    ("kind", "fixed or geometric"),
    ("missing", "probability that a reward never arrives; 0 to 1"),
];

/// See the module.
pub struct Delay {
    config: Config,
    inner: Box<dyn Environment>,
    key: Key,
}

impl Delay {
    /// Wraps any environment.
    pub fn build(config: Config, inner: Box<dyn Environment>, world: &World) -> Result<Self> {
        require((0.0..=1.0).contains(&config.missing), "delay", "missing", "0 to 1", config.missing)?;
        Ok(Delay { config, inner, key: world.key.name("delay") })
    }
}

impl Environment for Delay {
    fn shape(&self) -> &Shape {
        self.inner.shape()
    }

    fn advance(&mut self) -> Result<bool> {
        self.inner.advance()
    }

    fn now(&self) -> u64 {
        self.inner.now()
    }

    fn open(&self) -> usize {
        self.inner.open()
    }

    fn round(&self, i: usize) -> Round<'_> {
        self.inner.round(i)
    }

    fn expected(&self, i: usize) -> Option<&[f64]> {
        self.inner.expected(i)
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        let from = out.len();
        self.inner.respond(chosen, out)?;
        for (i, outcome) in out[from..].iter_mut().enumerate() {
            if outcome.arrival != Arrival::Now {
                continue;
            }
            let mut draws = self.key.fold(self.inner.round(i).index).draws();
            let time = self.config.time as f64;
            outcome.arrival = if draws.uniform() < self.config.missing {
                Arrival::Never
            } else {
                match self.config.kind {
                    Kind::Fixed => Arrival::After(self.config.time),
                    // The whole part of an exponential is geometric; this scale gives it mean `time`.
                    Kind::Geometric => Arrival::After((draws.exponential() / libm::log1p(1.0 / time)) as u64),
                }
            };
        }
        Ok(())
    }

    fn group(&self, user: UserId) -> Option<&str> {
        self.inner.group(user)
    }
}
