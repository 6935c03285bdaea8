//! A clock that the test moves, and what is asked of an engine under it.

use crate::common::{Request, done, settings};
use oo_serve::engine::Rules;
use oo_serve::engine::clock::ManualClock;
use oo_serve::{Engine, Feedback, Settings};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub const START: u64 = 1_700_000_000_000;
pub const SECOND: Duration = Duration::from_secs(1);
pub const WAIT: Duration = Duration::from_secs(600);

/// A clock that stands still, a wait window of ten minutes, a default reward of -0.5.
pub fn timed(clock: &Arc<ManualClock>) -> Settings {
    let mut settings = settings("lin-ucb");
    settings.clock = clock.clone();
    settings.snapshot_every = 0;
    settings.rules = Rules {
        wait_ms: WAIT.as_millis() as u64,
        default_reward: Some(-0.5),
        ..Rules::default()
    };
    settings
}

pub fn open(dir: &Path, clock: &Arc<ManualClock>) -> Engine {
    Engine::open(dir, timed(clock)).unwrap().0
}

pub fn decide(engine: &Engine, i: u64, id: Option<&str>) -> String {
    Request::new(i, 10)
        .ask(id, |ask| engine.decide(ask))
        .unwrap()
        .decision_id
}

pub fn give(engine: &Engine, decision: &str, id: &str) -> oo_serve::Receipt {
    engine
        .feedback(&done(decision, Some(id), 60_000))
        .unwrap()
        .wait()
        .unwrap()
}

pub fn early(decision: &str, id: &str) -> Feedback {
    Feedback {
        early: true,
        ..done(decision, Some(id), 60_000)
    }
}
