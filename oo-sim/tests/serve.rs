//! Production is the next experiment: what the server wrote down, `oo-sim ope` reads; what the server knows of people, the
//! simulator knows by the same numbers.

use oo_core::judge::Judge;
use oo_core::tips::{Feedback as Reacted, Moment, Reaction, RewardSpec};
use oo_core::{ActionId, Environment, Key, Outcome, Shape, features};
use oo_judge::reactions::rule::RuleJudge;
use oo_serve::engine::clock::ManualClock;
use oo_serve::engine::{Artefact, Given, Join, Target};
use oo_serve::{Ask, Engine, Feedback, Settings, export};
use oo_sim::environments::Horizon;
use oo_sim::environments::tips::{Tips, TipsConfig};
use oo_sim::logs::own::Reader;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn settings(policy: &str, shape: Shape, clock: &Arc<ManualClock>) -> Settings {
    let mut settings = Settings::new(Artefact::blank(policy).unwrap(), shape);
    settings.clock = clock.clone();
    settings.durability = oo_serve::engine::Durability::Process;
    settings
}

fn reacted(decision_id: String, feedback: Reacted) -> Feedback {
    Feedback {
        target: Target::Decision(decision_id),
        feedback_id: None,
        given: Given::Reaction(feedback),
        client_time: None,
        early: false,
    }
}

