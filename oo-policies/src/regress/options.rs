//! What can be said about a linear model, and its help.

use oo_core::registry::OptionHelp;
use serde::{Deserialize, Serialize};

/// Who shares weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Shared where candidates have features of their own, disjoint where they have none.
    #[default]
    Auto,
    /// One weight vector over all features.
    Shared,
    /// One weight vector an action.
    Disjoint,
    /// Both: one over all features, and one an action over the context (a constant where there is no context).
    Hybrid,
}

/// The options of every policy on a linear model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // said in `OPTIONS`
pub struct Options {
    pub lambda: f64,
    pub model: Model,
    pub features: String,
    pub discount: f64,
    pub window: usize,
    pub fourier: usize,
    pub kernel_width: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            lambda: 1.0,
            model: Model::Auto,
            features: "all".into(),
            discount: 1.0,
            window: 0,
            fourier: 0,
            kernel_width: 0.5,
        }
    }
}

/// Their help.
pub const OPTIONS: &[OptionHelp] = &[
    ("lambda", "ridge penalty; positive"),
    (
        "model",
        "auto, shared (one weight vector), disjoint (one an action) or hybrid (both)",
    ),
    ("features", "all, or a feature spec of the tips world: v0, v1, v2, v3"),
    (
        "discount",
        "weight of a row against the next one, for worlds that drift; above 0, 1 forgets nothing",
    ),
    ("fourier", "random Fourier features beside the row; 0 for none"),
    (
        "kernel_width",
        "width of their kernel, in units of the root of the number of features; positive",
    ),
    ("window", "learn from so many last rows only; 0 for all"),
];
