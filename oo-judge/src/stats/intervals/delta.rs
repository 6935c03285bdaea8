//! Normal intervals by the delta method.
//!
//! With B, N and D the means of base, num and den, the value is B + N/D. Row i adds
//! eᵢ = (baseᵢ − B) + (numᵢ − (N/D)·denᵢ)/D to the linearised value; the eᵢ sum to zero, and the variance of the value is
//! that of their mean. With clusters (users, say) the eᵢ of a cluster are summed first, since its rows depend on each
//! other. For IPS this is the textbook interval of a mean; for SNIPS and SNDR it is the linearisation of a ratio, which
//! is exact where the reward is constant: then every eᵢ is 0.
//!
//! Cochran (1977), Sampling Techniques, §6.3 (ratios) and §9A (clusters); Owen (2013), Monte Carlo theory, §9.2.

use crate::stats::paired::{Difference, Estimate, Spread};
use std::collections::BTreeMap;

/// The columns of an off-policy estimate, one entry a row of the log.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rows<'a> {
    /// What is averaged as it is: the reward model's value under the target policy.
    pub base: &'a [f64],
    /// Numerator: weight times reward, or times residual.
    pub num: &'a [f64],
    /// Denominator: 1, or the weight where the estimator normalises itself.
    pub den: &'a [f64],
}

/// Which distribution an interval takes its quantile from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantile {
    /// The normal one: many independent rows.
    Normal,
    /// Student's t on units − 1 degrees of freedom: few units, such as clusters.
    Student,
}

/// The value with its interval at `level`. `cluster` names the cluster of each row; without it a row is its own.
///
/// No interval with fewer than two units, or where the value is not finite (all weights 0 under a ratio).
///
/// # Panics
/// When the columns differ in length.
///
/// ```
/// use oo_judge::stats::{Quantile, Rows, delta};
/// // A reward of 1 on every row: a self-normalised value is 1 for sure.
/// let weights = [0.5, 2.0, 1.2, 0.1];
/// let snips = Rows { base: &[0.0; 4], num: &weights, den: &weights };
/// let e = delta(snips, None, 0.95, Quantile::Normal);
/// assert_eq!((e.value, e.low, e.high), (1.0, Some(1.0), Some(1.0)));
/// ```
pub fn delta(rows: Rows<'_>, cluster: Option<&[u64]>, level: f64, quantile: Quantile) -> Estimate {
    let (value, shares) = linearised(rows);
    let shares = by_cluster(shares, cluster);
    let spread = Spread::of(&shares, quantile, level).filter(|_| value.is_finite());
    Estimate {
        value,
        low: spread.map(|s| value - s.half_width),
        high: spread.map(|s| value + s.half_width),
        std_error: spread.map(|s| s.std_error),
        df: shares.len().saturating_sub(1) as f64,
    }
}

/// The difference of two values on the same log, row paired with row: where two policies weigh a row alike, it tells
/// nothing of their difference, and its noise cancels.
///
/// # Panics
/// When the columns differ in length.
pub fn delta_difference(
    a: Rows<'_>,
    b: Rows<'_>,
    cluster: Option<&[u64]>,
    level: f64,
    quantile: Quantile,
) -> Difference {
    let ((value_a, mut shares), (value_b, shares_b)) = (linearised(a), linearised(b));
    assert_eq!(shares.len(), shares_b.len(), "two values on one log");
    shares.iter_mut().zip(shares_b).for_each(|(a, b)| *a -= b);
    let shares = by_cluster(shares, cluster);
    Difference::of(value_a, value_b, &shares, quantile, level)
}

/// The value, and what each row adds to it.
fn linearised(rows: Rows<'_>) -> (f64, Vec<f64>) {
    let Rows { base, num, den } = rows;
    assert!(
        base.len() == num.len() && num.len() == den.len(),
        "columns of one length: base {}, num {}, den {}",
        base.len(),
        num.len(),
        den.len()
    );
    let n = num.len() as f64;
    let mean = |x: &[f64]| x.iter().sum::<f64>() / n;
    let (mean_base, mean_den) = (mean(base), mean(den));
    let ratio = mean(num) / mean_den;
    let share = |i: usize| base[i] - mean_base + (num[i] - ratio * den[i]) / mean_den;
    (mean_base + ratio, (0..num.len()).map(share).collect())
}

/// Sums over clusters, scaled so that their mean is that of the rows.
fn by_cluster(shares: Vec<f64>, cluster: Option<&[u64]>) -> Vec<f64> {
    let Some(cluster) = cluster else { return shares };
    assert_eq!(shares.len(), cluster.len(), "one cluster a row");
    let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
    for (&id, share) in cluster.iter().zip(&shares) {
        *sums.entry(id).or_default() += share;
    }
    let scale = sums.len() as f64 / shares.len() as f64;
    sums.into_values().map(|s| s * scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONES: [f64; 5] = [1.0; 5];
    const ZEROS: [f64; 5] = [0.0; 5];

    #[test]
    fn a_plain_mean_has_the_textbook_interval() {
        let num = [1.0, 2.0, 3.0, 4.0, 5.0];
        let rows = Rows {
            base: &ZEROS,
            num: &num,
            den: &ONES,
        };
        // Variance 2.5, standard error sqrt(0.5); t(0.975, 4) = 2.776445, z = 1.959964.
        for (quantile, q) in [(Quantile::Student, 2.776_445_105), (Quantile::Normal, 1.959_963_985)] {
            let e = delta(rows, None, 0.95, quantile);
            assert!((e.high.unwrap() - 3.0 - q * 0.5f64.sqrt()).abs() < 1e-6, "{e:?}");
        }
        // Each row its own cluster, in any order, is no cluster at all.
        let own = delta(rows, Some(&[4, 8, 1, 0, 3]), 0.95, Quantile::Normal);
        let none = delta(rows, None, 0.95, Quantile::Normal);
        assert!((own.std_error.unwrap() - none.std_error.unwrap()).abs() < 1e-15);
    }

    #[test]
    fn a_constant_reward_is_certain_under_self_normalisation() {
        let weight = [0.2, 7.0, 0.0, 1.1, 3.3];
        let rows = Rows {
            base: &ZEROS,
            num: &weight,
            den: &weight,
        };
        for cluster in [None, Some(&[1, 1, 2, 2, 3][..])] {
            let e = delta(rows, cluster, 0.95, Quantile::Student);
            assert_eq!((e.value, e.low, e.high), (1.0, Some(1.0), Some(1.0)));
        }
    }

    #[test]
    fn a_policy_does_not_differ_from_itself() {
        let num = [0.3, 0.0, 2.0, 1.0, 0.0];
        let rows = Rows {
            base: &ZEROS,
            num: &num,
            den: &ONES,
        };
        let d = delta_difference(rows, rows, None, 0.95, Quantile::Normal);
        assert_eq!((d.diff, d.low, d.high, d.p), (0.0, Some(0.0), Some(0.0), Some(1.0)));
    }

    #[test]
    fn what_cannot_be_said_is_not_said() {
        let one = Rows {
            base: &[0.0],
            num: &[1.0],
            den: &[1.0],
        };
        assert_eq!(delta(one, None, 0.95, Quantile::Normal).low, None);
        let weightless = Rows {
            base: &ZEROS,
            num: &ZEROS,
            den: &ZEROS,
        };
        assert_eq!(delta(weightless, None, 0.95, Quantile::Normal).low, None);
        let e = delta(one, Some(&[1]), 0.95, Quantile::Student);
        assert_eq!((e.value, e.low), (1.0, None));
    }
}
