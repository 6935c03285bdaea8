//! Ridge regression, one a block, on sufficient statistics.
//!
//! Minimises Σ ωᵢ (rᵢ − m − θᵀzᵢ)² / ω̄ + λ|θ|², where m is the weighted mean reward and ω̄ the mean weight: what the
//! data do not say is the mean, and λ counts rows whatever the scale of the weights.
//!
//! Each fold keeps Σωzzᵀ and Σωzr, so one pass over a log of any length serves all folds, in folds × blocks × d²/2
//! numbers. linfa-linear 0.8 was read for this: it has no penalty and no weights, and wants all rows in memory.
//!
//! Hoerl, Kennard (1970).

use super::cholesky::{add_outer, row, solve};
use super::{Build, Fitted, Made, Model, Plan, Rows, inputs::Offer};
use crate::Result;
use oo_core::registry::OptionHelp;
use oo_core::spec::require;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The options of `linear`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Penalty λ.
    pub lambda: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config { lambda: 1.0 }
    }
}

/// Σω, the number of rows, Σωzzᵀ (packed) and Σωzr of one block in one fold.
#[derive(Clone, Default)]
struct Moments {
    rows: f64,
    weight: f64,
    outer: Vec<f64>,
    reward: Vec<f64>,
}

impl Moments {
    fn merge(&mut self, other: &Moments) {
        if other.rows == 0.0 {
            return;
        }
        self.outer.resize(other.outer.len(), 0.0);
        self.reward.resize(other.reward.len(), 0.0);
        self.rows += other.rows;
        self.weight += other.weight;
        self.outer.iter_mut().zip(&other.outer).for_each(|(a, b)| *a += b);
        self.reward.iter_mut().zip(&other.reward).for_each(|(a, b)| *a += b);
    }
}

/// See the module.
pub struct Linear {
    lambda: f64,
    dim: usize,
    /// Blocks by fold; vectors stay empty until a row comes.
    folds: Vec<Vec<Moments>>,
}

impl Build for Linear {
    const NAME: &'static str = "linear";
    const SUMMARY: &'static str = "ridge regression, of every arm alone where candidates have no features";
    const PAPER: &'static str = "Hoerl, Kennard (1970)";
    const OPTIONS: &'static [OptionHelp] = &[("lambda", "ridge penalty, in rows; above 0")];
    type Config = Config;

    fn build(config: Config, plan: &Plan) -> Result<Made> {
        let ok = config.lambda > 0.0 && config.lambda.is_finite();
        require(ok, Self::NAME, "lambda", "a number above 0", config.lambda)?;
        Ok(Some(Box::new(Linear {
            lambda: config.lambda,
            dim: plan.shape.dim(),
            folds: vec![vec![Moments::default(); plan.shape.blocks()]; plan.folds],
        })))
    }
}

impl Model for Linear {
    fn add(&mut self, rows: &Rows) -> Result<()> {
        let dim = self.dim;
        // A fold's sums heed the order of its own rows only, so the bits depend on no thread.
        self.folds.par_iter_mut().enumerate().for_each(|(fold, blocks)| {
            for r in rows.iter().filter(|r| r.fold == fold) {
                let sums = &mut blocks[r.block];
                sums.outer.resize(row(dim), 0.0);
                sums.reward.resize(dim, 0.0);
                sums.rows += 1.0;
                sums.weight += r.weight;
                add_outer(&mut sums.outer, r.weight, r.z);
                let scale = r.weight * r.reward;
                sums.reward
                    .iter_mut()
                    .zip(r.z)
                    .for_each(|(s, &z)| *s += scale * f64::from(z));
            }
        });
        Ok(())
    }

    fn fit(&self, held_out: Option<usize>) -> Result<Box<dyn Fitted>> {
        let mut blocks = vec![Moments::default(); self.folds[0].len()];
        for (_, fold) in self.folds.iter().enumerate().filter(|(f, _)| Some(*f) != held_out) {
            blocks.iter_mut().zip(fold).for_each(|(sum, part)| sum.merge(part));
        }
        let (mut rows, mut weight, mut reward) = (0.0, 0.0, 0.0);
        for block in &blocks {
            rows += block.rows;
            weight += block.weight;
            // z begins with the constant 1.
            reward += block.reward.first().copied().unwrap_or(0.0);
        }
        if weight <= 0.0 {
            return Err(super::nothing_to_learn(held_out));
        }
        let (mean, unit) = (reward / weight, weight / rows);
        let mut theta = vec![0.0; blocks.len() * self.dim];
        for (block, theta) in blocks.iter_mut().zip(theta.chunks_exact_mut(self.dim)) {
            if block.rows == 0.0 {
                continue;
            }
            for i in 0..self.dim {
                // Column 0 of Σωzzᵀ is Σωz.
                theta[i] = (block.reward[i] - mean * block.outer[row(i)]) / unit;
            }
            block.outer.iter_mut().for_each(|a| *a /= unit);
            for i in 0..self.dim {
                block.outer[row(i) + i] += self.lambda;
            }
            solve(&mut block.outer, theta)?;
        }
        Ok(Box::new(Planes {
            mean,
            theta,
            dim: self.dim,
        }))
    }
}

/// A fitted mean and its slopes.
struct Planes {
    mean: f64,
    theta: Vec<f64>,
    dim: usize,
}

impl Fitted for Planes {
    fn predict(&self, offer: &Offer<'_>, scratch: &mut Vec<f32>, out: &mut [f64]) -> Result<()> {
        products(&self.theta, self.dim, offer, scratch, out);
        out.iter_mut().for_each(|q| *q += self.mean);
        Ok(())
    }
}

/// θᵀz of every candidate, θ being that of its block.
pub(super) fn products(theta: &[f64], dim: usize, offer: &Offer<'_>, scratch: &mut Vec<f32>, out: &mut [f64]) {
    for (i, out) in out.iter_mut().enumerate() {
        if i == 0 || !offer.is_shared() {
            offer.write(i, scratch);
        }
        let from = offer.block(i) * dim;
        *out = theta[from..from + dim]
            .iter()
            .zip(scratch.iter())
            .map(|(t, &z)| t * f64::from(z))
            .sum();
    }
}
