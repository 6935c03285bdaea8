//! Outcomes that become known later, or never.

use super::{Wrap, position};
use oo_core::spec::require;
use oo_core::{Arrival, Environment, Key, Outcome, Result, Round, Shape, UserId};
use serde::{Deserialize, Serialize};

/// How long an outcome takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Always the same time.
    #[default]
    Fixed,
    /// A geometric time, at least 1, with this mean.
    Geometric,
}

/// The options of `delay`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The delay or its mean, in the world's unit of time.
    pub rounds: u64,
    /// How long an outcome takes.
    pub kind: Kind,
    /// Probability that an outcome is lost.
    pub missing: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            rounds: 100,
            kind: Kind::Fixed,
            missing: 0.0,
        }
    }
}

/// See the module.
pub struct Delay {
    inner: Box<dyn Environment>,
    config: Config,
    key: Key,
}

impl Wrap for Delay {
    const NAME: &'static str = "delay";
    const SUMMARY: &'static str = "outcomes become known later, or never";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[
        (
            "rounds",
            "the delay or its mean, in the world's unit of time (rounds; minutes in tips); at least 0, for geometric 1",
        ),
        ("kind", "fixed, or geometric (at least 1)"),
        ("missing", "probability that an outcome never becomes known; 0 to 1"),
    ];
    type Config = Config;

    /// Wraps `inner`.
    ///
    /// # Errors
    /// An option out of range.
    fn build(config: Config, inner: Box<dyn Environment>, key: Key) -> Result<Self> {
        require(
            (0.0..=1.0).contains(&config.missing),
            "delay",
            "missing",
            "0 to 1",
            config.missing,
        )?;
        let ok = config.rounds > 0 || config.kind == Kind::Fixed;
        require(ok, "delay", "rounds", "at least 1 for kind=geometric", config.rounds)?;
        Ok(Delay { inner, config, key })
    }
}

impl Delay {
    /// What `key` adds to the time of an outcome; `None` where it is lost.
    fn wait(&self, key: Key) -> Option<u64> {
        let mut draws = key.draws();
        if draws.uniform() < self.config.missing {
            return None;
        }
        Some(match self.config.kind {
            Kind::Geometric if self.config.rounds > 1 => {
                let stay = libm::log1p(-1.0 / self.config.rounds as f64);
                // Inversion: the exponential time divided by the rate, rounded up. `as` saturates.
                1 + libm::floor(draws.exponential() / -stay) as u64
            }
            _ => self.config.rounds,
        })
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
        super::count(chosen, self.inner.open())?;
        // Before the inner world responds: its rounds may be gone after that.
        let mut waits = Vec::with_capacity(chosen.len());
        for (r, &i) in chosen.iter().enumerate() {
            let round = self.inner.round(r);
            let ids = round.candidates.ids;
            let id = ids.get(i).ok_or_else(|| position(i, ids.len()))?;
            waits.push(self.wait(self.key.fold(round.index).fold(id.0)));
        }
        let start = out.len();
        self.inner.respond(chosen, out)?;
        for (outcome, wait) in out[start..].iter_mut().zip(waits) {
            outcome.arrival = match (outcome.arrival, wait) {
                (Arrival::Never, _) | (_, None) => Arrival::Never,
                (Arrival::Now, Some(0)) => Arrival::Now,
                (Arrival::Now, Some(wait)) => Arrival::After(wait),
                (Arrival::After(own), Some(wait)) => Arrival::After(own.saturating_add(wait)),
            };
        }
        Ok(())
    }

    fn group(&self, user: UserId) -> Option<&str> {
        self.inner.group(user)
    }
}
