//! Bootstrapped Thompson sampling: several models, each on its own resample of the rows.
//!
//! Every model learns every row with a weight drawn from Poisson(1), the online bootstrap. A candidate's probability
//! is the share of models that rate it best (exact ties share a vote), mixed with `epsilon` of uniform. The weights
//! are fixed by row, action and model, so a policy that was saved goes on with the same ones. With `greedify=true`
//! the first model learns every row once: the plain estimate has a vote of its own.
//!
//! Resampling shows no doubt about what was never tried, so by default models start at the reward 1: optimistic
//! where rewards lie in [0, 1]; say `start` where they do not. A round costs `models` times the estimates.
//!
//! Oza, Russell (2001) for the online bootstrap; Eckles, Kaptein (2014), arXiv:1410.4009; Bietti, Agarwal, Langford
//! (2021), arXiv:1802.04064, Algorithm 4, for `greedify`.

use crate::greedy::{round_off, share};
use crate::regress::{Learner, learner};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    models: usize,
    greedify: bool,
    epsilon: f64,
    #[serde(flatten)]
    learner: learner::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            models: 8,
            greedify: false,
            epsilon: 0.0,
            learner: learner::Options {
                start: 1.0,
                ..learner::Options::default()
            },
        }
    }
}

const OWN: &[OptionHelp] = &[
    ("models", "resamples; 1 to 1000"),
    ("greedify", "true: the first model learns every row exactly once"),
    ("epsilon", "share of uniform choice on top; 0 to 1"),
];

/// See the module.
#[derive(Clone, Debug)]
pub struct Bag {
    config: Config,
    models: Vec<Learner>,
}

impl Build for Bag {
    const NAME: &'static str = "bag";
    const SUMMARY: &'static str = "Bootstrapped Thompson sampling: shares of votes among resampled models";
    const PAPER: &'static str = "Eckles, Kaptein (2014), arXiv:1410.4009; Oza, Russell (2001)";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + learner::OPTIONS.len() }>(OWN, learner::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let some = (1..=1000).contains(&c.models);
        require(some, Self::NAME, "models", "1 to 1000", c.models)?;
        require(
            (0.0..=1.0).contains(&c.epsilon),
            Self::NAME,
            "epsilon",
            "0 to 1",
            c.epsilon,
        )?;
        let blank = Learner::new(Self::NAME, shape, &c.learner)?;
        Ok(Bag {
            models: vec![blank; c.models],
            config: c,
        })
    }
}

/// Poisson(1) by inversion of one uniform number.
fn poisson(u: f64) -> f64 {
    let (mut k, mut term) = (0.0, libm::exp(-1.0));
    let mut below = term;
    // Beyond 20 the terms are less than the spacing of uniform numbers near 1.
    while u >= below && k < 20.0 {
        k += 1.0;
        term /= k;
        below += term;
    }
    k
}

impl Bag {
    fn layout(&self) -> String {
        format!("{} of: {}", self.models.len(), self.models[0].layout())
    }
}

impl Policy for Bag {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let (n, row_len) = (out.probs.len(), self.models[0].row_len());
        out.scratch.clear();
        out.scratch.resize(row_len + n, 0.0);
        let (scratch, means) = out.scratch.split_at_mut(row_len);
        let (epsilon, weight) = (self.config.epsilon, 1.0 / self.models.len() as f64);
        out.probs.fill(epsilon / n as f64);
        for model in &self.models {
            model.evaluate(round, scratch, |i, estimate| means[i] = estimate.mean());
            share(means, (1.0 - epsilon) * weight, out.probs);
            out.scores.iter_mut().zip(&*means).for_each(|(s, m)| *s += weight * m);
        }
        round_off(out.probs);
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        const ROOT: Key = Key::root(0).name("bag");
        for (row, reward) in batch.iter() {
            let round = &row.round;
            let key = ROOT.fold(round.index).fold(round.user.0).fold(row.action().0);
            for (m, model) in self.models.iter_mut().enumerate() {
                let weight = match self.config.greedify && m == 0 {
                    true => 1.0,
                    false => poisson(key.fold(m as u64).uniform()),
                };
                model.learn(round, row.chosen, reward, weight)?;
            }
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.layout());
        for (m, model) in self.models.iter().enumerate() {
            w.state(&m.to_string(), model.save(Self::NAME));
        }
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let layout = self.layout();
        let mut r = Reader::new(Self::NAME, &layout, bytes)?;
        let models = self.models.iter().enumerate();
        let models = models
            .map(|(m, model)| model.restored(Self::NAME, r.state(&m.to_string())?))
            .collect::<Result<_>>()?;
        r.finish()?;
        self.models = models;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_poisson() {
        let n = 100_000;
        let mut seen = [0u32; 21];
        for i in 0..n {
            seen[poisson(Key::root(3).fold(i).uniform()) as usize] += 1;
        }
        let mut probability = libm::exp(-1.0);
        for (k, &seen) in seen.iter().take(6).enumerate() {
            if k > 0 {
                probability /= k as f64;
            }
            // Five standard deviations: false alarm 6e-7 a count, 4e-6 in all.
            let sd = (n as f64 * probability * (1.0 - probability)).sqrt();
            assert!(
                (f64::from(seen) - n as f64 * probability).abs() < 5.0 * sd,
                "{k}: {seen}"
            );
        }
        assert!(poisson(1.0 - f64::EPSILON / 2.0) <= 20.0);
        assert_eq!(poisson(0.0), 0.0);
    }
}
