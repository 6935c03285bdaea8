//! The whole program: a run becomes one page, the same for any number of threads, and nothing else becomes one.

use std::path::Path;
use std::process::{Command, Output};

fn oo_sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oo-sim")).args(args).output().unwrap()
}

fn fine(args: &[&str]) -> String {
    let output = oo_sim(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a small comparison into `run` and reports on it.
fn page(run: &Path, threads: &str, more: &[&str]) -> String {
    let run = run.to_str().unwrap();
    let has_people = !more.contains(&"--env");
    let size: &[&str] = if has_people {
        &["--users", "6", "--days", "3"]
    } else {
        &[]
    };
    fine(&[&["compare", "--threads", threads, "--out", run], size, more].concat());
    let written = fine(&["report", run]);
    assert!(written.trim_end().ends_with("report.html"), "{written}");
    std::fs::read_to_string(written.trim_end()).unwrap()
}

const QUICK: &[&str] = &["--seeds", "3", "--policies", "uniform,lin-ucb{alpha=0.2}"];

#[test]
fn a_run_becomes_one_page_that_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let html = page(folder.path(), "1", QUICK);
    for part in [
        "Reward so far",
        "Regret",
        "Reactions",
        "By persona",
        "Policies",
        "Pairs",
        "How it was run",
        "Speed",
    ] {
        assert!(html.contains(&format!(">{part}</h")), "no {part}");
    }
    for outside in ["http:", "https:", "<script", "<link", "<img", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!html.contains("NaN") && !html.contains("{{"));
    assert!(html.contains("alpha=0.2") && html.contains("seeds = 3"));
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[test]
fn threads_do_not_change_a_byte_but_the_timings() {
    let folder = tempfile::tempdir().unwrap();
    let before_timings = |threads: &str| {
        let html = page(&folder.path().join(threads), threads, QUICK);
        let (page, timings) = html.split_once("<section id=\"timings\">").unwrap();
        assert!(timings.contains("µs a round"));
        page.to_string()
    };
    assert_eq!(before_timings("1"), before_timings("2"));
}

#[test]
fn one_policy_one_seed_one_user_and_worlds_without_people() {
    let folder = tempfile::tempdir().unwrap();
    let one = ["--users", "1", "--seeds", "1", "--policies", "uniform"];
    let run = folder.path().join("one").display().to_string();
    fine(&[&["compare", "--days", "3", "--out", &run], &one[..]].concat());
    fine(&["report", &run]);
    let html = std::fs::read_to_string(folder.path().join("one/report.html")).unwrap();
    assert!(html.contains("nothing to compare") && !html.contains(">Pairs<") && !html.contains("NaN"));
    let linear = [
        "--env",
        "linear,bernoulli{means=\"0.1,0.2\"}",
        "--rounds",
        "50",
        "--seeds",
        "2",
        "--policies",
        "uniform,ucb1",
    ];
    let html = page(&folder.path().join("linear"), "1", &linear);
    for part in ["Over 2 environments", "Mean ranks", "Wins and losses"] {
        assert!(html.contains(&format!(">{part}</h")), "no {part}");
    }
    assert!(
        html.contains("bernoulli{means=&quot;0.1,0.2&quot;}") && !html.contains(">Reactions<"),
        "{html}"
    );
}

#[test]
fn out_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let html = page(folder.path(), "1", QUICK);
    let other = folder.path().join("other.html").display().to_string();
    assert_eq!(
        fine(&["report", folder.path().to_str().unwrap(), "--out", &other]),
        format!("{other}\n")
    );
    assert_eq!(std::fs::read_to_string(other).unwrap(), html);
}

#[test]
fn what_is_no_finished_run_is_said_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |run: &Path| {
        let output = oo_sim(&["report", run.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        assert!(!run.join("report.html").exists());
        String::from_utf8(output.stderr).unwrap()
    };
    let e = refused(folder.path());
    assert!(
        e.contains("expected experiment.toml") && e.contains("oo-sim compare"),
        "{e}"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "a folder was made"
    );
    refused(&folder.path().join("nowhere"));
    let run = folder.path().join("run");
    page(&run, "1", QUICK);
    std::fs::remove_file(run.join("report.html")).unwrap();
    let cells = std::fs::read_dir(run.join("cells")).unwrap().flatten();
    let cell = cells
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|x| x == "parquet"))
        .unwrap();
    std::fs::remove_file(cell).unwrap();
    let e = refused(&run);
    assert!(
        e.contains("1 of 6 cells") && e.contains("seed 4") && e.contains("oo-sim compare"),
        "{e}"
    );
}
