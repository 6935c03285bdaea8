//! Means per round and paired differences of them, with clusters as the unit of variance.
//!
//! A mean per round is a ratio: the sum of rewards over the number of rounds, both of which vary between clusters.
//! Its variance is linearised (the delta method): a cluster's contribution is (Rᶜ − m·nᶜ) / (N/C), and the variance
//! of the mean of the C contributions has the usual divisor C − 1. Quantiles are Student's t on C − 1 degrees of
//! freedom.

use crate::stats::Quantile;
use oo_core::normal;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The total of one cluster: a person, or a replicate.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cluster {
    /// Sum of the rewards.
    pub sum: f64,
    /// The number of rounds (or their total weight).
    pub count: f64,
}

/// A mean per round with its interval.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// Sum over count of all clusters; NaN when nothing was counted.
    pub value: f64,
    /// Lower end; `None` with fewer than two clusters.
    pub low: Option<f64>,
    /// Upper end, likewise.
    pub high: Option<f64>,
    /// Standard error of `value`, likewise.
    pub std_error: Option<f64>,
    /// Degrees of freedom: clusters less one.
    pub df: f64,
}

/// A difference of two means per round over the same clusters.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Difference {
    /// Mean of `a` less mean of `b`.
    pub diff: f64,
    /// Lower end; `None` with fewer than two clusters.
    pub low: Option<f64>,
    /// Upper end, likewise.
    pub high: Option<f64>,
    /// Standard error of `diff`, likewise.
    pub std_error: Option<f64>,
    /// Degrees of freedom: clusters less one.
    pub df: f64,
    /// Two-sided p of "no difference", likewise.
    pub p: Option<f64>,
}

/// The mean per round and its interval at `level` (0.95, say).
pub fn mean_interval(clusters: &[Cluster], level: f64) -> Estimate {
    let (value, _) = ratio(clusters);
    let spread = Spread::of(&contributions(clusters), Quantile::Student, level);
    Estimate {
        value,
        low: spread.map(|s| value - s.half_width),
        high: spread.map(|s| value + s.half_width),
        std_error: spread.map(|s| s.std_error),
        df: degrees(clusters.len()),
    }
}

/// The difference of the means of `a` and `b`, whose clusters are paired by index, with interval and p.
///
/// What a cluster does to both means alike cancels within its pair; that is why the same world for every policy
/// makes differences sharp. Differences and errors below 1e-12 of the means are rounding and count as zero: then p
/// is 1 without a difference and 0 with one.
///
/// # Panics
/// When the two differ in length.
pub fn difference(a: &[Cluster], b: &[Cluster], level: f64) -> Difference {
    assert_eq!(a.len(), b.len(), "clusters are paired by index");
    let ((mean_a, _), (mean_b, _)) = (ratio(a), ratio(b));
    let residuals: Vec<f64> = contributions(a)
        .iter()
        .zip(contributions(b))
        .map(|(a, b)| a - b)
        .collect();
    Difference::of(mean_a, mean_b, &residuals, Quantile::Student, level)
}

impl Difference {
    /// From two values and what each unit adds to their difference; rounding as [`difference`] has it.
    pub(super) fn of(a: f64, b: f64, residuals: &[f64], quantile: Quantile, level: f64) -> Self {
        let rounding = 1e-12 * (a.abs() + b.abs());
        let diff = a - b;
        let spread = Spread::of(residuals, quantile, level).filter(|_| diff.is_finite());
        let p = spread.map(|s| {
            if s.std_error > rounding {
                2.0 * quantile.above((diff / s.std_error).abs(), residuals.len())
            } else {
                f64::from(u8::from(diff.abs() <= rounding))
            }
        });
        Difference {
            diff,
            low: spread.map(|s| diff - s.half_width),
            high: spread.map(|s| diff + s.half_width),
            std_error: spread.map(|s| s.std_error),
            df: degrees(residuals.len()),
            p,
        }
    }
}

/// Mean per round, and rounds per cluster.
fn ratio(clusters: &[Cluster]) -> (f64, f64) {
    let sum: f64 = clusters.iter().map(|c| c.sum).sum();
    let count: f64 = clusters.iter().map(|c| c.count).sum();
    (sum / count, count / clusters.len() as f64)
}

/// What each cluster adds to the linearised mean; they sum to zero.
pub(super) fn contributions(clusters: &[Cluster]) -> Vec<f64> {
    let (mean, size) = ratio(clusters);
    clusters.iter().map(|c| (c.sum - mean * c.count) / size).collect()
}

fn degrees(clusters: usize) -> f64 {
    clusters.saturating_sub(1) as f64
}

fn student(units: usize) -> StudentsT {
    StudentsT::new(0.0, 1.0, degrees(units)).expect("called with at least two units")
}

