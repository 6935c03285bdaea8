//! Rewards that are linear in the candidate's features: the home ground of LinUCB and linear Thompson sampling.

use super::{Make, Stage, World, feature_names, unit_vector};
use oo_core::key::hash_name;
use oo_core::spec::require;
use oo_core::{Environment, Key, Outcome, Result};
use serde::{Deserialize, Serialize};

/// The options of `linear`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Features a candidate.
    pub d: usize,
    /// Candidates a round.
    pub actions: usize,
    /// Standard deviation of the reward's noise.
    pub noise: f64,
    /// Rounds, unless the run says otherwise.
    pub rounds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            d: 10,
            actions: 10,
            noise: 0.1,
            rounds: 10_000,
        }
    }
}

/// Candidates with unit features drawn anew each round, and the scalar product of each with one hidden unit vector.
pub(super) struct Slopes {
    pub(super) stage: Stage,
    theta: Vec<f64>,
    key: Key,
    row: Vec<f64>,
}

impl Slopes {
    pub(super) fn new(owner: &str, d: usize, actions: usize, rounds: u64, world: &World) -> Result<Slopes> {
        require((1..=100_000).contains(&d), owner, "d", "1 to 100000", d)?;
        require(
            (1..=100_000).contains(&actions),
            owner,
            "actions",
            "1 to 100000",
            actions,
        )?;
        let size = d.saturating_mul(actions);
        require(
            size <= 100_000_000,
            owner,
            "actions",
            "d × actions of at most 1e8",
            size,
        )?;
        let key = world.rounds_key();
        let mut theta = vec![0.0; d];
        unit_vector(&mut key.name("theta").draws(), &mut theta);
        let rounds = world.horizon.rounds.unwrap_or(rounds);
        Ok(Slopes {
            stage: Stage::new(vec![], feature_names(d), actions, rounds),
            theta,
            key,
            row: vec![0.0; d],
        })
    }

    /// Opens the next round; `expected` then holds `link` of the scalar products.
    pub(super) fn advance(&mut self, link: impl Fn(f64) -> f64) -> bool {
        const FEATURES: u64 = hash_name("features");
        let Some(index) = self.stage.next() else { return false };
        let d = self.theta.len();
        for (i, id) in self.stage.ids.iter().enumerate() {
            unit_vector(
                &mut self.key.fold(FEATURES).fold(index).fold(id.0).draws(),
                &mut self.row,
            );
            let mut product = 0.0;
            for ((seen, x), t) in self.stage.features[i * d..].iter_mut().zip(&self.row).zip(&self.theta) {
                *seen = *x as f32;
                // From the rounded feature: the reward depends on exactly what a policy sees.
                product += f64::from(*seen) * t;
            }
            self.stage.expected[i] = link(product);
        }
        true
    }

    /// The key of what is random in the reward of position `i`.
    pub(super) fn noise(&self, i: usize) -> Key {
        const NOISE: u64 = hash_name("noise");
        self.key.fold(NOISE).fold(self.stage.index()).fold(self.stage.ids[i].0)
    }
}

/// See the module.
pub struct Linear {
    slopes: Slopes,
    noise: f64,
}

impl Make for Linear {
    const NAME: &'static str = "linear";
    const SUMMARY: &'static str = "reward linear in the candidate's features, with normal noise";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[
        ("d", "features a candidate; 1 to 100000"),
        (
            "actions",
            "candidates a round; 1 to 100000, and d × actions at most 1e8",
        ),
        ("noise", "standard deviation of the reward's noise; at least 0"),
        ("rounds", "rounds, unless the run says otherwise; at least 0"),
    ];
    type Config = Config;

    /// Draws the hidden vector.
    ///
    /// # Errors
    /// An option out of range.
    fn build(config: Config, world: &World) -> Result<Self> {
        let ok = config.noise >= 0.0 && config.noise.is_finite();
        require(ok, "linear", "noise", "a number of at least 0", config.noise)?;
        let slopes = Slopes::new("linear", config.d, config.actions, config.rounds, world)?;
        Ok(Linear {
            slopes,
            noise: config.noise,
        })
    }
}

impl Environment for Linear {
    fn shape(&self) -> &oo_core::Shape {
        &self.slopes.stage.shape
    }

    fn advance(&mut self) -> Result<bool> {
        Ok(self.slopes.advance(|x| x))
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
        let reward = self.slopes.stage.expected[i] + self.noise * self.slopes.noise(i).normal();
        out.push(Outcome {
            reward,
            ..Outcome::default()
        });
        Ok(())
    }
}
