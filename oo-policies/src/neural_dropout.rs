//! Dropout Thompson sampling: a network that leaves out units at random, when it learns and when it decides.
//!
//! A mask of hidden units is taken for a draw from a posterior: the candidate that the thinned network expects most of
//! is chosen. The probabilities are the shares of `draws` masks, mixed with a uniform floor of weight 1/(draws + 1); a
//! mask is drawn from the round's key and is the same for all candidates. Kept units are scaled by 1/(1 − `dropout`).
//! A round costs `draws` forward passes without the first layer (so many a candidate, where candidates have features).
//!
//! Gal, Ghahramani (2016), arXiv:1506.02142; as a bandit in Riquelme, Tucker, Snoek (2018), arXiv:1802.09127.

use crate::greedy::argmax;
use crate::regress::lanes::padded;
use crate::regress::net::{self, Net, Spread, Work, check_finite};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    dropout: f64,
    draws: u32,
    #[serde(flatten)]
    net: net::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            dropout: 0.2,
            draws: 32,
            net: net::Options::default(),
        }
    }
}

const OWN: &[OptionHelp] = &[
    ("dropout", "share of hidden units left out; above 0, at most 0.9"),
    ("draws", "masks behind the probabilities; 1 to 100000"),
];

/// See the module.
#[derive(Clone, Debug)]
pub struct NeuralDropout {
    dropout: f64,
    draws: u32,
    layers: usize,
    net: Net,
}

impl Build for NeuralDropout {
    const NAME: &'static str = "neural-dropout";
    const SUMMARY: &'static str = "Thompson sampling by a network's dropout masks";
    const PAPER: &'static str = "Gal, Ghahramani (2016), arXiv:1506.02142; Riquelme, Tucker, Snoek (2018), \
                                 arXiv:1802.09127";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + net::OPTIONS.len() }>(OWN, net::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let share = c.dropout > 0.0 && c.dropout <= 0.9;
        require(share, Self::NAME, "dropout", "above 0, at most 0.9", c.dropout)?;
        let some = (1..=100_000).contains(&c.draws);
        require(some, Self::NAME, "draws", "1 to 100000", c.draws)?;
        let spread = Spread {
            dropout: c.dropout,
            ..Spread::ONE
        };
        Ok(NeuralDropout {
            dropout: c.dropout,
            draws: c.draws,
            layers: c.net.layers,
            net: Net::new(Self::NAME, shape, &c.net, spread)?,
        })
    }
}

impl Policy for NeuralDropout {
    fn propose(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method> {
        let (n, draws) = (out.probs.len(), self.draws as usize);
        if n == 1 {
            self.net.predict(0, round, &mut Work::default(), out.scores)?;
            out.probs[0] = 1.0;
            return Ok(Method::Exact);
        }
        let units = padded(self.net.width());
        let kept = (1.0 / (1.0 - self.dropout)) as f32;
        let mut stream = key.draws();
        let masks: Vec<f32> = (0..draws * self.layers * units)
            .map(|_| if stream.uniform() < self.dropout { 0.0 } else { kept })
            .collect();
        // `values[t * n + i]`: what the network thinned by mask t expects of candidate i.
        out.scratch.clear();
        out.scratch.resize(draws * n, 0.0);
        let (mlp, values) = (self.net.mlp(0), &mut *out.scratch);
        let mut thinned = vec![0.0; mlp.activations()];
        let mut first = Vec::new();
        let mut done = false;
        let own = self.net.is_shared();
        self.net.evaluate(mlp, round, &mut Work::default(), |i, slot, work| {
            out.scores[i] = f64::from(mlp.output(&work.activations)[self.net.place(slot).1]);
            if done && !own {
                return;
            }
            done = true;
            first.clear();
            first.extend_from_slice(&work.activations[..units]);
            for t in 0..draws {
                thinned[..units].copy_from_slice(&first);
                let mask = |l: usize| &masks[(t * self.layers + l) * units..][..units];
                // What lies below the first mask is the same for all draws.
                mlp.forward_from(1, 0, &work.x, &mut thinned, |l, hidden| {
                    hidden.iter_mut().zip(mask(l)).for_each(|(h, m)| *h *= m);
                });
                let outputs = mlp.output(&thinned);
                match own {
                    true => values[t * n + i] = f64::from(outputs[0]),
                    false => {
                        for (to, &id) in values[t * n..(t + 1) * n].iter_mut().zip(round.candidates.ids) {
                            *to = outputs.get(id.0 as usize).map_or(f64::NAN, |&v| f64::from(v));
                        }
                    }
                }
            }
        })?;
        check_finite(values)?;
        let weight = 1.0 / f64::from(self.draws + 1);
        out.probs.fill(weight / n as f64);
        for values in values.chunks_exact(n) {
            out.probs[argmax(values)] += weight;
        }
        Ok(Method::MonteCarlo { draws: self.draws })
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