/// A journal of two thousand decisions, exported and evaluated by the program itself; every reward rule, dwell and
/// method of the journal goes through.
#[test]
fn an_exported_journal_is_evaluated() {
    let (home, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(1_700_000_000_000));
    let dir = home.path().join("state");
    let shape = Shape {
        context: vec!["bias".into()],
        candidate: vec!["x".into(), "y".into()],
        actions: None,
    };
    let mut settings = settings("softmax", shape, &clock);
    settings.rules.join = Join::Mean;
    settings.rules.default_reward = Some(0.0);
    settings.segment_bytes = 100_000;
    let (engine, _) = Engine::open(&dir, settings).unwrap();
    let (mut sum, n) = (0.0, 2000u64);
    for i in 0..n {
        let mut draws = Key::root(1).fold(i).draws();
        let ids: Vec<String> = (0..3 + i % 3).map(|c| format!("tip-{}", i % 7 + c)).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let numbers: Vec<f32> = (0..2 * ids.len()).map(|_| draws.uniform() as f32).collect();
        let user = format!("user-{}", i % 50);
        let answer = engine
            .decide(&Ask {
                user: &user,
                context: &[1.0],
                ids: &ids,
                features: &numbers,
                ..Ask::default()
            })
            .unwrap();
        if i % 4 > 0 {
            let paid = numbers[2 * answer.chosen] > 0.5;
            let reaction = if paid { Reaction::Done } else { Reaction::Snooze };
            let feedback = Reacted {
                reaction,
                dwell_ms: paid.then_some(60_000),
            };
            engine.feedback(&reacted(answer.decision_id, feedback)).unwrap();
            sum += if paid { 1.0 } else { 0.1 };
        }
        clock.advance(Duration::from_secs(10));
    }
    clock.advance(Duration::from_secs(7200));
    engine.tick().and_then(|()| engine.flush()).unwrap();
    let log = home.path().join("journal.parquet");
    let exported = export::export(&dir, &log).unwrap();
    assert_eq!((exported.rows, exported.rewarded), (n, n));
    // The very policy that logged earns what it earned, whatever the estimator.
    let answer = |policy: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oo-sim"));
        let command = command
            .arg("ope")
            .arg(&log)
            .args(policy)
            .args(["--format", "json", "--estimators", "ips,snips"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let text = answer(&["--policy", "uniform"]).to_string();
    assert!(text.contains("snips"), "{text}");
    // And the rows are those of the journal.
    let (mut rows, mut times) = (oo_core::Log::new(), Vec::new());
    let mut reader = Reader::open(&log).unwrap();
    assert_eq!(
        (reader.header.origin.as_str(), reader.header.policy.as_str()),
        ("oo-serve", "softmax")
    );
    while reader.next(&mut rows, &mut times).unwrap() {}
    let total: f64 = (0..rows.len()).map(|i| rows.row(i).reward.unwrap()).sum();
    assert!((total - sum).abs() < 1e-9, "{total} {sum}");
    let logged = engine.history("user-7", 1).remove(0);
    let last = (0..rows.len()).rev().map(|i| (rows.row(i), times[i]));
    let (row, time) = last
        .into_iter()
        .find(|(r, _)| r.round.user == oo_serve::engine::ask::user_id("user-7"))
        .unwrap();
    assert_eq!(
        (row.probs, row.chosen, time),
        (&logged.answer.probs[..], logged.answer.chosen, logged.answer.time)
    );
    assert_eq!(row.round.candidates.features, logged.features);
    assert_eq!(
        row.action(),
        oo_serve::engine::ask::action_id(&logged.ids[logged.answer.chosen])
    );
}

/// A simulated month, decided by the server: at every round its journal gives the profile and the wear that the
/// simulator's own features were made of, to the bit.
#[test]
fn the_server_knows_what_the_simulator_knows() {
    let config = TipsConfig {
        users: 6,
        days: 40,
        missing: 0.2,
        ..TipsConfig::default()
    };
    let judge: Arc<dyn Judge> = Arc::new(RuleJudge);
    let reward = RewardSpec::named("r2").unwrap();
    let mut world = Tips::build(config, Horizon::default(), reward, judge, Key::root(5)).unwrap();
    // Minute 0 of the simulator's calendar, four weeks before its beginning, is a Monday.
    let start = 1_600_041_600_000 - 1_600_041_600_000 % (7 * 86_400_000) + 4 * 86_400_000;
    assert_eq!(
        (
            Moment::from_unix_ms(start).hour(),
            Moment::from_unix_ms(start).weekday()
        ),
        (0.0, 0)
    );
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(start as u64));
    let mut settings = settings("softmax{features=v3}", features::shape(), &clock);
    settings.rules.window_ms = 30 * 86_400_000;
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    let (mut outcomes, mut minute, mut rounds, mut known) = (Vec::<Outcome>::new(), 0, 0, 0);
    let recent = features::CANDIDATE.iter().position(|n| *n == "recently_shown").unwrap();
    while world.advance().unwrap() {
        clock.advance(Duration::from_secs(60 * (world.now() - minute)));
        minute = world.now();
        let now = Moment::from_unix_ms(start + minute as i64 * 60_000);
        let mut decided = Vec::new();
        for i in 0..world.open() {
            let round = world.round(i);
            let user = round.user.0.to_string();
            let ids: Vec<String> = round.candidates.ids.iter().map(|ActionId(id)| id.to_string()).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let person = engine.person(&user, ids.iter().copied());
            let profile = person.known.map(|k| k.profile).unwrap_or_default();
            let mut context = Vec::new();
            features::context_into(now, &profile, &mut context);
            assert_eq!(context, round.context, "round {rounds}");
            for (c, shown) in person.shown.iter().enumerate() {
                let row = round.candidates.row(c);
                assert_eq!(
                    (shown / 3.0).clamp(0.0, 1.0) as f32,
                    row[recent],
                    "round {rounds}, candidate {c}"
                );
            }
            known += usize::from(profile.completion_rate_30d.is_some());
            rounds += 1;
            let ask = Ask {
                user: &user,
                context: round.context,
                ids: &ids,
                features: round.candidates.features,
                ..Ask::default()
            };
            decided.push(engine.decide(&ask).unwrap());
        }
        let chosen: Vec<usize> = decided.iter().map(|a| a.chosen).collect();
        outcomes.clear();
        world.respond(&chosen, &mut outcomes).unwrap();
        for (answer, outcome) in decided.into_iter().zip(&outcomes) {
            if let (Some(feedback), oo_core::Arrival::Now) = (outcome.feedback, outcome.arrival) {
                engine.feedback(&reacted(answer.decision_id, feedback)).unwrap();
            }
        }
    }
    assert!(rounds > 500 && known > 400, "{rounds} rounds, {known} with a profile");
}
