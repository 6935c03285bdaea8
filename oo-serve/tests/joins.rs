//! Several feedbacks of one decision: each rule, once each, over restarts, with a clock that the test moves.

mod common;

use common::{Request, copy, settings};
use oo_core::tips::{Feedback as Reacted, Reaction};
use oo_serve::engine::clock::ManualClock;
use oo_serve::engine::{Given, Join, Rules, Status, Target};
use oo_serve::{Engine, Feedback, Settings, export, inspect};
use polars_io::SerReader;
use polars_io::parquet::read::ParquetReader;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

const START: u64 = 1_700_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_secs(600);

fn joining(clock: &Arc<ManualClock>, join: Join) -> Settings {
    let mut settings = settings("lin-ucb+per-user");
    settings.clock = clock.clone();
    settings.snapshot_every = 0;
    settings.durability = oo_serve::engine::Durability::Process;
    settings.rules = Rules {
        wait_ms: WAIT.as_millis() as u64,
        default_reward: Some(-0.25),
        join,
        ..Rules::default()
    };
    settings
}

fn give(engine: &Engine, decision: &str, id: &str, given: Given, early: bool) -> Status {
    let feedback = Feedback {
        target: Target::Decision(decision.into()),
        feedback_id: Some(id.into()),
        given,
        client_time: None,
        early,
    };
    engine.feedback(&feedback).unwrap().wait().unwrap().status
}

fn decide(engine: &Engine, i: u64, id: &str) {
    Request::new(i, 100).ask(Some(id), |ask| engine.decide(ask)).unwrap();
}

fn reaction(reaction: Reaction) -> Given {
    Given::Reaction(Reacted {
        reaction,
        dwell_ms: None,
    })
}

/// By r2: snooze 0.1, done without dwell 0.3, dismiss −1; and a number of the caller's.
const GIVEN: [fn() -> Given; 4] = [
    || reaction(Reaction::Snooze),
    || reaction(Reaction::Done),
    || reaction(Reaction::Dismiss),
    || Given::Reward(0.2),
];

