//! How a policy comes into charge, below HTTP: experiments and shadows are part of the state, come back bit for bit, and both
//! policies of an experiment learn the same.

mod common;

use common::{Request, copy, done, settings};
use oo_judge::gate::{self, Rule};
use oo_serve::engine::clock::ManualClock;
use oo_serve::engine::{Artefact, Choice, Outcome, Plan, Reason, Standing};
use oo_serve::{Engine, Settings, inspect};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn plan() -> Plan {
    let mut rule = Rule::usual(false, true);
    (rule.live.min_decisions, rule.live.min_clusters) = (50, 10);
    Plan {
        salt: "exp-1".into(),
        share: 0.5,
        rule,
    }
}

fn judged(standing: &Standing) -> gate::Verdict {
    let evidence = std::slice::from_ref(&standing.evidence);
    gate::decide(&standing.plan.rule, evidence, &gate::History::default())
}

struct World {
    settings: Settings,
    clock: Arc<ManualClock>,
}

impl World {
    fn new(spec: &str) -> World {
        let (mut settings, clock) = (settings(spec), ManualClock::at(1_700_000_000_000));
        settings.clock = clock.clone();
        settings.rules.default_reward = Some(-0.25);
        // No decision may give way because the machine is busy.
        settings.policy_timeout = Duration::from_secs(10);
        World { settings, clock }
    }

    fn open(&self, dir: &Path) -> Engine {
        let (engine, recovery) = Engine::open(dir, self.settings.clone()).unwrap();
        assert!(recovery.losses.is_empty(), "{recovery:?}");
        engine
    }

    /// Decisions `from..to` of 30 users: most have their feedback, some before the decision is known, some the default
    /// reward when an hour has passed.
    fn play(&self, engine: &Engine, from: u64, to: u64) {
        for i in from..to {
            let id = format!("d{i}");
            let mut feedback = done(&id, Some(&format!("f{i}")), i * 977 % 60_000);
            feedback.early = i % 7 == 0;
            if feedback.early {
                engine.feedback(&feedback).unwrap().wait().unwrap();
            }
            Request::new(i, 30).ask(Some(&id), |ask| engine.decide(ask)).unwrap();
            if i % 7 != 0 && i % 5 != 0 {
                engine.feedback(&feedback).unwrap().wait().unwrap();
            }
            self.clock.advance(Duration::from_secs(90));
            engine.tick().unwrap();
        }
        engine.flush().unwrap();
    }
}

