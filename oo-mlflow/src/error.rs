//! What can go wrong between here and the server.

use std::io;
use std::path::{Path, PathBuf};

/// Every failure of this crate. No message holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address that is no web address.
    #[error("tracking URI `{got}`: expected http://HOST:PORT or https://HOST, {why}")]
    Address {
        /// Without what may be secret in it.
        got: String,
        /// What is wrong.
        why: &'static str,
    },
    /// No answer, or one that says to come again.
    #[error("MLflow at {server} does not answer: {why}")]
    Unreachable {
        /// The address without secrets.
        server: String,
        /// What the system or the server says.
        why: String,
    },
    /// The server understood and said no.
    #[error("MLflow at {server} refused {call}: {status} {code}: {message}")]
    Refused {
        /// The address without secrets.
        server: String,
        /// The call.
        call: String,
        /// HTTP status.
        status: u16,
        /// MLflow's own code, such as `RESOURCE_DOES_NOT_EXIST`.
        code: String,
        /// What it says, shortened.
        message: String,
    },
    /// An answer that is not what MLflow answers.
    #[error("MLflow's answer to {call} has no {missing}; is there an MLflow server at {server}?")]
    Answer {
        /// The address without secrets.
        server: String,
        /// The call.
        call: String,
        /// What was expected in it.
        missing: String,
    },
    /// A file of the spool, or one that it names.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A spool whose lines do not parse.
    #[error("{}, line {line}: {why}; move the folder away, and the run is logged anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Somebody else is at work on this spool.
    #[error("{} is in use by another process, which sends its records itself", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A file that is not what it was when it was noted.
    #[error("{} has changed: expected SHA-256 {expected}, got {got}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Noted.
        expected: String,
        /// Found.
        got: String,
    },
    /// Artefacts that are not behind the server.
    #[error(
        "artefacts of this server lie at {uri}, which its REST interface does not reach; start it with \
         --artifacts-destination instead of --default-artifact-root"
    )]
    Elsewhere {
        /// Where they lie.
        uri: String,
    },
    /// A model's name that does not parse.
    #[error("`{got}`: expected models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest")]
    Reference {
        /// What was given.
        got: String,
    },
    /// A model, version or alias that is not there.
    #[error("MLflow at {server} has no {what}")]
    Missing {
        /// The address without secrets.
        server: String,
        /// What was asked for.
        what: String,
    },
}

/// What this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// True when the same call may succeed later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Error::Unreachable { .. })
    }

    /// True when every other call would be refused too: no access, or no such interface.
    pub fn is_about_the_server(&self) -> bool {
        matches!(
            self,
            Error::Answer { .. }
                | Error::Refused {
                    status: 401 | 403 | 405 | 407,
                    ..
                }
        )
    }

    /// True when the server says that what was asked for is not there. A missing alias answers 400.
    pub fn is_missing(&self) -> bool {
        match self {
            Error::Refused { status: 404, .. } => true,
            Error::Refused {
                status: 400,
                code,
                message,
                ..
            } => code == "INVALID_PARAMETER_VALUE" && message.contains("alias") && message.contains("not found"),
            _ => false,
        }
    }

    pub(crate) fn has_code(&self, wanted: &str) -> bool {
        matches!(self, Error::Refused { code, .. } if code == wanted)
    }

    pub(crate) fn file(path: &Path, source: io::Error) -> Error {
        Error::File {
            path: path.into(),
            source,
        }
    }
}
