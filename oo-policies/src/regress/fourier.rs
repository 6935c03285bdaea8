//! Random Fourier features: a linear model on them is, in the limit, a kernel model.
//!
//! φⱼ(x) = √(2/D) · cos(ωⱼᵀx + bⱼ) with ωⱼ ~ N(0, I/ℓ²) and bⱼ uniform on a circle; then E φ(x)ᵀφ(y) =
//! exp(−‖x − y‖² / 2ℓ²), the Gaussian kernel of width ℓ. The width is given in units of √d, since two rows of d
//! features of unit variance are about √(2d) apart. The row itself comes first, so that what is linear stays exact.
//!
//! Rahimi, Recht (2007), Random Features for Large-Scale Kernel Machines.

use oo_core::Key;
use std::f64::consts::TAU;

/// A fixed map from `inputs` features to `inputs + features` of them.
#[derive(Clone, Debug)]
pub struct Fourier {
    inputs: usize,
    /// D × inputs, row-major.
    frequencies: Vec<f32>,
    phases: Vec<f32>,
}

impl Fourier {
    /// Drawn from a fixed key: the same sizes give the same map everywhere.
    pub fn new(inputs: usize, features: usize, width: f64) -> Self {
        let mut draws = Key::root(0).name("fourier").fold(inputs as u64).draws();
        let scale = 1.0 / (width * (inputs as f64).sqrt());
        Fourier {
            inputs,
            frequencies: (0..features * inputs)
                .map(|_| (scale * draws.normal()) as f32)
                .collect(),
            phases: (0..features).map(|_| (TAU * draws.uniform()) as f32).collect(),
        }
    }

    /// Numbers of a mapped row.
    pub fn dim(&self) -> usize {
        self.inputs + self.phases.len()
    }

    /// Fills `x[inputs..dim]` from `x[..inputs]`; what lies behind stays.
    pub fn extend(&self, x: &mut [f64]) {
        let (row, out) = x.split_at_mut(self.inputs);
        let scale = (2.0 / self.phases.len() as f64).sqrt();
        for ((o, w), b) in out
            .iter_mut()
            .zip(self.frequencies.chunks_exact(self.inputs))
            .zip(&self.phases)
        {
            let mut angle = f64::from(*b);
            for (x, w) in row.iter().zip(w) {
                angle += x * f64::from(*w);
            }
            *o = scale * libm::cos(angle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_near_the_kernel() {
        let (d, width) = (4, 0.8);
        let map = Fourier::new(d, 4000, width);
        let mut draws = Key::root(4).draws();
        let mut row = || {
            let mut x = vec![0.0; map.dim()];
            x[..d].fill_with(|| draws.normal());
            map.extend(&mut x);
            x
        };
        for _ in 0..20 {
            let (x, y) = (row(), row());
            let square: f64 = x[..d].iter().zip(&y[..d]).map(|(a, b)| (a - b) * (a - b)).sum();
            let kernel = libm::exp(-square / (2.0 * width * width * d as f64));
            let product: f64 = x[d..].iter().zip(&y[d..]).map(|(a, b)| a * b).sum();
            // The sd of the product is at most 1/√4000 = 0.0158; five of them: a false alarm once in 1e5 seeds.
            assert!((product - kernel).abs() < 0.08, "{product} {kernel}");
        }
    }
}
