//! What takes a policy long, such as an estimate from everybody's rows, is done aside, and nobody waits for it.
//!
//! When a row leaves the policy such work ([`oo_core::Policy::update_quickly`]), a copy does it on a thread of its own.
//! Meanwhile the policy answers and learns without it; the copy then learns the same rows, in the same order, and takes its
//! place. What it has learned is what a replay of the journal comes to, bit for bit, and whoever needs that (snapshots,
//! changes of the policy, resets) waits until it is so. Which decisions came before the change of places depends on the
//! machine; what they were, and with which probabilities, is in the journal. A start does the same: it serves before the
//! last such work has been done.

use super::Engine;
use super::event::{Decided, Event};
use super::held::Held;
use super::shards::Queue;
use super::state::{Serving, State, read, write};
use super::teach::enter;
use crate::journal::{Location, Reader};
use crate::{Error, Result};
use oo_core::tips::Feedback;
use oo_core::{Batch, Log, Policy};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// Between two attempts at a record that cannot be read.
const RETRY: Duration = Duration::from_millis(200);

/// Rows that a copy learns without looking up.
const FEW: usize = 1024;

/// A row that a policy has learned: its decision and what came of it.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub at: Location,
    pub reward: f64,
    pub feedback: Option<Feedback>,
}

/// Work under way for the policy beside it.
pub(crate) struct Aside {
    /// Until the thread takes it.
    copy: Option<Copy>,
    /// Rows that came meanwhile.
    rows: Queue<Row>,
    done: Arc<Done>,
}

struct Copy {
    policy: Box<dyn Policy>,
    updates: u64,
    refused: u64,
}

impl Copy {
    fn catch_up(&mut self) {
        let policy = &mut self.policy;
        let done = catch_unwind(AssertUnwindSafe(|| policy.catch_up()));
        if !matches!(done, Ok(Ok(()))) {
            // In a replay the row itself is refused.
            self.updates -= 1;
            self.refused += 1;
        }
    }

    fn learn(&mut self, decided: &Decided, row: &Row, log: &mut Log) {
        let policy = &mut self.policy;
        let row = enter(&decided.logged, row.reward, row.feedback, log);
        let learn = AssertUnwindSafe(|| policy.update(&Batch::new(log, &[row])));
        match catch_unwind(learn) {
            Ok(Ok(())) => self.updates += 1,
            _ => self.refused += 1,
        }
    }
}

impl Serving {
    /// A row has been learned, of which work may be left. True where somebody is to do that now.
    pub(super) fn learned(&mut self, row: Row, left: bool) -> bool {
        if let Some(aside) = &mut self.aside {
            aside.rows.push_back(row);
            return false;
        }
        if !left {
            return false;
        }
        let Some(policy) = self.models.copy() else { return false };
        self.aside = Some(Aside {
            copy: Some(Copy {
                policy,
                updates: self.updates,
                refused: self.refused,
            }),
            rows: Queue::default(),
            done: Arc::default(),
        });
        true
    }
}

/// Does the work that waits, and changes places. `fetch` finds decisions.
///
/// # Errors
/// A decision that cannot be read now; the work is then lost.
pub(super) fn run(serving: &RwLock<Serving>, fetch: &dyn Fn(Location) -> Result<Decided>) -> Result<()> {
    let taken = write(serving)
        .aside
        .as_mut()
        .and_then(|aside| Some((aside.copy.take()?, Arc::clone(&aside.done))));
    let Some((mut copy, done)) = taken else { return Ok(()) };
    let mut log = Log::new();
    copy.catch_up();
    loop {
        let mut serving = write(serving);
        // Whoever puts another policy in charge has waited for this one.
        let Some(aside) = &mut serving.aside else { break };
        // A few at a time: what has been learned takes no room.
        let rows: Vec<Row> = (0..FEW).map_while(|_| aside.rows.pop_front()).collect();
        if rows.is_empty() {
            let old = serving.models.exchange(copy.policy);
            (serving.updates, serving.refused, serving.aside) = (copy.updates, copy.refused, None);
            drop(serving);
            drop(old);
            break;
        }
        drop(serving);
        for row in rows {
            match fetch(row.at) {
                Ok(decided) => copy.learn(&decided, &row, &mut log),
                Err(e) if e.is_passing() => return Err(e),
                // Gone, as it is for a replay.
                Err(_) => {}
            }
        }
    }
    done.finish();
    Ok(())
}

/// Finds a decision, however long that takes; an error once the journal is closed.
fn insist(reader: &Reader, at: Location) -> Result<Decided> {
    loop {
        match fetch(reader, at) {
            Err(e) if e.is_passing() && !reader.closed() => std::thread::sleep(RETRY),
            end => return end,
        }
    }
}

/// A decision's record.
pub(super) fn fetch(reader: &Reader, at: Location) -> Result<Decided> {
    fetch_numbered(reader, at).map(|(_, decided)| decided)
}

/// The same with its number.
pub(super) fn fetch_numbered(reader: &Reader, at: Location) -> Result<(u64, Decided)> {
    let mut buffer = Vec::new();
    let record = reader.read(at, &mut buffer)?;
    match Event::decode(&record) {
        Ok(Event::Decided(decided)) => Ok((record.seq, *decided)),
        Ok(_) => Err(Error::NotFound {
            field: "decision_id",
            what: "decision",
            id: format!("at {at:?}"),
        }),
        Err(why) => Err(Error::Damaged {
            path: reader.path(at),
            why,
        }),
    }
}

impl Engine {
    /// Starts what the last record left to be done.
    pub(super) fn start_asides(&self, state: &mut State) {
        if !std::mem::take(&mut state.taught.left) {
            return;
        }
        let challenger = state.trial.as_ref().map(|trial| &trial.challenger);
        for serving in [Some(&self.serving), challenger].into_iter().flatten() {
            let (shared, reader) = (Arc::clone(serving), self.journal.reader());
            // An error means that nobody is there any more.
            let work = move || drop(run(&shared, &|at| insist(&reader, at)));
            let waits = read(serving).aside.as_ref().is_some_and(|a| a.copy.is_some());
            if waits && std::thread::Builder::new().name("aside".into()).spawn(work).is_err() {
                let reader = self.journal.reader();
                drop(run(serving, &|at| insist(&reader, at)));
            }
        }
    }

    fn under_way(&self, state: &State) -> Option<Arc<Done>> {
        let of = |serving: &RwLock<Serving>| read(serving).aside.as_ref().map(|aside| Arc::clone(&aside.done));
        of(&self.serving).or_else(|| of(&state.trial.as_ref()?.challenger))
    }

    /// Waits until nothing is done aside. Whoever holds the lock keeps new work from beginning.
    pub(super) fn wait_for_asides(&self, state: &State) {
        while let Some(done) = self.under_way(state) {
            done.wait();
        }
    }

    /// The state while nothing is done aside. The lock is not held while that is waited for, but where work follows on work.
    pub(super) fn settled(&self) -> Held<'_> {
        for _ in 0..4 {
            let state = self.state();
            let Some(done) = self.under_way(&state) else {
                return state;
            };
            drop(state);
            done.wait();
        }
        let state = self.state();
        self.wait_for_asides(&state);
        state
    }
}

/// Whether some work has been done.
#[derive(Default)]
pub(super) struct Done(Mutex<bool>, Condvar);

impl Done {
    fn finish(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.1.wait_while(done, |done| !*done));
    }
}
