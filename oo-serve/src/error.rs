//! The one error type of the crate, with enough in it to make a problem document.

use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// What can go wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A request that cannot be served as it came.
    #[error("{field}: expected {expected}, got {got}")]
    Invalid {
        /// Where in the request.
        field: &'static str,
        /// What should stand there.
        expected: String,
        /// What came.
        got: String,
    },
    /// Nothing of that name is known.
    #[error("{field}: no {what} `{id}` is known")]
    NotFound {
        /// Where in the request.
        field: &'static str,
        /// What was looked up.
        what: &'static str,
        /// The name as it came.
        id: String,
    },
    /// An id that was used before, with another body.
    #[error("{field}: `{id}` was used before with another body")]
    Conflict {
        /// Where in the request.
        field: &'static str,
        /// The id.
        id: String,
    },
    /// Something that is known, and does not answer now.
    #[error("{field}: {what} `{id}` does not answer; try again, or do without it")]
    Silent {
        /// Where in the request.
        field: &'static str,
        /// What was asked.
        what: &'static str,
        /// Its name.
        id: String,
    },
    /// The disk does not take or give records now; nothing was acknowledged. The engine recovers by itself.
    #[error("the journal cannot be used now ({why}); try again in {} s", retry_after.as_secs().max(1))]
    Unavailable {
        /// What the disk said.
        why: String,
        /// True when it is full.
        full: bool,
        /// When to try again.
        retry_after: Duration,
    },
    /// A file of a format that this program does not know.
    #[error("{path} has format {found}; this program reads formats up to {known}: use the oo-serve that wrote it or a newer one", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// Another process serves from this folder.
    #[error("{path} is in use by another oo-serve; stop it or choose another folder", path = path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A file whose contents do not hold together.
    #[error("{path} is damaged: {why}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        why: String,
    },
    /// The operating system refused.
    #[error("cannot {doing} {path}: {why}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said. Part of the message, and so no source: whoever prints the chain would say it twice.
        why: io::Error,
    },
    /// A policy refused.
    #[error(transparent)]
    Policy(#[from] oo_core::Error),
}

impl Error {
    /// The status of an HTTP answer that says this.
    pub fn status(&self) -> u16 {
        match self {
            Error::Invalid { .. } | Error::Conflict { .. } => 422,
            Error::NotFound { .. } => 404,
            Error::Silent { .. } => 409,
            Error::Unavailable { full: true, .. } => 507,
            Error::Unavailable { .. } => 503,
            _ => 500,
        }
    }

    /// The field of the request that is to blame.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Error::Invalid { field, .. }
            | Error::NotFound { field, .. }
            | Error::Conflict { field, .. }
            | Error::Silent { field, .. } => Some(field),
            _ => None,
        }
    }

    /// True when a reading failed that may succeed later; false when what was to be read is not there, or is damaged.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Error::Io { why, .. } if why.kind() != io::ErrorKind::NotFound)
    }

    /// The same, as an answer that asks to come back.
    pub(crate) fn unread(self) -> Error {
        match self {
            e @ (Error::Io { .. } | Error::Policy(_)) => Error::Unavailable {
                why: e.to_string(),
                full: false,
                retry_after: Duration::from_secs(1),
            },
            other => other,
        }
    }

    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |why| Error::Io { doing, path, why }
    }

    pub(crate) fn invalid(field: &'static str, expected: impl Into<String>, got: impl ToString) -> Error {
        Error::Invalid {
            field,
            expected: expected.into(),
            got: got.to_string(),
        }
    }
}
