//! Who is forgotten, and what is dropped for its age: R25 of the serving facts.

use crate::common::{Request, done, settings};
use crate::timed::{SECOND, START, decide, early, give, timed};
use oo_serve::artefact::{Policy, Winner};
use oo_serve::engine::clock::ManualClock;
use oo_serve::engine::{Artefact, Hints, Status};
use oo_serve::{Engine, inspect};
use std::path::Path;
use std::time::Duration;

/// A registered model, as it lies in a state folder once it was fetched.
fn registered(folder: &Path, state: &[u8]) {
    let about = Policy {
        format: 1,
        spec: "lin-ts+per-user".into(),
        shape: crate::common::shape(),
        features: None,
        reward: None,
        seed: 0,
        run: "a test".into(),
        state: String::new(),
        summary: None,
    };
    Winner::write(folder, about, state).unwrap();
}

/// R25.
#[test]
fn a_forgotten_user_is_gone_from_the_files() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut settings = timed(&clock);
    settings.policy = Artefact::blank("lin-ts+per-user").unwrap();
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
    // Feedback that names nobody: before its decision, in another file, and so long after it that its id is not known.
    let mut late = Request::new(0, 1);
    late.user = "somebody@example".into();
    let made_here = late.ask(None, |ask| engine.decide(ask)).unwrap().decision_id;
    clock.advance(Duration::from_secs(49 * 3600));
    let unowned = |f: &oo_serve::Feedback| engine.feedback(f).and_then(|p| p.wait()).unwrap().status;
    assert_eq!(
        unowned(&done(&made_here, Some("somebody@example-late"), 0)),
        Status::Late
    );
    assert_eq!(
        unowned(&early("somebody@example-41", "somebody@example-early")),
        Status::Held
    );
    assert_eq!(unowned(&early("nobody-41", "nobody-early")), Status::Held);
    (100..200).for_each(|i| drop(decide(&engine, i, None)));
    late.ask(Some("somebody@example-41"), |ask| engine.decide(ask)).unwrap();
    engine.snapshot().unwrap();
    // What it knows gives way, begins anew, decides along.
    let taught = engine.in_charge().unwrap();
    engine.swap(&taught).unwrap();
    engine.swap(&Artefact::blank("uniform").unwrap()).unwrap();
    engine.swap(&taught).unwrap();
    engine.add_shadow("beside", &taught).unwrap();
    let model = dir.path().join("models/picks/3");
    registered(&model, taught.state.as_ref().unwrap());
    let number = oo_serve::engine::ask::identity("somebody@example").to_string();
    let holds = |dir: &Path| {
        let (mut count, mut folders) = (0, vec![dir.to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = std::fs::read(path).unwrap();
                let times = |text: &str| bytes.windows(text.len()).filter(|w| *w == text.as_bytes()).count();
                count += times("somebody@example") + times(&number);
            }
        }
        count
    };
    engine.flush().unwrap();
    assert!(holds(dir.path()) > 100);
    engine.forget("somebody@example").unwrap();
    assert_eq!(engine.stats("somebody@example"), None);
    assert!(engine.history("somebody@example", 100).is_empty());
    // One whose number is that of nobody goes alone.
    let mut zero = Request::new(0, 1);
    zero.user = "0".into();
    let of_zero = zero.ask(Some("of zero"), |ask| engine.decide(ask)).unwrap().decision_id;
    give(&engine, &of_zero, "zero's");
    engine.forget("0").unwrap();
    engine.flush().unwrap();
    let done = engine.compact().unwrap();
    let journal = |text: &str| {
        let files = std::fs::read_dir(dir.path().join("journal")).unwrap().flatten();
        let all: Vec<u8> = files.flat_map(|file| std::fs::read(file.path()).unwrap()).collect();
        all.windows(text.len()).any(|w| w == text.as_bytes())
    };
    assert!(journal("nobody-early") && !journal("zero's") && !journal("of zero"));
    assert!(done.blanked >= 80 && done.rewritten >= 3, "{done:?}");
    assert_eq!(holds(dir.path()), 0);
    let rest = Winner::read(&model).unwrap();
    assert!(rest.state.len() < taught.state.unwrap().len() && rest.policy.spec == "lin-ts+per-user");
    assert_eq!(
        engine.history(&Request::new(7, 10).user, 100).len(),
        14,
        "the others are all there"
    );
    assert_eq!(engine.compact().unwrap().rewritten, 0, "nothing is left to do");
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let (engine, recovery) = Engine::open(dir.path(), settings).unwrap();
    assert_eq!((engine.stats("somebody@example"), recovery.losses), (None, vec![]));
    assert_eq!(engine.fingerprint().unwrap(), live);
    assert_eq!(engine.formers(), ["uniform", "lin-ts+per-user", "lin-ts+per-user"]);
    let report = inspect::inspect(dir.path(), None).unwrap();
    assert!(report.defects.is_empty() && report.blanked >= 80, "{report:?}");
    assert!(report.replay.unwrap().from > 0);
    assert!(report.snapshots.iter().all(|s| s.defect.is_none()));
}

