//! Bad input: each a 4xx problem document that names the field, and nothing changes.

use crate::client::Server;
use oo_core::Key;
use oo_core::key::Draws;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn many(n: usize) -> String {
    let rows: Vec<String> = (0..n).map(|i| format!(r#"{{"id":{i}}}"#)).collect();
    format!(r#"{{"user_id":"u","candidates":[{}]}}"#, rows.join(","))
}

/// Every file under the state folder with its bytes, once all that was written is on the disk.
fn files(server: &Server) -> BTreeMap<PathBuf, Vec<u8>> {
    let settled = || {
        let journal = server.get("/health").json()["journal"].clone();
        journal["last"] == journal["durable"]
    };
    while !settled() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut found = BTreeMap::new();
    let mut folders = vec![server.dir.path().join("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(found.insert(path.clone(), std::fs::read(path).unwrap())),
            }
        }
    }
    found
}

#[test]
fn every_refusal_names_the_field_and_changes_nothing() {
    let server = Server::start(&["--body", "3000000"]);
    assert_eq!(
        server
            .post(
                "/recommend",
                r#"{"user_id":"u","decision_id":"known","candidates":[{"id":1}]}"#
            )
            .status,
        200
    );
    let before = files(&server);
    let deep = format!(r#"{{"user_id":"u","candidates":{}"#, "[".repeat(10_000));
    let long = format!(
        r#"{{"user_id":"u","candidates":[{{"id":"{}"}}]}}"#,
        "x".repeat(2_000_000)
    );
    let unknown = format!(r#"{{"{}":1}}"#, "x".repeat(1_000_000));
    let (crowd, future) = (
        many(10_000),
        r#"{"decision_id":"known","reaction":"done","at":"2999-01-01T00:00:00Z"}"#,
    );
    let table: &[(&str, &str, u16, &str)] = &[
        ("/recommend", "", 400, ""),
        ("/recommend", "{", 400, ""),
        ("/recommend", "[]", 422, "body"),
        ("/recommend", r#"["u",null,[{"id":"a"}],null,null]"#, 422, "body"),
        ("/recommend", "\u{0}", 400, ""),
        ("/recommend", r#"{"candidates":[{"id":1}]}"#, 422, "user_id"),
        (
            "/recommend",
            r#"{"user_id":null,"candidates":[{"id":1}]}"#,
            422,
            "user_id",
        ),
        (
            "/recommend",
            r#"{"user_id":"","candidates":[{"id":1}]}"#,
            422,
            "user_id",
        ),
        (
            "/recommend",
            r#"{"user_id":-1,"candidates":[{"id":1}]}"#,
            422,
            "user_id",
        ),
        (
            "/recommend",
            r#"{"user_id":"a\u0000b","candidates":[{"id":1}]}"#,
            422,
            "user_id",
        ),
        ("/recommend", r#"{"user_id":"u","candidates":[]}"#, 422, "candidates"),
        ("/recommend", r#"{"user_id":"u","candidates":{}}"#, 422, "candidates"),
        ("/recommend", r#"{"user_id":"u","candiates":[]}"#, 422, "candiates"),
        (
            "/recommend",
            r#"{"user_id":"u","user_id":"v","candidates":[{"id":1}]}"#,
            422,
            "user_id",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","candidates":[{"id":"a"},{"id":"b"},{"id":"a"}]}"#,
            422,
            "candidates[2].id",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","candidates":[{"id":1},{"id":"1"}]}"#,
            422,
            "candidates[1].id",
        ),
        ("/recommend", &crowd, 422, "candidates"),
        ("/recommend", &deep, 422, "candidates[0]"),
        ("/recommend", &long, 422, "candidates[0].id"),
        (
            "/recommend",
            r#"{"user_id":"u","candidates":[{"id":1,"effort_minutes":NaN}]}"#,
            400,
            "",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","candidates":[{"id":1,"effort_minutes":1e400}]}"#,
            422,
            "candidates[0].effort_minutes",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","candidates":[{"id":1,"effort_minutes":-5}]}"#,
            422,
            "candidates[0].effort_minutes",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","candidates":[{"id":1,"priority":9}]}"#,
            422,
            "candidates[0].priority",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","candidates":[{"id":1,"priority":"high"}]}"#,
            422,
            "candidates[0].priority",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","candidates":[{"id":1,"due":"tomorrow"}]}"#,
            422,
            "candidates[0].due",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","candidates":[{"id":1,"created":"2999-01-01"}]}"#,
            422,
            "candidates[0].created",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","candidates":[{"id":1,"features":[1,2]}]}"#,
            422,
            "candidates[0].features",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","context":[1],"candidates":[{"id":1}]}"#,
            422,
            "context",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","context":{"moon":1},"candidates":[{"id":1}]}"#,
            422,
            "context.moon",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","context":{"now":"25:00"},"candidates":[{"id":1}]}"#,
            422,
            "context.now",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","context":{"now":1700000000000,"now":1700000000000},"candidates":[{"id":1}]}"#,
            422,
            "context",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","context":{"profile":{"preferred_hour":99}},"candidates":[{"id":1}]}"#,
            422,
            "context.profile.preferred_hour",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","n":-1,"candidates":[{"id":1}]}"#,
            422,
            "n",
        ),
        (
            "/recommend",
            r#"{"user_id":"u","decision_id":"known","candidates":[{"id":2}]}"#,
            422,
            "decision_id",
        ),
        ("/recommend", r#"{"user_id":"nobody"}"#, 422, "candidates"),
        ("/score", r#"{"user_id":"u","candidates":[]}"#, 422, "candidates"),
        ("/feedback", r#"{"reaction":"done"}"#, 422, "decision_id"),
        ("/feedback", r#"{"decision_id":"known"}"#, 422, "reaction"),
        (
            "/feedback",
            r#"{"decision_id":"known","reaction":{"done":null}}"#,
            422,
            "reaction",
        ),
        (
            "/feedback",
            r#"{"decision_id":"known","reaction":"loved"}"#,
            422,
            "reaction",
        ),
        (
            "/feedback",
            r#"{"decision_id":"known","reaction":"done","dwell_ms":-1}"#,
            422,
            "dwell_ms",
        ),
        ("/feedback", r#"{"decision_id":"known","reward":1e300}"#, 422, "reward"),
        ("/feedback", r#"{"decision_id":"known","reward":1e400}"#, 422, "reward"),
        (
            "/feedback",
            r#"{"decision_id":"known","reward":1,"reaction":"done"}"#,
            422,
            "reward",
        ),
        (
            "/feedback",
            r#"{"decision_id":"nothing","reaction":"done"}"#,
            404,
            "decision_id",
        ),
        ("/feedback", r#"{"tip_id":"1","reaction":"done"}"#, 422, "user_id"),
        (
            "/feedback",
            r#"{"decision_id":"known","reward":1,"dwell_ms":5}"#,
            422,
            "dwell_ms",
        ),
        (
            "/feedback",
            r#"{"decision_id":"known","reward":1,"until":"2999-01-01"}"#,
            422,
            "until",
        ),
        (
            "/recommend?dry_run=1",
            r#"{"user_id":"u","candidates":[{"id":1}]}"#,
            422,
            "query",
        ),
        ("/recommend", &unknown, 422, "xxx"),
        (
            "/feedback",
            r#"{"tip_id":"1","user_id":"nobody","reaction":"done"}"#,
            404,
            "tip_id",
        ),
        (
            "/feedback",
            r#"{"tip_id":"9","user_id":"u","reaction":"done"}"#,
            404,
            "tip_id",
        ),
        ("/feedback", r#"{"decision_id":"known","reward":NaN}"#, 400, ""),
        ("/feedback", r#"{"decision_id":"known","reward":"1"}"#, 422, "reward"),
        ("/feedback", future, 422, "at"),
        (
            "/feedback",
            r#"{"decision_id":"known","user_id":"v","reaction":"done"}"#,
            422,
            "user_id",
        ),
        (
            "/feedback",
            r#"{"decision_id":"known","user_id":"u","tip_id":"2","reaction":"done"}"#,
            422,
            "tip_id",
        ),
        (
            "/policies",
            r#"{"action":"experiment","salt":"s","policy":"lin-ts","rule":"/dev/zero"}"#,
            422,
            "rule",
        ),
        (
            "/policies",
            r#"{"action":"experiment","salt":"s","policy":"lin-ts","rule":[]}"#,
            422,
            "rule",
        ),
        ("/assignments", r#"{"salt":"s","user_id":"u","arms":{}}"#, 422, "arms"),
        (
            "/assignments",
            r#"{"salt":"s","user_id":"u","arms":{"a":-1}}"#,
            422,
            "arms.a",
        ),
        ("/policies", r#"{"action":"dance"}"#, 422, "action"),
        ("/policies", r#"{"action":"promote","policy":"no-such"}"#, 422, "policy"),
        ("/policies", r#"{"action":"end_shadow","name":"none"}"#, 404, "name"),
        ("/policies", r#"{"action":"promote","name":"none"}"#, 404, "name"),
        ("/policies", r#"{"action":"stop","policy":"uniform"}"#, 422, "policy"),
        ("/policies", r#"{"action":"roll_back","name":"next"}"#, 422, "name"),
        (
            "/policies",
            r#"{"action":"promote","policy":"uniform","force":false}"#,
            422,
            "force",
        ),
        (
            "/policies",
            r#"{"action":"shadow","policy":"uniform","share":0.5}"#,
            422,
            "share",
        ),
        (
            "/policies",
            r#"{"action":"end_shadow","name":"none","salt":"s"}"#,
            422,
            "salt",
        ),
        ("/policies", r#"{"action":"launch","rule":{}}"#, 422, "rule"),
        ("/policies", r#"{"action":"launch","more":1}"#, 422, "more"),
        (
            "/policies",
            r#"{"action":"promote","policy":"runs/a/winner"}"#,
            422,
            "policy",
        ),
        (
            "/assignments",
            r#"{"salt":"s","user_id":"u","arms":{"a":1},"more":1}"#,
            422,
            "more",
        ),
        (
            "/feedback",
            r#"{"decision_id":"known","reward":1,"more":1}"#,
            422,
            "more",
        ),
        (
            "/score",
            r#"{"user_id":"u","candidates":[{"id":1,"features":[1,0],"more":1}]}"#,
            422,
            "candidates[0].more",
        ),
        (
            "/policies",
            r#"{"action":"experiment","salt":"s","policy":"uniform","share":2}"#,
            422,
            "share",
        ),
        ("/policies", r#"{"action":"launch"}"#, 409, ""),
        ("/policies", r#"{"action":"roll_back"}"#, 409, ""),
        ("/reset/nobody", "", 404, "user"),
    ];
    let mut client = server.connect();
    for (path, body, status, field) in table {
        let shown: String = body.chars().take(120).collect();
        let reply = client.ask("POST", path, "", body).unwrap();
        let problem = reply.json();
        assert_eq!(reply.status, *status, "{path} {shown}: {problem}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        let named = problem["field"].as_str().unwrap_or_default();
        let fits = if field.is_empty() {
            true
        } else {
            named.starts_with(field)
        };
        assert!(fits, "{path} {shown}: named `{named}`, expected `{field}`: {problem}");
        assert!(
            named.len() < 1200
                && problem["detail"].as_str().unwrap().len() < 1200
                && problem["type"].as_str().unwrap().starts_with("urn:oo:")
        );
    }
    let too_large = client.ask("POST", "/recommend", "", vec![b' '; 3_000_001]);
    assert!(too_large.is_err() || too_large.unwrap().status == 413);
    let bad_utf8 = server
        .connect()
        .ask("POST", "/recommend", "", b"{\"user_id\":\"\xff\xfe\"}")
        .unwrap();
    assert_eq!(bad_utf8.status / 100, 4);
    assert_eq!(server.get("/recommend").status, 405);
    assert_eq!(server.get("/nowhere").status, 404);
    for (method, path) in [
        ("GET", "/stats/nobody"),
        ("GET", "/features/nobody"),
        ("DELETE", "/users/nobody"),
    ] {
        let reply = server.connect().ask(method, path, "", "").unwrap();
        assert_eq!((reply.status, &reply.json()["field"]), (404, &"user".into()), "{path}");
    }
    for (method, path, status) in [
        ("GET", "/stats/%FF", 400),
        ("DELETE", "/users/%ff%fe", 400),
        ("DELETE", "/users/u?dry_run=1", 422),
        ("GET", "/policies?all", 422),
        // Probes and scrapers bring their own.
        ("GET", "/livez?exclude=all", 200),
    ] {
        let reply = server.connect().ask(method, path, "", "").unwrap();
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
    let known = r#"{"decision_id":"known","reaction":"done"}"#;
    for id in ["", "\"\"", "é"] {
        let header = format!("idempotency-key: {id}\r\n");
        let reply = server.connect().ask("POST", "/feedback", &header, known).unwrap();
        assert_eq!(
            (reply.status, &reply.json()["field"]),
            (422, &"idempotency-key".into()),
            "{id}"
        );
    }
    assert!(files(&server) == before, "something was written");
}

/// Bodies that work, to be spoilt.
const SEEDS: [(&str, &str); 8] = [
    (
        "/recommend",
        r#"{"user_id":"u2","candidates":[{"id":1,"features":[1,0.5]},{"id":2,"features":{"f1":-2e3,"f0":0}}]}"#,
    ),
    ("/policies", r#"{"action":"end_shadow","name":"nobody"}"#),
    (
        "/policies",
        r#"{"action":"experiment","salt":"s","policy":"nothing{a=1}","share":0.5,"enough":300,"force":false}"#,
    ),
    (
        "/recommend",
        r#"{"user_id":"u1","context":{"now":"2026-11-24T09:00:00+01:00","profile":{"preferred_hour":9}},"candidates":[{"id":"a","content":"x","priority":3,"created":"2026-11-01","due":"2026-11-25","effort_minutes":15.5},{"id":2,"kind":"task"}],"n":2}"#,
    ),
    (
        "/score",
        r#"{"user_id":17,"candidates":[{"id":"a","confidence":0.5},{"id":"b","shown_recently":1}]}"#,
    ),
    (
        "/feedback",
        r#"{"decision_id":"known","reaction":"done","dwell_ms":42000,"at":1790000000000,"feedback_id":"f"}"#,
    ),
    ("/feedback", r#"{"user_id":"u1","tip_id":"a","reward":-0.25}"#),
    (
        "/assignments",
        r#"{"salt":"s","user_id":"u","event":"e","arms":{"a":1,"b":2.5}}"#,
    ),
];

const PIECES: [&str; 24] = [
    "null",
    "true",
    "-0",
    "1e400",
    "-1e-400",
    "1e39",
    "NaN",
    "[]",
    "{}",
    "\"\"",
    "\"\\ud800\"",
    "\\u0000",
    "\"\\",
    "[[[[[[[[",
    "{\"a\":",
    ",",
    ":",
    "}",
    "]",
    "99999999999999999999",
    "0x1",
    "\u{feff}",
    "é\u{301}",
    "\"2026-02-30T99:99:99Z\"",
];

fn spoil(body: &str, draws: &mut Draws) -> Vec<u8> {
    let mut bytes = body.as_bytes().to_vec();
    for _ in 0..=draws.below(4) {
        let at = draws.below(bytes.len() + 1);
        match draws.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << draws.below(8),
            1 => drop(bytes.drain(at..(at + draws.below(20)).min(bytes.len()).max(at))),
            2 => drop(bytes.splice(at..at, PIECES[draws.below(PIECES.len())].bytes())),
            3 => {
                // A value gives way to another.
                let end = (at + draws.below(12)).min(bytes.len());
                drop(bytes.splice(at..end, PIECES[draws.below(PIECES.len())].bytes()));
            }
            4 => bytes.truncate(at),
            5 => {
                let from = draws.below(bytes.len() + 1);
                let piece = bytes[from..(from + 40).min(bytes.len())].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            _ => drop(bytes.splice(at..at, std::iter::repeat_n(b"[{\" "[draws.below(4)], draws.below(300)))),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// R9: bodies by turns to two servers, one with the features of tips and one with features of its own.
fn spoilt_bodies(seed: u64, n: usize) {
    let own = [
        "--durability",
        "process",
        "--candidate",
        "2",
        "--policy",
        "lin-ts{draws=8}",
    ];
    let servers = [Server::start(&own[..2]), Server::start(&own)];
    servers[0].post(
        "/recommend",
        r#"{"user_id":"u1","decision_id":"known","candidates":[{"id":"a"}]}"#,
    );
    let mut draws = Key::root(seed).draws();
    let mut clients = servers.each_ref().map(Server::connect);
    let mut classes = [0u64; 6];
    let memory = || {
        servers
            .each_ref()
            .map(|s| s.metric("process_resident_memory_bytes") / 1e6)
    };
    let mut course = Vec::new();
    for i in 0..n {
        let (path, body) = SEEDS[draws.below(SEEDS.len())];
        let body = spoil(body, &mut draws);
        let reply = clients[i % 2]
            .ask("POST", path, "", &body)
            .unwrap_or_else(|e| panic!("seed {seed}, body {i}: {e}: {path} {}", String::from_utf8_lossy(&body)));
        classes[usize::from(reply.status / 100).min(5)] += 1;
        assert!(
            reply.status < 500,
            "seed {seed}, body {i}: {} {path} {}",
            reply.status,
            String::from_utf8_lossy(&body)
        );
        if (i + 1) % (n / 4) == 0 {
            course.push(memory());
        }
    }
    println!(
        "R9: seed {seed}, {n} bodies: 2xx {}, 4xx {}, 5xx {}, memory of the two servers after each quarter {course:.1?} MB",
        classes[2], classes[4], classes[5]
    );
    for (i, server) in servers.iter().enumerate() {
        assert_eq!(server.metric("oo_panics_total"), 0.0);
        let grown = course[3][i] - course[0][i];
        // Some of the bodies are sound and are remembered: 300 bytes each at most.
        assert!(grown < 16.0 + classes[2] as f64 * 300e-6, "memory grew by {grown} MB");
    }
    assert!(classes[2] > 0 && classes[4] > classes[2], "{classes:?}");
}

#[test]
fn spoilt_bodies_never_panic() {
    spoilt_bodies(9, 20_000);
}

#[test]
#[ignore = "a million bodies: minutes"]
fn a_million_spoilt_bodies_never_panic() {
    spoilt_bodies(10, 1_000_000);
}
