//! R19, R20, R21 and R26 of the serving facts: other policies under load, shadows that misbehave, policies that fail, and
//! files of other versions.

mod common;

use common::{Request, copy, done, loaded, saved, settings, shape};
use oo_core::{Batch, Key, Method, Policy, Proposal, Round, Shape, Spec, UserId};
use oo_judge::gate::Rule;
use oo_serve::engine::{Artefact, Hints, Plan, Reason};
use oo_serve::journal::record::{FORMAT, SEGMENT_HEAD, head_of_format};
use oo_serve::{Engine, Error, Settings, inspect};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Policies that do one thing, good or bad, by name.
struct Odd(String, usize);

impl Policy for Odd {
    fn propose(&self, _: &Round<'_>, _: Key, out: Proposal<'_>) -> oo_core::Result<Method> {
        match self.0.as_str() {
            "panics" => panic!("as the test wants it"),
            "sleeps" => std::thread::sleep(Duration::from_millis(300)),
            "nan" => out.probs.fill(f64::NAN),
            "fails" => return Err(oo_core::Error::Failed("as the test wants it".into())),
            _ => out.probs[self.1] = 1.0,
        }
        Ok(Method::Exact)
    }
    fn update(&mut self, _: &Batch<'_>) -> oo_core::Result<()> {
        assert!(self.0 != "panics", "as the test wants it");
        Ok(())
    }
    fn save(&self) -> Vec<u8> {
        vec![self.1 as u8]
    }
    fn load(&mut self, bytes: &[u8]) -> oo_core::Result<()> {
        match bytes {
            [k] => self.1 = usize::from(*k),
            _ => return Err(oo_core::Error::Failed("one byte was expected".into())),
        }
        Ok(())
    }
}

fn odd(spec: &str) -> Settings {
    let mut settings = settings("lin-ucb");
    settings.policy = Artefact::blank(spec).unwrap();
    settings.build = Arc::new(|spec: &Spec, shape: &Shape| match spec.base().name.as_str() {
        name @ ("panics" | "sleeps" | "nan" | "fails" | "takes") => {
            let k = spec.base().options.get("k").and_then(|v| v.as_u64()).unwrap_or(0);
            Ok(Box::new(Odd(name.into(), k as usize)))
        }
        _ => oo_policies::build(spec, shape),
    });
    settings
}

/// R21.
#[test]
fn a_policy_that_fails_gives_way_to_a_uniform_draw() {
    for (name, reason) in [
        ("panics", Reason::FallbackError),
        ("nan", Reason::FallbackError),
        ("fails", Reason::FallbackError),
        ("sleeps", Reason::FallbackTimeout),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _) = Engine::open(dir.path(), odd(name)).unwrap();
        for i in 0..10 {
            let answer = Request::new(i, 3).ask(None, |ask| engine.decide(ask)).unwrap();
            assert_eq!((answer.reason, &answer.probs), (reason, &vec![0.1; 10]), "{name}");
            let receipt = engine
                .feedback(&done(&answer.decision_id, None, 0))
                .unwrap()
                .wait()
                .unwrap();
            assert_eq!(receipt.reward, -0.3);
        }
        let refused = if name == "panics" { 10 } else { 0 };
        assert_eq!(engine.condition().refused, refused);
    }
}

/// R20.
#[test]
fn shadows_touch_no_answer() {
    let answers = |shadows: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _) = Engine::open(dir.path(), odd("lin-ts")).unwrap();
        for shadow in shadows {
            engine.add_shadow(shadow, &Artefact::blank(shadow).unwrap()).unwrap();
        }
        let mut all = Vec::new();
        let mut slowest = Duration::ZERO;
        for i in 0..500 {
            let begun = Instant::now();
            let answer = Request::new(i, 10)
                .ask(Some(&format!("d{i}")), |ask| engine.decide(ask))
                .unwrap();
            slowest = slowest.max(begun.elapsed());
            engine.feedback(&done(&answer.decision_id, None, i * 999)).unwrap();
            all.push((answer.chosen, answer.probs, answer.scores));
        }
        let begun = Instant::now();
        let well = |name: &str, count: u64| {
            let reports = engine.shadows();
            reports.iter().any(|r| r.name == name && r.proposed + r.failed == count)
        };
        while shadows.len() == 4 && !(well("uniform", 500) && well("nan", 500) && well("panics", 1000)) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", engine.shadows());
            std::thread::sleep(Duration::from_millis(10));
        }
        engine.tick().unwrap();
        engine.flush().unwrap();
        let reports = engine.shadows();
        drop(engine);
        (all, reports, shadow_records(dir.path()))
    };
    let (alone, ..) = answers(&[]);
    let (accompanied, reports, logged) = answers(&["uniform", "panics", "nan", "sleeps"]);
    assert_eq!(alone, accompanied);
    assert_eq!(
        (reports[0].proposed, reports[0].failed, reports[0].dropped),
        (500, 0, 0)
    );
    // Every proposal and every update of it panics.
    assert_eq!((reports[1].proposed, reports[1].failed), (0, 1000));
    assert_eq!((reports[2].proposed, reports[2].failed), (0, 500));
    assert!(logged >= 1500, "{logged}");
}

