//! What an arm of a hybrid model keeps besides its own regression: how its weights move with the common ones.
//!
//! The model is r = zᵀβ + xᵀθₐ + noise, with β common to all arms. Given β, the posterior mean of θₐ is h − Gβ, where
//! h = P Σ r x is the arm's own ridge regression, P its inverse Gram matrix and G = P Σ x zᵀ. So, with w = z − Gᵀx,
//!
//! - the estimate is wᵀβ̂ + xᵀh, its variance wᵀA₀⁻¹w + xᵀPx;
//! - a new row tells β exactly what a row w with the response r − xᵀh and the noise 1 + xᵀPx tells it.
//!
//! That is Algorithm 2 of Li, Chu, Langford, Schapire (2010), arXiv:1003.0146, without its matrix products: a round
//! costs k·d + k²/2 + d²/2 an arm, an update 2·k·d + 3·k²/2 + 3·d²/2, for k common and d own features.

use super::ridge::{Ridge, Step};
use super::symmetric::{dot, padded};

/// G and the sums behind it, `common` columns of the arm's padded dimension.
#[derive(Clone, Debug)]
pub struct Cross {
    own: usize,
    moments: Vec<f64>,
    gains: Vec<f64>,
}

impl Cross {
    /// No data yet: G = 0.
    pub fn new(own: usize, common: usize) -> Self {
        let own = padded(own);
        Cross {
            own,
            moments: vec![0.0; own * common],
            gains: vec![0.0; own * common],
        }
    }

    /// w = z − Gᵀx. `x` is padded; `w` holds z on entry and may be longer than z.
    pub fn reduce(&self, x: &[f64], w: &mut [f64]) {
        for (w, g) in w.iter_mut().zip(self.gains.chunks_exact(self.own)) {
            *w -= dot(g, x);
        }
    }

    /// Follows the arm's own regression, which has just learned the row; `w` is what [`reduce`](Cross::reduce) gave
    /// before it did.
    pub fn follow(&mut self, ridge: &Ridge, step: Step, x: &[f64], z: &[f64], w: &[f64]) {
        for (m, z) in self.moments.chunks_exact_mut(self.own).zip(z) {
            m.iter_mut().zip(x).for_each(|(m, x)| *m += z * x);
        }
        if step.refreshed {
            for (g, m) in self
                .gains
                .chunks_exact_mut(self.own)
                .zip(self.moments.chunks_exact(self.own))
            {
                ridge.inverse().times(m, g);
            }
            return;
        }
        let scale = 1.0 / (1.0 + step.leverage);
        for (g, w) in self.gains.chunks_exact_mut(self.own).zip(w) {
            g.iter_mut().zip(ridge.gain()).for_each(|(g, p)| *g += scale * w * p);
        }
    }

    /// The sums and G, for saving.
    pub fn parts(&self) -> [&[f64]; 2] {
        [&self.moments, &self.gains]
    }

    /// The same, to be filled on load.
    pub fn parts_mut(&mut self) -> [&mut [f64]; 2] {
        [&mut self.moments, &mut self.gains]
    }
}
