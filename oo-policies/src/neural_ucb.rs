//! NeuralUCB: the highest optimistic estimate of a network, its width from the network's gradient.
//!
//! Picks argmax of f(x) + `nu` · √(λ gᵀZ⁻¹g), where g is the derivative of f(x) by every weight and Z = λI + Σ ggᵀ over
//! the rows chosen. Z is kept as its diagonal, as in the authors' code (see [`novelty`](crate::regress::novelty)). The
//! choice is deterministic, so its propensity is 1. Where candidates have no features, a row is the context in the
//! action's block (the paper's encoding, dimension d·K; model=disjoint gives an output an action instead). A round
//! costs three forward passes a candidate, an update as many and a division a weight, and training.
//!
//! Zhou, Li, Gu (2020), arXiv:1911.04462. Departs from it, as the authors' code does: a diagonal Z, no factor for the
//! number of units, a penalty toward 0 (`decay`) instead of toward the first weights. The gradient that enters Z is
//! taken before the row is trained on. Ties go to the lowest index.

use crate::greedy::argmax;
use crate::regress::net::{self, Model, Net, Spread, Work, check_finite};
use crate::regress::novelty::{Novelty, Squares};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// The options of both policies on gradients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    nu: f64,
    lambda: f64,
    #[serde(flatten)]
    net: net::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            nu: 0.01,
            lambda: 0.01,
            net: net::Options {
                layers: 1,
                ..net::Options::default()
            },
        }
    }
}

const OWN: &[OptionHelp] = &[
    ("nu", "exploration width; at least 0"),
    ("lambda", "diagonal of Z before the first row; positive"),
];

/// The table of both policies' options.
pub const OPTIONS: &[OptionHelp] = &join::<{ OWN.len() + net::OPTIONS.len() }>(OWN, net::OPTIONS);

/// A network with the diagonal of its gradients.
#[derive(Clone, Debug)]
pub struct Gradients {
    name: &'static str,
    nu: f64,
    lambda: f64,
    net: Net,
    novelty: Novelty,
}

impl Gradients {
    /// For the policy `name`.
    ///
    /// # Errors
    /// An option out of range; what [`Net::new`] refuses.
    pub fn build(name: &'static str, c: Config, shape: &Shape) -> Result<Self> {
        require(
            c.nu >= 0.0 && c.nu.is_finite(),
            name,
            "nu",
            "a number of at least 0",
            c.nu,
        )?;
        let positive = c.lambda > 0.0 && c.lambda.is_finite();
        require(positive, name, "lambda", "a positive number", c.lambda)?;
        let spread = Spread {
            without_features: Model::Blocks,
            ..Spread::ONE
        };
        let net = Net::new(name, shape, &c.net, spread)?;
        Ok(Gradients {
            name,
            nu: c.nu,
            lambda: c.lambda,
            novelty: Novelty::new(c.lambda, net.mlp(0).weights().len()),
            net,
        })
    }

    /// Estimate and width of every candidate.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn evaluate(&self, round: &Round<'_>, means: &mut [f64], widths: &mut [f64]) -> Result<()> {
        let mlp = self.net.mlp(0);
        let mut squares = Squares::default();
        let mut seed = vec![0.0; mlp.outputs()];
        self.net.evaluate(mlp, round, &mut Work::default(), |i, slot, work| {
            let (block, output) = self.net.place(slot);
            means[i] = f64::from(mlp.output(&work.activations)[output]);
            seed.fill(0.0);
            seed[output] = 1.0;
            mlp.deltas(&work.activations, &seed, &mut work.deltas);
            let new = self
                .novelty
                .of(mlp, block, &work.x, &work.activations, &work.deltas, &mut squares);
            widths[i] = self.nu * (self.lambda * new).sqrt();
        })?;
        check_finite(means)?;
        check_finite(widths)
    }

    /// Learns the rows of a batch.
    ///
    /// # Errors
    /// What the network refuses.
    pub fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        let mut work = Work::default();
        for (row, reward) in batch.iter() {
            let slot = self.net.push(&row.round, row.chosen, reward, &mut work)?;
            let mlp = self.net.mlp(0);
            work.activations.resize(mlp.activations(), 0.0);
            work.deltas.resize(mlp.activations(), 0.0);
            let (block, output) = self.net.place(slot);
            mlp.forward(block, &work.x, &mut work.activations);
            let mut seed = vec![0.0; mlp.outputs()];
            seed[output] = 1.0;
            mlp.deltas(&work.activations, &seed, &mut work.deltas);
            self.novelty.learn(mlp, block, &work.x, &work.activations, &work.deltas);
            self.net.train()?;
        }
        Ok(())
    }

    /// The saved state.
    pub fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(self.name, self.net.layout());
        self.net.write(&mut w);
        self.novelty.write(&mut w);
        w.finish()
    }

    /// Replaces what was learned.
    ///
    /// # Errors
    /// A foreign or damaged state.
    pub fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(self.name, self.net.layout(), bytes)?;
        let net = self.net.read(&mut r)?;
        let novelty = self.novelty.read(&mut r)?;
        r.finish()?;
        (self.net, self.novelty) = (net, novelty);
        Ok(())
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct NeuralUcb(Gradients);

impl Build for NeuralUcb {
    const NAME: &'static str = "neural-ucb";
    const SUMMARY: &'static str = "Highest upper confidence bound of a neural network, by its gradient";
    const PAPER: &'static str = "Zhou, Li, Gu (2020), arXiv:1911.04462";
    const OPTIONS: &'static [OptionHelp] = OPTIONS;
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        Gradients::build(Self::NAME, c, shape).map(NeuralUcb)
    }
}

impl Policy for NeuralUcb {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        self.0.evaluate(round, out.scores, out.probs)?;
        for (score, width) in out.scores.iter_mut().zip(out.probs.iter_mut()) {
            *score += std::mem::take(width);
        }
        out.probs[argmax(out.scores)] = 1.0;
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        self.0.update(batch)
    }

    fn save(&self) -> Vec<u8> {
        self.0.save()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.load(bytes)
    }
}