/// A shadow that waits at a gate, and knows whom it has learned from.
struct Gated {
    gate: Arc<Mutex<()>>,
    knows: BTreeSet<u64>,
    forgotten: Arc<AtomicU64>,
}

impl Policy for Gated {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> oo_core::Result<Method> {
        drop(self.gate.lock().unwrap());
        out.probs.fill(1.0 / round.candidates.ids.len() as f64);
        Ok(Method::Exact)
    }
    fn update(&mut self, batch: &Batch<'_>) -> oo_core::Result<()> {
        self.knows.extend(batch.iter().map(|(row, _)| row.round.user.0));
        Ok(())
    }
    fn save(&self) -> Vec<u8> {
        saved(&self.knows)
    }
    fn load(&mut self, bytes: &[u8]) -> oo_core::Result<()> {
        self.knows = loaded(bytes);
        Ok(())
    }
    fn forget(&mut self, user: UserId) {
        self.knows.remove(&user.0);
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }
}

/// The gate, how often somebody was forgotten, and settings that know the policy `gated`.
fn gated() -> (Arc<Mutex<()>>, Arc<AtomicU64>, Settings) {
    let (gate, forgotten) = (Arc::new(Mutex::new(())), Arc::new(AtomicU64::new(0)));
    let mut settings = settings("lin-ucb");
    settings.snapshot_every = 0;
    settings.build = Arc::new({
        let (gate, forgotten) = (Arc::clone(&gate), Arc::clone(&forgotten));
        move |spec: &Spec, shape: &Shape| match spec.base().name.as_str() {
            "gated" => Ok(Box::new(Gated {
                gate: gate.clone(),
                knows: BTreeSet::new(),
                forgotten: forgotten.clone(),
            })),
            _ => oo_policies::build(spec, shape),
        }
    });
    (gate, forgotten, settings)
}

/// It may miss rounds, never who is to be forgotten; and what it finds afterwards about that person is not written down.
#[test]
fn a_shadow_that_does_not_keep_up_forgets_all_the_same() {
    let (dir, (gate, forgotten, settings)) = (tempfile::tempdir().unwrap(), gated());
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    engine.add_shadow("beside", &Artefact::blank("gated").unwrap()).unwrap();
    let shut = gate.lock().unwrap();
    // More than its queue takes, all of one person.
    (0..5_000).for_each(|_| drop(Request::new(3, 7).ask(None, |ask| engine.decide(ask)).unwrap()));
    assert!(engine.shadows()[0].dropped > 0);
    engine.forget(&Request::new(3, 7).user).unwrap();
    drop(shut);
    let begun = Instant::now();
    while forgotten.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it was not told");
        std::thread::sleep(Duration::from_millis(5));
    }
    Request::new(4, 7).ask(None, |ask| engine.decide(ask)).unwrap();
    // It answers once it has done what came before.
    engine.shadow("beside", Duration::from_secs(20)).unwrap();
    engine.tick().unwrap();
    engine.flush().unwrap();
    drop(engine);
    assert_eq!(shadow_records(dir.path()), 1);
}

