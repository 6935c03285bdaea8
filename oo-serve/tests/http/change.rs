//! Other policies: swapped under load, beside the one in charge, on some users, instead of one that is too slow.

use crate::client::Server;
use oo_serve::artefact::{Policy, Reward, Winner};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const SMALL: [&str; 4] = ["--candidate", "2", "--policy", "lin-ts{draws=16}"];
const ASK: &str = r#"{"user_id":"u","candidates":[{"id":1,"features":[1,0]},{"id":2,"features":[0,1]}]}"#;

/// A trained policy as a folder: `n` rewards of 1 for the first of two candidates.
fn winner(dir: &Path, spec: &str, n: usize) {
    let shape = oo_core::Shape {
        context: vec![],
        candidate: vec!["f0".into(), "f1".into()],
        actions: None,
    };
    let mut policy = oo_policies::build(&oo_core::Spec::parse(spec).unwrap(), &shape).unwrap();
    let mut log = oo_core::Log::new();
    let round = oo_core::Round {
        index: 0,
        user: oo_core::UserId(0),
        context: &[],
        candidates: oo_core::Candidates {
            ids: &[oo_core::ActionId(1), oo_core::ActionId(2)],
            features: &[1.0, 0.0, 0.0, 1.0],
            dim: 2,
        },
    };
    for _ in 0..n {
        let row = log.push_parts(&round, &[0.5, 0.5], 0, oo_core::Method::Exact);
        log.settle(row, 1.0, None);
    }
    let rows: Vec<usize> = (0..log.len()).collect();
    policy.update(&oo_core::Batch::new(&log, &rows)).unwrap();
    let about = Policy {
        format: 1,
        spec: spec.into(),
        shape,
        features: None,
        reward: Some(Reward {
            name: "r2".into(),
            version: oo_core::tips::RewardSpec::named("r2").unwrap().version,
        }),
        seed: 0,
        run: "a test".into(),
        state: String::new(),
        summary: None,
    };
    Winner::write(dir, about, &policy.save()).unwrap();
}

#[test]
fn serves_what_was_trained() {
    let dir = tempfile::tempdir().unwrap();
    winner(dir.path(), "lin-ucb{alpha=0}", 50);
    let server = Server::start(&["--policy", dir.path().to_str().unwrap()]);
    let answer = server.post("/recommend", ASK).json();
    assert_eq!(
        (&answer["tip"]["id"], &answer["propensity"]),
        (&json!("1"), &json!(1.0))
    );
    let told = &answer["explanation"]["contributions"][0];
    assert_eq!((&told["feature"], &told["value"]), (&json!("f0"), &json!(1.0)));
    assert!(told["contribution"].as_f64().unwrap() > 0.9);
}

/// A folder as `oo-sim gate` lays it out (docs/gate.md), key by key.
fn gated(dir: &Path, reward: &serde_json::Value) {
    let shape = oo_core::features::shape();
    let policy = oo_policies::build(&oo_core::Spec::parse("lin-ucb").unwrap(), &shape).unwrap();
    let state = policy.save();
    let digest: String = Sha256::digest(&state).iter().map(|b| format!("{b:02x}")).collect();
    let histogram = json!({"edges": [-1.0, 0.1], "shares": [0.4, 0.4, 0.2], "mean": -0.1, "sd": 0.8});
    let about = json!({
        "format": 1,
        "spec": "lin-ucb",
        "shape": {"context": shape.context, "candidate": shape.candidate, "actions": null},
        "features": "all",
        "reward": reward,
        "seed": 42,
        "trained_on": "tips",
        "decisions": 105,
        "run": "c715d4",
        "gate": "975385",
        "state": digest,
        "summary": {"features": {"priority": histogram}, "prediction": histogram, "reward": histogram},
    });
    std::fs::write(dir.join("policy.json"), about.to_string()).unwrap();
    std::fs::write(dir.join("state.safetensors"), state).unwrap();
}