#[test]
fn an_experiment_outlives_its_process_bit_for_bit() {
    let world = World::new("lin-ts");
    let dir = tempfile::tempdir().unwrap();
    let engine = world.open(dir.path());
    world.play(&engine, 0, 20);
    let challenger = Artefact::blank("egreedy{epsilon=0.3}+per-user").unwrap();
    let number = engine.begin_experiment(&plan(), &challenger).unwrap();
    assert!(engine.begin_experiment(&plan(), &challenger).is_err());
    assert!(
        engine.swap(&Artefact::blank("uniform").unwrap()).is_err(),
        "the control may not change"
    );
    world.play(&engine, 20, 120);
    engine.snapshot().unwrap();
    world.play(&engine, 120, 200);
    engine.forget("user-3").unwrap();
    engine.reset("user-4").unwrap();
    let (live, standing) = (engine.fingerprint().unwrap(), engine.experiment().unwrap());
    assert_eq!(standing.number, number);
    let [a, b] = &standing.arms[..] else { panic!() };
    assert!(a.users > 5 && b.users > 5 && a.users + b.users == 29, "{standing:?}");
    assert!(
        a.rewards > 50 && b.rewards > 30 && a.mean_reward != b.mean_reward,
        "{standing:?}"
    );
    let verdict = judged(&standing);
    let effect = verdict
        .checks
        .iter()
        .find(|c| c.name == "difference in reward")
        .unwrap();
    assert!(effect.low.unwrap() < effect.seen.unwrap() && effect.seen.unwrap() < effect.high.unwrap());
    drop(engine);
    for with_snapshots in [true, false] {
        let other = tempfile::tempdir().unwrap();
        copy(dir.path(), other.path());
        if !with_snapshots {
            std::fs::remove_dir_all(other.path().join("snapshots")).unwrap();
        }
        let engine = world.open(other.path());
        assert_eq!(
            (engine.fingerprint().unwrap(), engine.experiment().unwrap()),
            (live.clone(), standing.clone())
        );
        // It goes on: the same users in the same arms, and the end is as durable as the beginning.
        let arm = |user: &str| standing.plan.arm(user) as u8;
        let request = Request::new(7, 30);
        let answer = request.ask(Some("again"), |ask| engine.decide_explained(ask)).unwrap();
        assert_eq!(answer.arm, Some(arm(&request.user)));
        engine
            .end_experiment(number, Outcome::RolledBack, "as the test wants it")
            .unwrap();
        let live = engine.fingerprint().unwrap();
        drop(engine);
        let engine = world.open(other.path());
        assert_eq!(engine.fingerprint().unwrap(), live);
        assert!(engine.experiment().is_none());
        let ended = engine.last_experiment().unwrap();
        assert_eq!(
            (ended.outcome, ended.why.as_str()),
            (Outcome::RolledBack, "as the test wants it")
        );
        assert_eq!(
            (engine.condition().policy.as_str(), engine.condition().ends),
            ("lin-ts", [0, 0, 1])
        );
        drop(engine);
        let report = inspect::inspect(other.path(), None).unwrap();
        assert!(report.defects.is_empty(), "{report:?}");
    }
}

#[test]
fn both_policies_learn_the_same_and_a_launch_changes_places() {
    let world = World::new("lin-ucb");
    let dir = tempfile::tempdir().unwrap();
    let engine = world.open(dir.path());
    let number = engine
        .begin_experiment(&plan(), &Artefact::blank("lin-ucb").unwrap())
        .unwrap();
    world.play(&engine, 0, 150);
    let champion = engine.in_charge().unwrap();
    let standing = engine.experiment().unwrap();
    // Own and the other's decisions, early, default and ordinary rewards: as many, and to the same bytes.
    assert_eq!((standing.updates, standing.refused), (engine.condition().updates, 0));
    assert!(engine.condition().counts.defaults > 5 && engine.condition().counts.matched > 5);
    engine.end_experiment(number, Outcome::Launched, "test").unwrap();
    let launched = engine.in_charge().unwrap();
    assert_eq!(launched, champion);
    assert_eq!(engine.condition().generation, 2);
    let answer = Request::new(1, 30).ask(None, |ask| engine.decide(ask)).unwrap();
    assert_eq!(answer.generation, 2);
    world.play(&engine, 150, 170);
    assert_eq!(engine.swap(&Artefact::blank("uniform").unwrap()).unwrap(), 3);
    let live = engine.fingerprint().unwrap();
    drop(engine);
    std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    assert_eq!(world.open(dir.path()).fingerprint().unwrap(), live);
}

/// A policy that fails always.
struct Fails;

impl oo_core::Policy for Fails {
    fn propose(
        &self,
        _: &oo_core::Round<'_>,
        _: oo_core::Key,
        _: oo_core::Proposal<'_>,
    ) -> oo_core::Result<oo_core::Method> {
        Err(oo_core::Error::Failed("as the test wants it".into()))
    }
    fn update(&mut self, _: &oo_core::Batch<'_>) -> oo_core::Result<()> {
        Ok(())
    }
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
    fn load(&mut self, _: &[u8]) -> oo_core::Result<()> {
        Ok(())
    }
}

