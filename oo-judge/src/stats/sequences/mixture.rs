//! The gamma–exponential mixture.
//!
//! For x ≥ 0 and a forecast x̂ ≤ 1 made before x is seen, exp(λ(x − m) − ψ(λ)(x − x̂)²) with ψ(λ) = −ln(1 − λ) − λ has a mean
//! of at most 1 for every stake λ in [0, 1) when m is the mean. Its product over the rows, integrated over λ with a
//! truncated gamma density, depends on the rows through s = Σ(x − m) and v = Σ(x − x̂)² alone:
//!
//! ln capital = s + v + ρ·ln ρ − (v + ρ)·ln(s + v + ρ) + ln γ(v + ρ, s + v + ρ) − ln γ(ρ, ρ)
//!
//! with γ the lower incomplete gamma function. ρ = 1 here.
//!
//! Howard, Ramdas, McAuliffe, Sekhon (2021). Fan, Grama, Liu (2015) for the inequality.
//! Waudby-Smith et al. (2024) for its use off policy.

use crate::stats::intervals::falling_root;
use oo_core::normal;

/// ln γ(1, 1) = ln(1 − 1/e).
const LOG_GAMMA_1_1: f64 = -0.458_675_145_387_081_9;

#[derive(Clone, Debug, Default)]
pub(super) struct Mixture {
    rows: f64,
    sum: f64,
    squares: f64,
    /// Forecasts above 1 stay as they are: the inequality then need not hold.
    loose: bool,
}

impl Mixture {
    pub(super) fn loose() -> Self {
        Mixture {
            loose: true,
            ..Mixture::default()
        }
    }

    pub(super) fn push(&mut self, x: f64) {
        let mut forecast = (self.sum + 0.5) / (self.rows + 1.0);
        if !self.loose {
            forecast = forecast.min(1.0);
        }
        self.squares += (x - forecast) * (x - forecast);
        self.sum += x;
        self.rows += 1.0;
    }

    /// The least m that the bet leaves standing, at most 1.
    pub(super) fn bound(&self, log_threshold: f64) -> f64 {
        // Capital falls in m, and is at most 1 where m is above the mean of x.
        let highest = (self.sum / self.rows).min(1.0);
        let excess = |m: f64| log_capital(self.sum - self.rows * m, self.squares) - log_threshold;
        if self.rows == 0.0 || excess(0.0) <= 0.0 {
            0.0
        } else if excess(highest) >= 0.0 {
            highest
        } else {
            falling_root(0.0, highest, excess)
        }
    }

    pub(super) fn excludes(&self, m: f64, log_threshold: f64) -> bool {
        let s = self.sum - self.rows * m;
        if s <= 0.0 {
            return false;
        }
        // P ≤ 1: most looks end here, without the series.
        let most = log_capital_over_p(s, self.squares);
        most > log_threshold && most + log_p(self.squares + 1.0, s) > log_threshold
    }
}

/// For s ≥ 0.
fn log_capital(s: f64, v: f64) -> f64 {
    log_capital_over_p(s, v) + log_p(v + 1.0, s)
}

/// All but ln P(v + 1, s + v + 1), where P = γ/Γ. Large numbers are not subtracted from each other.
fn log_capital_over_p(s: f64, v: f64) -> f64 {
    let a = v + 1.0;
    s - a * libm::log1p(s / a) + stirling(a) - 1.0 - LOG_GAMMA_1_1
}

/// ln Γ(a) − a·ln a + a.
fn stirling(a: f64) -> f64 {
    if a < 1e6 {
        libm::lgamma(a) - a * libm::log(a) + a
    } else {
        0.5 * libm::log(2.0 * std::f64::consts::PI / a) + 1.0 / (12.0 * a)
    }
}