#[test]
fn serves_what_the_gate_wrote() {
    let ask = r#"{"user_id":"alice","decision_id":"d","candidates":[{"id":"a","priority":3},{"id":"b","priority":1}]}"#;
    let told = r#"{"decision_id":"d","reaction":"done","dwell_ms":42000}"#;
    for (reward, more, spec) in [
        (json!({"name": "r0", "version": 1}), &[][..], "r0.1"),
        (json!({"name": "r0", "version": 1}), &["--reward", "r1"], "r1.1"),
        // A log that does not name its spec.
        (json!(null), &[], "r2.1"),
        (json!(null), &["--reward", "r0"], "r0.1"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        gated(dir.path(), &reward);
        let args = [&["--policy", dir.path().to_str().unwrap()], more].concat();
        let server = Server::start(&args);
        let answer = server.post("/recommend", ask);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["policy"], "lin-ucb");
        assert_eq!(server.post("/feedback", told).json()["reward_spec"], spec);
    }
}

fn swaps(n: usize) {
    let server = Server::start(&SMALL);
    let dir = tempfile::tempdir().unwrap();
    let (a, b, broken) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("broken"));
    winner(&a, "lin-ucb{alpha=0}", 10);
    winner(&b, "egreedy{epsilon=0.2}", 20);
    winner(&broken, "lin-ucb{alpha=0}", 10);
    let state = std::fs::read(broken.join("state.safetensors")).unwrap();
    let done = AtomicBool::new(false);
    let (mut swapped, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut last, mut seen) = (server.connect(), 0, 0u64);
                    while !done.load(Ordering::Acquire) {
                        let answer = client.post("/recommend", ASK);
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        let answer = answer.json();
                        let version = answer["model_version"].as_u64().unwrap();
                        assert!(version >= last, "version {version} after {last}");
                        // Wholly one version: the name goes with the number.
                        let want = match version {
                            1 => "lin-ts{draws=16}",
                            v if v % 2 == 0 => "lin-ucb{alpha=0}",
                            _ => "egreedy{epsilon=0.2}",
                        };
                        assert_eq!(answer["policy"], want, "version {version}");
                        assert_eq!(answer["reason"], "policy");
                        (last, seen) = (version, seen + 1);
                    }
                    seen
                })
            })
            .collect();
        let mut client = server.connect();
        for i in 0..n {
            if i % 10 == 9 {
                let mut bytes = state.clone();
                let at = (i * 7919) % bytes.len();
                bytes[at] ^= 1 << (i % 8);
                std::fs::write(broken.join("state.safetensors"), &bytes[..bytes.len() - i % 3]).unwrap();
                let reply = client.post("/policies", &json!({"action": "promote", "policy": broken}).to_string());
                assert_eq!((reply.status, &reply.json()["field"]), (422, &json!("policy")));
                refused += 1;
            } else {
                let next = if swapped % 2 == 0 { &a } else { &b };
                let reply = client.post("/policies", &json!({"action": "promote", "policy": next}).to_string());
                assert_eq!(reply.status, 200, "{}", reply.text());
                swapped += 1;
                assert_eq!(reply.json()["active"]["model_version"], swapped + 1);
            }
        }
        done.store(true, Ordering::Release);
        let seen: u64 = load.into_iter().map(|l| l.join().unwrap()).sum();
        println!("{swapped} swaps, {refused} broken files refused, {seen} decisions meanwhile, no error");
        assert!(seen > 0);
    });
    let back = server.post("/policies", r#"{"action":"roll_back"}"#).json();
    assert_eq!(
        back["active"]["policy"],
        if swapped % 2 == 1 {
            "egreedy{epsilon=0.2}"
        } else {
            "lin-ucb{alpha=0}"
        }
    );
}

#[test]
fn swaps_under_load() {
    swaps(40);
}

#[test]
#[ignore = "a thousand swaps"]
fn a_thousand_swaps_under_load() {
    swaps(1000);
}

