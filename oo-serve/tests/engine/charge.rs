//! Policies that come, go and take their time, and what waits for them meanwhile.

use crate::common::{Request, done, loaded, saved, settings};
use oo_core::{Batch, Key, Method, Policy, Proposal, Round, Shape, Spec, UserId};
use oo_judge::gate::Rule;
use oo_serve::engine::event::Event;
use oo_serve::engine::{Artefact, Outcome, Plan, Reason};
use oo_serve::journal::Segments;
use oo_serve::{Engine, Error, Settings};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_millis(600);

/// Takes the second candidate for whom it knows, the first for others, and takes long where its name says so.
struct Slow {
    name: String,
    knows: BTreeSet<u64>,
    saving: Arc<AtomicBool>,
}

impl Policy for Slow {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> oo_core::Result<Method> {
        if self.name == "proposes" {
            std::thread::sleep(LONG);
        }
        out.probs[usize::from(self.knows.contains(&round.user.0))] = 1.0;
        Ok(Method::Exact)
    }
    fn update(&mut self, batch: &Batch<'_>) -> oo_core::Result<()> {
        self.knows.extend(batch.iter().map(|(row, _)| row.round.user.0));
        Ok(())
    }
    fn save(&self) -> Vec<u8> {
        let bytes = saved(&self.knows);
        if self.name == "saves" {
            self.saving.store(true, Ordering::SeqCst);
            std::thread::sleep(LONG);
        }
        bytes
    }
    fn load(&mut self, bytes: &[u8]) -> oo_core::Result<()> {
        self.knows = loaded(bytes);
        Ok(())
    }
    fn forget(&mut self, user: UserId) {
        self.knows.remove(&user.0);
    }
}

/// Settings that know the policies `builds`, `proposes` and `saves`, and whether one of the last has begun to.
fn slow(spec: &str) -> (Settings, Arc<AtomicBool>) {
    let (mut settings, saving) = (settings(spec), Arc::new(AtomicBool::new(false)));
    settings.snapshot_every = 0;
    let told = Arc::clone(&saving);
    settings.build = Arc::new(move |spec: &Spec, shape: &Shape| match spec.base().name.as_str() {
        name @ ("builds" | "proposes" | "saves") => {
            if name == "builds" {
                std::thread::sleep(LONG);
            }
            Ok(Box::new(Slow {
                name: name.into(),
                knows: BTreeSet::new(),
                saving: Arc::clone(&told),
            }))
        }
        _ => oo_policies::build(spec, shape),
    });
    (settings, saving)
}

fn decide(engine: &Engine, i: u64) -> oo_serve::Answer {
    Request::new(i, 10).ask(None, |ask| engine.decide(ask)).unwrap()
}

/// Nobody's request waits for what a shadow is built of.
#[test]
fn a_shadow_is_built_beside_the_lock() {
    let (dir, (settings, _)) = (tempfile::tempdir().unwrap(), slow("lin-ucb"));
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    engine.add_shadow("s", &Artefact::blank("builds").unwrap()).unwrap();
    let longest = engine.condition().holds.longest;
    assert!(longest < LONG / 2, "the lock was held for {longest:?}");
}

/// A challenger that was found to be slow is not trusted anew when it takes charge.
#[test]
fn a_launch_keeps_what_was_found_of_the_challenger() {
    let (dir, (mut settings, _)) = (tempfile::tempdir().unwrap(), slow("lin-ucb"));
    settings.policy_timeout = Duration::from_millis(50);
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    let plan = Plan {
        salt: "exp".into(),
        share: 0.5,
        rule: Rule::usual(false, true),
    };
    let number = engine
        .begin_experiment(&plan, &Artefact::blank("proposes").unwrap())
        .unwrap();
    engine.end_experiment(number, Outcome::Launched, "as asked").unwrap();
    let begun = Instant::now();
    assert_eq!(decide(&engine, 1).reason, Reason::FallbackTimeout);
    assert!(begun.elapsed() < LONG, "it was waited for");
}

/// What a shadow had learned must not come into charge without what was taken back meanwhile.
#[test]
fn a_reset_waits_for_a_promotion() {
    let (dir, (settings, saving)) = (tempfile::tempdir().unwrap(), slow("lin-ucb"));
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    engine.add_shadow("s", &Artefact::blank("saves").unwrap()).unwrap();
    for i in [1, 2] {
        let id = decide(&engine, i).decision_id;
        engine.feedback(&done(&id, None, 0)).unwrap().wait().unwrap();
    }
    std::thread::scope(|scope| {
        let promoted = scope.spawn(|| engine.promote("s", Duration::from_secs(20)));
        while !saving.load(Ordering::SeqCst) {
            assert!(!promoted.is_finished(), "it was promoted without its state");
            std::thread::sleep(Duration::from_millis(5));
        }
        engine.reset(&Request::new(1, 10).user).unwrap();
        promoted.join().unwrap().unwrap();
    });
    assert_eq!([1, 2].map(|i| decide(&engine, i).chosen), [0, 1]);
}

#[test]
fn a_shadow_that_does_not_answer_is_not_promoted() {
    let (dir, (settings, _)) = (tempfile::tempdir().unwrap(), slow("lin-ucb"));
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    engine.add_shadow("s", &Artefact::blank("saves").unwrap()).unwrap();
    let refused = engine.promote("s", LONG / 6).unwrap_err();
    assert!(matches!(refused, Error::Silent { .. }), "{refused}");
    assert_eq!((refused.status(), refused.field()), (409, Some("name")));
    assert_eq!(engine.condition().policy, "lin-ucb");
}

/// Two shadows of one name are two, also where the first had found something that was not yet logged.
#[test]
fn what_a_shadow_found_is_not_another_s() {
    let (dir, (settings, _)) = (tempfile::tempdir().unwrap(), slow("lin-ucb"));
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    let uniform = Artefact::blank("uniform").unwrap();
    let found = |n: u64| {
        let begun = Instant::now();
        while engine.shadows()[0].proposed < n {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", engine.shadows());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    engine.add_shadow("s", &uniform).unwrap();
    (0..5).for_each(|i| drop(decide(&engine, i)));
    found(5);
    engine.remove_shadow("s").unwrap();
    engine.add_shadow("s", &uniform).unwrap();
    let since = engine.condition().journal.last;
    (5..8).for_each(|i| drop(decide(&engine, i)));
    found(3);
    engine.tick().unwrap();
    engine.log_shadows().unwrap();
    engine.flush().unwrap();
    drop(engine);
    let segments = Segments::new(&dir.path().join("journal"));
    let mut of = Vec::new();
    for segment in segments.list().unwrap() {
        let each = |r: oo_serve::journal::Record<'_>| {
            if let Ok(Event::Shadow(s)) = Event::decode(&r) {
                of.push(s.decision);
            }
            Ok(())
        };
        segments.scan(segment, each).unwrap();
    }
    assert!(of.len() == 3 && of.iter().all(|decision| *decision > since), "{of:?}");
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    assert_eq!(engine.shadows()[0].proposed, 3);
}
