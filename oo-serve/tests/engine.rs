//! Decisions, feedback and their join, with a clock that the test moves: R5 to R8, R15, R17, R22 and R25 of the serving
//! facts, and what every interleaving must keep.

mod common;

use common::{Request, copy, done, settings};
use oo_core::tips::Reaction;
use oo_core::{Key, UserId};
use oo_serve::engine::clock::ManualClock;
use oo_serve::engine::{Given, Join, Reason, Rules, Status, Target};
use oo_serve::{Engine, Error, Feedback, Settings, inspect};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const START: u64 = 1_700_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_secs(600);

/// A clock that stands still, a wait window of ten minutes, a default reward of -0.5.
fn timed(clock: &Arc<ManualClock>) -> Settings {
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

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Engine {
    Engine::open(dir, timed(clock)).unwrap().0
}

fn decide(engine: &Engine, i: u64, id: Option<&str>) -> String {
    Request::new(i, 10)
        .ask(id, |ask| engine.decide(ask))
        .unwrap()
        .decision_id
}

fn give(engine: &Engine, decision: &str, id: &str) -> oo_serve::Receipt {
    engine
        .feedback(&done(decision, Some(id), 60_000))
        .unwrap()
        .wait()
        .unwrap()
}

fn early(decision: &str, id: &str) -> Feedback {
    Feedback {
        early: true,
        ..done(decision, Some(id), 60_000)
    }
}

#[test]
fn decides_learns_and_remembers_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, recovery) = Engine::open(dir.path(), settings("lin-ts+per-user")).unwrap();
    assert_eq!(recovery.replayed, 0);
    let request = Request::new(1, 10);
    let answer = request.ask(None, |ask| engine.decide(ask)).unwrap();
    assert_eq!((answer.reason, answer.probs.len()), (Reason::Policy, 10));
    let receipt = give(&engine, &answer.decision_id, "f1");
    assert_eq!((receipt.status, receipt.reward), (Status::Learned, 1.0));
    let stats = engine.stats(&request.user).unwrap();
    assert_eq!((stats.decisions, stats.pulls, stats.cumulative_reward), (1, 1, 1.0));
    let history = engine.history(&request.user, 100);
    drop(engine);
    let (engine, recovery) = Engine::open(dir.path(), settings("lin-ts+per-user")).unwrap();
    assert_eq!((recovery.replayed, recovery.lost_bytes), (4, 0));
    assert_eq!(engine.stats(&request.user).unwrap(), stats);
    assert_eq!(engine.history(&request.user, 100), history);
    let again = give(&engine, &answer.decision_id, "f1");
    assert!(again.repeated && again.seq == receipt.seq);
}

#[test]
fn a_folder_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let _one = Engine::open(dir.path(), settings("lin-ucb")).unwrap();
    assert!(matches!(
        Engine::open(dir.path(), settings("lin-ucb")),
        Err(Error::Locked { .. })
    ));
}

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
    // A name that was made here is known for ever, one of the caller's for as long as ids are remembered.
    clock.advance(30 * 86_400 * SECOND);
    let updates = engine.condition().updates;
    for i in 0..100 {
        assert_eq!(
            take(&done(&late, Some(&format!("month {i}")), 0)).unwrap().status,
            Status::Late
        );
    }
    assert_eq!(engine.condition().updates, updates);
    assert_eq!((engine.condition().open, engine.condition().held), (0, 0));
    assert_eq!(take(&done("nothing", Some("y"), 0)).unwrap_err().status(), 404);
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
    for wall in [START - HOUR, START + HOUR] {
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

/// R17.
#[test]
fn sixty_four_writers_of_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), settings("lin-ts+per-user")).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..64u64 {
            let engine = &engine;
            scope.spawn(move || {
                for i in 0..20 {
                    let id = Request::new(writer * 20 + i, 1)
                        .ask(None, |ask| engine.decide(ask))
                        .unwrap()
                        .decision_id;
                    let f = done(&id, Some(&format!("{writer}-{i}")), (writer * 20 + i) * 500);
                    engine.feedback(&f).unwrap().wait().unwrap();
                }
            });
        }
    });
    let stats = engine.stats("user-0").unwrap();
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let report = inspect::inspect(dir.path(), None).unwrap();
    assert_eq!((stats.decisions, stats.pulls, report.learned), (1280, 1280, 1280));
    assert_eq!(
        stats.cumulative_reward, report.learned_reward,
        "the sum in the journal's order"
    );
    assert_eq!(report.replay.unwrap().digest, live);
}

