//! What the journal says of people: profiles, worn tips, tips that are kept away; and that a replay says the same.

mod common;

use common::{Request, settings};
use oo_core::Key;
use oo_core::tips::{Feedback as Reacted, Moment, Profile, Reaction, Showings};
use oo_serve::engine::clock::ManualClock;
use oo_serve::engine::{Given, Hints, Status, Suppress, Target};
use oo_serve::{Ask, Engine, Feedback, Settings};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const START: u64 = 1_700_000_000_000;
const DAY: u64 = 86_400_000;
const WINDOW: u64 = 30 * DAY;

fn remembering(clock: &Arc<ManualClock>) -> Settings {
    let mut settings = settings("softmax");
    settings.clock = clock.clone();
    settings.snapshot_every = 0;
    settings.segment_bytes = 200_000;
    settings.rules.window_ms = WINDOW;
    settings.suppress = Some(Suppress::default());
    settings.durability = oo_serve::engine::Durability::Process;
    settings
}

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Engine {
    Engine::open(dir, remembering(clock)).unwrap().0
}

/// Shows `tip` to `user`; returns the decision's id.
fn show(engine: &Engine, user: &str, tip: &str, ahead: i16) -> String {
    let ask = Ask {
        user,
        context: &[1.0],
        ids: &[tip],
        features: &[0.5; common::DIM],
        ahead,
        ..Ask::default()
    };
    engine.decide(&ask).unwrap().decision_id
}

fn say(engine: &Engine, decision: &str, reaction: Reaction, dwell_ms: Option<u64>) -> Status {
    say_with(engine, decision, reaction, dwell_ms, Hints::default())
}

fn say_with(engine: &Engine, decision: &str, reaction: Reaction, dwell_ms: Option<u64>, hints: Hints<'_>) -> Status {
    let feedback = Feedback {
        target: Target::Decision(decision.into()),
        feedback_id: None,
        given: Given::Reaction(Reacted { reaction, dwell_ms }),
        client_time: None,
        early: false,
    };
    engine.feedback_with(&feedback, hints).unwrap().wait().unwrap().status
}

/// One person as the simulator keeps it: everything that was ever shown, and what was heard of it.
#[derive(Default)]
struct Simulated {
    shown: Vec<(Moment, Option<(Moment, Reacted)>)>,
    tips: BTreeMap<String, Showings>,
}

impl Simulated {
    fn profile(&self, now: Moment) -> Profile {
        let inside = self.shown.iter().filter(|(at, _)| at.0 + WINDOW / 60_000 >= now.0);
        Profile::of(inside.map(|(_, heard)| *heard))
    }
}

/// Months of tips at random times, some answered, some late; restarts from a snapshot and from the journal alone.
#[test]
fn a_profile_is_the_simulators_bit_for_bit() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut engine = open(dir.path(), &clock);
    let mut people: BTreeMap<String, Simulated> = BTreeMap::new();
    let mut now = START;
    let mut answered = 0;
    for step in 0..1500u64 {
        let mut draws = Key::root(3).fold(step).draws();
        let minutes = draws.below(120) as u64;
        clock.advance(Duration::from_secs(60 * minutes));
        now += 60_000 * minutes;
        let moment = Moment::from_unix_ms(now as i64);
        let user = format!("user-{}", draws.below(3));
        let ids: Vec<String> = (0..12).map(|i| format!("tip-{i}")).collect();
        let person = people.entry(user.clone()).or_default();
        let found = engine.person(&user, ids.iter().map(String::as_str));
        assert_eq!(
            found.known.map(|k| k.profile),
            (!person.shown.is_empty()).then(|| person.profile(moment)),
            "{step}"
        );
        for (i, id) in ids.iter().enumerate().filter(|_| found.known.is_some()) {
            let expected = person.tips.get(id).map_or(0.0, |t| t.recently(moment));
            assert_eq!(found.shown[i].to_bits(), expected.to_bits(), "{step} {id}");
        }
        let tip = ids[draws.below(12)].clone();
        let decision = show(&engine, &user, &tip, 0);
        person.tips.entry(tip).or_insert(Showings::none(moment)).add(moment);
        person.shown.push((moment, None));
        if draws.below(3) > 0 {
            let wait = draws.below(55) as u64;
            clock.advance(Duration::from_secs(60 * wait));
            now += 60_000 * wait;
            let (reaction, dwell_ms) = (Reaction::ALL[draws.below(5)], Some(draws.below(900_000) as u64));
            assert_eq!(say(&engine, &decision, reaction, dwell_ms), Status::Learned);
            // Another word comes too late for the profile.
            say(&engine, &decision, Reaction::Done, None);
            let heard = Moment::from_unix_ms(now as i64);
            person.shown.last_mut().unwrap().1 = Some((heard, Reacted { reaction, dwell_ms }));
            answered += 1;
        }
        if step % 300 == 150 {
            let live = engine.fingerprint().unwrap();
            if step % 600 == 150 {
                engine.snapshot().unwrap();
            }
            drop(engine);
            if step % 600 == 450 {
                std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
            }
            engine = open(dir.path(), &clock);
            assert_eq!(engine.fingerprint().unwrap(), live, "{step}");
        }
    }
    assert!(answered > 900 && now - START > 2 * WINDOW);
}

