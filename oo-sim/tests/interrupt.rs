//! Ctrl-C: what is kept is said, what is half-written goes, and the same command goes on.
#![cfg(unix)]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn start(folder: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oo-sim"));
    command.args(args).current_dir(folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Stops the program once `begun` is true. On stdout it has `shown` this.
fn stop(program: Child, signal: &str, shown: &str, begun: impl Fn() -> bool) -> (Option<i32>, String) {
    let since = Instant::now();
    while !begun() {
        assert!(since.elapsed() < Duration::from_secs(60), "nothing has begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").arg(signal).arg(program.id().to_string()).status();
    assert!(sent.unwrap().success());
    // Until nobody has these ends of the pipes any more.
    let Output { status, stdout, stderr } = program.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stdout), shown);
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).collect()
}

#[test]
fn a_comparison_says_what_is_kept_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["compare", "--policies", "uniform", "--threads", "1", "--out", "run"];
    let cells = folder.path().join("run/cells");
    // More than a minute of work.
    let many = [&args[..], &["--seeds", "5000"]].concat();
    let (code, told) = stop(start(folder.path(), &many), "-INT", "", || names(&cells).len() > 4);
    assert_eq!(code, Some(130), "{told}");
    assert!(
        told.starts_with("stopped: ") && told.contains("of 5000 runs are finished and kept in run"),
        "{told}"
    );
    assert!(told.contains("the same command goes on from there"), "{told}");
    assert!(names(&cells).iter().all(|name| !name.ends_with(".tmp")));
    // What was kept is taken up: two seeds were finished, and a run of these runs nothing.
    let kept = names(&cells).len();
    let again = start(folder.path(), &[&args[..], &["--seeds", "2"]].concat());
    assert!(again.wait_with_output().unwrap().status.success());
    assert_eq!(names(&cells).len(), kept);
}

#[test]
fn a_log_that_is_not_finished_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "log",
        "--env",
        "linear",
        "--policy",
        "uniform",
        "--rounds",
        "1000000000",
        "--out",
        "log.parquet",
    ];
    let begun = || !names(folder.path()).is_empty();
    let (code, told) = stop(start(folder.path(), &args), "-INT", "", begun);
    assert_eq!(
        (code, told.as_str()),
        (Some(130), "stopped: log.parquet was not written\n")
    );
    assert!(names(folder.path()).is_empty());
    let (code, _) = stop(start(folder.path(), &args), "-TERM", "", begun);
    assert_eq!(code, Some(143));
    assert!(names(folder.path()).is_empty());
}

/// A queue's signal goes to one program only, and its step must not go on without it.
#[test]
fn a_step_stops_with_its_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = folder.path().join("experiments/long");
    std::fs::create_dir_all(&experiment).unwrap();
    let steps = "question = 'Which?'\nanswer = 'None.'\nsize = 'minutes'\n[[step]]\ncommand = 'compare'\n[step.options]\n\
                 policies = ['uniform']\nthreads = 1\nseeds = 5000\n";
    std::fs::write(experiment.join("steps.toml"), steps).unwrap();
    std::fs::write(experiment.join("README.md"), "# Long\n").unwrap();
    let cells = folder.path().join("runs/long/compare/cells");
    let program = start(folder.path(), &["experiments", "run", "long"]);
    let shown = "$ oo-sim compare --policies uniform --seeds 5000 --threads 1 --out runs/long/compare\n";
    let (code, told) = stop(program, "-TERM", shown, || names(&cells).len() > 4);
    assert_eq!(code, Some(143), "{told}");
    for line in [
        "in step compare; what was finished is kept in",
        "of 5000 runs are finished",
    ] {
        assert!(told.contains(line), "{told}");
    }
    let kept = names(&cells);
    assert!(
        kept.len() < 4000 && kept.iter().all(|name| !name.ends_with(".tmp")),
        "{kept:?}"
    );
}
