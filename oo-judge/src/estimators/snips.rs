//! Self-normalised estimators: divided by the sum of the weights instead of by n.
//!
//! Adding a constant to every reward adds it to SNIPS, which IPS does not do; the price is a bias of order 1/n.

use super::{Bias, Entry, Estimator, Terms, Weighted, Weights};

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "snips",
    summary: "self-normalised IPS: rewards averaged with importance weights",
    formula: "Σ w·r / Σ w",
    paper: "Swaminathan, Joachims (2015), NeurIPS 28",
    parameter: None,
    needs_model: false,
    weights: Weights::Importance,
    bias: Bias::Vanishing,
    make: |_| Box::new(Snips),
};

/// One line in the table: the doubly robust form.
pub const DOUBLY_ROBUST: Entry = Entry {
    name: "sndr",
    summary: "self-normalised DR: the model's value plus its averaged errors",
    formula: "mean v + Σ w·(r − q̂) / Σ w",
    paper: "Thomas, Brunskill (2016), arXiv:1604.00923; Robins et al. (2007), Statistical Science 22(4)",
    needs_model: true,
    make: |_| Box::new(Sndr),
    ..ENTRY
};

/// Self-normalised IPS.
pub struct Snips;

impl Estimator for Snips {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        out.reset(rounds.len());
        out.den.copy_from_slice(&rounds.weight);
        for ((num, w), r) in out.num.iter_mut().zip(&rounds.weight).zip(&rounds.reward) {
            *num = w * r;
        }
    }
}

/// Self-normalised DR.
pub struct Sndr;

impl Estimator for Sndr {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        super::doubly_robust::corrected(rounds, out, |w| w);
        out.den.copy_from_slice(&rounds.weight);
    }
}
