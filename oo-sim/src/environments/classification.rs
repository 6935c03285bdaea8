//! A classification set as a bandit: the features are the context, the classes are the actions, and only the
//! chosen class says whether it was right.

use super::{DATA, Entry, Stage, World, staged};
use crate::datasets::Table;
use oo_core::spec::{configure, require};
use oo_core::{Environment, Error, Outcome, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// In which order the rows come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Shuffled by the seed.
    #[default]
    Shuffle,
    /// As in the file: for sets in the order of time.
    File,
}

/// The options of `data:`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// In which order the rows come.
    pub order: Order,
    /// Bound of the scaled features.
    pub clip: f64,
    /// Whether features are brought to mean 0 and standard deviation 1.
    pub scale: bool,
    /// Whether each row is then brought to length 1.
    pub unit: bool,
    /// Whether a feature that is always 1 is appended.
    pub bias: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            order: Order::Shuffle,
            clip: 5.0,
            scale: true,
            unit: false,
            bias: true,
        }
    }
}

/// Name and help an option.
const OPTIONS: &[(&str, &str)] = &[
    ("order", "shuffle (by the seed) or file (as the rows stand)"),
    ("clip", "scaled features are cut off at plus and minus this; above 0"),
    (
        "scale",
        "bring features to mean 0 and standard deviation 1 over the file; without it they stay as they are",
    ),
    (
        "unit",
        "divide each row by its Euclidean length, after scaling and before the bias; a row of zeros stays",
    ),
    ("bias", "append a feature that is always 1"),
];

/// The row of the table. It is written out because the name carries the data set.
pub(super) const ENTRY: Entry = Entry {
    name: "data:NAME",
    summary: "a classification set by name or path; reward 1 for the right class",
    options: OPTIONS,
    defaults: super::defaults::<Config>,
    make: |part, world| {
        let name = part.name.strip_prefix(DATA).unwrap_or(&part.name);
        let config = configure(&part.name, &part.options)?;
        let table = crate::datasets::load(name)?;
        Ok(Box::new(Classification::build(&part.name, config, table, world)?))
    },
};

/// See the module.
pub struct Classification {
    stage: Stage,
    table: Arc<Table>,
    order: Vec<u32>,
    /// Mean and reciprocal standard deviation of each column; empty where nothing is scaled.
    scaling: Vec<(f64, f64)>,
    clip: f64,
    unit: bool,
}

impl Classification {
    /// A pass over `table`, cut off at the horizon's rounds; `owner` is named in errors.
    ///
    /// # Errors
    /// An option out of range, or a column that is already called `bias`.
    pub fn build(owner: &str, config: Config, table: Arc<Table>, world: &World) -> Result<Classification> {
        require(config.clip > 0.0, owner, "clip", "a number above 0", config.clip)?;
        let mut names = table.names.clone();
        if config.bias {
            if names.iter().any(|n| n == "bias") {
                let why = "the file has a column `bias` of its own; say bias=false".into();
                return Err(Error::Unfit {
                    owner: owner.into(),
                    why,
                });
            }
            names.push("bias".into());
        }
        let rows = u32::try_from(table.rows()).map_err(|_| {
            Error::Failed(format!(
                "{owner}: {} rows are too many; expected below 2^32",
                table.rows()
            ))
        })?;
        let mut order: Vec<u32> = (0..rows).collect();
        if config.order == Order::Shuffle {
            world.rounds_key().name("order").draws().shuffle(&mut order);
        }
        let rounds = world.horizon.rounds.unwrap_or(u64::MAX).min(u64::from(rows));
        let mut stage = Stage::new(names, vec![], table.classes, rounds);
        stage.context.fill(1.0); // the bias; all else is written each round
        let scaling = if config.scale { scaling(&table) } else { vec![] };
        Ok(Classification {
            stage,
            table,
            order,
            scaling,
            clip: config.clip,
            unit: config.unit,
        })
    }
}

/// Mean and reciprocal of the population's standard deviation, by column; 0 for a constant one.
fn scaling(table: &Table) -> Vec<(f64, f64)> {
    let (d, n) = (table.names.len(), table.rows() as f64);
    let mut mean = vec![0.0; d];
    let mut square = vec![0.0; d];
    let mut constant = vec![true; d];
    for row in table.features.chunks_exact(d) {
        mean.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x) / n);
    }
    for row in table.features.chunks_exact(d) {
        for j in 0..d {
            let off = f64::from(row[j]) - mean[j];
            square[j] += off * off / n;
            // By comparison and not by a variance of 0, which rounding would miss.
            constant[j] &= row[j] == table.features[j];
        }
    }
    (0..d)
        .map(|j| (mean[j], if constant[j] { 0.0 } else { 1.0 / libm::sqrt(square[j]) }))
        .collect()
}

impl Environment for Classification {
    staged!();

    fn advance(&mut self) -> Result<bool> {
        let Some(index) = self.stage.next() else {
            return Ok(false);
        };
        let row = self.order[index as usize] as usize;
        let features = self.table.row(row);
        if self.scaling.is_empty() {
            self.stage.context[..features.len()].copy_from_slice(features);
        }
        for ((out, &x), (mean, factor)) in self.stage.context.iter_mut().zip(features).zip(&self.scaling) {
            *out = ((f64::from(x) - mean) * factor).clamp(-self.clip, self.clip) as f32;
        }
        if self.unit {
            let row = &mut self.stage.context[..features.len()];
            let length = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
            }
        }
        self.stage.expected.fill(0.0);
        self.stage.expected[self.table.labels[row] as usize] = 1.0;
        Ok(true)
    }

    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()> {
        let i = self.stage.chosen(chosen)?;
        out.push(Outcome {
            reward: self.stage.expected[i],
            ..Outcome::default()
        });
        Ok(())
    }
}
