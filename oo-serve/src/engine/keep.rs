//! What is done to the folder and the policy while the engine runs: snapshots, compaction, another policy.

use super::event::{Event, Swapped, Whose};
use super::forget::{self, StateNames};
use super::guard::Guard;
use super::ids::decision_hash;
use super::recover::{install, journal_dir, keep};
use super::shadow::saved;
use super::state::{self, write};
use super::{Artefact, Engine};
use super::{snapshot, undo};
use crate::journal::record::{self, BLANK, SEGMENT_HEAD, segment_head};
use crate::journal::{Record, fail};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, TryLockError};
use std::time::Duration;

/// Snapshots that are kept: should the newest be damaged, there is another.
const KEPT: usize = 2;

/// What a compaction did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Compaction {
    /// Files of the journal dropped for their age.
    pub dropped: usize,
    /// Files of the journal written again without the records of forgotten users.
    pub rewritten: usize,
    /// Records blanked in them.
    pub blanked: u64,
    /// Old snapshots removed.
    pub snapshots: usize,
}

impl Engine {
    /// Writes down everything known at this moment, so that a start need not replay what came before. Returns the number
    /// of the last record in it.
    ///
    /// # Errors
    /// A disk that does not take it; nothing is then changed.
    pub fn snapshot(&self) -> Result<u64> {
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.snapshot_now(KEPT)
    }

    /// The same, but where the folder is held: whoever holds it takes one, or is soon done.
    pub(super) fn snapshot_unless_busy(&self) -> Result<()> {
        let _one = match self.keeping.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        self.snapshot_now(KEPT).map(drop)
    }

    fn snapshot_now(&self, kept: usize) -> Result<u64> {
        self.drop_outdated();
        // Asked under the lock: what they say is as of the same record.
        let (still, shadows) = self.still(|| self.shadows.ask())?;
        let seq = still.seq;
        // It must never know more than the journal does.
        self.journal.commit(seq).wait()?;
        // Before the snapshot, which is not looked for without them.
        saved::store(shadows, &self.dir, seq, &*self.settings.disk)?;
        if !snapshot::path(&self.dir, seq).exists() {
            let stored = still.store(&self.dir, &*self.settings.disk);
            if stored.is_err() && !snapshot::path(&self.dir, seq).exists() {
                // On a full disk each attempt would leave what the shadows said.
                let _ = self.remove(saved::path(&self.dir, seq));
            }
            stored?;
        } else {
            // Whoever wrote it may not have come to that.
            self.sync(&snapshot::folder(&self.dir))?;
        }
        self.snapshot_seq.store(seq, Ordering::Relaxed);
        let all = snapshot::list(&self.dir)?;
        let (old, kept) = all.split_at(all.len().saturating_sub(kept));
        old.iter()
            .try_for_each(|seq| self.remove(snapshot::path(&self.dir, *seq)))?;
        saved::tidy(&self.dir, kept, &*self.settings.disk)?;
        self.sync(&snapshot::folder(&self.dir))?;
        Ok(seq)
    }

    /// Takes a snapshot and removes all others; returns how many these were.
    fn snapshot_alone(&self) -> Result<usize> {
        let before = snapshot::list(&self.dir)?;
        self.snapshot_now(1)?;
        let after = snapshot::list(&self.dir)?;
        Ok(before.iter().filter(|seq| !after.contains(seq)).count())
    }

    fn remove(&self, path: PathBuf) -> Result<()> {
        self.settings.disk.remove(&path).map_err(Error::io("remove", path))
    }

    /// What was removed from a folder stays so, and what was renamed, over a power cut.
    pub(super) fn sync(&self, folder: &Path) -> Result<()> {
        self.settings.disk.sync_dir(folder).map_err(Error::io("flush", folder))
    }

