//! What joins a decision and its feedback: ids, windows, the default reward, clocks that jump: R5 to R8 and R15 of the
//! serving facts.

use crate::common::{Request, copy, done, settings};
use crate::timed::{SECOND, START, WAIT, decide, early, give, open, timed};
use oo_serve::engine::clock::ManualClock;
use oo_serve::engine::{Given, Hints, Status, Target};
use oo_serve::{Engine, Feedback, inspect};
use std::time::Duration;

/// R5.
#[test]
fn a_feedback_id_counts_once() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut engine = open(dir.path(), &clock);
    let id = decide(&engine, 1, None);
    let receipts: Vec<_> = std::thread::scope(|scope| {
        let send = || scope.spawn(|| give(&engine, &id, "f"));
        let threads: Vec<_> = (0..4).map(|_| send()).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(receipts.iter().filter(|r| !r.repeated).count(), 1);
    let first = receipts.iter().find(|r| !r.repeated).unwrap().clone();
    let repeated = oo_serve::Receipt {
        repeated: true,
        ..first.clone()
    };
    // What is said besides is checked each time.
    for (user, tip, field) in [
        (Some("somebody else"), None, "user_id"),
        (None, Some("no tip"), "tip_id"),
    ] {
        let hints = Hints {
            user,
            tip,
            ..Hints::default()
        };
        let again = done(&id, Some("f"), 60_000);
        let refused = engine.feedback_with(&again, hints).map(|_| ()).unwrap_err();
        assert_eq!((refused.status(), refused.field()), (422, Some(field)));
    }
    for hours in [0, 0, 0, 0, 6, 6, 6, 5] {
        drop(engine);
        clock.advance(Duration::from_secs(hours * 3600));
        engine = open(dir.path(), &clock);
        assert_eq!(give(&engine, &id, "f"), repeated);
    }
    assert_eq!(engine.stats(&Request::new(1, 10).user).unwrap().pulls, 1);
    let other = engine.feedback(&done(&id, Some("f"), 60_001)).map(|_| ()).unwrap_err();
    assert_eq!((other.status(), other.field()), (422, Some("feedback_id")));
    // A decision, likewise.
    let named = Request::new(2, 10);
    let first = named.ask(Some("d"), |ask| engine.decide(ask)).unwrap();
    let again = named.ask(Some("d"), |ask| engine.decide(ask)).unwrap();
    assert!(again.repeated && (again.chosen, &again.probs) == (first.chosen, &first.probs));
    let other = Request::new(3, 10)
        .ask(Some("d"), |ask| engine.decide(ask))
        .unwrap_err();
    assert_eq!((other.status(), other.field()), (422, Some("decision_id")));
}

/// R6.
#[test]
fn the_next_decision_knows_the_last_feedback() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), settings("lin-ts+per-user")).unwrap();
    for i in 0..200 {
        let before = Request::new(i, 3).ask(None, |ask| engine.decide(ask)).unwrap();
        give(&engine, &before.decision_id, &format!("f{i}"));
        let after = Request::new(i, 3).ask(None, |ask| engine.decide(ask)).unwrap();
        assert_eq!((before.updates, after.updates), (i, i + 1));
        assert_ne!(before.scores, after.scores, "{i}");
    }
}

