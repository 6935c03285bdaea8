//! DR with optimistic shrinkage (DRos): weights λ·w/(w² + λ) minimise a bound on the error over all weights, for
//! rewards of any size. λ = 0 is the direct method, λ = ∞ is DR.

use super::{Bias, Entry, Estimator, Parameter, Terms, Weighted, doubly_robust};

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "dr-os",
    summary: "DR with optimistic shrinkage of the weights",
    formula: "mean v + λw/(w² + λ)·(r − q̂)",
    paper: "Su, Dimakopoulou, Krishnamurthy, Dudík (2020), arXiv:1907.09623",
    parameter: Some(Parameter {
        name: "lambda",
        help: "weights well above √λ are shrunk, no changed weight is above √λ/2 (λ)",
        default: 100.0,
        low: 0.0,
        high: f64::INFINITY,
        unchanged: f64::INFINITY,
    }),
    bias: Bias::Parameter,
    make: |lambda| Box::new(DrShrinkage { lambda }),
    ..doubly_robust::ENTRY
};

/// DR with optimistic shrinkage.
pub struct DrShrinkage {
    /// λ.
    pub lambda: f64,
}

impl Estimator for DrShrinkage {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        let lambda = self.lambda;
        // At the limits the formula would be ∞/∞ and 0/0.
        if lambda == f64::INFINITY {
            doubly_robust::corrected(rounds, out, |w| w);
        } else if lambda == 0.0 {
            doubly_robust::corrected(rounds, out, |_| 0.0);
        } else {
            doubly_robust::corrected(rounds, out, |w| lambda * w / (w * w + lambda));
        }
    }
}
