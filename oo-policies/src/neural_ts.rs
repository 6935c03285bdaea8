//! NeuralTS: Thompson sampling around a network's estimate, its width from the network's gradient.
//!
//! A candidate's sampled reward is N(f(x), `nu`² λ gᵀZ⁻¹g), independent of the others', with g, Z and the encoding of
//! [`neural_ucb`]. The paper draws one sample a candidate and takes the largest; here a candidate is
//! chosen with the probability that its sample would be the largest, by quadrature
//! ([`best_arm`](crate::best_arm)). Costs a round what NeuralUCB costs, and the quadrature.
//!
//! Zhang, Zhou, Li, Gu (2021), arXiv:2010.00827; the departures of [`neural_ucb`] apply.

use crate::best_arm::{Arms, Normal, probabilities};
use crate::neural_ucb::{self, Gradients};
use oo_core::registry::OptionHelp;
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape};

/// See the module.
#[derive(Clone, Debug)]
pub struct NeuralTs(Gradients);

impl Build for NeuralTs {
    const NAME: &'static str = "neural-ts";
    const SUMMARY: &'static str = "Thompson sampling around a neural network, its width by the gradient";
    const PAPER: &'static str = "Zhang, Zhou, Li, Gu (2021), arXiv:2010.00827";
    const OPTIONS: &'static [OptionHelp] = neural_ucb::OPTIONS;
    type Config = neural_ucb::Config;
    fn build(c: Self::Config, shape: &Shape) -> Result<Self> {
        Gradients::build(Self::NAME, c, shape).map(NeuralTs)
    }
}

impl Policy for NeuralTs {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        // The standard deviations wait in `probs` until they are replaced.
        self.0.evaluate(round, out.scores, out.probs)?;
        let mut arms = Arms::default();
        for (&mean, &sd) in out.scores.iter().zip(out.probs.iter()) {
            arms.push(Normal { mean, sd });
        }
        probabilities(arms.as_slice(), out.probs, out.scratch);
        Ok(Method::Quadrature)
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
