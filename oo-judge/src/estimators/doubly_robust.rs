//! Doubly robust: the model's value plus the weighted errors of the model, mean of v + w·(r − q̂). Unbiased when
//! either the propensities or the model are right; its variance is that of the model's errors, not of the rewards.
//!
//! MRDR is the same sum over a model that was fitted to make this variance small: see [`fit_weight`].

use super::ips::CLIP;
use super::{Bias, Entry, Estimator, Terms, Weighted, Weights};

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "dr",
    summary: "doubly robust: the model's value, corrected by its weighted errors",
    formula: "mean v + w·(r − q̂)",
    paper: "Dudík, Langford, Li (2011), arXiv:1103.4601",
    parameter: None,
    needs_model: true,
    weights: Weights::Importance,
    bias: Bias::None,
    make: |_| Box::new(ClippedDr { limit: f64::INFINITY }),
};

/// One line in the table: with clipped weights.
pub const CLIPPED: Entry = Entry {
    name: "dr-clipped",
    summary: "DR with weights clipped from above",
    formula: "mean v + min(w, λ)·(r − q̂)",
    paper: "Su, Dimakopoulou, Krishnamurthy, Dudík (2020), arXiv:1907.09623",
    parameter: Some(CLIP),
    bias: Bias::Parameter,
    make: |limit| Box::new(ClippedDr { limit }),
    ..ENTRY
};

/// One line in the table: over a model fitted with [`fit_weight`].
pub const MORE_ROBUST: Entry = Entry {
    name: "mrdr",
    summary: "more robust DR: DR whose model is fitted with weights w²·(1 − p)",
    formula: "mean v + w·(r − q̂), q̂ fitted for least variance",
    paper: "Farajtabar, Chow, Ghavamzadeh (2018), arXiv:1802.03493",
    ..ENTRY
};

/// DR with weights of at most `limit`.
pub struct ClippedDr {
    /// λ; infinity for plain DR.
    pub limit: f64,
}

impl Estimator for ClippedDr {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        corrected(rounds, out, |w| w.min(self.limit));
    }
}

/// The model's value plus its errors times changed weights.
pub(super) fn corrected(rounds: &Weighted, out: &mut Terms, change: impl Fn(f64) -> f64) {
    out.reset(rounds.len());
    out.base.copy_from_slice(&rounds.value);
    let logged = rounds.weight.iter().zip(&rounds.reward).zip(&rounds.logged_q);
    for (num, ((w, r), q)) in out.num.iter_mut().zip(logged) {
        *num = change(*w) * (r - q);
    }
}

/// The weight of a logged row in the regression of MRDR's reward model: w²·(1 − p), with w = `target` / `propensity`.
///
/// Given the context, the variance of w·(r − q̂) is E[w²(r − q̂)²] − (E[w(r − q̂)])². For a deterministic target one
/// action alone counts, with w = 1/p, and the sum over the log of w²(1 − p)(r − q̂)² is an unbiased estimate of that
/// variance: the paper's (1 − p)/p². For a stochastic target this keeps the diagonal of the paper's quadratic form,
/// so that any weighted least-squares or logistic regression can do the fitting.
pub fn fit_weight(target: f64, propensity: f64) -> f64 {
    let w = target / propensity;
    w * w * (1.0 - propensity)
}
