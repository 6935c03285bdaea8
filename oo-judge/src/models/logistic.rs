//! Logistic regression, one a block, for rewards in [0, 1].
//!
//! Minimises Σ ωᵢ [log(1 + eˢ) − rᵢ sᵢ] / ω̄ + λ|θ|²/2 with s = o + θᵀz, by Newton's steps, each halved until it does
//! not climb; o is the log-odds of the weighted mean reward, so that what the data do not say is the mean. A reward
//! between 0 and 1 counts as a share of successes.
//!
//! Newton's steps go over the rows again and again, so each fold keeps a [`Sample`] of at most `rows / folds` of its
//! rows. linfa-logistic 0.8 reaches the same minimum (tested) but takes neither weights nor shares of successes and
//! refuses a fold in which every reward is the same; Newton's steps also need a tenth of the passes of its L-BFGS.

use super::cholesky::{add_outer, row, solve};
use super::linear::products;
use super::sample::{Sample, Samples};
use super::{Build, Fitted, Made, Model, Plan, Rows, inputs::Offer};
use crate::{Error, Result};
use oo_core::registry::OptionHelp;
use oo_core::spec::require;
use serde::{Deserialize, Serialize};

/// The options of `logistic`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Penalty λ.
    pub lambda: f64,
    /// Rows kept, over all folds.
    pub rows: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            lambda: 1.0,
            rows: 100_000,
        }
    }
}

/// See the module.
pub struct Logistic {
    lambda: f64,
    dim: usize,
    blocks: usize,
    samples: Samples,
}

impl Build for Logistic {
    const NAME: &'static str = "logistic";
    const SUMMARY: &'static str = "logistic regression for rewards in [0, 1], of every arm alone where candidates have \
                                   no features";
    const PAPER: &'static str = "Cox (1958)";
    const OPTIONS: &'static [OptionHelp] = &[
        ("lambda", "ridge penalty; above 0"),
        (
            "rows",
            "rows kept to learn from, drawn by the seed where the log has more; at least 2",
        ),
    ];
    type Config = Config;

    fn build(config: Config, plan: &Plan) -> Result<Made> {
        let ok = config.lambda > 0.0 && config.lambda.is_finite();
        require(ok, Self::NAME, "lambda", "a number above 0", config.lambda)?;
        Ok(Some(Box::new(Logistic {
            lambda: config.lambda,
            dim: plan.shape.dim(),
            blocks: plan.shape.blocks(),
            samples: Samples::new(Self::NAME, config.rows, plan)?,
        })))
    }
}

impl Model for Logistic {
    fn add(&mut self, rows: &Rows) -> Result<()> {
        if let Some(r) = rows.iter().find(|r| !(0.0..=1.0).contains(&r.reward)) {
            return Err(Error::Row {
                row: r.number,
                column: "reward",
                expected: "a reward in [0, 1], since the reward model is `logistic`; `linear` takes any".into(),
                got: r.reward.to_string(),
            });
        }
        self.samples.add(rows);
        Ok(())
    }

    fn fit(&self, held_out: Option<usize>) -> Result<Box<dyn Fitted>> {
        let sample = self.samples.without(held_out)?;
        let odds = (sample.reward + 0.5) / (sample.weight - sample.reward + 0.5);
        let offset = libm::log(odds);
        let mut theta = vec![0.0; self.blocks * self.dim];
        for (block, rows) in sample.by_block(self.blocks).iter().enumerate() {
            let theta = &mut theta[block * self.dim..(block + 1) * self.dim];
            descend(&sample, rows, offset, self.lambda, theta)?;
        }
        Ok(Box::new(Curves {
            offset,
            theta,
            dim: self.dim,
        }))
    }
}

fn sigmoid(s: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-s))
}

/// log(1 + eˢ) without overflow.
fn softplus(s: f64) -> f64 {
    s.max(0.0) + libm::log1p(libm::exp(-s.abs()))
}

/// Newton's method on the given rows of a sample, from θ = 0.
fn descend(sample: &Sample, rows: &[usize], offset: f64, lambda: f64, theta: &mut [f64]) -> Result<()> {
    /// Far more than the handful that a penalised likelihood needs.
    const STEPS: usize = 50;
    let d = theta.len();
    let score = |theta: &[f64], z: &[f32]| offset + theta.iter().zip(z).map(|(t, &z)| t * f64::from(z)).sum::<f64>();
    let loss = |theta: &[f64]| -> f64 {
        let fit: f64 = rows
            .iter()
            .map(|&i| {
                let r = sample.rows.row(i);
                let s = score(theta, r.z);
                r.weight * (softplus(s) - r.reward * s)
            })
            .sum();
        fit + 0.5 * lambda * theta.iter().map(|t| t * t).sum::<f64>()
    };
    let mut now = loss(theta);
    let (mut gradient, mut hessian) = (vec![0.0; d], vec![0.0; row(d)]);
    for _ in 0..STEPS {
        hessian.fill(0.0);
        for (i, (g, &t)) in gradient.iter_mut().zip(theta.iter()).enumerate() {
            *g = lambda * t;
            hessian[row(i) + i] = lambda;
        }
        for &i in rows {
            let r = sample.rows.row(i);
            let p = sigmoid(score(theta, r.z));
            let residual = r.weight * (p - r.reward);
            gradient
                .iter_mut()
                .zip(r.z)
                .for_each(|(g, &z)| *g += residual * f64::from(z));
            add_outer(&mut hessian, r.weight * p * (1.0 - p), r.z);
        }
        let mut step = gradient.clone();
        solve(&mut hessian, &mut step)?;
        // Twice the descent that the quadratic promises.
        let promised: f64 = step.iter().zip(&gradient).map(|(s, g)| s * g).sum();
        if promised <= 1e-12 * (1.0 + now.abs()) {
            break;
        }
        let mut length = 1.0;
        let (next, reached) = loop {
            let next: Vec<f64> = theta.iter().zip(&step).map(|(t, s)| t - length * s).collect();
            let reached = loss(&next);
            if reached <= now || length < 1e-6 {
                break (next, reached);
            }
            length *= 0.5;
        };
        if reached > now {
            break;
        }
        theta.copy_from_slice(&next);
        now = reached;
    }
    Ok(())
}

/// Fitted log-odds.
struct Curves {
    offset: f64,
    theta: Vec<f64>,
    dim: usize,
}

impl Fitted for Curves {
    fn predict(&self, offer: &Offer<'_>, scratch: &mut Vec<f32>, out: &mut [f64]) -> Result<()> {
        products(&self.theta, self.dim, offer, scratch, out);
        out.iter_mut().for_each(|q| *q = sigmoid(self.offset + *q));
        Ok(())
    }
}
