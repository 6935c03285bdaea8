//! SquareCB: probabilities by inverse gaps of a regression.
//!
//! With estimates ŷ, the best of them ŷ_b, K candidates and rewards of range R = high − low:
//!
//! - `weighting=gap`: p_a = 1 / (K + γ (ŷ_b − ŷ_a)/R) for all but the best, which gets the rest;
//! - `weighting=fast`: p_a = L_b / (K L_b + γ (L_a − L_b)) with the losses L = (high − ŷ)/R, cut off below at 0:
//!   FastCB's reweighted gaps, which explore less the nearer the best candidate is to the highest reward.
//!
//! γ = `gamma` · t^`exponent`, t counting the rows learned. Several candidates that are exactly best share. A round
//! costs what the estimates cost. The range is assumed (0 to 1 unless said), and rewards outside it are not clipped:
//! only the gaps are measured in it. By default what was never tried is rated 1, at the top of that range, so that a
//! high γ still tries everything.
//!
//! Foster, Rakhlin (2020), arXiv:2002.04926, Algorithm 1; Foster, Krishnamurthy (2021), arXiv:2107.02237, for
//! `fast`. Departs from them: γ grows with t, where the papers fix it by the horizon.

use crate::greedy::argmax;
use crate::regress::{Learner, learner};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Weighting {
    Gap,
    Fast,
}

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    gamma: f64,
    exponent: f64,
    weighting: Weighting,
    #[serde(flatten)]
    learner: learner::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            gamma: 100.0,
            exponent: 0.5,
            weighting: Weighting::Gap,
            learner: learner::Options {
                start: 1.0,
                ..learner::Options::default()
            },
        }
    }
}

const OWN: &[OptionHelp] = &[
    (
        "gamma",
        "greed after the first row, the paper's γ; 0 is uniform; at least 0",
    ),
    ("exponent", "γ grows with this power of the rows learned; 0 to 1"),
    (
        "weighting",
        "gap (SquareCB) or fast (FastCB: explores less near the highest reward)",
    ),
];

/// See the module.
#[derive(Clone, Debug)]
pub struct SquareCb {
    config: Config,
    rows: u64,
    learner: Learner,
}

impl Build for SquareCb {
    const NAME: &'static str = "square-cb";
    const SUMMARY: &'static str = "Probabilities by inverse gaps of a regression";
    const PAPER: &'static str = "Foster, Rakhlin (2020), arXiv:2002.04926; Foster, Krishnamurthy (2021) for fast";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + learner::OPTIONS.len() }>(OWN, learner::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let sound = c.gamma >= 0.0 && c.gamma.is_finite();
        require(sound, Self::NAME, "gamma", "a number of at least 0", c.gamma)?;
        let share = (0.0..=1.0).contains(&c.exponent);
        require(share, Self::NAME, "exponent", "0 to 1", c.exponent)?;
        let learner = Learner::new(Self::NAME, shape, &c.learner)?;
        Ok(SquareCb {
            config: c,
            rows: 0,
            learner,
        })
    }
}

/// Replaces scores by probabilities; `losses` are at least 0 and only their gaps count when `fast` is false.
fn inverse_gaps(losses: impl Fn(usize) -> f64, best: usize, gamma: f64, fast: bool, probs: &mut [f64]) {
    let n = probs.len() as f64;
    let least = losses(best);
    let (mut rest, mut winners) = (1.0, 0.0);
    for (i, p) in probs.iter_mut().enumerate() {
        let gap = losses(i) - least;
        if gap <= 0.0 {
            winners += 1.0;
            continue;
        }
        *p = if fast {
            least / (n * least + gamma * gap)
        } else {
            1.0 / (n + gamma * gap)
        };
        // With γ = 0 and nothing to lose the quotient is 0/0: no gap counts, and all are equal.
        if p.is_nan() {
            *p = 1.0 / n;
        }
        rest -= *p;
    }
    let share = rest.max(0.0) / winners;
    for (i, p) in probs.iter_mut().enumerate() {
        if losses(i) - least <= 0.0 {
            *p = share;
        }
    }
}

impl Policy for SquareCb {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let Config {
            gamma,
            exponent,
            weighting,
            ref learner,
        } = self.config;
        self.learner.means(round, out.scores, out.scratch);
        // Before the first row all are equal, whatever γ.
        let gamma = gamma * libm::pow(self.rows.max(1) as f64, exponent);
        let scale = 1.0 / (learner.high - learner.low);
        let scores = &*out.scores;
        let best = argmax(scores);
        match weighting {
            Weighting::Gap => inverse_gaps(|i| (scores[best] - scores[i]) * scale, best, gamma, false, out.probs),
            Weighting::Fast => {
                let loss = |i: usize| ((learner.high - scores[i]) * scale).max(0.0);
                inverse_gaps(loss, best, gamma, true, out.probs);
            }
        }
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        let rows = &mut self.rows;
        self.learner.update(batch, |_| *rows += 1)
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.learner.layout());
        self.learner.write(&mut w);
        w.u64s("rows", [self.rows]);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, self.learner.layout(), bytes)?;
        let learner = self.learner.read(&mut r)?;
        let rows = r.count("rows")?;
        r.finish()?;
        (self.learner, self.rows) = (learner, rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probs(losses: &[f64], gamma: f64, fast: bool) -> Vec<f64> {
        let mut probs = vec![0.0; losses.len()];
        let best = argmax(&losses.iter().map(|l| -l).collect::<Vec<_>>());
        inverse_gaps(|i| losses[i], best, gamma, fast, &mut probs);
        assert!((probs.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{probs:?}");
        probs
    }

    #[test]
    fn three_arms_by_hand() {
        // Gaps 0, 0.25 and 1 with γ = 8: 1/(3 + 2), 1/(3 + 8), and the rest.
        let p = probs(&[0.25, 0.5, 1.25], 8.0, false);
        assert!((p[1] - 0.2).abs() < 1e-12 && (p[2] - 1.0 / 11.0).abs() < 1e-12);
        // The same gaps from the loss 0.25: 0.25/(0.75 + 2) and 0.25/(0.75 + 8).
        let p = probs(&[0.25, 0.5, 1.25], 8.0, true);
        assert!((p[1] - 1.0 / 11.0).abs() < 1e-12 && (p[2] - 1.0 / 35.0).abs() < 1e-12);
    }

    #[test]
    fn equal_arms_share_and_a_perfect_arm_ends_fast_exploration() {
        assert_eq!(probs(&[0.3; 4], 100.0, false), [0.25; 4]);
        assert_eq!(probs(&[0.0, 0.0, 0.5], 100.0, true), [0.5, 0.5, 0.0]);
        assert_eq!(probs(&[0.0, 0.5], 0.0, true), [0.5, 0.5]);
    }

    #[test]
    fn the_price_of_exploring_is_bounded() {
        // What the regret bound rests on: Σ p_a gap_a ≤ K/γ, whatever the gaps.
        let mut draws = Key::root(1).draws();
        for _ in 0..200 {
            let losses: Vec<f64> = (0..10).map(|_| draws.uniform()).collect();
            let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
            let gamma = 300.0 * draws.uniform() + 1.0;
            let price: f64 = probs(&losses, gamma, false)
                .iter()
                .zip(&losses)
                .map(|(p, l)| p * (l - least))
                .sum();
            assert!(price <= 10.0 / gamma, "{price} {gamma}");
        }
    }
}
