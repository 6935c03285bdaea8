//! Steps down a gradient: Adam with corrected bias (Kingma, Ba 2015), RMSprop (Hinton 2012), or plain.
//!
//! A step costs some ten operations a weight on plain slices. Through a tensor library each of those would be a pass
//! with a buffer of its own: 14 passes for Adam.

use crate::state::{Reader, Writer};
use oo_core::Result;
use serde::{Deserialize, Serialize};

/// The rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Running means of gradient and square, 0.9 and 0.999, corrected for their start at 0.
    #[default]
    Adam,
    /// A running mean of the square, 0.9.
    Rmsprop,
    /// Against the gradient.
    Sgd,
}

/// A rule with its memory.
#[derive(Clone, Debug)]
pub struct Optimiser {
    rule: Rule,
    rate: f32,
    /// Added to the gradient, times the weight: the L2 penalty.
    decay: f32,
    steps: u64,
    first: Vec<f32>,
    second: Vec<f32>,
}

const SMALL: f32 = 1e-8;

impl Optimiser {
    /// Before the first step, for `len` weights.
    pub fn new(rule: Rule, rate: f64, decay: f64, len: usize) -> Self {
        let memory = |used: bool| vec![0.0; if used { len } else { 0 }];
        Optimiser {
            rule,
            rate: rate as f32,
            decay: decay as f32,
            steps: 0,
            first: memory(rule == Rule::Adam),
            second: memory(rule != Rule::Sgd),
        }
    }

    /// The rate, after the penalty has pulled the weights, where a step is nothing but minus the rate times the
    /// gradient: then a gradient of mostly zeros need not be written down.
    pub fn plain(&self, weights: &mut [f32]) -> Option<f32> {
        if self.rule != Rule::Sgd {
            return None;
        }
        if self.decay > 0.0 {
            let kept = 1.0 - self.rate * self.decay;
            weights.iter_mut().for_each(|w| *w *= kept);
        }
        Some(self.rate)
    }

    /// Moves the weights.
    pub fn step(&mut self, weights: &mut [f32], gradient: &[f32]) {
        self.steps += 1;
        let (rate, decay) = (self.rate, self.decay);
        match self.rule {
            Rule::Sgd => {
                for (w, g) in weights.iter_mut().zip(gradient) {
                    *w -= rate * (g + decay * *w);
                }
            }
            Rule::Rmsprop => {
                for ((w, g), v) in weights.iter_mut().zip(gradient).zip(&mut self.second) {
                    let g = g + decay * *w;
                    *v += 0.1 * (g * g - *v);
                    *w -= rate * g / (v.sqrt() + SMALL);
                }
            }
            Rule::Adam => {
                let left = |kept: f64| (1.0 - libm::pow(kept, self.steps as f64)) as f32;
                let (rate, root) = (rate / left(0.9), 1.0 / left(0.999).sqrt());
                let memory = self.first.iter_mut().zip(&mut self.second);
                for ((w, g), (m, v)) in weights.iter_mut().zip(gradient).zip(memory) {
                    let g = g + decay * *w;
                    *m += 0.1 * (g - *m);
                    *v += 0.001 * (g * g - *v);
                    *w -= rate * *m / (v.sqrt() * root + SMALL);
                }
            }
        }
    }

    /// Adds the memory to a saved state, under names that begin with `prefix`.
    pub fn write(&self, prefix: &str, out: &mut Writer) {
        out.u64s(&format!("{prefix}.steps"), [self.steps]);
        out.f32s(&format!("{prefix}.first"), &self.first);
        out.f32s(&format!("{prefix}.second"), &self.second);
    }

    /// Reads what [`write`](Optimiser::write) wrote.
    ///
    /// # Errors
    /// Vectors of another length.
    pub fn read(&self, prefix: &str, from: &mut Reader<'_>) -> Result<Self> {
        let steps = from.count(&format!("{prefix}.steps"))?;
        let first = from.f32s(&format!("{prefix}.first"))?;
        let second = from.f32s(&format!("{prefix}.second"))?;
        if first.len() != self.first.len() || second.len() != self.second.len() {
            return Err(from.refuse("its optimiser is of another size"));
        }
        Ok(Optimiser {
            steps,
            first,
            second,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_of_adam_has_the_length_of_its_rate() {
        let mut optimiser = Optimiser::new(Rule::Adam, 0.01, 0.0, 2);
        let mut weights = [1.0, -1.0];
        optimiser.step(&mut weights, &[100.0, -0.001]);
        assert!(
            (weights[0] - 0.99).abs() < 1e-6 && (weights[1] + 0.99).abs() < 1e-5,
            "{weights:?}"
        );
    }

    #[test]
    fn every_rule_finds_the_bottom_of_a_bowl() {
        for (rule, rate) in [(Rule::Adam, 0.05), (Rule::Rmsprop, 0.01), (Rule::Sgd, 0.1)] {
            let mut optimiser = Optimiser::new(rule, rate, 0.0, 1);
            let mut w = [5.0f32];
            for _ in 0..2000 {
                let gradient = [w[0] - 2.0];
                optimiser.step(&mut w, &gradient);
            }
            assert!((w[0] - 2.0).abs() < 0.02, "{rule:?} {w:?}");
        }
    }
}
