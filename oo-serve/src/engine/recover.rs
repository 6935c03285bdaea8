//! From a folder to an engine: the lock, what the journal says, and where it goes on.

use super::Engine;
use super::clock::Stamps;
use super::event::{Decided, Event, Swapped};
use super::models::Models;
use super::names::Names;
use super::settings::{Artefact, Settings};
use super::state::{Mark, Serving, State};
use crate::journal::{self, Journal, Location, Position, Segments, fail};
use crate::{Error, Result};
use oo_core::{Key, Shape, Spec};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, RwLock};

/// What opening a folder found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Recovery {
    /// The number of the last record in the snapshot that was used.
    pub snapshot: Option<u64>,
    /// Records replayed after it.
    pub replayed: u64,
    /// Bytes that no sound record begins at, cut off or set aside.
    pub lost_bytes: u64,
    /// What was damaged, file by file, and what was done about it.
    pub losses: Vec<String>,
}

/// The journal's files in a state folder.
pub(crate) fn journal_dir(dir: &Path) -> PathBuf {
    dir.join("journal")
}

fn policies_dir(dir: &Path) -> PathBuf {
    dir.join("policies")
}

/// Takes the folder for this process.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: dir.into() }),
        Err(TryLockError::Error(source)) => Err(Error::Io {
            doing: "lock",
            path,
            source,
        }),
    }
}

/// Keeps an artefact's state under its digest, and gives the event that names it.
pub(crate) fn keep(dir: &Path, settings: &Settings, artefact: &Artefact, generation: u64) -> Result<Swapped> {
    let mut digest = String::new();
    if let Some(state) = &artefact.state {
        digest = Sha256::digest(state).iter().map(|b| format!("{b:02x}")).collect();
        let path = policies_dir(dir).join(&digest);
        if !path.exists() {
            let temporary = path.with_extension("tmp");
            let disk = &settings.disk;
            let mut file = disk.create(&temporary).map_err(Error::io("create", &temporary))?;
            file.write_at(state, 0).map_err(Error::io("write", &temporary))?;
            file.sync().map_err(Error::io("flush", &temporary))?;
            disk.rename(&temporary, &path)
                .map_err(Error::io("rename", &temporary))?;
            disk.sync_dir(&policies_dir(dir))
                .map_err(Error::io("flush", policies_dir(dir)))?;
        }
    }
    Ok(Swapped {
        generation,
        spec: artefact.spec.to_string(),
        shape: serde_json::to_string(&settings.shape).expect("a shape is plain data"),
        digest,
    })
}

/// The policy that a swap puts in charge. `updates` and `refused` begin at 0.
pub(crate) fn install(dir: &Path, swapped: &Swapped, hot_users: usize) -> Result<Serving> {
    let damaged = |why: String| Error::Damaged {
        path: journal_dir(dir),
        why,
    };
    let shape: Shape = serde_json::from_str(&swapped.shape).map_err(|e| damaged(format!("a shape: {e}")))?;
    let state = match swapped.digest.as_str() {
        "" => None,
        digest => {
            let path = policies_dir(dir).join(digest);
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            if found != digest {
                return Err(Error::Damaged {
                    path,
                    why: format!("its SHA-256 is {found}, not its name"),
                });
            }
            Some(bytes)
        }
    };
    let artefact = Artefact {
        spec: Spec::parse(&swapped.spec)?,
        state,
    };
    Ok(Serving {
        models: Models::new(&artefact, &shape, hot_users, dir)?,
        spec: swapped.spec.as_str().into(),
        generation: swapped.generation,
        updates: 0,
        refused: 0,
    })
}

/// A replay under way.
pub(crate) struct Replay<'a> {
    pub dir: &'a Path,
    pub hot_users: usize,
    pub segments: &'a Segments,
    pub state: State,
    /// `None` before the first swap.
    pub serving: Option<RwLock<Serving>>,
}

impl Replay<'_> {
    /// Applies a record.
    pub fn apply(&mut self, r: &journal::Record<'_>) -> Result<()> {
        let event = Event::decode(r).map_err(|why| Error::Damaged {
            path: self.segments.path(r.at.segment),
            why,
        })?;
        self.apply_event(
            Mark {
                seq: r.seq,
                time: r.time,
                at: r.at,
            },
            &event,
        )
    }

    fn apply_event(&mut self, mark: Mark, event: &Event) -> Result<()> {
        if let Some(serving) = &self.serving {
            let segments = self.segments;
            self.state.apply(mark, event, serving, &|at| fetch(segments, at));
        } else {
            self.state.begin(mark, event);
        }
        if let Event::Swapped(swapped) = event {
            self.serving = Some(RwLock::new(install(self.dir, swapped, self.hot_users)?));
        }
        Ok(())
    }
}

