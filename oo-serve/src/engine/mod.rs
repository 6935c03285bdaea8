//! Decisions, feedback and what is learned from both: a deterministic state machine over the journal.
//!
//! Every change is a record; a record is put into the journal and applied under one lock, so the state is always what a
//! replay of the journal gives, bit for bit. The policy stands behind a lock of its own: decisions read it side by side.
//! A feedback is acknowledged once its record is on the disk, and has been learned by then.
//!
//! Draws come from a key of (seed, user, decision id), never from time or thread.

mod aside;
pub mod ask;
pub mod clock;
pub(crate) mod codec;
mod decide;
mod due;
pub mod event;
pub mod experiment;
mod feedback;
pub(crate) mod forget;
mod guard;
mod held;
pub(crate) mod ids;
pub mod join;
mod keep;
pub(crate) mod models;
mod names;
mod offer;
pub mod people;
pub(crate) mod recover;
pub mod settings;
pub mod shadow;
mod shards;
pub(crate) mod snapshot;
pub(crate) mod state;
mod teach;
pub(crate) mod undo;

pub use ask::{Answer, Arm, Ask, Feedback, Given, Hints, Logged, Reason, Receipt, Stats, Status, Suppressed, Target};
pub use decide::Explained;
pub use event::{Ended, Outcome};
pub use experiment::{Plan, Standing};
pub use feedback::Pending;
pub use held::Holds;
pub use join::Join;
pub use keep::Compaction;
pub use offer::Choice;
pub use people::{Known, Person, Seen};
pub use recover::Recovery;
pub use settings::{Artefact, Durability, Rules, Settings, Suppress};
pub use state::{Agreement, Counts};

use crate::journal::{Health, Journal, Location, fail};
use crate::{Error, Result};
use clock::Stamps;
use event::{Decided, Event};
use experiment::Lane;
use guard::Guard;
use held::{Held, Lock};
use names::Names;
use shadow::Shadows;
use state::{Mark, Serving, State};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// Hears rewards.
type Ear = Box<dyn Fn(f64) + Send + Sync>;

/// See the module. Shared in an `Arc`.
pub struct Engine {
    dir: PathBuf,
    settings: Settings,
    stamps: Stamps,
    names: Names,
    serving: Arc<RwLock<Serving>>,
    guard: Guard,
    state: Lock,
    journal: Journal,
    shadows: Shadows,
    /// Who hears every reward that is taught.
    ear: OnceLock<Ear>,
    /// The experiment that runs, for those who decide.
    lane: RwLock<Option<Arc<Lane>>>,
    any_lane: AtomicBool,
    /// The index of the next round.
    rounds: AtomicU64,
    /// The record of the latest snapshot.
    snapshot_seq: AtomicU64,
    /// Held while a snapshot is taken, saved states are written, the policy changed or somebody forgotten: one at a time.
    keeping: Mutex<()>,
    /// Held while the journal is compacted; `keeping` is taken under it, never the other way.
    compacting: Mutex<()>,
    /// Holds the folder.
    _lock: File,
}

/// How the engine goes.
#[derive(Clone, PartialEq, Debug)]
pub struct Condition {
    /// The journal.
    pub journal: Health,
    /// Counts since the beginning.
    pub counts: Counts,
    /// Users known.
    pub users: usize,
    /// Decisions inside their wait window.
    pub open: usize,
    /// Feedbacks that wait for their decision.
    pub held: usize,
    /// Ids remembered.
    pub ids: usize,
    /// The policy in charge, as a spec.
    pub policy: String,
    /// Which artefact of it.
    pub generation: u64,
    /// Rewards learned.
    pub updates: u64,
    /// Rewards that the policy refused.
    pub refused: u64,
    /// How likely the policy was to make the choices that callers made themselves.
    pub agreement: Agreement,
    /// Experiments that ended: stopped, launched, rolled back.
    pub ends: [u64; 3],
    /// Rewards that it could not learn yet, because the disk cannot be read now.
    pub owed: usize,
    /// How long the engine's lock was held.
    pub holds: Holds,
    /// Something is done aside for a policy: an estimate, say.
    pub aside: bool,
}