    /// SHA-256 over everything known, in hex: equal to that of a replay of the journal. Takes as long as a snapshot.
    ///
    /// # Errors
    /// A packed model that cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        self.still(|| ())?.0.digest()
    }

    /// A copy of everything at this moment, and what `beside` finds at the same one.
    fn still<T>(&self, beside: impl FnOnce() -> T) -> Result<(snapshot::Still, T)> {
        let mut state = self.settled();
        self.settle_owed(&mut state)?;
        self.wait_for_asides(&state);
        let serving = state::read(&self.serving);
        Ok((snapshot::take(&state, &serving), beside()))
    }

    /// Drops ids that are too old to matter, a step at a time, so that nobody waits for all of them.
    fn drop_outdated(&self) {
        let (outdated, steps) = {
            let state = self.state();
            (state.outdated(), state.ids.parts())
        };
        let Some(last) = outdated else { return };
        (0..steps).for_each(|step| self.state().ids.drop_before(last + 1, step));
        self.state().segment_ends.retain(|segment, _| *segment > last);
    }

    /// Puts another policy, or another state of one, in charge. Decisions under way end with the one they began with.
    /// Returns its generation. Nothing changes when it does not load. [`roll_back`](Engine::roll_back) undoes it.
    ///
    /// # Errors
    /// A policy that does not fit or does not load; [`Error::Invalid`] while an experiment runs, whose control it would
    /// change; [`Error::Unavailable`] when the disk fails.
    pub fn swap(&self, artefact: &Artefact) -> Result<u64> {
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.exchange(&*self.without_pending(artefact)?, Event::Swapped)
    }

    /// Puts a shadow in charge, with what it has learned; else as [`swap`](Engine::swap).
    ///
    /// # Errors
    /// As [`shadow`](Engine::shadow) and [`swap`](Engine::swap).
    pub fn promote(&self, shadow: &str, patience: Duration) -> Result<u64> {
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.exchange(&self.shadow(shadow, patience)?, Event::Swapped)
    }

    /// Another policy for the one in charge, by this record. To be called with `keeping` held.
    pub(super) fn exchange(&self, artefact: &Artefact, by: impl FnOnce(Swapped) -> Event) -> Result<u64> {
        self.journal.writable()?;
        let generation = self.no_experiment()? + 1;
        let swapped = keep(&self.dir, &self.settings, artefact, generation)?;
        let next = install(self.settings.home(&self.dir), &swapped)?;
        let next = Arc::new(RwLock::new(next));
        let guarded = Guard::trial(&next, self.settings.policy_timeout, &self.settings.shape);
        // A trial that still runs keeps the candidate; it is then too slow to be put in charge.
        let next =
            Arc::try_unwrap(next).map_err(|_| Error::invalid("policy", "one that answers in time", &swapped.spec))?;
        let mut next = next.into_inner().unwrap_or_else(PoisonError::into_inner);
        let event = by(swapped);
        let gives_way = match &event {
            Event::Undone(undone) => {
                (next.updates, next.refused) = (undone.updates, undone.refused);
                false
            }
            _ => true,
        };
        if gives_way {
            self.keep_former()?;
        }
        let (mark, former) = {
            let mut state = self.settled();
            let former = gives_way.then(|| self.former(&mut state)).transpose()?;
            let mark = self.put(&mut state, &event)?;
            *write(&self.serving) = next;
            self.guard.set(guarded);
            (mark, former)
        };
        self.keep_last(former);
        let _ = self.tidy_formers();
        self.journal.commit(mark.seq).wait()?;
        Ok(generation)
    }

    /// Tidies up: a snapshot, then records of forgotten users are blanked, records beyond the retention dropped, older
    /// snapshots removed. Everything else goes on meanwhile; changes of policies and of who is known wait for the snapshot,
    /// and at the end while saved states are read.
    ///
    /// # Errors
    /// A disk that does not take it; whatever was not done is done the next time.
    pub fn compact(&self) -> Result<Compaction> {
        let _only = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Compaction::default();
        // Before the file is closed, which then has all of theirs. Whoever is forgotten later goes the next time.
        let (forgotten, open) = {
            let state = self.state();
            (state.forgotten.clone(), state.open.clone())
        };
        // What is learned when its window ends is read again then, however old it is.
        let needed = open.iter().map(|(_, open)| open.at.segment).min().unwrap_or(u32::MAX);
        drop(open);
        let closed = self.journal.rotate();
        {
            let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            // Older snapshots may hold what is to be forgotten, and need records that are about to go.
            done.snapshots += self.snapshot_alone()?;
        }
        // Or a disk that fails would have records written once more that were blanked by then.
        self.journal.settle()?;
        let blanked = self.blanked();
        let pending: BTreeMap<u64, u64> = forgotten.into_iter().filter(|(_, seq)| *seq > blanked).collect();
        let (pending, mut names) = self.compact_segments(closed, needed, pending, &mut done)?;
        let Some(last) = pending.values().max() else {
            return Ok(done);
        };
        // All but the file in hand, while nobody waits for it.
        let since = self.names_after(closed, &mut names)?;
        {
            let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever named a state and was told that the disk failed did not wait for the record.
            self.flush()?;
            let rest = self.names_after(since.closed, &mut names)?;
            if since.changed || rest.changed {
                // The snapshot from before may need a state that is no longer in place and that no record names, and a
                // replay from it would pass states without those who are taken out of them now.
                done.snapshots += self.snapshot_alone()?;
            }
            self.forget_in_policies(names, &pending)?;
            self.tidy_formers()?;
            self.forget_in_formers(&pending)?;
            self.sync(&undo::folder(&self.dir))?;
        }
        let disk = &self.settings.disk;
        let journal = self.journal.segments().dir();
        for entry in fs::read_dir(journal).map_err(Error::io("read the folder", journal))? {
            let path = entry.map_err(Error::io("read the folder", journal))?.path();
            // What was set aside as damaged, or left unfinished, may hold anybody's records.
            if path.extension().is_some_and(|e| e == "lost" || e == "tmp") {
                self.remove(path)?;
            }
        }
        self.sync(journal)?;
        let path = self.blanked_file();
        let mut file = disk.create(&path).map_err(Error::io("create", &path))?;
        file.write_at(last.to_string().as_bytes(), 0)
            .map_err(Error::io("write", &path))?;
        file.sync().map_err(Error::io("flush", &path))?;
        fail::point("compact.done");
        Ok(done)
    }

    /// The journal's files up to this one: those too old are dropped, up to the first that is needed, those with records of
    /// these users written again.
    /// Returns the users and what saved states the records name.
    fn compact_segments(
        &self,
        closed: u32,
        needed: u32,
        pending: BTreeMap<u64, u64>,
        done: &mut Compaction,
    ) -> Result<(BTreeMap<u64, u64>, StateNames)> {
        let (now, horizon) = {
            let state = self.state();
            let rules = &state.rules;
            let needed = rules.remember_ms.max(rules.wait_ms);
            let retention = self.settings.retention;
            let horizon = retention.map(|r| needed.max(u64::try_from(r.as_millis()).unwrap_or(u64::MAX)));
            (self.stamps.now(), horizon)
        };
        let mut names = StateNames::new();
        let mut going = Going {
            users: pending,
            loose: HashSet::new(),
            decisions: HashMap::new(),
        };
        // Files that need not be read for anything are not read.
        if going.users.is_empty() && horizon.is_none() {
            return Ok((going.users, names));
        }
        let segments = self.journal.segments();
        let mut seen = Vec::new();
        for segment in segments.list()?.into_iter().filter(|s| *s <= closed) {
            let (mut hits, mut loose, mut latest) = (0, false, 0);
            let end = segments.scan_all(segment, |r| {
                match going.meets(&r) {
                    Some(true) => hits += 1,
                    Some(false) => loose = true,
                    None => {}
                }
                latest = r.time;
                names.extend(forget::named(&r));
                Ok(())
            })?;
            seen.push(Seen {
                segment,
                hits,
                loose,
                // Where nothing is sound, the next one says how old it is.
                latest: (latest > 0 || end.defect.is_none()).then_some(latest),
                unsound: end.unsound > 0,
            });
        }
        let mut old = HashSet::new();
        let mut next = now;
        for file in seen.iter().rev() {
            next = file.latest.unwrap_or(next);
            if file.segment < needed && horizon.is_some_and(|h| next.saturating_add(h) < now) {
                old.insert(file.segment);
            }
        }
        if !going.loose.is_empty() {
            for file in seen.iter().filter(|file| file.hits > 0) {
                segments.scan_all(file.segment, |r| {
                    going.note(&r);
                    Ok(())
                })?;
            }
        }
        // First what is known by its decision alone, which must be there until then: this may be stopped at any file.
        let may_hold = |file: &&Seen| file.loose && !going.decisions.is_empty() && !old.contains(&file.segment);
        for file in seen.iter().filter(may_hold) {
            let mut theirs = 0;
            segments.scan_all(file.segment, |r| {
                theirs += u64::from(going.takes_loose(&r));
                Ok(())
            })?;
            if theirs > 0 {
                self.blank(file.segment, |r| going.takes_loose(r))?;
                done.blanked += theirs;
                done.rewritten += usize::from(file.hits == 0);
            }
        }
        self.sync(segments.dir())?;
        for file in seen {
            if old.contains(&file.segment) {
                fail::point("compact.remove");
                self.remove(segments.path(file.segment))?;
                segments.close(file.segment);
                done.dropped += 1;
            } else if file.hits > 0 || (file.unsound && !going.users.is_empty()) {
                self.blank(file.segment, |r| going.takes(r))?;
                done.blanked += file.hits;
                done.rewritten += 1;
            }
        }
        self.sync(segments.dir())?;
        Ok((going.users, names))
    }

    /// Adds the saved states that files after this one name.
    fn names_after(&self, closed: u32, names: &mut StateNames) -> Result<Since> {
        let segments = self.journal.segments();
        let mut since = Since { closed, changed: false };
        for segment in segments.list()?.into_iter().filter(|s| *s > closed) {
            since.closed = segment - 1;
            segments.scan(segment, |r| {
                since.changed |= forget::changes(&r);
                names.extend(forget::named(&r));
                Ok(())
            })?;
        }
        Ok(since)
    }

    fn blanked_file(&self) -> PathBuf {
        journal_dir(&self.dir).join("blanked")
    }

    /// Up to this record the files hold nothing more of whoever was forgotten.
    pub(super) fn blanked(&self) -> u64 {
        let text = fs::read_to_string(self.blanked_file()).ok();
        text.and_then(|t| t.trim().parse().ok()).unwrap_or(0)
    }

    /// True while files hold records of somebody who was forgotten: [`compact`](Engine::compact) blanks them.
    pub fn owes_blanks(&self) -> bool {
        let blanked = self.blanked();
        self.state().forgotten.values().any(|seq| *seq > blanked)
    }

    /// Writes a segment again, every record in its place, those that go as zeros. Nothing tells whose damaged bytes were:
    /// they are zeros too, and what is sound behind them stays.
    fn blank(&self, segment: u32, goes: impl Fn(&Record<'_>) -> bool) -> Result<()> {
        let segments = self.journal.segments();
        let path = segments.path(segment);
        let temporary = path.with_extension("tmp");
        let disk = &self.settings.disk;
        fail::point("compact.write");
        let mut file = disk.create(&temporary).map_err(Error::io("create", &temporary))?;
        let head = segments.first_seq(segment)?.map_or([0; SEGMENT_HEAD], segment_head);
        file.write_at(&head, 0).map_err(Error::io("write", &temporary))?;
        let (mut out, mut offset) = (Vec::with_capacity(2 << 20), SEGMENT_HEAD as u64);
        let end = segments.scan_all(segment, |r| {
            let damaged = u64::from(r.at.offset) - offset - out.len() as u64;
            out.resize(out.len() + damaged as usize, 0);
            match goes(&r) {
                true => record::write(&mut out, r.seq, r.time, (BLANK, 0), &vec![0; r.payload.len()]),
                false => record::write(&mut out, r.seq, r.time, (r.kind, r.version), r.payload),
            }
            if out.len() >= 1 << 20 {
                file.write_at(&out, offset).map_err(Error::io("write", &temporary))?;
                offset += out.len() as u64;
                out.clear();
            }
            Ok(())
        })?;
        out.resize(end.len.saturating_sub(offset) as usize, 0);
        file.write_at(&out, offset).map_err(Error::io("write", &temporary))?;
        file.sync().map_err(Error::io("flush", &temporary))?;
        fail::point("compact.rename");
        disk.rename(&temporary, &path)
            .map_err(Error::io("rename", &temporary))?;
        segments.close(segment);
        Ok(())
    }
}

