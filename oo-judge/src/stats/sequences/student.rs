//! Differences of paired clusters at all times: an anytime-valid t-test.
//!
//! With t = diff/se over n pairs, ρ = c²/(n + c²) and x = t²/(n − 1), the ratio of the likelihood of t under effect sizes
//! drawn from N(0, 1/c²) to that under no effect is
//!
//! E = √ρ · ((1 + x)/(1 + ρ·x))^(n/2)
//!
//! whatever the variance. Under no difference it is a martingale, so it ever reaches 1/α with probability at most α, and 1/E
//! is a p value at every n. Turned round it gives an interval at every n, diff ± se·√((n − 1)·(K − 1)/(1 − K·ρ)) with
//! K = (α²·ρ)^(−1/n), unbounded while K·ρ ≥ 1 (up to four pairs at 95 %). The intervals of all n are intersected.
//!
//! As with Student's interval, differences are taken as normal; a mean over many rounds nearly is. c = 1: an effect of one
//! standard deviation is what it is best at.
//!
//! Lai (1976), On confidence sequences. Gönen, Johnson, Lu, Westfall (2005), The Bayesian two-sample t test. Wang, Ramdas
//! (2025), Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance. arXiv:2310.03722

use crate::stats::paired::{Cluster, contributions};
use serde::{Deserialize, Serialize};

/// c², the number of pairs that the prior on effect sizes counts for.
const PRIOR_PAIRS: f64 = 1.0;

/// A difference of two means per round, watched from the second pair of clusters to the last.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct AnytimeDifference {
    /// Mean of `a` less mean of `b`, over all pairs.
    pub diff: f64,
    /// Lower end of the intersected intervals; −∞ while there are too few pairs.
    pub low: f64,
    /// Upper end, likewise.
    pub high: f64,
    /// The smallest p so far; 1 while there are too few pairs.
    pub p: f64,
}

/// The difference of the means of `a` and `b`, whose clusters are paired by index and came in that order, with an
/// interval at `level` and a p value that hold however often one looked and whyever one stopped.
///
/// # Panics
/// When the two differ in length.
pub fn anytime_difference(a: &[Cluster], b: &[Cluster], level: f64) -> AnytimeDifference {
    assert_eq!(a.len(), b.len(), "clusters are paired by index");
    let mut watched = AnytimeDifference {
        diff: value(a) - value(b),
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
        p: 1.0,
    };
    for n in 2..=a.len() {
        let (a, b, pairs) = (&a[..n], &b[..n], n as f64);
        let diff = value(a) - value(b);
        let shares = contributions(a).into_iter().zip(contributions(b));
        let squares: f64 = shares.map(|(a, b)| (a - b) * (a - b)).sum();
        let se = libm::sqrt(squares / (pairs * (pairs - 1.0)));
        if !se.is_finite() {
            continue;
        }
        // As with a single look: spread and differences of rounding count as none.
        let rounding = 1e-12 * (value(a).abs() + value(b).abs());
        let t = match (se > rounding, diff.abs() > rounding) {
            (true, _) => diff / se,
            (false, true) => f64::INFINITY,
            (false, false) => 0.0,
        };
        watched.p = watched.p.min(p_value(t, pairs));
        let radius = radius(pairs, 1.0 - level);
        if radius.is_finite() {
            (watched.low, watched.high) = (
                watched.low.max(diff - se * radius),
                watched.high.min(diff + se * radius),
            );
        }
    }
    watched
}

fn value(clusters: &[Cluster]) -> f64 {
    clusters.iter().map(|c| c.sum).sum::<f64>() / clusters.iter().map(|c| c.count).sum::<f64>()
}

fn shrink(pairs: f64) -> f64 {
    PRIOR_PAIRS / (pairs + PRIOR_PAIRS)
}

/// 1/E.
fn p_value(t: f64, pairs: f64) -> f64 {
    let rho = shrink(pairs);
    let x = t * t / (pairs - 1.0);
    let ratio = if x.is_finite() {
        (1.0 + rho * x) / (1.0 + x)
    } else {
        rho
    };
    (libm::pow(ratio, 0.5 * pairs) / libm::sqrt(rho)).min(1.0)
}

