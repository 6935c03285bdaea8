//! Everything known at one record, in one file: `snapshots/SEQ.snap`. A start reads the newest sound one and replays what
//! follows. The bytes are a function of the state alone, so their digest tells whether two states are equal.
//!
//! ```text
//! magic 8 · format u32 · 0 u32 · state (length u32 before it) · models: (1 u8 · user u64 · length u32 · bytes)* · 0 u8
//! · where an experiment runs, its challenger's models likewise · CRC32C of everything before u32
//! ```
//!
//! Formats 1 and 2 are the same without experiments, shadows and agreement, format 1 also without people's histories and
//! joins; both are read as well.

use super::codec::{Get, Put};
use super::event::{Begun, Ended, Swapped};
use super::experiment::{self, Person, Trial};
use super::join::{Join, Joined};
use super::models::{Frozen, Home};
use super::people::History;
use super::recover;
use super::settings::Rules;
use super::state::{Counts, Early, Mark, Open, Serving, Shadowed, State, User, read};
use crate::journal::{Location, disk::Disk, disk::Sink, fail};
use crate::{Error, Result};
use oo_core::UserId;
use oo_core::tips::{Feedback, Reaction};
use oo_judge::stats::{Arm, Cluster};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// The snapshots' format. Rises when older programs could misread it.
pub const FORMAT: u32 = 3;
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

/// A copy of everything at one moment, to be written at leisure.
pub(crate) struct Still {
    pub seq: u64,
    head: Vec<u8>,
    models: Frozen,
    challenger: Option<Frozen>,
}

fn put_feedback(out: &mut Vec<u8>, feedback: Option<Feedback>) {
    out.u8(feedback.map_or(u8::MAX, |f| f.reaction as u8));
    out.option(feedback.and_then(|f| f.dwell_ms));
}

fn get_feedback(from: &mut Get<'_>) -> Option<Option<Feedback>> {
    let (code, dwell_ms) = (from.u8()?, from.option()?);
    if code == u8::MAX {
        return Some(None);
    }
    let reaction = *Reaction::ALL.get(code as usize)?;
    Some(Some(Feedback { reaction, dwell_ms }))
}

/// Takes the copy. Sweeps first, so that the bytes do not depend on when that was done last.
pub(crate) fn take(state: &mut State, serving: &Serving) -> Still {
    state.sweep();
    let mut out = Vec::new();
    let Mark { seq, time, at } = state.last;
    [seq, time, at.bits()].into_iter().for_each(|v| out.u64(v));
    out.text(&serde_json::to_string(&state.rules).expect("rules are plain data"));
    out.text(&serde_json::to_string(&state.counts).expect("counts are plain data"));
    serving.swapped.encode(&mut out);
    out.u64(serving.updates);
    out.u64(serving.refused);
    let mut users: Vec<_> = state.users.iter().collect();
    users.sort_unstable_by_key(|(id, _)| **id);
    out.u64(users.len() as u64);
    for (id, u) in users {
        [*id, u.decisions, u.pulls, u.sum.to_bits(), u.updated, u.last.bits()]
            .into_iter()
            .for_each(|v| out.u64(v));
        out.u8(u8::from(u.history.is_some()));
        if let Some(history) = &u.history {
            history.encode(&mut out);
        }
    }
    let open: Vec<_> = state
        .due
        .iter()
        .filter_map(|h| Some((*h, *state.open.get(h)?)))
        .collect();
    out.u64(open.len() as u64);
    for (hash, o) in open {
        [hash, o.at.bits(), o.user, o.deadline]
            .into_iter()
            .for_each(|v| out.u64(v));
        out.u8(u8::from(o.waiting) | u8::from(o.observe) << 1);
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
        }
    }
    out.u64(state.joins.len() as u64);
    for (hash, joined) in &state.joins {
        out.u64(*hash);
        out.u8(joined.join as u8);
        out.u64(joined.n);
        out.f64(joined.value);
        put_feedback(&mut out, joined.feedback);
    }
    let due = state
        .early_due
        .iter()
        .filter(|(_, hash)| state.early.contains_key(hash));
    let due: Vec<_> = due.copied().collect();
    out.u64(due.len() as u64);
    due.iter().for_each(|(until, hash)| {
        out.u64(*until);
        out.u64(*hash);
    });
    let ids = state.ids.sorted();
    out.u64(ids.len() as u64);
    ids.iter().for_each(|(hash, at)| {
        out.u64(*hash);
        out.u64(at.bits());
    });
    out.u64(state.forgotten.len() as u64);
    state.forgotten.iter().for_each(|(user, seq)| {
        out.u64(*user);
        out.u64(*seq);
    });
    out.u64(state.segment_ends.len() as u64);
    state.segment_ends.iter().for_each(|(segment, time)| {
        out.u32(*segment);
        out.u64(*time);
    });
    let challenger = put_rollout(&mut out, state);
    Still {
        seq,
        head: out,
        models: serving.models.freeze(),
        challenger,
    }
}

