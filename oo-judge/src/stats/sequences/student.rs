//! Differences of paired clusters at all times: an anytime-valid t-test over the pairs so far; see [`effect`](super::effect).
//!
//! 1/E is a p value at every number of pairs, and the equation turned round an interval; the intervals of all numbers are
//! intersected. As with Student's interval, differences are taken as normal; a mean over many rounds nearly is. c = 1: an
//! effect of one standard deviation is what it is best at. Up to four pairs there is no interval at 95 %.

use super::effect::{Effects, Size};
use crate::stats::paired::{Cluster, contributions};
use serde::{Deserialize, Serialize};

/// The prior counts for one pair.
const EFFECTS: Effects = Effects { prior: 1.0 };

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

/// 1/E.
fn p_value(t: f64, pairs: f64) -> f64 {
    libm::exp(-EFFECTS.log_ratio(t, Size::units(pairs))).min(1.0)
}

/// Half the interval, in standard errors.
fn radius(pairs: f64, alpha: f64) -> f64 {
    EFFECTS.reach(Size::units(pairs), alpha)
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