/// A file that a compaction has read.
struct Seen {
    segment: u32,
    /// Records of those who go.
    hits: u64,
    /// Whether feedback is in it that names nobody.
    loose: bool,
    /// When its last record was written.
    latest: Option<u64>,
    /// Whether bytes are in it that may have been anybody's.
    unsound: bool,
}

/// What files begun since say.
struct Since {
    /// Those up to this one are complete.
    closed: u32,
    /// Whether other saved states came into place.
    changed: bool,
}

/// Whose records go: each with the record that says so, since what comes after it stays.
struct Going {
    users: BTreeMap<u64, u64>,
    /// The decisions that feedback is about which names no user: it came before its decision, or long after it. By the
    /// hashes of their ids; there are few, while the decisions of one person may be many.
    loose: HashSet<u64>,
    /// Those of them that are theirs.
    decisions: HashMap<u64, u64>,
}

impl Going {
    /// True for a record of one of the users, false for one that may belong to anybody.
    fn meets(&mut self, r: &Record<'_>) -> Option<bool> {
        let whose = (!self.users.is_empty()).then(|| Event::whose(r))??;
        if whose.user.is_some() || self.gone(&whose, r).is_some() {
            return self.gone(&whose, r).map(|_| true);
        }
        self.loose.insert(decision_hash(whose.decision?));
        Some(false)
    }

