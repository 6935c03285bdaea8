//! Bootstrap intervals: percentile, and BCa for differences of paired clusters.
//!
//! Clusters are drawn with replacement, all their rows with them, and the statistic is computed anew: its whole formula,
//! denominators included. The percentile interval takes the quantiles of what came out. BCa moves the two quantiles by the
//! bias z₀ (how many of the resamples lie below the value itself) and the acceleration a (the skewness of the values
//! without one cluster each), which makes it second-order accurate.
//!
//! A bootstrap world varies less than the real one, by (n − 1)/n, and knows its spread: with few clusters the quantiles of
//! either lie too far in. For differences of clusters the level is therefore widened to where Student's t would put it.
//!
//! Efron (1987), Better bootstrap confidence intervals. J. Am. Stat. Assoc. 82. Hesterberg (2015), What teachers should
//! know about the bootstrap, §4.2 (expanded percentiles). arXiv:1411.5279

use super::{Interval, Quantile};
use crate::stats::paired::Cluster;
use oo_core::{Key, normal};

/// The statistic of `resamples` samples of `n` units with replacement. It is given how often each unit was drawn.
///
/// Resample i depends on `key` and i alone.
pub fn resample(n: usize, resamples: u64, key: Key, mut statistic: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let mut times = vec![0.0; n];
    let mut one = |i: u64| {
        times.fill(0.0);
        let mut draws = key.fold(i).draws();
        for _ in 0..n {
            times[draws.below(n)] += 1.0;
        }
        statistic(&times)
    };
    (0..resamples).map(&mut one).collect()
}

/// The percentile interval at `level` from resampled values, between order statistics by straight lines.
///
/// Values that are not finite (a sample without weight) are left out; `None` when fewer than two are left.
pub fn percentile(values: &[f64], level: f64) -> Option<Interval> {
    let sorted = sorted(values)?;
    let tail = (1.0 - level) / 2.0;
    Some(Interval::new(at(&sorted, tail), at(&sorted, 1.0 - tail)))
}

/// The BCa interval at `level` of the statistic `value`, from its resampled `values` and from `without`, its values on
/// all units but one each.
///
/// `None` when fewer than two values are finite, or when `value` or one of `without` is not.
pub fn bca(value: f64, values: &[f64], without: &[f64], level: f64) -> Option<Interval> {
    let sorted = sorted(values)?;
    if !value.is_finite() || without.is_empty() || !without.iter().all(|x| x.is_finite()) {
        return None;
    }
    let n = sorted.len() as f64;
    // Half of the ties lie below. Never all or nothing: the true share is not 0 or 1.
    let below = sorted.partition_point(|x| *x < value) as f64;
    let ties = sorted.partition_point(|x| *x <= value) as f64 - below;
    let bias = normal::quantile(((below + 0.5 * ties) / n).clamp(0.5 / n, 1.0 - 0.5 / n));
    let mean = without.iter().sum::<f64>() / without.len() as f64;
    let power = |k: i32| without.iter().map(|x| (mean - x).powi(k)).sum::<f64>();
    let (squares, cubes) = (power(2), power(3));
    let acceleration = if squares > 0.0 {
        cubes / (6.0 * squares * libm::sqrt(squares))
    } else {
        0.0
    };
    let moved = |tail: f64| {
        let z = bias + normal::quantile(tail);
        normal::cdf(bias + z / (1.0 - acceleration * z))
    };
    let tail = (1.0 - level) / 2.0;
    let (low, high) = (moved(tail), moved(1.0 - tail));
    (low <= high).then(|| Interval::new(at(&sorted, low), at(&sorted, high)))
}

