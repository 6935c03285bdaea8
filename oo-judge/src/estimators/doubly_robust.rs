//! Doubly robust: the model's value plus the weighted errors of the model, mean of v + w·(r − q̂). Unbiased when
//! either the propensities or the model are right; its variance is that of the model's errors, not of the rewards.

use super::{Entry, Estimator, Terms, Weighted};

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "dr",
    summary: "doubly robust: the model's value, corrected by its weighted errors",
    paper: "Dudík, Langford, Li (2011), arXiv:1103.4601",
    parameter: None,
    needs_model: true,
    make: |_| Box::new(DoublyRobust),
};

/// Doubly robust.
pub struct DoublyRobust;

impl Estimator for DoublyRobust {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        corrected(rounds, out, |w| w);
    }
}

/// The model's value plus its errors times changed weights.
pub(super) fn corrected(rounds: &Weighted, out: &mut Terms, change: impl Fn(f64) -> f64) {
    let errors = rounds.reward.iter().zip(&rounds.logged_q).map(|(r, q)| r - q);
    out.mean(
        rounds
            .value
            .iter()
            .zip(rounds.weight.iter().zip(errors))
            .map(|(v, (w, error))| (*v, change(*w) * error)),
    );
}