#[test]
fn feedback_refreshes_a_profile_and_forgetting_removes_it() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut settings = remembering(&clock);
    settings.profile_age_ms = 2 * DAY;
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    assert_eq!(engine.profile("anna"), None);
    // 22:13:20 by UTC is 23:13 an hour ahead of it.
    let decision = show(&engine, "anna", "a", 60);
    let first = engine.profile("anna").unwrap();
    assert_eq!(
        (first.profile.tip_volume_30d, first.profile.completion_rate_30d),
        (Some(1.0), None)
    );
    clock.advance(Duration::from_secs(600));
    assert_eq!(engine.profile("anna").unwrap().age_ms, 600_000);
    say(&engine, &decision, Reaction::Done, Some(1000));
    let second = engine.profile("anna").unwrap();
    assert_eq!((second.age_ms, second.as_of, second.fresh), (0, START + 600_000, true));
    let profile = second.profile;
    assert_eq!(
        (profile.completion_rate_30d, profile.preferred_hour),
        (Some(1.0), Some(23.0))
    );
    clock.advance(Duration::from_secs(3 * 86_400));
    let old = engine.profile("anna").unwrap();
    assert_eq!((old.profile, old.fresh), (profile, false));
    clock.advance(Duration::from_secs(28 * 86_400));
    assert_eq!(engine.profile("anna").unwrap().profile, Profile::default());
    // Bob's stays where Anna's goes.
    show(&engine, "anna", "a", 0);
    show(&engine, "bob", "a", 0);
    engine.reset("anna").unwrap();
    assert_eq!(engine.profile("anna"), None);
    show(&engine, "anna", "a", 0);
    assert!(engine.profile("anna").is_some());
    engine.forget("anna").unwrap();
    assert!(engine.profile("anna").is_none() && engine.profile("bob").is_some());
}

/// Why and until when of each of the tips a to d is kept away from anna, as milliseconds after the start.
fn kept(engine: &Engine) -> Vec<Option<(Reaction, Option<u64>)>> {
    let ids = ["a", "b", "c", "d"];
    let person = engine.person("anna", ids.into_iter());
    let seen: Vec<_> = engine
        .seen("anna", ids.into_iter())
        .into_iter()
        .map(|s| s.kept)
        .collect();
    let listed = ids.iter().enumerate().map(|(i, id)| {
        let found = person.suppressed.iter().find(|(at, _)| *at == i);
        found.map(|(_, s)| {
            assert_eq!(s.id, *id);
            (s.reaction, s.until)
        })
    });
    assert_eq!(listed.collect::<Vec<_>>(), seen);
    seen.iter()
        .map(|k| k.map(|(r, until)| (r, until.map(|u| u - START))))
        .collect()
}

#[test]
fn what_was_done_does_not_come_back() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut engine = open(dir.path(), &clock);
    for (tip, reaction) in [
        ("a", Reaction::Done),
        ("b", Reaction::Dismiss),
        ("c", Reaction::Snooze),
        ("d", Reaction::Helpful),
    ] {
        let decision = show(&engine, "anna", tip, 0);
        say(&engine, &decision, reaction, None);
    }
    let hour = 3_600_000;
    let first = vec![
        Some((Reaction::Done, None)),
        Some((Reaction::Dismiss, None)),
        Some((Reaction::Snooze, Some(hour))),
        None,
    ];
    assert_eq!(kept(&engine), first);
    assert!(engine.person("bob", ["a"].into_iter()).suppressed.is_empty());
    drop(engine);
    clock.advance(Duration::from_millis(hour - 1));
    engine = open(dir.path(), &clock);
    assert_eq!(kept(&engine), first);
    clock.advance(Duration::from_millis(1));
    assert_eq!(kept(&engine)[2..], [None, None]);
    // The caller may say until when; the last word counts.
    let decision = show(&engine, "anna", "c", 0);
    let until = Hints {
        until: Some(START + 3 * hour),
        ..Hints::default()
    };
    say_with(&engine, &decision, Reaction::Snooze, None, until);
    assert_eq!(kept(&engine)[2], Some((Reaction::Snooze, Some(3 * hour))));
    say(&engine, &decision, Reaction::Done, None);
    assert_eq!(kept(&engine)[2], Some((Reaction::Done, None)));
    // Other spans count at once, for what was said before as well.
    drop(engine);
    let mut settings = remembering(&clock);
    settings.suppress = Some("done=2h,dismiss=never".parse().unwrap());
    engine = Engine::open(dir.path(), settings.clone()).unwrap().0;
    assert_eq!(kept(&engine)[..2], [Some((Reaction::Done, Some(2 * hour))), None]);
    drop(engine);
    settings.suppress = None;
    engine = Engine::open(dir.path(), settings).unwrap().0;
    assert_eq!(kept(&engine), [None; 4]);
    engine.reset("anna").unwrap();
    drop(engine);
    engine = open(dir.path(), &clock);
    assert_eq!(kept(&engine), [None; 4]);
}

