//! The anytime-valid t-test that [`anytime_difference`](super::anytime_difference) and the gate's bounds are made of.
//!
//! With t = (estimate − θ)/se on ν degrees of freedom and ρ = c²/(τ + c²), where τ is how much has been seen,
//!
//! E = √ρ·((1 + t²/ν)/(1 + ρ·t²/ν))^((ν + 1)/2)
//!
//! is the likelihood ratio of t under effect sizes drawn from N(0, 1/c²) to that under none, whatever the variance. Under no
//! effect it is a martingale, so it ever reaches 1/α with probability at most α. Solved for t:
//!
//! t² = ν·(K − 1)/(1 − K·ρ), K = (α·√ρ)^(−2/(ν + 1)); no bound while K·ρ ≥ 1.
//!
//! Of n units τ = n and ν = n − 1. Units whose numbers go on growing have a τ of their own; see [`Size`].
//!
//! Lai (1976), On confidence sequences. Gönen, Johnson, Lu, Westfall (2005), The Bayesian two-sample t test. Wang, Ramdas
//! (2025), Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance. arXiv:2310.03722

/// How much stands behind an estimate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Size {
    /// What grows with the information in the estimate: its error falls as 1/√time. Any unit.
    pub time: f64,
    /// Degrees of freedom of its standard error.
    pub df: f64,
}

impl Size {
    /// Of so many independent units, each seen once; a fraction is allowed, for planning.
    pub fn units(n: f64) -> Size {
        Size { time: n, df: n - 1.0 }
    }
}

/// Effect sizes drawn from N(0, 1/c²).
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Effects {
    /// c², in units of time.
    pub prior: f64,
}

impl Effects {
    /// Those under which a bound that both sides share at error rate `error` is tightest at `time`.
    pub fn sharpest_at(time: f64, error: f64) -> Effects {
        let doubled = -2.0 * libm::log(error);
        Effects {
            prior: time / (doubled + libm::log(doubled) + 1.0),
        }
    }

    /// ρ.
    pub fn shrink(self, time: f64) -> f64 {
        self.prior / (time + self.prior)
    }

    /// ln E; t may be infinite.
    pub fn log_ratio(self, t: f64, size: Size) -> f64 {
        let rho = self.shrink(size.time);
        let x = t * t / size.df;
        let grown = if x.is_finite() {
            libm::log1p(x) - libm::log1p(rho * x)
        } else {
            -libm::log(rho)
        };
        0.5 * libm::log(rho) + 0.5 * (size.df + 1.0) * grown
    }

    /// The t at which E reaches 1/`error`: infinite while nothing would.
    pub fn reach(self, size: Size, error: f64) -> f64 {
        let rho = self.shrink(size.time);
        let log_k = -2.0 / (size.df + 1.0) * (libm::log(error) + 0.5 * libm::log(rho));
        let rest = 1.0 - libm::exp(log_k) * rho;
        if rest > 0.0 {
            libm::sqrt(size.df * libm::expm1(log_k) / rest)
        } else {
            f64::INFINITY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_solves_its_equation() {
        for (time, df, prior) in [
            (6.0, 5.0, 1.0),
            (500.0, 499.0, 20.0),
            (4000.0, 60.0, 300.0),
            (1e6, 1e4, 1e3),
        ] {
            let (effects, size) = (Effects { prior }, Size { time, df });
            let t = effects.reach(size, 0.05);
            assert!(
                (effects.log_ratio(t, size) + libm::log(0.05)).abs() < 1e-9,
                "{time} {df}"
            );
        }
        assert_eq!(Effects { prior: 1.0 }.reach(Size::units(4.0), 0.05), f64::INFINITY);
    }

    #[test]
    fn the_ratio_is_that_of_the_likelihoods() {
        // n = 10, t = 5, c = 1: x = 25/9, ρ = 1/11; E = 11^(−1/2)·(3.77778/1.25253)^5 = 75.2622.
        let one = Effects { prior: 1.0 };
        assert!((libm::exp(one.log_ratio(5.0, Size::units(10.0))) - 75.262).abs() < 0.01);
        // Two units: ρ = 1/3, so t = 0 has √ρ = 0.57735 and an infinite t has √ρ/ρ = √3.
        assert!((libm::exp(one.log_ratio(0.0, Size::units(2.0))) - 0.577_350_3).abs() < 1e-6);
        assert!((libm::exp(one.log_ratio(f64::INFINITY, Size::units(2.0))) - 1.732_050_8).abs() < 1e-6);
    }
}
