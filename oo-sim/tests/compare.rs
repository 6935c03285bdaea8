//! The whole program: same bytes for any number of threads and after a kill, errors that help.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const SMALL: &[&str] = &[
    "--users",
    "6",
    "--days",
    "4",
    "--seeds",
    "3",
    "--policies",
    "uniform,lin-ucb{alpha=0.2},egreedy-v1",
];

fn oo_sim(args: &[&str], out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oo-sim"));
    command.arg("compare").args(args).arg("--out").arg(out);
    command
}

fn run(args: &[&str], out: &Path) -> Vec<u8> {
    let output = oo_sim(args, out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(out.join("summary.json")).unwrap()
}

fn fails(args: &[&str], code: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output: Output = oo_sim(args, &folder.path().join("out")).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        !folder.path().join("out").exists(),
        "work began before the input was checked"
    );
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn threads_do_not_change_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let with = |threads: &str| run(&[SMALL, &["--threads", threads]].concat(), &folder.path().join(threads));
    let (one, two) = (with("1"), with("2"));
    assert_eq!(one, two);
    let summary: Value = serde_json::from_slice(&one).unwrap();
    assert_eq!(summary["policies"].as_array().unwrap().len(), 3);
    assert_eq!(summary["pairs"].as_array().unwrap().len(), 3);
    assert_eq!(summary["policies"][0]["curve"].as_array().unwrap().len(), 20);
    assert!(summary["policies"][0]["ci"][0].is_number() && !summary["groups"].as_array().unwrap().is_empty());
}

#[test]
fn a_killed_run_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "--users",
        "20",
        "--days",
        "60",
        "--seeds",
        "6",
        "--policies",
        "uniform,lin-ucb,lin-ts",
        "--threads",
        "1",
    ];
    let whole = run(&args, &folder.path().join("whole"));
    let out = folder.path().join("killed");
    let mut child = oo_sim(&args, &out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let finished = || {
        let entries = std::fs::read_dir(out.join("cells")).into_iter().flatten().flatten();
        entries
            .filter(|e| e.path().extension().is_some_and(|x| x == "parquet"))
            .count()
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while finished() < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let before = finished();
    assert!(
        (2..18).contains(&before),
        "killed too late or never started: {before} of 18 runs finished"
    );
    // A finished run is not run again: its file keeps its time stamp.
    let stamp = |e: &std::fs::DirEntry| e.metadata().unwrap().modified().unwrap();
    let parquet = |e: &std::fs::DirEntry| e.path().extension().is_some_and(|x| x == "parquet");
    let kept: Vec<_> = std::fs::read_dir(out.join("cells"))
        .unwrap()
        .flatten()
        .filter(parquet)
        .map(|e| (e.path(), stamp(&e)))
        .collect();
    assert_eq!(run(&args, &out), whole);
    for (path, before) in kept {
        assert_eq!(std::fs::metadata(path).unwrap().modified().unwrap(), before);
    }
    // A damaged file is run again.
    let cell = std::fs::read_dir(out.join("cells"))
        .unwrap()
        .flatten()
        .find(parquet)
        .unwrap()
        .path();
    let bytes = std::fs::read(&cell).unwrap();
    std::fs::write(&cell, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(run(&args, &out), whole);
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 3] ^= 4;
    std::fs::write(&cell, &flipped).unwrap();
    assert_eq!(run(&args, &out), whole);
}

#[test]
fn another_policy_moves_nobodys_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let common = ["--users", "6", "--days", "4", "--seeds", "2"];
    let policies = |list: &str, out: &str| -> Vec<Value> {
        let json = run(&[&common[..], &["--policies", list]].concat(), &folder.path().join(out));
        let summary: Value = serde_json::from_slice(&json).unwrap();
        summary["policies"].as_array().unwrap().clone()
    };
    let (two, three) = (
        policies("uniform,lin-ts", "two"),
        policies("lin-ucb,lin-ts,uniform", "three"),
    );
    assert_eq!((&two[0], &two[1]), (&three[2], &three[1]));
}

