//! What the server knows of people by itself: profiles, worn tips, tips that do not come back.

use crate::client::Server;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const TASKS: &str = r#"[{"id":"a","content":"Call","priority":4},{"id":"b","priority":2},{"id":"c"}]"#;

fn recommend(server: &Server, user: &str, candidates: &str) -> Value {
    let reply = server.post(
        "/recommend",
        &format!(r#"{{"user_id":"{user}","candidates":{candidates}}}"#),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn feedback(server: &Server, body: Value) -> Value {
    let reply = server.post("/feedback", &body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// The context feature of this name in the user's latest vector.
fn feature(server: &Server, user: &str, name: &str) -> f64 {
    let known = server.get(&format!("/features/{user}")).json();
    let at = known["names"]
        .as_array()
        .unwrap()
        .iter()
        .position(|n| n == name)
        .unwrap();
    known["vectors"][0]["features"][at].as_f64().unwrap()
}

#[test]
fn a_profile_comes_from_the_journal() {
    let server = Server::start(&["--suppress", "off"]);
    let first = recommend(&server, "anna", TASKS);
    assert_eq!(first.get("profile_age_ms"), None, "{first}");
    let id = first["decision_id"].as_str().unwrap();
    feedback(
        &server,
        json!({"decision_id": id, "reaction": "done", "dwell_ms": 300_000}),
    );
    let stats = server.get("/stats/anna").json();
    let profile = &stats["profile"];
    assert_eq!(
        (&profile["completion_rate_30d"], &profile["fresh"]),
        (&json!(1.0), &json!(true)),
        "{stats}"
    );
    assert_eq!(
        (&profile["mean_dwell_ms_30d"], &profile["tip_volume_30d"]),
        (&json!(300_000.0), &json!(1.0))
    );
    assert!(profile["age_ms"].as_u64().unwrap() < 60_000 && profile["as_of"].as_u64().unwrap() > 1_700_000_000_000);
    let second = recommend(&server, "anna", r#"[{"id":"a"},{"id":"b"},{"id":"c"}]"#);
    assert!(second["profile_age_ms"].as_u64().is_some(), "{second}");
    assert_eq!(feature(&server, "anna", "completion_rate_30d"), 1.0);
    assert_eq!(feature(&server, "anna", "mean_dwell_30d"), 0.5);
    // The caller's word goes first, number by number.
    let own = r#"{"user_id":"anna","candidates":[{"id":"a","shown_recently":0}],"context":{"profile":{"completion_rate_30d":0.25}}}"#;
    assert_eq!(server.post("/recommend", own).status, 200);
    assert_eq!(feature(&server, "anna", "completion_rate_30d"), 0.25);
    assert_eq!(feature(&server, "anna", "mean_dwell_30d"), 0.5);
    assert_eq!(feature(&server, "anna", "recently_shown"), 0.0);
    // Each tip wears with each showing: a third of a unit, faded by less than a minute.
    let known = server.get("/features/anna").json();
    let worn: f64 = known["tips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["shown_recently"].as_f64().unwrap())
        .sum();
    assert!((2.99..=3.0).contains(&worn), "{known}");
    assert_eq!(
        (&known["vectors"][2]["tip_id"], &known["profile"]["tip_volume_30d"]),
        (&first["tip"]["id"], &json!(3.0))
    );
    recommend(&server, "anna", r#"[{"id":"a"}]"#);
    let shown = feature(&server, "anna", "recently_shown");
    let before = known["tips"]
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["tip_id"] == "a")
        .unwrap()["shown_recently"]
        .as_f64();
    assert!((shown - before.unwrap() / 3.0).abs() < 1e-3, "{shown} {before:?}");
    // Nobody else has any of it, and reset removes it.
    recommend(&server, "bob", TASKS);
    assert_eq!(feature(&server, "bob", "completion_rate_30d"), 0.0);
    assert_eq!(server.post("/reset/anna", "{}").status, 200);
    assert_eq!(server.get("/stats/anna").json()["profile"], Value::Null);
    recommend(&server, "anna", TASKS);
    assert_eq!(feature(&server, "anna", "mean_dwell_30d"), 0.0);
}

/// Done, dismissed and snoozed tips stay away, the probabilities of the others sum to 1, and a snoozed one comes back.
#[test]
fn done_items_do_not_come_back() {
    let mut server = Server::start(&["--suppress", "snooze=2s"]);
    let mut told = Vec::new();
    for reaction in ["snooze", "done", "dismiss"] {
        let answer = recommend(&server, "anna", TASKS);
        let ranking = answer["ranking"].as_array().unwrap();
        let sum: f64 = ranking.iter().map(|r| r["probability"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9 && ranking.len() == 3 - told.len(), "{answer}");
        let tip = answer["tip"]["id"].as_str().unwrap().to_string();
        assert!(told.iter().all(|(t, _)| *t != tip), "{answer}");
        let id = answer["decision_id"].as_str().unwrap();
        assert_eq!(
            server.get(&format!("/decisions/{id}")).json()["suppressed"]
                .as_array()
                .unwrap()
                .len(),
            told.len()
        );
        feedback(&server, json!({"decision_id": id, "reaction": reaction}));
        told.push((tip, reaction));
    }
    let begun = Instant::now();
    let none = recommend(&server, "anna", TASKS);
    if begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(
            (&none["tip"], &none["reason"]),
            (&Value::Null, &json!("nothing_left")),
            "{none}"
        );
        let kept = none["suppressed"].as_array().unwrap();
        for (tip, reaction) in &told {
            let found = kept.iter().find(|s| s["id"] == **tip).unwrap();
            assert_eq!(
                (&found["reason"], found["until"].is_null()),
                (&json!(reaction), *reaction != "snooze")
            );
        }
        let score = server
            .post("/score", &format!(r#"{{"user_id":"anna","candidates":{TASKS}}}"#))
            .json();
        assert_eq!(
            (&score["tip_id"], &score["reason"]),
            (&Value::Null, &json!("nothing_left"))
        );
    }
    // What is kept away is checked all the same.
    let bad = TASKS.replace("\"c\"", "\"c\",\"priority\":9");
    let refused = server.post("/recommend", &format!(r#"{{"user_id":"anna","candidates":{bad}}}"#));
    assert_eq!(
        (refused.status, &refused.json()["field"]),
        (422, &json!("candidates[2].priority"))
    );
    std::thread::sleep(Duration::from_millis(2100));
    let back = recommend(&server, "anna", TASKS);
    assert_eq!(
        (&back["tip"]["id"], &back["propensity"]),
        (&json!(told[0].0), &json!(1.0)),
        "{back}"
    );
    assert_eq!(recommend(&server, "bob", TASKS)["ranking"].as_array().unwrap().len(), 3);
    // Over a restart.
    let id = back["decision_id"].as_str().unwrap().to_string();
    feedback(
        &server,
        json!({"decision_id": id, "reaction": "snooze", "until": "2999-01-01T00:00:00Z"}),
    );
    server.signal("-TERM");
    assert_eq!(server.wait().0, Some(0));
    let dir = std::mem::replace(&mut server.dir, tempfile::tempdir().unwrap());
    drop(server);
    let server = Server::start_in(dir, &["--suppress", "snooze=1s"]);
    let none = recommend(&server, "anna", TASKS);
    assert_eq!(
        (&none["tip"], none["suppressed"].as_array().unwrap().len()),
        (&Value::Null, 3),
        "{none}"
    );
    let seen = server.get("/features/anna").json();
    assert!(
        seen["tips"]
            .as_array()
            .unwrap()
            .iter()
            .all(|t| !t["suppressed"].is_null()),
        "{seen}"
    );
    server.post("/reset/anna", "{}");
    assert_eq!(
        recommend(&server, "anna", TASKS)["ranking"].as_array().unwrap().len(),
        3
    );
}

/// A request that is sent again gets the answer that it got, whatever the person said meanwhile.
#[test]
fn the_same_request_gets_the_same_tip() {
    let server = Server::start(&[]);
    let body = r#"{"user_id":"anna","decision_id":"d","candidates":[{"id":"only"}]}"#;
    let first = server.post("/recommend", body).json();
    feedback(&server, json!({"decision_id": "d", "reaction": "done"}));
    let again = server.post("/recommend", body).json();
    assert_eq!(
        (&again["tip"], &again["repeated"]),
        (&first["tip"], &json!(true)),
        "{again}"
    );
    let other = server.post("/recommend", &body.replace("only", "other"));
    assert_eq!(other.status, 422, "{}", other.text());
    let none = server.post("/recommend", &body.replace("\"d\"", "\"e\"")).json();
    assert_eq!(none["tip"], Value::Null);
    assert_eq!(server.get("/decisions/e").status, 404, "nothing was decided");
}

/// Arms come back: with features of the caller's nothing is kept away unless that is wanted.
#[test]
fn what_is_not_asked_for_is_not_done() {
    let server = Server::start(&["--candidate", "2", "--policy", "lin-ucb"]);
    let body = r#"{"user_id":"anna","candidates":[{"id":"x","features":[1,2]}]}"#;
    for _ in 0..2 {
        let answer = server.post("/recommend", body).json();
        assert_eq!(answer["tip"]["id"], "x", "{answer}");
        feedback(
            &server,
            json!({"decision_id": answer["decision_id"], "reaction": "done"}),
        );
    }
    assert_eq!(server.get("/stats/anna").json()["profile"], Value::Null);
    drop(server);
    let server = Server::start(&["--candidate", "2", "--policy", "lin-ucb", "--suppress", "done=ever"]);
    let answer = server.post("/recommend", body).json();
    feedback(
        &server,
        json!({"decision_id": answer["decision_id"], "reaction": "done"}),
    );
    assert_eq!(server.post("/recommend", body).json()["tip"], Value::Null);
    // Who decides elsewhere has decided.
    let server = Server::start(&["--mode", "apprentice"]);
    for _ in 0..2 {
        let answer = recommend(&server, "anna", TASKS);
        assert_eq!(answer["tip"]["id"], "a");
        feedback(
            &server,
            json!({"decision_id": answer["decision_id"], "reaction": "done"}),
        );
    }
}

#[test]
fn feedbacks_are_joined() {
    let server = Server::start(&["--join", "sum", "--wait", "2", "--policy", "lin-ucb{features=v3}"]);
    let answer = recommend(&server, "anna", TASKS);
    let id = answer["decision_id"].as_str().unwrap();
    for i in 0..3 {
        let told = feedback(
            &server,
            json!({"decision_id": id, "reward": 0.5, "feedback_id": format!("f{i}")}),
        );
        assert_eq!(told["status"], "joined", "{told}");
    }
    assert_eq!(server.get("/stats/anna").json()["pulls"], 0);
    let begun = Instant::now();
    while server.get("/stats/anna").json()["pulls"] == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(server.get("/stats/anna").json()["cumulative_reward"], 1.5);
    assert_eq!(
        (
            server.metric("oo_feedbacks_joined_total"),
            server.metric("oo_joined_rewards_total")
        ),
        (3.0, 1.0)
    );
}

/// All bytes of a folder's files.
fn all_files(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.path().is_dir() {
            true => all.extend(all_files(&entry.path())),
            // One that goes while this reads.
            false => all.extend(std::fs::read(entry.path()).unwrap_or_default()),
        }
    }
    all
}

#[test]
fn whoever_is_forgotten_is_gone_at_once_and_from_the_files_whatever_happens() {
    let mut server = Server::start(&[]);
    let ask =
        r#"{"user_id":"gone","decision_id":"theirs","candidates":[{"id":"t","content":"the secret text"},{"id":"o"}]}"#;
    assert_eq!(server.post("/recommend", ask).status, 200);
    let made = recommend(&server, "gone", TASKS)["decision_id"]
        .as_str()
        .unwrap()
        .to_string();
    let told = json!({"decision_id": "theirs", "reaction": "helpful", "feedback_id": "f"});
    feedback(&server, told);
    assert!(String::from_utf8_lossy(&all_files(server.dir.path())).contains("the secret text"));
    assert_eq!(
        server.connect().ask("DELETE", "/users/gone", "", "").unwrap().status,
        200
    );
    for id in ["theirs", made.as_str()] {
        assert_eq!(server.get(&format!("/decisions/{id}")).status, 404, "{id}");
    }
    // The records may still be there when the power goes.
    server.signal("-KILL");
    server.wait();
    let dir = std::mem::replace(&mut server.dir, tempfile::tempdir().unwrap());
    let server = Server::start_in(dir, &[]);
    let begun = Instant::now();
    while String::from_utf8_lossy(&all_files(server.dir.path())).contains("the secret text") {
        assert!(begun.elapsed() < Duration::from_secs(20), "the files still hold it");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.get("/decisions/theirs").status, 404);
}

#[test]
fn a_reset_needs_no_body() {
    let server = Server::start(&[]);
    recommend(&server, "u", TASKS);
    let mut client = server.connect();
    let bare = "POST /reset/u HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    client.stream().write_all(bare.as_bytes()).unwrap();
    assert_eq!(client.read().unwrap().status, 200);
    assert_eq!(client.post("/reset/u", "").status, 200);
    assert_eq!(client.post("/reset/u", "{}").status, 200);
    assert_eq!(client.post("/reset/u", "garbage").status, 400);
    assert_eq!(client.post("/reset/u", r#"{"user":"v"}"#).json()["field"], "user");
    let form = "POST /reset/u HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}";
    client.stream().write_all(form.as_bytes()).unwrap();
    assert_eq!(client.read().unwrap().status, 415);
}

/// What is not asked for is not told.
#[test]
fn without_days_there_is_no_profile() {
    let server = Server::start(&["--profile-days", "0"]);
    let ask = r#"{"user_id":"anna","decision_id":"d","candidates":[{"id":"a"}]}"#;
    assert_eq!(server.post("/recommend", ask).status, 200);
    let done = r#"{"decision_id":"d","reaction":"done","dwell_ms":5000}"#;
    assert_eq!(server.post("/feedback", done).status, 200);
    assert_eq!(server.get("/stats/anna").json()["profile"], serde_json::Value::Null);
    let features = server.get("/features/anna").json();
    assert_eq!(features["profile"], serde_json::Value::Null);
    assert_eq!(features["tips"][0]["shown_recently"], serde_json::Value::Null);
    assert_eq!(features["tips"][0]["suppressed"]["reason"], "done");
}
