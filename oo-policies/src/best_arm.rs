//! The probability that each of several independent random variables is the largest, by quadrature.
//!
//! P(i is best) = ∫ fᵢ(t) ∏ⱼ≠ᵢ Fⱼ(t) dt, over one grid for all arms: panels no wider than the narrowest density
//! that is alive there (in heavy tails: than the detail it has there), six Gauss–Legendre nodes a panel. One
//! evaluation of every density a node, whatever the number of arms. Absolute error below 1e-8 before the final
//! normalisation.

mod student;

pub use student::Student;

use oo_core::normal;

const NODES: [(f64, f64); 6] = [
    (-0.932_469_514_203_152, 0.171_324_492_379_170_35),
    (-0.661_209_386_466_264_5, 0.360_761_573_048_138_6),
    (-0.238_619_186_083_196_9, 0.467_913_934_572_691_04),
    (0.238_619_186_083_196_9, 0.467_913_934_572_691_04),
    (0.661_209_386_466_264_5, 0.360_761_573_048_138_6),
    (0.932_469_514_203_152, 0.171_324_492_379_170_35),
];

/// Standard deviations beyond which a density counts as dead.
const REACH: f64 = 7.0;

/// One of the competing variables.
pub trait Arm {
    /// Centre and width.
    fn window(&self) -> (f64, f64);
    /// Density and distribution function at `t`.
    fn at(&self, t: f64) -> (f64, f64);
    /// So many widths from the centre the density counts as dead.
    fn reach(&self) -> f64 {
        REACH
    }
    /// The width of a panel at `t`, at most.
    fn detail(&self, _t: f64) -> f64 {
        self.window().1
    }
    /// The interval outside which the density is zero.
    fn support(&self) -> (f64, f64) {
        (f64::NEG_INFINITY, f64::INFINITY)
    }
}

/// Fills `probs`, one entry an arm. `scratch` is working memory.
pub fn probabilities(arms: &[impl Arm], probs: &mut [f64], scratch: &mut Vec<f64>) {
    let n = arms.len();
    probs.fill(0.0);
    if n == 1 {
        probs[0] = 1.0;
        return;
    }
    scratch.clear();
    scratch.resize(2 * n, 0.0);
    let (density, below) = scratch.split_at_mut(n);
    // The largest is almost surely above every arm's lower end, and below the highest upper end.
    let mut low = f64::NEG_INFINITY;
    let mut high = f64::NEG_INFINITY;
    for arm in arms {
        let ((centre, width), (least, most)) = (arm.window(), arm.support());
        low = low.max((centre - arm.reach() * width).max(least));
        high = high.max((centre + arm.reach() * width).min(most));
    }
    let mut t = low;
    while t < high {
        let mut step = high - t;
        for arm in arms {
            let (centre, width) = arm.window();
            let from = centre - arm.reach() * width;
            if centre + arm.reach() * width <= t {
                continue;
            }
            // A density that is still to come may be entered by one width: there it is dead in all but name. Its very
            // beginning would be a border for every arm, and ten thousand arms would make ten thousand panels.
            step = step.min(if from > t {
                from - t + arm.detail(from)
            } else {
                arm.detail(t)
            });
        }
        // Widths below the spacing of numbers around t must not stall the walk.
        let next = (t + step).max(t + 1e-12 * t.abs()).min(high);
        let half = 0.5 * (next - t);
        for (node, weight) in NODES {
            let u = t + half * (1.0 + node);
            let mut zeros = 0;
            let mut product = 1.0;
            for (i, arm) in arms.iter().enumerate() {
                let (f, c) = arm.at(u);
                density[i] = f;
                below[i] = c;
                if c < 1e-300 { zeros += 1 } else { product *= c }
            }
            for i in 0..n {
                let others = match (zeros, below[i] < 1e-300) {
                    (0, _) => product / below[i],
                    (1, true) => product,
                    _ => 0.0,
                };
                probs[i] += weight * half * density[i] * others;
            }
        }
        t = next;
    }
    let sum: f64 = probs.iter().sum();
    if sum > 0.0 {
        probs.iter_mut().for_each(|p| *p /= sum);
    } else {
        probs[0] = 1.0;
    }
}

/// A list of arms that allocates only beyond 64 of them.
#[derive(Clone, Debug)]
pub struct Arms<T> {
    small: [T; 64],
    len: usize,
    large: Vec<T>,
}

impl<T: Copy + Default> Default for Arms<T> {
    fn default() -> Self {
        Arms {
            small: [T::default(); 64],
            len: 0,
            large: Vec::new(),
        }
    }
}

