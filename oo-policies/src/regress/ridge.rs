//! Ridge regression, kept up to date row by row.
//!
//! A = λI + Σ xxᵀ and b = Σ r x are the truth; P = A⁻¹ and θ = P b follow by Sherman–Morrison, starting from
//! P = I/λ. Rounding errors in P shrink as information grows (the update contracts them as it contracts the
//! prior), and every 4096 rows P is factorised afresh from A, so that nothing drifts. An update that
//! loses positivity is repaired the same way; if A itself is singular to working precision it is an error.

use super::sums::Sums;
use super::symmetric::{Symmetric, dot, padded};
use crate::state::{Reader, Writer};
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
    lambda: f64,
    /// What is left of lambda in the Gram matrix.
    penalty: f64,
    gram: Symmetric,
    inverse: Symmetric,
    moment: Vec<f64>,
    theta: Vec<f64>,
    gain: Vec<f64>,
    /// A regression that fades factorises often and keeps the memory for it.
    fades: bool,
    work: Vec<f64>,
    fresh: Symmetric,
}

impl Ridge {
    /// No data yet; `lambda` must be positive.
    pub fn new(dim: usize, lambda: f64) -> Self {
        let blank = vec![0.0; padded(dim)];
        Ridge {
            rows: 0,
            lambda,
            penalty: lambda,
            gram: Symmetric::diagonal(dim, lambda),
            inverse: Symmetric::diagonal(dim, 1.0 / lambda),
            moment: blank.clone(),
            theta: blank.clone(),
            gain: blank,
            fades: false,
            work: Vec::new(),
            fresh: Symmetric::diagonal(0, 0.0),
        }
    }

    /// What has this Gram matrix, penalty included, and this moment (padded).
    ///
    /// # Errors
    /// [`Error::Singular`] when the matrix cannot be inverted.
    pub fn from_sums(lambda: f64, gram: Symmetric, moment: &[f64]) -> Result<Self> {
        let mut ridge = Ridge::new(gram.dim(), lambda);
        ridge.gram = gram;
        ridge.moment.copy_from_slice(moment);
        ridge.refresh()?;
        Ok(ridge)
    }

    /// A blank regression with this one's penalty that has learned what `sums` says.
    fn started(&self, mut sums: Sums) -> Result<Ridge> {
        sums.gram.add_diagonal(self.lambda);
        let mut ridge = Ridge::from_sums(self.lambda, sums.gram, &sums.moment)?;
        ridge.rows = sums.rows;
        Ok(ridge)
    }

    /// Features a row.
    pub fn dim(&self) -> usize {
        self.gram.dim()
    }

    /// The ridge penalty.
    pub fn lambda(&self) -> f64 {
        self.lambda
    }