/// R22, for the keys that the engine draws with; the policies' own check is in oo-policies.
#[test]
fn the_drawn_frequency_is_the_logged_propensity() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), settings("softmax")).unwrap();
    let (mut seen, mut expected) = ([0.0; 10], [0.0; 10]);
    for i in 0..20_000 {
        let answer = Request::new(3, 10)
            .ask(Some(&format!("d{i}")), |ask| engine.decide(ask))
            .unwrap();
        seen[answer.chosen] += 1.0;
        expected.iter_mut().zip(&answer.probs).for_each(|(e, p)| *e += p);
    }
    let chi: f64 = seen
        .iter()
        .zip(expected)
        .map(|(s, e): (&f64, f64)| (s - e) * (s - e) / e)
        .sum();
    // 9 degrees of freedom: above 33.7 with probability 1e-4, were it not for the fixed seed.
    assert!(chi < 33.7, "{chi}: {seen:?} {expected:?}");
}

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

#[test]
fn bad_requests_name_their_field_and_change_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let engine = open(dir.path(), &clock);
    let before = engine.fingerprint().unwrap();
    let field = |change: &dyn Fn(&mut Request)| {
        let mut request = Request::new(1, 10);
        change(&mut request);
        let error = request.ask(None, |ask| engine.decide(ask)).unwrap_err();
        assert_eq!(error.status(), 422);
        error.field().unwrap()
    };
    assert_eq!(field(&|r| r.user = String::new()), "user_id");
    assert_eq!(field(&|r| r.user = "x".repeat(513)), "user_id");
    assert_eq!(field(&|r| r.ids.clear()), "candidates");
    assert_eq!(
        field(&|r| r.ids = (0..10_000).map(|i| i.to_string()).collect()),
        "candidates"
    );
    assert_eq!(field(&|r| r.ids[3] = r.ids[4].clone()), "candidates.id");
    assert_eq!(field(&|r| r.ids[3] = String::new()), "candidates.id");
    assert_eq!(field(&|r| r.context.push(1.0)), "context");
    assert_eq!(field(&|r| r.context[0] = f32::INFINITY), "context");
    assert_eq!(field(&|r| r.features[7] = f32::NAN), "candidates.features");
    assert_eq!(field(&|r| r.features.truncate(119)), "candidates.features");
    let id = "0".repeat(32);
    for (given, status, field) in [
        (Given::Reward(f64::NAN), 422, "reward"),
        (Given::Reward(f64::INFINITY), 422, "reward"),
        (Given::Reward(1.0), 404, "decision_id"),
    ] {
        let feedback = Feedback {
            given,
            ..done(&id, None, 0)
        };
        let error = engine.feedback(&feedback).map(|_| ()).unwrap_err();
        assert_eq!((error.status(), error.field()), (status, Some(field)));
    }
    assert_eq!(engine.fingerprint().unwrap(), before);
}

