//! How new a row is to a network, by the gradient of what it predicts: gᵀZ⁻¹g with a diagonal Z = λI + Σ ggᵀ.
//!
//! g is the derivative of the prediction by every weight. In a layer it is the outer product of inputs a and
//! derivatives δ, so the diagonal form is Σ aᵢ² Σ δⱼ² / zᵢⱼ: the price of a forward pass, and g itself is never written
//! down. Learning a row costs an addition and a division a weight.

use super::lanes;
use super::mlp::Mlp;
use crate::state::{Reader, Writer};
use oo_core::Result;

/// The diagonal, a number a weight.
#[derive(Clone, Debug)]
pub struct Novelty {
    diagonal: Vec<f64>,
    inverse: Vec<f32>,
}

/// Working memory.
#[derive(Clone, Debug, Default)]
pub struct Squares {
    deltas: Vec<f32>,
    sums: Vec<f32>,
}

impl Novelty {
    /// λ everywhere.
    pub fn new(lambda: f64, weights: usize) -> Self {
        Novelty {
            diagonal: vec![lambda; weights],
            inverse: vec![(1.0 / lambda) as f32; weights],
        }
    }

    /// Σ g²/z for a row whose activations and deltas are known.
    pub fn of(
        &self,
        mlp: &Mlp,
        block: usize,
        x: &[f32],
        activations: &[f32],
        deltas: &[f32],
        work: &mut Squares,
    ) -> f64 {
        let mut total = 0.0;
        mlp.gradients(block, x, activations, deltas, |matrix, bias, inputs, deltas| {
            let Squares { deltas: d, sums } = work;
            d.clear();
            d.extend(deltas.iter().map(|v| v * v));
            sums.clear();
            sums.resize(inputs.len(), 0.0);
            lanes::dots(&self.inverse[matrix], d, sums);
            let layer: f64 = inputs
                .iter()
                .zip(&*sums)
                .map(|(a, s)| f64::from(a * a) * f64::from(*s))
                .sum();
            let biases = d.iter().zip(&self.inverse[bias]);
            total += layer + biases.map(|(d, i)| f64::from(d * i)).sum::<f64>();
        });
        total
    }

    /// Adds g² to the diagonal.
    pub fn learn(&mut self, mlp: &Mlp, block: usize, x: &[f32], activations: &[f32], deltas: &[f32]) {
        mlp.gradients(block, x, activations, deltas, |matrix, bias, inputs, deltas| {
            let mut add = |at: std::ops::Range<usize>, scale: f32| {
                let diagonal = self.diagonal[at.clone()].iter_mut().zip(&mut self.inverse[at]);
                for ((z, i), d) in diagonal.zip(deltas) {
                    let g = f64::from(scale) * f64::from(*d);
                    *z += g * g;
                    *i = (1.0 / *z) as f32;
                }
            };
            for (row, &a) in inputs.iter().enumerate() {
                if a != 0.0 {
                    let from = matrix.start + row * deltas.len();
                    add(from..from + deltas.len(), a);
                }
            }
            add(bias, 1.0);
        });
    }

    /// Adds the diagonal to a saved state.
    pub fn write(&self, out: &mut Writer) {
        out.f64s("diagonal", &self.diagonal);
    }

    /// Reads what [`write`](Novelty::write) wrote.
    ///
    /// # Errors
    /// Another length.
    pub fn read(&self, from: &mut Reader<'_>) -> Result<Self> {
        let mut diagonal = vec![0.0; self.diagonal.len()];
        from.fill("diagonal", &mut diagonal)?;
        Ok(Novelty {
            inverse: diagonal.iter().map(|z| (1.0 / z) as f32).collect(),
            diagonal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn agrees_with_the_gradient_written_down() {
        let mlp = Mlp::new(5, 3, &[20, 7], 1, Key::root(3));
        let mut novelty = Novelty::new(0.5, mlp.weights().len());
        let mut diagonal = vec![0.5f64; mlp.weights().len()];
        let mut draws = Key::root(4).draws();
        let mut activations = vec![0.0; mlp.activations()];
        let mut deltas = activations.clone();
        for t in 0..20 {
            let x: Vec<f32> = (0..5).map(|_| draws.normal() as f32).collect();
            let block = t % 3;
            mlp.forward(block, &x, &mut activations);
            mlp.deltas(&activations, &[1.0], &mut deltas);
            let mut g = vec![0.0; mlp.weights().len()];
            mlp.add_gradient(1.0, block, &x, &activations, &deltas, &mut g);
            let direct: f64 = g
                .iter()
                .zip(&diagonal)
                .map(|(g, z)| f64::from(*g) * f64::from(*g) / z)
                .sum();
            let found = novelty.of(&mlp, block, &x, &activations, &deltas, &mut Squares::default());
            assert!((direct - found).abs() < 1e-4 * direct, "{direct} {found}");
            novelty.learn(&mlp, block, &x, &activations, &deltas);
            diagonal
                .iter_mut()
                .zip(&g)
                .for_each(|(z, g)| *z += f64::from(*g) * f64::from(*g));
        }
    }
}
