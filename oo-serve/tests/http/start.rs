//! How the program starts, and lives that are short.

use crate::client::{Client, Server, command, launch, listening};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Kills the child that it holds.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nobody_need_read_what_it_prints() {
    let dir = tempfile::tempdir().unwrap();
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = command()
        .args(["--log", "error", "--listen", &addr.to_string(), "--state"])
        .arg(dir.path().join("state"))
        .stdout(Stdio::from(writer))
        .spawn();
    let mut child = Killed(child.unwrap());
    let begun = Instant::now();
    let status = loop {
        if let Ok(mut client) = Client::connect(addr) {
            break client.ask("GET", "/livez", "", "").unwrap().status;
        }
        assert!(child.0.try_wait().unwrap().is_none(), "it ended");
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not listen");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status, 200);
    // Nor what a command prints: that fails with a message, and without a panic.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command().arg("man").stdout(Stdio::from(writer)).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && told.starts_with("error: "), "{told}");
}

/// What cannot be used is told once, with what to do, and by exit code 2.
#[test]
fn what_cannot_be_used_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let (none, out) = (dir.path().join("none"), dir.path().join("out.parquet"));
    let (none, out, empty) = (
        none.to_str().unwrap(),
        out.to_str().unwrap(),
        dir.path().to_str().unwrap(),
    );
    for (args, told) in [
        (&["inspect", "--state", none][..], "there is no folder"),
        (&["inspect", "--state", none, "--feedbacks"], "there is no folder"),
        (&["export", "--state", none, "--out", out], "there is no folder"),
        (&["inspect", "--state", empty], "there is no journal in"),
        (
            &["inspect", "--state", empty, "--reward", "r9"],
            "there is no journal in",
        ),
        (
            &["--state", none, "--policy", "missing/winner"],
            "there is no folder missing/winner; expected",
        ),
        (&["--state", none, "--policy", "lin-tss"], "did you mean `lin-ts`?"),
        (
            &["--state", none, "--policy", "lin-ts{drwas=3}"],
            "did you mean `draws`?",
        ),
        (
            &["--state", none, "--default-reward", "nan"],
            "option `default-reward`: expected -1000 to 1000, got NaN",
        ),
        (
            &["--state", none, "--threads", "100000"],
            "option `threads`: expected 1 to 1024, got 100000",
        ),
        (
            &["--state", none, "--otlp-share", "2"],
            "option `otlp-share`: expected 0 to 1, got 2",
        ),
        (
            &["--state", none, "--suppress", "done=7d,done=1d"],
            "option `suppress`: expected each reaction once, got `done` twice",
        ),
        (
            &["--state", none, "--listen", "localhost:9150"],
            "expected an address in numbers and a port",
        ),
        (
            &["--state", none, "--default-reward", "-2000"],
            "option `default-reward`: expected -1000 to 1000, got -2000",
        ),
        (
            &["--state", none, "--candidate", "200000"],
            "option `candidate`: expected 1 to 4096 features, got 200000",
        ),
        (
            &["--state", none, "--candidate", "a,a"],
            "option `candidate`: expected names that differ, got `a` at place 2",
        ),
        (
            &[
                "--state",
                none,
                "--policy",
                "uniform",
                "--context",
                "x,f0",
                "--candidate",
                "3",
            ],
            "the features: expected names that differ, got `f0` for the context and for candidates",
        ),
        (
            &["--state", none, "--retention", "0"],
            "option `retention`: expected 1 day or more, got 0",
        ),
        (
            &["--state", none, "--shadow", "uniform", "--shadow", "uniform"],
            "option `shadow`: expected policies that differ, got `uniform` twice",
        ),
        (
            &["--state", none, "--shadow", "./winner"],
            "option `shadow`: there is no folder ./winner",
        ),
    ] {
        let output = command().args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(
            said.starts_with("error: ") && said.matches(told).count() == 1,
            "{args:?}: {said}"
        );
        assert!(said.matches("os error").count() < 2, "{args:?}: {said}");
    }
}