/// The BCa interval at `level` of the difference of the means per round of `a` and `b`, whose clusters are paired by
/// index.
///
/// `None` with fewer than three clusters, or where a mean does not exist.
///
/// # Panics
/// When the two differ in length.
pub fn bootstrap_difference(a: &[Cluster], b: &[Cluster], level: f64, resamples: u64, key: Key) -> Option<Interval> {
    assert_eq!(a.len(), b.len(), "clusters are paired by index");
    if a.len() < 3 {
        return None;
    }
    let mean = |x: &[Cluster], times: &[f64]| {
        let add = |(sum, count): (f64, f64), (c, t): (&Cluster, &f64)| (sum + t * c.sum, count + t * c.count);
        let (sum, count) = x.iter().zip(times).fold((0.0, 0.0), add);
        sum / count
    };
    let statistic = |times: &[f64]| mean(a, times) - mean(b, times);
    let mut times = vec![1.0; a.len()];
    let value = statistic(&times);
    let without: Vec<f64> = (0..a.len())
        .map(|i| {
            times[i] = 0.0;
            let value = statistic(&times);
            times[i] = 1.0;
            value
        })
        .collect();
    let values = resample(a.len(), resamples, key, statistic);
    bca(value, &values, &without, widened(level, a.len()))
}

/// The level whose normal quantile is Student's at `level` times √(n/(n − 1)).
fn widened(level: f64, units: usize) -> f64 {
    let n = units as f64;
    let z = libm::sqrt(n / (n - 1.0)) * Quantile::Student.at(0.5 + level / 2.0, units);
    1.0 - 2.0 * normal::cdf(-z)
}

fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    (sorted.len() >= 2).then_some(sorted)
}

fn at(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, part) = (place as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + part * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_hand() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let i = percentile(&values, 0.9).unwrap();
        assert!((i.low - 5.0).abs() < 1e-12 && (i.high - 95.0).abs() < 1e-12, "{i:?}");
        assert_eq!(percentile(&[1.0, f64::NAN], 0.9), None);
    }

    #[test]
    fn bca_without_bias_and_skew_is_the_percentile_interval() {
        let values: Vec<f64> = (0..=1000).map(|i| f64::from(i - 500)).collect();
        let i = bca(0.0, &values, &[-1.0, 0.0, 1.0], 0.9).unwrap();
        assert!((i.low + 450.0).abs() < 1e-9 && (i.high - 450.0).abs() < 1e-9, "{i:?}");
    }

    #[test]
    fn bca_moves_by_the_formula() {
        // Half a tie: below 600.5 of 1001, z0 = 0.25463; no skew, so the tails are Φ(2·z0 ± 1.644854).
        let values: Vec<f64> = (0..=1000).map(|i| f64::from(i - 500)).collect();
        let i = bca(100.0, &values, &[1.0, 1.0], 0.9).unwrap();
        let z0 = normal::quantile(600.5 / 1001.0);
        for (end, z) in [(i.low, -1.644_853_627), (i.high, 1.644_853_627)] {
            assert!(
                (end - (1000.0 * normal::cdf(2.0 * z0 + z) - 500.0)).abs() < 1e-5,
                "{i:?}"
            );
        }
    }

    #[test]
    fn few_units_widen_the_level() {
        // t(0.975, 9) = 2.262157, times √(10/9) 2.384521: Φ of it is 0.991449.
        assert!((widened(0.95, 10) - 0.982_898).abs() < 1e-5, "{}", widened(0.95, 10));
        assert!((widened(0.95, 1_000_000) - 0.95).abs() < 1e-5);
    }

    #[test]
    fn every_unit_is_drawn_as_often_as_another() {
        // 10,000 resamples of 5: a unit is drawn 10,000 times, sd 89; 5 sd: 3e-6 false alarms over the five.
        let mut totals = [0.0; 5];
        let sums = resample(5, 10_000, Key::root(3).name("resample"), |times| {
            totals.iter_mut().zip(times).for_each(|(t, n)| *t += n);
            times.iter().sum()
        });
        assert!(sums.iter().all(|&s| s == 5.0));
        assert!(totals.iter().all(|t| (t - 10_000.0f64).abs() < 450.0), "{totals:?}");
    }

    #[test]
    fn too_few_clusters_have_no_interval() {
        let two = [Cluster { sum: 1.0, count: 2.0 }; 2];
        assert_eq!(bootstrap_difference(&two, &two, 0.95, 100, Key::root(1)), None);
        let same = [Cluster { sum: 1.0, count: 2.0 }; 4];
        assert_eq!(
            bootstrap_difference(&same, &same, 0.95, 100, Key::root(1)),
            Some(Interval::new(0.0, 0.0))
        );
    }
}