#[test]
fn a_journal_can_be_replayed_under_another_rule() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let engine = open(dir.path(), &clock);
    for i in 0..30 {
        let id = decide(&engine, i, None);
        engine.feedback(&done(&id, None, i * 30_000)).unwrap().wait().unwrap();
    }
    drop(engine);
    let recorded = inspect::inspect(dir.path(), None).unwrap().replay.unwrap();
    let rules = |name: &str| Rules {
        reward: oo_core::tips::RewardSpec::named(name).unwrap(),
        ..timed(&clock).rules
    };
    let other = inspect::inspect(dir.path(), Some(rules("r0"))).unwrap().replay.unwrap();
    assert_ne!(other.model, recorded.model);
    let same = inspect::inspect(dir.path(), Some(rules("r2"))).unwrap().replay.unwrap();
    assert_eq!(same.model, recorded.model);
    // What the other rule comes to is what a policy learns that is taught the same rows by it.
    let settings = timed(&clock);
    let mut policy = oo_policies::build(&settings.policy.spec, &settings.shape).unwrap();
    for l in logged(dir.path()) {
        let ids: Vec<_> = l.ids.iter().map(|id| oo_serve::engine::ask::action_id(id)).collect();
        let round = oo_core::Round {
            index: l.index,
            user: oo_serve::engine::ask::user_id(&l.user),
            context: &l.context,
            candidates: oo_core::Candidates {
                ids: &ids,
                features: &l.features,
                dim: l.dim(),
            },
        };
        let mut log = oo_core::Log::new();
        log.push_parts(&round, &l.answer.probs, l.answer.chosen, l.answer.method);
        log.settle(0, 1.0, None);
        policy.update(&oo_core::Batch::new(&log, &[0])).unwrap();
    }
    let state = policy.save();
    let mut item = vec![1];
    item.extend(0u64.to_le_bytes());
    item.extend((state.len() as u32).to_le_bytes());
    item.extend(state);
    let digest: String = Sha256::digest(&item).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(other.model, digest);
}

/// The decisions in a folder, in their order.
fn logged(dir: &Path) -> Vec<oo_serve::engine::Logged> {
    let (engine, _) = Engine::open(dir, timed(&ManualClock::at(START))).unwrap();
    let mut all: Vec<_> = (0..10)
        .flat_map(|u| engine.history(&format!("user-{u}"), 100))
        .collect();
    all.sort_by_key(|l| l.seq);
    all
}