/// Options and the environment may hold secrets.
#[test]
fn no_message_quotes_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("oo.toml");
    let text = "policy = \"uniform\"\nmlflow = \"http://me:hunter2@localhost:5000\" oops\n";
    std::fs::write(&file, text).unwrap();
    let output = command().arg("--config").arg(&file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("oo.toml, line 2 (`mlflow`): ") && !said.contains("hunter2"),
        "{said}"
    );
    for (text, told) in [
        (
            "\nno-such-option = \"hunter2\"",
            "oo.toml, line 2 (`no-such-option`): unknown field",
        ),
        (
            "otlp-share = \"http://hunter2@c\"",
            "line 1 (`otlp-share`): invalid type: string \"…\", expected f64",
        ),
        ("mode = \"hunter2\"", "line 1 (`mode`): unknown variant `…`, expected"),
        ("listen = \"hunter2\"", "line 1 (`listen`): "),
        ("mlflow \"http://me:hunter2=x@h\"", "line 1: "),
        ("shadows = [\n\"a\"\n\"lin-ucb{hunter2=3}\"]", "line 3: "),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = command().arg("--config").arg(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(told) && !said.contains("hunter2"), "{text}: {said}");
    }
    // Nor does the help show what the variables say.
    let output = command()
        .env("OO_OTLP", "http://me:hunter2@localhost:4318")
        .env("MLFLOW_TRACKING_URI", "http://me:hunter2@localhost:5000")
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("OO_OTLP") && !help.contains("hunter2"), "{help}");
}

/// Keys that are not understood must not count as none.
#[test]
fn keys_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let keys = std::ffi::OsStr::from_bytes(b"admin ops 0123456789abcdef\xff");
    let output = command()
        .env("OO_KEYS", keys)
        .args(["--listen", "127.0.0.1:0", "--state"])
        .arg(dir.path().join("state"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && said.contains("OO_KEYS: expected text in UTF-8"),
        "{said}"
    );
}

/// What does not go with the folder is told as what cannot be used.
#[test]
fn options_that_the_folder_refuses_end_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (child, addr) = launch(&state, &["--candidate", "2", "--policy", "uniform"]);
    let child = Killed(child);
    // Once this is on the disk, so is what came before it.
    let early = r#"{"decision_id":"none","reaction":"done","early":true}"#;
    assert_eq!(Client::connect(addr).unwrap().post("/feedback", early).status, 200);
    drop(child);
    let many: Vec<String> = (0..17).map(|i| format!("egreedy{{epsilon=0.{}}}", i + 10)).collect();
    let many: Vec<&str> = many.iter().flat_map(|shadow| ["--shadow", shadow]).collect();
    for (args, told) in [
        (
            &["--candidate", "3", "--policy", "uniform"][..],
            "shape: expected the folder's own",
        ),
        (
            &[&["--candidate", "2", "--policy", "uniform"], &many[..]].concat(),
            "option `shadow`: expected at most 16 shadows, got 17, of which the folder has 0",
        ),
    ] {
        let output = command()
            .args(["--listen", "127.0.0.1:0", "--log", "error", "--state"])
            .arg(&state)
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(2) && said.contains(told),
            "{args:?}: {said}"
        );
    }
}

