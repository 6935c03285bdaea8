//! MLflow over REST: experiments, runs, artefacts, data sets and the model registry, and a spool between a run and the
//! server.
//!
//! A run writes [`Entry`]s to a [`Spool`], a folder of its own; a [`Background`] thread or a [`Sender`] brings them to the
//! server, whenever there is one, each once. So a server that is down or slow neither fails nor slows a run.
//!
//! Written against MLflow 3.17.2. What that server refuses or changes in silence is in [`limits`].

mod address;
mod artefacts;
mod background;
mod client;
mod entry;
mod error;
pub mod limits;
mod registry;
mod runs;
mod sender;
mod spool;

pub use address::{Address, Credentials, redacted};
pub use background::{Background, Outcome};
pub use client::{Client, Patience};
pub use entry::{Artefact, Content, Dataset, Entry, Metric, Model, Role, Status, now_ms};
pub use error::{Error, Result};
pub use registry::{CHALLENGER, CHAMPION, Reference, Version, Which};
pub use runs::Run;
pub use sender::Sender;
pub use spool::{Header, Runs, Spool};
