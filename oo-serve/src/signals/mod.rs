//! Where candidates come from when a request brings none, and what a person was like, by others than the journal.

mod file;

pub use file::FileSource;

use crate::http::contract::{Candidate, ProfileBody};
use std::sync::Arc;

/// What a source knows of a user.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// What may be shown.
    pub candidates: Vec<Candidate<'static>>,
    /// Aggregates of the user, where the source keeps them.
    pub profile: Option<ProfileBody>,
    /// When these were found, milliseconds since 1970, where the source knows: an old profile counts as none.
    pub profile_at: Option<u64>,
    /// Minutes that the user's clock is ahead of UTC.
    pub utc_offset_minutes: i32,
}

/// What can go wrong with a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The source does not know the user.
    #[error("no signals of user `{0}`")]
    Unknown(String),
    /// The source cannot answer now.
    #[error("the signals cannot be read: {0}")]
    Unavailable(String),
}

/// A place that knows what a user could do now: a folder, a task list in the cloud.
pub trait SignalSource: Send + Sync {
    /// The user's candidates. May block.
    ///
    /// # Errors
    /// [`SignalError::Unknown`] for a stranger, [`SignalError::Unavailable`] for everything else.
    fn signals(&self, user: &str) -> Result<Arc<Signals>, SignalError>;
}
