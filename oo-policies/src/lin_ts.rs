//! Linear Thompson sampling, with the probability of every candidate instead of one draw.
//!
//! The posterior is θ ~ N(θ̂, v²A⁻¹); a candidate is chosen with the probability that its xᵀθ is the largest.
//! Logging one posterior draw as if it were certain would make the log useless, so the probabilities are
//! computed: with disjoint weights the scores are independent normals (quadrature, see
//! [`best_arm`](crate::best_arm)); with shared weights and two candidates there is a closed form; with more, the
//! frequencies of `draws` posterior draws, mixed with a uniform floor of weight 1/(draws + 1). The choice is
//! drawn from these very numbers.
//!
//! Agrawal, Goyal (2013), arXiv:1209.3352; the disjoint form as in Chapelle, Li (2011).

use crate::best_arm::{Arms, Normal, probabilities};
use crate::regress::{Linear, Model};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, normal, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    scale: f64,
    lambda: f64,
    model: Model,
    features: String,
    draws: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            scale: 0.25,
            lambda: 1.0,
            model: Model::Auto,
            features: "all".into(),
            draws: 256,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct LinTs {
    scale: f64,
    draws: u32,
    linear: Linear,
}

impl Build for LinTs {
    const NAME: &'static str = "lin-ts";
    const SUMMARY: &'static str = "Thompson sampling on a ridge regression, with computed propensities";
    const PAPER: &'static str = "Agrawal, Goyal (2013), arXiv:1209.3352";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[
        (
            "scale",
            "posterior standard deviation in units of √(xᵀA⁻¹x), the paper's v; positive",
        ),
        ("lambda", "ridge penalty; positive"),
        ("model", "auto, shared (one weight vector) or disjoint (one an action)"),
        ("features", "all, or a feature spec of the tips world: v0, v1, v2, v3"),
        (
            "draws",
            "posterior draws behind the probabilities of a shared model; 1 to 1000000",
        ),
    ];
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        require(
            c.scale > 0.0 && c.scale.is_finite(),
            Self::NAME,
            "scale",
            "a positive number",
            c.scale,
        )?;
        require(
            (1..=1_000_000).contains(&c.draws),
            Self::NAME,
            "draws",
            "1 to 1000000",
            c.draws,
        )?;
        let linear = Linear::new(Self::NAME, shape, c.model, &c.features, c.lambda)?;
        Ok(LinTs {
            scale: c.scale,
            draws: c.draws,
            linear,
        })
    }
}

impl LinTs {
    fn propose_disjoint(&self, round: &Round<'_>, out: Proposal<'_>) -> Method {
        out.scratch.clear();
        out.scratch.resize(self.linear.row_len(), 0.0);
        let (scores, probs) = (out.scores, out.probs);
        // The standard deviations wait in `probs` until they are replaced.
        self.linear.evaluate(round, out.scratch, |i, ridge, x| {
            scores[i] = ridge.predict(x);
            probs[i] = self.scale * ridge.variance(x).sqrt();
        });
        let n = scores.len();
        let mut arms = Arms::default();
        (0..n).for_each(|i| {
            arms.push(Normal {
                mean: scores[i],
                sd: probs[i],
            })
        });
        probabilities(arms.as_slice(), probs, out.scratch);
        Method::Quadrature
    }

    fn propose_shared(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method> {
        let (n, d, len) = (round.candidates.len(), self.linear.dim(), self.linear.row_len());
        let ridge = self.linear.arm(oo_core::ActionId(0));
        // Layout: one padded row, the factor L of A⁻¹ (d × d), X·L (n × d), one draw z (d).
        out.scratch.clear();
        out.scratch.resize(len + d * d + n * d + d, 0.0);
        let (x, rest) = out.scratch.split_at_mut(len);
        let (factor, rest) = rest.split_at_mut(d * d);
        let (spread, z) = rest.split_at_mut(n * d);
        if ridge.inverse().cholesky_into(factor).is_none() {
            return Err(oo_core::Error::Singular {
                what: "the posterior covariance",
                condition: f64::INFINITY,
            });
        }
        for i in 0..n {
            self.linear.gather(round, i, x);
            out.scores[i] = ridge.predict(x);
            for j in 0..d {
                spread[i * d + j] = self.scale * (j..d).map(|k| x[k] * factor[k * d + j]).sum::<f64>();
            }
        }
        match n {
            1 => out.probs[0] = 1.0,
            2 => {
                let variance: f64 = (0..d)
                    .map(|j| (spread[j] - spread[d + j]) * (spread[j] - spread[d + j]))
                    .sum();
                let gap = out.scores[0] - out.scores[1];
                let first = if variance > 0.0 {
                    normal::cdf(gap / variance.sqrt())
                } else {
                    f64::from(u8::from(gap >= 0.0))
                };
                out.probs[0] = first;
                out.probs[1] = 1.0 - first;
            }
            _ => {
                let weight = 1.0 / f64::from(self.draws + 1);
                out.probs.fill(weight / n as f64);
                let mut stream = key.draws();
                for _ in 0..self.draws {
                    z.fill_with(|| stream.normal());
                    let mut best = (0, f64::NEG_INFINITY);
                    for i in 0..n {
                        let noise: f64 = spread[i * d..(i + 1) * d]
                            .iter()
                            .zip(z.iter())
                            .map(|(s, z)| s * z)
                            .sum();
                        let sample = out.scores[i] + noise;
                        if sample > best.1 {
                            best = (i, sample);
                        }
                    }
                    out.probs[best.0] += weight;
                }
                return Ok(Method::MonteCarlo { draws: self.draws });
            }
        }
        Ok(Method::Exact)
    }
}

impl Policy for LinTs {
    fn propose(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method> {
        if self.linear.is_disjoint() {
            Ok(self.propose_disjoint(round, out))
        } else {
            self.propose_shared(round, key, out)
        }
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        self.linear.update(batch, |_| ())
    }

    fn save(&self) -> Vec<u8> {
        self.linear.writer(Self::NAME).finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let (linear, rest) = self.linear.read(Self::NAME, bytes)?;
        rest.finish()?;
        self.linear = linear;
        Ok(())
    }
}
