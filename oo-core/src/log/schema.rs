//! A log as a table: its columns, their types and order, and the note that all rows share. Every program that writes or
//! reads such a file takes them from here; how a file format stores them is known there alone. `docs/logs.md` says what
//! each column means.

use super::Row;
use crate::tips::Reaction;
use crate::{ActionId, Method, Shape};
use serde::{Deserialize, Serialize};

/// The key of the note in a file's metadata.
pub const NOTE: &str = "oo-log";

/// The version of the schema. Rises when a column changes its meaning, comes or goes.
pub const VERSION: u32 = 1;

/// What all rows of a log have in common; JSON in a file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The version of the schema.
    pub version: u32,
    /// Names of the features, and the number of actions where it is fixed.
    pub shape: Shape,
    /// The policy that logged, as a spec.
    pub policy: String,
    /// Where the rounds come from: an environment as a spec, or the name of a service.
    pub origin: String,
    /// The seed of a simulated log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The reward table (tips).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<String>,
    /// Names of actions by id, where they have names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
}

/// The type of a column, and how a cell follows from a row and the time of its decision.
#[derive(Clone, Copy, Debug)]
pub enum Cells {
    /// u64, or nothing.
    U64(fn(&Row<'_>, u64) -> Option<u64>),
    /// u32, or nothing.
    U32(fn(&Row<'_>, u64) -> Option<u32>),
    /// f64, or nothing.
    F64(fn(&Row<'_>, u64) -> Option<f64>),
    /// A text, or nothing.
    Text(fn(&Row<'_>, u64) -> Option<&'static str>),
    /// A list of f32.
    F32s(for<'r> fn(&Row<'r>) -> &'r [f32]),
    /// A list of f64.
    F64s(for<'r> fn(&Row<'r>) -> &'r [f64]),
    /// A list of u64.
    Ids(for<'r> fn(&Row<'r>) -> &'r [ActionId]),
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What stands in it.
    pub cells: Cells,
}

const fn column(name: &'static str, cells: Cells) -> Column {
    Column { name, cells }
}

fn draws(method: Method) -> Option<u32> {
    match method {
        Method::MonteCarlo { draws } => Some(draws),
        _ => None,
    }
}

/// All columns, in the order of the file.
pub const COLUMNS: [Column; 14] = [
    column("index", Cells::U64(|r, _| Some(r.round.index))),
    column("user", Cells::U64(|r, _| Some(r.round.user.0))),
    column("time", Cells::U64(|_, time| Some(time))),
    column("context", Cells::F32s(|r| r.round.context)),
    column("candidates", Cells::Ids(|r| r.round.candidates.ids)),
    column("features", Cells::F32s(|r| r.round.candidates.features)),
    column("probs", Cells::F64s(|r| r.probs)),
    column("chosen", Cells::U32(|r, _| Some(r.chosen as u32))),
    column("propensity", Cells::F64(|r, _| Some(r.propensity()))),
    column("method", Cells::Text(|r, _| Some(r.method.name()))),
    column("draws", Cells::U32(|r, _| draws(r.method))),
    column("reward", Cells::F64(|r, _| r.reward)),
    column(
        "reaction",
        Cells::Text(|r, _| r.feedback.map(|f| Reaction::name(f.reaction))),
    ),
    column("dwell_ms", Cells::U64(|r, _| r.feedback?.dwell_ms)),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of version 1 has these columns; another list is another version.
    #[test]
    fn version_1_is_this() {
        let kind = |cells: &Cells| match cells {
            Cells::U64(_) => "u64",
            Cells::U32(_) => "u32",
            Cells::F64(_) => "f64",
            Cells::Text(_) => "text",
            Cells::F32s(_) => "f32s",
            Cells::F64s(_) => "f64s",
            Cells::Ids(_) => "u64s",
        };
        let columns: Vec<String> = COLUMNS
            .iter()
            .map(|c| format!("{} {}", c.name, kind(&c.cells)))
            .collect();
        let expected = "index u64, user u64, time u64, context f32s, candidates u64s, features f32s, probs f64s, \
                        chosen u32, propensity f64, method text, draws u32, reward f64, reaction text, dwell_ms u64";
        assert_eq!((VERSION, columns.join(", ")), (1, expected.to_string()));
    }
}
