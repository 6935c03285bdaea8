//! Pulls and rewards an action, for the policies that look at no features. Rewards are taken in [low, high] and
//! scaled to [0, 1]; what lies outside is clipped, which is stated in the policies' help.

use crate::state::{Reader, Writer};
use oo_core::{ActionId, Batch, Result, spec::require};
use std::collections::BTreeMap;

/// Pulls and the sum of scaled rewards of one action.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arm {
    /// How often it was chosen.
    pub pulls: f64,
    /// Sum of rewards scaled to [0, 1].
    pub sum: f64,
}

impl Arm {
    /// Mean scaled reward; 0 before the first pull.
    pub fn mean(&self) -> f64 {
        if self.pulls > 0.0 { self.sum / self.pulls } else { 0.0 }
    }
}

/// All arms.
#[derive(Clone, Debug)]
pub struct Tally {
    low: f64,
    high: f64,
    arms: BTreeMap<ActionId, Arm>,
    pulls: f64,
}

impl Tally {
    /// For rewards in [low, high]; `owner` is named in errors.
    pub fn new(owner: &str, low: f64, high: f64) -> Result<Self> {
        require(low < high, owner, "low", "a number below `high`", low)?;
        Ok(Tally {
            low,
            high,
            arms: BTreeMap::new(),
            pulls: 0.0,
        })
    }

    /// One action's count; blank if it was never chosen.
    pub fn arm(&self, id: ActionId) -> Arm {
        self.arms.get(&id).copied().unwrap_or_default()
    }

    /// All pulls.
    pub fn pulls(&self) -> f64 {
        self.pulls
    }

    /// Learns a batch.
    pub fn update(&mut self, batch: &Batch<'_>) {
        for (row, reward) in batch.iter() {
            let arm = self.arms.entry(row.action()).or_default();
            arm.pulls += 1.0;
            arm.sum += ((reward - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
            self.pulls += 1.0;
        }
    }

    fn layout(&self) -> String {
        format!("rewards from {} to {}", self.low, self.high)
    }

    /// The saved state of `policy`.
    pub fn save(&self, policy: &str) -> Vec<u8> {
        let mut w = Writer::new(policy, self.layout());
        w.u64s("actions", self.arms.keys().map(|id| id.0));
        w.f64s("pulls", self.arms.values().map(|arm| &arm.pulls));
        w.f64s("sums", self.arms.values().map(|arm| &arm.sum));
        w.finish()
    }

    /// Replaces the counts by saved ones.
    pub fn load(&mut self, policy: &str, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(policy, &self.layout(), bytes)?;
        let (ids, pulls, sums) = (r.u64s("actions")?, r.f64s("pulls")?, r.f64s("sums")?);
        if pulls.len() != ids.len() || sums.len() != ids.len() {
            return Err(r.refuse("its vectors differ in length"));
        }
        r.finish()?;
        let counts = pulls.into_iter().zip(sums).map(|(pulls, sum)| Arm { pulls, sum });
        self.arms = ids.into_iter().map(ActionId).zip(counts).collect();
        self.pulls = self.arms.values().map(|a| a.pulls).sum();
        Ok(())
    }
}

/// The options and the plumbing that every policy on a tally has: `config fields` and how it proposes.
macro_rules! tally_policy {
    ($type:ident, $name:literal, $summary:literal, $paper:literal,
     { $($field:ident = $default:expr, $help:literal;)* }) => {
        /// Options.
        #[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
        pub struct Config {
            $($field: f64,)*
            low: f64,
            high: f64,
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($field: $default,)* low: 0.0, high: 1.0 }
            }
        }

        /// See the module.
        #[derive(Clone, Debug)]
        pub struct $type {
            #[allow(dead_code)] // some policies have no option of their own
            config: Config,
            tally: $crate::tally::Tally,
        }

        impl oo_core::Build for $type {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;
            const PAPER: &'static str = $paper;
            const OPTIONS: &'static [(&'static str, &'static str)] = &[
                $((stringify!($field), $help),)*
                ("low", "the smallest reward; lower ones are clipped; below high"),
                ("high", "the largest reward; higher ones are clipped; above low"),
            ];
            type Config = Config;
            fn build(config: Config, _: &oo_core::Shape) -> oo_core::Result<Self> {
                $(oo_core::spec::require(
                    config.$field > 0.0 && config.$field.is_finite(),
                    $name, stringify!($field), "a positive number", config.$field,
                )?;)*
                let tally = $crate::tally::Tally::new($name, config.low, config.high)?;
                Ok($type { config, tally })
            }
        }

        impl oo_core::Policy for $type {
            fn propose(
                &self, round: &oo_core::Round<'_>, _: oo_core::Key, out: oo_core::Proposal<'_>,
            ) -> oo_core::Result<oo_core::Method> {
                Ok(self.propose_from_tally(round, out))
            }
            fn update(&mut self, batch: &oo_core::Batch<'_>) -> oo_core::Result<()> {
                self.tally.update(batch);
                Ok(())
            }
            fn save(&self) -> Vec<u8> {
                self.tally.save($name)
            }
            fn load(&mut self, bytes: &[u8]) -> oo_core::Result<()> {
                self.tally.load($name, bytes)
            }
        }
    };
}
pub(crate) use tally_policy;
