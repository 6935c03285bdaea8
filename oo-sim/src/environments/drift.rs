//! The actions exchange their rewards, once or again and again: what was best is best no longer.
//!
//! Features stay with their actions. In worlds with candidate features the rewards then follow the features of
//! other candidates, so there the wrapper shows how a policy bears a model that has become wrong.

use super::{Wrap, position};
use oo_core::spec::require;
use oo_core::{Environment, Error, Key, Outcome, Result, Round, Shape, UserId};
use serde::{Deserialize, Serialize};

/// The options of `drift`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The first round with exchanged rewards.
    pub at: u64,
    /// Rounds between further exchanges; 0 for none.
    pub every: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { at: 5000, every: 0 }
    }
}

/// See the module.
pub struct Drift {
    inner: Box<dyn Environment>,
    config: Config,
    key: Key,
    epoch: u64,
    /// Action `i` has the reward of action `source[i]`.
    source: Vec<usize>,
    expected: Vec<Option<Vec<f64>>>,
}

impl Wrap for Drift {
    const NAME: &'static str = "drift";
    const SUMMARY: &'static str = "from a round on, the actions exchange their rewards";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[
        ("at", "the first round with exchanged rewards; at least 0"),
        ("every", "rounds between further exchanges; at least 0, where 0 is none"),
    ];
    type Config = Config;

    /// Wraps `inner`.
    ///
    /// # Errors
    /// [`Error::Unfit`] where the set of actions is not fixed.
    fn build(config: Config, inner: Box<dyn Environment>, key: Key) -> Result<Self> {
        let Some(actions) = inner.shape().actions else {
            let why = "it exchanges the rewards of fixed actions, and here actions come and go; put it before `arms`, \
                       or take a world with fixed actions (bernoulli, wheel, data:NAME)";
            return Err(Error::Unfit {
                owner: "drift".into(),
                why: why.into(),
            });
        };
        require(actions > 1, "drift", "at", "a world with at least two actions", actions)?;
        Ok(Drift {
            inner,
            config,
            key,
            epoch: 0,
            source: (0..actions).collect(),
            expected: vec![],
        })
    }
}

impl Drift {
    fn epoch_of(&self, index: u64) -> u64 {
        match index.checked_sub(self.config.at) {
            None => 0,
            Some(past) => 1 + past.checked_div(self.config.every).unwrap_or(0),
        }
    }

    /// The position whose reward position `i` of open round `r` has.
    fn source_of(&self, r: usize, i: usize) -> Result<usize> {
        let ids = self.inner.round(r).candidates.ids;
        let id = ids.get(i).ok_or_else(|| position(i, ids.len()))?;
        let source = usize::try_from(id.0).ok().and_then(|id| self.source.get(id)).copied();
        // A fixed set has the ids 0..n, each in every round.
        source
            .and_then(|s| ids.iter().position(|id| id.0 == s as u64))
            .ok_or_else(|| Error::Unfit {
                owner: "drift".into(),
                why: format!(
                    "action {} or its partner is not among the fixed actions of the round",
                    id.0
                ),
            })
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
        let epoch = self.epoch_of(self.inner.round(0).index);
        while self.epoch < epoch {
            self.epoch += 1;
            let mut draws = self.key.fold(self.epoch).draws();
            // Sattolo: one cycle through all, so that every action's reward changes; a shuffle of two actions
            // would do nothing half of the time.
            for i in (1..self.source.len()).rev() {
                self.source.swap(i, draws.below(i));
            }
        }
        self.expected.clear();
        for r in 0..self.inner.open() {
            let permuted = match self.inner.expected(r) {
                None => None,
                Some(e) => Some(
                    (0..e.len())
                        .map(|i| Ok(e[self.source_of(r, i)?]))
                        .collect::<Result<Vec<_>>>()?,
                ),
            };
            self.expected.push(permuted);
        }
        Ok(true)
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
        self.expected.get(i)?.as_deref()
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        super::count(chosen, self.inner.open())?;
        let sources: Result<Vec<_>> = chosen.iter().enumerate().map(|(r, &i)| self.source_of(r, i)).collect();
        self.inner.respond(&sources?, out)
    }

    fn group(&self, user: UserId) -> Option<&str> {
        self.inner.group(user)
    }
}
