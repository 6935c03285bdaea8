//! Replay (rejection sampling): the mean reward of the rows in which the target policy, drawing for itself, would have
//! chosen the logged action. Unbiased when the log was drawn uniformly; with another logger it estimates the value of
//! the product of both policies, so it is a check for uniform logs and not a substitute for weights.
//!
//! A draw by inversion that puts the logged action first hits it exactly when u < π(a). So a row needs one uniform
//! number, from its key, and its choice is the target's own: always and never where the target is deterministic.

use super::{Bias, Entry, Estimator, Terms, Weighted, ips};
use oo_core::Key;

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "replay",
    summary: "mean reward where the target's own draw is the logged action",
    formula: "Σ 1[a′ = a]·r / Σ 1[a′ = a], a′ ~ π",
    paper: "Li, Chu, Langford, Wang (2011), arXiv:1003.5956",
    bias: Bias::Logging,
    make: |_| {
        Box::new(Replay {
            key: Key::root(0).name("replay"),
        })
    },
    ..ips::ENTRY
};

/// Replay, with the key of the target's draws.
pub struct Replay {
    /// Folded by the number of the row.
    pub key: Key,
}

impl Estimator for Replay {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        out.reset(rounds.len());
        for (i, (target, r)) in rounds.target.iter().zip(&rounds.reward).enumerate() {
            let hit = self.key.fold(rounds.first_row + i as u64).uniform() < *target;
            out.den[i] = f64::from(u8::from(hit));
            out.num[i] = if hit { *r } else { 0.0 };
        }
    }
}