/// ln P(a, a + d) for a ≥ 1 and d ≥ 0, where P, the regularised lower incomplete gamma function, is about a half or more.
///
/// Near a the power series, further above Lentz's continued fraction of the upper function; both in Abramowitz, Stegun
/// (1964), 6.5.29 and 6.5.31. Where the series would be long P is that of a normal, to 1e-5.
fn log_p(a: f64, d: f64) -> f64 {
    if a > 1e8 {
        return libm::log(normal::cdf(d / libm::sqrt(a)));
    }
    let x = a + d;
    // x^a·e^(−x)/Γ(a).
    let front = libm::exp(a * libm::log1p(d / a) - d - stirling(a));
    if d < 1.0 + 2.0 * libm::sqrt(a) {
        let (mut term, mut sum, mut at) = (1.0 / a, 1.0 / a, a);
        while term > 1e-17 * sum {
            at += 1.0;
            term *= x / at;
            sum += term;
        }
        return libm::log(front * sum);
    }
    let mut b = d + 1.0;
    let (mut c, mut ratio) = (f64::MAX, 1.0 / b);
    let mut fraction = ratio;
    let mut i = 0.0;
    loop {
        i += 1.0;
        let numerator = -i * (i - a);
        b += 2.0;
        ratio = 1.0 / (numerator * ratio + b);
        c = b + numerator / c;
        fraction *= ratio * c;
        if (ratio * c - 1.0).abs() < 1e-15 || i > 1e4 {
            break;
        }
    }
    libm::log1p(-front * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_gamma_of_whole_numbers_has_a_closed_form() {
        // P(n, x) = 1 − e^(−x)·Σ_{k<n} x^k/k!.
        for n in 1..=12u32 {
            for x in [f64::from(n), f64::from(n) + 0.3, 1.7 * f64::from(n) + 3.0, 90.0] {
                let (mut sum, mut term) = (0.0, 1.0);
                for k in 1..=n {
                    sum += term;
                    term *= x / f64::from(k);
                }
                let expected = (1.0 - libm::exp(-x) * sum).ln();
                let got = log_p(f64::from(n), x - f64::from(n));
                assert!(
                    (got - expected).abs() < 1e-12 * expected.abs().max(1.0),
                    "P({n}, {x}): {got}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn both_expansions_agree_where_they_meet() {
        for a in [1.0, 7.5, 400.0, 1e5] {
            let d = 1.0 + 2.0 * libm::sqrt(a);
            let (below, above) = (log_p(a, d * (1.0 - 1e-12)), log_p(a, d * (1.0 + 1e-12)));
            assert!((below - above).abs() < 1e-9, "{a}: {below}, {above}");
        }
        for d in [0.0, 3e3, 4e4] {
            let (series, normal) = (log_p(1e8, d), log_p(1e8 * (1.0 + 1e-15), d));
            assert!((series - normal).abs() < 5e-5, "{d}: {series}, {normal}");
        }
        assert!((stirling(999_999.0) - stirling(1_000_001.0)).abs() < 1e-6);
    }

    #[test]
    fn enormous_weights_are_no_trouble() {
        // One row of them tells nothing: s²/v stays below 1.
        let mut m = Mixture::default();
        (0..10_000).for_each(|i| m.push(if i == 5000 { 1e12 } else { 0.5 }));
        assert_eq!(m.bound(3.7), 0.0);
        // A hundred contradict every mean below 1.
        (0..10_000).for_each(|i| m.push(if i % 100 == 0 { 1e12 } else { 0.5 }));
        assert_eq!(m.bound(3.7), 1.0);
    }

    #[test]
    fn capital_is_the_mixture_of_its_bets() {
        // ∫ f(λ)·exp(λs − ψ(λ)v) dλ with f ∝ (1−λ)^(ρ−1)·e^(−ρ(1−λ)) and ρ = 1, by the midpoint rule.
        let (s, v) = (6.0, 9.0);
        let steps = 200_000;
        let (mut mixture, mut mass) = (0.0, 0.0);
        for i in 0..steps {
            let stake = (f64::from(i) + 0.5) / f64::from(steps);
            let density = libm::exp(stake - 1.0);
            mass += density;
            mixture += density * libm::exp(stake * s + (libm::log1p(-stake) + stake) * v);
        }
        let expected = (mixture / mass).ln();
        assert!(
            (log_capital(s, v) - expected).abs() < 1e-6,
            "{}, not {expected}",
            log_capital(s, v)
        );
    }

    #[test]
    fn exclusion_and_bound_agree() {
        let mut m = Mixture::default();
        for i in 0..500 {
            m.push(f64::from(i % 3));
        }
        let bound = m.bound(3.0);
        assert!(bound > 0.7 && bound < 1.0, "{bound}");
        assert!(m.excludes(bound - 1e-9, 3.0) && !m.excludes(bound + 1e-9, 3.0));
        assert_eq!(Mixture::default().bound(3.0), 0.0);
    }
}
