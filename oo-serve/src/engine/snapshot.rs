//! Everything known at one record, in one file: `snapshots/SEQ.snap`. A start reads the newest sound one and replays what
//! follows. The bytes are a function of the state alone, so their digest tells whether two states are equal.
//!
//! ```text
//! magic 8 · format u32 · 0 u32 · state (length u32 before it) · models: (1 u8 · user u64 · length u32 · bytes)* · 0 u8
//! · where an experiment runs, its challenger's models likewise · CRC32C of everything before u32
//! ```
//!
//! Format 4 is the same without what early feedback says of its decision, format 3 also without policies that can come back,
//! format 2 also without experiments, shadows and agreement, format 1 also without people's histories and joins; all are read
//! as well.

mod load;

pub(crate) use load::{load, verify};

use super::codec::Put;
use super::event::Swapped;
use super::experiment;
use super::models::Frozen;
use super::state::{Mark, Serving, State, read};
use crate::journal::{disk::Disk, disk::Sink, fail};
use crate::{Error, Result};
use oo_core::tips::Feedback;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

/// The snapshots' format. Rises when older programs could misread it.
pub const FORMAT: u32 = 5;
/// Bytes that are written at once.
const PIECE: usize = 1 << 20;
const MAGIC: &[u8; 8] = b"oOsnap\r\n";

pub(crate) fn folder(dir: &Path) -> PathBuf {
    dir.join("snapshots")
}

/// The path of the snapshot at a record.
pub(crate) fn path(dir: &Path, seq: u64) -> PathBuf {
    folder(dir).join(format!("{seq:020}.snap"))
}

/// The numbers of the snapshots that there are, rising.
pub(crate) fn list(dir: &Path) -> Result<Vec<u64>> {
    let folder = folder(dir);
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io("read the folder", &folder))? {
        let entry = entry.map_err(Error::io("read the folder", &folder))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_suffix(".snap"));
        found.extend(number.and_then(|n| n.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// A copy of everything at one moment, cheap to take, to be written at leisure.
pub(crate) struct Still {
    pub seq: u64,
    state: State,
    serving: Served,
    challenger: Option<Served>,
}

/// A policy at that moment and what is said about it.
struct Served {
    swapped: Swapped,
    updates: u64,
    refused: u64,
    models: Frozen,
}

impl Served {
    fn of(serving: &Serving) -> Served {
        Served {
            swapped: serving.swapped.clone(),
            updates: serving.updates,
            refused: serving.refused,
            models: serving.models.freeze(),
        }
    }
}

fn put_feedback(out: &mut Vec<u8>, feedback: Option<Feedback>) {
    out.u8(feedback.map_or(u8::MAX, |f| f.reaction as u8));
    out.option(feedback.and_then(|f| f.dwell_ms));
}

/// Takes the copy.
pub(crate) fn take(state: &State, serving: &Serving) -> Still {
    Still {
        seq: state.last.seq,
        state: state.clone(),
        serving: Served::of(serving),
        challenger: state.trial.as_ref().map(|trial| Served::of(&read(&trial.challenger))),
    }
}

/// Bytes on their way to where they are written; the whole of them is never in memory.
struct Spool<'w> {
    buffer: Vec<u8>,
    out: &'w mut dyn Write,
}

impl Spool<'_> {
    /// Lets go of what is there, where that is much.
    fn spill(&mut self) -> io::Result<()> {
        if self.buffer.len() >= PIECE {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl Deref for Spool<'_> {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.buffer
    }
}

impl DerefMut for Spool<'_> {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }
}