/// Whatever happens in whatever order: after a kill at any moment the state is what a replay of the files gives.
fn interleave(seed: u64, steps: u64, policy: &str) {
    let (home, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut settings = timed(&clock);
    settings.policy = oo_serve::engine::Artefact::blank(policy).unwrap();
    settings.segment_bytes = 15_000;
    settings.hot_users = 2;
    settings.rules.join = Join::ALL[seed as usize % 6];
    // Histories of an hour, of a month, and none.
    settings.rules.window_ms = [3_600_000, 30 * 86_400_000, 0][seed as usize % 3];
    let mut dir = home.path().join("first");
    let mut engine = Engine::open(&dir, settings.clone()).unwrap().0;
    let mut decisions: Vec<String> = vec!["nobody's".into()];
    for step in 0..steps {
        let mut draws = Key::root(seed).fold(step).draws();
        let id = decisions[draws.below(decisions.len())].clone();
        match draws.below(100) {
            0..45 => {
                let name = format!("d{seed}-{step}");
                let named = (draws.below(2) == 0).then_some(name.as_str());
                decisions.push(decide(&engine, step, named));
            }
            45..75 => {
                let mut feedback = early(&id, &format!("f{}", draws.below(steps as usize)));
                feedback.given = Given::reaction(Reaction::ALL[draws.below(5)]);
                // Repeated, conflicting, late and early ones are among them.
                let _ = engine.feedback(&feedback);
            }
            75..80 => {
                let ahead = format!("d{seed}-{}", step + 1);
                let _ = engine.feedback(&early(&ahead, &ahead));
            }
            80..88 => clock.advance(Duration::from_secs(draws.below(300) as u64)),
            88..91 => engine.tick().unwrap(),
            91..93 => engine.reset(&format!("user-{}", draws.below(10))).unwrap(),
            93 => engine.forget(&format!("user-{}", draws.below(10))).unwrap(),
            94 => drop(engine.snapshot().unwrap()),
            95 => drop(
                engine
                    .swap(&oo_serve::engine::Artefact::blank(policy).unwrap())
                    .unwrap(),
            ),
            _ => {
                let live = engine.flush().and_then(|()| engine.fingerprint()).unwrap();
                let next = home.path().join(format!("killed-{step}"));
                copy(&dir, &next);
                drop(engine);
                dir = next;
                engine = Engine::open(&dir, settings.clone()).unwrap().0;
                assert_eq!(engine.fingerprint().unwrap(), live, "seed {seed}, step {step}");
            }
        }
    }
    engine.flush().unwrap();
    let live = engine.fingerprint().unwrap();
    let report = inspect::inspect(&dir, None).unwrap();
    assert_eq!(report.feedback_ids_twice, 0, "seed {seed}");
    let replay = report.replay.unwrap();
    assert_eq!((replay.from, replay.digest), (0, live), "seed {seed}");
    assert!(
        report.snapshots.iter().all(|s| s.equals_replay == Some(true)),
        "seed {seed}: {:?}",
        report.snapshots
    );
}

#[test]
fn every_interleaving_is_what_its_replay_is() {
    for seed in 0..6 {
        interleave(
            seed,
            300,
            if seed % 2 == 0 {
                "lin-ts+per-user"
            } else {
                "hierarchical"
            },
        );
    }
}

#[test]
#[ignore = "minutes; figures in docs/reliability.md"]
fn a_hundred_interleavings() {
    for seed in 0..100 {
        let policy = ["lin-ts+per-user", "hierarchical", "lin-ucb", "egreedy+per-user"][seed as usize % 4];
        interleave(1000 + seed, 400, policy);
    }
}

/// The key of a decision is a function of seed, user and id: the same request gets the same answer anywhere.
#[test]
fn the_same_request_is_decided_the_same() {
    let answers: Vec<_> = [START, START + 5_000_000]
        .into_iter()
        .map(|start| {
            let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(start));
            let engine = open(dir.path(), &clock);
            let all = (0..50).map(|i| {
                let answer = Request::new(i, 10)
                    .ask(Some(&format!("d{i}")), |ask| engine.decide(ask))
                    .unwrap();
                (answer.chosen, answer.probs)
            });
            all.collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(answers[0], answers[1]);
}

/// Numbers keep their value, and the caller may bring the key: a simulator's round is decided as the simulator does.
#[test]
fn a_simulators_round_is_decided_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings("lin-ts");
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    let policy = oo_policies::build(&settings.policy.spec, &settings.shape).unwrap();
    let mut decision = oo_core::Decision::new();
    for i in 0..50u64 {
        let request = Request::new(i, 10);
        let names: Vec<String> = (0..10).map(|c| (i + c).to_string()).collect();
        let ids: Vec<&str> = names.iter().map(String::as_str).collect();
        let key = Key::root(9).fold(i);
        let user = (i % 7).to_string();
        let ask = oo_serve::Ask {
            user: &user,
            context: &request.context,
            ids: &ids,
            features: &request.features,
            index: Some(i),
            key: Some(key),
            ..Default::default()
        };
        let actions: Vec<oo_core::ActionId> = (0..10).map(|c| oo_core::ActionId(i + c)).collect();
        let round = oo_core::Round {
            index: i,
            user: UserId(i % 7),
            context: &request.context,
            candidates: oo_core::Candidates {
                ids: &actions,
                features: &request.features,
                dim: common::DIM,
            },
        };
        policy.decide(&round, key, &mut decision).unwrap();
        let answer = engine.decide(&ask).unwrap();
        assert_eq!(
            (answer.chosen, &answer.probs[..]),
            (decision.chosen(), decision.probs())
        );
        assert_eq!(answer.scores, decision.scores());
    }
}
