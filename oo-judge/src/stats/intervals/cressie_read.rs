//! The value and its interval by a Cressie–Read divergence of power −2, which has closed forms.
//!
//! As with the empirical likelihood, the distribution is over the rows and one unseen row with an extreme weight, its
//! mean weight must be 1, and the interval holds every value that a distribution close enough to the sample can have;
//! only closeness is measured by a quadratic, so sums of w, w², w·r, w²·r and w²·r² are all that is needed. "Close
//! enough" is the 1 − α quantile of F on (1, n) degrees of freedom, added to the smallest divergence at which the mean
//! weight is 1. Ends lie in the range of rewards. The coverage is asymptotic.
//!
//! Karampatziakis, Langford, Mineiro (2020), Empirical Likelihood for Contextual Bandits, §4. arXiv:1906.03323

use super::{Interval, sound};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// What counts as zero under the root; the ends move by √2 times as much.
const ROUNDING: f64 = 1e-9;

/// Sums over the rows, and the range of weights widened by what was seen.
struct Sums {
    n: f64,
    w: f64,
    ww: f64,
    wr: f64,
    wwr: f64,
    wwrr: f64,
    r: f64,
    lowest: f64,
    highest: f64,
}

impl Sums {
    fn of(weight: &[f64], reward: &[f64], weights: Interval) -> Self {
        let mut s = Sums {
            n: weight.len() as f64,
            w: 0.0,
            ww: 0.0,
            wr: 0.0,
            wwr: 0.0,
            wwrr: 0.0,
            r: 0.0,
            lowest: weights.low,
            highest: weights.high,
        };
        for (&w, &r) in weight.iter().zip(reward) {
            s.w += w;
            s.ww += w * w;
            s.wr += w * r;
            s.wwr += w * w * r;
            s.wwrr += w * w * r * r;
            s.r += r;
            s.lowest = s.lowest.min(w);
            s.highest = s.highest.max(w);
        }
        s
    }

    /// The unseen weight that brings the mean towards 1.
    fn unseen(&self) -> f64 {
        if self.w < self.n { self.highest } else { self.lowest }
    }
}

fn allowed(weights: Interval) -> bool {
    weights.low < 1.0 && weights.high > 1.0
}

/// The value. `weights` is the range of possible weights, which the rows may widen: [0, ∞) where nothing is known.
///
/// `None` without rows, with a weight that is negative or not finite, or where the range does not hold 1 inside it.
///
/// # Panics
/// When the columns differ in length.
pub fn cressie_read_estimate(weight: &[f64], reward: &[f64], weights: Interval) -> Option<f64> {
    let any = Interval::new(f64::MIN / 4.0, f64::MAX / 4.0);
    if !sound(weight, reward, any) || !allowed(weights) {
        return None;
    }
    let s = Sums::of(weight, reward, weights);
    let total = 1.0 + s.n;
    // Row i has the probability (slope·wᵢ + level) / (n + 1).
    let (level, slope) = match s.unseen() {
        unseen if unseen.is_infinite() => (total / s.n, 0.0),
        unseen => {
            let (mean, square) = ((unseen + s.w) / total, (unseen * unseen + s.ww) / total);
            let variance = square - mean * mean;
            ((square - mean) / variance, (1.0 - mean) / variance)
        }
    };
    let value = (level * s.wr + slope * s.wwr) / total;
    let mass = (level * s.w + slope * s.ww) / total;
    Some(value + (1.0 - mass).max(0.0) * s.r / s.n)
}

/// The interval at `level`, rewards within `range`, weights within `weights` or wherever the rows are.
///
/// `None` without rows, with a row that is no weight or out of range, or where `weights` does not hold 1 inside it.
///
/// # Panics
/// When the columns differ in length.
pub fn cressie_read(
    weight: &[f64],
    reward: &[f64],
    weights: Interval,
    range: Interval,
    level: f64,
) -> Option<Interval> {
    if !sound(weight, reward, range) || !allowed(weights) {
        return None;
    }
    let s = Sums::of(weight, reward, weights);
    let total = 1.0 + s.n;
    let smallest = match s.unseen() {
        unseen if unseen.is_infinite() => 1.0 + 1.0 / s.n,
        unseen => {
            let (mean, square) = ((unseen + s.w) / total, (unseen * unseen + s.ww) / total);
            total * (mean - 1.0) * (mean - 1.0) / (square - mean * mean)
        }
    };
    // F on (1, n) is the square of Student's t on n.
    let t = StudentsT::new(0.0, 1.0, s.n).ok()?.inverse_cdf(0.5 + level / 2.0);
    let budget = -(smallest + t * t) / (2.0 * total);
    let end = |reward: f64, sign: f64| {
        let candidates = [s.lowest, s.highest].map(|unseen| extreme(&s, unseen, reward, sign, budget));
        let best = candidates.into_iter().flatten().reduce(f64::min);
        best.map_or(reward, |best| sign * best).clamp(range.low, range.high)
    };
    Some(Interval::new(end(range.low, 1.0), end(range.high, -1.0)))
}

