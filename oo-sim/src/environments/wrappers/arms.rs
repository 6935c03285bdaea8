//! Arms: in each epoch of `every` rounds only some of the actions are on offer.

use super::super::World;
use oo_core::spec::require;
use oo_core::{ActionId, Candidates, Environment, Key, Outcome, Result, Round, Shape, UserId};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    keep: f64,
    every: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { keep: 0.7, every: 500 }
    }
}

/// Name and help an option.
pub const OPTIONS: &[(&str, &str)] =
    &[("keep", "probability that an action is on offer; 0 to 1"), ("every", "rounds an epoch; positive")];

/// See the module.
pub struct Arms {
    config: Config,
    inner: Box<dyn Environment>,
    key: Key,
    open: Vec<Open>,
}

#[derive(Default)]
struct Open {
    kept: Vec<usize>,
    ids: Vec<ActionId>,
    features: Vec<f32>,
    expected: Vec<f64>,
}

impl Arms {
    /// Wraps any environment.
    pub fn build(config: Config, inner: Box<dyn Environment>, world: &World) -> Result<Self> {
        require((0.0..=1.0).contains(&config.keep), "arms", "keep", "0 to 1", config.keep)?;
        require(config.every > 0, "arms", "every", "a positive number", config.every)?;
        Ok(Arms { config, inner, key: world.key.name("arms"), open: Vec::new() })
    }
}

impl Environment for Arms {
    fn shape(&self) -> &Shape {
        self.inner.shape()
    }

    fn advance(&mut self) -> Result<bool> {
        if !self.inner.advance()? {
            return Ok(false);
        }
        self.open.clear();
        for i in 0..self.inner.open() {
            let round = self.inner.round(i);
            let key = self.key.fold(round.index / self.config.every);
            let c = round.candidates;
            let mut open = Open::default();
            let on_offer = |id: &ActionId| key.fold(id.0).uniform() < self.config.keep;
            open.kept.extend((0..c.len()).filter(|&j| on_offer(&c.ids[j])));
            if open.kept.is_empty() {
                // Something must be on offer: the action with the smallest number.
                let draw = |j: &usize| key.fold(c.ids[*j].0).bits();
                open.kept.extend((0..c.len()).min_by_key(draw));
            }
            open.ids.extend(open.kept.iter().map(|&j| c.ids[j]));
            open.kept.iter().for_each(|&j| open.features.extend_from_slice(c.row(j)));
            if let Some(expected) = self.inner.expected(i) {
                open.expected.extend(open.kept.iter().map(|&j| expected[j]));
            }
            self.open.push(open);
        }
        Ok(true)
    }

    fn now(&self) -> u64 {
        self.inner.now()
    }

    fn open(&self) -> usize {
        self.open.len()
    }

    fn round(&self, i: usize) -> Round<'_> {
        let (round, open) = (self.inner.round(i), &self.open[i]);
        let candidates = Candidates { ids: &open.ids, features: &open.features, dim: round.candidates.dim };
        Round { candidates, ..round }
    }

    fn expected(&self, i: usize) -> Option<&[f64]> {
        let open = &self.open[i];
        (open.expected.len() == open.ids.len()).then_some(&open.expected)
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        let moved: Vec<usize> = chosen.iter().zip(&self.open).map(|(&c, open)| open.kept[c]).collect();
        self.inner.respond(&moved, out)
    }

    fn group(&self, user: UserId) -> Option<&str> {
        self.inner.group(user)
    }
}