/// Whoever was forgotten before, and whatever the windows were then.
#[test]
fn windows_end_in_time_whatever_came_before_them() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let engine = open(dir.path(), &clock);
    let passes = |engine: &Engine, time: Duration| {
        clock.advance(time);
        engine.tick().unwrap();
        let counts = engine.condition().counts;
        (counts.expired, counts.unmatched)
    };
    // Nothing happens after the first of the line was forgotten.
    decide(&engine, 1, None);
    clock.advance(SECOND);
    decide(&engine, 2, None);
    engine.forget(&Request::new(1, 10).user).unwrap();
    assert_eq!(passes(&engine, WAIT), (1, 0));
    // The name of a decision that was forgotten is used again.
    decide(&engine, 1, Some("again"));
    clock.advance(SECOND);
    decide(&engine, 2, None);
    engine.forget(&Request::new(1, 10).user).unwrap();
    clock.advance(SECOND);
    decide(&engine, 3, Some("again"));
    assert_eq!(passes(&engine, WAIT - SECOND), (2, 0));
    assert_eq!(passes(&engine, SECOND), (3, 0));
    // Shorter windows from here on, then longer ones.
    let restart = |engine: Engine, wait: Duration, early: Duration| {
        engine.flush().unwrap();
        let live = engine.fingerprint().unwrap();
        drop(engine);
        let report = inspect::inspect(dir.path(), None).unwrap();
        assert_eq!(report.replay.map(|r| r.digest), Some(live));
        let mut settings = timed(&clock);
        settings.rules.wait_ms = wait.as_millis() as u64;
        settings.rules.early_ms = early.as_millis() as u64;
        Engine::open(dir.path(), settings).unwrap().0
    };
    let hold = |engine: &Engine, decision: &str, id: &str| {
        let held = engine.feedback(&early(decision, id)).unwrap().wait().unwrap();
        assert_eq!(held.status, Status::Held);
    };
    decide(&engine, 4, None);
    hold(&engine, "never", "f1");
    let engine = restart(engine, 10 * SECOND, 20 * SECOND);
    let short = decide(&engine, 5, None);
    assert_eq!(passes(&engine, 11 * SECOND), (4, 0));
    let late = engine.feedback(&done(&short, None, 0)).unwrap().wait().unwrap();
    assert_eq!(late.status, Status::Late);
    assert_eq!(passes(&engine, 11 * SECOND), (4, 1));
    hold(&engine, "long after", "f2");
    let engine = restart(engine, 2 * WAIT, WAIT);
    decide(&engine, 6, None);
    assert_eq!(passes(&engine, 100 * SECOND), (4, 1));
    decide(&engine, 7, Some("long after"));
    assert_eq!(engine.condition().counts.matched, 1);
    assert_eq!(passes(&engine, WAIT), (5, 1));
    assert_eq!(passes(&engine, WAIT), (6, 1));
    let engine = restart(engine, WAIT, WAIT);
    // All at once: names used again after their first decision was forgotten, over a snapshot.
    decide(&engine, 1, Some("x"));
    decide(&engine, 2, None);
    hold(&engine, "y", "f3");
    decide(&engine, 1, Some("y"));
    engine.snapshot().unwrap();
    engine.forget(&Request::new(1, 10).user).unwrap();
    engine.snapshot().unwrap();
    decide(&engine, 3, Some("x"));
    hold(&engine, "y", "f4");
    let engine = restart(engine, WAIT, WAIT);
    let engine = restart(engine, WAIT, WAIT);
    assert_eq!(passes(&engine, WAIT), (8, 2));
    restart(engine, WAIT, WAIT);
}

/// R7.
#[test]
fn early_and_late_feedback() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let engine = open(dir.path(), &clock);
    let take = |f: &Feedback| engine.feedback(f).and_then(|p| p.wait());
    let unknown = take(&done("to come", Some("x"), 0)).unwrap_err();
    assert_eq!((unknown.status(), unknown.field()), (404, Some("decision_id")));
    // Two minutes early, less a second; and a second too early.
    assert_eq!(take(&early("to come", "early")).unwrap().status, Status::Held);
    assert_eq!(take(&early("too late", "too early")).unwrap().status, Status::Held);
    clock.advance(119 * SECOND);
    decide(&engine, 1, Some("to come"));
    clock.advance(2 * SECOND);
    decide(&engine, 2, Some("too late"));
    let counts = engine.condition().counts;
    assert_eq!((counts.held, counts.matched, counts.unmatched), (2, 1, 1));
    assert_eq!(engine.stats(&Request::new(1, 10).user).unwrap().pulls, 1);
    assert_eq!(engine.stats(&Request::new(2, 10).user).unwrap().pulls, 0);
    // A second before the window ends, and a second after.
    let (in_time, late) = (decide(&engine, 3, None), decide(&engine, 4, None));
    clock.advance(WAIT - SECOND);
    assert_eq!(
        take(&done(&in_time, Some("in time"), 0)).unwrap().status,
        Status::Learned
    );
    clock.advance(2 * SECOND);
    assert_eq!(take(&done(&late, Some("late"), 0)).unwrap().status, Status::Late);
    // A name that was made here is known for ever, one of the caller's alone for as long as ids are remembered.
    engine.compact().unwrap();
    clock.advance(30 * 86_400 * SECOND);
    let updates = engine.condition().updates;
    for i in 0..100 {
        assert_eq!(
            take(&done(&late, Some(&format!("month {i}")), 0)).unwrap().status,
            Status::Late
        );
    }
    assert_eq!(engine.condition().updates, updates);
    assert_eq!(engine.condition().counts.late, 101);
    // After that, when the next snapshot lets go of the file's ids, with its user, whose latest decisions are looked through.
    engine.snapshot().unwrap();
    let named = done("to come", Some("named, a month late"), 0);
    assert_eq!(take(&named).unwrap_err().status(), 404);
    let whose = |user: u64| {
        let user = Request::new(user, 10).user;
        let hints = Hints {
            user: Some(&user),
            ..Hints::default()
        };
        engine.feedback_with(&named, hints).and_then(|p| p.wait())
    };
    assert_eq!(whose(2).unwrap_err().status(), 404);
    assert_eq!(whose(1).unwrap().status, Status::Late);
    assert_eq!(
        (engine.condition().counts.late, engine.condition().updates),
        (102, updates)
    );
    assert_eq!((engine.condition().open, engine.condition().held), (0, 0));
    assert_eq!(take(&done("nothing", Some("y"), 0)).unwrap_err().status(), 404);
}

