//! Actions that come and go: each epoch offers a part of them, drawn by their identities.

use super::{Wrap, position};
use oo_core::spec::require;
use oo_core::{ActionId, Candidates, Environment, Key, Outcome, Result, Round, Shape, UserId};
use serde::{Deserialize, Serialize};

/// The options of `arms`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Probability that an action is offered in an epoch.
    pub keep: f64,
    /// Rounds an epoch.
    pub every: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { keep: 0.7, every: 500 }
    }
}

/// What is left of an open round.
#[derive(Default)]
struct Offer {
    kept: Vec<usize>,
    ids: Vec<ActionId>,
    features: Vec<f32>,
    expected: Option<Vec<f64>>,
}

/// See the module.
pub struct Arms {
    inner: Box<dyn Environment>,
    config: Config,
    key: Key,
    shape: Shape,
    offers: Vec<Offer>,
}

impl Wrap for Arms {
    const NAME: &'static str = "arms";
    const SUMMARY: &'static str = "actions come and go: each epoch offers a part of them";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[
        (
            "keep",
            "probability that an action is offered in an epoch; one is always offered; above 0, at most 1",
        ),
        ("every", "rounds an epoch; at least 1"),
    ];
    type Config = Config;

    /// Wraps `inner`. The shape names no number of actions any more, since they come and go.
    ///
    /// # Errors
    /// An option out of range.
    fn build(config: Config, inner: Box<dyn Environment>, key: Key) -> Result<Self> {
        let ok = config.keep > 0.0 && config.keep <= 1.0;
        require(ok, "arms", "keep", "above 0, at most 1", config.keep)?;
        require(config.every > 0, "arms", "every", "at least 1", config.every)?;
        let shape = Shape {
            actions: None,
            ..inner.shape().clone()
        };
        Ok(Arms {
            inner,
            config,
            key,
            shape,
            offers: vec![],
        })
    }
}

impl Arms {
    fn offer(&self, r: usize) -> Offer {
        let round = self.inner.round(r);
        let all = round.candidates;
        let key = self.key.fold(round.index / self.config.every);
        let draws: Vec<f64> = all.ids.iter().map(|id| key.fold(id.0).uniform()).collect();
        let mut kept: Vec<usize> = (0..all.len()).filter(|&i| draws[i] < self.config.keep).collect();
        if kept.is_empty() {
            kept.extend((0..all.len()).min_by(|&a, &b| draws[a].total_cmp(&draws[b])));
        }
        Offer {
            ids: kept.iter().map(|&i| all.ids[i]).collect(),
            features: kept.iter().flat_map(|&i| all.row(i)).copied().collect(),
            expected: self.inner.expected(r).map(|e| kept.iter().map(|&i| e[i]).collect()),
            kept,
        }
    }
}

impl Environment for Arms {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn advance(&mut self) -> Result<bool> {
        let more = self.inner.advance()?;
        if more {
            self.offers = (0..self.inner.open()).map(|r| self.offer(r)).collect();
        }
        Ok(more)
    }

    fn now(&self) -> u64 {
        self.inner.now()
    }

    fn open(&self) -> usize {
        self.inner.open()
    }

    fn round(&self, i: usize) -> Round<'_> {
        let Offer { ids, features, .. } = &self.offers[i];
        let round = self.inner.round(i);
        Round {
            candidates: Candidates {
                ids,
                features,
                dim: round.candidates.dim,
            },
            ..round
        }
    }

    fn expected(&self, i: usize) -> Option<&[f64]> {
        self.offers.get(i)?.expected.as_deref()
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        super::count(chosen, self.offers.len())?;
        let inner: Result<Vec<usize>> = chosen
            .iter()
            .zip(&self.offers)
            .map(|(&i, offer)| offer.kept.get(i).copied().ok_or_else(|| position(i, offer.kept.len())))
            .collect();
        self.inner.respond(&inner?, out)
    }

    fn group(&self, user: UserId) -> Option<&str> {
        self.inner.group(user)
    }
}
