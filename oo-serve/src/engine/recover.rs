//! From a folder to an engine: the lock, what the journal says, and where it goes on.

use super::clock::Stamps;
use super::event::{Decided, Event, Swapped};
use super::experiment::{self, Trial};
use super::forget::{SCRUBBED, unseal};
use super::guard::Guard;
use super::models::{Home, Models};
use super::names::Names;
use super::settings::{Artefact, Settings};
use super::shadow::{self, Shadows, saved};
use super::state::{self, Mark, Serving, Shadowed, State};
use super::{Engine, aside, snapshot, undo};
use crate::journal::disk::Disk;
use crate::journal::{self, Journal, Location, Position, Segments, fail};
use crate::{Error, Result, registry};
use oo_core::{Key, Shape, Spec, UserId};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

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
    /// The folder had a policy, so that of the settings was not needed.
    pub knew_a_policy: bool,
}

/// The journal's files in a state folder.
pub(crate) fn journal_dir(dir: &Path) -> PathBuf {
    dir.join("journal")
}

pub(crate) fn policies_dir(dir: &Path) -> PathBuf {
    dir.join("policies")
}

/// Takes the folder for this process.
pub(crate) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: dir.into() }),
        Err(TryLockError::Error(why)) => Err(Error::Io {
            doing: "lock",
            path,
            why,
        }),
    }
}

/// Writes a file under another name first; it is there after a power cut.
fn place(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = disk.create(&temporary).map_err(Error::io("create", &temporary))?;
    let written = file.write_at(bytes, 0).and_then(|()| file.sync());
    let renamed = written.and_then(|()| disk.rename(&temporary, path));
    renamed
        .inspect_err(|_| drop(disk.remove(&temporary)))
        .map_err(Error::io("write", path))?;
    let folder = path.parent().unwrap_or(path);
    disk.sync_dir(folder).map_err(Error::io("flush", folder))
}

/// Keeps an artefact's state under its digest, and gives the event that names it.
pub(crate) fn keep(dir: &Path, settings: &Settings, artefact: &Artefact, generation: u64) -> Result<Swapped> {
    let mut digest = String::new();
    if let Some(state) = &artefact.state {
        digest = Sha256::digest(state).iter().map(|b| format!("{b:02x}")).collect();
        let path = policies_dir(dir).join(&digest);
        if !path.exists() {
            place(&*settings.disk, &path, state)?;
        }
    }
    Ok(Swapped {
        generation,
        spec: artefact.spec.to_string(),
        shape: serde_json::to_string(&settings.shape).expect("a shape is plain data"),
        digest,
    })
}

/// The state that is kept under a digest; `None` for the empty one.
pub(crate) fn kept(dir: &Path, digest: &str) -> Result<Option<Vec<u8>>> {
    if digest.is_empty() {
        return Ok(None);
    }
    let path = policies_dir(dir).join(digest);
    let scrubbed = path.with_extension(SCRUBBED);
    // Both are there after a kill, or when the same state came again: then nobody was to be taken out of it since.
    if !path.exists() && scrubbed.exists() {
        return unseal(&scrubbed).map(Some);
    }
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    if found != digest {
        return Err(Error::Damaged {
            path,
            why: format!("its SHA-256 is {found}, not its name"),
        });
    }
    Ok(Some(bytes))
}

/// The policy that a swap puts in charge. `updates` and `refused` begin at 0.
pub(crate) fn install(home: Home<'_>, swapped: &Swapped) -> Result<Serving> {
    let dir = home.dir;
    let damaged = |why: String| Error::Damaged {
        path: journal_dir(dir),
        why,
    };
    let shape: Shape = serde_json::from_str(&swapped.shape).map_err(|e| damaged(format!("a shape: {e}")))?;
    let artefact = Artefact {
        spec: Spec::parse(&swapped.spec)?,
        state: kept(dir, &swapped.digest)?,
    };
    Ok(Serving {
        models: Models::new(&artefact, &shape, home)?,
        spec: swapped.spec.as_str().into(),
        swapped: swapped.clone(),
        updates: 0,
        refused: 0,
        aside: None,
    })
}

/// A replay under way.
pub(crate) struct Replay<'a> {
    pub home: Home<'a>,
    pub segments: &'a Segments,
    pub state: State,
    /// `None` before the first swap.
    pub serving: Option<RwLock<Serving>>,
    /// Who learns along; nobody where a folder is only looked at.
    pub audience: Option<Audience<'a>>,
}

