//! Who is forgotten, and what is dropped for its age: R25 of the serving facts.

use crate::common::Request;
use crate::timed::{SECOND, START, decide, give, timed};
use oo_serve::engine::clock::ManualClock;
use oo_serve::{Engine, inspect};
use std::path::Path;
use std::time::Duration;

/// R25.
#[test]
fn a_forgotten_user_is_gone_from_the_files() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut settings = timed(&clock);
    settings.policy = oo_serve::engine::Artefact::blank("lin-ts+per-user").unwrap();
    settings.segment_bytes = 20_000;
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    let mut someone = Request::new(0, 1);
    for i in 0..40 {
        let id = decide(&engine, i, Some(&format!("other-{i}")));
        give(&engine, &id, &format!("f{i}"));
        someone.user = "somebody@example".into();
        let id = someone
            .ask(Some(&format!("somebody@example-{i}")), |ask| engine.decide(ask))
            .unwrap()
            .decision_id;
        give(&engine, &id, &format!("somebody@example-f{i}"));
    }
    engine.snapshot().unwrap();
    let holds = |dir: &Path| {
        let mut count = 0;
        for folder in ["journal", "snapshots", "."] {
            for entry in std::fs::read_dir(dir.join(folder)).unwrap() {
                let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
                count += bytes.windows(16).filter(|w| *w == b"somebody@example").count();
            }
        }
        count
    };
    engine.flush().unwrap();
    assert!(holds(dir.path()) > 100);
    engine.forget("somebody@example").unwrap();
    assert_eq!(engine.stats("somebody@example"), None);
    assert!(engine.history("somebody@example", 100).is_empty());
    let done = engine.compact().unwrap();
    assert!(done.blanked >= 80 && done.rewritten >= 3, "{done:?}");
    assert_eq!(holds(dir.path()), 0);
    assert_eq!(
        engine.history(&Request::new(7, 10).user, 100).len(),
        4,
        "the others are all there"
    );
    assert_eq!(engine.compact().unwrap().rewritten, 0, "nothing is left to do");
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let (engine, recovery) = Engine::open(dir.path(), settings).unwrap();
    assert_eq!((engine.stats("somebody@example"), recovery.losses), (None, vec![]));
    assert_eq!(engine.fingerprint().unwrap(), live);
    let report = inspect::inspect(dir.path(), None).unwrap();
    assert!(report.defects.is_empty() && report.blanked >= 80, "{report:?}");
    assert!(report.snapshots.iter().all(|s| s.defect.is_none()));
}

#[test]
fn old_records_are_dropped_and_the_state_stays() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut settings = timed(&clock);
    settings.segment_bytes = 20_000;
    settings.retention = Some(Duration::from_secs(7 * 86_400));
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    for i in 0..100 {
        give(&engine, &decide(&engine, i, None), &format!("f{i}"));
        clock.advance(6 * 3600 * SECOND);
    }
    let before = engine.stats(&Request::new(3, 10).user);
    let done = engine.compact().unwrap();
    assert!(done.dropped >= 3, "{done:?}");
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    assert_eq!(engine.stats(&Request::new(3, 10).user), before);
    assert_eq!(engine.fingerprint().unwrap(), live);
    let replay = inspect::inspect(dir.path(), None).unwrap().replay.unwrap();
    assert!(replay.from > 0 && replay.digest == live, "{replay:?}");
}
