//! Where results lie: a folder of this machine, or a prefix of a bucket on object storage.
//!
//! Both hold files by name. A file is written whole or not at all, and whoever reads sees all of it, on a disk because
//! it is renamed into place, in a bucket because a put is atomic. Nothing else is asked of a place, so that many
//! machines may write to one without a lock.

mod local;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod send;

use anyhow::{Context, Error, Result, ensure};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Files by name. Names are relative, with `/` between their parts. Errors say what went wrong and leave it to the
/// caller to say with which file.
pub trait Folder: fmt::Debug + Send + Sync {
    /// The bytes of a file; `None` where there is none.
    ///
    /// # Errors
    /// A place that cannot be reached or read.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Writes a file, over one that is there.
    ///
    /// # Errors
    /// A full disk, a place that cannot be reached or written.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Writes a file unless there is one; says whether it did. Of several writers at the same time one does.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool>;

    /// The names of the files in a sub-folder, in order; none where it is missing.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn list(&self, folder: &str) -> Result<Vec<String>>;
}

/// A folder or a file by its place: `runs/compare`, or `s3://BUCKET/PREFIX`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Location {
    /// On this machine, or wherever its file system leads.
    Local(PathBuf),
    /// On object storage that speaks S3.
    S3 {
        /// The bucket.
        bucket: String,
        /// What the names of objects begin with; no `/` at either end.
        prefix: String,
    },
}

impl Location {
    /// A file or folder in this one.
    pub fn join(&self, name: &str) -> Location {
        match self {
            Location::Local(path) => Location::Local(path.join(name)),
            Location::S3 { bucket, prefix } => Location::S3 {
                bucket: bucket.clone(),
                prefix: if prefix.is_empty() {
                    name.into()
                } else {
                    format!("{prefix}/{name}")
                },
            },
        }
    }

    /// The path, where the place is on this machine.
    pub fn local(&self) -> Option<&Path> {
        match self {
            Location::Local(path) => Some(path),
            Location::S3 { .. } => None,
        }
    }

    /// The folder, for reading. Nothing is made, and a folder that is not there is one without files.
    ///
    /// # Errors
    /// Object storage whose settings in the environment do not do.
    pub fn folder(&self) -> Result<Arc<dyn Folder>> {
        Ok(match self {
            Location::Local(path) => Arc::new(local::Local::new(path)),
            #[cfg(feature = "s3")]
            Location::S3 { bucket, prefix } => Arc::new(s3::Bucket::from_env(bucket, prefix)?),
            #[cfg(not(feature = "s3"))]
            Location::S3 { .. } => anyhow::bail!(NO_S3),
        })
    }

    /// The folder, for writing: one on this machine is made where it is missing.
    ///
    /// # Errors
    /// A folder that cannot be made; as [`folder`](Self::folder).
    pub fn make(&self) -> Result<Arc<dyn Folder>> {
        match self {
            Location::Local(path) => Ok(Arc::new(local::Local::make(path)?)),
            Location::S3 { .. } => self.folder(),
        }
    }

    /// The text of a file.
    ///
    /// # Errors
    /// A file that is missing, cannot be read, or is no text.
    pub fn read_text(&self) -> Result<String> {
        let read = || -> Result<String> {
            let (folder, name) = match self {
                Location::Local(path) => return Ok(std::fs::read_to_string(path)?),
                Location::S3 { bucket, prefix } => {
                    let (folder, name) = prefix.rsplit_once('/').unwrap_or(("", prefix));
                    let (bucket, prefix) = (bucket.clone(), folder.into());
                    (Location::S3 { bucket, prefix }, name)
                }
            };
            let bytes = folder.folder()?.read(name)?.context("there is no such object")?;
            Ok(String::from_utf8(bytes)?)
        };
        read().with_context(|| format!("cannot read {self}"))
    }

    /// Writes text to a file, whole or not at all.
    ///
    /// # Errors
    /// A full disk, a place that cannot be reached or written.
    pub fn write_text(&self, text: &str) -> Result<()> {
        match self {
            Location::Local(path) => crate::store::write_text(path, text),
            Location::S3 { bucket, prefix } => {
                let bucket = Location::S3 {
                    bucket: bucket.clone(),
                    prefix: String::new(),
                };
                let written = bucket.folder().and_then(|b| b.write(prefix, text.as_bytes()));
                written.with_context(|| format!("cannot write {self}"))
            }
        }
    }
}

/// What to say of `s3://` where it was left out.
#[cfg(not(feature = "s3"))]
const NO_S3: &str = "this oo-sim was built without object storage; build it with \
                     `cargo build --release --bin oo-sim --features s3`";

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((scheme, _rest)) = text.split_once("://") else {
            ensure!(!text.is_empty(), "expected a folder or s3://BUCKET/PREFIX, got nothing");
            return Ok(Location::Local(text.into()));
        };
        ensure!(
            scheme == "s3",
            "`{scheme}://` is no place that oo-sim knows; expected a folder or s3://BUCKET/PREFIX"
        );
        #[cfg(not(feature = "s3"))]
        anyhow::bail!(NO_S3);
        #[cfg(feature = "s3")]
        {
            let (bucket, prefix) = _rest.split_once('/').unwrap_or((_rest, ""));
            let prefix = prefix.trim_end_matches('/');
            let sound = prefix.is_empty() || prefix.split('/').all(|part| !["", ".", ".."].contains(&part));
            ensure!(
                !bucket.is_empty() && sound,
                "expected s3://BUCKET/PREFIX, with no empty part and no `.` or `..` in PREFIX, got `{text}`"
            );
            Ok(Location::S3 {
                bucket: bucket.into(),
                prefix: prefix.into(),
            })
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Location::Local(path)
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Location::Local(path.into())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Local(path) => path.display().fmt(f),
            Location::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Location::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_shown() {
        let of = |text: &str| text.parse::<Location>();
        assert_eq!(of("runs/x").unwrap(), Location::Local("runs/x".into()));
        assert_eq!(of("runs/x").unwrap().join("cells").to_string(), "runs/x/cells");
        let e = of("gs://bucket/x").unwrap_err().to_string();
        assert!(e.contains("`gs://`") && e.contains("s3://BUCKET/PREFIX"), "{e}");
        assert!(of("").is_err());
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn without_object_storage_the_feature_is_named() {
        let e = "s3://bucket/x".parse::<Location>().unwrap_err().to_string();
        assert!(e.contains("--features s3"), "{e}");
    }

    #[cfg(feature = "s3")]
    #[test]
    fn buckets_are_read_and_shown() {
        let of = |text: &str| text.parse::<Location>();
        for (text, shown) in [
            ("s3://b", "s3://b"),
            ("s3://b/", "s3://b"),
            ("s3://b/x/y/", "s3://b/x/y"),
        ] {
            assert_eq!(of(text).unwrap().to_string(), shown);
        }
        assert_eq!(of("s3://b").unwrap().join("x").join("y"), of("s3://b/x/y").unwrap());
        for bad in ["s3://", "s3:///x", "s3://b//x", "s3://b/../x"] {
            let e = of(bad).unwrap_err().to_string();
            assert!(e.contains(&format!("got `{bad}`")), "{e}");
        }
    }
}
