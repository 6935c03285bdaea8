//! The harness: worlds to choose in, real data, and (on top of them) runs and reports.
//!
//! An environment is named by a spec, `linear{d=10}+delay{rounds=50}`, and built by [`environments::build`];
//! data sets are found on disk by [`datasets::cache`] and read by [`datasets::reader`].

pub mod across;
pub mod commands;
pub mod datasets;
pub mod environments;
pub mod experiment;
pub mod experiments;
pub mod folder;
pub mod gate;
pub mod interrupt;
pub mod logs;
pub mod mlflow;
pub mod ope;
pub mod ope_bench;
pub mod pairs;
mod progress;
pub mod report;
pub mod runner;
pub mod sensitivity;
pub mod shard;
mod sheet;
pub mod store;
pub mod summary;
pub mod table;
pub mod tally;
pub mod until_decided;
pub mod weeks;

/// The examples of `docs/adding.md` are tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/adding.md")]
pub struct Adding;
