//! Self-normalised IPS: Σw·r / Σw. Adding a constant to every reward adds it to the estimate, which plain IPS does
//! not do; the price is a bias of order 1/n.

use super::{Entry, Estimator, Terms, Weighted};

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "snips",
    summary: "self-normalised IPS: rewards averaged with importance weights",
    paper: "Swaminathan, Joachims (2015), NeurIPS 28",
    parameter: None,
    needs_model: false,
    make: |_| Box::new(Snips),
};

/// Self-normalised IPS.
pub struct Snips;

impl Estimator for Snips {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        out.ratio(rounds.weight.iter().zip(&rounds.reward).map(|(w, r)| (0.0, w * r, *w)));
    }
}
