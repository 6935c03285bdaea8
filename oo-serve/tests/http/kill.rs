//! R1 of the serving facts, over HTTP: the program is killed under load, again and again; what was not acknowledged is
//! sent again with the same ids. The checker believes nobody but the clients' own log and `oo-serve inspect`.
//!
//! The full size: `cargo test --release -p oo-serve --test http -- --ignored --nocapture kills`, with `OO_SEED`,
//! `OO_KILLS`, `OO_FEEDBACKS` and `OO_POLICY` for another run or a longer one.

use crate::client::{Client, inspect, launch};
use oo_core::Key;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: u64 = 16;
const USERS: u64 = 50;

/// What the clients share.
#[derive(Default)]
struct Load {
    /// Where the server is now; a new one has a new port.
    addr: Mutex<Option<SocketAddr>>,
    acked: AtomicU64,
    stop: AtomicBool,
}

/// A client's own log: the feedbacks that were acknowledged, with their rewards.
type Acked = Vec<(String, f64)>;

impl Load {
    /// Decides and gives feedback until told to stop, through any number of deaths of the server.
    fn client(&self, c: u64) -> Acked {
        let mut line: Option<Client> = None;
        let mut acked = Vec::new();
        for n in 0u64.. {
            let mut draws = Key::root(c).fold(n).draws();
            let candidates: Vec<Value> = (0..4)
                .map(|i| json!({"id": (n + i) % 40, "features": [draws.uniform(), draws.uniform(), draws.uniform()]}))
                .collect();
            let (decision, feedback) = (format!("d{c}-{n}"), format!("f{c}-{n}"));
            let ask =
                json!({"user_id": format!("u{}", (c + n) % USERS), "decision_id": decision, "candidates": candidates});
            let dwell = draws.below(700_000);
            let tell = json!({"decision_id": decision, "feedback_id": feedback, "reaction": "done", "dwell_ms": dwell});
            let steps = [("/recommend", ask.to_string()), ("/feedback", tell.to_string())];
            let mut step = 0;
            while step < 2 {
                if self.stop.load(Ordering::Relaxed) {
                    return acked;
                }
                if line.is_none() {
                    let addr = *self.addr.lock().unwrap();
                    line = addr.and_then(|a| Client::connect(a).ok());
                }
                let (path, body) = &steps[step];
                let reply = line.as_mut().and_then(|l| l.ask("POST", path, "", body).ok());
                match reply.as_ref().map(|r| r.status) {
                    Some(200) if step == 0 => step = 1,
                    Some(200) => {
                        let told = reply.unwrap().json();
                        assert_eq!(told["status"], "learned", "{told}");
                        acked.push((feedback.clone(), told["reward"].as_f64().unwrap()));
                        self.acked.fetch_add(1, Ordering::Relaxed);
                        step = 2;
                    }
                    // The decision was still in memory when the server died.
                    Some(404) if step == 1 => step = 0,
                    Some(503) => std::thread::sleep(Duration::from_millis(20)),
                    Some(other) => panic!("{other} to {body}: {}", reply.unwrap().text()),
                    None => {
                        line = None;
                        std::thread::sleep(Duration::from_millis(3));
                    }
                }
            }
        }
        acked
    }
}

fn torture(policy: &str, seed: u64, kills: u64, feedbacks: u64, snapshot_every: u64) {
    println!("R1 over HTTP: policy {policy}, seed {seed}, {kills} kills, at least {feedbacks} feedbacks");
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let every = snapshot_every.to_string();
    let args = ["--candidate", "3", "--policy", policy, "--snapshot-every", &every];
    let key = Key::root(seed).name("kill over http");
    let load = Load::default();
    let (mut killed, begun) = (0, Instant::now());
    let (acked, last_start) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|c| {
                let load = &load;
                scope.spawn(move || load.client(seed << 16 | c))
            })
            .collect();
        // Clients end whatever happens here.
        let _stop = Stop(&load.stop);
        loop {
            let (mut child, addr) = launch(&state, &args);
            let started = last_record(addr);
            *load.addr.lock().unwrap() = Some(addr);
            let enough = killed >= kills && load.acked.load(Ordering::Relaxed) >= feedbacks;
            if enough {
                // This one goes on until it has written down what it then knew.
                let patience = Instant::now();
                while last_record(addr) < started + snapshot_every + 100 {
                    assert!(patience.elapsed() < Duration::from_secs(60), "no load");
                    std::thread::sleep(Duration::from_millis(50));
                }
                std::thread::sleep(Duration::from_millis(2500));
            } else {
                std::thread::sleep(Duration::from_millis(20 + key.fold(killed).bits() % 480));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
            if enough {
                load.stop.store(true, Ordering::SeqCst);
                let acked: Acked = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
                break (acked, started);
            }
        }
    });
    let report = check(&state, &acked, last_start);
    println!(
        "seed {seed}: {killed} kills in {:.0} s, {} acknowledged, 0 lost, 0 twice, {} records, model {}",
        begun.elapsed().as_secs_f64(),
        acked.len(),
        report["records"],
        report["replay"]["model"]
    );
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The number of the journal's last record.
fn last_record(addr: SocketAddr) -> u64 {
    let reply = Client::connect(addr).and_then(|mut c| c.ask("GET", "/health", "", ""));
    reply.unwrap().json()["journal"]["last"].as_u64().unwrap()
}

fn check(state: &Path, acked: &Acked, last_start: u64) -> Value {
    let report: Value = serde_json::from_str(&inspect(state, "--json")).unwrap();
    let mut found: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    for line in inspect(state, "--feedbacks").lines() {
        let (id, status, reward): (String, String, f64) = serde_json::from_str(line).unwrap();
        assert_eq!(status, "learned", "{id}");
        found.entry(id).or_insert((0, reward)).0 += 1;
    }
    let lost = acked
        .iter()
        .filter(|(id, reward)| found.get(id).is_none_or(|(_, r)| r != reward));
    assert_eq!(lost.count(), 0, "acknowledged and lost");
    assert_eq!(found.values().filter(|f| f.0 != 1).count(), 0, "applied twice");
    assert_eq!(report["defects"], json!([]));
    assert_eq!(report["feedback_ids_twice"], 0);
    // From the first record on, and every feedback in it was learned.
    assert_eq!(report["replay"]["from"], 0);
    assert_eq!(report["replay"]["updates"], report["learned"]);
    // The snapshots are what the server knew, the last of them after the last kill but one: models and all the rest.
    let snapshots = report["snapshots"].as_array().unwrap();
    assert!(snapshots.iter().all(|s| s["equals_replay"] == true), "{snapshots:?}");
    let newest = snapshots.last().and_then(|s| s["seq"].as_u64()).unwrap_or(0);
    assert!(
        newest > last_start,
        "no snapshot after record {last_start}: {snapshots:?}"
    );
    report
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|t| t.parse().ok()).unwrap_or(default)
}

#[test]
fn five_kills_lose_nothing() {
    torture("lin-ts{draws=8}+per-user", number("OO_SEED", 1), 5, 300, 400);
}

#[test]
#[ignore = "many minutes; figures in docs/reliability.md"]
fn two_hundred_kills() {
    let (kills, feedbacks) = (number("OO_KILLS", 200), number("OO_FEEDBACKS", 200_000));
    let policy = std::env::var("OO_POLICY").unwrap_or_else(|_| "lin-ucb".into());
    torture(&policy, number("OO_SEED", 2), kills, feedbacks, 5_000);
}