#[test]
fn every_rule_once_over_restarts() {
    for (join, expected, by) in [
        (Join::First, 0.1, Some("snooze")),
        (Join::Last, 0.2, None),
        (Join::Sum, 0.1 + 0.3 - 1.0 + 0.2, None),
        (Join::Mean, (0.1 + 0.3 - 1.0 + 0.2) / 4.0, None),
        (Join::Min, -1.0, Some("dismiss")),
        (Join::Max, 0.3, Some("done")),
    ] {
        let (home, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
        let mut dir = home.path().join("0");
        let mut engine = Engine::open(&dir, joining(&clock, join)).unwrap().0;
        let mut kills = 0;
        // As a kill leaves the folder; from a snapshot every other time.
        let mut kill = |engine: Engine, snapshot: bool| {
            if snapshot {
                engine.snapshot().unwrap();
            }
            engine.flush().unwrap();
            let live = engine.fingerprint().unwrap();
            kills += 1;
            let next = home.path().join(kills.to_string());
            copy(&dir, &next);
            dir = next;
            drop(engine);
            let engine = Engine::open(&dir, joining(&clock, join)).unwrap().0;
            assert_eq!(engine.fingerprint().unwrap(), live, "{join} {kills}");
            engine
        };
        // Before the decision, then inside its window.
        let early = give(&engine, "d", "f0", GIVEN[0](), true);
        assert_eq!(early, Status::Held);
        engine = kill(engine, false);
        clock.advance(SECOND);
        decide(&engine, 0, "d");
        decide(&engine, 1, "silent");
        for (i, given) in GIVEN.iter().enumerate().skip(1) {
            clock.advance(SECOND);
            let in_time = if join == Join::First {
                Status::Extra
            } else {
                Status::Joined
            };
            assert_eq!(give(&engine, "d", &format!("f{i}"), given(), false), in_time, "{join}");
            // Sent again it counts once.
            assert_eq!(give(&engine, "d", &format!("f{i}"), given(), false), in_time);
            engine = kill(engine, i % 2 == 0);
        }
        let stats = |engine: &Engine| engine.stats("user-0").unwrap();
        let at_once = u64::from(join == Join::First);
        assert_eq!((stats(&engine).pulls, engine.condition().updates), (at_once, at_once));
        clock.advance(WAIT - 4 * SECOND);
        engine.tick().unwrap();
        assert_eq!(stats(&engine).pulls, at_once, "the window is not over");
        engine = kill(engine, true);
        clock.advance(2 * SECOND);
        engine.tick().unwrap();
        engine = kill(engine, false);
        engine.tick().unwrap();
        assert_eq!(give(&engine, "d", "late", Given::Reward(9.0), false), Status::Late);
        let (one, counts) = (stats(&engine), engine.condition().counts);
        assert_eq!(one.pulls, 1, "{join}");
        assert!((one.cumulative_reward - expected).abs() < 1e-12, "{join}: {one:?}");
        // Nothing came of the other one.
        assert_eq!(
            (counts.defaults, engine.stats("user-1").unwrap().cumulative_reward),
            (1, -0.25)
        );
        let joined = if join == Join::First { (0, 0) } else { (4, 1) };
        assert_eq!((counts.joined, counts.aggregates), joined, "{join}");
        assert_eq!(engine.condition().updates, 2);
        // A replay of the whole comes to the same, and so does the log.
        let live = engine.fingerprint().unwrap();
        drop(engine);
        let report = inspect::inspect(&dir, None).unwrap();
        assert_eq!(report.replay.unwrap().digest, live);
        let path = home.path().join("log.parquet");
        assert_eq!(export::export(&dir, &path).unwrap().rewarded, 2);
        let frame = ParquetReader::new(File::open(&path).unwrap()).finish().unwrap();
        let column = |name: &str| frame.column(name).unwrap().as_materialized_series().clone();
        assert!((column("reward").f64().unwrap().get(0).unwrap() - expected).abs() < 1e-12);
        assert_eq!(column("reaction").str().unwrap().get(0), by, "{join}");
    }
}

/// The rule of the first feedback stands, whatever is set later; and the log says what was taught when its beginning is gone.
#[test]
fn another_rule_is_for_other_decisions() {
    let (home, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let dir = home.path().join("state");
    let mut engine = Engine::open(&dir, joining(&clock, Join::Sum)).unwrap().0;
    decide(&engine, 0, "sum");
    decide(&engine, 1, "late-first");
    assert_eq!(give(&engine, "sum", "a", Given::Reward(0.5), false), Status::Joined);
    drop(engine);
    engine = Engine::open(&dir, joining(&clock, Join::First)).unwrap().0;
    assert_eq!(give(&engine, "sum", "b", Given::Reward(0.25), false), Status::Joined);
    assert_eq!(
        give(&engine, "late-first", "c", Given::Reward(1.0), false),
        Status::Learned
    );
    drop(engine);
    engine = Engine::open(&dir, joining(&clock, Join::Max)).unwrap().0;
    assert_eq!(
        give(&engine, "late-first", "d", Given::Reward(2.0), false),
        Status::Extra
    );
    clock.advance(WAIT + SECOND);
    engine.tick().unwrap();
    assert_eq!(engine.stats("user-0").unwrap().cumulative_reward, 0.75);
    assert_eq!(engine.stats("user-1").unwrap().cumulative_reward, 1.0);
    decide(&engine, 2, "open");
    give(&engine, "open", "e", Given::Reward(3.0), false);
    let rewards = |dir: &std::path::Path| {
        let path = home.path().join("log.parquet");
        export::export(dir, &path).unwrap();
        let frame = ParquetReader::new(File::open(&path).unwrap()).finish().unwrap();
        let reward = frame.column("reward").unwrap().as_materialized_series().clone();
        reward.f64().unwrap().iter().collect::<Vec<_>>()
    };
    let expected = [Some(0.75), Some(1.0), None];
    assert_eq!(rewards(&dir), expected);
    // From a snapshot alone, as when the journal's beginning was dropped: the files are those from the second on.
    engine.compact().unwrap();
    engine.flush().unwrap();
    assert_eq!(rewards(&dir), expected);
    // Who is forgotten leaves no reward behind.
    engine.forget("user-2").unwrap();
    clock.advance(WAIT + SECOND);
    engine.tick().unwrap();
    assert_eq!(engine.condition().counts.aggregates, 1);
}
