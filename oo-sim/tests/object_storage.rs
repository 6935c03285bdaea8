//! The whole program on object storage. It needs a server; `oo-sim/tests/s3.sh` starts one and runs this:
//! `OO_TEST_S3_BUCKET` is an empty bucket there, and the usual variables have endpoint and credentials.
#![cfg(feature = "s3")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const EXPERIMENT: &[&str] = &[
    "--env",
    "linear",
    "--rounds",
    "50",
    "--seeds",
    "4",
    "--policies",
    "uniform,lin-ucb",
];

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oo-sim"));
    command.args(args);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn fine(args: &[&str]) -> String {
    let output = command(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn place(name: &str) -> String {
    let bucket = std::env::var("OO_TEST_S3_BUCKET").expect("oo-sim/tests/s3.sh sets OO_TEST_S3_BUCKET");
    format!("s3://{bucket}/{name}")
}

/// Parquet files and summary of a run on this machine.
fn results(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("summary".into(), std::fs::read(run.join("summary.json")).unwrap())];
    files.push(("experiment".into(), std::fs::read(run.join("experiment.toml")).unwrap()));
    for entry in std::fs::read_dir(run.join("cells")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".parquet") {
            files.push((name, std::fs::read(entry.path()).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
#[ignore = "needs a server: oo-sim/tests/s3.sh starts one"]
fn a_run_in_a_bucket_has_the_bytes_of_one_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let local = |name: &str| folder.path().join(name).display().to_string();
    let table = fine(&[&["compare", "--out", &local("whole")], EXPERIMENT].concat());
    // One machine.
    let run = place("one/run");
    fine(&[&["compare", "--out", &run], EXPERIMENT].concat());
    let list = fine(&[&["compare", "--list", "--out", &run], EXPERIMENT].concat());
    assert_eq!(list, "");
    // Shards that share a prefix, merged there and fetched.
    let parts = place("parts");
    for i in 1..=3 {
        fine(&[&["compare", "--shard", &format!("{i}/3"), "--out", &parts], EXPERIMENT].concat());
    }
    fine(&["merge", &parts, "--out", &parts]);
    for (source, name) in [(&run, "one"), (&parts, "three")] {
        fine(&["merge", source, "--out", &local(name)]);
        assert_eq!(
            results(&folder.path().join(name)),
            results(&folder.path().join("whole"))
        );
    }
    // The experiment file of a bucket, and a folder sent up.
    let file = format!("{run}/experiment.toml");
    let again = fine(&["compare", &file, "--out", &local("whole")]);
    let verdict = |table: &str| table.lines().filter(|l| l.contains("lin-ucb")).count();
    assert_eq!(verdict(&again), verdict(&table));
    fine(&["merge", &local("whole"), "--out", &place("sent")]);
    // Report, gate and sensitivity to rewards read and write there.
    assert_eq!(fine(&["report", &run]), format!("{run}/report.html\n"));
    let gate = command(&["gate", &run, "--champion", "uniform", "--challenger", "lin-ucb"])
        .output()
        .unwrap();
    assert!(gate.status.code().is_some_and(|c| c <= 2), "{}", said(&gate));
    assert!(String::from_utf8_lossy(&gate.stdout).contains(&format!("Report: {run}/gate/report.html")));
    // Another experiment finds the place taken.
    let other = command(&["compare", "--seeds", "3", "--shard", "1/3", "--out", &parts])
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(2));
    assert!(said(&other).contains("holds another experiment"), "{}", said(&other));
}

#[test]
#[ignore = "needs a server: oo-sim/tests/s3.sh starts one"]
fn errors_say_what_is_wrong_and_no_secret() {
    let refused = |change: &dyn Fn(&mut Command), out: &str| {
        let mut compare = command(&[&["compare", "--out", out], EXPERIMENT].concat());
        compare.env("AWS_SECRET_ACCESS_KEY", std::env::var("AWS_SECRET_ACCESS_KEY").unwrap());
        change(&mut compare);
        let output = compare.output().unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{}", said(&output));
        let e = said(&output);
        assert!(!e.contains("panicked") && !e.contains("wrong-secret"), "{e}");
        assert!(!e.contains(&std::env::var("AWS_SECRET_ACCESS_KEY").unwrap()), "{e}");
        e
    };
    let e = refused(&|_| {}, "s3://oo-no-such-bucket/run");
    assert!(e.contains("there is no bucket `oo-no-such-bucket`"), "{e}");
    let e = refused(&|c| _ = c.env_remove("AWS_SECRET_ACCESS_KEY"), &place("x"));
    assert!(
        e.contains("no credentials") && e.contains("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        "{e}"
    );
    let e = refused(&|c| _ = c.env("AWS_SECRET_ACCESS_KEY", "wrong-secret"), &place("x"));
    assert!(e.contains("refuses the credentials"), "{e}");
    let e = refused(&|c| _ = c.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), &place("x"));
    assert!(e.contains("no answer from http://127.0.0.1:1"), "{e}");
}

/// What stands between the program and the server, and fails after so many puts.
struct Between {
    url: String,
    puts: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Failing {
    /// Requests are taken, and nobody answers.
    Hangs,
    /// Connections end, and nobody listens any more: the server was stopped.
    Stops,
}

impl Between {
    fn start(failing: Failing, after: usize) -> Between {
        let server = std::env::var("AWS_ENDPOINT_URL").unwrap();
        let server = server.strip_prefix("http://").unwrap().to_string();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let puts = Arc::new(AtomicUsize::new(0));
        let count = puts.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if failing == Failing::Stops && count.load(Ordering::SeqCst) > after {
                    return;
                }
                let (client, count) = (stream.unwrap(), count.clone());
                let server = TcpStream::connect(&server).unwrap();
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pass(back.0, back.1, &|_| true));
                std::thread::spawn(move || {
                    pass(client, server, &|piece| {
                        // A request begins a piece: the one before it has been answered.
                        if piece.starts_with(b"PUT ") {
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                        let works = count.load(Ordering::SeqCst) <= after;
                        if !works && failing == Failing::Hangs {
                            std::thread::sleep(Duration::from_secs(120));
                        }
                        works
                    });
                });
            }
        });
        Between { url, puts }
    }
}

/// Passes bytes on for as long as `goes_on` says, then ends both connections.
fn pass(mut from: TcpStream, mut to: TcpStream, goes_on: &dyn Fn(&[u8]) -> bool) {
    let mut piece = [0; 1 << 16];
    while let Ok(n) = from.read(&mut piece)
        && n > 0
        && goes_on(&piece[..n])
        && to.write_all(&piece[..n]).is_ok()
    {}
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Cells that a place does not hold yet.
fn missing(out: &str) -> usize {
    fine(&[&["compare", "--list", "--out", out], EXPERIMENT].concat())
        .lines()
        .count()
}

#[test]
#[ignore = "needs a server: oo-sim/tests/s3.sh starts one"]
fn a_killed_run_and_one_whose_server_was_stopped_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let local = |name: &str| folder.path().join(name);
    fine(&[&["compare", "--out", local("whole").to_str().unwrap()], EXPERIMENT].concat());
    for (name, failing) in [("killed", Failing::Hangs), ("stopped", Failing::Stops)] {
        let out = place(name);
        // After the experiment and some of the cells, each of which is two files.
        let between = Between::start(failing, 7);
        let args = [&["compare", "--threads", "1", "--out", &out], EXPERIMENT].concat();
        let mut compare = command(&args);
        compare
            .env("AWS_ENDPOINT_URL", &between.url)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = compare.spawn().unwrap();
        if failing == Failing::Hangs {
            let deadline = Instant::now() + Duration::from_secs(120);
            while between.puts.load(Ordering::SeqCst) <= 7 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            child.kill().unwrap(); // SIGKILL
        }
        let output = child.wait_with_output().unwrap();
        if failing == Failing::Stops {
            let e = said(&output);
            assert_eq!(output.status.code(), Some(1), "{e}");
            assert!(
                e.contains(&format!("no answer from {}", between.url)) && !e.contains("panicked"),
                "{e}"
            );
        }
        let left = missing(&out);
        assert!((1..8).contains(&left), "{name}: {left} of 8 cells are left");
        // What is half there is no run: nothing is concluded from it.
        let report = command(&["report", &out]).output().unwrap();
        assert_eq!(report.status.code(), Some(2), "{}", said(&report));
        assert!(
            said(&report).contains(&format!("{left} of 8 cells")),
            "{}",
            said(&report)
        );
        // The same command goes on.
        fine(&[&["compare", "--out", &out], EXPERIMENT].concat());
        assert_eq!(missing(&out), 0);
        fine(&["merge", &out, "--out", local(name).to_str().unwrap()]);
        assert_eq!(results(&local(name)), results(&local("whole")));
    }
}
