//! Clopper and Pearson's interval for a share, and its use on importance-weighted rewards.
//!
//! For s successes in n trials the ends are quantiles of beta distributions: α/2 of Beta(s, n−s+1) and 1 − α/2 of
//! Beta(s+1, n−s).
//!
//! With weights of at most W and rewards in [0, 1], w·r/W lies in [0, 1], and of all such variables with a given mean the
//! one that is 0 or 1 varies most. So Σw·r/W successes in n trials, and the ends times W, are on the safe side:
//! [`scaled_clopper_pearson`]. [`weighted_clopper_pearson`] is the form of VW's estimators, Σw·r/W successes in n/W trials
//! with W the largest weight seen. It serves comparison: its variance v·(1 − v)·W/n is below the possible v·(W − v)/n, and
//! where weights vary much it holds the truth too seldom.
//!
//! Clopper, Pearson (1934), The use of confidence or fiducial limits illustrated in the case of the binomial.

use super::{Interval, falling_root, sound};
use statrs::function::beta::beta_reg;

/// The interval at `level` for the share of `successes` among `trials`; neither need be whole.
///
/// More successes than trials happen where weights run high: the upper end is then 1.
///
/// # Panics
/// When a count is negative or not finite.
pub fn clopper_pearson(successes: f64, trials: f64, level: f64) -> Interval {
    let counts = [successes, trials];
    assert!(
        counts.iter().all(|c| c.is_finite() && *c >= 0.0),
        "expected counts, got {successes} of {trials}"
    );
    let tail = (1.0 - level) / 2.0;
    let low = match trials - successes + 1.0 {
        _ if successes == 0.0 => 0.0,
        failures if failures > 0.0 => beta_quantile(successes, failures, tail),
        _ => 1.0,
    };
    let high = if successes < trials {
        beta_quantile(successes + 1.0, trials - successes, 1.0 - tail)
    } else {
        1.0
    };
    Interval::new(low, high)
}

/// The interval at `level` for the mean of weight times reward, rewards within `range` and weights at most `max_weight`.
///
/// `None` without rows, or with a row that is no weight, above the maximum or out of range.
///
/// # Panics
/// When the columns differ in length.
pub fn scaled_clopper_pearson(
    weight: &[f64],
    reward: &[f64],
    max_weight: f64,
    range: Interval,
    level: f64,
) -> Option<Interval> {
    if !sound(weight, reward, range) || !weight.iter().all(|&w| w <= max_weight) || max_weight < 1.0 {
        return None;
    }
    let share = clopper_pearson(sum(weight, reward, range) / max_weight, weight.len() as f64, level);
    let back = |x: f64| range.low + (max_weight * x).min(1.0) * range.width();
    Some(Interval::new(back(share.low), back(share.high)))
}

/// The interval of VW's estimators at `level` for the mean of weight times reward, rewards within `range`; see the
/// module for what is wrong with it.
///
/// `None` without rows, without weight, or with a row that is no weight or out of range.
///
/// # Panics
/// When the columns differ in length.
pub fn weighted_clopper_pearson(weight: &[f64], reward: &[f64], range: Interval, level: f64) -> Option<Interval> {
    if !sound(weight, reward, range) {
        return None;
    }
    let largest = weight.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return None;
    }
    let successes = sum(weight, reward, range) / largest;
    let share = clopper_pearson(successes, weight.len() as f64 / largest, level);
    let back = |x: f64| range.low + x * range.width();
    Some(Interval::new(back(share.low), back(share.high)))
}

/// Of weight times reward, rewards scaled to [0, 1].
fn sum(weight: &[f64], reward: &[f64], range: Interval) -> f64 {
    let scaled = |(w, r): (&f64, &f64)| w * ((r - range.low) / range.width());
    weight.iter().zip(reward).map(scaled).sum()
}

/// By halving: slower than Newton's method, but it ends for every shape.
fn beta_quantile(a: f64, b: f64, p: f64) -> f64 {
    falling_root(0.0, 1.0, |x| p - beta_reg(a, b, x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn textbook_intervals() {
        // 0 of 10: 1 − 0.025^(1/10) = 0.308497. 4 of 20: [0.057334, 0.436614] (R, binom.test).
        let none = clopper_pearson(0.0, 10.0, 0.95);
        assert!(none.low == 0.0 && (none.high - 0.308_497_1).abs() < 1e-6, "{none:?}");
        let all = clopper_pearson(10.0, 10.0, 0.95);
        assert!(all.high == 1.0 && (all.low - 0.691_502_9).abs() < 1e-6, "{all:?}");
        let some = clopper_pearson(4.0, 20.0, 0.95);
        assert!(
            (some.low - 0.057_334).abs() < 1e-5 && (some.high - 0.436_614).abs() < 1e-5,
            "{some:?}"
        );
    }

    #[test]
    fn odd_counts() {
        assert_eq!(clopper_pearson(0.0, 0.0, 0.95), Interval::new(0.0, 1.0));
        assert_eq!(clopper_pearson(9.0, 3.0, 0.95), Interval::new(1.0, 1.0));
        let more = clopper_pearson(3.5, 3.0, 0.95);
        assert!(0.0 < more.low && more.low < 1.0 && more.high == 1.0, "{more:?}");
        let unit = Interval::new(0.0, 1.0);
        assert_eq!(weighted_clopper_pearson(&[], &[], unit, 0.95), None);
        assert_eq!(weighted_clopper_pearson(&[0.0], &[1.0], unit, 0.95), None);
        assert_eq!(weighted_clopper_pearson(&[1.0], &[1.5], unit, 0.95), None);
        assert_eq!(weighted_clopper_pearson(&[-1.0], &[1.0], unit, 0.95), None);
    }

    #[test]
    fn weights_of_one_are_plain_counts() {
        let reward: Vec<f64> = (0..20).map(|i| f64::from(u8::from(i < 4))).collect();
        let (unit, plain) = (Interval::new(0.0, 1.0), clopper_pearson(4.0, 20.0, 0.95));
        assert_eq!(weighted_clopper_pearson(&[1.0; 20], &reward, unit, 0.95), Some(plain));
        assert_eq!(
            scaled_clopper_pearson(&[1.0; 20], &reward, 1.0, unit, 0.95),
            Some(plain)
        );
        assert_eq!(scaled_clopper_pearson(&[1.0; 20], &reward, 0.9, unit, 0.95), None);
    }
}
