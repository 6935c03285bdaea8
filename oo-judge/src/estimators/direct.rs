//! The direct method: trust the reward model, v = Σₐ π(a)·q̂(a), and no reward of the log.

use super::{Entry, Estimator, Terms, Weighted};

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "dm",
    summary: "direct method: the reward model's value of the target policy",
    paper: "Dudík, Langford, Li (2011), arXiv:1103.4601",
    parameter: None,
    needs_model: true,
    make: |_| Box::new(Direct),
};

/// The direct method.
pub struct Direct;

impl Estimator for Direct {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        out.mean(rounds.value.iter().map(|v| (*v, 0.0)));
    }
}
