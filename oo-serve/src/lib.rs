//! The winning policy in production: the same policies and the same bits as the simulator, behind a journal that keeps
//! its word.
//!
//! [`journal`] is the truth on disk: checksummed records, appended, flushed in groups. [`engine`] is a deterministic
//! state machine over it: what it knows is what a replay of the journal gives, bit for bit. [`http`] is what callers see;
//! [`rollout`] brings policies into charge without a leap.

pub mod artefact;
pub mod assignment;
pub mod config;
pub mod drift;
pub mod engine;
pub mod error;
pub mod export;
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod inspect;
pub mod journal;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod registry;
pub mod rollout;
pub mod signals;

pub use engine::{Answer, Ask, Engine, Feedback, Receipt, Settings};
pub use error::Error;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;