#[test]
fn a_challenger_that_fails_is_found_out_long_before_the_minima() {
    let mut world = World::new("lin-ucb");
    world.settings.build = Arc::new(|spec, shape| match spec.base().name.as_str() {
        "fails" => Ok(Box::new(Fails)),
        _ => oo_policies::build(spec, shape),
    });
    let dir = tempfile::tempdir().unwrap();
    let engine = world.open(dir.path());
    let mut plan = plan();
    plan.rule = Rule::usual(false, false);
    engine
        .begin_experiment(&plan, &Artefact::blank("fails").unwrap())
        .unwrap();
    for i in 0..30 {
        let answer = Request::new(i, 30)
            .ask(None, |ask| engine.decide_explained(ask))
            .unwrap();
        let fell_back = answer.answer.reason == Reason::FallbackError;
        assert_eq!(fell_back, answer.arm == Some(1));
    }
    let standing = engine.experiment().unwrap();
    let verdict = judged(&standing);
    assert_eq!(verdict.answer, gate::Answer::Keep);
    let failed: Vec<_> = verdict
        .checks
        .iter()
        .filter(|c| c.outcome == gate::Outcome::Fail)
        .collect();
    assert!(failed.len() == 1 && failed[0].name.contains("fallbacks"), "{failed:?}");
}

#[test]
fn a_rule_that_a_live_experiment_cannot_answer_is_refused() {
    let world = World::new("lin-ucb");
    let dir = tempfile::tempdir().unwrap();
    let engine = world.open(dir.path());
    let uniform = Artefact::blank("uniform").unwrap();
    let before = engine.condition().journal.last;
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        engine.begin_experiment(&plan, &uniform).unwrap_err().field().unwrap()
    };
    assert_eq!(refused(&|p| p.share = 1.0), "share");
    assert_eq!(refused(&|p| p.salt = String::new()), "salt");
    assert_eq!(refused(&|p| p.rule.confidence = 2.0), "rule");
    assert_eq!(refused(&|p| p.rule.looks = gate::Looks::Planned(3)), "rule.looks");
    assert_eq!(refused(&|p| p.rule.guards.group_loss = Some(0.1)), "rule.guards");
    assert_eq!(
        refused(&|p| _ = p.rule.rewards.insert("r9".into(), 0.0)),
        "rule.rewards"
    );
    assert_eq!(engine.condition().journal.last, before, "nothing was written");
}

#[test]
fn shadows_outlive_a_restart_with_what_they_have_learned() {
    let learned = |restarts: &[u64], snapshots: &[u64]| {
        let world = World::new("lin-ts");
        let dir = tempfile::tempdir().unwrap();
        let mut engine = world.open(dir.path());
        engine
            .add_shadow("next", &Artefact::blank("lin-ucb+per-user").unwrap())
            .unwrap();
        for i in 0..10 {
            world.play(&engine, 10 * i, 10 * (i + 1));
            if i == 4 {
                engine.forget("user-2").unwrap();
            }
            // Whoever asks gets what was learned from everything so far.
            engine.shadow("next", Duration::from_secs(20)).unwrap();
            if snapshots.contains(&i) {
                engine.snapshot().unwrap();
            }
            if restarts.contains(&i) {
                engine.tick().unwrap();
                let before = engine.fingerprint().unwrap();
                drop(engine);
                engine = world.open(dir.path());
                assert_eq!(engine.fingerprint().unwrap(), before);
                assert_eq!(engine.shadows()[0].proposed, 10 * (i + 1));
            }
        }
        let report = engine.shadows();
        assert_eq!(
            (report.len(), report[0].dropped, report[0].failed),
            (1, 0, 0),
            "{report:?}"
        );
        engine.shadow("next", Duration::from_secs(20)).unwrap()
    };
    let never = learned(&[], &[]);
    assert_eq!(learned(&[2, 6, 9], &[]), never, "from the journal alone");
    assert_eq!(learned(&[3, 7], &[1, 5]), never, "from snapshots and what follows them");
}

