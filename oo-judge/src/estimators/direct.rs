//! The direct method: trust the reward model, v = Σₐ π(a)·q̂(a), and no reward of the log.

use super::{Bias, Entry, Estimator, Terms, Weighted, Weights};

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "dm",
    summary: "direct method: the reward model's value of the target policy",
    formula: "mean v",
    paper: "Dudík, Langford, Li (2011), arXiv:1103.4601",
    parameter: None,
    needs_model: true,
    weights: Weights::Importance,
    bias: Bias::Model,
    make: |_| Box::new(Direct),
};

/// The direct method.
pub struct Direct;

impl Estimator for Direct {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        out.reset(rounds.len());
        out.base.copy_from_slice(&rounds.value);
    }
}
