//! Thompson sampling on logistic regression, with computed propensities.
//!
//! Rewards are chances: p = σ(θᵀx) of (r − low)/(high − low), clipped to [0, 1]. The posterior of θ is kept as a
//! normal with a diagonal covariance, N(m, 1/q) coordinate by coordinate, from N(0, 1/λ) on. A row moves m to the
//! mode of posterior × likelihood and adds p(1 − p)x² to q there (Laplace). σ is monotone, so the best candidate of a
//! posterior draw is the one of largest θᵀx, which is normal with mean mᵀx and variance `scale`² · Σ x²/q:
//!
//! - disjoint: the candidates are independent and the probabilities are integrals (see
//!   [`best_arm`](crate::best_arm));
//! - shared: relative frequencies of `draws` draws (see [`best_joint`]).
//!
//! A round costs n·d, and n·d a draw where shared; an update d. The mode costs one scalar equation, since a single
//! row moves m along x/q.
//!
//! Chapelle, Li (2011), Algorithm 3. Departs from it: one row at a time instead of batches; fractions count as the
//! log-likelihood's linear mix of success and failure.

use crate::best_arm::{Arms, Normal, probabilities};
use crate::best_joint;
use crate::regress::Model;
use crate::regress::first_order::{implicit, sigmoid};
use crate::regress::symmetric::{dot, padded};
use crate::state::{Reader, Writer};
use oo_core::features::Columns;
use oo_core::key::hash_name;
use oo_core::registry::OptionHelp;
use oo_core::{ActionId, Batch, Build, Error, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    scale: f64,
    lambda: f64,
    low: f64,
    high: f64,
    model: Model,
    draws: u32,
    features: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            scale: 0.5,
            lambda: 1.0,
            low: 0.0,
            high: 1.0,
            model: Model::Auto,
            draws: 256,
            features: "all".into(),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct LogisticTs {
    config: Config,
    shared: bool,
    columns: Columns,
    slots: BTreeMap<ActionId, usize>,
    /// The m of each arm and then its q, padded.
    arms: Vec<Vec<f64>>,
    blank: Vec<f64>,
    row: Vec<f64>,
    layout: String,
}

impl Build for LogisticTs {
    const NAME: &'static str = "logistic-ts";
    const SUMMARY: &'static str = "Thompson sampling on logistic regression, with computed propensities";
    const PAPER: &'static str = "Chapelle, Li (2011), Algorithm 3";
    const OPTIONS: &'static [OptionHelp] = &[
        (
            "scale",
            "factor on the posterior's standard deviations, the paper's α; positive",
        ),
        ("lambda", "prior precision of the weights; positive"),
        ("low", "the reward that counts as failure; lower ones are clipped"),
        ("high", "the reward that counts as success; higher ones are clipped"),
        ("model", "auto, shared (one weight vector) or disjoint (one an action)"),
        (
            "draws",
            "posterior draws behind the probabilities of a shared model; 1 to 1000000",
        ),
        ("features", "all, or a feature spec of the tips world: v0, v1, v2, v3"),
    ];
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        require(positive(c.scale), Self::NAME, "scale", "a positive number", c.scale)?;
        require(positive(c.lambda), Self::NAME, "lambda", "a positive number", c.lambda)?;
        let range = c.low < c.high && c.low.is_finite() && c.high.is_finite();
        require(range, Self::NAME, "low", "a number below `high`", c.low)?;
        let some = (1..=1_000_000).contains(&c.draws);
        require(some, Self::NAME, "draws", "1 to 1000000", c.draws)?;
        let columns = Columns::new(Self::NAME, shape, &c.features)?;
        let unfit = |why: &str| {
            Err(Error::Unfit {
                owner: Self::NAME.into(),
                why: why.into(),
            })
        };
        if columns.dim() == 0 {
            return unfit("it learns from features and this environment has none; use beta-ts");
        }
        let shared = match c.model {
            Model::Auto => columns.varies(),
            Model::Shared => true,
            Model::Disjoint => false,
            Model::Hybrid => return unfit("it has no hybrid model; use model=shared or model=disjoint"),
        };
        if shared && !columns.varies() {
            return unfit("its shared weights cannot tell candidates without features apart; use model=disjoint");
        }
        let len = padded(columns.dim());
        let mut blank = vec![0.0; 2 * len];
        blank[len..].fill(c.lambda);
        Ok(LogisticTs {
            layout: format!(
                "logistic {} weights over {} features (spec {:016x})",
                if shared { "Shared" } else { "Disjoint" },
                columns.dim(),
                hash_name(&columns.names().join(",")),
            ),
            config: c,
            shared,
            columns,
            slots: BTreeMap::new(),
            arms: Vec::new(),
            blank,
            row: vec![0.0; len],
        })
    }
}

/// mᵀx and Σ x²/q.
fn marginal(arm: &[f64], x: &[f64]) -> (f64, f64) {
    let (mean, precision) = arm.split_at(x.len());
    let variance = x.iter().zip(precision).map(|(x, q)| x * x / q).sum();
    (dot(mean, x), variance)
}

/// Learns that x came with the fraction `y` of a success.
fn learn(arm: &mut [f64], x: &[f64], y: f64) {
    let (z, variance) = marginal(arm, x);
    let delta = implicit(y, z, 1.0, variance);
    let p = sigmoid(z + delta * variance);
    let (mean, precision) = arm.split_at_mut(x.len());
    for ((m, q), x) in mean.iter_mut().zip(precision).zip(x) {
        *m += delta * x / *q;
        *q += p * (1.0 - p) * x * x;
    }
}