/// Writes everything but the models.
fn head(state: &State, serving: &Served, challenger: Option<&Served>, out: &mut dyn Write) -> io::Result<()> {
    let Served {
        swapped,
        updates,
        refused,
        ..
    } = serving;
    let mut out = Spool {
        buffer: Vec::new(),
        out,
    };
    let Mark { seq, time, at } = state.last;
    [seq, time, at.bits()].into_iter().for_each(|v| out.u64(v));
    out.text(&serde_json::to_string(&state.rules).expect("rules are plain data"));
    out.text(&serde_json::to_string(&state.counts).expect("counts are plain data"));
    swapped.encode(&mut out);
    out.u64(*updates);
    out.u64(*refused);
    let users = state.users.sorted();
    out.u64(users.len() as u64);
    for (id, u) in users {
        [id, u.decisions, u.pulls, u.sum.to_bits(), u.updated, u.last.bits()]
            .into_iter()
            .for_each(|v| out.u64(v));
        out.u8(u8::from(u.history.is_some()));
        if let Some(history) = &u.history {
            history.encode(&mut out);
        }
        out.spill()?;
    }
    let open = || state.due.iter().filter_map(|due| Some((due.0, state.is_open(due)?)));
    out.u64(open().count() as u64);
    for (hash, o) in open() {
        [hash, o.at.bits(), o.user, o.deadline]
            .into_iter()
            .for_each(|v| out.u64(v));
        out.u8(u8::from(o.waiting) | u8::from(o.observe) << 1);
        out.spill()?;
    }
    out.u64(state.early.len() as u64);
    for (hash, held) in &state.early {
        out.u64(*hash);
        out.u32(held.len() as u32);
        for e in held {
            [e.at.bits(), e.time, e.reward.to_bits()]
                .into_iter()
                .for_each(|v| out.u64(v));
            put_feedback(&mut out, e.feedback);
            out.option(e.until);
            e.claim.encode(&mut out);
        }
        out.spill()?;
    }
    out.u64(state.joins.len() as u64);
    for (hash, joined) in state.joins.sorted() {
        out.u64(hash);
        out.u8(joined.join as u8);
        out.u64(joined.n);
        out.f64(joined.value);
        put_feedback(&mut out, joined.feedback);
        out.spill()?;
    }
    let due = state.early_until();
    out.u64(due.len() as u64);
    for (until, hash) in due {
        out.u64(until);
        out.u64(hash);
        out.spill()?;
    }
    // What is too old to matter is left out, so that the bytes do not depend on when it was dropped last.
    let first = state.outdated().map_or(0, |last| last + 1);
    let ids = state.ids.sorted(first);
    out.u64(ids.len() as u64);
    for (hash, at) in ids {
        out.u64(hash);
        out.u64(at.bits());
        out.spill()?;
    }
    out.u64(state.forgotten.len() as u64);
    for (user, seq) in &state.forgotten {
        out.u64(*user);
        out.u64(*seq);
        out.spill()?;
    }
    let ends = || state.segment_ends.range(first..);
    out.u64(ends().count() as u64);
    ends().for_each(|(segment, time)| {
        out.u32(*segment);
        out.u64(*time);
    });
    put_rollout(&mut out, state, challenger);
    out.out.write_all(&out.buffer)
}

/// What format 3 added, and 4 to it: how policies come into charge.
fn put_rollout(out: &mut Vec<u8>, state: &State, challenger: Option<&Served>) {
    out.u64(state.generations);
    out.u64(state.before.len() as u64);
    for f in &state.before {
        out.u64(f.generation);
        out.text(&f.spec);
        out.u64(f.until);
    }
    out.f64(state.agreement.sum);
    out.u64(state.agreement.count);
    out.u64(state.shadows.len() as u64);
    for (name, s) in &state.shadows {
        [name, &s.spec, &s.digest].into_iter().for_each(|t| out.text(t));
        [s.since, s.proposed, s.failed].into_iter().for_each(|v| out.u64(v));
    }
    state.ends.iter().for_each(|n| out.u64(*n));
    out.u8(u8::from(state.ended.is_some()));
    if let Some(ended) = &state.ended {
        ended.encode(out);
    }
    out.u8(u8::from(state.trial.is_some()));
    let (Some(trial), Some(challenger)) = (&state.trial, challenger) else {
        return;
    };
    let begun = experiment::begun(trial, &challenger.swapped);
    out.u64(trial.number);
    begun.encode(out);
    out.u64(challenger.updates);
    out.u64(challenger.refused);
    for arm in trial.arms.iter().flatten() {
        arm.parts().iter().for_each(|v| out.f64(*v));
    }
    let users = trial.users.sorted();
    out.u64(users.len() as u64);
    for (id, person) in users {
        out.u64(id);
        out.u8(person.arm);
        person.numbers.iter().for_each(|c| {
            out.f64(c.sum);
            out.f64(c.count);
        });
    }
}