/// What format 3 adds: how policies come into charge.
fn put_rollout(out: &mut Vec<u8>, state: &State) -> Option<Frozen> {
    out.u64(state.generations);
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
    let trial = state.trial.as_ref()?;
    let challenger = read(&trial.challenger);
    let begun = experiment::begun(trial, &challenger.swapped);
    out.u64(trial.number);
    begun.encode(out);
    out.u64(challenger.updates);
    out.u64(challenger.refused);
    for arm in trial.arms.iter().flatten() {
        arm.parts().iter().for_each(|v| out.f64(*v));
    }
    let mut users: Vec<_> = trial.users.iter().collect();
    users.sort_unstable_by_key(|(id, _)| **id);
    out.u64(users.len() as u64);
    for (id, person) in users {
        out.u64(*id);
        out.u8(person.arm);
        person.numbers.iter().for_each(|c| {
            out.f64(c.sum);
            out.f64(c.count);
        });
    }
    Some(challenger.models.freeze())
}

impl Still {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&FORMAT.to_le_bytes())?;
        out.write_all(&[0; 4])?;
        out.write_all(&(self.head.len() as u32).to_le_bytes())?;
        out.write_all(&self.head)?;
        self.models.write(out)?;
        out.write_all(&[0])?;
        if let Some(challenger) = &self.challenger {
            challenger.write(out)?;
            out.write_all(&[0])?;
        }
        Ok(())
    }

    /// SHA-256 of the whole, in hex: equal for equal states.
    pub fn digest(&self) -> Result<String> {
        let mut hash = Hashing(Sha256::new());
        self.write(&mut hash).map_err(Error::io("read", "a packed model"))?;
        Ok(hex(&hash.0.finalize()))
    }

    /// SHA-256 of the models alone, in hex.
    pub fn models_digest(&self) -> Result<String> {
        let mut hash = Hashing(Sha256::new());
        self.models
            .write(&mut hash)
            .map_err(Error::io("read", "a packed model"))?;
        Ok(hex(&hash.0.finalize()))
    }

    /// Writes the file, under another name first.
    ///
    /// # Errors
    /// A disk that does not take it; nothing is then changed.
    pub fn store(&self, dir: &Path, disk: &dyn Disk) -> Result<PathBuf> {
        let path = path(dir, self.seq);
        let temporary = path.with_extension("tmp");
        fail::point("snapshot.write");
        let file = disk.create(&temporary).map_err(Error::io("create", &temporary))?;
        let mut out = Summing {
            file,
            offset: 0,
            crc: 0,
            buffer: Vec::with_capacity(1 << 20),
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
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= 1 << 20 {
            self.spill()?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks a whole file; gives its SHA-256.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Format`], or a file that cannot be read.
pub(crate) fn verify(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    check(path, |bytes| hash.update(bytes))?;
    Ok(hex(&hash.finalize()))
}

/// Checks the sum of a whole file, and shows all but the sum to `each`, piece by piece.
fn check(path: &Path, mut each: impl FnMut(&[u8])) -> Result<()> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let len = file.metadata().map_err(Error::io("read", path))?.len();
    let damaged = |why: &str| Error::Damaged {
        path: path.into(),
        why: why.into(),
    };
    if len < 24 {
        return Err(damaged("it is too short"));
    }
    let (mut crc, mut left) = (0, len - 4);
    let mut buffer = vec![0; 1 << 20];
    let mut first = true;
    while left > 0 {
        let n = left.min(buffer.len() as u64) as usize;
        file.read_exact(&mut buffer[..n]).map_err(Error::io("read", path))?;
        if first {
            first = false;
            if &buffer[..8] != MAGIC {
                return Err(damaged("it is no snapshot"));
            }
            let format = u32::from_le_bytes(buffer[8..12].try_into().expect("four bytes"));
            if format > FORMAT && crc32c_matches(path)? {
                return Err(Error::Format {
                    path: path.into(),
                    found: format,
                    known: FORMAT,
                });
            }
        }
        crc = crc32c::crc32c_append(crc, &buffer[..n]);
        each(&buffer[..n]);
        left -= n as u64;
    }
    let mut end = [0; 4];
    file.read_exact(&mut end).map_err(Error::io("read", path))?;
    if u32::from_le_bytes(end) != crc {
        return Err(damaged("its checksum differs"));
    }
    Ok(())
}

/// True for a whole file of any format: only then its format number is believed.
fn crc32c_matches(path: &Path) -> Result<bool> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let (body, end) = bytes.split_at(bytes.len().saturating_sub(4));
    Ok(crc32c::crc32c(body).to_le_bytes() == end)
}

/// A snapshot, read back.
pub(crate) fn load(home: Home<'_>, seq: u64) -> Result<(State, Serving)> {
    let path = path(home.dir, seq);
    check(&path, |_| ())?;
    let damaged = |why: &str| Error::Damaged {
        path: path.clone(),
        why: why.into(),
    };
    let file = File::open(&path).map_err(Error::io("open", &path))?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut exact = |n: usize| -> Result<Vec<u8>> {
        let mut bytes = vec![0; n];
        file.read_exact(&mut bytes).map_err(Error::io("read", &path))?;
        Ok(bytes)
    };
    let start = exact(20)?;
    let format = u32::from_le_bytes(start[8..12].try_into().expect("four bytes"));
    let length = u32::from_le_bytes(start[16..20].try_into().expect("four bytes")) as usize;
    let head = exact(length)?;
    let parsed = parse(&head, format).ok_or_else(|| damaged("its state does not hold together"))?;
    let Parsed {
        mut state,
        swapped,
        updates,
        refused,
        trial,
    } = parsed;
    drop(head);
    if state.last.seq != seq {
        return Err(damaged("it is not of the record that its name says"));
    }
    let mut adopt = |swapped: &Swapped, updates, refused| -> Result<Serving> {
        let mut serving = recover::install(home, swapped)?;
        (serving.updates, serving.refused) = (updates, refused);
        serving.models.clear();
        while exact(1)?[0] == 1 {
            let user = u64::from_le_bytes(exact(8)?.try_into().expect("eight bytes"));
            let len = u32::from_le_bytes(exact(4)?.try_into().expect("four bytes"));
            serving.models.adopt(UserId(user), &exact(len as usize)?)?;
        }
        Ok(serving)
    };
    let serving = adopt(&swapped, updates, refused)?;
    if let Some(kept) = trial {
        let challenger = adopt(&kept.begun.challenger, kept.updates, kept.refused)?;
        let trial = Trial::new(kept.number, &kept.begun, challenger);
        let trial = trial.and_then(|trial| kept.fill(trial));
        state.trial = Some(trial.ok_or_else(|| damaged("its experiment does not hold together"))?);
    }
    Ok((state, serving))
}

/// What a snapshot's head holds.
struct Parsed {
    state: State,
    swapped: Swapped,
    updates: u64,
    refused: u64,
    trial: Option<Kept>,
}

/// An experiment before its challenger is there.
struct Kept {
    number: u64,
    begun: Begun,
    updates: u64,
    refused: u64,
    /// Control, then challenger.
    arms: Vec<Arm>,
    users: Vec<(u64, Person)>,
}

impl Kept {
    fn fill(self, mut trial: Trial) -> Option<Trial> {
        let width = trial.width();
        if self.arms.len() != 2 * width || self.users.iter().any(|(_, p)| p.numbers.len() != width || p.arm > 1) {
            return None;
        }
        let (control, challenger) = self.arms.split_at(width);
        trial.arms = [control.to_vec(), challenger.to_vec()];
        trial.users = self.users.into_iter().collect();
        Some(trial)
    }

    fn parse(from: &mut Get<'_>) -> Option<Kept> {
        let number = from.u64()?;
        let begun = Begun::decode(from)?;
        let (updates, refused) = (from.u64()?, from.u64()?);
        let width = experiment::width(&begun)?;
        let mut arms = Vec::with_capacity(2 * width);
        for _ in 0..2 * width {
            let mut parts = [0.0; 6];
            for part in &mut parts {
                *part = from.f64()?;
            }
            arms.push(Arm::from_parts(parts));
        }
        let mut users = Vec::new();
        for _ in 0..from.u64()? {
            let (id, arm) = (from.u64()?, from.u8()?);
            let mut numbers = Vec::with_capacity(width);
            for _ in 0..width {
                let (sum, count) = (from.f64()?, from.f64()?);
                numbers.push(Cluster { sum, count });
            }
            let numbers = numbers.into();
            users.push((id, Person { arm, numbers }));
        }
        Some(Kept {
            number,
            begun,
            updates,
            refused,
            arms,
            users,
        })
    }
}

fn get_rollout(from: &mut Get<'_>, state: &mut State) -> Option<Option<Kept>> {
    state.generations = from.u64()?;
    state.agreement.sum = from.f64()?;
    state.agreement.count = from.u64()?;
    for _ in 0..from.u64()? {
        let name = from.text()?.into();
        let shadowed = Shadowed {
            spec: from.text()?.into(),
            digest: from.text()?.into(),
            since: from.u64()?,
            proposed: from.u64()?,
            failed: from.u64()?,
        };
        state.shadows.insert(name, shadowed);
    }
    for n in &mut state.ends {
        *n = from.u64()?;
    }
    if from.u8()? == 1 {
        state.ended = Some(Ended::decode(from)?);
    }
    match from.u8()? {
        1 => Some(Some(Kept::parse(from)?)),
        _ => Some(None),
    }
}

/// Format 1 had neither histories nor joins, and format 2 no experiments, shadows and agreement.
fn parse(head: &[u8], format: u32) -> Option<Parsed> {
    let mut from = Get(head);
    let (seq, time, at) = (from.u64()?, from.u64()?, Location::from_bits(from.u64()?));
    let rules: Rules = serde_json::from_str(from.text()?).ok()?;
    let counts: Counts = serde_json::from_str(from.text()?).ok()?;
    let swapped = Swapped::decode(&mut from)?;
    let (updates, refused) = (from.u64()?, from.u64()?);
    let mut state = State::new(rules);
    state.last = Mark { seq, time, at };
    state.counts = counts;
    let n = from.u64()?;
    state.users.reserve((n as usize).min(1 << 20));
    for _ in 0..n {
        let id = from.u64()?;
        let mut user = User {
            decisions: from.u64()?,
            pulls: from.u64()?,
            sum: from.f64()?,
            updated: from.u64()?,
            last: Location::from_bits(from.u64()?),
            history: None,
        };
        if format > 1 && from.u8()? == 1 {
            user.history = Some(Box::new(History::decode(&mut from)?));
        }
        state.users.insert(id, user);
    }
    for _ in 0..from.u64()? {
        let hash = from.u64()?;
        let (at, user, deadline) = (Location::from_bits(from.u64()?), from.u64()?, from.u64()?);
        let flags = from.u8()?;
        let open = Open {
            at,
            user,
            deadline,
            waiting: flags & 1 == 1,
            observe: flags & 2 == 2,
        };
        state.open.insert(hash, open);
        state.due.push_back(hash);
    }
    for _ in 0..from.u64()? {
        let hash = from.u64()?;
        let mut held = Vec::new();
        for _ in 0..from.u32()? {
            held.push(Early {
                at: Location::from_bits(from.u64()?),
                time: from.u64()?,
                reward: from.f64()?,
                feedback: get_feedback(&mut from)?,
                until: if format > 1 { from.option()? } else { None },
            });
        }
        state.early.insert(hash, held);
    }
    for _ in 0..if format > 1 { from.u64()? } else { 0 } {
        let hash = from.u64()?;
        let joined = Joined {
            join: *Join::ALL.get(from.u8()? as usize)?,
            n: from.u64()?,
            value: from.f64()?,
            feedback: get_feedback(&mut from)?,
        };
        state.joins.insert(hash, joined);
    }
    for _ in 0..from.u64()? {
        state.early_due.push_back((from.u64()?, from.u64()?));
    }
    let n = from.u64()?;
    state.ids.reserve((n as usize).min(1 << 24));
    for _ in 0..n {
        state.ids.insert(from.u64()?, Location::from_bits(from.u64()?));
    }
    for _ in 0..from.u64()? {
        state.forgotten.insert(from.u64()?, from.u64()?);
    }
    for _ in 0..from.u64()? {
        state.segment_ends.insert(from.u32()?, from.u64()?);
    }
    state.generations = swapped.generation;
    let trial = if format >= 3 {
        get_rollout(&mut from, &mut state)?
    } else {
        None
    };
    from.done().then_some(Parsed {
        state,
        swapped,
        updates,
        refused,
        trial,
    })
}