/// Half the interval, in standard errors.
fn radius(pairs: f64, alpha: f64) -> f64 {
    let rho = shrink(pairs);
    let k = libm::pow(alpha * alpha * rho, -1.0 / pairs);
    if k * rho < 1.0 {
        libm::sqrt((pairs - 1.0) * (k - 1.0) / (1.0 - k * rho))
    } else {
        f64::INFINITY
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
    fn interval_and_p_value_agree() {
        for pairs in [5.0, 12.0, 300.0] {
            let at_the_edge = p_value(radius(pairs, 0.05), pairs);
            assert!((at_the_edge - 0.05).abs() < 1e-12, "{pairs}: {at_the_edge}");
        }
        assert_eq!(radius(4.0, 0.05), f64::INFINITY);
    }

    #[test]
    fn the_ratio_is_that_of_the_likelihoods() {
        // n normals with effect size drawn from N(0, 1): the marginal likelihood ratio of all scale-free data. For n = 2
        // and t = 0 it is 1/√(1 + n) = 0.57735, and for t → ∞ it is √ρ·ρ^(−n/2) = √3.
        assert!((1.0 / p_value(1e9, 2.0) - 1.0).abs() < 1.0);
        assert!((libm::sqrt(shrink(2.0)) - 0.577_350_3).abs() < 1e-6);
        assert_eq!(p_value(0.0, 2.0), 1.0);
        // n = 10, t = 5: x = 25/9, ρ = 1/11; E = 11^(−1/2)·(3.77778/1.25253)^5 = 75.2622.
        assert!(
            (1.0 / p_value(5.0, 10.0) - 75.262).abs() < 0.01,
            "{}",
            1.0 / p_value(5.0, 10.0)
        );
    }

    #[test]
    fn no_spread() {
        let a = singles(&[0.1, 0.7, 0.4, 0.2, 0.9, 0.3]);
        let same = anytime_difference(&a, &a, 0.95);
        assert_eq!((same.diff, same.p, same.low, same.high), (0.0, 1.0, 0.0, 0.0));
        let ones = anytime_difference(&singles(&[1.0; 6]), &singles(&[0.0; 6]), 0.95);
        assert!(ones.p < 0.05 && ones.low == 1.0, "{ones:?}");
        let one = anytime_difference(&singles(&[1.0]), &singles(&[0.0]), 0.95);
        assert_eq!((one.p, one.low), (1.0, f64::NEG_INFINITY));
    }

    #[test]
    fn peeking_after_every_pair_raises_no_more_alarms_than_promised() {
        // 2,000 A/A runs of up to 100 pairs, looked at after each: rewards of 0 and 1, 20 to 59 rounds a cluster, a chance of
        // success that both of a pair share. The chance of an alarm at any look is at most 0.05, and with this seed no
        // allowance for sampling is needed. Student's own 5 %, looked at as often from the tenth pair on, raises an alarm
        // in about a quarter of the runs: the looks are real.
        let root = Key::root(17).name("peeking");
        let runs = 2000u64;
        let (mut alarms, mut naive, mut missed) = (0, 0, 0);
        for run in 0..runs {
            let mut draws = root.fold(run).draws();
            let mut arm = |chance: f64| {
                let rounds = 20 + draws.below(40);
                Cluster {
                    sum: (0..rounds).filter(|_| draws.uniform() < chance).count() as f64,
                    count: rounds as f64,
                }
            };
            let chances = (0..100u32).map(|i| 0.2 + 0.1 * f64::from(i % 5));
            let (a, b): (Vec<Cluster>, Vec<Cluster>) = chances.map(|c| (arm(c), arm(c))).unzip();
            let watched = anytime_difference(&a, &b, 0.95);
            alarms += u32::from(watched.p <= 0.05);
            missed += u32::from(watched.low > 0.0 || watched.high < 0.0);
            let fooled = |n: usize| {
                let d = crate::stats::difference(&a[..n], &b[..n], 0.95);
                d.p.unwrap() < 0.05
            };
            naive += u32::from((10..=100).step_by(5).any(fooled));
        }
        let share = |k: u32| f64::from(k) / runs as f64;
        println!(
            "alarms {}, misses {}, Student's {}",
            share(alarms),
            share(missed),
            share(naive)
        );
        assert!(
            share(alarms) <= 0.05 && share(missed) <= 0.05,
            "{} {}",
            share(alarms),
            share(missed)
        );
        assert!(share(naive) > 0.1, "{}", share(naive));
    }
}
