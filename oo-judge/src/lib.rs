//! Everything that passes judgement: reactions of people, statistics on what came of choices, and the worth of a
//! policy that never ran, from the log of one that did.

pub mod error;
pub mod estimators;
pub mod gate;
pub mod models;
pub mod reactions;
pub mod stats;

pub use error::Error;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;
