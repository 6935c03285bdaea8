//! ε-greedy on a neural network.
//!
//! With probability 1 − ε the candidate that the network expects most of, else one at random (which may be the same).
//! ε is fixed, or falls as min(ε, ε·`half_life`/t) after t rows. The network is trained on its last rows, see
//! [`regress::net`](crate::regress::net).
//! A round costs one forward pass (one a candidate, where candidates have features), and
//! `batch`/`every` passes and gradients of training.
//!
//! Riquelme, Tucker, Snoek (2018), arXiv:1802.09127, the greedy baseline "RMS" with its ε free.

use crate::greedy::argmax;
use crate::regress::net::{self, Net, Spread, Work};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    epsilon: f64,
    half_life: f64,
    #[serde(flatten)]
    net: net::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            epsilon: 0.02,
            half_life: 0.0,
            net: net::Options::default(),
        }
    }
}

const OWN: &[OptionHelp] = &[
    ("epsilon", "probability of a random candidate, at the start; 0 to 1"),
    ("half_life", "rows after which epsilon falls as 1/t; 0 never"),
];

/// See the module.
#[derive(Clone, Debug)]
pub struct NeuralEGreedy {
    config: Config,
    net: Net,
}

impl Build for NeuralEGreedy {
    const NAME: &'static str = "neural-egreedy";
    const SUMMARY: &'static str = "Best estimate of a neural network, a random candidate with probability epsilon";
    const PAPER: &'static str = "Riquelme, Tucker, Snoek (2018), arXiv:1802.09127";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + net::OPTIONS.len() }>(OWN, net::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let share = (0.0..=1.0).contains(&c.epsilon);
        require(share, Self::NAME, "epsilon", "0 to 1", c.epsilon)?;
        let whole = c.half_life >= 0.0 && c.half_life.is_finite();
        require(whole, Self::NAME, "half_life", "a number of at least 0", c.half_life)?;
        Ok(NeuralEGreedy {
            net: Net::new(Self::NAME, shape, &c.net, Spread::ONE)?,
            config: c,
        })
    }
}

impl NeuralEGreedy {
    fn epsilon(&self) -> f64 {
        let Config { epsilon, half_life, .. } = self.config;
        match half_life > 0.0 {
            true => epsilon * (half_life / self.net.replay().seen().max(1) as f64).min(1.0),
            false => epsilon,
        }
    }
}

impl Policy for NeuralEGreedy {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        self.net.predict(0, round, &mut Work::default(), out.scores)?;
        let epsilon = self.epsilon();
        out.probs.fill(epsilon / out.probs.len() as f64);
        out.probs[argmax(out.scores)] += 1.0 - epsilon;
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        let mut work = Work::default();
        for (row, reward) in batch.iter() {
            self.net.push(&row.round, row.chosen, reward, &mut work)?;
            self.net.train()?;
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.net.layout());
        self.net.write(&mut w);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, self.net.layout(), bytes)?;
        let net = self.net.read(&mut r)?;
        r.finish()?;
        self.net = net;
        Ok(())
    }
}