/// The population's policy keeps rows by person; what they taught it about everybody stays.
#[test]
fn a_forgotten_user_is_gone_from_the_rows_of_a_population() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut settings = timed(&clock);
    settings.policy = Artefact::blank("hierarchical").unwrap();
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    for i in 0..40 {
        let id = decide(&engine, i, None);
        give(&engine, &id, &format!("f{i}"));
    }
    let someone = Request::new(7, 10).user;
    let number = oo_serve::engine::ask::identity(&someone).to_le_bytes();
    let taught = engine.in_charge().unwrap();
    engine.swap(&taught).unwrap();
    let holding = |folder: &str| {
        let files = std::fs::read_dir(dir.path().join(folder)).unwrap().flatten();
        let all: Vec<Vec<u8>> = files.map(|file| std::fs::read(file.path()).unwrap()).collect();
        let holds = |bytes: &&Vec<u8>| bytes.windows(8).any(|w| w == number);
        (all.iter().filter(holds).count(), all.len())
    };
    assert_eq!([holding("policies"), holding("before")], [(1, 1), (1, 1)]);
    engine.forget(&someone).unwrap();
    engine.compact().unwrap();
    assert_eq!([holding("policies"), holding("before")], [(0, 1), (0, 1)]);
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let (engine, recovery) = Engine::open(dir.path(), settings).unwrap();
    assert_eq!((engine.fingerprint().unwrap(), recovery.losses), (live, vec![]));
    engine.roll_back().unwrap();
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

/// Early feedback goes with whom it names and with whose it turns out to be, and nothing of others goes with it.
#[test]
fn early_feedback_goes_with_either() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), settings("lin-ucb")).unwrap();
    let hold = |decision: &str, id: &str, user: Option<&str>| {
        let feedback = early(decision, id);
        let hints = Hints {
            user,
            ..Hints::default()
        };
        engine.feedback_with(&feedback, hints).unwrap().wait().unwrap()
    };
    let users = [1, 2, 3].map(|i| Request::new(i, 10).user);
    // Of nobody's decision, of another's than was said, of another's who stays, and one that names nobody.
    hold("none", "a", Some("0"));
    hold("of 1", "b", Some("0"));
    hold("of 2", "c", Some("0"));
    hold("of 2", "d", None);
    hold("of 3", "e", Some("named"));
    hold("of 3", "f", None);
    for i in [1, 2, 3] {
        decide(&engine, i, Some(&format!("of {i}")));
    }
    let left = || {
        let found = inspect::feedbacks(dir.path()).unwrap();
        found.into_iter().map(|(id, ..)| id).collect::<String>()
    };
    for (user, expected) in [
        (users[0].as_str(), "acdef"),
        ("0", "def"),
        (&users[2], "d"),
        (&users[1], ""),
    ] {
        engine.forget(user).unwrap();
        engine.compact().unwrap();
        assert_eq!(left(), expected, "without {user}");
    }
    // What was said of them is not known any more.
    assert!(!hold("none", "a", Some("0")).repeated);
}

/// Who was taken out of the files is no damage, also where a replay under other rewards is no longer possible.
#[test]
fn a_folder_without_somebody_is_sound_under_other_rewards() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), settings("lin-ucb")).unwrap();
    for i in [1, 2] {
        let id = decide(&engine, i, None);
        give(&engine, &id, &format!("f{i}"));
    }
    engine.forget(&Request::new(1, 10).user).unwrap();
    assert!(engine.compact().unwrap().blanked > 0);
    drop(engine);
    let rules = oo_serve::engine::Rules {
        reward: oo_core::tips::RewardSpec::named("r0").unwrap(),
        ..oo_serve::engine::Rules::default()
    };
    for (rules, replays) in [(None, true), (Some(rules.clone()), false)] {
        let report = inspect::inspect(dir.path(), rules).unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.replay.is_some(), replays, "{report:?}");
    }
    // What is lost is, by whichever rewards.
    std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    for rules in [None, Some(rules)] {
        assert!(!inspect::inspect(dir.path(), rules).unwrap().is_sound());
    }
}

/// Between the forgetting and the compaction, too.
#[test]
fn a_receipt_of_somebody_forgotten_is_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), settings("lin-ucb")).unwrap();
    let id = decide(&engine, 1, None);
    assert!(!give(&engine, &id, "f").repeated);
    assert!(give(&engine, &id, "f").repeated);
    engine.forget(&Request::new(1, 10).user).unwrap();
    let again = engine.feedback(&done(&id, Some("f"), 60_000)).and_then(|p| p.wait());
    assert!(again.is_err() || !again.unwrap().repeated);
}
