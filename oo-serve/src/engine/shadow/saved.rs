//! What shadows have learned, in a file beside each snapshot.

use crate::engine::codec::{Get, Put};
use crate::engine::snapshot;
use crate::journal::disk::Disk;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// What all shadows together may take to say what they have learned, for a snapshot.
const SAVING: Duration = Duration::from_secs(1);
/// The first bytes of a file of shadows.
const MAGIC: &[u8; 8] = b"oOshdw\x01\n";

/// What is still to come from a shadow that was asked what it has learned.
pub(crate) type Saving = Vec<(String, Receiver<Vec<u8>>)>;

/// What shadows had learned, by name.
pub(crate) type Saved = BTreeMap<String, Vec<u8>>;

/// The file beside the snapshot at a record.
pub(crate) fn path(dir: &Path, seq: u64) -> PathBuf {
    snapshot::path(dir, seq).with_extension("shadows")
}

/// Removes the files whose snapshots are gone.
pub(crate) fn tidy(dir: &Path, snapshots: &[u64], disk: &dyn Disk) -> Result<()> {
    let folder = snapshot::folder(dir);
    let needed: Vec<PathBuf> = snapshots.iter().map(|seq| path(dir, *seq)).collect();
    for entry in std::fs::read_dir(&folder).map_err(Error::io("read the folder", &folder))? {
        let path = entry.map_err(Error::io("read the folder", &folder))?.path();
        if path.extension().is_some_and(|e| e == "shadows") && !needed.contains(&path) {
            disk.remove(&path).map_err(Error::io("remove", path))?;
        }
    }
    Ok(())
}

/// Writes what those say who answer in time.
pub(crate) fn store(asked: Saving, dir: &Path, seq: u64, disk: &dyn Disk) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let (all, until) = (asked.len(), Instant::now() + SAVING);
    let answered = asked.into_iter().filter_map(|(name, saved)| {
        let left = until.saturating_duration_since(Instant::now());
        Some((name, saved.recv_timeout(left).ok()?))
    });
    let answered: Vec<_> = answered.collect();
    let path = path(dir, seq);
    if answered.len() < all && path.exists() {
        // Of the same record, and whole.
        return Ok(());
    }
    let mut out = MAGIC.to_vec();
    out.u64(answered.len() as u64);
    for (name, state) in &answered {
        out.text(name);
        out.bytes(state);
    }
    let crc = crc32c::crc32c(&out);
    out.u32(crc);
    let temporary = path.with_extension("shadows.tmp");
    let mut file = disk.create(&temporary).map_err(Error::io("create", &temporary))?;
    let written = file.write_at(&out, 0).and_then(|()| file.sync());
    let renamed = written.and_then(|()| disk.rename(&temporary, &path));
    // What is left of it takes room, and has another name the next time.
    renamed
        .inspect_err(|_| drop(disk.remove(&temporary)))
        .map_err(Error::io("write", &path))
}

/// Reads it; empty where it is not there. The error says what is wrong with it.
pub(crate) fn load(dir: &Path, seq: u64) -> std::result::Result<Saved, String> {
    let path = path(dir, seq);
    let bytes = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Saved::new()),
        read => read.map_err(|e| format!("{}: {e}", path.display()))?,
    };
    let parse = || {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc32c::crc32c(body).to_le_bytes() != crc {
            return None;
        }
        let mut from = Get(body.strip_prefix(MAGIC)?);
        let mut saved = Saved::new();
        for _ in 0..from.u64()? {
            saved.insert(from.text()?.into(), from.bytes()?.into());
        }
        from.done().then_some(saved)
    };
    parse().ok_or_else(|| format!("{} is damaged: shadows begin anew", path.display()))
}
