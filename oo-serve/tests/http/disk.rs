//! R10 of the serving facts with a disk that is really full: a tmpfs of 64 MB.

use crate::client::{Server, inspect};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A file system in memory, gone with this.
struct Small(PathBuf);

impl Small {
    /// `None`, with a printed reason, where mounting is not allowed.
    fn mount(at: &Path) -> Option<Small> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "oo-serve-test"])
            .arg(at)
            .output();
        match mounted {
            Ok(done) if done.status.success() => Some(Small(at.into())),
            Ok(done) => {
                println!("skipped, no tmpfs: {}", String::from_utf8_lossy(&done.stderr).trim());
                None
            }
            Err(e) => {
                println!("skipped, no mount: {e}");
                None
            }
        }
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_really_full_is_survived() {
    let home = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(&home.path().join("small")) else {
        return;
    };
    let dir = tempfile::tempdir_in(&small.0).unwrap();
    let server = Server::start_in(dir, &["--candidate", "2", "--policy", "lin-ucb"]);
    let mut client = server.connect();
    let mut acked = BTreeSet::new();
    let ask = |i: u64| {
        format!(
            r#"{{"user_id":"u","decision_id":"d{i}","candidates":[{{"id":1,"features":[1,0]}},{{"id":2,"features":[0,1]}}]}}"#
        )
    };
    let tell = |i: u64| format!(r#"{{"decision_id":"d{i}","feedback_id":"f{i}","reaction":"done"}}"#);
    for i in 0..50 {
        assert_eq!(client.post("/recommend", &ask(i)).status, 200);
        assert_eq!(client.post("/feedback", &tell(i)).status, 200);
        acked.insert(format!("f{i}"));
    }
    let ballast = small.fill();
    // The file in hand may have a last piece of a page left; then it is full.
    let mut full = None;
    for i in 50..400 {
        assert_eq!(client.post("/recommend", &ask(i)).status, 200, "decisions go on");
        let told = client.post("/feedback", &tell(i));
        match told.status {
            200 => drop(acked.insert(format!("f{i}"))),
            507 => {
                assert_eq!(told.header("retry-after"), Some("1"));
                full = Some(i);
                break;
            }
            other => panic!("{other}: {}", told.text()),
        }
    }
    let full = full.expect("the disk is never full");
    let ready = server.get("/readyz");
    assert_eq!((ready.status, ready.header("retry-after")), (503, Some("1")));
    for i in 400..600 {
        assert_eq!(client.post("/recommend", &ask(i)).status, 200, "decisions go on");
    }
    assert_eq!(client.post("/feedback", &tell(400)).status, 507);
    std::fs::remove_file(ballast).unwrap();
    let begun = Instant::now();
    while server.get("/readyz").status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not recover");
        std::thread::sleep(Duration::from_millis(20));
    }
    let recovered = begun.elapsed();
    // What was refused is sent again.
    for i in (full..full + 1).chain(400..600) {
        assert_eq!(client.post("/feedback", &tell(i)).json()["status"], "learned");
        acked.insert(format!("f{i}"));
    }
    let state = server.dir.path().join("state");
    let report: serde_json::Value = serde_json::from_str(&inspect(&state, "--json")).unwrap();
    assert_eq!(report["defects"], serde_json::json!([]));
    let mut found = BTreeSet::new();
    for line in inspect(&state, "--feedbacks").lines() {
        let (id, _, _): (String, String, f64) = serde_json::from_str(line).unwrap();
        assert!(found.insert(id.clone()), "{id} twice");
    }
    println!(
        "R10: full after {full} feedbacks, ready again {:.2} s after there was room, {} acknowledged, all there",
        recovered.as_secs_f64(),
        acked.len()
    );
    assert_eq!(found, acked);
    drop(server);
}
