//! The nouns of oO: what a policy sees, what it decided, what came of it, and the traits between the crates.
//!
//! This crate opens no file and no socket, reads no clock and starts no thread. Randomness is a value
//! ([`Key`]), not a generator: the same seed gives the same bits on every machine and for any thread count.
//!
//! ```
//! use oo_core::Key;
//! let key = Key::root(42).name("world").fold(7);
//! assert_eq!(key.uniform(), Key::root(42).name("world").fold(7).uniform());
//! ```

pub mod decision;
pub mod environment;
pub mod error;
pub mod features;
pub mod judge;
pub mod key;
pub mod log;
pub mod normal;
pub mod policy;
pub mod registry;
pub mod round;
pub mod spec;
pub mod tips;

pub use decision::{Decision, Method, Proposal};
pub use environment::{Arrival, Environment, Outcome};
pub use error::Error;
pub use key::Key;
pub use log::{Batch, Log, Row};
pub use policy::{Build, Policy};
pub use round::{ActionId, Candidates, Round, Shape, UserId};
pub use spec::Spec;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;
