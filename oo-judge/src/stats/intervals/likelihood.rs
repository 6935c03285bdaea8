//! The value by empirical likelihood: the most likely distribution of weights and rewards whose mean weight is 1.
//!
//! A weight is a ratio of probabilities, so its mean is 1; a sample's seldom is. Among distributions on the rows (and on
//! one weight `w_min` or `w_max` that was not seen) that put the mean right, the most likely gives row i the probability
//! 1 / ((wᵢ − 1)·β + n), where β makes the derivative of the dual, Σ (wᵢ − 1)/((wᵢ − 1)·β + n), zero or sits at the end of
//! its range. Mass that the rows do not take gets the mean reward.
//!
//! Karampatziakis, Langford, Mineiro (2020), Empirical Likelihood for Contextual Bandits. arXiv:1906.03323

use super::{Interval, falling_root};

/// The maximum-likelihood value. `weights` is the range of possible weights, which the rows may widen: [0, ∞) where
/// nothing is known, and better with what is known.
///
/// `None` without rows, with a weight that is negative or not finite, or where the range does not hold 1 inside it.
///
/// # Panics
/// When the columns differ in length.
pub fn likelihood_estimate(weight: &[f64], reward: &[f64], weights: Interval) -> Option<f64> {
    let everything = Interval::new(f64::MIN, f64::MAX);
    let valid = weight.iter().all(|&w| w >= 0.0 && w.is_finite()) && reward.iter().all(|&r| everything.contains(r));
    assert_eq!(weight.len(), reward.len(), "one weight a reward");
    if weight.is_empty() || !valid || !(weights.low < 1.0 && weights.high > 1.0) {
        return None;
    }
    let n = weight.len() as f64;
    let seen = |start: f64, pick: fn(f64, f64) -> f64| weight.iter().copied().fold(start, pick);
    let (lowest, highest) = (seen(weights.low, f64::min), seen(weights.high, f64::max));
    // No probability may exceed 1, on a row or on the weight that was not seen.
    let bound = |w: f64| (n - 1.0) / (1.0 - w);
    let above = n / (1.0 - lowest);
    let beta_max = weight
        .iter()
        .filter(|w| **w < 1.0)
        .map(|w| bound(*w))
        .fold(above, f64::min);
    let below = if highest.is_infinite() {
        0.0
    } else {
        n / (1.0 - highest)
    };
    let beta_min = weight
        .iter()
        .filter(|w| **w > 1.0)
        .map(|w| bound(*w))
        .fold(below, f64::max);
    let slope = |beta: f64| weight.iter().map(|w| (w - 1.0) / ((w - 1.0) * beta + n)).sum::<f64>();
    let beta = match (slope(beta_min), slope(beta_max)) {
        (a, b) if a * b < 0.0 => falling_root(beta_min, beta_max, slope),
        (a, _) if a < 0.0 => beta_min,
        _ => beta_max,
    };
    let (mut mass, mut value) = (0.0, 0.0);
    for (w, r) in weight.iter().zip(reward) {
        let p = 1.0 / ((w - 1.0) * beta + n);
        mass += w * p;
        value += w * r * p;
    }
    Some(value + (1.0f64 - mass).max(0.0) * (reward.iter().sum::<f64>() / n))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Interval = Interval::new(0.0, f64::INFINITY);

    #[test]
    fn weights_of_one_give_the_mean() {
        let v = likelihood_estimate(&[1.0; 4], &[0.0, 1.0, 1.0, 1.0], ANY).unwrap();
        assert!((v - 0.75).abs() < 1e-15);
    }

    #[test]
    fn the_mean_weight_is_put_right() {
        // Weights 0, 4, 4: their mean is 8/3, so the rows get p, q, q with 8q = 1; maximum of p·q² given Σ ≤ 1.
        let v = likelihood_estimate(&[0.0, 4.0, 4.0], &[1.0, 1.0, 0.0], ANY).unwrap();
        assert!((v - 0.5).abs() < 1e-12, "{v}");
    }

    #[test]
    fn edges() {
        assert_eq!(likelihood_estimate(&[], &[], ANY), None);
        assert_eq!(likelihood_estimate(&[-1.0], &[1.0], ANY), None);
        assert_eq!(likelihood_estimate(&[1.0], &[1.0], Interval::new(1.0, 2.0)), None);
        // A single row: nothing but its reward is known.
        for w in [0.0, 0.5, 3.0] {
            let v = likelihood_estimate(&[w], &[0.25], ANY).unwrap();
            assert!((v - 0.25).abs() < 1e-12, "{w}: {v}");
        }
    }
}