#[test]
fn a_baseline_is_compared_with_each() {
    let folder = tempfile::tempdir().unwrap();
    let json = run(&[SMALL, &["--baseline", "uniform"]].concat(), folder.path());
    let summary: Value = serde_json::from_slice(&json).unwrap();
    let pairs = summary["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 2);
    assert!(pairs.iter().all(|p| p["b"] == "uniform"));
}

/// Two policies that differ, and two that choose alike at random.
const UNTIL: &[&str] = &["--env", "linear", "--rounds", "100", "--seeds", "3", "--until-decided"];

#[test]
fn seeds_are_added_until_every_pair_is_decided() {
    let folder = tempfile::tempdir().unwrap();
    let policies = ["--policies", "uniform,lin-ucb,lin-ts", "--max-seeds", "60"];
    let with = |threads: &str| {
        run(
            &[UNTIL, &policies, &["--threads", threads]].concat(),
            &folder.path().join(threads),
        )
    };
    let (one, two) = (with("1"), with("2"));
    assert_eq!(one, two);
    let summary: Value = serde_json::from_slice(&one).unwrap();
    let stopping = &summary["stopping"];
    let taken = stopping["seeds"].as_u64().unwrap();
    assert!((4..60).contains(&taken), "{stopping}");
    assert_eq!(
        (&stopping["decided"], &stopping["pairs"]),
        (&Value::from(3), &Value::from(3))
    );
    let method = summary["method"].as_str().unwrap();
    assert!(
        method.contains("anytime-valid") && method.contains(&format!("Stopped after {taken} of at most 60 seeds")),
        "{method}"
    );
    assert_eq!(summary["policies"][0]["rounds"], 100 * taken);
    // Half of the runs gone, as after a kill: the same command fills them in.
    let out = folder.path().join("1");
    let cells: Vec<_> = std::fs::read_dir(out.join("cells")).unwrap().flatten().collect();
    cells
        .iter()
        .step_by(2)
        .for_each(|c| std::fs::remove_file(c.path()).unwrap());
    assert_eq!(with("1"), one);
    // The experiment that was written says how many seeds it took, and gives the same again.
    let file = out.join("experiment.toml").display().to_string();
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains(&format!("seeds = {taken}\n"))
    );
    assert_eq!(run(&[&file], &folder.path().join("again")), one);
}

#[test]
fn equal_policies_are_left_undecided_or_found_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let policies = ["--policies", "uniform,egreedy{epsilon=1.0}", "--max-seeds", "30"];
    let json = run(&[UNTIL, &policies].concat(), &folder.path().join("open"));
    let summary: Value = serde_json::from_slice(&json).unwrap();
    let method = summary["method"].as_str().unwrap();
    assert!(
        method.ends_with("Stopped at the limit of 30 seeds: 0 of 1 pairs are decided."),
        "{method}"
    );
    assert_eq!(summary["stopping"]["seeds"], 30);
    // With a margin there is an end to it.
    let json = run(
        &[UNTIL, &policies, &["--margin", "0.2"]].concat(),
        &folder.path().join("same"),
    );
    let summary: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(summary["pairs"][0]["verdict"], "same within 0.2");
    assert!(
        summary["stopping"]["seeds"].as_u64().unwrap() < 30,
        "{}",
        summary["stopping"]
    );
    // And with a fixed number of seeds the same question has p values.
    let fixed = ["--env", "linear", "--rounds", "100", "--seeds", "30", "--margin", "0.2"];
    let json = run(&[&fixed[..], &policies[..2]].concat(), &folder.path().join("fixed"));
    let pair = &serde_json::from_slice::<Value>(&json).unwrap()["pairs"][0];
    assert_eq!(pair["verdict"], "same within 0.2");
    assert!(pair["p_same"].as_f64().unwrap() < 0.05 && pair["p_not_worse"].as_f64().unwrap() < 0.05);
    assert!(pair["ci_bootstrap"][0].as_f64().unwrap() < pair["ci_bootstrap"][1].as_f64().unwrap());
}

