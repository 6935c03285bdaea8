//! Logging to MLflow through the program. Without a server here: one that is down, hangs or refuses changes no result
//! and gets no secret written. With a real one in `real.rs`, ignored because it needs Python; `.ci/run` has it run.

mod gate;
mod real;
mod server;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const SMALL: &[&str] = &[
    "--users",
    "6",
    "--days",
    "4",
    "--seeds",
    "2",
    "--policies",
    "uniform,lin-ucb{alpha=0.2}",
];

/// The program, without what the machine's owner may have set.
fn oo_sim(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oo-sim"));
    for name in [
        "TRACKING_URI",
        "TRACKING_USERNAME",
        "TRACKING_PASSWORD",
        "TRACKING_TOKEN",
        "EXPERIMENT_NAME",
    ] {
        command.env_remove(format!("MLFLOW_{name}"));
    }
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.args(args);
    command
}

fn compare(args: &[&str], out: &Path) -> Command {
    let mut command = oo_sim(&["compare"]);
    command.args(args).arg("--out").arg(out);
    command
}

fn fine(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What does not come from a clock or from the log.
fn results(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = files(folder);
    found.retain(|name, _| {
        let timed = name == "timings.json" || name.starts_with("cells/") && name.ends_with(".json");
        !timed && !name.starts_with("mlflow/")
    });
    found
}

/// The lines of the one spool in a folder, without its header.
fn spool(folder: &Path) -> Vec<serde_json::Value> {
    let all = files(&folder.join("mlflow"));
    let mut spools = all.iter().filter(|(name, _)| name.ends_with("spool.jsonl"));
    let (_, bytes) = spools.next().unwrap();
    assert!(spools.next().is_none());
    let lines = std::str::from_utf8(bytes).unwrap().lines().skip(1);
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An address that nobody listens on.
fn dead() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

#[test]
fn a_server_that_is_down_or_hangs_changes_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    fine(&mut compare(SMALL, &out("plain")));
    let plain = results(&out("plain"));
    let down = dead();
    let output = fine(compare(SMALL, &out("down")).args(["--mlflow", &down]));
    assert!(said(&output).contains("oo-sim mlflow sync") && said(&output).contains("does not answer"));
    assert_eq!(results(&out("down")), plain);
    // It takes connections and never says a word; the variables are as good as the flags.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut hangs = compare(SMALL, &out("hangs"));
    let output = fine(hangs.env("MLFLOW_TRACKING_URI", &url).args(["--mlflow-wait", "0.2"]));
    assert!(said(&output).contains("the server is slow"), "{}", said(&output));
    assert_eq!(results(&out("hangs")), plain);
    // The whole comparison waits in the spool: one run, opened and ended, and a child a cell.
    let entries = spool(&out("hangs"));
    assert_eq!(entries.len(), 6);
    assert_eq!(entries.iter().filter(|e| e["parent"] == "comparison").count(), 4);
    assert_eq!(
        (&entries[0]["status"], &entries[5]["status"]),
        (&"RUNNING".into(), &"FINISHED".into())
    );
    // The same again adds nothing.
    fine(compare(SMALL, &out("down")).args(["--mlflow", &down]));
    assert_eq!(spool(&out("down")).len(), 6);
    // Sending fails as a failure, not as bad input, and takes nothing away.
    let output = oo_sim(&["mlflow", "sync", out("down").to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("6 are left"), "{}", said(&output));
    assert_eq!(spool(&out("down")).len(), 6);
}

#[test]
fn a_killed_run_logs_every_cell_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let args = [
        "--users",
        "20",
        "--days",
        "30",
        "--seeds",
        "8",
        "--policies",
        "uniform,lin-ucb",
        "--threads",
        "1",
    ];
    let begin = || {
        let mut command = compare(&args, &out);
        command.args(["--mlflow", &dead()]);
        command
    };
    let mut child = begin().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let cells = || {
        let found = std::fs::read_dir(out.join("cells")).into_iter().flatten().flatten();
        found
            .filter(|e| e.path().extension().is_some_and(|x| x == "parquet"))
            .count()
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while cells() < 3 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert!(
        (3..16).contains(&cells()),
        "killed too late or never started: {} cells",
        cells()
    );
    fine(&mut begin());
    let mut runs: Vec<String> = spool(&out)
        .iter()
        .filter(|e| e["parent"] == "comparison")
        .map(|e| e["run"].as_str().unwrap().to_string())
        .collect();
    runs.sort();
    let mut files: Vec<String> = std::fs::read_dir(out.join("cells"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|x| x == "parquet"))
        .map(|p| p.file_stem().unwrap().to_str().unwrap().to_string())
        .collect();
    files.sort();
    assert_eq!((runs.len(), runs), (16, files));
}

#[test]
fn no_secret_is_written() {
    const SECRETS: [&str; 4] = ["pa55word", "t0ken", "userinf0", "us%65rinf0"];
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    // Lets nobody in, and remembers who knocked.
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0; 1];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                head.push(byte[0]);
            }
            // As pages of errors do that show the request.
            let answer = format!(
                "HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                head.len()
            );
            stream.write_all(&[answer.as_bytes(), &head].concat()).unwrap();
            heard.send(String::from_utf8(head).unwrap()).unwrap();
        }
    });
    let plain = format!("http://{host}");
    let with_user = format!("http://me:us%65rinf0@{host}");
    let basic = [
        ("MLFLOW_TRACKING_USERNAME", "me"),
        ("MLFLOW_TRACKING_PASSWORD", "pa55word"),
    ];
    let token = [("MLFLOW_TRACKING_TOKEN", "t0ken")];
    // What `printf me:pa55word | base64` and so on say.
    /// Folder, address, variables, and the header that must come of them.
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 4] = [
        ("a", &plain, &basic, "Basic bWU6cGE1NXdvcmQ="),
        ("b", &plain, &token, "Bearer t0ken"),
        ("c", &with_user, &token, "Basic bWU6dXNlcmluZjA="),
        ("d", &plain, &[basic[0], basic[1], token[0]], "Basic bWU6cGE1NXdvcmQ="),
    ];
    for (name, url, variables, header) in cases {
        let out = folder.path().join(name);
        for way in ["flag", "variable"] {
            let mut command = compare(SMALL, &out);
            command.envs(variables.iter().copied());
            match way {
                "flag" => command.args(["--mlflow", url]),
                _ => command.env("MLFLOW_TRACKING_URI", url),
            };
            let output = fine(&mut command);
            assert!(
                said(&output).contains("401") && said(&output).contains('…'),
                "{}",
                said(&output)
            );
            let head = hears.recv_timeout(Duration::from_secs(60)).unwrap();
            assert!(head.contains(&format!("authorization: {header}\r\n")), "{head}");
            let mut sync = oo_sim(&["mlflow", "sync", out.to_str().unwrap(), "--mlflow", url]);
            let synced = sync.envs(variables.iter().copied()).output().unwrap();
            assert_eq!(synced.status.code(), Some(1));
            assert!(hears.recv_timeout(Duration::from_secs(60)).unwrap().contains(header));
            let mut gate = oo_sim(&["gate", out.to_str().unwrap(), "--mlflow", url]);
            gate.args(["--champion", "uniform", "--challenger", "lin-ucb{alpha=0.2}"]);
            let judged = gate.envs(variables.iter().copied()).output().unwrap();
            assert!(
                judged.status.code().unwrap() < 3 && said(&judged).contains("401"),
                "{}",
                said(&judged)
            );
            assert!(hears.recv_timeout(Duration::from_secs(60)).unwrap().contains(header));
            let mut everything = files(&out);
            for (what, bytes) in [
                ("stdout", &output.stdout),
                ("stderr", &output.stderr),
                ("sync", &synced.stderr),
                ("gate", &judged.stdout),
                ("gate, stderr", &judged.stderr),
            ] {
                everything.insert(what.into(), bytes.clone());
            }
            for (file, bytes) in everything {
                let text = String::from_utf8_lossy(&bytes);
                for secret in SECRETS.iter().chain(&[header.split_once(' ').unwrap().1]) {
                    assert!(!text.contains(secret), "{file} holds {secret}");
                }
            }
        }
    }
}

