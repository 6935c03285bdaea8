//! Inverse propensity scoring: mean of w·r. Unbiased when propensities are right and nothing is without support;
//! clipping the weights at λ trades a bias, which can only lower the value of non-negative rewards, for variance.

use super::{Bias, Entry, Estimator, Parameter, Terms, Weighted, Weights};

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "ips",
    summary: "inverse propensity scoring: rewards times importance weights",
    formula: "mean w·r",
    paper: "Horvitz, Thompson (1952); Strehl, Langford, Li, Kakade (2010), arXiv:1003.0120",
    parameter: None,
    needs_model: false,
    weights: Weights::Importance,
    bias: Bias::None,
    make: |_| Box::new(ClippedIps { limit: f64::INFINITY }),
};

/// One line in the table: with clipped weights.
pub const CLIPPED: Entry = Entry {
    name: "ips-clipped",
    summary: "IPS with weights clipped from above",
    formula: "mean min(w, λ)·r",
    paper: "Ionides (2008), JCGS 17(2); Bottou et al. (2013), arXiv:1209.2355",
    parameter: Some(CLIP),
    bias: Bias::Parameter,
    make: |limit| Box::new(ClippedIps { limit }),
    ..ENTRY
};

/// Where weights are clipped; shared with the doubly robust form.
pub(super) const CLIP: Parameter = Parameter {
    name: "lambda",
    help: "largest weight (λ); infinity leaves all weights as they are",
    default: 20.0,
    low: 0.0,
    high: f64::INFINITY,
    unchanged: f64::INFINITY,
};

/// IPS with weights of at most `limit`.
pub struct ClippedIps {
    /// λ; infinity for plain IPS.
    pub limit: f64,
}

impl Estimator for ClippedIps {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        weighted_rewards(rounds, out, |w| w.min(self.limit));
    }
}

/// A mean of rewards times changed weights.
pub(super) fn weighted_rewards(rounds: &Weighted, out: &mut Terms, change: impl Fn(f64) -> f64) {
    out.reset(rounds.len());
    for ((num, w), r) in out.num.iter_mut().zip(&rounds.weight).zip(&rounds.reward) {
        *num = change(*w) * r;
    }
}
