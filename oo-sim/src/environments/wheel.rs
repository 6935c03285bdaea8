//! The wheel (Riquelme, Tucker, Snoek 2018): within the radius `delta` arm 0 is a little better; outside, one arm a
//! quadrant pays 50. The closer `delta` to 1, the rarer the occasions to find that out.

use super::{Make, Stage, World, staged};
use oo_core::key::hash_name;
use oo_core::spec::require;
use oo_core::{Environment, Key, Outcome, Result};
use serde::{Deserialize, Serialize};

/// The options of `wheel`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Radius of the inner disc.
    pub delta: f64,
    /// Rounds, unless the run says otherwise.
    pub rounds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            delta: 0.95,
            rounds: 10_000,
        }
    }
}

const SAFE: f64 = 1.2;
const OTHER: f64 = 1.0;
const RARE: f64 = 50.0;
const SD: f64 = 0.01;

/// See the module.
pub struct Wheel {
    stage: Stage,
    delta: f64,
    key: Key,
}

impl Make for Wheel {
    const NAME: &'static str = "wheel";
    const SUMMARY: &'static str =
        "a rare region of the disc pays much: how well does a policy explore? (Riquelme et al. 2018)";
    const OPTIONS: &'static [(&'static str, &'static str)] = &[
        ("delta", "radius of the inner disc; 0 to 1"),
        ("rounds", "rounds, unless the run says otherwise; at least 0"),
    ];
    type Config = Config;

    /// The wheel with the paper's rewards.
    ///
    /// # Errors
    /// A radius outside 0 to 1.
    fn build(config: Config, world: &World) -> Result<Self> {
        require(
            (0.0..=1.0).contains(&config.delta),
            "wheel",
            "delta",
            "0 to 1",
            config.delta,
        )?;
        let names = ["x0", "x1", "bias"].map(String::from).to_vec();
        let rounds = world.horizon.rounds.unwrap_or(config.rounds);
        Ok(Wheel {
            stage: Stage::new(names, vec![], 5, rounds),
            delta: config.delta,
            key: world.rounds_key(),
        })
    }
}

impl Environment for Wheel {
    staged!();

    fn advance(&mut self) -> Result<bool> {
        const CONTEXT: u64 = hash_name("context");
        let Some(index) = self.stage.next() else {
            return Ok(false);
        };
        let mut draws = self.key.fold(CONTEXT).fold(index).draws();
        // The root makes the point uniform on the disc: area grows with the square of the radius.
        let (radius, angle) = (libm::sqrt(draws.uniform()), std::f64::consts::TAU * draws.uniform());
        let (x, y) = ((radius * libm::cos(angle)) as f32, (radius * libm::sin(angle)) as f32);
        self.stage.context.copy_from_slice(&[x, y, 1.0]);
        self.stage.expected.fill(OTHER);
        self.stage.expected[0] = SAFE;
        // From the rounded point, so that the rewards depend on exactly what a policy sees.
        if f64::from(x) * f64::from(x) + f64::from(y) * f64::from(y) > self.delta * self.delta {
            let arm = match (x > 0.0, y > 0.0) {
                (true, true) => 1,
                (true, false) => 2,
                (false, true) => 3,
                (false, false) => 4,
            };
            self.stage.expected[arm] = RARE;
        }
        Ok(true)
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        const NOISE: u64 = hash_name("noise");
        let i = self.stage.chosen(chosen)?;
        let noise = self
            .key
            .fold(NOISE)
            .fold(self.stage.index())
            .fold(self.stage.ids[i].0)
            .normal();
        out.push(Outcome {
            reward: self.stage.expected[i] + SD * noise,
            ..Outcome::default()
        });
        Ok(())
    }
}