#[test]
fn wrong_addresses_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (flag, value, want) in [
        ("--mlflow", "sqlite:///x.db", "expected http://"),
        ("--mlflow", "http://me:secret@", "expected http://"),
        ("--mlflow-wait", "-1", "expected 0 to"),
    ] {
        let output = compare(SMALL, &out).arg(format!("{flag}={value}")).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(
            said(&output).contains(want) && !said(&output).contains("secret"),
            "{}",
            said(&output)
        );
        assert!(!out.exists(), "work began before the input was checked");
    }
    // Another program's variable is no reason to fail.
    let output = fine(compare(SMALL, &out).env("MLFLOW_TRACKING_URI", "sqlite:///x.db"));
    assert!(said(&output).contains("nothing is logged"));
    assert!(!out.join("mlflow").exists());
    // Nothing was logged, so nobody knows where to.
    let sync = |args: &[&str]| oo_sim(&[&["mlflow", "sync"], args].concat()).output().unwrap();
    for args in [
        &[out.to_str().unwrap()][..],
        &["no/such/folder", "--mlflow", "http://127.0.0.1:9"],
    ] {
        assert_eq!(sync(args).status.code(), Some(2), "{}", said(&sync(args)));
    }
    // A folder of runs is no run, logged or not.
    let server = format!("--mlflow={}", dead());
    for (logged, want) in [(false, "holds one:"), (true, "holds 2 of them:")] {
        if logged {
            fine(compare(SMALL, &folder.path().join("logged")).arg(&server));
        }
        let output = sync(&[folder.path().to_str().unwrap(), &server]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(
            said(&output).contains(want) && said(&output).contains("mlflow sync"),
            "{}",
            said(&output)
        );
    }
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let output = sync(&[folder.path().join("empty").to_str().unwrap(), &server]);
    assert!(
        output.status.code() == Some(2) && said(&output).contains("no folder of a run"),
        "{}",
        said(&output)
    );
}
