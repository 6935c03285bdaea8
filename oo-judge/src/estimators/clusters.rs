//! Sums per cluster: rows of one person are not independent, so variance and resampling go by person.
//!
//! With totals (B, N, D, m) of base, num, den and rows, the estimate is ΣB/Σm + ΣN/ΣD. Its standard error is
//! linearised over clusters: ψ = (B − b̄·m)/Σm + (N − θ·D)/ΣD, variance G/(G − 1)·Σψ² for G clusters.

use super::Terms;
use std::collections::HashMap;

/// Gives clusters consecutive positions, in the order in which a log names them.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    of: HashMap<u64, u32>,
}

impl Positions {
    /// Replaces `out` by the position of each row's cluster.
    ///
    /// # Panics
    /// Beyond 2³² clusters.
    pub fn find(&mut self, clusters: &[u64], out: &mut Vec<u32>) {
        out.clear();
        out.extend(clusters.iter().map(|cluster| {
            let next = u32::try_from(self.of.len()).expect("fewer than 2³² clusters");
            *self.of.entry(*cluster).or_insert(next)
        }));
    }

    /// The number of clusters so far.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

/// One estimator's totals of each cluster: base, num, den, rows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Totals(pub Vec<[f64; 4]>);

impl Totals {
    /// Adds rows, whose clusters have these positions.
    pub fn add(&mut self, terms: &Terms, positions: &[u32]) {
        for (i, &at) in positions.iter().enumerate() {
            let at = at as usize;
            if at >= self.0.len() {
                self.0.resize(at + 1, [0.0; 4]);
            }
            let total = &mut self.0[at];
            total[0] += terms.base[i];
            total[1] += terms.num[i];
            total[2] += terms.den[i];
            total[3] += 1.0;
        }
    }

    fn sum(&self) -> [f64; 4] {
        self.0
            .iter()
            .fold([0.0; 4], |sum, total| std::array::from_fn(|i| sum[i] + total[i]))
    }

    /// The estimate; NaN without rows or without weight.
    pub fn value(&self) -> f64 {
        value_of(&self.sum())
    }

    /// Its standard error; NaN with fewer than two clusters.
    pub fn std_error(&self) -> f64 {
        let [base, num, den, rows] = self.sum();
        let clusters = self.0.len() as f64;
        if clusters < 2.0 {
            return f64::NAN;
        }
        let (mean, theta) = (base / rows, num / den);
        let squares: f64 = self
            .0
            .iter()
            .map(|[b, n, d, m]| {
                let psi = (b - mean * m) / rows + (n - theta * d) / den;
                psi * psi
            })
            .sum();
        (squares * clusters / (clusters - 1.0)).sqrt()
    }
}

/// The estimate of totals of base, num, den, rows.
pub(super) fn value_of([base, num, den, rows]: &[f64; 4]) -> f64 {
    base / rows + num / den
}