#[test]
fn a_removed_shadow_stays_away_and_a_damaged_copy_costs_only_itself() {
    let world = World::new("lin-ts");
    let dir = tempfile::tempdir().unwrap();
    let engine = world.open(dir.path());
    for name in ["a", "b"] {
        engine.add_shadow(name, &Artefact::blank("lin-ucb").unwrap()).unwrap();
    }
    world.play(&engine, 0, 20);
    engine.remove_shadow("a").unwrap();
    engine.shadow("b", Duration::from_secs(20)).unwrap();
    let seq = engine.snapshot().unwrap();
    drop(engine);
    let copy = dir.path().join(format!("snapshots/{seq:020}.shadows"));
    let mut bytes = std::fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    let (engine, recovery) = Engine::open(dir.path(), world.settings.clone()).unwrap();
    assert!(
        recovery.losses.len() == 1 && recovery.losses[0].contains("shadows"),
        "{recovery:?}"
    );
    let shadows = engine.shadows();
    assert_eq!(
        (shadows.len(), shadows[0].name.as_str(), shadows[0].dropped),
        (1, "b", 1)
    );
    Request::new(1, 1).ask(None, |ask| engine.decide(ask)).unwrap();
}

#[test]
fn what_the_policy_would_have_done_is_in_the_journal() {
    let world = World::new("softmax");
    let dir = tempfile::tempdir().unwrap();
    let engine = world.open(dir.path());
    world.play(&engine, 0, 30);
    let mut sum = 0.0;
    for i in 100..120 {
        let (id, request) = (format!("d{i}"), Request::new(i, 30));
        let own = request.ask(Some(&id), |ask| engine.propose(ask)).unwrap().probs;
        let mut probs = [0.0; 10];
        probs[3] = 1.0;
        let choice = Choice {
            chosen: 3,
            probs: &probs,
            scores: &[0.0; 10],
            method: oo_core::Method::Exact,
            policy: "baseline",
            reason: Reason::Given,
        };
        request.ask(Some(&id), |ask| engine.record(ask, &choice)).unwrap();
        let logged = engine.decision(&id).unwrap();
        assert_eq!((&logged.own, &logged.answer.probs[..]), (&own, &probs[..]));
        sum += own[3];
    }
    let agreement = engine.condition().agreement;
    assert_eq!((agreement.sum, agreement.count), (sum, 20));
    engine.flush().unwrap();
    drop(engine);
    std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    assert_eq!(world.open(dir.path()).condition().agreement, agreement);
}

