//! What takes a policy long, such as an estimate from everybody's rows, is done aside, and nobody waits for it.
//!
//! When a row leaves the policy such work ([`oo_core::Policy::update_quickly`]), a copy does it on a thread of its own.
//! Meanwhile the policy answers and learns without it; the copy learns the same rows afterwards, in the same order, and takes
//! its place. What it has learned is then what a replay of the journal comes to, bit for bit, and whoever needs that
//! (snapshots, changes of the policy, resets) waits until it is so. Which decisions came before the change depends on the
//! machine; what they were, and with which probabilities, is in the journal. The feedback that left the work is acknowledged
//! when it has been done, so whoever asks one thing after another sees a policy that does all at once.

use super::Engine;
use super::held::Held;
use super::state::{Serving, State, read, write};
use oo_core::{Batch, Log, Policy};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};

/// Times that a copy goes after the rows that came meanwhile; what is left then is learned while everybody waits.
const ROUNDS: usize = 16;

/// Work under way for the policy beside it.
pub(crate) struct Aside {
    /// Until the thread takes it.
    copy: Option<Copy>,
    /// Rows that came meanwhile, one each.
    rows: Vec<Log>,
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

    fn learn(&mut self, row: &Log) {
        let policy = &mut self.policy;
        let learn = AssertUnwindSafe(|| policy.update(&Batch::new(row, &[0])));
        match catch_unwind(learn) {
            Ok(Ok(())) => self.updates += 1,
            _ => self.refused += 1,
        }
    }
}

impl Serving {
    /// A row has been learned, of which work may be left. True where somebody is to do that now.
    pub(super) fn learned(&mut self, row: &Log, left: bool) -> bool {
        if let Some(aside) = &mut self.aside {
            aside.rows.push(row.clone());
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
            rows: Vec::new(),
            done: Arc::default(),
        });
        true
    }
}

/// Does the work that waits, and changes places.
fn run(serving: &RwLock<Serving>) {
    let taken = write(serving)
        .aside
        .as_mut()
        .and_then(|aside| Some((aside.copy.take()?, Arc::clone(&aside.done))));
    let Some((mut copy, done)) = taken else { return };
    copy.catch_up();
    for round in 0.. {
        let mut serving = write(serving);
        // Whoever puts another policy in charge has waited for this one.
        let Some(aside) = &mut serving.aside else { break };
        let rows = std::mem::take(&mut aside.rows);
        if rows.is_empty() || round == ROUNDS {
            rows.iter().for_each(|row| copy.learn(row));
            let old = serving.models.exchange(copy.policy);
            (serving.updates, serving.refused, serving.aside) = (copy.updates, copy.refused, None);
            drop(serving);
            drop(old);
            break;
        }
        drop(serving);
        rows.iter().for_each(|row| copy.learn(row));
    }
    done.finish();
}

impl Engine {
    /// Starts what the last record left to be done.
    pub(super) fn start_asides(&self, state: &mut State) {
        if !std::mem::take(&mut state.taught.left) {
            return;
        }
        let challenger = state.trial.as_ref().map(|trial| &trial.challenger);
        for serving in [Some(&self.serving), challenger].into_iter().flatten() {
            let waiting = read(serving)
                .aside
                .as_ref()
                .filter(|a| a.copy.is_some())
                .map(|a| Arc::clone(&a.done));
            let Some(done) = waiting else { continue };
            let shared = Arc::clone(serving);
            let spawned = std::thread::Builder::new()
                .name("aside".into())
                .spawn(move || run(&shared));
            if spawned.is_err() {
                run(serving);
            }
            state.taught.begun.push(done);
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

/// Whether some work has been done: to be awaited, or blocked on.
#[derive(Default)]
pub(super) struct Done {
    state: Mutex<(bool, Vec<Waker>)>,
    told: Condvar,
}

impl Done {
    fn state(&self) -> MutexGuard<'_, (bool, Vec<Waker>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self) {
        let mut state = self.state();
        state.0 = true;
        let wakers = std::mem::take(&mut state.1);
        drop(state);
        self.told.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn wait(&self) {
        let mut state = self.state();
        while !state.0 {
            state = self.told.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.0 {
            return Poll::Ready(());
        }
        state.1.push(context.waker().clone());
        Poll::Pending
    }
}
