//! A backup is a copy of the folder, taken while the server runs.

use crate::client::{Server, command, launch};
use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;

/// Copies what is there, as `cp -r` does: what goes meanwhile is passed over.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else if let Err(e) = fs::copy(entry.path(), &target) {
            assert_eq!(e.kind(), NotFound, "{e}");
        }
    }
}

/// Copies taken under load, in the order that the book gives: each opens with everything that was acknowledged before the
/// copying began, and is sound.
#[test]
fn a_copy_of_a_running_servers_folder_opens_with_all_that_was_acknowledged() {
    let args = ["--candidate", "1", "--policy", "lin-ts", "--snapshot-every", "300"];
    let server = Server::start(&args);
    let state = server.dir.path().join("state");
    let acknowledged: [AtomicU64; CLIENTS] = Default::default();
    let stop = AtomicBool::new(false);
    let work = |c: usize| {
        let mut client = server.connect();
        let ask = format!(r#"{{"user_id":"u{c}","candidates":[{{"id":1,"features":[1]}}]}}"#);
        while !stop.load(Ordering::Relaxed) {
            let answer = client.post("/recommend", &ask).json();
            let told = format!(r#"{{"decision_id":{},"reaction":"done"}}"#, answer["decision_id"]);
            assert_eq!(client.post("/feedback", &told).status, 200);
            acknowledged[c].fetch_add(1, Ordering::Relaxed);
        }
    };
    let counts = || -> Vec<u64> { acknowledged.iter().map(|n| n.load(Ordering::Relaxed)).collect() };
    let mut before = Vec::new();
    std::thread::scope(|scope| {
        (0..CLIENTS).for_each(|c| drop(scope.spawn(move || work(c))));
        for k in 0..5u64 {
            let begun = Instant::now();
            let snapshots = || fs::read_dir(state.join("snapshots")).unwrap().flatten();
            let taken = || snapshots().any(|f| f.path().extension().is_some_and(|e| e == "snap"));
            while counts().iter().any(|n| *n < 100 * (k + 1)) || !taken() {
                assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", counts());
                std::thread::sleep(Duration::from_millis(2));
            }
            before.push(counts());
            let to = server.dir.path().join(format!("copy-{k}"));
            copy(&state.join("snapshots"), &to.join("snapshots"));
            copy(&state.join("journal"), &to.join("journal"));
            copy(&state, &to.join("rest"));
            for entry in fs::read_dir(to.join("rest")).unwrap().map(|entry| entry.unwrap()) {
                let name = entry.file_name();
                if name != "snapshots" && name != "journal" {
                    fs::rename(entry.path(), to.join(name)).unwrap();
                }
            }
            fs::remove_dir_all(to.join("rest")).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    for (k, before) in before.iter().enumerate() {
        let to = server.dir.path().join(format!("copy-{k}"));
        assert!(
            fs::read_dir(to.join("snapshots")).unwrap().count() > 0,
            "{k}: no snapshot yet"
        );
        let (mut child, addr) = launch(&to, &args);
        for (c, acknowledged) in before.iter().enumerate() {
            let mut client = crate::client::Client::connect(addr).unwrap();
            let stats = client.ask("GET", &format!("/stats/u{c}"), "", "").unwrap().json();
            let pulls = stats["pulls"].as_u64().unwrap();
            assert!(pulls >= *acknowledged, "copy {k}: {pulls} of {acknowledged} of u{c}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let inspected = command().args(["inspect", "--state"]).arg(&to).output().unwrap();
        assert_eq!(inspected.status.code(), Some(0), "{inspected:?}");
    }
}
