//! Ridge regression, kept up to date row by row.
//!
//! A = λI + Σ xxᵀ and b = Σ r x are the truth; P = A⁻¹ and θ = P b follow by Sherman–Morrison, starting from
//! P = I/λ. Rounding errors in P shrink as information grows (the update contracts them as it contracts the
//! prior), and every 4096 rows P is factorised afresh from A, so that nothing drifts. An update that
//! loses positivity is repaired the same way; if A itself is singular to working precision it is an error.

use super::symmetric::{Symmetric, dot, padded};
use oo_core::{Error, Result};

/// Rows between two factorisations: at d = 65 less than 2 % of the cost of the updates between.
const REFRESH: u64 = 4096;

/// How a row was learned.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// xᵀPx before the row.
    pub leverage: f64,
    /// P was factorised afresh instead of updated.
    pub refreshed: bool,
}

/// The regression of one arm, or of all arms when the weights are shared.
#[derive(Clone, Debug)]
pub struct Ridge {
    rows: u64,
    gram: Symmetric,
    inverse: Symmetric,
    moment: Vec<f64>,
    theta: Vec<f64>,
    gain: Vec<f64>,
}

impl Ridge {
    /// No data yet; `lambda` must be positive.
    pub fn new(dim: usize, lambda: f64) -> Self {
        let blank = vec![0.0; padded(dim)];
        Ridge {
            rows: 0,
            gram: Symmetric::diagonal(dim, lambda),
            inverse: Symmetric::diagonal(dim, 1.0 / lambda),
            moment: blank.clone(),
            theta: blank.clone(),
            gain: blank,
        }
    }

    /// Features a row.
    pub fn dim(&self) -> usize {
        self.gram.dim()
    }

    /// Rows learned.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The weights, padded with zeros to whole blocks.
    pub fn theta(&self) -> &[f64] {
        &self.theta
    }

    /// A⁻¹.
    pub fn inverse(&self) -> &Symmetric {
        &self.inverse
    }

    /// A.
    pub fn gram(&self) -> &Symmetric {
        &self.gram
    }

    /// θᵀx, for a padded x.
    pub fn predict(&self, x: &[f64]) -> f64 {
        dot(&self.theta, x)
    }

    /// xᵀA⁻¹x, for a padded x; never negative.
    pub fn variance(&self, x: &[f64]) -> f64 {
        self.inverse.quadratic(x).max(0.0)
    }

    /// P x of the last row learned, with P as it was before that row.
    pub fn gain(&self) -> &[f64] {
        &self.gain
    }

    /// Learns one row; `x` is padded.
    ///
    /// # Errors
    /// [`Error::Singular`] when A can no longer be inverted; what was learned before stays usable.
    pub fn update(&mut self, x: &[f64], reward: f64) -> Result<Step> {
        self.gram.rank_one(1.0, x);
        for (m, x) in self.moment.iter_mut().zip(x) {
            *m += reward * x;
        }
        self.rows += 1;
        self.inverse.times(x, &mut self.gain);
        let leverage = dot(&self.gain, x);
        if self.rows.is_multiple_of(REFRESH) || !(leverage >= 0.0 && leverage.is_finite()) {
            self.refresh()?;
            return Ok(Step {
                leverage,
                refreshed: true,
            });
        }
        let scale = 1.0 / (1.0 + leverage);
        let step = (reward - self.predict(x)) * scale;
        for (t, g) in self.theta.iter_mut().zip(&self.gain) {
            *t += step * g;
        }
        self.inverse.rank_one(-scale, &self.gain);
        Ok(Step {
            leverage,
            refreshed: false,
        })
    }

    /// Factorises A afresh.
    fn refresh(&mut self) -> Result<()> {
        match self.gram.inverse() {
            Some((inverse, condition)) if condition < 1e15 => self.inverse = inverse,
            Some((_, condition)) => {
                return Err(Error::Singular {
                    what: "the Gram matrix",
                    condition,
                });
            }
            None => {
                return Err(Error::Singular {
                    what: "the Gram matrix",
                    condition: f64::INFINITY,
                });
            }
        }
        self.inverse.times(&self.moment, &mut self.theta);
        Ok(())
    }

    /// Appends the state to `out`.
    pub fn write(&self, out: &mut crate::state::Writer) {
        out.u64(self.rows);
        for matrix in [&self.gram, &self.inverse] {
            matrix.data().iter().flatten().for_each(|&v| out.f64(v));
        }
        for vector in [&self.moment, &self.theta] {
            vector.iter().for_each(|&v| out.f64(v));
        }
    }

    /// Reads what [`write`](Ridge::write) wrote, for the same dimension.
    pub fn read(&mut self, from: &mut crate::state::Reader<'_>) -> Result<()> {
        self.rows = from.u64()?;
        for matrix in [&mut self.gram, &mut self.inverse] {
            for v in matrix.data_mut().iter_mut().flatten() {
                *v = from.f64()?;
            }
        }
        for vector in [&mut self.moment, &mut self.theta] {
            for v in vector.iter_mut() {
                *v = from.f64()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn a_blank_arm_has_width_one_over_root_lambda() {
        let x = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(Ridge::new(1, 100.0).variance(&x).sqrt(), 0.1);
        assert_eq!(Ridge::new(1, 0.01).variance(&x).sqrt(), 10.0);
    }

    #[test]
    fn stays_exact_over_100_000_updates() {
        for (dim, lambda) in [12, 65].into_iter().flat_map(|d| [0.01, 1.0, 100.0].map(|l| (d, l))) {
            let mut ridge = Ridge::new(dim, lambda);
            let mut draws = Key::root(5).draws();
            let mut x = vec![0.0; padded(dim)];
            // The last 1,696 of the 100,000 rows come after the last refresh.
            for _ in 0..100_000 {
                x[..dim].fill_with(|| draws.normal());
                let reward = x[0] - 0.5 * x[1] + 0.1 * draws.normal();
                ridge.update(&x, reward).unwrap();
            }
            let (fresh, _) = ridge.gram.inverse().unwrap();
            let mut theta = vec![0.0; padded(dim)];
            fresh.times(&ridge.moment, &mut theta);
            for (a, b) in ridge.theta.iter().zip(&theta) {
                assert!((a - b).abs() < 1e-9, "theta {a} {b} at dim {dim}, lambda {lambda}");
            }
            let (a, b) = (ridge.variance(&x).sqrt(), fresh.quadratic(&x).sqrt());
            assert!((a - b).abs() < 1e-9 * b, "width {a} {b} at dim {dim}, lambda {lambda}");
        }
    }

    #[test]
    fn a_singular_matrix_is_an_error_and_never_a_nan() {
        let mut ridge = Ridge::new(2, 1e-12);
        let mut x = [0.0; 8];
        x[0] = 1e9;
        x[1] = 1e9;
        let mut failed = false;
        for _ in 0..5000 {
            failed |= ridge.update(&x, 1.0).is_err();
            assert!(ridge.theta.iter().all(|t| t.is_finite()));
        }
        assert!(failed);
    }
}
