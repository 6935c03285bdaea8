//! A folder with one JSON file a user: `alice.json` is a list of candidates as in `POST /recommend`, or an object with
//! `candidates` and, where wanted, `profile` and `utc_offset_minutes`.
//!
//! A name that is no plain file name stands in hexadecimal, as `hex-` and two digits a byte. Files are read again once
//! their time or size changes; write them under another name and rename.

use super::{SignalError, SignalSource, Signals};
use crate::http::contract::{Candidate, ProfileBody};
use crate::http::rounds::check_profile;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Files kept parsed.
const KEPT: usize = 1024;
/// Bytes of a file; the limit of a request's body.
const LARGEST: u64 = 1 << 20;

/// Minutes.
const DAY: i32 = 1440;

/// See the module.
#[derive(Debug)]
pub struct FileSource {
    dir: PathBuf,
    kept: Mutex<BTreeMap<String, (Stamp, Arc<Signals>)>>,
}

type Stamp = (Option<SystemTime>, u64);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<'a> {
    #[serde(borrow, default)]
    candidates: Vec<Candidate<'a>>,
    profile: Option<ProfileBody>,
    #[serde(default)]
    utc_offset_minutes: i32,
}

impl FileSource {
    /// Over an existing folder.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn new(dir: &Path) -> Result<FileSource, SignalError> {
        if !dir.is_dir() {
            return Err(SignalError::Unavailable(format!("{} is no folder", dir.display())));
        }
        Ok(FileSource {
            dir: dir.into(),
            kept: Mutex::default(),
        })
    }
}

/// The file of a user. No name leads out of the folder.
fn file_name(user: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_@+".contains(&b) || b == b'.';
    if user.len() <= 120 && !user.starts_with(['.', '-']) && !user.starts_with("hex-") && user.bytes().all(plain) {
        return format!("{user}.json");
    }
    let hex: String = user.bytes().map(|b| format!("{b:02x}")).collect();
    format!("hex-{hex}.json")
}

impl SignalSource for FileSource {
    fn signals(&self, user: &str) -> Result<Arc<Signals>, SignalError> {
        let path = self.dir.join(file_name(user));
        let unknown = || SignalError::Unknown(user.into());
        let told = |e: &dyn std::fmt::Display| SignalError::Unavailable(format!("{}: {e}", path.display()));
        let meta = match std::fs::metadata(&path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => return Err(unknown()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(unknown()),
            // A name too long for the file system is nobody's.
            Err(e) if e.kind() == std::io::ErrorKind::InvalidFilename => return Err(unknown()),
            Err(e) => return Err(told(&e)),
        };
        if meta.len() > LARGEST {
            return Err(told(&format_args!("{} bytes; expected at most {LARGEST}", meta.len())));
        }
        let stamp = (meta.modified().ok(), meta.len());
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((before, signals)) = kept.get(user)
                && *before == stamp
            {
                return Ok(Arc::clone(signals));
            }
        }
        let text = std::fs::read_to_string(&path).map_err(|e| told(&e))?;
        let signals = if text.trim_ascii_start().starts_with('[') {
            Signals {
                candidates: owned(serde_json::from_str(&text).map_err(|e| told(&e))?),
                ..Signals::default()
            }
        } else {
            let object: Object<'_> = serde_json::from_str(&text).map_err(|e| told(&e))?;
            if let Some(Err((name, why))) = object.profile.as_ref().map(check_profile) {
                return Err(told(&format_args!("profile.{name}: {why}")));
            }
            if object.utc_offset_minutes.abs() > DAY {
                let got = object.utc_offset_minutes;
                return Err(told(&format_args!(
                    "utc_offset_minutes: expected -{DAY} to {DAY}, got {got}"
                )));
            }
            Signals {
                candidates: owned(object.candidates),
                profile: object.profile,
                profile_at: stamp
                    .0
                    .and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok())
                    .map(|since| since.as_millis() as u64),
                utc_offset_minutes: object.utc_offset_minutes,
            }
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            // Whoever comes first by name: any will do, the file is still there.
            kept.pop_first();
        }
        let signals = Arc::new(signals);
        kept.insert(user.into(), (stamp, Arc::clone(&signals)));
        Ok(signals)
    }
}

fn owned(candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'static>> {
    candidates.into_iter().map(Candidate::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_and_objects_and_sees_changes() {
        let dir = tempfile::tempdir().unwrap();
        let source = FileSource::new(dir.path()).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "alice.json",
            r#"[{"id":"a","content":"Call","due":"2026-11-24"},{"id":7}]"#,
        );
        let signals = source.signals("alice").unwrap();
        assert_eq!((signals.candidates.len(), &*signals.candidates[1].id), (2, "7"));
        write(
            "alice.json",
            r#"{"candidates":[{"id":"b"}],"profile":{"preferred_hour":9},"utc_offset_minutes":60}"#,
        );
        let signals = source.signals("alice").unwrap();
        assert_eq!((&*signals.candidates[0].id, signals.utc_offset_minutes), ("b", 60));
        write("bob.json", "[{]");
        assert!(matches!(source.signals("bob"), Err(SignalError::Unavailable(_))));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("secret.json"), "[]").unwrap();
        let source = FileSource::new(&dir.path().join("in")).unwrap();
        for name in [
            "../secret",
            "/etc/passwd",
            "..",
            ".",
            "",
            "a/b",
            "a\0b",
            &"x".repeat(5000),
            "Zoë",
        ] {
            assert!(matches!(source.signals(name), Err(SignalError::Unknown(_))), "{name:?}");
        }
        assert_eq!(file_name("Zoë"), "hex-5a6fc3ab.json");
        assert_eq!(file_name("hex-5a"), "hex-6865782d3561.json");
    }
}
