//! Rewards of 0 or 1 whose log-odds are linear in the candidate's features.

use super::linear::Slopes;
use super::{Make, World};
use oo_core::spec::require;
use oo_core::{Environment, Outcome, Result};
use serde::{Deserialize, Serialize};

/// The options of `logistic`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Features a candidate.
    pub d: usize,
    /// Candidates a round.
    pub actions: usize,
    /// Length of the hidden vector.
    pub scale: f64,
    /// Rounds, unless the run says otherwise.
    pub rounds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            d: 10,
            actions: 10,
            scale: 1.0,
            rounds: 10_000,
        }
    }
}

/// See the module.
pub struct Logistic {
    slopes: Slopes,
    scale: f64,
}

impl Make for Logistic {
    const NAME: &'static str = "logistic";
    const SUMMARY: &'static str = "reward 0 or 1, its log-odds linear in the candidate's features";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[
        ("d", "features a candidate; 1 to 100000"),
        (
            "actions",
            "candidates a round; 1 to 100000, and d × actions at most 1e8",
        ),
        (
            "scale",
            "length of the hidden vector; more of it sets the candidates further apart; at least 0",
        ),
        ("rounds", "rounds, unless the run says otherwise; at least 0"),
    ];
    type Config = Config;

    /// Draws the hidden vector.
    ///
    /// # Errors
    /// An option out of range.
    fn build(config: Config, world: &World) -> Result<Self> {
        let ok = config.scale >= 0.0 && config.scale.is_finite();
        require(ok, "logistic", "scale", "a number of at least 0", config.scale)?;
        let slopes = Slopes::new("logistic", config.d, config.actions, config.rounds, world)?;
        Ok(Logistic {
            slopes,
            scale: config.scale,
        })
    }
}

impl Environment for Logistic {
    fn shape(&self) -> &oo_core::Shape {
        &self.slopes.stage.shape
    }

    fn advance(&mut self) -> Result<bool> {
        let scale = self.scale;
        Ok(self.slopes.advance(|x| 1.0 / (1.0 + libm::exp(-scale * x))))
    }

    fn now(&self) -> u64 {
        self.slopes.stage.index()
    }

    fn round(&self, _: usize) -> oo_core::Round<'_> {
        self.slopes.stage.round()
    }

    fn expected(&self, _: usize) -> Option<&[f64]> {
        Some(&self.slopes.stage.expected)
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        let i = self.slopes.stage.chosen(chosen)?;
        let hit = self.slopes.noise(i).uniform() < self.slopes.stage.expected[i];
        out.push(Outcome {
            reward: f64::from(u8::from(hit)),
            ..Outcome::default()
        });
        Ok(())
    }
}