impl Quantile {
    /// The x that a standardised mean of so many units stays below with probability `p`.
    pub(super) fn at(self, p: f64, units: usize) -> f64 {
        match self {
            Quantile::Normal => normal::quantile(p),
            Quantile::Student => student(units).inverse_cdf(p),
        }
    }

    /// The probability to exceed `x`.
    pub(super) fn above(self, x: f64, units: usize) -> f64 {
        match self {
            Quantile::Normal => normal::cdf(-x),
            Quantile::Student => student(units).sf(x),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub(super) std_error: f64,
    pub(super) half_width: f64,
}

impl Spread {
    /// Of the mean of the units' contributions, which sum to zero; `None` with fewer than two.
    pub(super) fn of(contributions: &[f64], quantile: Quantile, level: f64) -> Option<Spread> {
        let c = contributions.len();
        if c < 2 {
            return None;
        }
        let squares: f64 = contributions.iter().map(|e| e * e).sum();
        let std_error = libm::sqrt(squares / (c as f64 * degrees(c)));
        Some(Spread {
            std_error,
            half_width: std_error * quantile.at(0.5 + level / 2.0, c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    fn singles(values: &[f64]) -> Vec<Cluster> {
        values.iter().map(|&sum| Cluster { sum, count: 1.0 }).collect()
    }

    #[test]
    fn equal_counts_give_the_ordinary_t_interval() {
        // 1..5: mean 3, variance 2.5, standard error sqrt(0.5), t(0.975, 4) = 2.776445.
        let e = mean_interval(&singles(&[1.0, 2.0, 3.0, 4.0, 5.0]), 0.95);
        assert_eq!((e.value, e.df), (3.0, 4.0));
        assert!((e.std_error.unwrap() - 0.5f64.sqrt()).abs() < 1e-12);
        assert!((e.high.unwrap() - 3.0 - 2.776_445_105 * 0.5f64.sqrt()).abs() < 1e-6);
        assert!((e.low.unwrap() + e.high.unwrap() - 6.0).abs() < 1e-9);
    }

    #[test]
    fn one_cluster_has_no_interval() {
        let e = mean_interval(&singles(&[1.0]), 0.95);
        assert_eq!(
            (e.value, e.low, e.high, e.std_error, e.df),
            (1.0, None, None, None, 0.0)
        );
        assert_eq!(difference(&singles(&[1.0]), &singles(&[2.0]), 0.95).p, None);
        assert!(mean_interval(&[], 0.95).value.is_nan());
    }

    #[test]
    fn pairs_without_variance() {
        let a = singles(&[0.1, 0.7, 0.4]);
        let same = difference(&a, &a, 0.95);
        assert_eq!((same.diff, same.p, same.std_error), (0.0, Some(1.0), Some(0.0)));
        let above = singles(&[1.1, 1.7, 1.4]);
        assert_eq!(difference(&above, &a, 0.95).p, Some(0.0));
    }

    #[test]
    fn paired_p_by_hand() {
        // Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t = 3.4641 on 2 df, p = 0.07418.
        let d = difference(&singles(&[2.0, 4.0, 6.0]), &singles(&[1.0, 2.0, 3.0]), 0.95);
        assert!(
            (d.diff - 2.0).abs() < 1e-12 && (d.p.unwrap() - 0.074_179_9).abs() < 1e-6,
            "{d:?}"
        );
    }

    /// Clusters of 5 to 34 rounds with a cluster effect; the truth is 0.3, and 0.5 is what `shift` adds.
    fn simulated(key: Key, clusters: u64, shift: f64) -> Vec<Cluster> {
        (0..clusters)
            .map(|c| {
                let mut draws = key.fold(c).draws();
                let count = 5.0 + draws.below(30) as f64;
                let effect = 0.4 * draws.normal();
                let noise = libm::sqrt(count) * draws.normal();
                Cluster {
                    sum: count * (0.3 + shift + effect) + noise,
                    count,
                }
            })
            .collect()
    }

    #[test]
    fn intervals_cover() {
        let sets = 2000u64;
        let root = Key::root(5).name("coverage");
        let (mut mean, mut diff) = (0.0, 0.0);
        for set in 0..sets {
            let a = simulated(root.fold(set).name("a"), 40, 0.5);
            let b = simulated(root.fold(set).name("b"), 40, 0.0);
            let e = mean_interval(&b, 0.95);
            mean += f64::from(u8::from(e.low.unwrap() <= 0.3 && 0.3 <= e.high.unwrap()));
            let d = difference(&a, &b, 0.95);
            diff += f64::from(u8::from(d.low.unwrap() <= 0.5 && 0.5 <= d.high.unwrap()));
        }
        // sd of a share at 0.95 is 0.0049, so the band is 4.1 sd wide on each side: 4e-5 false alarms a share.
        for share in [mean / sets as f64, diff / sets as f64] {
            assert!((0.93..=0.97).contains(&share), "{share}");
        }
    }
}
