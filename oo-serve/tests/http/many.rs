//! Many people over HTTP: what they take in memory, and how long a cold start takes.

use crate::client::{Client, Server};
use serde_json::Value;
use std::time::{Duration, Instant};

/// For estimates from everybody.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Kilobytes of a process: now, and at most so far.
fn resident(server: &Server) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let size = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (size("VmRSS:"), size("VmHWM:"))
}

fn decide(client: &mut Client, user: u64, round: u64) -> Value {
    let tasks = (0..3).map(|i| {
        format!(
            r#"{{"id":"task-{}","priority":{},"effort_minutes":{}}}"#,
            3 * round + i,
            1 + (user + i) % 4,
            5 + 40 * i
        )
    });
    let tasks: Vec<_> = tasks.collect();
    let body = format!(r#"{{"user_id":"user-{user}","candidates":[{}]}}"#, tasks.join(","));
    let reply = client.post("/recommend", &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn people(users: u64, each: u64) {
    const CLIENTS: u64 = 32;
    let mut server = Server::start(&[]);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for c in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.connect();
                for (user, round) in (c..users)
                    .step_by(CLIENTS as usize)
                    .flat_map(|u| (0..each).map(move |r| (u, r)))
                {
                    let decided = decide(&mut client, user, round);
                    let id = decided["decision_id"].as_str().unwrap();
                    let reaction = ["done", "dismiss", "helpful"][((user + round) % 3) as usize];
                    let body = format!(
                        r#"{{"decision_id":"{id}","reaction":"{reaction}","dwell_ms":9000,"feedback_id":"f-{id}"}}"#
                    );
                    let told = client.post("/feedback", &body);
                    assert_eq!(told.json()["status"], "learned", "{}", told.text());
                }
            });
        }
    });
    let took = begun.elapsed();
    assert_eq!(server.metric("oo_users") as u64, users);
    assert_eq!(server.metric("oo_feedbacks_total") as u64, users * each);
    let ((made, most), longest) = (resident(&server), server.metric("oo_engine_lock_longest_seconds"));
    server.signal("-KILL");
    server.wait();
    // A kill leaves the last snapshot and the records after it.
    let dir = std::mem::replace(&mut server.dir, tempfile::tempdir().unwrap());
    let begun = Instant::now();
    let mut server = Server::start_in(dir, &[]);
    let cold = begun.elapsed();
    let (opened, _) = resident(&server);
    let mut client = server.connect();
    for user in (0..users).step_by((users / 200).max(1) as usize) {
        assert!(!decide(&mut client, user, each)["propensity"].is_null());
    }
    // The last estimates may still be under way.
    while server.metric("oo_policy_works_aside") > 0.0 {
        assert!(begun.elapsed() < PATIENCE, "the policy does not come to an end");
        std::thread::sleep(Duration::from_millis(200));
    }
    let settled = begun.elapsed();
    let (after, again) = resident(&server);
    println!(
        "{users} users with {each} feedbacks in {:.0} s: {} MB, at most {} MB, longest hold of the lock {:.1} ms; cold start {:.2} s, \
         {} MB; its last estimate after {:.0} s, {} MB, at most {} MB",
        took.as_secs_f64(),
        made / 1024,
        most / 1024,
        longest * 1e3,
        cold.as_secs_f64(),
        opened / 1024,
        settled.as_secs_f64(),
        after / 1024,
        again / 1024
    );
    assert!(most.max(again) <= 256 * 1024, "more than 256 MB");
    server.signal("-TERM");
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn three_hundred_people() {
    people(300, 3);
}

#[test]
#[ignore = "minutes; figures in docs/reliability.md"]
fn a_hundred_thousand_people() {
    people(100_000, 3);
}
