//! UCB1: mean plus √(width · ln t / pulls); an action never chosen comes first.
//!
//! Auer, Cesa-Bianchi, Fischer (2002), Figure 1, where width is 2.

use crate::greedy::argmax;
use crate::tally::tally_policy;
use oo_core::{Method, Proposal, Round};

tally_policy! { Ucb1, "ucb1", "Upper confidence bound of the mean, no features",
"Auer, Cesa-Bianchi, Fischer (2002)", {
    width = 2.0, "factor under the root, 2 in the paper; positive";
} }

impl Ucb1 {
    fn propose_from_tally(&self, round: &Round<'_>, out: Proposal<'_>) -> Method {
        let log = libm::log(self.tally.pulls().max(1.0));
        for (score, &id) in out.scores.iter_mut().zip(round.candidates.ids) {
            let arm = self.tally.arm(id);
            *score = if arm.pulls == 0.0 {
                f64::INFINITY
            } else {
                arm.mean() + (self.config.width * log / arm.pulls).sqrt()
            };
        }
        out.probs[argmax(out.scores)] = 1.0;
        Method::Exact
    }
}
