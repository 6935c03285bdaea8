//! Mean, variance and skewness of numbers whose mean should be 0, and the test of that.

use oo_core::normal;

/// Sums of the first three powers.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Moments {
    /// How many numbers.
    pub count: f64,
    /// Σx, Σx², Σx³.
    pub powers: [f64; 3],
}

impl Moments {
    /// Adds a number.
    pub fn add(&mut self, x: f64) {
        self.count += 1.0;
        self.powers[0] += x;
        self.powers[1] += x * x;
        self.powers[2] += x * x * x;
    }

    /// Adds the numbers of another.
    pub fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        for (own, other) in self.powers.iter_mut().zip(other.powers) {
            *own += other;
        }
    }

    /// The mean; NaN without numbers.
    pub fn mean(&self) -> f64 {
        self.powers[0] / self.count
    }

    /// Standard deviation, with divisor n.
    pub fn sd(&self) -> f64 {
        let mean = self.mean();
        (self.powers[1] / self.count - mean * mean).max(0.0).sqrt()
    }

    /// The mean in units of its standard error, corrected for skewness so that it is close to a standard normal when
    /// the true mean is 0: Hall (1992), JRSS B 54(1), T = z + g·z²/3 + g²·z³/27 + g/6 with g = skewness/√n. Weights are
    /// skewed: most samples lack the rare large ones, have a small mean and a small variance at once, and would look
    /// too low too often. NaN when nothing varies.
    pub fn z(&self) -> f64 {
        let (mean, sd) = (self.mean(), self.sd());
        if sd.is_nan() || sd <= 0.0 {
            return f64::NAN;
        }
        let root = self.count.sqrt();
        let z = mean / sd * root;
        let third = self.powers[2] / self.count - 3.0 * mean * self.powers[1] / self.count + 2.0 * mean * mean * mean;
        let g = third / (sd * sd * sd) / root;
        z + g * z * z / 3.0 + g * g * z * z * z / 27.0 + g / 6.0
    }
}

/// Chance of a standard normal at least as far from 0 as `z`.
pub(super) fn two_sided(z: f64) -> f64 {
    2.0 * normal::cdf(-z.abs())
}

/// Chance of a standard normal of at least `z`.
pub(super) fn above(z: f64) -> f64 {
    normal::cdf(-z)
}
