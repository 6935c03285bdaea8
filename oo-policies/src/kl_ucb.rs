//! KL-UCB: the largest q with pulls · kl(mean, q) ≤ ln t + c · ln ln t, kl between Bernoulli distributions.
//!
//! Garivier, Cappé (2011), arXiv:1102.2490, Algorithm 1; c = 0 is what they recommend in practice, and what is
//! used here.

use crate::greedy::argmax;
use crate::tally::tally_policy;
use oo_core::{Method, Proposal, Round};

tally_policy! { KlUcb, "kl-ucb", "Kullback-Leibler upper confidence bound of the mean, no features",
"Garivier, Cappé (2011), arXiv:1102.2490", {
    scale = 1.0, "factor before ln t, 1 in the paper; positive";
} }

/// p ln(p/q) + (1−p) ln((1−p)/(1−q)), with 0 ln 0 = 0.
fn kl(p: f64, q: f64) -> f64 {
    let term = |a: f64, b: f64| if a > 0.0 { a * libm::log(a / b) } else { 0.0 };
    term(p, q) + term(1.0 - p, 1.0 - q)
}

/// The largest q in [mean, 1] with kl(mean, q) ≤ bound, by bisection to 2⁻⁵⁰.
fn upper(mean: f64, bound: f64) -> f64 {
    let (mut low, mut high) = (mean, 1.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if kl(mean, middle) <= bound {
            low = middle
        } else {
            high = middle
        }
    }
    low
}

impl KlUcb {
    fn propose_from_tally(&self, round: &Round<'_>, out: Proposal<'_>) -> Method {
        let log = self.config.scale * libm::log(self.tally.pulls().max(1.0));
        for (score, &id) in out.scores.iter_mut().zip(round.candidates.ids) {
            let arm = self.tally.arm(id);
            *score = if arm.pulls == 0.0 {
                f64::INFINITY
            } else {
                upper(arm.mean(), log / arm.pulls)
            };
        }
        out.probs[argmax(out.scores)] = 1.0;
        Method::Exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_bound_solves_its_equation() {
        for (mean, bound) in [(0.0, 0.1), (0.5, 0.3), (0.9, 2.0)] {
            let q = upper(mean, bound);
            assert!(
                (kl(mean, q) - bound).abs() < 1e-9 || q > 1.0 - 1e-9,
                "{mean} {bound} {q}"
            );
        }
    }
}