impl Engine {
    /// Opens a folder, or makes it: reads what is there, and says what was lost.
    ///
    /// # Errors
    /// A folder that another process holds, that was written by a newer version, or that cannot be read; a policy that
    /// does not fit.
    pub fn open(dir: &Path, settings: Settings) -> Result<(Self, Recovery)> {
        let (engine, recovery) = recover::open(dir, settings)?;
        Ok((engine, recovery))
    }

    fn state(&self) -> Held<'_> {
        self.state.lock()
    }

    /// Finds a decision's record.
    fn fetch(&self, at: Location) -> Result<Decided> {
        aside::fetch(&self.journal.reader(), at)
    }

    /// Lets somebody hear every reward that the policy is taught from now on, whether by a feedback, at the end of its
    /// window, or by default. It is called under a lock and must not take long; the first one stays.
    pub fn listen(&self, ear: impl Fn(f64) + Send + Sync + 'static) {
        if self.ear.set(Box::new(ear)).is_ok() {
            self.state().taught.watched = true;
        }
    }

    /// Tells the others what the policy was taught.
    fn tell(&self, state: &mut State) {
        let rewards = state.taught.take_rewards();
        if let Some(ear) = self.ear.get() {
            rewards.into_iter().for_each(ear);
        }
        self.shadows.learn(state.taught.take());
        self.start_asides(state);
    }

    /// Learns what could not be read when it was due.
    fn settle_owed(&self, state: &mut State) -> Result<()> {
        if state.owing() == 0 {
            return Ok(());
        }
        let settled = state.settle(&self.serving, &|at| self.fetch(at));
        self.tell(state);
        settled.map_err(Error::unread)
    }

    /// Appends a record and applies it. Returns its number.
    fn put(&self, state: &mut State, event: &Event) -> Result<Mark> {
        self.put_at(state, event, self.stamps.now())
    }

    fn put_at(&self, state: &mut State, event: &Event, time: u64) -> Result<Mark> {
        // What the record changes comes after everything that was due before it.
        let learns = matches!(event, Event::Tick | Event::Given(_));
        if !learns && state.is_due(time) {
            self.put_at(state, &Event::Tick, time)?;
        }
        self.settle_owed(state)?;
        if event.changes_policies() {
            self.wait_for_asides(state);
        }
        let mut payload = Vec::new();
        let kind = event.encode(&mut payload);
        let (seq, at) = self.journal.append(time, kind, &payload)?;
        let mark = Mark { seq, time, at };
        fail::point("apply.before");
        state.apply(mark, event, &self.serving, &|at| self.fetch(at));
        self.tell(state);
        match event {
            Event::Reset(user) => self.shadows.reset(oo_core::UserId(*user)),
            Event::Forgotten(user) => self.shadows.forget(oo_core::UserId(*user)),
            _ => {}
        }
        fail::point("apply.after");
        Ok(mark)
    }

    /// Lets time pass: wait windows end, default rewards are learned, what the shadows found is logged, and a snapshot
    /// is taken when it is time for one. To be called every second or so, from a thread that may take its time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the disk fails.
    pub fn tick(&self) -> Result<()> {
        self.log_shadows()?;
        let mut state = self.state();
        self.settle_owed(&mut state)?;
        if state.is_due(self.stamps.now()) {
            self.put(&mut state, &Event::Tick)?;
        }
        let last = state.last.seq;
        drop(state);
        let every = self.settings.snapshot_every;
        // A snapshot may have been taken since.
        let taken = self.snapshot_seq.load(std::sync::atomic::Ordering::Relaxed);
        if every > 0 && last.saturating_sub(taken) >= every {
            self.snapshot_unless_busy()?;
        }
        Ok(())
    }

    /// What is known of a user; `None` for a stranger.
    pub fn stats(&self, user: &str) -> Option<Stats> {
        self.state().users.get(&ask::identity(user)).map(state::User::stats)
    }

    /// The user's latest decisions, latest first, at most `limit`.
    pub fn history(&self, user: &str, limit: usize) -> Vec<Logged> {
        let last = self.state().users.get(&ask::identity(user)).map(|u| u.last);
        let mut at = last.unwrap_or(Location::NOWHERE);
        let mut found = Vec::new();
        while at != Location::NOWHERE && found.len() < limit {
            // What was dropped with its segment ends the chain.
            let Ok(decided) = self.fetch(at) else { break };
            at = decided.before;
            found.push(decided.logged);
        }
        found
    }

    /// A decision by its id. One that was named here and has been closed for long is looked for in the file of its time,
    /// which takes as long as reading that.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not known, or not any more; [`Error::Unavailable`] when it cannot be read now.
    pub fn decision(&self, id: &str) -> Result<Logged> {
        let known = self.known_decision(&self.state(), id)?;
        let found = match (known, self.names.stamp(id)) {
            (Some(found), _) => Some(found),
            (None, Some(made)) => self.search(id, made)?,
            (None, None) => None,
        };
        found.map(|d| d.logged).ok_or_else(|| Error::NotFound {
            field: "decision_id",
            what: "decision",
            id: id.into(),
        })
    }

    /// Looks for a decision of this name, made at this time, in the journal.
    fn search(&self, id: &str, made: u64) -> Result<Option<Decided>> {
        /// From the making of a name to the stamp of its record, at most: a policy that is waited for, a busy machine.
        const SPAN_MS: u64 = 60_000;
        let segments = self.journal.segments();
        let list = segments.list()?;
        let begins_before = |segment: &u32| segments.first_time(*segment).is_ok_and(|t| t.is_some_and(|t| t < made));
        let from = list.partition_point(begins_before).saturating_sub(1);
        for &segment in &list[from..] {
            let mut found = None;
            let mut past = false;
            segments.scan_while(segment, None, |r| {
                if r.kind == event::kind::DECIDED
                    && (made..=made + SPAN_MS).contains(&r.time)
                    && let Ok(Event::Decided(d)) = Event::decode(&r)
                    && d.logged.answer.decision_id == id
                    && !self.state().is_forgotten(&d.logged.user, r.seq)
                {
                    found = Some(*d);
                }
                past = r.time > made + SPAN_MS;
                Ok(found.is_none() && !past)
            })?;
            if found.is_some() || past {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// A decision that is open, or whose id the caller chose.
    fn known_decision(&self, state: &State, id: &str) -> Result<Option<Decided>> {
        let hash = ids::decision_hash(id);
        let open = state.open.get(&hash).map(|o| o.at);
        for at in open.into_iter().chain(state.ids.places(hash)) {
            match aside::fetch_numbered(&self.journal.reader(), at) {
                Ok((_, d)) if d.logged.answer.decision_id != id => {}
                Ok((seq, d)) if !state.is_forgotten(&d.logged.user, seq) => return Ok(Some(d)),
                Err(e) if e.is_passing() => return Err(e.unread()),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The user's model and statistics start anew. Ends when it is on the disk.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the disk fails.
    pub fn reset(&self, user: &str) -> Result<()> {
        // As below.
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.settle(&Event::Reset(ask::identity(user)))
    }

    /// Forgets a user: the model and statistics now, the records with the next [`compact`](Engine::compact). What a
    /// policy learned for everybody from this user stays in it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the disk fails.
    pub fn forget(&self, user: &str) -> Result<()> {
        // A policy that is on its way in or out must not miss it.
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.settle(&Event::Forgotten(ask::identity(user)))
    }

    /// Puts and applies a record, and waits for the disk.
    fn settle(&self, event: &Event) -> Result<()> {
        self.journal.writable()?;
        let mark = self.put(&mut self.settled(), event)?;
        self.journal.commit(mark.seq).wait()
    }

    /// Waits until everything so far is on the disk.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the disk fails.
    pub fn flush(&self) -> Result<()> {
        self.journal.commit(self.journal.health().last).wait()
    }

    /// How it goes.
    pub fn condition(&self) -> Condition {
        let state = self.state();
        let serving = state::read(&self.serving);
        Condition {
            journal: self.journal.health(),
            counts: state.counts,
            users: state.users.len(),
            open: state.open.len(),
            held: state.early.values().map(Vec::len).sum(),
            ids: state.ids.len(),
            policy: serving.spec.to_string(),
            generation: serving.swapped.generation,
            updates: serving.updates,
            refused: serving.refused,
            agreement: state.agreement,
            ends: state.ends,
            owed: state.owing(),
            holds: self.state.holds(),
            aside: serving.aside.is_some(),
        }
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