/// Whose the decision is and what it shows is known only when it comes; what was said of it has to be true by then.
#[test]
fn what_early_feedback_says_of_its_decision_must_be_true() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut engine = open(dir.path(), &clock);
    let users = [1, 2].map(|i| Request::new(i, 10).user);
    let tip = {
        let elsewhere = tempfile::tempdir().unwrap();
        let engine = open(elsewhere.path(), &clock);
        let request = Request::new(1, 10);
        let answer = request.ask(Some("true"), |ask| engine.decide(ask)).unwrap();
        request.ids[answer.chosen].clone()
    };
    let hold = |engine: &Engine, decision: &str, user: Option<&str>, tip: Option<&str>| {
        let hints = Hints {
            user,
            tip,
            ..Hints::default()
        };
        let feedback = early(decision, &format!("of {decision}"));
        engine.feedback_with(&feedback, hints).and_then(|p| p.wait())
    };
    for (decision, user, tip) in [
        ("true", Some(&users[0]), Some(&tip)),
        ("of another", Some(&users[1]), None),
        ("of another tip", None, Some(&"no tip".to_string())),
        ("of one who is forgotten", Some(&users[1]), None),
    ] {
        let (user, tip) = (user.map(String::as_str), tip.map(String::as_str));
        let held = hold(&engine, decision, user, tip).unwrap();
        assert_eq!(held.status, Status::Held);
        // Sent again, it has to say the same.
        assert!(hold(&engine, decision, user, tip).unwrap().repeated);
        if user.is_some() {
            let other = hold(&engine, decision, Some("somebody else"), tip).unwrap_err();
            assert_eq!((other.status(), other.field()), (422, Some("user_id")));
        }
    }
    engine.snapshot().unwrap();
    drop(engine);
    engine = open(dir.path(), &clock);
    assert_eq!(engine.condition().held, 4);
    for decision in ["true", "of another", "of another tip"] {
        decide(&engine, 1, Some(decision));
    }
    let counts = engine.condition().counts;
    assert_eq!((counts.held, counts.matched, counts.unmatched), (4, 1, 2));
    assert_eq!(engine.stats(&users[0]).unwrap().pulls, 1);
    // These still wait for theirs; and who asks again is told what was wrong.
    assert_eq!(give(&engine, "of another", "the user's own").status, Status::Learned);
    let refused = hold(&engine, "of another tip", None, Some("no tip")).unwrap_err();
    assert_eq!((refused.status(), refused.field()), (422, Some("tip_id")));
    // Whoever is forgotten is so with what waits; who is only named is known.
    assert!(engine.stats(&users[1]).is_some());
    engine.forget(&users[1]).unwrap();
    assert_eq!(engine.condition().held, 0);
    engine.flush().unwrap();
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let replay = inspect::inspect(dir.path(), None).unwrap().replay.unwrap();
    assert_eq!((replay.from, replay.digest), (0, live));
    engine = open(dir.path(), &clock);
    assert!(engine.compact().unwrap().blanked >= 2);
    drop(engine);
    let theirs = inspect::feedbacks(dir.path())
        .unwrap()
        .iter()
        .any(|f| f.0 == "of of one who is forgotten");
    assert!(!theirs, "it is still in the journal");
}

