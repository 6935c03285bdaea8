//! What the routes promise.

use crate::client::{Client, Server, command};
use serde_json::{Value, json};
use std::io::Write;

const TWO: &str = r#"{"user_id":"alice","decision_id":"d-1","candidates":[
    {"id":"t1","kind":"task","content":"Call the dentist","priority":3,"effort_minutes":5},
    {"id":"t2","content":"Write the report","priority":4,"effort_minutes":120,"due":"2020-01-01"}]}"#;

#[test]
fn a_decision_and_what_came_of_it() {
    let server = Server::start(&[]);
    let answer = server.post("/recommend", TWO);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(
        (&answer["decision_id"], &answer["reason"]),
        (&json!("d-1"), &json!("policy"))
    );
    assert_eq!(
        (&answer["policy"], &answer["updates"]),
        (&json!("hierarchical{features=v3}"), &json!(0))
    );
    let ranking = answer["ranking"].as_array().unwrap();
    let sum: f64 = ranking.iter().map(|r| r["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    let tip = answer["tip"]["id"].as_str().unwrap();
    let own = ranking.iter().find(|r| r["id"] == tip).unwrap();
    assert_eq!(own["probability"], answer["propensity"]);
    let content = if tip == "t1" {
        "Call the dentist"
    } else {
        "Write the report"
    };
    assert_eq!(answer["tip"]["content"], content);

    // The same again is the same, word for word but for the mark.
    let mut again = server.post("/recommend", TWO).json();
    assert_eq!(again["repeated"], true);
    again.as_object_mut().unwrap().remove("repeated");
    for field in [
        "tip",
        "decision_id",
        "propensity",
        "ranking",
        "policy",
        "model_version",
        "reason",
    ] {
        assert_eq!(again[field], answer[field], "{field}");
    }
    let other = server.post("/recommend", &TWO.replace("dentist", "doctor"));
    assert_eq!((other.status, &other.json()["field"]), (422, &json!("decision_id")));

    // Exactly once, whichever way the id comes.
    let body = r#"{"decision_id":"d-1","reaction":"done","dwell_ms":42000,"at":"2020-01-01T00:00:00Z"}"#;
    let mut client = server.connect();
    let mut give = |header: &str, body: &str| client.ask("POST", "/feedback", header, body).unwrap();
    let first = give("idempotency-key: f-1\r\n", body).json();
    assert_eq!((&first["status"], &first["reward"]), (&json!("learned"), &json!(1.0)));
    let second = give("x-ms-client-request-id: f-1\r\n", body).json();
    assert_eq!((&second["repeated"], &second["seq"]), (&json!(true), &first["seq"]));
    let third = give("", &body.replace("\"at\"", "\"feedback_id\":\"f-1\",\"at\"")).json();
    assert_eq!((&third["repeated"], &third["seq"]), (&json!(true), &first["seq"]));
    let conflict = give("idempotency-key: f-1\r\n", &body.replace("done", "dismiss"));
    assert_eq!(
        (conflict.status, &conflict.json()["field"]),
        (422, &json!("feedback_id"))
    );
    assert_eq!(give("", &body.replace("42000", "1")).json()["status"], "extra");

    // Read your feedback.
    let next = server.post("/recommend", &TWO.replace("d-1", "d-2")).json();
    assert_eq!(next["updates"], 1);
    let told = next["explanation"]["contributions"].as_array().unwrap();
    assert!(!told.is_empty() && told.len() <= 5, "{next}");

    let stats = server.get("/stats/alice").json();
    assert_eq!((&stats["decisions"], &stats["pulls"]), (&json!(2), &json!(1)));
    // What was told of the decision is what the weights make of its features.
    for part in told {
        let [value, contribution] = ["value", "contribution"].map(|key| part[key].as_f64().unwrap());
        let weight = stats["weights"][part["feature"].as_str().unwrap()].as_f64().unwrap();
        // The value is told with the digits of an f32.
        assert!((weight * value - contribution).abs() < 1e-6, "{part}: {weight}");
    }
    let features = server.get("/features/alice").json();
    assert_eq!(features["vectors"].as_array().unwrap().len(), 2);
    assert_eq!(
        features["vectors"][0]["features"].as_array().unwrap().len(),
        features["names"].as_array().unwrap().len()
    );
    let decision = server.get("/decisions/d-1").json();
    assert_eq!(
        (&decision["user_id"], &decision["tip"]["content"]),
        (&json!("alice"), &json!(content))
    );

    // By tip; then nothing is left of alice.
    let by_tip = json!({"user_id": "alice", "tip_id": next["tip"]["id"], "reward": 0.5}).to_string();
    assert_eq!(server.post("/feedback", &by_tip).json()["decision_id"], "d-2");
    assert_eq!(server.post("/reset/alice", "").status, 200);
    assert_eq!(server.get("/stats/alice").json()["pulls"], 0);
    assert_eq!(
        server.connect().ask("DELETE", "/users/alice", "", "").unwrap().status,
        200
    );
    assert_eq!(server.get("/stats/alice").status, 404);
}

/// Where actions have weights of their own, a person has none.
#[test]
fn a_fixed_set_of_actions_has_no_others() {
    let server = Server::start(&[
        "--context",
        "x",
        "--actions",
        "3",
        "--policy",
        "lin-ucb{model=disjoint}",
    ]);
    let ask = |id: &str| {
        let body = format!(r#"{{"user_id":"u","context":[1],"candidates":[{{"id":0}},{{"id":{id}}}]}}"#);
        server.post("/recommend", &body)
    };
    let sound = ask("2");
    assert_eq!(
        (sound.status, &sound.json()["reason"]),
        (200, &json!("policy")),
        "{}",
        sound.text()
    );
    let last = server.last();
    for id in ["3", r#""two""#] {
        let refused = ask(id);
        let field = &refused.json()["field"];
        assert_eq!(
            (refused.status, field),
            (422, &json!("candidates.id")),
            "{id}: {}",
            refused.text()
        );
    }
    assert_eq!(server.last(), last);
}

/// It would take the place of a body that a route wants.
#[test]
fn a_body_that_no_route_wants_is_not_waited_for() {
    let server = Server::start(&[]);
    for (path, status) in [("/nowhere", 404), ("/livez", 405)] {
        let mut client = server.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 70000\r\n\r\n",
            server.addr
        );
        client.stream().write_all(head.as_bytes()).unwrap();
        assert_eq!(client.read().unwrap().status, status);
    }
}

/// Whoever is turned away gets a whole problem document, and is counted.
#[test]
fn whoever_is_turned_away_is_told_and_counted() {
    let server = Server::start(&["--connections", "1"]);
    let mut first = server.connect();
    assert_eq!(first.ask("GET", "/livez", "", "").unwrap().status, 200);
    let away = server.connect().read().unwrap();
    let instance = away.json()["instance"].as_str().unwrap().to_string();
    assert!(
        away.status == 503 && instance.starts_with("urn:trace:") && instance.len() == 42,
        "{instance}"
    );
    let metrics = first.ask("GET", "/metrics", "", "").unwrap().text();
    assert!(metrics.contains("\noo_connections_refused_total 1\n"), "{metrics}");
    drop(first);
    // Bodies that are large have fewer places than requests.
    let server = Server::start(&[]);
    let head = format!(
        "POST /score HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 70002\r\n\r\n{}",
        server.addr,
        " ".repeat(70_000)
    );
    let mut clients: Vec<_> = (0..33).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.stream().write_all(head.as_bytes()).unwrap();
    }
    // Only whoever has no place is answered before the body has ended.
    let begun = std::time::Instant::now();
    while server.metric("oo_requests_shed_total") < 1.0 {
        assert!(begun.elapsed().as_secs() < 20, "nobody was turned away");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    for client in &mut clients {
        // The one that was turned away may have been closed.
        let _ = client.stream().write_all(b"{}");
    }
    let mut statuses: Vec<u16> = clients.iter_mut().map(|c| c.read().unwrap().status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[31], statuses[32]), (422, 429), "{statuses:?}");
    assert_eq!(server.metric("oo_requests_shed_total"), 1.0);
    assert_eq!(server.metric("oo_shed_seconds_count"), 1.0);
}

#[test]
fn weights_are_those_of_one_model() {
    for (policy, shared) in [
        ("lin-ucb", true),
        ("lin-ucb+per-user", true),
        ("lin-ucb{model=disjoint}", false),
    ] {
        let server = Server::start(&["--candidate", "2", "--policy", policy]);
        let body = r#"{"user_id":1,"decision_id":"d","candidates":[{"id":"0","features":[1,0]}]}"#;
        assert_eq!(server.post("/recommend", body).status, 200);
        let told = server.post("/feedback", r#"{"decision_id":"d","reaction":"done"}"#);
        assert_eq!(told.json()["status"], "learned");
        let weights = &server.get("/stats/1").json()["weights"];
        assert_eq!(
            weights["f0"].as_f64().map(|w| w > 0.1),
            shared.then_some(true),
            "{policy}: {weights}"
        );
    }
}

#[test]
fn scores_leave_no_trace() {
    let server = Server::start(&["--candidate", "2", "--policy", "lin-ucb{alpha=0}"]);
    let before = server.last();
    let body = r#"{"user_id":1,"candidates":[{"id":7,"features":[1,0]},{"id":8,"features":{"f1":1,"f0":0}}]}"#;
    let answer = server.post("/score", body).json();
    assert_eq!(
        (&answer["tip_id"], &answer["score"], &answer["policy"]),
        (&json!("7"), &json!(0.0), &json!("lin-ucb{alpha=0}"))
    );
    assert_eq!(server.last(), before);
    assert_eq!(server.get("/stats/1").status, 404);
}

#[test]
fn candidates_come_from_the_signal_source() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("bob.json"),
        r#"[{"id":"a","content":"Water the plants"}]"#,
    )
    .unwrap();
    let server = Server::start(&["--signals", dir.path().to_str().unwrap()]);
    let answer = server.post("/recommend", r#"{"user_id":"bob"}"#).json();
    assert_eq!(answer["tip"], json!({"id": "a", "content": "Water the plants"}));
    // Nothing to do is no mistake; a file that cannot be read is one, and says where.
    std::fs::write(dir.path().join("idle.json"), "[]").unwrap();
    let idle = server.post("/recommend", r#"{"user_id":"idle"}"#);
    assert_eq!(
        idle.json(),
        json!({"tip": null, "reason": "nothing_left", "suppressed": []})
    );
    // Faults of a file are not the caller's.
    for (text, fault) in [
        (r#"[{"id":"a"},{"id":"a"}]"#, "candidates[1].id: `a` stands there twice"),
        (r#"[{"id":"a","priority":9}]"#, "candidates[0].priority: "),
        (
            r#"{"profile":{"completion_rate_30d":1.5}}"#,
            "profile.completion_rate_30d: expected 0 to 1, got 1.5",
        ),
        (
            r#"{"candidates":[{"id":"a"}],"utc_offset_minutes":9999}"#,
            "utc_offset_minutes: expected -1440 to 1440",
        ),
    ] {
        std::fs::write(dir.path().join("wrong.json"), text).unwrap();
        let wrong = server.post("/recommend", r#"{"user_id":"wrong"}"#);
        let told = wrong.json()["detail"].as_str().unwrap().to_string();
        assert!(wrong.status == 503 && told.contains(fault), "{text}: {told}");
        let scored = server.post("/score", r#"{"user_id":"wrong"}"#);
        assert_eq!(scored.status, 503, "{}", scored.text());
    }
    // A person's profile and clock count also for the caller's candidates.
    let about = r#"{"profile":{"completion_rate_30d":0.875},"utc_offset_minutes":540}"#;
    std::fs::write(dir.path().join("zoe.json"), about).unwrap();
    let context = |user: &str| {
        let ask = format!(r#"{{"user_id":"{user}","candidates":[{{"id":"a"}}]}}"#);
        let decided = server.post("/recommend", &ask).json();
        let logged = server.get(&format!("/decisions/{}", decided["decision_id"].as_str().unwrap()));
        logged.json()["context"].clone()
    };
    let (zoe, other) = (context("zoe"), context("somebody"));
    assert!(zoe.to_string().contains("0.875"), "{zoe}");
    // It is nine hours later where she is.
    assert_ne!(zoe[0], other[0], "{zoe} {other}");
    std::fs::write(dir.path().join("odd.json"), r#"[{"id":"a","contents":"x"}]"#).unwrap();
    let odd = server.post("/recommend", r#"{"user_id":"odd"}"#);
    let told = odd.json()["detail"].as_str().unwrap().to_string();
    assert!(
        odd.status == 503 && told.contains("odd.json: unknown field `contents`"),
        "{told}"
    );
    let stranger = server.post("/recommend", r#"{"user_id":"../bob"}"#);
    assert_eq!((stranger.status, &stranger.json()["field"]), (404, &json!("user_id")));
    let without = Server::start(&[]).post("/recommend", r#"{"user_id":"bob"}"#);
    assert_eq!((without.status, &without.json()["field"]), (422, &json!("candidates")));
}

/// What was answered stays the answer, whatever the source knows by now.
#[test]
fn a_request_without_candidates_can_be_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bob.json");
    std::fs::write(&file, r#"[{"id":"a","content":"Water the plants"}]"#).unwrap();
    let server = Server::start(&["--signals", dir.path().to_str().unwrap()]);
    let ask = |body: &str| server.post("/recommend", body);
    let named = r#"{"user_id":"bob","decision_id":"d"}"#;
    let first = ask(named).json();
    for gone in ["[]", "nonsense", ""] {
        match gone {
            "" => std::fs::remove_file(&file).unwrap(),
            text => std::fs::write(&file, text).unwrap(),
        }
        let again = ask(named);
        assert_eq!(again.status, 200, "{gone}: {}", again.text());
        let again = again.json();
        assert_eq!((&again["repeated"], &again["tip"]), (&json!(true), &first["tip"]));
        let other = ask(r#"{"user_id":"eve","decision_id":"d"}"#);
        assert_eq!((other.status, &other.json()["field"]), (422, &json!("decision_id")));
    }
    assert_eq!(ask(r#"{"user_id":"bob","decision_id":"e"}"#).status, 404);
}

#[test]
fn the_document_has_every_route_and_the_page_needs_nobody_else() {
    let server = Server::start(&[]);
    let document = server.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    for path in [
        "/recommend",
        "/score",
        "/feedback",
        "/decisions/{id}",
        "/features/{user}",
        "/stats/{user}",
        "/reset/{user}",
        "/users/{user}",
        "/policies",
        "/assignments",
        "/livez",
        "/readyz",
        "/health",
        "/metrics",
    ] {
        assert!(paths.iter().any(|p| *p == path), "{path} is not in the document");
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    // What the guards before every handler answer is said of every handler.
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let said = |status: &str| operation["responses"][status].is_object();
            for status in ["200", "400", "403", "500", "503"] {
                assert!(said(status), "{method} {path}: {status}");
            }
            assert_eq!(said("401"), operation["security"].is_array(), "{method} {path}");
            for status in ["408", "413", "415"] {
                assert_eq!(said(status), method == "post", "{method} {path}: {status}");
            }
            // Whatever writes may find no disk.
            let writes = ["/recommend", "/feedback", "/reset/{user}", "/users/{user}", "/policies"];
            let writes = writes.contains(&path.as_str()) && method != "get";
            assert_eq!(said("507"), writes, "{method} {path}");
        }
    }
    assert_eq!(
        document["components"]["schemas"]["Ranked"]["properties"]["score"]["type"],
        json!(["number", "null"])
    );
    // Every form that is read is said.
    let schema = |name: &str| &document["components"]["schemas"][name];
    for name in ["Id", "When"] {
        assert_eq!(schema(name)["type"], json!(["string", "integer"]), "{name}");
    }
    for (name, forms) in [
        ("Context", ["array", "object"]),
        ("Features", ["array", "object"]),
        ("RuleGiven", ["object", "string"]),
    ] {
        let said: Vec<&Value> = schema(name)["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| &s["type"])
            .collect();
        assert_eq!(said, forms.each_ref(), "{name}");
    }
    assert_eq!(schema("AssignmentRequest")["properties"]["event"]["type"], "string");
    let headers = document["paths"]["/feedback"]["post"]["parameters"].as_array().unwrap();
    assert!(
        headers.iter().any(|h| h["name"] == "x-ms-client-request-id"),
        "{headers:?}"
    );
    // Nothing left to show is an answer of its own.
    let schema = &document["components"]["schemas"]["NothingLeft"];
    assert_eq!(schema["required"], json!(["tip", "reason", "suppressed"]));
    // An answer is one of the two.
    assert_eq!(schema["properties"]["tip"]["type"], "null");
    assert_eq!(
        document["components"]["schemas"]["Recommended"]["oneOf"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let page = server.get("/");
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    assert!(!page.text().contains("http://") && !page.text().contains("https://"));
    // The examples work as they stand.
    for (path, route) in [
        ("RecommendRequest", "/recommend"),
        ("AssignmentRequest", "/assignments"),
    ] {
        let example = &document["components"]["schemas"][path]["example"];
        assert_eq!(server.post(route, &example.to_string()).status, 200, "{example}");
    }
}

/// A client that sends its head first and its body later gets the refusal, and goes on on the same connection.
#[test]
fn whoever_is_refused_early_is_heard_out() {
    let server = Server::start(&["--body", "100000"]);
    let body = vec![b' '; 3_000_000];
    for (path, kind, length, status) in [
        ("/recommend", "text/plain", 40, 415),
        ("/nowhere", "application/json", 40, 404),
        ("/livez", "application/json", 40, 405),
        ("/recommend?x=1", "application/json", 40, 422),
        ("/recommend", "application/json", body.len(), 413),
    ] {
        let mut client = server.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n",
            server.addr
        );
        client.stream().write_all(head.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        client.stream().write_all(&body[..length]).unwrap();
        let refused = client.read().unwrap();
        assert_eq!(refused.status, status, "{path}");
        assert_eq!(refused.json()["status"], status, "{path}");
        let next = client.ask("GET", "/livez", "", "").unwrap();
        assert_eq!(next.status, 200, "{path}");
    }
    // Whoever asks before sending is not told to.
    let mut client = server.connect();
    let head = format!(
        "POST /recommend HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 3000000\r\nexpect: \
         100-continue\r\n\r\n",
        server.addr
    );
    client.stream().write_all(head.as_bytes()).unwrap();
    assert_eq!(client.read().unwrap().status, 413);
}

#[test]
fn assignments_are_those_of_the_page() {
    let server = Server::start(&[]);
    let body = r#"{"salt":"exp-1","user_id":"bob","arms":{"control":1,"challenger":1,"third":1}}"#;
    let answer = server.post("/assignments", body).json();
    assert_eq!(answer["arm"], "third");
    assert!((answer["probability"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12);
}

#[test]
fn keys_open_what_their_roles_say_and_are_replaced_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let old = "decide app-old 0123456789abcdef-old\n";
    std::fs::write(
        &file,
        format!("{old}read looker 0123456789abcdef-look\nadmin ops 0123456789abcdef-ops\n"),
    )
    .unwrap();
    let server = Server::start(&["--keys", file.to_str().unwrap()]);
    let ask = |secret: &str, method: &str, path: &str, body: &str| {
        let header = if secret.is_empty() {
            String::new()
        } else {
            format!("authorization: Bearer 0123456789abcdef-{secret}\r\n")
        };
        server.connect().ask(method, path, &header, body).unwrap().status
    };
    assert_eq!(ask("", "POST", "/recommend", TWO), 401);
    assert_eq!(ask("wrong", "POST", "/recommend", TWO), 401);
    assert_eq!(ask("look", "POST", "/recommend", TWO), 403);
    assert_eq!(ask("old", "POST", "/recommend", TWO), 200);
    assert_eq!(ask("old", "GET", "/stats/alice", ""), 403);
    assert_eq!(ask("look", "GET", "/stats/alice", ""), 200);
    assert_eq!(ask("look", "DELETE", "/users/alice", ""), 403);
    assert_eq!(ask("ops", "DELETE", "/users/alice", ""), 200);
    assert_eq!(ask("", "GET", "/livez", ""), 200);
    assert_eq!(ask("", "GET", "/metrics", ""), 401);
    let reread = |text: &str, secret: &str, want: u16| {
        std::fs::write(&file, text).unwrap();
        server.signal("-HUP");
        let seen = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            ask(secret, "POST", "/score", r#"{"user_id":1,"candidates":[{"id":1}]}"#) == want
        });
        assert!(seen, "{secret} never got {want}");
    };
    reread(&format!("{old}decide app-new 0123456789abcdef-new\n"), "new", 200);
    assert_eq!(ask("old", "POST", "/recommend", TWO), 200);
    reread("decide app-new 0123456789abcdef-new\n", "old", 401);
    assert_eq!(ask("new", "POST", "/recommend", TWO), 200);
    // A file that cannot be used changes nothing.
    std::fs::write(&file, "nonsense").unwrap();
    server.signal("-HUP");
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(ask("new", "POST", "/recommend", TWO), 200);
}

#[test]
fn refuses_to_start_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("s");
    let refused = |args: &[&str]| {
        let out = command().args(args).arg("--state").arg(&state).output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    for (args, want) in [
        (&["--listen", "0.0.0.0:0"][..], "there are no keys"),
        (&["--policy", "lin-usb"], "did you mean `lin-ucb`"),
        (&["--reward", "r7"], "unknown reward spec"),
        (&["--keys", "/nonexistent"], "cannot read the keys"),
        (&["--signals", "/nonexistent"], "is no folder"),
        (&["--concurrency", "0"], "expected 1 to"),
        (&["--config", "/nonexistent"], "cannot read /nonexistent"),
        (&["--policy", dir.path().to_str().unwrap()], "policy.json"),
    ] {
        let (code, said) = refused(args);
        assert!(code == Some(2) && said.contains(want), "{args:?}: {code:?} {said}");
    }
    let server = Server::start(&[]);
    let taken = server.addr.to_string();
    let (code, said) = refused(&["--listen", &taken]);
    assert!(code == Some(1) && said.contains(&taken), "{said}");
    let state = server.dir.path().join("state");
    let out = command()
        .args(["--listen", "127.0.0.1:0", "--state"])
        .arg(&state)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("in use by another oo-serve"));
}

#[test]
fn pages_of_strangers_are_refused_without_keys() {
    let server = Server::start(&[]);
    let ask = |head: &str| {
        use std::io::Write;
        let mut client = Client::connect(server.addr).unwrap();
        write!(
            client.stream(),
            "POST /reset/x HTTP/1.1\r\n{head}content-length: 0\r\n\r\n"
        )
        .unwrap();
        client.read().unwrap().status
    };
    let json = "content-type: application/json\r\n";
    assert_eq!(
        ask(&format!("host: localhost\r\norigin: http://evil.example\r\n{json}")),
        403
    );
    assert_eq!(ask(&format!("host: evil.example\r\n{json}")), 403);
    assert_eq!(ask(json), 400, "HTTP/1.1 wants to know whom it is for");
    assert_eq!(ask(&format!("host: localhost\r\nhost: evil.example\r\n{json}")), 400);
    assert_eq!(ask("host: localhost\r\ncontent-type: text/plain\r\n"), 415);
    assert_eq!(
        ask(&format!("host: localhost:1\r\norigin: http://localhost:1\r\n{json}")),
        404
    );
    let Value::Object(_) = server.get("/health").json() else {
        panic!()
    };
}