    /// What is left of it in [`gram`](Ridge::gram), where rows fade.
    pub fn penalty(&self) -> f64 {
        self.penalty
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

    /// [`predict`](Ridge::predict) and [`variance`](Ridge::variance) at once.
    #[inline]
    pub fn estimate(&self, x: &[f64]) -> (f64, f64) {
        let (mean, variance) = self.inverse.with_product(&self.theta, x);
        (mean, variance.max(0.0))
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
        self.add(x, reward);
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
        let mut work = std::mem::take(&mut self.work);
        // Into `fresh`, so that what was learned before stays usable when this fails.
        let mut fresh = std::mem::replace(&mut self.fresh, Symmetric::diagonal(0, 0.0));
        if fresh.dim() != self.dim() {
            fresh = Symmetric::diagonal(self.dim(), 0.0);
        }
        let condition = self.gram.inverse_into(&mut fresh, &mut work).unwrap_or(f64::INFINITY);
        let sound = condition < 1e15;
        if sound {
            std::mem::swap(&mut self.inverse, &mut fresh);
        }
        if self.fades {
            (self.work, self.fresh) = (work, fresh);
        }
        if !sound {
            return Err(Error::Singular {
                what: "the Gram matrix",
                condition,
            });
        }
        self.inverse.times(&self.moment, &mut self.theta);
        Ok(())
    }

    /// Counts a row whose consequences wait for [`settle`](Ridge::settle).
    pub fn add(&mut self, x: &[f64], reward: f64) {
        self.gram.rank_one(1.0, x);
        for (m, x) in self.moment.iter_mut().zip(x) {
            *m += reward * x;
        }
        self.rows += 1;
    }

    /// Draws the consequences of all rows that were added.
    ///
    /// # Errors
    /// As [`update`](Ridge::update).
    pub fn settle(&mut self) -> Result<()> {
        self.refresh()
    }

    /// Σ reward · x.
    pub fn moment(&self) -> &[f64] {
        &self.moment
    }

    /// Multiplies all that was learned by `keep`, in (0, 1]. What fades of the penalty is given back when a tenth of
    /// it is gone, since giving it back costs a factorisation.
    ///
    /// # Errors
    /// As [`update`](Ridge::update).
    pub fn fade(&mut self, keep: f64) -> Result<()> {
        if keep >= 1.0 {
            return Ok(());
        }
        self.fades = true;
        self.gram.scale(keep);
        self.moment.iter_mut().for_each(|m| *m *= keep);
        self.penalty *= keep;
        if self.penalty < 0.9 * self.lambda {
            self.gram.add_diagonal(self.lambda - self.penalty);
            self.penalty = self.lambda;
            self.refresh()
        } else {
            self.inverse.scale(1.0 / keep);
            Ok(())
        }
    }

    /// Takes back a row that was learned before.
    ///
    /// # Errors
    /// As [`update`](Ridge::update).
    pub fn remove(&mut self, x: &[f64], reward: f64) -> Result<()> {
        self.gram.rank_one(-1.0, x);
        for (m, x) in self.moment.iter_mut().zip(x) {
            *m -= reward * x;
        }
        self.inverse.times(x, &mut self.gain);
        let left = 1.0 - dot(&self.gain, x);
        // Close to 0 the row was nearly all that was known in its direction, and the quotient is mostly rounding.
        if !(left > 1e-4 && left.is_finite()) {
            return self.refresh();
        }
        let step = (reward - self.predict(x)) / left;
        for (t, g) in self.theta.iter_mut().zip(&self.gain) {
            *t -= step * g;
        }
        self.inverse.rank_one(1.0 / left, &self.gain);
        Ok(())
    }

    /// Saves several regressions of one dimension under names that begin with `prefix`.
    pub fn write_all(all: &[Ridge], prefix: &str, out: &mut Writer) {
        let name = |part: &str| format!("{prefix}.{part}");
        out.u64s(&name("rows"), all.iter().map(|r| r.rows));
        out.f64s(&name("penalty"), all.iter().map(|r| &r.penalty));
        out.f64s(&name("gram"), all.iter().flat_map(|r| r.gram.data().as_flattened()));
        out.f64s(
            &name("inverse"),
            all.iter().flat_map(|r| r.inverse.data().as_flattened()),
        );
        out.f64s(&name("moment"), all.iter().flat_map(|r| &r.moment));
        out.f64s(&name("theta"), all.iter().flat_map(|r| &r.theta));
    }

    /// Reads what [`write_all`](Ridge::write_all) wrote, for regressions like `self`; or bare [`Sums`], to which the
    /// penalty of `self` is added.
    ///
    /// # Errors
    /// Numbers that are missing or left over; bare sums that cannot be inverted.
    pub fn read_all(&self, prefix: &str, from: &mut Reader<'_>) -> Result<Vec<Ridge>> {
        let name = |part: &str| format!("{prefix}.{part}");
        if !from.has(&name("penalty")) {
            let all = Sums::read_all(self.dim(), prefix, from)?;
            return all.into_iter().map(|sums| self.started(sums)).collect();
        }
        let rows = from.u64s(&name("rows"))?;
        let mut all = vec![self.clone(); rows.len()];
        type Part = fn(&mut Ridge) -> &mut [f64];
        let parts: [(&str, Part); 5] = [
            ("penalty", |r| std::slice::from_mut(&mut r.penalty)),
            ("gram", |r| r.gram.data_mut().as_flattened_mut()),
            ("inverse", |r| r.inverse.data_mut().as_flattened_mut()),
            ("moment", |r| &mut r.moment),
            ("theta", |r| &mut r.theta),
        ];
        for (part, of) in parts {
            let values = from.f64s(&name(part))?;
            let expected: usize = all.iter_mut().map(|r| of(r).len()).sum();
            if values.len() != expected {
                return Err(from.refuse(format!(
                    "`{prefix}.{part}` holds {} numbers, expected {expected}",
                    values.len()
                )));
            }
            let mut rest = &values[..];
            for ridge in &mut all {
                let to = of(ridge);
                let (own, others) = rest.split_at(to.len());
                to.copy_from_slice(own);
                rest = others;
            }
        }
        all.iter_mut().zip(rows).for_each(|(ridge, rows)| ridge.rows = rows);
        Ok(all)
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
    fn what_is_removed_was_never_there() {
        let dim = 9;
        let (mut all, mut kept) = (Ridge::new(dim, 0.5), Ridge::new(dim, 0.5));
        let mut draws = Key::root(8).draws();
        let rows: Vec<(Vec<f64>, f64)> = (0..3000)
            .map(|_| {
                let mut x = vec![0.0; padded(dim)];
                x[..dim].fill_with(|| draws.normal());
                (x, draws.normal())
            })
            .collect();
        for (t, (x, r)) in rows.iter().enumerate() {
            all.update(x, *r).unwrap();
            if t >= 200 {
                all.remove(&rows[t - 200].0, rows[t - 200].1).unwrap();
            }
        }
        rows[2800..].iter().for_each(|(x, r)| {
            kept.update(x, *r).unwrap();
        });
        for (a, b) in all.theta.iter().zip(&kept.theta) {
            assert!((a - b).abs() < 1e-9, "{a} {b}");
        }
        let x = &rows[0].0;
        assert!((all.variance(x) - kept.variance(x)).abs() < 1e-9 * kept.variance(x));
    }

    #[test]
    fn what_fades_keeps_the_penalty() {
        let dim = 5;
        let keep = 0.98;
        let mut ridge = Ridge::new(dim, 2.0);
        let mut draws = Key::root(9).draws();
        let mut x = vec![0.0; padded(dim)];
        let mut gram = Symmetric::diagonal(dim, 0.0);
        for _ in 0..2000 {
            x[..dim].fill_with(|| draws.normal());
            ridge.fade(keep).unwrap();
            ridge.update(&x, 1.0).unwrap();
            gram.scale(keep);
            gram.rank_one(1.0, &x);
        }
        assert!((1.8..=2.0).contains(&ridge.penalty), "{}", ridge.penalty);
        gram.add_diagonal(ridge.penalty);
        let fresh = gram.inverse().unwrap().0;
        assert!((fresh.quadratic(&x) - ridge.variance(&x)).abs() < 1e-9);
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