impl Still {
    fn write(self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&FORMAT.to_le_bytes())?;
        out.write_all(&[0; 4])?;
        // Twice, once for its length.
        let head = |out: &mut dyn Write| head(&self.state, &self.serving, self.challenger.as_ref(), out);
        let mut counted = Counting(0);
        head(&mut counted)?;
        let len = u32::try_from(counted.0).map_err(|_| io::Error::other("a snapshot of more than 4 GB"))?;
        out.write_all(&len.to_le_bytes())?;
        head(out)?;
        // Whoever changed what it shared holds a copy of it: the less there is of these at once, the better.
        drop(self.state);
        self.serving.models.write(out)?;
        out.write_all(&[0])?;
        if let Some(challenger) = &self.challenger {
            challenger.models.write(out)?;
            out.write_all(&[0])?;
        }
        Ok(())
    }

    /// SHA-256 of the whole, in hex: equal for equal states.
    pub fn digest(self) -> Result<String> {
        let mut hash = Hashing(Sha256::new());
        self.write(&mut hash).map_err(Error::io("read", "a packed model"))?;
        Ok(hex(&hash.0.finalize()))
    }

    /// SHA-256 of the models alone, in hex.
    pub fn models_digest(&self) -> Result<String> {
        let mut hash = Hashing(Sha256::new());
        self.serving
            .models
            .write(&mut hash)
            .map_err(Error::io("read", "a packed model"))?;
        Ok(hex(&hash.0.finalize()))
    }

    /// Writes the file, under another name first.
    ///
    /// # Errors
    /// A disk that does not take it; nothing is then changed.
    pub fn store(self, dir: &Path, disk: &dyn Disk) -> Result<PathBuf> {
        let path = path(dir, self.seq);
        let temporary = path.with_extension("tmp");
        fail::point("snapshot.write");
        let file = disk.create(&temporary).map_err(Error::io("create", &temporary))?;
        let mut out = Summing {
            file,
            offset: 0,
            crc: 0,
            buffer: Vec::with_capacity(PIECE),
        };
        let written = self.write(&mut out).and_then(|()| out.finish());
        fail::point("snapshot.flush");
        let written = written.and_then(|()| out.file.sync());
        fail::point("snapshot.rename");
        let renamed = written.and_then(|()| disk.rename(&temporary, &path));
        if let Err(e) = renamed {
            // What is left of it is in the way of nothing; the next start removes it if this does not.
            let _ = disk.remove(&temporary);
            return Err(Error::io("write", &path)(e));
        }
        disk.sync_dir(&folder(dir)).map_err(Error::io("flush", folder(dir)))?;
        fail::point("snapshot.done");
        Ok(path)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

struct Counting(u64);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes in large pieces and keeps the checksum.
struct Summing {
    file: Box<dyn Sink>,
    offset: u64,
    crc: u32,
    buffer: Vec<u8>,
}

impl Summing {
    fn spill(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let crc = self.crc;
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        if fail::due("snapshot.half") {
            self.buffer.truncate(self.buffer.len() / 2);
            let _ = self.spill();
            std::process::abort();
        }
        self.spill()
    }
}

impl Write for Summing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        if self.buffer.len() + bytes.len() >= PIECE {
            self.spill()?;
        }
        if bytes.len() >= PIECE {
            // Large already: one more copy would cost memory for nothing.
            self.file.write_at(bytes, self.offset)?;
            self.offset += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
