//! Time. Stamps in the journal are milliseconds since 1970 and never fall: within a process they follow the monotonic
//! clock, so that a wall clock that jumps moves no window; over a restart they go on from the wall clock, but never
//! from before the last stamp in the journal. What clients say about time is logged and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from; tests bring their own.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970, as the machine believes; may jump.
    fn wall(&self) -> u64;
    /// Time since some fixed moment; never falls.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that stands until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicU64,
    elapsed: AtomicU64,
}

impl ManualClock {
    /// A clock at so many milliseconds since 1970.
    pub fn at(wall_ms: u64) -> Arc<Self> {
        Arc::new(ManualClock {
            wall: AtomicU64::new(wall_ms),
            elapsed: AtomicU64::new(0),
        })
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) {
        let ms = by.as_millis() as u64;
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.elapsed.fetch_add(ms, Ordering::SeqCst);
    }

    /// The wall clock is set; no time passes.
    pub fn set_wall(&self, wall_ms: u64) {
        self.wall.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst))
    }
}

/// Stamps for the journal.
pub(crate) struct Stamps {
    clock: Arc<dyn Clock>,
    base: u64,
    start: Duration,
}

impl Stamps {
    /// Stamps that go on after `last`.
    pub fn new(clock: Arc<dyn Clock>, last: u64) -> Self {
        Stamps {
            base: clock.wall().max(last),
            start: clock.monotonic(),
            clock,
        }
    }

    /// Now, in milliseconds since 1970.
    pub fn now(&self) -> u64 {
        let passed = self.clock.monotonic().saturating_sub(self.start);
        self.base.saturating_add(passed.as_millis() as u64)
    }
}