/// Shadows that hear a replay.
pub(crate) struct Audience<'a> {
    pub shadows: &'a Shadows,
    pub settings: &'a Settings,
    pub patience: Duration,
    /// Those that could not start, and why.
    pub losses: Vec<String>,
}

impl Audience<'_> {
    fn start(&mut self, dir: &Path, name: &str, before: &Shadowed, saved: Option<&[u8]>) {
        let started = self.shadows.start((name, before), saved, dir, self.settings);
        // What is wrong with a shadow is no reason not to serve.
        self.losses
            .extend(started.err().map(|e| format!("shadow `{name}` does not go on: {e}")));
    }

    /// Starts those that a snapshot knows, each from what it had learned there, else from an older copy or its beginning,
    /// without those who were forgotten since.
    fn resume(&mut self, dir: &Path, state: &State, seq: u64) {
        let mut read = |seq| {
            let loaded = saved::load(dir, seq);
            loaded.unwrap_or_else(|why| {
                self.losses.push(why);
                Default::default()
            })
        };
        let saved = read(seq);
        // Who was asleep then may have been awake before.
        let all_there = state.shadows.keys().all(|name| saved.contains_key(name));
        let list = snapshot::list(dir).unwrap_or_default();
        let older = list.into_iter().rev().find(|s| *s < seq && !all_there);
        let older = older.map(|seq| (seq, read(seq)));
        for (name, before) in &state.shadows {
            if let Some(now) = saved.get(name) {
                self.start(dir, name, before, Some(now));
                continue;
            }
            // One of this name that ended before is another one.
            let older = older.as_ref().filter(|(seq, _)| *seq >= before.since);
            let copy = older.and_then(|(seq, saved)| Some((*seq, saved.get(name)?)));
            self.start(dir, name, before, copy.map(|(_, saved)| &**saved));
            self.shadows.missed(name);
            let as_of = copy.map_or(before.since, |(seq, _)| seq);
            let since = state.forgotten.iter().filter(|(_, seq)| **seq > as_of);
            since.for_each(|(user, _)| self.shadows.forget_by(name, UserId(*user)));
        }
    }
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
            if event.changes_policies() {
                let challenger = self.state.trial.as_ref().map(|trial| &*trial.challenger);
                for serving in [Some(serving), challenger].into_iter().flatten() {
                    aside::run(serving, &|at| fetch(segments, at))?;
                }
            }
            self.state.apply(mark, event, serving, &|at| fetch(segments, at));
            // What could not be read is no reason to become something else than what the journal says.
            self.state.settle(serving, &|at| fetch(segments, at))?;
        } else {
            self.state.begin(mark, event);
        }
        match event {
            Event::Swapped(swapped) => self.serving = Some(RwLock::new(install(self.home, swapped)?)),
            Event::Undone(undone) => {
                let mut back = install(self.home, &undone.next)?;
                (back.updates, back.refused) = (undone.updates, undone.refused);
                self.serving = Some(RwLock::new(back));
            }
            Event::Begun(begun) => {
                let challenger = install(self.home, &begun.challenger)?;
                let trial = Trial::new(mark.seq, begun, challenger).ok_or_else(|| Error::Damaged {
                    path: self.segments.path(mark.at.segment),
                    why: "the rule of an experiment that this program cannot read".into(),
                })?;
                self.state.trial = Some(trial);
            }
            _ => {}
        }
        if let Some(audience) = &mut self.audience {
            match event {
                Event::Shadowing(s) => {
                    if let Some(before) = self.state.shadows.get(&s.name) {
                        audience.start(self.home.dir, &s.name, before, None);
                    }
                }
                Event::Unshadowed(name) => audience.shadows.stop(name),
                _ => {}
            }
            self.state.taught.wanted = audience.shadows.any();
            let rows = self.state.taught.take();
            audience.shadows.learn_again(rows, &mut audience.patience);
            if let Event::Reset(user) | Event::Forgotten(user) = event {
                audience.shadows.forget(UserId(*user));
            }
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

/// The folder and those in it that are written to.
fn folders(dir: &Path) -> [PathBuf; 5] {
    [
        dir.into(),
        journal_dir(dir),
        policies_dir(dir),
        snapshot::folder(dir),
        undo::folder(dir),
    ]
}

/// Removes what a kill left unfinished: nothing reads it, it takes room, and it may hold what is to be forgotten.
fn sweep(dir: &Path, settings: &Settings) -> Result<()> {
    for folder in folders(dir) {
        for entry in fs::read_dir(&folder).map_err(Error::io("read the folder", &folder))? {
            let path = entry.map_err(Error::io("read the folder", &folder))?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                settings.disk.remove(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    registry::sweep(dir);
    Ok(())
}

pub(crate) fn open(dir: &Path, mut settings: Settings) -> Result<(Engine, Recovery)> {
    for folder in folders(dir) {
        // What people did is nobody else's on this machine.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(Error::io("make the folder", &folder))?;
    }
    let lock = lock(dir)?;
    sweep(dir, &settings)?;
    let segments = Segments::on(&journal_dir(dir), Arc::clone(&settings.disk));
    let mut recovery = Recovery::default();
    let mut replay = Replay {
        home: settings.home(dir),
        segments: &segments,
        state: State::new(settings.rules.clone()),
        serving: None,
        audience: None,
    };
    newest(&mut replay, &mut recovery)?;
    let shadows = Shadows::default();
    let mut audience = Audience {
        shadows: &shadows,
        settings: &settings,
        patience: shadow::patience(),
        losses: Vec::new(),
    };
    if let Some(seq) = recovery.snapshot {
        audience.resume(dir, &replay.state, seq);
    }
    replay.state.aside = settings.aside;
    replay.state.taught.wanted = shadows.any();
    replay.audience = Some(audience);
    let position = tail(&mut replay, &settings, &mut recovery)?;
    let Replay {
        mut state,
        serving,
        audience,
        ..
    } = replay;
    recovery.losses.extend(audience.into_iter().flat_map(|a| a.losses));
    state.taught.wanted = shadows.any();
    state
        .shadows
        .iter()
        .for_each(|(name, before)| shadows.tally(name, before));
    let lane = state.trial.as_ref().map(experiment::lane_of);
    let fresh = serving.is_none();
    recovery.knew_a_policy = !fresh;
    if settings.keeps_reward && !fresh {
        settings.rules.reward = state.rules.reward.clone();
    }
    if let Some(serving) = &serving {
        let shape = serde_json::to_string(&settings.shape).expect("a shape is plain data");
        let kept = &state::read(serving).swapped.shape;
        if *kept != shape {
            return Err(Error::invalid("shape", format!("the folder's own, {kept}"), shape));
        }
    }
    let serving = match serving {
        Some(serving) => serving,
        None => {
            let first = keep(dir, &settings, &settings.policy, 1)?;
            RwLock::new(install(settings.home(dir), &first)?)
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
        serving: Arc::new(serving),
        guard: Guard::default(),
        shadows,
        ear: OnceLock::new(),
        lane: RwLock::default(),
        any_lane: AtomicBool::new(false),
        rounds: AtomicU64::new(state.counts.decisions.max(state.counts.rounds)),
        snapshot_seq: AtomicU64::new(recovery.snapshot.unwrap_or(0)),
        keeping: Mutex::new(()),
        compacting: Mutex::new(()),
        journal: Journal::open(&journal_dir(dir), position, options)?,
        state: super::held::Lock::new(state),
        settings,
        _lock: lock,
    };
    let trial = |serving| Guard::trial(serving, engine.settings.policy_timeout, &engine.settings.shape);
    engine.guard.set(trial(&engine.serving));
    if let Some(lane) = lane {
        lane.guard.set(trial(&lane.serving));
        engine.show_lane(Some(lane));
    }
    engine.start_asides(&mut engine.state());
    engine.begin(fresh)?;
    let _ = engine.tidy_formers();
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

/// The newest sound snapshot, or the state before the first record.
fn newest(replay: &mut Replay<'_>, recovery: &mut Recovery) -> Result<()> {
    for seq in snapshot::list(replay.home.dir)?.into_iter().rev() {
        match snapshot::load(replay.home, seq) {
            Ok((state, serving)) => {
                replay.state = state;
                replay.serving = Some(RwLock::new(serving));
                recovery.snapshot = Some(seq);
                return Ok(());
            }
            Err(e @ (Error::Format { .. } | Error::Policy(_))) => return Err(e),
            Err(e) => recovery.losses.push(format!("{e}; an older state is used")),
        }
    }
    Ok(())
}

/// Replays what follows the state, cuts off or sets aside what is no record, and says where the journal goes on.
fn tail(replay: &mut Replay<'_>, settings: &Settings, recovery: &mut Recovery) -> Result<Position> {
    let segments = replay.segments;
    let list = segments.list()?;
    let known = replay.state.last;
    let mut expected = known.seq + 1;
    let mut position = None;
    let mut broken = false;
    for &segment in list.iter().filter(|s| **s >= known.at.segment) {
        if broken {
            set_aside(segments, settings, segment, recovery)?;
            continue;
        }
        let first = segments.first_seq(segment)?;
        // The snapshot's own record is where the reading begins, so that damage before it is no loss of state.
        let from = (segment == known.at.segment && known.seq > 0).then_some((known.at.offset, known.seq));
        let gap = from.is_none() && first.is_some_and(|f| f > expected);
        if gap && known.seq == 0 && position.is_none() {
            return Err(Error::Damaged {
                path: segments.path(segment),
                why: format!(
                    "it begins with record {}, and no sound snapshot holds what was before it; restore a backup",
                    first.unwrap_or(0)
                ),
            });
        }
        if first.is_none() || gap || from.is_none() && first.is_some_and(|f| f < expected) {
            broken = true;
            set_aside(segments, settings, segment, recovery)?;
            continue;
        }
        let mut replayed = 0;
        let end = segments.scan_from(segment, from, |r| {
            if r.seq > replay.state.last.seq {
                replay.apply(&r)?;
                replayed += 1;
            }
            Ok(())
        })?;
        recovery.replayed += replayed;
        if end.next_seq <= known.seq {
            // Not even the snapshot's own record is there: nothing in this file can be trusted to follow it.
            broken = true;
            set_aside(segments, settings, segment, recovery)?;
            continue;
        }
        expected = end.next_seq;
        position = Some(Location {
            segment,
            offset: end.offset as u32,
        });
        if let Some(why) = end.defect {
            broken = true;
            let lost = end.len - end.offset;
            recovery.lost_bytes += lost;
            let path = segments.path(segment);
            // What a kill leaves unfinished is the end of the file. Sound records beyond it mean damage.
            let kept = segments.is_record_beyond(segment, end.offset)?;
            let kept = match kept {
                true => format!(
                    "; a copy of the whole is kept as {}",
                    keep_damaged(settings, &path)?.display()
                ),
                false => String::new(),
            };
            recovery
                .losses
                .push(format!("{}: {why}; {lost} bytes cut off{kept}", path.display()));
            cut(settings, &path, end.offset)?;
        }
    }
    // A file of an older format takes no records of this one: whoever knows only that format must see a newer head.
    if let Some(at) = &mut position
        && segments
            .format(at.segment)?
            .is_some_and(|f| f < journal::record::FORMAT)
    {
        at.offset = u32::MAX;
    }
    // A file that was set aside keeps its number to itself: a place in it must never mean another record.
    let at = match position {
        Some(at) if !broken || list.last() == Some(&at.segment) => at,
        _ => Location {
            segment: list.last().copied().unwrap_or(0).max(known.at.segment),
            offset: if list.is_empty() && known.seq == 0 { 0 } else { u32::MAX },
        },
    };
    Ok(Position { at, next_seq: expected })
}

/// A file that does not follow is kept under another name, for whoever wants to look at it. An empty one goes.
fn set_aside(segments: &Segments, settings: &Settings, segment: u32, recovery: &mut Recovery) -> Result<()> {
    let path = segments.path(segment);
    let len = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
    if len <= journal::record::SEGMENT_HEAD as u64 {
        // As a kill leaves it that comes while the file is begun.
        recovery.lost_bytes += len;
        recovery
            .losses
            .push(format!("{}: it holds no record; removed", path.display()));
        settings.disk.remove(&path).map_err(Error::io("remove", &path))?;
    } else {
        recovery.lost_bytes += len;
        let aside = path.with_extension("log.lost");
        recovery.losses.push(format!(
            "{}: it does not follow what is sound; {len} bytes set aside as {}",
            path.display(),
            aside.display()
        ));
        settings
            .disk
            .rename(&path, &aside)
            .map_err(Error::io("rename", &path))?;
    }
    settings
        .disk
        .sync_dir(segments.dir())
        .map_err(Error::io("flush", segments.dir()))
}

/// A copy of a file before it is cut, for whoever wants to look at it.
fn keep_damaged(settings: &Settings, path: &Path) -> Result<PathBuf> {
    let mut to = path.with_extension("log.lost");
    // Nor is what was kept before written over.
    for i in 2.. {
        if !to.exists() {
            break;
        }
        to = path.with_extension(format!("log.{i}.lost"));
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    place(&*settings.disk, &to, &bytes)?;
    Ok(to)
}

fn cut(settings: &Settings, path: &Path, len: u64) -> Result<()> {
    fail::point("truncate.before");
    let mut file = settings.disk.open(path).map_err(Error::io("open", path))?;
    file.set_len(len).map_err(Error::io("cut", path))?;
    file.sync().map_err(Error::io("flush", path))?;
    fail::point("truncate.after");
    Ok(())
}