/// However short the lives of a server are, one of them takes the snapshot that is due.
#[test]
fn a_server_that_never_lives_for_a_second_takes_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let args = ["--candidate", "1", "--policy", "lin-ts", "--snapshot-every", "50"];
    let mut first = Server::start_in(dir, &args);
    let mut client = first.connect();
    for i in 0..100 {
        let body = format!(r#"{{"user_id":{i},"candidates":[{{"id":1,"features":[1]}}]}}"#);
        assert_eq!(client.post("/recommend", &body).status, 200);
    }
    // Once this is on the disk, so is what came before it.
    let early = r#"{"decision_id":"none","reaction":"done","early":true}"#;
    assert_eq!(client.post("/feedback", early).status, 200);
    first.signal("-KILL");
    first.wait();
    let snapshots = || {
        let files = std::fs::read_dir(state.join("snapshots")).unwrap().flatten();
        files
            .filter(|f| f.path().extension().is_some_and(|e| e == "snap"))
            .count()
    };
    for _ in 0..20 {
        if snapshots() > 0 {
            return;
        }
        let (child, _) = launch(&state, &args);
        let (_child, begun) = (Killed(child), Instant::now());
        while snapshots() == 0 && begun.elapsed() < Duration::from_millis(700) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    panic!("no snapshot in 20 lives of 0.7 s");
}

#[test]
fn an_unsound_folder_is_told_by_the_exit_code() {
    let mut server = Server::start(&["--snapshot-every", "1000000"]);
    for _ in 0..5 {
        let ask = r#"{"user_id":"u","candidates":[{"id":"a"},{"id":"b"}]}"#;
        let decided = server.post("/recommend", ask).json();
        let told = format!(r#"{{"decision_id":{},"reaction":"helpful"}}"#, decided["decision_id"]);
        assert_eq!(server.post("/feedback", &told).status, 200);
    }
    server.signal("-KILL");
    server.wait();
    let state = server.dir.path().join("state");
    let inspected = || {
        let output = command().args(["inspect", "--state"]).arg(&state).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).contains("DAMAGED"),
        )
    };
    assert_eq!(inspected(), (Some(0), false));
    let mut files = std::fs::read_dir(state.join("journal"))
        .unwrap()
        .flatten()
        .map(|f| f.path());
    let journal = files.find(|path| path.extension().is_some_and(|e| e == "log")).unwrap();
    let mut bytes = std::fs::read(&journal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    assert_eq!(inspected(), (Some(1), true));
}

#[test]
fn options_go_over_variables_and_variables_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("oo.toml");
    std::fs::write(
        &file,
        "policy = \"uniform\"\ncandidate = [\"a\", \"b\"]\nlog = \"error\"\n",
    )
    .unwrap();
    for (i, (variable, option, expected)) in [
        (None, None, "uniform"),
        (Some("softmax"), None, "softmax"),
        (Some("softmax"), Some("egreedy"), "egreedy"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = command();
        let state = dir.path().join(i.to_string());
        command
            .env("OO_LISTEN", "127.0.0.1:0")
            .env("OO_STATE", &state)
            .arg("--config")
            .arg(&file);
        variable.map(|policy| command.env("OO_POLICY", policy));
        option.map(|policy| command.args(["--policy", policy]));
        let (child, addr) = listening(command);
        let _child = Killed(child);
        let mut client = Client::connect(addr).unwrap();
        let ask = r#"{"user_id":1,"candidates":[{"id":1,"features":[1,0]},{"id":2,"features":[0,1]}]}"#;
        let policy = client.post("/recommend", ask).json()["policy"]
            .as_str()
            .unwrap()
            .to_string();
        assert!(policy.starts_with(expected), "{policy}, not {expected}");
        assert!(state.join("journal").is_dir());
    }
}

/// The log is JSON lines, and a trace that the caller records has one a request.
#[test]
fn a_sampled_trace_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command();
    command
        .args(["--listen", "127.0.0.1:0", "--state"])
        .arg(dir.path().join("state"))
        .stderr(Stdio::piped());
    let (mut child, addr) = listening(command);
    let log = child.stderr.take().unwrap();
    let child = Killed(child);
    let mut client = Client::connect(addr).unwrap();
    let (recorded, other) = ("0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c");
    for (trace, flags) in [(other, "00"), (recorded, "01")] {
        let header = format!("traceparent: 00-{trace}-b7ad6b7169203331-{flags}\r\n");
        let refused = client.ask("POST", "/recommend", &header, "{}").unwrap();
        assert_eq!(refused.json()["instance"], format!("urn:trace:{trace}"));
    }
    drop(client);
    drop(child);
    let lines = BufReader::new(log).lines().map(|line| line.unwrap());
    let lines: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
    let of = |trace: &str| lines.iter().filter(|l| l.to_string().contains(trace)).count();
    assert_eq!((of(recorded), of(other)), (1, 0), "{lines:?}");
    let line = lines.iter().find(|l| l.to_string().contains(recorded)).unwrap();
    let fields = &line["fields"];
    assert_eq!(
        (&fields["route"], &fields["status"]),
        (&"recommend".into(), &422.into()),
        "{line}"
    );
}

/// Whoever forgets the option at a restart must not change what is learned.
#[test]
fn a_folder_goes_on_with_its_reward_spec() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let reward = |options: &[&str]| {
        let (child, addr) = launch(&state, &[&["--candidate", "1", "--policy", "lin-ts"], options].concat());
        let _child = Killed(child);
        let mut client = Client::connect(addr).unwrap();
        let answer = client.post("/recommend", r#"{"user_id":1,"candidates":[{"id":1,"features":[1]}]}"#);
        let id = answer.json()["decision_id"].clone();
        let told = client.post(
            "/feedback",
            &format!(r#"{{"decision_id":{id},"reaction":"done","dwell_ms":400000}}"#),
        );
        told.json()["reward"].as_f64().unwrap()
    };
    let (r1, without, r2, then) = (
        reward(&["--reward", "r1"]),
        reward(&[]),
        reward(&["--reward", "r2"]),
        reward(&[]),
    );
    assert!(r1 == without && r2 == then && r1 != r2, "{r1} {without} {r2} {then}");
}
