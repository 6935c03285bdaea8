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
//! Howard, Ramdas, McAuliffe, Sekhon (2021), Proposition 9. Fan, Grama, Liu (2015) for the inequality.
//! Waudby-Smith et al. (2024), Theorem 2, for its use off policy.

use crate::stats::intervals::falling_root;

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
        // γ(a, x) ≤ Γ(a): most looks end here, without the series.
        let without = log_capital_but(s, self.squares) + libm::lgamma(self.squares + 1.0);
        without > log_threshold && log_capital(s, self.squares) > log_threshold
    }
}

/// All but ln γ(v + ρ, s + v + ρ).
fn log_capital_but(s: f64, v: f64) -> f64 {
    s + v - (v + 1.0) * libm::log(s + v + 1.0) - LOG_GAMMA_1_1
}

/// For s ≥ 0.
fn log_capital(s: f64, v: f64) -> f64 {
    log_capital_but(s, v) + log_lower_gamma(v + 1.0, s + v + 1.0)
}

/// ln γ(a, x) for x ≥ a ≥ 1, where γ is at least about half of Γ.
///
/// Near a the power series, further above Lentz's continued fraction of the upper function; both in Abramowitz, Stegun
/// (1964), 6.5.29 and 6.5.31.
fn log_lower_gamma(a: f64, x: f64) -> f64 {
    let log_all = libm::lgamma(a);
    // x^a·e^(−x)/Γ(a).
    let front = libm::exp(a * libm::log(x) - x - log_all);
    if x < a + 1.0 + 2.0 * libm::sqrt(a) {
        let (mut term, mut sum, mut at) = (1.0 / a, 1.0 / a, a);
        while term > 1e-17 * sum {
            at += 1.0;
            term *= x / at;
            sum += term;
        }
        return libm::log(front * sum) + log_all;
    }
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (f64::MAX, 1.0 / b);
    let mut fraction = d;
    let mut i = 0.0;
    loop {
        i += 1.0;
        let numerator = -i * (i - a);
        b += 2.0;
        d = 1.0 / (numerator * d + b);
        c = b + numerator / c;
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-15 || i > 1e4 {
            break;
        }
    }
    libm::log1p(-front * fraction) + log_all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_gamma_of_whole_numbers_has_a_closed_form() {
        // γ(n, x) = (n−1)!·(1 − e^(−x)·Σ_{k<n} x^k/k!).
        for n in 1..=12u32 {
            for x in [f64::from(n), f64::from(n) + 0.3, 1.7 * f64::from(n) + 3.0, 90.0] {
                let (mut sum, mut term, mut factorial) = (0.0, 1.0, 1.0);
                for k in 1..=n {
                    sum += term;
                    term *= x / f64::from(k);
                    factorial *= f64::from((k - 1).max(1));
                }
                let expected = (factorial * (1.0 - libm::exp(-x) * sum)).ln();
                let got = log_lower_gamma(f64::from(n), x);
                assert!(
                    (got - expected).abs() < 1e-12 * expected.abs().max(1.0),
                    "γ({n}, {x}): {got}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn both_expansions_agree_where_they_meet() {
        for a in [1.0, 7.5, 400.0, 1e5] {
            let x = a + 1.0 + 2.0 * libm::sqrt(a);
            let (below, above) = (
                log_lower_gamma(a, x * (1.0 - 1e-12)),
                log_lower_gamma(a, x * (1.0 + 1e-12)),
            );
            assert!((below - above).abs() < 1e-9, "{a}: {below}, {above}");
        }
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