impl<T: Copy> Arms<T> {
    /// Adds an arm.
    pub fn push(&mut self, arm: T) {
        if self.len < self.small.len() {
            self.small[self.len] = arm;
        } else {
            if self.len == self.small.len() {
                self.large.extend_from_slice(&self.small);
            }
            self.large.push(arm);
        }
        self.len += 1;
    }

    /// All arms, in order.
    pub fn as_slice(&self) -> &[T] {
        if self.len <= self.small.len() {
            &self.small[..self.len]
        } else {
            &self.large
        }
    }
}

/// A normal variable; a standard deviation of 0 is taken as 1e-9 of its size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Normal {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub sd: f64,
}

impl Arm for Normal {
    fn window(&self) -> (f64, f64) {
        (self.mean, self.sd.max(1e-9 * (1.0 + self.mean.abs())))
    }

    fn at(&self, t: f64) -> (f64, f64) {
        let (mean, sd) = self.window();
        let z = (t - mean) / sd;
        if z > 8.3 {
            return (0.0, 1.0);
        }
        if z < -38.0 {
            return (0.0, 0.0);
        }
        let (density, cdf) = normal::density_and_cdf(z);
        (density / sd, cdf)
    }
}

/// A Beta(a, b) variable, a and b at least 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beta {
    a: f64,
    b: f64,
    log_norm: f64,
}

impl Beta {
    /// From its two counts.
    pub fn new(a: f64, b: f64) -> Self {
        Beta {
            a,
            b,
            log_norm: libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b),
        }
    }

    /// The continued fraction of the incomplete beta function (Numerical Recipes, §6.4), by Lentz's method.
    fn fraction(a: f64, b: f64, x: f64) -> f64 {
        let tiny = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
        let mut c = 1.0;
        let mut d = 1.0 / tiny(1.0 - (a + b) * x / (a + 1.0));
        let mut h = d;
        for m in 1..500 {
            let m = f64::from(m);
            let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
            d = 1.0 / tiny(1.0 + even * d);
            c = tiny(1.0 + even / c);
            h *= d * c;
            let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
            d = 1.0 / tiny(1.0 + odd * d);
            c = tiny(1.0 + odd / c);
            h *= d * c;
            if (d * c - 1.0).abs() < 1e-15 {
                break;
            }
        }
        h
    }
}

impl Arm for Beta {
    fn window(&self) -> (f64, f64) {
        let n = self.a + self.b;
        (self.a / n, (self.a * self.b / (n + 1.0)).sqrt() / n)
    }

    fn support(&self) -> (f64, f64) {
        (0.0, 1.0)
    }

    fn at(&self, t: f64) -> (f64, f64) {
        if t <= 0.0 {
            return (0.0, 0.0);
        }
        if t >= 1.0 {
            return (0.0, 1.0);
        }
        let (a, b) = (self.a, self.b);
        let power = libm::exp(self.log_norm + a * libm::log(t) + b * libm::log1p(-t));
        let cdf = if t < (a + 1.0) / (a + b + 2.0) {
            power * Beta::fraction(a, b, t) / a
        } else {
            1.0 - power * Beta::fraction(b, a, 1.0 - t) / b
        };
        (power / (t * (1.0 - t)), cdf.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn best(arms: &[impl Arm]) -> Vec<f64> {
        let mut probs = vec![0.0; arms.len()];
        probabilities(arms, &mut probs, &mut Vec::new());
        probs
    }

    #[test]
    fn two_normals_have_a_closed_form() {
        for (m, s) in [(0.3, 1.0), (2.0, 0.1), (-1.0, 10.0), (0.0, 1e-6), (0.5, 1e3)] {
            let p = best(&[Normal { mean: m, sd: s }, Normal { mean: 0.0, sd: 1.0 }]);
            let exact = normal::cdf(m / (1.0 + s * s).sqrt());
            assert!((p[0] - exact).abs() < 1e-8, "{m} {s}: {} {exact}", p[0]);
        }
    }

    #[test]
    fn equal_arms_share_equally() {
        for n in [3, 10, 200] {
            let p = best(&vec![Normal { mean: 5.0, sd: 0.2 }; n]);
            assert!(p.iter().all(|p| (p - 1.0 / n as f64).abs() < 1e-8));
        }
    }

    #[test]
    fn two_betas_have_a_closed_form() {
        // P(Beta(a,1) > Beta(1,1)) = a / (a + 1).
        let p = best(&[Beta::new(3.0, 1.0), Beta::new(1.0, 1.0)]);
        assert!((p[0] - 0.75).abs() < 1e-8, "{}", p[0]);
    }
}