#[test]
fn a_warm_start_is_settled_when_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.state");
    let shape = common::shape();
    let build: oo_serve::engine::settings::BuildPolicy = Arc::new(oo_policies::build);
    // Something learned by another engine.
    let world = World::new("lin-ucb");
    let engine = world.open(&folder.path().join("old"));
    world.play(&engine, 0, 60);
    std::fs::write(&file, engine.in_charge().unwrap().state.unwrap()).unwrap();
    for (spec, plain) in [
        (
            format!("lin-ucb+warm{{from={:?}}}", file.display().to_string()),
            "lin-ucb",
        ),
        (
            format!("lin-ucb+warm{{from={:?}}}+per-user", file.display().to_string()),
            "lin-ucb+per-user",
        ),
    ] {
        let artefact = oo_serve::artefact::take(&spec, &shape, &build).unwrap();
        assert_eq!(artefact.spec.to_string(), plain);
        // The policy as the simulator builds it.
        let mut states = oo_policies::States::default();
        states.insert(file.display().to_string(), std::fs::read(&file).unwrap());
        let there = oo_policies::build_from(&oo_core::Spec::parse(&spec).unwrap(), &shape, &states).unwrap();
        let mut world = World::new("uniform");
        world.settings.policy = artefact;
        let dir = tempfile::tempdir().unwrap();
        let engine = world.open(dir.path());
        std::fs::rename(&file, folder.path().join("gone")).unwrap();
        // Two users who are new to it, one of whom is known after a while.
        for i in 0..40 {
            let request = Request::new(i, 2);
            let served = request.ask(Some(&format!("d{i}")), |ask| engine.decide(ask)).unwrap();
            if i < 2 {
                let ids: Vec<_> = request
                    .ids
                    .iter()
                    .map(|id| oo_serve::engine::ask::action_id(id))
                    .collect();
                let round = oo_core::Round {
                    index: 0,
                    user: oo_serve::engine::ask::user_id(&request.user),
                    context: &request.context,
                    candidates: oo_core::Candidates {
                        ids: &ids,
                        features: &request.features,
                        dim: common::DIM,
                    },
                };
                let mut decision = oo_core::Decision::new();
                there.decide(&round, oo_core::Key::root(1), &mut decision).unwrap();
                assert_eq!(served.scores, decision.scores(), "{spec}");
                assert!(served.scores.iter().any(|s| *s != 0.0));
            }
            if i >= 2 && i % 2 == 0 {
                engine
                    .feedback(&done(&format!("d{i}"), None, 9000))
                    .unwrap()
                    .wait()
                    .unwrap();
            }
        }
        // A restart, by snapshot and without, and a way through an artefact keep what new people begin with.
        engine.snapshot().unwrap();
        let (live, kept) = (engine.fingerprint().unwrap(), engine.in_charge().unwrap());
        drop(engine);
        let engine = world.open(dir.path());
        assert_eq!(
            (engine.fingerprint().unwrap(), engine.in_charge().unwrap()),
            (live, kept.clone())
        );
        let stranger = Request::new(77, 1000);
        let before = stranger.ask(Some("s1"), |ask| engine.decide(ask)).unwrap();
        engine.swap(&kept).unwrap();
        let after = stranger.ask(Some("s2"), |ask| engine.decide(ask)).unwrap();
        assert_eq!(before.scores, after.scores);
        std::fs::rename(folder.path().join("gone"), &file).unwrap();
    }
    let e = oo_serve::artefact::take("lin-ucb+warm{from=nowhere}", &shape, &build).unwrap_err();
    assert!(e.contains("nowhere"), "{e}");
}

/// What the policy is taught at the end of a window reaches everybody who hears what it is taught at once.
#[test]
fn rewards_of_a_window_are_heard_by_all() {
    let mut world = World::new("lin-ucb");
    world.settings.rules.join = oo_serve::engine::Join::Mean;
    let dir = tempfile::tempdir().unwrap();
    let engine = world.open(dir.path());
    let untaught = engine.in_charge().unwrap().state;
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ear = heard.clone();
    engine.listen(move |reward| ear.lock().unwrap().push(reward));
    engine
        .add_shadow("beside", &Artefact::blank("lin-ucb").unwrap())
        .unwrap();
    engine
        .begin_experiment(&plan(), &Artefact::blank("lin-ucb").unwrap())
        .unwrap();
    world.play(&engine, 0, 100);
    world.clock.advance(Duration::from_secs(86_400));
    // What was due before it came is not for it.
    engine.add_shadow("late", &Artefact::blank("lin-ucb").unwrap()).unwrap();
    engine.tick().unwrap();
    let (condition, standing) = (engine.condition(), engine.experiment().unwrap());
    let counts = condition.counts;
    assert!(counts.aggregates > 50 && counts.defaults > 5, "{counts:?}");
    assert_eq!(counts.aggregates + counts.defaults, 100);
    assert_eq!((condition.updates, standing.updates), (100, 100));
    assert_eq!(standing.arms.iter().map(|a| a.rewards).sum::<u64>(), 100);
    let shadow = engine.shadow("beside", Duration::from_secs(10)).unwrap();
    assert_eq!(shadow.state, engine.in_charge().unwrap().state);
    let late = engine.shadow("late", Duration::from_secs(10)).unwrap();
    assert_eq!(late.state, untaught);
    let heard = heard.lock().unwrap();
    let users = (0..30).filter_map(|i| engine.stats(&format!("user-{i}")));
    let sum: f64 = users.map(|s| s.cumulative_reward).sum();
    assert_eq!(heard.len(), 100);
    assert!((heard.iter().sum::<f64>() - sum).abs() < 1e-9, "{sum}");
}