/// Over a restart it goes on from an older copy, which knows who was forgotten since; or from what it began with.
#[test]
fn a_shadow_that_sleeps_through_a_snapshot_forgets_all_the_same() {
    let (dir, (gate, _, settings)) = (tempfile::tempdir().unwrap(), gated());
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    let teach = |engine: &Engine, i: u64| {
        let answer = Request::new(i, 7).ask(None, |ask| engine.decide(ask)).unwrap();
        engine
            .feedback(&done(&answer.decision_id, None, 0))
            .unwrap()
            .wait()
            .unwrap();
    };
    let knows = |engine: &Engine, name: &str| {
        let state = engine.shadow(name, Duration::from_secs(20)).unwrap().state.unwrap();
        [3, 4].map(|i| {
            let user = oo_serve::engine::ask::identity(&Request::new(i, 7).user).to_le_bytes();
            state.chunks_exact(8).any(|known| known == user)
        })
    };
    engine.add_shadow("older", &Artefact::blank("gated").unwrap()).unwrap();
    (3..5).for_each(|i| teach(&engine, i));
    assert_eq!(knows(&engine, "older"), [true, true]);
    let told = || {
        let files = std::fs::read_dir(dir.path().join("snapshots")).unwrap().flatten();
        let mut shadows = files.filter(|file| file.path().extension().is_some_and(|e| e == "shadows"));
        shadows.any(|file| file.metadata().unwrap().len() > 40)
    };
    // Two people have 16 bytes; a machine that is busy may not hear of them in time.
    while !told() {
        engine.snapshot().unwrap();
    }
    let taught = engine.shadow("older", Duration::from_secs(20)).unwrap();
    engine.add_shadow("begun", &taught).unwrap();
    let shut = gate.lock().unwrap();
    Request::new(5, 7).ask(None, |ask| engine.decide(ask)).unwrap();
    engine.forget(&Request::new(3, 7).user).unwrap();
    let orphan = dir.path().join("snapshots/00000000000000000001.shadows");
    std::fs::write(&orphan, "of a snapshot that is gone").unwrap();
    engine.snapshot().unwrap();
    assert!(!orphan.exists());
    engine.flush().unwrap();
    // As a kill would leave it.
    let killed = tempfile::tempdir().unwrap();
    copy(dir.path(), killed.path());
    drop(shut);
    drop(engine);
    let (engine, recovery) = Engine::open(killed.path(), settings).unwrap();
    assert_eq!(recovery.losses, Vec::<String>::new());
    assert!(engine.shadows().iter().all(|s| s.dropped > 0), "{:?}", engine.shadows());
    assert_eq!(["older", "begun"].map(|name| knows(&engine, name)), [[false, true]; 2]);
}

/// Records of shadows in a folder.
fn shadow_records(dir: &Path) -> usize {
    let segments = oo_serve::journal::Segments::new(&dir.join("journal"));
    let mut count = 0;
    for segment in segments.list().unwrap() {
        let each = |r: oo_serve::journal::Record<'_>| {
            let shadow = matches!(
                oo_serve::engine::event::Event::decode(&r),
                Ok(oo_serve::engine::event::Event::Shadow(_))
            );
            count += usize::from(shadow);
            Ok(())
        };
        segments.scan(segment, each).unwrap();
    }
    count
}