fn fetch(segments: &Segments, at: Location) -> Result<Decided> {
    let mut buffer = Vec::new();
    let record = segments.read(at, &mut buffer)?;
    match Event::decode(&record) {
        Ok(Event::Decided(decided)) => Ok(*decided),
        other => Err(Error::Damaged {
            path: segments.path(at.segment),
            why: format!("no decision at offset {}: {:?}", at.offset, other.err()),
        }),
    }
}

pub(crate) fn open(dir: &Path, settings: Settings) -> Result<(Engine, Recovery)> {
    for dir in [dir, &journal_dir(dir), &policies_dir(dir)] {
        fs::create_dir_all(dir).map_err(Error::io("make the folder", dir))?;
    }
    let lock = lock(dir)?;
    let segments = Segments::new(&journal_dir(dir));
    let mut recovery = Recovery::default();
    let mut replay = Replay {
        dir,
        hot_users: settings.hot_users,
        segments: &segments,
        state: State::new(settings.rules.clone()),
        serving: None,
    };
    let position = tail(&mut replay, &settings, &mut recovery)?;
    let Replay { state, serving, .. } = replay;
    let fresh = serving.is_none();
    let serving = match serving {
        Some(serving) => serving,
        None => {
            let first = keep(dir, &settings, &settings.policy, 1)?;
            RwLock::new(install(dir, &first, settings.hot_users)?)
        }
    };
    let stamps = Stamps::new(settings.clock.clone(), state.last.time);
    let salt = Key::root(settings.clock.wall())
        .fold(position.next_seq)
        .fold(u64::from(std::process::id()));
    let options = journal::Options {
        durability: settings.durability,
        segment_bytes: settings.segment_bytes,
        disk: settings.disk.clone(),
    };
    let engine = Engine {
        dir: dir.into(),
        stamps,
        names: Names::new(settings.seed, salt.bits()),
        serving,
        journal: Journal::open(&journal_dir(dir), position, options)?,
        state: Mutex::new(state),
        settings,
        _lock: lock,
    };
    engine.begin(fresh)?;
    Ok((engine, recovery))
}

impl Engine {
    /// Records what this start changes: the first policy of a fresh folder, other rules.
    fn begin(&self, fresh: bool) -> Result<()> {
        let rules = &self.settings.rules;
        let mut state = self.state();
        if fresh || state.rules != *rules {
            self.put(&mut state, &Event::Rules(Box::new(rules.clone())))?;
        }
        if fresh {
            let first = keep(&self.dir, &self.settings, &self.settings.policy, 1)?;
            self.put(&mut state, &Event::Swapped(first))?;
        }
        Ok(())
    }
}

/// Replays what follows the state, cuts off what is no record, and says where the journal goes on.
fn tail(replay: &mut Replay<'_>, settings: &Settings, recovery: &mut Recovery) -> Result<Position> {
    let list = replay.segments.list()?;
    let mut position = Position {
        at: Location::NOWHERE,
        next_seq: replay.state.last.seq + 1,
    };
    for (i, &segment) in list.iter().enumerate() {
        let segments = replay.segments;
        let expected = position.next_seq;
        let first = segments.first_seq(segment)?;
        let mut replayed = 0;
        let end = segments.scan(segment, |r| {
            if r.seq > replay.state.last.seq {
                replay.apply(&r)?;
                replayed += 1;
            }
            Ok(())
        })?;
        recovery.replayed += replayed;
        let _ = (expected, first);
        position = Position {
            at: Location {
                segment,
                offset: end.offset as u32,
            },
            next_seq: end.next_seq,
        };
        if let Some(why) = end.defect {
            recovery.lost_bytes += end.len - end.offset;
            recovery.losses.push(format!(
                "{}: {why}; {} bytes cut off",
                segments.path(segment).display(),
                end.len - end.offset
            ));
            cut(settings, &segments.path(segment), end.offset)?;
            let _ = i;
            break;
        }
    }
    Ok(position)
}

fn cut(settings: &Settings, path: &Path, len: u64) -> Result<()> {
    fail::point("truncate.before");
    let mut file = settings.disk.open(path).map_err(Error::io("open", path))?;
    file.set_len(len).map_err(Error::io("cut", path))?;
    file.sync().map_err(Error::io("flush", path))?;
    fail::point("truncate.after");
    Ok(())
}