/// A decision that was named here is known by its open window only: its user's name finds it later.
#[test]
fn done_late_is_done() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let engine = open(dir.path(), &clock);
    let decision = show(&engine, "anna", "a", 0);
    show(&engine, "anna", "b", 0);
    clock.advance(Duration::from_secs(7200));
    engine.tick().unwrap();
    assert_eq!(say(&engine, &decision, Reaction::Done, None), Status::Late);
    assert_eq!(kept(&engine), [None; 4]);
    for wrong in ["bob", "nobody"] {
        let hint = Hints {
            user: Some(wrong),
            ..Hints::default()
        };
        assert_eq!(say_with(&engine, &decision, Reaction::Done, None, hint), Status::Late);
    }
    let hint = Hints {
        user: Some("anna"),
        ..Hints::default()
    };
    assert_eq!(say_with(&engine, &decision, Reaction::Done, None, hint), Status::Late);
    assert_eq!(kept(&engine)[0], Some((Reaction::Done, None)));
    assert_eq!(engine.profile("anna").unwrap().profile.completion_rate_30d, Some(1.0));
    assert_eq!(engine.condition().updates, 0, "late is late: nothing was learned");
}

/// Issue "what was shown to this user?": by the id alone, long after, whoever named the decision.
#[test]
fn a_decision_is_found_after_its_window() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut settings = remembering(&clock);
    settings.segment_bytes = 20_000;
    let (mut engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    let mut made = Vec::new();
    for i in 0..60u64 {
        let named = format!("mine-{i}");
        let name = (i % 2 == 0).then_some(named.as_str());
        made.push(Request::new(i, 5).ask(name, |ask| engine.decide(ask)).unwrap());
        clock.advance(Duration::from_secs(i * 60));
    }
    clock.advance(Duration::from_secs(10 * 86_400));
    for _ in 0..2 {
        engine.tick().and_then(|()| engine.flush()).unwrap();
        assert_eq!(engine.condition().open, 0);
        for (i, answer) in made.iter().enumerate().filter(|(i, _)| i % 2 == 1) {
            let found = engine.decision(&answer.decision_id).unwrap();
            assert_eq!((found.answer, found.user), (answer.clone(), format!("user-{}", i % 5)));
        }
        // Names that were never given, of a right form and of none.
        assert_eq!(engine.decision("nothing").unwrap_err().status(), 404);
        assert_eq!(engine.decision(&"0".repeat(32)).unwrap_err().status(), 404);
        drop(engine);
        engine = Engine::open(dir.path(), settings.clone()).unwrap().0;
    }
}

#[test]
fn a_history_is_bounded() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let engine = open(dir.path(), &clock);
    for i in 0..1200 {
        let decision = show(&engine, "anna", &format!("tip-{i}"), 0);
        say(&engine, &decision, Reaction::Done, None);
        clock.advance(Duration::from_secs(60));
    }
    assert_eq!(engine.profile("anna").unwrap().profile.tip_volume_30d, Some(1024.0));
    let all: Vec<String> = (0..1200).map(|i| format!("tip-{i}")).collect();
    let kept: Vec<usize> = engine
        .person("anna", all.iter().map(String::as_str))
        .suppressed
        .iter()
        .map(|(i, _)| *i)
        .collect();
    // The oldest give way.
    assert_eq!(kept, (176..1200).collect::<Vec<_>>());
    // What neither wears nor keeps away is dropped: 64 days after it was shown.
    let live = engine.fingerprint().unwrap();
    drop(engine);
    assert_eq!(open(dir.path(), &clock).fingerprint().unwrap(), live);
}
