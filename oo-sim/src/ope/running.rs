//! What is summed for each estimator, row after row, and for whom.

use anyhow::Result;
use oo_judge::estimators::clusters::{Positions, Totals};
use oo_judge::estimators::{Entry, Estimator, Sums, Terms, Weighted};

/// One estimator with everything that is summed for it.
pub(super) struct Running {
    pub(super) estimator: Box<dyn Estimator>,
    /// Position among what was asked for.
    pub(super) asked: usize,
    pub(super) sums: Sums,
    /// Sums by user, where the log names users.
    pub(super) totals: Totals,
}

impl Running {
    pub(super) fn new(asked: usize, entry: &Entry, parameter: Option<f64>) -> Result<Self> {
        Ok(Running {
            estimator: entry.build(parameter)?,
            asked,
            sums: Sums::new(),
            totals: Totals::default(),
        })
    }

    pub(super) fn add(&mut self, rounds: &Weighted, positions: &[u32], terms: &mut Terms) {
        self.estimator.terms(rounds, terms);
        self.sums.add(terms);
        if !positions.is_empty() {
            self.totals.add(terms, positions);
        }
    }
}

/// All estimators that share a reward model.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) running: Vec<Running>,
    /// Every row, for the bootstrap of rows.
    pub(super) kept: Weighted,
}

/// Who the rows belong to.
#[derive(Default)]
pub(super) struct Users {
    pub(super) positions: Positions,
    /// Of the rows at hand.
    pub(super) of_rows: Vec<u32>,
}

impl Users {
    /// Rows of one user, or of nobody, are taken as independent.
    pub(super) fn count(&self) -> Option<u64> {
        (self.positions.len() >= 2).then_some(self.positions.len() as u64)
    }
}

impl Users {
    /// The positions of some rows of the block; none where the log names nobody.
    pub(super) fn part(&self, start: usize, end: usize) -> &[u32] {
        self.of_rows.get(start..end).unwrap_or(&[])
    }
}

impl Lane {
    pub(super) fn add(&mut self, rounds: &Weighted, positions: &[u32], keep: bool, terms: &mut Terms) {
        for running in &mut self.running {
            running.add(rounds, positions, terms);
        }
        if keep {
            extend(&mut self.kept, rounds);
        }
    }
}

fn extend(kept: &mut Weighted, rounds: &Weighted) {
    if kept.is_empty() {
        kept.first_row = rounds.first_row;
    }
    kept.weight.extend_from_slice(&rounds.weight);
    kept.target.extend_from_slice(&rounds.target);
    kept.propensity.extend_from_slice(&rounds.propensity);
    kept.reward.extend_from_slice(&rounds.reward);
    kept.logged_q.extend_from_slice(&rounds.logged_q);
    kept.value.extend_from_slice(&rounds.value);
}
