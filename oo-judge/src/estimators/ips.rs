//! Inverse propensity scoring: mean of w·r. Unbiased when propensities are right and nothing is without support.

use super::{Entry, Estimator, Terms, Weighted};

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "ips",
    summary: "inverse propensity scoring: rewards times importance weights",
    paper: "Horvitz, Thompson (1952); Strehl, Langford, Li, Kakade (2010), arXiv:1003.0120",
    parameter: None,
    needs_model: false,
    make: |_| Box::new(Ips),
};

/// Inverse propensity scoring.
pub struct Ips;

impl Estimator for Ips {
    fn terms(&self, rounds: &Weighted, out: &mut Terms) {
        weighted_rewards(rounds, out, |w| w);
    }
}

/// A mean of rewards times changed weights.
pub(super) fn weighted_rewards(rounds: &Weighted, out: &mut Terms, change: impl Fn(f64) -> f64) {
    out.mean(
        rounds
            .weight
            .iter()
            .zip(&rounds.reward)
            .map(|(w, r)| (0.0, change(*w) * r)),
    );
}
