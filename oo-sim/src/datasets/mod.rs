//! Real data: what sets there are, where they lie on this machine, how they get there, and how they are read.

pub mod cache;
pub mod convert;
mod download;
pub mod get;
pub mod manifest;
pub mod reader;

pub use manifest::{Dataset, find, sets};
pub use reader::Table;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

/// A file as it was when it was read; a changed file is read again.
type Stamp = (PathBuf, u64, Option<SystemTime>);

/// Reads a classification set by name or path, once a process: every seed and every policy shares the table.
///
/// # Errors
/// What [`cache::locate`] and [`reader::read`] say.
pub fn load(name: &str) -> anyhow::Result<Arc<Table>> {
    static TABLES: OnceLock<Mutex<HashMap<Stamp, Arc<Table>>>> = OnceLock::new();
    if let Some(set) = manifest::find(name) {
        anyhow::ensure!(
            set.task == "classification",
            "data set `{name}` is a log of another policy's choices ({}), not a classification set; for `data:` take \
             one of: {}",
            set.task,
            manifest::sets()
                .iter()
                .filter(|s| s.task == "classification")
                .map(|s| s.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    let path = cache::locate(name)?;
    let stamp = stamp(&path);
    // The lock is held while reading, so that parallel runs read a file once and not once each.
    let mut tables = TABLES
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(table) = tables.get(&stamp) {
        return Ok(table.clone());
    }
    let table = Arc::new(reader::read(&path)?);
    tables.insert(stamp, table.clone());
    Ok(table)
}

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok();
    let length = about.as_ref().map_or(0, std::fs::Metadata::len);
    (path.to_path_buf(), length, about.and_then(|m| m.modified().ok()))
}
