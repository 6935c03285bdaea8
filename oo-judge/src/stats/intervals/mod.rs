//! Intervals for the value of a policy, one file a method.
//!
//! An off-policy value is mean(base) + mean(num) / mean(den) over the rows of a log; [`Rows`] holds the three columns.
//! Estimators that are plain means have den ≡ 1. Methods that hold for such means only take one column, and methods
//! that know what a weight is take weights and rewards.
//!
//! Nothing here panics on numbers that came from outside: a row that breaks what a method stands on (a reward out of
//! range, a negative weight) makes the answer `None`, as do too few rows.

mod bernstein;
mod binomial;
mod bootstrap;
mod cressie_read;
mod delta;
mod likelihood;

pub use bernstein::empirical_bernstein;
pub use binomial::{clopper_pearson, scaled_clopper_pearson, weighted_clopper_pearson};
pub use bootstrap::{bca, bootstrap_difference, percentile, resample};
pub use cressie_read::{cressie_read, cressie_read_estimate};
pub use delta::{Quantile, Rows, delta, delta_difference};
pub use likelihood::likelihood_estimate;

use serde::{Deserialize, Serialize};

/// From `low` to `high`, both included.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// The interval with these ends.
    pub const fn new(low: f64, high: f64) -> Self {
        Interval { low, high }
    }

    /// True for numbers between the ends, ends included.
    pub fn contains(&self, x: f64) -> bool {
        self.low <= x && x <= self.high
    }

    /// High less low; infinite for a range without bound.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }

    /// True for two finite ends in their order with something between them.
    pub(in crate::stats) fn is_range(&self) -> bool {
        self.low.is_finite() && self.high.is_finite() && self.low < self.high
    }
}

/// The x between `low` and `high` where a function that falls goes through zero, to the last bits.
pub(in crate::stats) fn falling_root(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    loop {
        let middle = 0.5 * (low + high);
        // Two neighbours have no number between them.
        if middle <= low || middle >= high {
            return middle;
        }
        if f(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// Weights are finite and not negative, rewards lie in `range`, and there is a row.
fn sound(weight: &[f64], reward: &[f64], range: Interval) -> bool {
    assert_eq!(weight.len(), reward.len(), "one weight a reward");
    range.is_range()
        && !weight.is_empty()
        && weight.iter().all(|&w| w >= 0.0 && w.is_finite())
        && reward.iter().all(|&r| range.contains(r))
}

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod golden;
