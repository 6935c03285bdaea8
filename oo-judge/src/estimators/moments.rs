//! Tests of whether numbers have mean 0, for numbers with rare large values.

use oo_core::normal;

/// As many of the largest value are a shortfall forgiven.
pub const FORGIVEN: f64 = 6.0;

/// As many of the largest values that came are left out of the variance of a shortfall.
pub const TOP: usize = 2;

/// Sums of the first three powers, and the largest values.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Moments {
    /// How many numbers.
    pub count: f64,
    /// Σx, Σx², Σx³.
    pub powers: [f64; 3],
    /// The largest, falling; 0 where there were fewer.
    pub top: [f64; TOP],
}

impl Moments {
    /// Adds a number.
    pub fn add(&mut self, x: f64) {
        self.count += 1.0;
        self.powers[0] += x;
        self.powers[1] += x * x;
        self.powers[2] += x * x * x;
        keep(&mut self.top, x);
    }

    /// Adds the numbers of another.
    pub fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        for (own, other) in self.powers.iter_mut().zip(other.powers) {
            *own += other;
        }
        for x in other.top {
            keep(&mut self.top, x);
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

    /// The mean in units of its standard error.
    pub fn z(&self) -> f64 {
        self.mean() / self.sd() * self.count.sqrt()
    }

    /// How far the mean lies above 0, in units of its standard error and corrected for skewness, so that it is close to
    /// a standard normal when the true mean is 0: Hall (1992), JRSS B 54(1), T = z + g·z²/3 + g²·z³/27 + g/6 with
    /// g = skewness/√n. NaN when nothing varies.
    pub fn excess(&self) -> f64 {
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

    /// How far the mean lies below 0 (a positive number), where values as large as `largest` may have failed to come by
    /// chance. Neither the sum nor its variance shows those, so [`FORGIVEN`] of them are added to the sum; in return the
    /// [`TOP`] largest that did come are left out of the variance, where one alone can hide a shortfall that is plain
    /// without it. 0 for a shortfall so explained. Both numbers were chosen by simulation (`docs/estimators.md`).
    pub fn shortfall(&self, largest: f64) -> f64 {
        let forgiven = self.powers[0] + FORGIVEN * largest;
        if forgiven.is_nan() || forgiven >= 0.0 {
            return 0.0;
        }
        let squares = self.powers[1] - self.top.iter().map(|x| x * x).sum::<f64>();
        let mean = self.mean();
        -forgiven / (squares - self.count * mean * mean).max(f64::MIN_POSITIVE).sqrt()
    }

    /// Chance of a mean at least as far off, either way.
    pub fn two_sided(&self, largest: f64) -> f64 {
        let z = if self.mean() > 0.0 {
            self.excess()
        } else {
            self.shortfall(largest)
        };
        (2.0 * above(z)).min(1.0)
    }
}

/// Keeps `x` if it belongs to the largest.
pub(super) fn keep(top: &mut [f64; TOP], x: f64) {
    if x > top[TOP - 1] {
        let at = top.iter().position(|t| x > *t).unwrap_or(TOP - 1);
        top[at..].rotate_right(1);
        top[at] = x;
    }
}

/// Chance of a standard normal of at least `z`.
pub(super) fn above(z: f64) -> f64 {
    normal::cdf(-z)
}
