//! Student's t, located and scaled: what a normal variable becomes whose variance was estimated too.
//!
//! The distribution function comes from the continued fraction of the incomplete beta function for few degrees of
//! freedom ν, and from Hill's normal deviate for many (Hill 1970, Algorithm 395): against each other, off by less
//! than 1e-11 where they change over (tested). The tails are heavy, so the grid follows them: panels widen as
//! √(1 + z²/ν), which is how a power law loses its detail.

use super::{Arm, Beta};
use oo_core::normal;

/// Degrees of freedom from which the normal deviate is used.
const MANY: f64 = 60.0;

/// −ln of the mass that may lie beyond the reach: 1e-10.
const BEYOND: f64 = 23.0;

/// Student's t with `df` degrees of freedom, at least 1, times `scale`, plus `mean`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Student {
    mean: f64,
    scale: f64,
    df: f64,
    log_norm: f64,
    reach: f64,
}

impl Student {
    /// A scale of 0 is taken as 1e-9 of the mean's size.
    pub fn new(mean: f64, scale: f64, df: f64) -> Self {
        debug_assert!(df >= 1.0);
        // ln of Γ((ν + 1)/2) / (Γ(ν/2) √(νπ)); for large ν by its series, since the two gammas nearly cancel.
        let log_norm = if df < MANY {
            libm::lgamma(0.5 * (df + 1.0)) - libm::lgamma(0.5 * df) - 0.5 * libm::log(df * std::f64::consts::PI)
        } else {
            let r = 1.0 / df;
            -0.918_938_533_204_672_7 - r * (0.25 - r * r * (1.0 / 24.0 - r * r * 0.05))
        };
        Student {
            mean,
            scale: scale.max(1e-9 * (1.0 + mean.abs())),
            df,
            log_norm,
            // Beyond z lies at most (1 + z²/ν)^(−ν/2).
            reach: (df * libm::expm1(2.0 * BEYOND / df)).sqrt(),
        }
    }

    /// Its centre.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Mean, scale and degrees of freedom.
    pub fn parts(&self) -> (f64, f64, f64) {
        (self.mean, self.scale, self.df)
    }

