//! Linear Thompson sampling, with the probability of every candidate instead of one draw.
//!
//! The posterior is θ ~ N(θ̂, v²A⁻¹); a candidate is chosen with the probability that its xᵀθ is the largest.
//! Logging one posterior draw as if it were certain would make the log useless, so the probabilities are
//! computed: with disjoint weights the scores are independent normals (quadrature, see
//! [`best_arm`](crate::best_arm)); with shared or hybrid weights they are jointly normal (a closed form for two, the
//! frequencies of `draws` posterior draws for more, see [`best_joint`](crate::best_joint)). The choice is drawn from
//! these very numbers.
//!
//! Agrawal, Goyal (2013), arXiv:1209.3352; the disjoint form as in Chapelle, Li (2011).

use crate::best_arm::{Arms, Normal, probabilities};
use crate::best_joint::{Sharing, of_sharing, room};
use crate::regress::linear;
use crate::regress::symmetric::padded;
use crate::regress::{Linear, Ridge};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    scale: f64,
    #[serde(flatten)]
    linear: linear::Options,
    draws: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            scale: 0.25,
            linear: linear::Options::default(),
            draws: 256,
        }
    }
}

const OWN: &[OptionHelp] = &[
    (
        "scale",
        "posterior standard deviation in units of √(xᵀA⁻¹x), the paper's v; positive",
    ),
    (
        "draws",
        "posterior draws behind the probabilities of a shared or hybrid model; 1 to 1000000",
    ),
];

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
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + linear::OPTIONS.len() }>(OWN, linear::OPTIONS);
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
        let linear = Linear::new(Self::NAME, shape, &c.linear)?;
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
        self.linear.evaluate(round, out.scratch, |i, estimate| {
            let (mean, variance) = estimate.both();
            scores[i] = mean;
            probs[i] = self.scale * variance.sqrt();
        });
        let mut arms = Arms::default();
        for (&mean, &sd) in scores.iter().zip(probs.iter()) {
            arms.push(Normal { mean, sd });
        }
        probabilities(arms.as_slice(), probs, out.scratch);
        Method::Quadrature
    }

    /// Where candidates move together.
    fn propose_joint(&self, joint: &Ridge, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method> {
        let (n, len) = (round.candidates.len(), padded(joint.dim()));
        let row_len = self.linear.row_len();
        out.scratch.clear();
        out.scratch.resize(row_len + n * len + n + room(n, joint.dim()), 0.0);
        let (scratch, rest) = out.scratch.split_at_mut(row_len);
        let (rows, rest) = rest.split_at_mut(n * len);
        let (own, work) = rest.split_at_mut(n);
        self.linear.evaluate(round, scratch, |i, estimate| {
            let (row, variance) = estimate.parts();
            rows[i * len..(i + 1) * len].copy_from_slice(row);
            out.scores[i] = estimate.mean();
            own[i] = self.scale * variance.sqrt();
        });
        let sharing = Sharing {
            ridge: joint,
            scale: self.scale,
            ids: round.candidates.ids,
            rows,
            means: out.scores,
            own,
        };
        of_sharing(&sharing, self.draws, key, out.probs, work)
    }
}

impl Policy for LinTs {
    fn propose(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method> {
        match self.linear.joint() {
            None => Ok(self.propose_disjoint(round, out)),
            Some(joint) => self.propose_joint(joint, round, key, out),
        }
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        self.linear.update(batch, |_| ())
    }

    fn contributions(&self, round: &Round<'_>, i: usize, out: &mut Vec<(usize, f64)>) -> bool {
        self.linear.contributions(round, i, out)
    }

    fn shares_weights(&self) -> bool {
        self.linear.shares_weights()
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.linear.layout());
        self.linear.write(&mut w);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, self.linear.layout(), bytes)?;
        let linear = self.linear.read(&mut r)?;
        r.finish()?;
        self.linear = linear;
        Ok(())
    }
}