/// The least of `sign` times the value within the budget, when the unseen row has this weight and reward.
fn extreme(s: &Sums, unseen: f64, reward: f64, sign: f64, budget: f64) -> Option<f64> {
    let total = 1.0 + s.n;
    let (x, y, z) = if unseen.is_infinite() {
        let away = reward * s.w - s.wr;
        (
            sign * (reward - away / s.n),
            away * away / (s.n * total) - (reward * reward * s.ww - 2.0 * reward * s.wwr + s.wwrr) / total,
            budget + 0.5 / s.n,
        )
    } else {
        let w = (unseen + s.w) / total;
        let ww = (unseen * unseen + s.ww) / total;
        let wr = sign * (unseen * reward + s.wr) / total;
        let wwr = sign * (unseen * unseen * reward + s.wwr) / total;
        let wwrr = (unseen * unseen * reward * reward + s.wwrr) / total;
        let variance = ww - w * w;
        if variance <= 0.0 {
            return None;
        }
        let covariance = wwr - w * wr;
        (
            wr + (1.0 - w) * covariance / variance,
            covariance * covariance / variance - (wwrr - wr * wr),
            budget + 0.5 * (1.0 - w) * (1.0 - w) / variance,
        )
    };
    if (y * z).abs() <= ROUNDING * ROUNDING {
        Some(x - std::f64::consts::SQRT_2 * ROUNDING)
    } else if z <= 0.0 && y * z >= 0.0 {
        Some(x - libm::sqrt(2.0 * y * z))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Interval = Interval::new(0.0, f64::INFINITY);
    const UNIT: Interval = Interval::new(0.0, 1.0);

    #[test]
    fn weights_of_one_give_the_mean() {
        let v = cressie_read_estimate(&[1.0; 4], &[0.0, 1.0, 1.0, 1.0], ANY).unwrap();
        assert!((v - 0.75).abs() < 1e-12, "{v}");
    }

    #[test]
    fn ends_stay_in_the_range_of_rewards() {
        let weight = [0.0, 9.0, 0.3, 0.1];
        for reward in [[0.0; 4], [1.0; 4], [0.5, 0.2, 0.9, 1.0]] {
            for weights in [ANY, Interval::new(0.0, 20.0)] {
                let i = cressie_read(&weight, &reward, weights, UNIT, 0.95).unwrap();
                assert!(0.0 <= i.low && i.low <= i.high && i.high <= 1.0, "{i:?}");
            }
        }
    }

    #[test]
    fn another_unit_of_reward_moves_the_interval_along() {
        let weight = [0.5, 2.0, 0.1, 1.4, 0.9, 0.7];
        let reward = [0.0, 1.0, 1.0, 0.0, 1.0, 0.5];
        let i = cressie_read(&weight, &reward, Interval::new(0.0, 5.0), UNIT, 0.95).unwrap();
        let scaled = reward.map(|r| 3.0 * r - 1.0);
        let j = cressie_read(
            &weight,
            &scaled,
            Interval::new(0.0, 5.0),
            Interval::new(-1.0, 2.0),
            0.95,
        )
        .unwrap();
        assert!((3.0 * i.low - 1.0 - j.low).abs() < 1e-9 && (3.0 * i.high - 1.0 - j.high).abs() < 1e-9);
    }

    #[test]
    fn edges() {
        assert_eq!(cressie_read(&[], &[], ANY, UNIT, 0.95), None);
        assert_eq!(cressie_read(&[1.0], &[2.0], ANY, UNIT, 0.95), None);
        assert_eq!(cressie_read(&[1.0], &[1.0], Interval::new(0.0, 1.0), UNIT, 0.95), None);
        assert_eq!(cressie_read_estimate(&[f64::NAN], &[1.0], ANY), None);
    }
}