#[test]
fn a_shadow_decides_along_and_can_take_over() {
    let server = Server::start(&SMALL);
    let shadow = r#"{"action":"shadow","name":"next","policy":"egreedy{epsilon=0.3}"}"#;
    assert_eq!(server.post("/policies", shadow).status, 200);
    assert_eq!(server.post("/policies", shadow).status, 422);
    let mut client = server.connect();
    for _ in 0..300 {
        let answer = client.post("/recommend", ASK).json();
        assert_eq!(answer["policy"], "lin-ts{draws=16}");
        let told = json!({"decision_id": answer["decision_id"], "reward": 1}).to_string();
        assert_eq!(client.post("/feedback", &told).status, 200);
    }
    let proposed = (0..300).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        server.get("/policies").json()["shadows"][0]["proposed"] == 300
    });
    let shadows = server.get("/policies").json()["shadows"].clone();
    assert!(
        proposed && shadows[0]["failed"] == 0 && shadows[0]["dropped"] == 0,
        "{shadows}"
    );
    let taken = server.post("/policies", r#"{"action":"promote","name":"next"}"#).json();
    assert_eq!(taken["active"]["policy"], "egreedy{epsilon=0.3}");
    assert_eq!(
        server
            .post("/policies", r#"{"action":"end_shadow","name":"next"}"#)
            .status,
        200
    );
    // What it learned beside the other came with it.
    let answer = client.post("/recommend", ASK).json();
    assert!(answer["ranking"][0]["score"].as_f64().unwrap() > 0.5, "{answer}");
}

/// Users, one decision each, whose reward is noise and `lift` more for the challenger; until the experiment has ended.
fn experiment(server: &Server, users: std::ops::Range<u32>, lift: f64) -> [u32; 2] {
    let mut client = server.connect();
    let mut arms = [0, 0];
    for i in users {
        let body = ASK.replace("\"u\"", &format!("\"user-{i}\""));
        let answer = client.post("/recommend", &body).json();
        if answer["arm"].is_null() {
            break;
        }
        let challenger = answer["arm"] == "challenger";
        let policy = if challenger { "uniform" } else { "lin-ts{draws=16}" };
        assert_eq!(answer["policy"], policy);
        arms[usize::from(challenger)] += 1;
        // The page's function says the same.
        if i < 5 {
            let ask = format!(r#"{{"salt":"exp-1","user_id":"user-{i}","arms":{{"control":0.5,"challenger":0.5}}}}"#);
            assert_eq!(server.post("/assignments", &ask).json()["arm"], answer["arm"]);
        }
        let reward = f64::from(i % 7) / 7.0 + lift * f64::from(u8::from(challenger));
        let told = json!({"decision_id": answer["decision_id"], "reward": reward}).to_string();
        assert_eq!(client.post("/feedback", &told).status, 200);
    }
    arms
}

const BEGIN: &str = r#"{"action":"experiment","salt":"exp-1","policy":"uniform","share":0.5,
    "rule":{"min_effect":0.0,"live":{"min_decisions":40,"min_clusters":20,"slow_ms":1000}}}"#;

#[test]
fn an_experiment_whose_challenger_is_worse_is_rolled_back() {
    let server = Server::start(&SMALL);
    assert_eq!(server.post("/policies", BEGIN).status, 200);
    assert_eq!(server.post("/policies", BEGIN).status, 409);
    let promote = server.post("/policies", r#"{"action":"promote","policy":"uniform"}"#);
    assert_eq!(promote.status, 409, "the control may not change: {}", promote.text());
    let arms = experiment(&server, 0..2000, -1.0);
    assert!(arms[0] > 20 && arms[1] > 20, "{arms:?}");
    let ended = (0..250).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        server.get("/assignments").json()["experiment"].is_null()
    });
    assert!(ended, "{}", server.get("/assignments").text());
    let last = server.get("/policies").json()["last_experiment"].clone();
    assert_eq!(last["outcome"], "rolled_back");
    assert!(
        last["why"]
            .as_str()
            .unwrap()
            .starts_with("difference in reward: required above"),
        "{last}"
    );
    assert_eq!(
        server.metric(r#"oo_experiments_ended_total{outcome="rolled_back"}"#),
        1.0
    );
    assert_eq!(server.post("/recommend", ASK).json()["policy"], "lin-ts{draws=16}");
    // The same salt would put the same people in the same arms once more.
    let again = server.post("/policies", BEGIN);
    let detail = again.json()["detail"].as_str().unwrap().to_string();
    assert_eq!(
        (again.status, &again.json()["field"]),
        (409, &json!("salt")),
        "{detail}"
    );
    assert!(detail.contains("`exp-1-again`"), "{detail}");
    assert_eq!(
        server.post("/policies", &BEGIN.replace("exp-1", "exp-1-again")).status,
        200
    );
}

/// What is in the registry's folder already is served without the registry, wherever a policy may be named.
#[test]
fn a_registered_model_is_named_like_any_other_policy() {
    let server = Server::start(&SMALL);
    let home = server.dir.path().join("state/models/picks");
    winner(&home.join("3"), "lin-ucb{alpha=0}", 50);
    let change = |body: &str| server.post("/policies", body);
    let shadow = change(r#"{"action":"shadow","name":"next","policy":"models:/picks/3"}"#);
    assert_eq!(
        shadow.json()["shadows"][0]["spec"],
        "lin-ucb{alpha=0}",
        "{}",
        shadow.text()
    );
    let promoted = change(r#"{"action":"promote","policy":"models:/picks/3"}"#);
    assert_eq!(
        promoted.json()["active"]["policy"],
        "lin-ucb{alpha=0}",
        "{}",
        promoted.text()
    );
    assert_eq!(server.post("/recommend", ASK).json()["tip"]["id"], "1");
    for missing in ["models:/picks/4", "models:/picks@champion"] {
        let refused = change(&format!(r#"{{"action":"promote","policy":"{missing}"}}"#));
        assert_eq!((refused.status, &refused.json()["field"]), (422, &json!("policy")));
        assert!(refused.text().contains("--mlflow"), "{}", refused.text());
    }
}

/// The server after a kill, on the same folder.
fn killed_and_back(mut server: Server) -> Server {
    server.signal("-KILL");
    server.wait();
    let dir = std::mem::replace(&mut server.dir, tempfile::tempdir().unwrap());
    Server::start_in(dir, &SMALL)
}

#[test]
fn a_launch_needs_the_gate() {
    let server = Server::start(&SMALL);
    assert_eq!(server.post("/policies", r#"{"action":"launch"}"#).status, 409);
    for (rule, field) in [
        (r#"{"looks":3}"#, "rule.looks"),
        (r#"{"guards":{"group_loss":0.1}}"#, "rule.guards"),
        (r#"{"confidence":7}"#, "rule"),
        (r#"{"no_such_key":1}"#, "rule.no_such_key"),
        (
            r#"{"live":{"min_decisions":1,"min_decisions":2}}"#,
            "rule.live.min_decisions",
        ),
        (r#"{"live":{"min_decisions":"many"}}"#, "rule.live.min_decisions"),
        (r#"{"rewards":{"r1":0,"r1":0.5}}"#, "rule.rewards"),
        (r#"{"guards":{"rise":{"done":0.1,"done":0.5}}}"#, "rule.guards.rise"),
        (r#""/no/such/file.toml""#, "rule"),
    ] {
        let body = format!(r#"{{"action":"experiment","salt":"s","policy":"uniform","rule":{rule}}}"#);
        let reply = server.post("/policies", &body);
        assert_eq!(
            (reply.status, &reply.json()["field"]),
            (422, &json!(field)),
            "{}",
            reply.text()
        );
    }
    assert_eq!(server.post("/policies", BEGIN).status, 200);
    experiment(&server, 0..60, 0.5);
    let refused = server.post("/policies", r#"{"action":"launch"}"#);
    let detail = refused.json()["detail"].as_str().unwrap().to_string();
    assert!(
        refused.status == 409
            && detail.contains("undecided")
            && detail.contains("decisions of each policy: required at least 40"),
        "{detail}"
    );
    assert!(!detail.contains(".0000"), "counts are whole: {detail}");
    experiment(&server, 60..500, 0.5);
    // A kill takes nothing of it.
    let before = server.get("/assignments").json();
    let server = killed_and_back(server);
    let now = server.get("/assignments").json();
    assert_eq!((&now["arms"], &now["gate"]), (&before["arms"], &before["gate"]));
    let gate = &now["gate"];
    assert_eq!(gate["answer"], "promote", "{gate:#}");
    let of = |key: &str| gate[key].as_f64().unwrap();
    assert!(
        0.0 < of("low") && of("low") < of("difference") && of("difference") < of("high"),
        "{gate:#}"
    );
    assert_eq!(server.metric("oo_experiment_gate"), 1.0);
    let champion = server.get("/policies").json()["active"].clone();
    assert!(champion["updates"].as_u64() > Some(100));
    let launched = server.post("/policies", r#"{"action":"launch"}"#).json();
    assert_eq!(
        (&launched["active"]["policy"], &launched["active"]["model_version"]),
        (&json!("uniform"), &json!(2))
    );
    assert_eq!(launched["last_experiment"]["outcome"], "launched");
    assert_eq!(launched["can_roll_back_to"], json!(["lin-ts{draws=16}"]));
    // And back, after another kill.
    let server = killed_and_back(server);
    let back = server.post("/policies", r#"{"action":"roll_back"}"#).json();
    assert_eq!(back["active"]["policy"], "lin-ts{draws=16}");
    assert_eq!(back["active"]["updates"], champion["updates"]);
    assert_eq!(back["can_roll_back_to"], json!([]));
    let refused = server.post("/policies", r#"{"action":"roll_back"}"#);
    assert!(refused.status == 409 && refused.json()["detail"].as_str().unwrap().contains("could be undone"));
}

#[test]
fn a_policy_that_is_too_slow_gives_way_to_a_uniform_draw() {
    // No policy decides within 0 ms.
    let server = Server::start(&["--candidate", "2", "--policy", "lin-ucb", "--policy-timeout", "0"]);
    let mut client = server.connect();
    let mut chosen = [0i32; 2];
    for _ in 0..200 {
        let answer = client.post("/recommend", ASK).json();
        assert_eq!(
            (&answer["reason"], &answer["propensity"]),
            (&json!("fallback"), &json!(0.5)),
            "{answer}"
        );
        chosen[usize::from(answer["tip"]["id"] == "2")] += 1;
    }
    // 200 fair coins: sd 7.1, so 35 is 5 sd, false alarm 6e-7.
    assert!((chosen[0] - 100).abs() < 36, "{chosen:?}");
    assert_eq!(server.metric("oo_fallbacks_total"), 200.0);
}

#[test]
fn the_caller_decides_in_the_quiet_modes() {
    for (mode, learns) in [("apprentice", 1), ("log-only", 0)] {
        let server = Server::start(&["--candidate", "2", "--policy", "lin-ucb", "--mode", mode]);
        let answer = server.post("/recommend", ASK).json();
        assert_eq!(
            (&answer["tip"]["id"], &answer["reason"], &answer["propensity"]),
            (&json!("1"), &json!("baseline"), &json!(1.0))
        );
        let told = json!({"decision_id": answer["decision_id"], "reaction": "done", "dwell_ms": 30000}).to_string();
        let status = server.post("/feedback", &told).json()["status"].clone();
        assert_eq!(status, if learns == 1 { "learned" } else { "observed" });
        assert_eq!(server.get("/policies").json()["active"]["updates"], learns);
        let experiment = server.post("/policies", r#"{"action":"experiment","salt":"s","policy":"uniform"}"#);
        assert_eq!(
            experiment.status,
            409,
            "nobody would come into it: {}",
            experiment.text()
        );
        // Nothing was learned before the decision: the policy was torn between two equals, or took the first of them.
        assert!((0.5..=1.0).contains(&server.metric("oo_baseline_agreement")));
    }
}

/// Choices with their propensities, from ids that make the draws repeatable.
fn choices(n: usize) -> Vec<(usize, f64)> {
    let server = Server::start(&[
        "--candidate",
        "2",
        "--policy",
        "softmax",
        "--seed",
        "5",
        "--durability",
        "process",
    ]);
    let mut client = server.connect();
    (0..n)
        .map(|i| {
            let body = ASK.replace("\"candidates\"", &format!("\"decision_id\":\"d-{i}\",\"candidates\""));
            let answer = client.post("/recommend", &body).json();
            if i % 4 == 0 {
                let reward = f64::from(u8::from(answer["tip"]["id"] == "1"));
                let told = json!({"decision_id": answer["decision_id"], "reward": reward}).to_string();
                assert_eq!(client.post("/feedback", &told).status, 200);
            }
            let p = answer["ranking"]
                .as_array()
                .unwrap()
                .iter()
                .find(|r| r["id"] == "1")
                .unwrap();
            (
                usize::from(answer["tip"]["id"] == "2"),
                p["probability"].as_f64().unwrap(),
            )
        })
        .collect()
}

#[test]
fn draws_follow_the_propensities_and_repeat() {
    let first = choices(2000);
    assert_eq!(first, choices(2000), "the same seed gives the same bits");
    let expected: f64 = first.iter().map(|c| c.1).sum();
    let variance: f64 = first.iter().map(|c| c.1 * (1.0 - c.1)).sum();
    let seen = first.iter().filter(|c| c.0 == 0).count() as f64;
    // 4.9 sd: false alarm 1e-6.
    assert!((seen - expected).abs() < 4.9 * variance.sqrt(), "{seen} of {expected}");
}

#[test]
fn a_simulators_cell_is_replayed_bit_for_bit() {
    use oo_core::{ActionId, Batch, Candidates, Decision, Key, Log, Round, UserId, features};
    const SEED: u64 = 42;
    for spec in [
        "hierarchical{features=v3}",
        "lin-ts{features=v2}",
        "egreedy{epsilon=0.1,features=v1}+per-user",
    ] {
        let parsed = oo_core::Spec::parse(spec).unwrap();
        let mut policy = oo_policies::build(&parsed, &features::shape()).unwrap();
        let server = Server::start(&["--replay", "--seed", "42", "--policy", spec, "--durability", "process"]);
        let mut client = server.connect();
        // As the simulator's runner does it.
        let key = Key::root(SEED).name("policy").name(&parsed.to_string());
        let (mut decision, mut log) = (Decision::new(), Log::new());
        let mut draws = Key::root(1).draws();
        for index in 0..120u64 {
            let n = 2 + draws.below(6);
            let context: Vec<f32> = (0..9).map(|_| draws.normal() as f32).collect();
            let rows: Vec<f32> = (0..31 * n).map(|_| draws.normal() as f32).collect();
            let ids: Vec<ActionId> = (0..n as u64).map(|i| ActionId(i * 1000 + index % 3)).collect();
            let round = Round {
                index,
                user: UserId(index % 5),
                context: &context,
                candidates: Candidates {
                    ids: &ids,
                    features: &rows,
                    dim: 31,
                },
            };
            policy.decide(&round, key.fold(index), &mut decision).unwrap();
            let candidates: Vec<_> = ids
                .iter()
                .zip(rows.chunks(31))
                .map(|(id, row)| json!({"id": id.0, "features": row}))
                .collect();
            let body =
                json!({"user_id": index % 5, "decision_id": index, "context": context, "candidates": candidates});
            let answer = client.post("/recommend", &body.to_string()).json();
            let chosen = decision.chosen();
            assert_eq!(answer["tip"]["id"], ids[chosen].0.to_string(), "{spec}, round {index}");
            let bits = |v: &serde_json::Value| v.as_f64().unwrap().to_bits();
            assert_eq!(
                bits(&answer["propensity"]),
                decision.propensity().to_bits(),
                "{spec}, round {index}"
            );
            for ranked in answer["ranking"].as_array().unwrap() {
                let id: u64 = ranked["id"].as_str().unwrap().parse().unwrap();
                let i = ids.iter().position(|i| i.0 == id).unwrap();
                assert_eq!(bits(&ranked["probability"]), decision.probs()[i].to_bits());
                assert_eq!(bits(&ranked["score"]), decision.scores()[i].to_bits());
            }
            let reward = draws.normal();
            log.clear();
            let row = log.push(&round, &decision);
            log.settle(row, reward, None);
            policy.update(&Batch::new(&log, &[row])).unwrap();
            let told = json!({"decision_id": index, "reward": reward}).to_string();
            assert_eq!(client.post("/feedback", &told).json()["status"], "learned");
        }
    }
}
