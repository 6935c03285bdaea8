//! Sub-Gaussian weights w/(1 − λ + λw): a harmonic mean of w and 1, so at most 1/λ, differentiable, and with errors
//! that concentrate like a normal's. λ = 0 leaves the weights, λ = 1 sets all of them to 1.

use super::{Bias, Entry, Estimator, Parameter, Terms, Weighted, doubly_robust, ips};

const PARAMETER: Parameter = Parameter {
    name: "lambda",
    help: "share of 1 in the harmonic mean of weight and 1 (λ)",
    default: 0.01,
    low: 0.0,
    high: 1.0,
    unchanged: 0.0,
};

/// One line in the table.
pub const IPS: Entry = Entry {
    name: "sg-ips",
    summary: "IPS with sub-Gaussian weights",
    formula: "mean w/(1 − λ + λw)·r",
    paper: "Metelli, Russo, Restelli (2021), NeurIPS 34",
    parameter: Some(PARAMETER),
    bias: Bias::Parameter,
    make: |lambda| Box::new(SubGaussianIps { lambda }),
    ..ips::ENTRY
};

/// One line in the table: the doubly robust form.
pub const DR: Entry = Entry {
    name: "sg-dr",
    summary: "DR with sub-Gaussian weights",
    formula: "mean v + w/(1 − λ + λw)·(r − q̂)",
    paper: "Metelli, Russo, Restelli (2021), NeurIPS 34",
    parameter: Some(PARAMETER),
    bias: Bias::Parameter,
    make: |lambda| Box::new(SubGaussianDr { lambda }),
    ..doubly_robust::ENTRY
};

fn harmonic(lambda: f64) -> impl Fn(f64) -> f64 {
    // At λ = 1 a weight of 0 would be 0/0; its limit from below is 0.
    move |w| if w > 0.0 { w / (1.0 - lambda + lambda * w) } else { 0.0 }
}

/// IPS with sub-Gaussian weights.
pub struct SubGaussianIps {
    /// λ in [0, 1].
    pub lambda: f64,
}

impl Estimator for SubGaussianIps {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        ips::weighted_rewards(rounds, out, harmonic(self.lambda));
    }
}

/// DR with sub-Gaussian weights.
pub struct SubGaussianDr {
    /// λ in [0, 1].
    pub lambda: f64,
}

impl Estimator for SubGaussianDr {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        doubly_robust::corrected(rounds, out, harmonic(self.lambda));
    }
}