/// R19.
#[test]
fn a_thousand_swaps_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), odd("takes{k=1}")).unwrap();
    let (stop, decided) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let (engine, stop, decided) = (&engine, &stop, &decided);
            scope.spawn(move || {
                // Bounded, should the other side fail and never say stop.
                for i in 0..20_000 {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer = Request::new(thread << 32 | i, 5)
                        .ask(None, |ask| engine.decide(ask))
                        .unwrap();
                    // Generation g takes candidate g mod 10: spec, version and choice are of one policy.
                    let k = answer.generation % 10;
                    assert_eq!((answer.reason, answer.chosen as u64), (Reason::Policy, k));
                    assert_eq!(&*answer.policy, format!("takes{{k={k}}}"));
                    decided.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut generation = 1;
        for i in 0..300 {
            if i % 10 == 9 {
                let spec = Spec::parse("takes{k=0}").unwrap();
                let state = Some(vec![1, 2, 3]);
                assert!(engine.swap(&Artefact { spec, state }).is_err());
                assert!(engine.swap(&Artefact::blank("no-such-policy").unwrap()).is_err());
            } else {
                generation += 1;
                let spec = format!("takes{{k={}}}", generation % 10);
                assert_eq!(engine.swap(&Artefact::blank(&spec).unwrap()).unwrap(), generation);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(decided.load(Ordering::Relaxed) > 300);
    assert_eq!(engine.condition().generation, 271);
}

#[test]
fn a_policy_learned_elsewhere_is_served_and_comes_back() {
    let mut policy = oo_policies::build(&Spec::parse("lin-ucb").unwrap(), &shape()).unwrap();
    let request = Request::new(1, 1);
    let ids: Vec<oo_core::ActionId> = (0..10).map(oo_core::ActionId).collect();
    let round = Round {
        index: 0,
        user: oo_core::UserId(0),
        context: &request.context,
        candidates: oo_core::Candidates {
            ids: &ids,
            features: &request.features,
            dim: common::DIM,
        },
    };
    let mut log = oo_core::Log::new();
    log.push_parts(&round, &[0.1; 10], 3, Method::Exact);
    log.settle(0, 1.0, None);
    policy.update(&Batch::new(&log, &[0])).unwrap();
    let artefact = Artefact {
        spec: Spec::parse("lin-ucb").unwrap(),
        state: Some(policy.save()),
    };
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), settings("uniform")).unwrap();
    assert_eq!(engine.swap(&artefact).unwrap(), 2);
    let mut decision = oo_core::Decision::new();
    policy.decide(&round, Key::root(1), &mut decision).unwrap();
    let served = request.ask(Some("a"), |ask| engine.decide(ask)).unwrap();
    assert_eq!(served.scores, decision.scores());
    drop(engine);
    let (engine, _) = Engine::open(dir.path(), settings("uniform")).unwrap();
    let served = request.ask(Some("b"), |ask| engine.decide(ask)).unwrap();
    assert_eq!((served.scores.as_slice(), served.generation), (decision.scores(), 2));
}

fn fixture(format: u32) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"))
}

/// What the fixtures are made of: two files of journal, a snapshot between them.
fn fixture_settings() -> Settings {
    let mut settings = settings("lin-ts+per-user");
    settings.clock = oo_serve::engine::clock::ManualClock::at(1_750_000_000_000);
    settings.segment_bytes = 12_000;
    settings.snapshot_every = 0;
    settings
}

#[test]
#[ignore = "writes the fixture of the present format, once a format"]
fn write_the_fixture() {
    let dir = fixture(FORMAT);
    let (engine, _) = Engine::open(&dir, settings_of(FORMAT)).unwrap();
    engine
        .add_shadow("beside", &Artefact::blank("lin-ucb").unwrap())
        .unwrap();
    for i in 0..20 {
        if i == 4 {
            engine.swap(&Artefact::blank("lin-ts+per-user").unwrap()).unwrap();
        }
        if i == 8 {
            let plan = Plan {
                salt: "fixture".into(),
                share: 0.5,
                rule: Rule::usual(false, true),
            };
            engine
                .begin_experiment(&plan, &Artefact::blank("egreedy").unwrap())
                .unwrap();
        }
        let id = Request::new(i, 4)
            .ask(Some(&format!("d{i}")), |ask| engine.decide(ask))
            .unwrap()
            .decision_id;
        engine
            .feedback(&done(&id, Some(&format!("f{i}")), i * 40_000))
            .unwrap()
            .wait()
            .unwrap();
        if i == 12 {
            // One that fits its decision, one that does not, both over the snapshot.
            for (decision, user) in [("d13", "user-1"), ("d14", "user-9")] {
                let mut early = done(decision, Some(&format!("early {decision}")), 0);
                early.early = true;
                let hints = Hints {
                    user: Some(user),
                    ..Hints::default()
                };
                engine.feedback_with(&early, hints).unwrap().wait().unwrap();
            }
            engine.snapshot().unwrap();
        }
    }
    engine.flush().unwrap();
    drop(engine);
    let report = inspect::inspect(&dir, None).unwrap();
    std::fs::write(dir.join("expected"), report.replay.unwrap().model).unwrap();
}

/// What the fixture of a format was written with.
fn settings_of(format: u32) -> Settings {
    let mut settings = fixture_settings();
    if format > 1 {
        settings.rules.window_ms = 30 * 86_400_000;
    }
    if format == 2 {
        settings.rules.join = oo_serve::engine::Join::Mean;
    }
    settings
}

/// R26: what every earlier version wrote opens, by its snapshot and by replay alone, with the models that the program of its
/// time had (`expected`, their digest), and goes on in this version's format. Format 2 has people's histories and rewards
/// that are joined, format 3 an experiment and a shadow, format 4 a policy that gave way, format 5 early feedback that says
/// whose its decision is, too.
#[test]
fn folders_of_every_format_open() {
    for format in 1..=FORMAT {
        let dir = tempfile::tempdir().unwrap();
        copy(&fixture(format), dir.path());
        let expected = std::fs::read_to_string(dir.path().join("expected")).unwrap();
        let old = std::fs::read(dir.path().join("journal/00000002.log")).unwrap();
        let report = inspect::inspect(dir.path(), None).unwrap();
        assert_eq!(report.replay.unwrap().model, expected.trim(), "format {format}");
        assert!(report.snapshots.iter().all(|s| s.equals_replay == Some(true)));
        let (engine, recovery) = Engine::open(dir.path(), settings_of(format)).unwrap();
        assert!(
            recovery.losses.is_empty() && recovery.snapshot.is_some(),
            "{recovery:?}"
        );
        let from_snapshot = engine.fingerprint().unwrap();
        assert_eq!(engine.profile("user-1").is_some(), format > 1);
        drop(engine);
        assert_eq!(std::fs::read(dir.path().join("journal/00000002.log")).unwrap(), old);
        std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
        let (engine, recovery) = Engine::open(dir.path(), settings_of(format)).unwrap();
        assert_eq!(
            (recovery.snapshot, engine.fingerprint().unwrap()),
            (None, from_snapshot),
            "format {format}"
        );
        assert_eq!(engine.condition().counts.decisions, 20);
        let back = if format > 3 { vec!["lin-ts+per-user"] } else { vec![] };
        assert_eq!(engine.formers(), back);
        let counts = engine.condition().counts;
        let early = if format > 4 { (2, 1, 1) } else { (0, 0, 0) };
        assert_eq!((counts.held, counts.matched, counts.unmatched), early);
        // What is written now lies in a file of its own format, which older programs refuse.
        Request::new(20, 4).ask(Some("new"), |ask| engine.decide(ask)).unwrap();
        engine.flush().unwrap();
        let live = engine.fingerprint().unwrap();
        drop(engine);
        let segments = oo_serve::journal::Segments::new(&dir.path().join("journal"));
        let last = *segments.list().unwrap().last().unwrap();
        assert_eq!(segments.format(last).unwrap(), Some(FORMAT));
        let (engine, _) = Engine::open(dir.path(), settings_of(format)).unwrap();
        assert_eq!(engine.fingerprint().unwrap(), live);
    }
}

/// R26: what version N+1 wrote is refused, and nothing of it is touched.
#[test]
fn newer_formats_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(FORMAT), dir.path());
    let journal = dir.path().join("journal/00000002.log");
    let sound = std::fs::read(&journal).unwrap();
    let mut bytes = sound.clone();
    let first = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    bytes[..SEGMENT_HEAD].copy_from_slice(&head_of_format(FORMAT + 1, first));
    std::fs::write(&journal, &bytes).unwrap();
    std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let error = Engine::open(dir.path(), fixture_settings()).map(|_| ()).unwrap_err();
    let newer = FORMAT + 1;
    assert!(matches!(error, Error::Format { found, known, .. } if (found, known) == (newer, FORMAT)));
    assert!(
        error.to_string().contains(&format!(
            "has format {newer}; this program reads formats up to {FORMAT}"
        )),
        "{error}"
    );
    assert_eq!(std::fs::read(&journal).unwrap(), bytes);
    assert!(matches!(inspect::inspect(dir.path(), None), Err(Error::Format { .. })));
    // A snapshot, likewise.
    std::fs::write(&journal, sound).unwrap();
    copy(&fixture(FORMAT), dir.path());
    let mut files = std::fs::read_dir(dir.path().join("snapshots")).unwrap();
    let snapshot = files.find_map(|f| Some(f.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "snap")));
    let snapshot = snapshot.unwrap();
    let mut bytes = std::fs::read(&snapshot).unwrap();
    bytes[8] += 1;
    let end = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&snapshot, bytes).unwrap();
    let error = Engine::open(dir.path(), fixture_settings()).map(|_| ()).unwrap_err();
    assert!(
        matches!(error, Error::Format { found, .. } if found == newer),
        "{error}"
    );
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), settings("lin-ucb")).unwrap();
    for i in 0..30 {
        let id = Request::new(i, 4)
            .ask(None, |ask| engine.decide(ask))
            .unwrap()
            .decision_id;
        engine.feedback(&done(&id, None, 0)).unwrap().wait().unwrap();
        if i % 10 == 5 {
            engine.snapshot().unwrap();
        }
    }
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let mut all: Vec<_> = std::fs::read_dir(dir.path().join("snapshots"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    all.sort();
    assert_eq!(all.len(), 2);
    for (i, path) in all.iter().rev().enumerate() {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
        let (engine, recovery) = Engine::open(dir.path(), settings("lin-ucb")).unwrap();
        assert_eq!(
            (recovery.losses.len(), engine.fingerprint().unwrap()),
            (i + 1, live.clone())
        );
    }
}