#[test]
fn several_environments_are_counted_and_ranked() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "--env",
        "linear,logistic,linear{d=3}",
        "--rounds",
        "200",
        "--seeds",
        "5",
        "--policies",
        "uniform,lin-ucb,lin-ts",
    ];
    let output = oo_sim(&args, folder.path()).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("over 3 environments") && table.contains("Nemenyi"),
        "{table}"
    );
    let summary: Value = serde_json::from_slice(&std::fs::read(folder.path().join("summary.json")).unwrap()).unwrap();
    let across = &summary["across"];
    let ranks: Vec<f64> = serde_json::from_value(across["mean_ranks"].clone()).unwrap();
    assert!(
        (ranks.iter().sum::<f64>() - 6.0).abs() < 1e-12 && ranks[0] > 2.5,
        "{ranks:?}"
    );
    let tally = |a: usize, b: usize, what: &str| across["tallies"][a][b][what].as_u64().unwrap();
    assert_eq!(
        (0..3)
            .map(|i| tally(0, 1, ["better", "worse", "neither"][i]))
            .sum::<u64>(),
        3
    );
    assert_eq!(tally(0, 1, "worse"), tally(1, 0, "better"));
    // Somebody is best in each environment.
    let best = summary["best"].as_array().unwrap().iter();
    let total: f64 = best.map(|p| p["probability"].as_f64().unwrap()).sum();
    assert!((total - 3.0).abs() < 1e-12, "{total}");
}

#[test]
fn unknown_names_suggest_the_nearest() {
    let e = fails(&["--policies", "linucb"], 2);
    assert!(e.contains("did you mean `lin-ucb`"), "{e}");
    let e = fails(&["--env", "tip"], 2);
    assert!(e.contains("did you mean `tips`"), "{e}");
    let e = fails(&["--policies", "uniform,lin-ucb{alhpa=1}"], 2);
    assert!(e.contains("did you mean `alpha`"), "{e}");
    let e = fails(&["--judge", "rul"], 2);
    assert!(e.contains("did you mean `rule`"), "{e}");
    let e = fails(&["--policies", "uniform", "--baseline", "unifrm"], 2);
    assert!(e.contains("did you mean `uniform`"), "{e}");
    fails(&["--sedes", "3"], 2);
    fails(&["--seeds", "0"], 2);
    fails(&["--threads", "0"], 2);
    fails(&["--max-seeds", "30"], 2);
    let e = fails(&["--until-decided", "--max-seeds", "5"], 2);
    assert!(e.contains("at least the 10 seeds"), "{e}");
    let e = fails(&["--margin=0"], 2);
    assert!(e.contains("margin: expected above 0"), "{e}");
}

#[test]
fn a_bad_experiment_file_names_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "name = \"x\"\npolicies = [\"uniform\"]\nseeds = \"ten\"\n").unwrap();
    let e = fails(&[file.to_str().unwrap()], 2);
    assert!(e.contains("line 3, key `seeds`"), "{e}");
    std::fs::write(&file, "name = \"x\"\nsedes = 10\n").unwrap();
    let e = fails(&[file.to_str().unwrap()], 2);
    assert!(e.contains("line 2") && e.contains("sedes"), "{e}");
}

#[test]
fn a_folder_that_cannot_be_made_is_said_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = oo_sim(SMALL, &file.join("out")).output().unwrap();
    let e = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{e}");
    assert!(e.contains("cannot make the folder") && !e.contains("panicked"), "{e}");
}

/// A limit on the size of files stands in for a full disk: the write fails half-way, whoever runs the test.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_oo-sim"))
        .arg("compare")
        .args(SMALL)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let e = String::from_utf8_lossy(&limited.stderr).into_owned();
    assert_eq!(limited.status.code(), Some(1), "{e}");
    assert!(e.contains("cannot write") && e.contains("goes on from there"), "{e}");
    assert!(!e.contains("panicked"), "{e}");
    assert!(!out.join("summary.json").exists());
    for entry in std::fs::read_dir(out.join("cells")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(
            !name.ends_with(".tmp") && !name.ends_with(".parquet"),
            "{name} was left"
        );
    }
    // With room again, the same command finishes.
    let whole = run(SMALL, &folder.path().join("whole"));
    assert_eq!(run(SMALL, &out), whole);
}