    /// Once all of the journal was met: what of theirs is loose.
    fn note(&mut self, r: &Record<'_>) {
        let Some(whose) = Event::whose(r) else { return };
        let decision = whose.decision.map(decision_hash).filter(|d| self.loose.contains(d));
        // What is said of a decision does not make it theirs.
        let theirs = Whose { said: None, ..whose };
        if let (Some(decision), Some(seq)) = (decision, self.gone(&theirs, r)) {
            self.decisions.insert(decision, seq);
        }
    }

    /// The record that forgot the user of this one, which comes before it.
    fn gone(&self, whose: &Whose<'_>, r: &Record<'_>) -> Option<u64> {
        let users = whose.user.into_iter().chain(whose.said);
        let mut gone = users.filter_map(|user| self.users.get(&user).copied());
        gone.find(|seq| r.seq < *seq)
    }

    /// True for what names one of them.
    fn takes(&self, r: &Record<'_>) -> bool {
        Event::whose(r).is_some_and(|whose| self.gone(&whose, r).is_some())
    }

    /// True for what names nobody, and whose decision is theirs.
    fn takes_loose(&self, r: &Record<'_>) -> bool {
        let loose = Event::whose(r).filter(|whose| whose.user.is_none());
        let decision = loose.and_then(|whose| whose.decision).map(decision_hash);
        let seq = decision.and_then(|decision| self.decisions.get(&decision));
        seq.is_some_and(|seq| r.seq < *seq)
    }
}
