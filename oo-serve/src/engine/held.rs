//! The engine's lock, and how long it is held: while it is, everybody else waits.

use super::state::State;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Holding it for longer than this is counted.
const LONG: Duration = Duration::from_millis(5);

/// How long it was held, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holds {
    /// The longest time.
    pub longest: Duration,
    /// How often longer than 5 ms.
    pub long: u64,
}

/// The state behind its lock.
pub(super) struct Lock {
    state: Mutex<State>,
    longest: AtomicU64,
    long: AtomicU64,
}

impl Lock {
    pub fn new(state: State) -> Self {
        Lock {
            state: Mutex::new(state),
            longest: AtomicU64::new(0),
            long: AtomicU64::new(0),
        }
    }

    pub fn lock(&self) -> Held<'_> {
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Held {
            guard,
            lock: self,
            since: Instant::now(),
        }
    }

    pub fn holds(&self) -> Holds {
        Holds {
            longest: Duration::from_nanos(self.longest.load(Ordering::Relaxed)),
            long: self.long.load(Ordering::Relaxed),
        }
    }
}

/// The lock, held.
pub(super) struct Held<'a> {
    guard: MutexGuard<'a, State>,
    lock: &'a Lock,
    since: Instant,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let held = self.since.elapsed();
        let nanos = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX);
        // Whoever holds the lock is alone in writing these.
        if nanos > self.lock.longest.load(Ordering::Relaxed) {
            self.lock.longest.store(nanos, Ordering::Relaxed);
        }
        if held > LONG {
            self.lock.long.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Deref for Held<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.guard
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.guard
    }
}
