//! Arms without context that pay 0 or 1.

use super::{Make, Stage, World, staged};
use oo_core::key::hash_name;
use oo_core::spec::require;
use oo_core::{Environment, Error, Key, Outcome, Result};
use serde::{Deserialize, Serialize};

/// The options of `bernoulli`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Probability of a reward for each arm, separated by `/` (or, between quotes, by commas).
    pub means: String,
    /// Rounds, unless the run says otherwise.
    pub rounds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            means: "0.1/0.3/0.5/0.7/0.9".into(),
            rounds: 10_000,
        }
    }
}

/// See the module.
pub struct Bernoulli {
    stage: Stage,
    key: Key,
}

impl Make for Bernoulli {
    const NAME: &'static str = "bernoulli";
    const SUMMARY: &'static str = "arms without context that pay 0 or 1";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[
        (
            "means",
            "probability of a reward for each arm, as 0.1/0.5/0.9; each 0 to 1",
        ),
        ("rounds", "rounds, unless the run says otherwise; at least 0"),
    ];
    type Config = Config;

    /// One arm for each mean.
    ///
    /// # Errors
    /// Means that are not numbers from 0 to 1.
    fn build(config: Config, world: &World) -> Result<Self> {
        let read = |text: &str| text.trim().parse().ok().filter(|p| (0.0..=1.0).contains(p));
        let means: Option<Vec<f64>> = config.means.split(['/', ',']).map(read).collect();
        let means = means.ok_or_else(|| Error::Option {
            owner: "bernoulli".into(),
            option: "means".into(),
            expected: "numbers from 0 to 1, as 0.1/0.5/0.9".into(),
            got: format!("{:?}", config.means),
        })?;
        require(
            !means.is_empty(),
            "bernoulli",
            "means",
            "at least one number",
            means.len(),
        )?;
        let rounds = world.horizon.rounds.unwrap_or(config.rounds);
        let mut stage = Stage::new(vec![], vec![], means.len(), rounds);
        stage.expected = means;
        Ok(Bernoulli {
            stage,
            key: world.rounds_key(),
        })
    }
}

impl Environment for Bernoulli {
    staged!();

    fn advance(&mut self) -> Result<bool> {
        Ok(self.stage.next().is_some())
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        const NOISE: u64 = hash_name("noise");
        let i = self.stage.chosen(chosen)?;
        let draw = self
            .key
            .fold(NOISE)
            .fold(self.stage.index())
            .fold(self.stage.ids[i].0)
            .uniform();
        out.push(Outcome {
            reward: f64::from(u8::from(draw < self.stage.expected[i])),
            ..Outcome::default()
        });
        Ok(())
    }
}