    /// Density (of the standard variable) and P(T > |z|).
    fn tail(&self, z: f64) -> (f64, f64) {
        let df = self.df;
        let log = libm::log1p(z * z / df);
        let density = libm::exp(self.log_norm - 0.5 * (df + 1.0) * log);
        let tail = if df >= MANY {
            let a = df - 0.5;
            let (b, y) = (48.0 * a * a, a * log);
            let correction = (((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b);
            normal::cdf(-((correction + y + 3.0) / b + 1.0) * y.sqrt())
        } else {
            let (a, x) = (0.5 * df, df / (df + z * z));
            // x^a (1 − x)^½ / B(a, ½)
            let power = libm::exp(self.log_norm - a * log) * (df * (1.0 - x)).sqrt();
            if x < (a + 1.0) / (a + 2.5) {
                0.5 * power * Beta::fraction(a, 0.5, x) / a
            } else {
                0.5 - power * Beta::fraction(0.5, a, 1.0 - x)
            }
        };
        (density, tail.max(0.0))
    }
}

impl Arm for Student {
    fn window(&self) -> (f64, f64) {
        (self.mean, self.scale)
    }

    fn reach(&self) -> f64 {
        self.reach
    }

    fn detail(&self, t: f64) -> f64 {
        let (z, r) = ((t - self.mean) / self.scale, 1.0 / self.df);
        let here = 1.0 + z * z * r;
        if z >= 0.0 {
            return self.scale * here.sqrt();
        }
        // On the way in, the detail at the panel's far end counts: w = √(1 + (|z| − w)²/ν), up to the centre.
        let w = here / (-z * r + (z * z * r * r + (1.0 - r) * here).sqrt());
        self.scale * w.min((-z).max(1.0))
    }

    fn at(&self, t: f64) -> (f64, f64) {
        let z = (t - self.mean) / self.scale;
        if z > self.reach {
            return (0.0, 1.0);
        }
        let (density, tail) = self.tail(z);
        (density / self.scale, if z > 0.0 { 1.0 - tail } else { tail })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::best;
    use super::*;

    #[test]
    fn the_distribution_function_is_right() {
        // One and two degrees of freedom have closed forms.
        for z in [0.0f64, 0.01, 0.5, 1.0, 3.0, 20.0, 1e4] {
            let cauchy = Student::new(0.0, 1.0, 1.0);
            let exact = libm::atan2(1.0, z) / std::f64::consts::PI;
            assert!((cauchy.tail(z).1 - exact).abs() < 1e-14, "{z}");
            let two = Student::new(0.0, 1.0, 2.0);
            let exact = 1.0 / ((2.0 + z * z).sqrt() * ((2.0 + z * z).sqrt() + z));
            assert!((two.tail(z).1 - exact).abs() < 1e-14, "{z}");
        }
        // Where the two ways of computing it meet, and in the normal limit.
        for k in 0..80 {
            let z = 0.1 * f64::from(k);
            let below = Student::new(0.0, 1.0, MANY * (1.0 - 1e-12)).tail(z);
            let above = Student::new(0.0, 1.0, MANY).tail(z);
            assert!((below.1 - above.1).abs() < 1e-11, "{z}: {} {}", below.1, above.1);
            assert!((below.0 - above.0).abs() < 1e-11, "{z}: {} {}", below.0, above.0);
            let normal_tail = Student::new(0.0, 1.0, 1e10).tail(z).1;
            assert!((normal_tail - normal::cdf(-z)).abs() < 1e-10, "{z}");
        }
    }

    #[test]
    fn two_cauchys_have_a_closed_form() {
        for (gap, scale) in [(0.0, 1.0), (0.7, 1.0), (3.0, 0.1), (-40.0, 5.0)] {
            let p = best(&[Student::new(gap, scale, 1.0), Student::new(0.0, 1.0, 1.0)]);
            let exact = 0.5 + libm::atan(gap / (1.0 + scale)) / std::f64::consts::PI;
            assert!((p[0] - exact).abs() < 1e-8, "{gap} {scale}: {} {exact}", p[0]);
        }
    }

    #[test]
    fn a_student_against_a_constant_is_its_tail() {
        for df in [2.0, 3.5, 12.0, 59.0, 400.0, 1e5] {
            for z in [-2.0, 0.3, 4.0, 8.0] {
                let p = best(&[Student::new(1.0, 2.0, df), Student::new(1.0 + 2.0 * z, 1e-7, 1e9)]);
                let tail = Student::new(0.0, 1.0, df).tail(z).1;
                let exact = if z > 0.0 { tail } else { 1.0 - tail };
                assert!((p[0] - exact).abs() < 1e-8, "{df} {z}: {} {exact}", p[0]);
            }
        }
    }

    #[test]
    fn unequal_students_agree_with_a_fine_grid() {
        let arms = [
            Student::new(0.0, 1.0, 12.0),
            Student::new(0.5, 0.2, 40.0),
            Student::new(-1.0, 3.0, 3.0),
            Student::new(0.6, 0.01, 500.0),
        ];
        // t = sinh u makes the tails short; Simpson's rule on 400,000 intervals.
        let (n, end) = (400_000, 20.0);
        let h = 2.0 * end / f64::from(n);
        let mut exact = [0.0; 4];
        for k in 0..=n {
            let u = -end + h * f64::from(k);
            let weight = match k {
                0 => 1.0,
                k if k == n => 1.0,
                k if k % 2 == 1 => 4.0,
                _ => 2.0,
            } * h
                / 3.0
                * libm::cosh(u);
            let at = arms.map(|a| {
                let z = (libm::sinh(u) - a.mean) / a.scale;
                let (density, tail) = a.tail(z);
                (density / a.scale, if z > 0.0 { 1.0 - tail } else { tail })
            });
            for i in 0..4 {
                let others: f64 = (0..4).filter(|&j| j != i).map(|j| at[j].1).product();
                exact[i] += weight * at[i].0 * others;
            }
        }
        let p = best(&arms);
        for (p, exact) in p.iter().zip(exact) {
            assert!((p - exact).abs() < 1e-8, "{p} {exact}");
        }
    }
}
