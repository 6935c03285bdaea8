//! Snapshots, read back.

use super::{FORMAT, MAGIC, hex, path};
use crate::engine::codec::Get;
use crate::engine::event::{Begun, Claim, Ended, Swapped};
use crate::engine::experiment::{self, Person, Trial};
use crate::engine::join::{Join, Joined};
use crate::engine::models::Home;
use crate::engine::people::History;
use crate::engine::recover;
use crate::engine::settings::Rules;
use crate::engine::state::{Counts, Early, Mark, Open, Serving, Shadowed, State, User};
use crate::engine::undo::Former;
use crate::journal::Location;
use crate::{Error, Result};
use oo_core::UserId;
use oo_core::tips::{Feedback, Reaction};
use oo_judge::stats::{Arm, Cluster};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

fn get_feedback(from: &mut Get<'_>) -> Option<Option<Feedback>> {
    let (code, dwell_ms) = (from.u8()?, from.option()?);
    if code == u8::MAX {
        return Some(None);
    }
    let reaction = *Reaction::ALL.get(code as usize)?;
    Some(Some(Feedback { reaction, dwell_ms }))
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

fn get_rollout(from: &mut Get<'_>, state: &mut State, format: u32) -> Option<Option<Kept>> {
    state.generations = from.u64()?;
    for _ in 0..if format > 3 { from.u64()? } else { 0 } {
        state.before.push(Former {
            generation: from.u64()?,
            spec: from.text()?.into(),
            until: from.u64()?,
        });
    }
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

/// Format 1 had neither histories nor joins, format 2 no experiments, shadows and agreement, format 3 nothing to come back.
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
            user.history = Some(Arc::new(History::decode(&mut from)?));
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
        // Earlier programs could list one twice.
        if state.open.insert(hash, open).is_none() {
            state.due.push(deadline, (hash, at));
        }
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
                claim: match format {
                    5.. => Claim::decode(&mut from)?,
                    _ => Claim::default(),
                },
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
        // What `early` says already.
        let _ = (from.u64()?, from.u64()?);
    }
    state.time_early();
    let n = from.u64()?;
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
        get_rollout(&mut from, &mut state, format)?
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
