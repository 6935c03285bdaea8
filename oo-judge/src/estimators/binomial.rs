//! Exact binomial numbers.

use oo_core::key::Draws;

/// Below this many trials, counting fair coins is faster than rejection.
const COINS: u64 = 2048;

/// Successes in `n` fair trials.
pub(super) fn half(draws: &mut Draws, n: u64) -> u64 {
    if n >= COINS {
        return binomial(draws, n, 0.5);
    }
    let mut heads = (0..n / 64).map(|_| u64::from(draws.bits().count_ones())).sum();
    if !n.is_multiple_of(64) {
        heads += u64::from((draws.bits() >> (64 - n % 64)).count_ones());
    }
    heads
}

/// Successes in `n` trials of probability `p`.
pub(super) fn binomial(draws: &mut Draws, n: u64, p: f64) -> u64 {
    if p > 0.5 {
        return n - binomial(draws, n, 1.0 - p);
    }
    if n == 0 || p <= 0.0 {
        return 0;
    }
    if n as f64 * p < 10.0 {
        by_waiting(draws, n, p)
    } else {
        by_rejection(draws, n, p)
    }
}

/// Adds geometric waiting times until the trials are used up: n·p + 1 steps on average (Devroye 1986, X.4.3).
fn by_waiting(draws: &mut Draws, n: u64, p: f64) -> u64 {
    let scale = -1.0 / libm::log1p(-p);
    let (mut trials, mut successes) = (0.0, 0);
    loop {
        trials += (draws.exponential() * scale).floor() + 1.0;
        if trials > n as f64 {
            return successes;
        }
        successes += 1;
    }
}

/// Transformed rejection with squeeze (Hörmann 1993, algorithm BTRS), for n·p ≥ 10 and p ≤ ½.
fn by_rejection(draws: &mut Draws, n: u64, p: f64) -> u64 {
    let trials = n as f64;
    let spread = (trials * p * (1.0 - p)).sqrt();
    let b = 1.15 + 2.53 * spread;
    let a = -0.0873 + 0.0248 * b + 0.01 * p;
    let center = trials * p + 0.5;
    let quick = 0.92 - 4.2 / b;
    let odds = libm::log(p / (1.0 - p));
    let mode = ((trials + 1.0) * p).floor();
    let height = libm::lgamma(mode + 1.0) + libm::lgamma(trials - mode + 1.0);
    loop {
        let u = draws.uniform() - 0.5;
        let v = draws.uniform();
        let from_edge = 0.5 - u.abs();
        let k = ((2.0 * a / from_edge + b) * u + center).floor();
        if !(0.0..=trials).contains(&k) {
            continue;
        }
        if from_edge >= 0.07 && v <= quick {
            return k as u64;
        }
        let alpha = (2.83 + 5.1 / b) * spread;
        let accept = height - libm::lgamma(k + 1.0) - libm::lgamma(trials - k + 1.0) + (k - mode) * odds;
        if libm::log(v * alpha / (a / (from_edge * from_edge) + b)) <= accept {
            return k as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;
    use statrs::distribution::{Binomial, DiscreteCDF};

    #[test]
    fn every_branch_has_the_distribution() {
        // Waiting, rejection, coins, mirror image; 40,000 numbers each against the distribution function in the
        // middle and in both tails. A share has sd √(P(1 − P)/40,000); 5 of them: false alarm 6e-7 a share, 12 shares.
        for (i, (n, p)) in [(60u64, 0.05), (900, 0.3), (777, 0.5), (5000, 0.5), (100, 0.93)]
            .into_iter()
            .enumerate()
        {
            let law = Binomial::new(p, n).expect("a binomial");
            let mut draws = Key::root(3).fold(i as u64).draws();
            let drawn: Vec<u64> = (0..40_000)
                .map(|_| {
                    if p == 0.5 {
                        half(&mut draws, n)
                    } else {
                        binomial(&mut draws, n, p)
                    }
                })
                .collect();
            for quantile in [0.02, 0.3, 0.5, 0.9, 0.99] {
                let at = law.inverse_cdf(quantile);
                let expected = law.cdf(at);
                let share = drawn.iter().filter(|k| **k <= at).count() as f64 / 40_000.0;
                let sd = (expected * (1.0 - expected) / 40_000.0).sqrt();
                assert!(
                    (share - expected).abs() < 5.0 * sd,
                    "{n} {p} {at}: {share}, expected {expected}"
                );
            }
        }
    }
}