#[test]
fn a_change_is_undone_after_a_restart_without_those_forgotten_since() {
    let world = World::new("lin-ucb+per-user");
    let dir = tempfile::tempdir().unwrap();
    let mut engine = world.open(dir.path());
    assert!(matches!(engine.roll_back(), Err(oo_serve::Error::NotFound { .. })));
    world.play(&engine, 0, 90);
    let scores = |engine: &Engine, user: &str| {
        let mut request = Request::new(5, 30);
        request.user = user.into();
        request.ask(None, |ask| engine.decide(ask)).unwrap().scores
    };
    let of = |engine: &Engine| ["user-3", "user-5", "stranger"].map(|user| scores(engine, user));
    // More changes than can be undone; the last ones are known again after a kill, by snapshot and by replay.
    for i in 0..10 {
        if i == 5 {
            engine.swap(&Artefact::blank("lin-ucb+per-user").unwrap()).unwrap();
            world.play(&engine, 90, 180);
        } else {
            let spec = format!("egreedy{{epsilon=0.{i}1}}");
            engine.swap(&Artefact::blank(&spec).unwrap()).unwrap();
        }
        if i == 2 {
            engine.snapshot().unwrap();
        }
    }
    let known = engine.formers();
    assert_eq!(
        (known.len(), known[0].as_str(), known[3].as_str()),
        (8, "egreedy{epsilon=0.81}", "lin-ucb+per-user")
    );
    let live = engine.fingerprint().unwrap();
    for with_snapshots in [true, false] {
        drop(engine);
        if !with_snapshots {
            std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
        }
        engine = world.open(dir.path());
        assert_eq!(
            (engine.formers(), engine.fingerprint().unwrap()),
            (known.clone(), live.clone())
        );
    }
    for spec in known.iter().take(3) {
        engine.roll_back().unwrap();
        assert_eq!(engine.condition().policy, *spec);
    }
    assert_eq!(engine.formers().len(), 5);
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let _ = std::fs::remove_dir_all(dir.path().join("snapshots"));
    let engine = world.open(dir.path());
    assert_eq!(engine.fingerprint().unwrap(), live);
    let former = |dir: &Path| {
        let files = std::fs::read_dir(dir.join("before")).unwrap();
        let mut all: Vec<u64> = files
            .map(|f| f.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        all.sort_unstable();
        let newest = dir.join("before").join(all.last().unwrap().to_string());
        (all.len(), newest)
    };
    let (count, file) = former(dir.path());
    assert_eq!(count, 5, "what nothing comes back to is gone");
    let trained = std::fs::read(&file).unwrap();
    engine.forget("user-3").unwrap();
    engine.compact().unwrap();
    let scrubbed = std::fs::read(&file).unwrap();
    assert!(
        scrubbed.len() < trained.len(),
        "the forgotten user is gone from the file"
    );
    let mut broken = trained.clone();
    broken[40] ^= 1;
    std::fs::write(&file, broken).unwrap();
    let charge = engine.condition().policy;
    assert!(matches!(engine.roll_back(), Err(oo_serve::Error::Damaged { .. })));
    assert_eq!(engine.condition().policy, charge);
    // The file as it was before the compaction: whoever was forgotten is so all the same.
    std::fs::write(&file, &trained).unwrap();
    engine.roll_back().unwrap();
    assert_eq!(
        (engine.condition().policy.as_str(), engine.condition().updates),
        ("lin-ucb+per-user", 90),
        "with every reward of its decisions"
    );
    let after = of(&engine);
    assert_eq!(after[0], after[2], "a stranger again");
    assert!(after[1] != after[2]);
    let live = engine.fingerprint().unwrap();
    drop(engine);
    assert_eq!(world.open(dir.path()).fingerprint().unwrap(), live);
}