impl LogisticTs {
    /// A shared model is the arm of action 0.
    fn key(&self, id: ActionId) -> ActionId {
        if self.shared { ActionId(0) } else { id }
    }

    fn arm(&self, id: ActionId) -> &[f64] {
        self.slots
            .get(&self.key(id))
            .map_or(&self.blank, |&slot| &self.arms[slot])
    }

    fn propose_shared(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Method {
        let (n, len) = (round.candidates.len(), self.row.len());
        let arm = self.arm(ActionId(0));
        let (mean, precision) = arm.split_at(len);
        out.scratch.clear();
        out.scratch
            .resize(len + n * len + n + best_joint::factor_work(n, len), 0.0);
        let (x, rest) = out.scratch.split_at_mut(len);
        let (factor, rest) = rest.split_at_mut(n * len);
        let (means, work) = rest.split_at_mut(n);
        for (i, factor) in factor.chunks_exact_mut(len).enumerate() {
            self.columns.gather(round, i, &mut x[..self.columns.dim()]);
            means[i] = dot(mean, x);
            out.scores[i] = self.reward(means[i]);
            for ((f, x), q) in factor.iter_mut().zip(&*x).zip(precision) {
                *f = self.config.scale * x / q.sqrt();
            }
        }
        best_joint::by_factor(means, (factor, len), &[], self.config.draws, key, out.probs, work)
    }

    fn reward(&self, z: f64) -> f64 {
        self.config.low + (self.config.high - self.config.low) * sigmoid(z)
    }
}

impl Policy for LogisticTs {
    fn propose(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method> {
        if self.shared {
            return Ok(self.propose_shared(round, key, out));
        }
        let dim = self.columns.dim();
        out.scratch.clear();
        out.scratch.resize(self.row.len(), 0.0);
        let mut arms = Arms::default();
        for (i, &id) in round.candidates.ids.iter().enumerate() {
            if self.columns.varies() || i == 0 {
                self.columns.gather(round, i, &mut out.scratch[..dim]);
            }
            let (mean, variance) = marginal(self.arm(id), out.scratch);
            out.scores[i] = self.reward(mean);
            let sd = self.config.scale * variance.sqrt();
            arms.push(Normal { mean, sd });
        }
        probabilities(arms.as_slice(), out.probs, out.scratch);
        Ok(Method::Quadrature)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        let Config { low, high, .. } = self.config;
        for (row, reward) in batch.iter() {
            let key = self.key(row.action());
            let slot = *self.slots.entry(key).or_insert_with(|| {
                self.arms.push(self.blank.clone());
                self.arms.len() - 1
            });
            let dim = self.columns.dim();
            self.columns.gather(&row.round, row.chosen, &mut self.row[..dim]);
            let y = ((reward - low) / (high - low)).clamp(0.0, 1.0);
            learn(&mut self.arms[slot], &self.row, y);
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, &*self.layout);
        w.features(self.columns.names());
        w.u64s("actions", self.slots.keys().map(|id| id.0));
        w.u64s("slots", self.slots.values().map(|&slot| slot as u64));
        w.f64s("arms", self.arms.iter().flatten());
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, &self.layout, bytes)?;
        let (actions, slots, values) = (r.u64s("actions")?, r.u64s("slots")?, r.f64s("arms")?);
        let size = self.blank.len();
        let within = |slot: &u64| (*slot as usize) < actions.len();
        if values.len() != size * actions.len() || slots.len() != actions.len() || !slots.iter().all(within) {
            return Err(r.refuse("its arms do not match its actions"));
        }
        r.finish()?;
        let slots = slots.into_iter().map(|s| s as usize);
        self.arms = values.chunks_exact(size).map(<[f64]>::to_vec).collect();
        self.slots = actions.into_iter().map(ActionId).zip(slots).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_moves_to_the_mode_and_adds_the_curvature() {
        let mut arm = vec![0.0; 16];
        arm[..8].copy_from_slice(&[0.3, -0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0]);
        arm[8..].fill(2.0);
        let x = [1.0, -2.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0];
        let before = arm.clone();
        learn(&mut arm, &x, 1.0);
        let p = sigmoid(dot(&arm[..8], &x));
        for j in 0..8 {
            // The gradient of ½ q (w − m)² − ln σ(wᵀx) is 0.
            let gradient = before[8 + j] * (arm[j] - before[j]) - (1.0 - p) * x[j];
            assert!(gradient.abs() < 1e-12, "{gradient}");
            assert!((arm[8 + j] - before[8 + j] - p * (1.0 - p) * x[j] * x[j]).abs() < 1e-15);
        }
    }

    #[test]
    fn a_constant_feature_learns_the_log_odds() {
        // 30 % successes: the mode of the whole posterior is at logit(0.3) but for the prior.
        let mut arm = vec![0.0; 16];
        arm[8..].fill(1e-3);
        let x = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        for t in 0..2000 {
            learn(&mut arm, &x, f64::from(u8::from(t % 10 < 3)));
        }
        assert!((sigmoid(arm[0]) - 0.3).abs() < 0.02, "{}", sigmoid(arm[0]));
        assert!((arm[8] - 2000.0 * 0.21).abs() < 0.1 * 420.0, "{}", arm[8]);
    }
}