/// R8.
#[test]
fn the_default_reward_comes_once() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let engine = open(dir.path(), &clock);
    let user = Request::new(1, 10).user;
    for _ in 0..5 {
        decide(&engine, 1, None);
        clock.advance(SECOND);
    }
    let answered = decide(&engine, 1, None);
    give(&engine, &answered, "f");
    clock.advance(WAIT - 3 * SECOND);
    engine.tick().unwrap();
    let some = engine.stats(&user).unwrap();
    assert!(some.pulls > 1 && some.pulls < 6, "{some:?}");
    // As a kill in the middle leaves it.
    engine.flush().unwrap();
    let killed = tempfile::tempdir().unwrap();
    copy(dir.path(), killed.path());
    drop(engine);
    for dir in [dir.path(), killed.path(), killed.path()] {
        let engine = open(dir, &clock);
        clock.advance(10 * SECOND);
        engine.tick().unwrap();
        engine.tick().unwrap();
        let stats = engine.stats(&user).unwrap();
        assert_eq!((stats.pulls, stats.cumulative_reward), (6, 1.0 - 5.0 * 0.5));
        assert_eq!(engine.condition().counts.defaults, 5);
    }
}

/// R15.
#[test]
fn a_clock_that_jumps_moves_no_window() {
    const HOUR: u64 = 3_600_000;
    // Set back and forward; a leap second, told twice; a night of sleep, for which Linux stops the monotonic clock.
    for wall in [START - HOUR, START + HOUR, START - 1_000, START + 8 * HOUR] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
        let engine = open(dir.path(), &clock);
        let id = decide(&engine, 1, None);
        clock.set_wall(wall);
        engine.tick().unwrap();
        clock.advance(WAIT - SECOND);
        engine.tick().unwrap();
        assert_eq!(give(&engine, &id, "f").status, Status::Learned, "{wall}");
        let receipt = give(&engine, &decide(&engine, 2, None), "g");
        assert_eq!(receipt.time, START + 599_000);
        drop(engine);
        // Over a restart stamps go on from the wall clock, but never back.
        let engine = open(dir.path(), &clock);
        let receipt = give(&engine, &decide(&engine, 3, None), "h");
        assert_eq!(receipt.time, (wall + 599_000).max(START + 599_000));
        // What a client says is logged only.
        let id = decide(&engine, 4, None);
        let skewed = Feedback {
            client_time: Some(7),
            ..done(&id, None, 0)
        };
        assert_eq!(
            engine.feedback(&skewed).unwrap().wait().unwrap().status,
            Status::Learned
        );
    }
}

#[test]
fn a_feedback_may_name_the_tip() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let engine = open(dir.path(), &clock);
    let request = Request::new(1, 10);
    let answer = request.ask(None, |ask| engine.decide(ask)).unwrap();
    let tip = request.ids[answer.chosen].clone();
    let about = |user: &str, tip: &str| Feedback {
        target: Target::Tip {
            user: user.into(),
            tip: tip.into(),
        },
        feedback_id: None,
        given: Given::Reward(0.25),
        client_time: None,
        early: false,
    };
    let receipt = engine.feedback(&about(&request.user, &tip)).unwrap().wait().unwrap();
    assert_eq!(
        (receipt.decision_id, receipt.status, receipt.reward),
        (answer.decision_id, Status::Learned, 0.25)
    );
    let again = engine.feedback(&about(&request.user, &tip)).unwrap().wait().unwrap();
    assert_eq!(again.status, Status::Extra);
    let unknown = engine.feedback(&about("nobody", &tip)).map(|_| ()).unwrap_err();
    assert_eq!((unknown.status(), unknown.field()), (404, Some("tip_id")));
}
