//! Bootstrapped ensemble Thompson sampling: networks that each saw the rows with weights of their own.
//!
//! A member drawn at random decides, so a candidate's probability is the share of the `members` that expect most of
//! it: exact, with no draw. A member's row weighs Exp(1), the Bayesian bootstrap (Rubin 1981), always the same for the
//! same row; first weights and batches differ too. A round costs `members` times that of one network.
//!
//! Osband, Van Roy (2015), arXiv:1507.00300; Lu, Van Roy (2017), arXiv:1705.07347. Departs from them: the weights are
//! exponential where they take 0 or 2, so that no member loses a row altogether.

use crate::greedy::argmax;
use crate::regress::net::{self, Net, Spread, Work};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    members: usize,
    #[serde(flatten)]
    net: net::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            members: 8,
            net: net::Options {
                width: 64,
                every: 8,
                ..net::Options::default()
            },
        }
    }
}

const OWN: &[OptionHelp] = &[("members", "networks; 2 to 1000")];

/// See the module.
#[derive(Clone, Debug)]
pub struct NeuralEnsemble {
    net: Net,
}

impl Build for NeuralEnsemble {
    const NAME: &'static str = "neural-ensemble";
    const SUMMARY: &'static str = "Thompson sampling from an ensemble of networks: probabilities are shares of votes";
    const PAPER: &'static str = "Osband, Van Roy (2015), arXiv:1507.00300; Lu, Van Roy (2017), arXiv:1705.07347";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + net::OPTIONS.len() }>(OWN, net::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let several = (2..=1000).contains(&c.members);
        require(several, Self::NAME, "members", "2 to 1000", c.members)?;
        let spread = Spread {
            members: c.members,
            ..Spread::ONE
        };
        Ok(NeuralEnsemble {
            net: Net::new(Self::NAME, shape, &c.net, spread)?,
        })
    }
}

impl Policy for NeuralEnsemble {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let members = self.net.members();
        let mut work = Work::default();
        out.scratch.clear();
        out.scratch.resize(out.probs.len(), 0.0);
        let share = 1.0 / members as f64;
        for m in 0..members {
            self.net.predict(m, round, &mut work, out.scratch)?;
            out.probs[argmax(out.scratch)] += share;
            for (score, own) in out.scores.iter_mut().zip(&*out.scratch) {
                *score += share * own;
            }
        }
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
