//! Switch-DR: corrects the model only where the weight is at most λ, and trusts it elsewhere. λ = 0 leaves the
//! direct method (rows of weight 0 correct nothing), λ = ∞ is DR.

use super::{Bias, Entry, Estimator, Parameter, Terms, Weighted, doubly_robust};

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "switch-dr",
    summary: "DR where weights are small, the model alone where they are large",
    formula: "mean v + w·1[w ≤ λ]·(r − q̂)",
    paper: "Wang, Agarwal, Dudík (2017), arXiv:1612.01205",
    parameter: Some(Parameter {
        name: "lambda",
        help: "largest weight with which the model is corrected (the paper's τ)",
        default: 20.0,
        low: 0.0,
        high: f64::INFINITY,
        unchanged: f64::INFINITY,
    }),
    bias: Bias::Parameter,
    make: |limit| Box::new(SwitchDr { limit }),
    ..doubly_robust::ENTRY
};

/// Switch-DR.
pub struct SwitchDr {
    /// Largest weight with which the model is corrected.
    pub limit: f64,
}

impl Estimator for SwitchDr {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        doubly_robust::corrected(rounds, out, |w| if w <= self.limit { w } else { 0.0 });
    }
}
