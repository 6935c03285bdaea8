//! The rows that a model which needs several passes keeps in memory.
//!
//! Every row has a random rank by its number in the log, and a fold keeps its rows of lowest rank: a uniform sample
//! without replacement, the same in whatever blocks and order the log was read.

use super::{Plan, Row, Rows, nothing_to_learn};
use crate::Result;
use oo_core::Key;
use oo_core::spec::require;
use rayon::prelude::*;
use std::collections::BinaryHeap;

/// One fold's rows.
struct Fold {
    /// Rank and position among the rows, the highest rank first.
    ranks: BinaryHeap<(u64, usize)>,
    rows: Rows,
}

/// A capped sample of every fold.
pub struct Samples {
    cap: usize,
    key: Key,
    folds: Vec<Fold>,
}

impl Samples {
    /// Empty, for at most `rows` rows over all folds.
    ///
    /// # Errors
    /// Fewer rows than two a fold.
    pub fn new(owner: &str, rows: usize, plan: &Plan) -> Result<Self> {
        let least = 2 * plan.folds;
        require(
            rows >= least,
            owner,
            "rows",
            &format!("at least two a fold, {least} here"),
            rows,
        )?;
        let fold = || Fold {
            ranks: BinaryHeap::new(),
            rows: Rows::new(plan.shape.dim()),
        };
        Ok(Samples {
            cap: rows / plan.folds,
            key: plan.key.name("sample"),
            folds: (0..plan.folds).map(|_| fold()).collect(),
        })
    }

    /// Takes in rows.
    pub fn add(&mut self, rows: &Rows) {
        let (cap, key) = (self.cap, self.key);
        self.folds.par_iter_mut().enumerate().for_each(|(f, fold)| {
            for r in rows.iter().filter(|r| r.fold == f) {
                let rank = key.fold(r.number).bits();
                if fold.rows.len() < cap {
                    fold.ranks.push((rank, fold.rows.len()));
                    fold.rows.push(r);
                } else if let Some(mut top) = fold.ranks.peek_mut()
                    && rank < top.0
                {
                    top.0 = rank;
                    fold.rows.replace(top.1, r);
                }
            }
        });
    }

    /// The rows of all folds but `held_out`, in the order of the log, with weights brought to a mean of 1.
    ///
    /// # Errors
    /// [`Error::Empty`](crate::Error::Empty) where no row is left.
    pub fn without(&self, held_out: Option<usize>) -> Result<Sample> {
        let mut order: Vec<(u64, usize, usize)> = Vec::new();
        for (f, fold) in self.folds.iter().enumerate().filter(|(f, _)| Some(*f) != held_out) {
            order.extend(fold.rows.iter().enumerate().map(|(i, r)| (r.number, f, i)));
        }
        if order.is_empty() {
            return Err(nothing_to_learn(held_out));
        }
        order.sort_unstable();
        let kept = || order.iter().map(|&(_, f, i)| self.folds[f].rows.row(i));
        let unit = kept().map(|r| r.weight).sum::<f64>() / order.len() as f64;
        let mut sample = Sample {
            rows: Rows::new(self.folds[0].rows.dim),
            weight: 0.0,
            reward: 0.0,
        };
        for r in kept() {
            let weight = r.weight / unit;
            sample.rows.push(Row { weight, ..r });
            sample.weight += weight;
            sample.reward += weight * r.reward;
        }
        Ok(sample)
    }
}

/// Rows to learn from.
pub struct Sample {
    /// In the order of the log.
    pub rows: Rows,
    /// Σω.
    pub weight: f64,
    /// Σωr.
    pub reward: f64,
}

impl Sample {
    /// The rows of each block.
    pub fn by_block(&self, blocks: usize) -> Vec<Vec<usize>> {
        let mut rows = vec![vec![]; blocks];
        for (i, row) in self.rows.iter().enumerate() {
            rows[row.block].push(i);
        }
        rows
    }
}
