//! Thompson sampling with a Beta posterior an action, and the probabilities instead of one draw.
//!
//! The posterior of an action's mean is Beta(a + Σr, b + pulls − Σr); the candidate is chosen with the
//! probability that its mean is the largest, by quadrature (see [`best_arm`](crate::best_arm)). Rewards between
//! 0 and 1 count as fractions of a success.
//!
//! Thompson (1933); Chapelle, Li (2011), Algorithm 2. Departs from it: fractional rewards are added, where
//! Agrawal and Goyal (2012) toss a coin; the posterior mean is the same and nothing random is stored.

use crate::best_arm::{Arms, Beta, probabilities};
use crate::tally::tally_policy;
use oo_core::{Method, Proposal, Round};

tally_policy! { BetaTs, "beta-ts", "Thompson sampling on Beta posteriors, no features, computed propensities",
"Chapelle, Li (2011)", {
    a = 1.0, "prior successes; at least 1";
    b = 1.0, "prior failures; at least 1";
} }

impl BetaTs {
    fn propose_from_tally(&self, round: &Round<'_>, out: Proposal<'_>) -> Method {
        let (a, b) = (self.config.a.max(1.0), self.config.b.max(1.0));
        let posterior = |id| {
            let arm = self.tally.arm(id);
            (a + arm.sum, b + arm.pulls - arm.sum)
        };
        for (score, &id) in out.scores.iter_mut().zip(round.candidates.ids) {
            let (a, b) = posterior(id);
            *score = a / (a + b);
        }
        let mut arms = Arms::default();
        for &id in round.candidates.ids {
            let (a, b) = posterior(id);
            arms.push(Beta::new(a, b));
        }
        probabilities(arms.as_slice(), out.probs, out.scratch);
        Method::Quadrature
    }
}
