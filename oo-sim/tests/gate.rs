//! The whole program: the gate's answers as exit codes, what it writes, what it refuses; a run scored again.

use serde_json::Value;
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

const GREEDY: &str = "egreedy{features=v3}";

/// A run in which one policy is better than the other beyond doubt.
fn compare(run: &Path, seeds: &str) {
    compare_with(run, seeds, GREEDY);
}

fn compare_with(run: &Path, seeds: &str, better: &str) {
    let run = run.to_str().unwrap();
    let policies = format!("uniform,{better}");
    let world = ["--users", "20", "--days", "14", "--seeds", seeds];
    fine(&[&["compare", "--policies", &policies, "--out", run], &world[..]].concat());
}

/// A rule that such a run can meet.
fn rule(folder: &Path, text: &str) -> String {
    let path = folder.join("rule.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// The exit code and the JSON.
fn ask(run: &Path, champion: &str, challenger: &str, more: &[&str]) -> (Option<i32>, Value) {
    let of = ["--champion", champion, "--challenger", challenger, "--format", "json"];
    let output = oo_sim(&[&["gate", run.to_str().unwrap()], &of[..], more].concat());
    let json = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        json.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))),
    )
}

/// Exit code 3 and a message.
fn refused(args: &[&str]) -> String {
    let output = oo_sim(&[&["gate"], args].concat());
    assert_eq!(
        output.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_better_policy_is_promoted_and_the_winner_loads() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    compare(&run, "30");
    let mine = rule(
        folder.path(),
        "min_effect = 0.0\n[guards.rise]\ndismiss = 0.05\n[rewards]\nr0 = 0.0\n",
    );
    let (code, report) = ask(&run, "uniform", GREEDY, &["--rule", &mine]);
    assert_eq!((code, &report["answer"]), (Some(0), &"promote".into()), "{report:#}");
    let html = std::fs::read_to_string(run.join("gate/report.html")).unwrap();
    assert!(html.contains("promote: ") && html.contains("min_effect = 0.0") && !html.contains("http"));
    assert_eq!(
        serde_json::from_slice::<Value>(&std::fs::read(run.join("gate/report.json")).unwrap()).unwrap(),
        report
    );
    let policy: Value = serde_json::from_slice(&std::fs::read(run.join("winner/policy.json")).unwrap()).unwrap();
    assert_eq!(
        (&policy["format"], &policy["spec"], &policy["seed"]),
        (&1.into(), &GREEDY.into(), &42.into())
    );
    assert_eq!(
        (&policy["features"], &policy["reward"]["name"]),
        (&"v3".into(), &"r2".into())
    );
    let shape: oo_core::Shape = serde_json::from_value(policy["shape"].clone()).unwrap();
    let state = std::fs::read(run.join("winner/state.safetensors")).unwrap();
    let spec = oo_core::Spec::parse(GREEDY).unwrap();
    let mut loaded = oo_policies::build(&spec, &shape).unwrap();
    loaded.load(&state).unwrap();
    assert_eq!(loaded.save(), state);
    let features = policy["summary"]["features"].as_object().unwrap();
    assert_eq!(features.len(), shape.context.len() + shape.candidate.len());
    // Again: the same bytes, and no second look.
    assert_eq!(ask(&run, "uniform", GREEDY, &["--rule", &mine]).1, report);
    assert_eq!(std::fs::read(run.join("winner/state.safetensors")).unwrap(), state);
    // The other way round the champion stays, and nothing is promoted.
    let out = folder.path().join("none").display().to_string();
    let (code, report) = ask(&run, GREEDY, "uniform", &["--rule", &mine, "--out", &out]);
    assert_eq!((code, &report["answer"]), (Some(1), &"keep".into()));
    assert!(!folder.path().join("none").exists());
    let left = std::fs::read_dir(&run).unwrap().flatten().map(|e| e.file_name());
    assert!(left.into_iter().all(|n| !n.to_string_lossy().ends_with(".tmp")));
    // A challenger that starts from what this one learned: its folder needs no other file.
    let (second, old) = (folder.path().join("second"), folder.path().join("old.state"));
    std::fs::copy(run.join("winner/state.safetensors"), &old).unwrap();
    let warm = format!("{GREEDY}+warm{{from={:?}}}", old.to_str().unwrap());
    compare_with(&second, "30", &warm);
    let (code, report) = ask(&second, "uniform", &warm, &["--rule", &mine]);
    assert_eq!(code, Some(0), "{report:#}");
    let policy: Value = serde_json::from_slice(&std::fs::read(second.join("winner/policy.json")).unwrap()).unwrap();
    assert_eq!(policy["spec"], GREEDY);
    let mut loaded = oo_policies::build(&spec, &shape).unwrap();
    let state = std::fs::read(second.join("winner/state.safetensors")).unwrap();
    loaded.load(&state).unwrap();
    assert_eq!(loaded.save(), state);
}

#[test]
fn few_seeds_are_undecided_and_a_rule_changed_after_a_look_promotes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    compare(&run, "4");
    let (code, report) = ask(&run, "uniform", GREEDY, &[]);
    assert_eq!((code, report["look"].as_u64()), (Some(2), Some(1)));
    assert!(report["rule_is_default"].as_bool().unwrap() && report["rule"]["guards"]["group_loss"] == 0.1);
    assert!(report["more_decisions"].as_u64().unwrap() > 1000, "{report:#}");
    assert!(!run.join("winner").exists());
    // More seeds in the same folder are the second look; the default still stands.
    compare(&run, "30");
    let (_, report) = ask(&run, "uniform", GREEDY, &[]);
    assert_eq!(report["look"].as_u64(), Some(2));
    assert_eq!(report["checks"][0]["outcome"], "pass");
    // Now somebody writes a rule that the evidence is known to meet.
    let mine = rule(folder.path(), "min_effect = 0.0\n");
    let (code, report) = ask(&run, "uniform", GREEDY, &["--rule", &mine]);
    assert_eq!(
        (code, &report["checks"][0]["outcome"]),
        (Some(2), &"undecided".into()),
        "{report:#}"
    );
    let other = folder.path().join("fresh").display().to_string();
    let (code, report) = ask(&run, "uniform", GREEDY, &["--rule", &mine, "--report", &other]);
    assert_eq!(
        (code, &report["checks"][0]["outcome"]),
        (Some(2), &"undecided".into()),
        "another folder is no way out"
    );
    assert!(Path::new(&other).join("report.json").is_file() && !Path::new(&other).join("looks.json").exists());
    // A group that nobody belongs to is named, with those that there are.
    let misspelt = rule(folder.path(), "[guards.groups]\nnightowl = 0.1\n");
    let of = [run.to_str().unwrap(), "--champion", "uniform", "--challenger", GREEDY];
    let e = refused(&[&of[..], &["--rule", &misspelt]].concat());
    assert!(
        e.contains("nightowl") && e.contains("night-owl") && e.contains("shift-worker"),
        "{e}"
    );
    // Estimators that rest on a model alone, or on one of their own, bound nothing.
    for name in ["dm", "mrdr"] {
        let bad = rule(folder.path(), &format!("[log]\nestimators = [\"snips\", \"{name}\"]\n"));
        let e = refused(&[&of[..], &["--rule", &bad]].concat());
        assert!(e.contains("log.estimators") && e.contains(name), "{e}");
    }
    // A record that was tampered with is no empty record.
    std::fs::write(run.join("gate/looks.json"), "[").unwrap();
    let e = refused(&[run.to_str().unwrap(), "--champion", "uniform", "--challenger", GREEDY]);
    assert!(e.contains("looks.json"), "{e}");
}

#[test]
fn the_originals_promotions_do_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let experiment = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../experiments/original-promotions/experiment.toml"
    );
    fine(&["compare", experiment, "--out", run.to_str().unwrap()]);
    let lin_ucb = "lin-ucb{alpha=1.0,features=v0,lambda=1.0,model=shared}+per-user";
    // Even a rule without guards, for a single look, content with five clusters and 100 decisions.
    let lenient = "looks = 1\n[run]\nmin_decisions = 100\nmin_clusters = 5\n";
    let lenient = rule(folder.path(), lenient);
    for (champion, challenger) in [(lin_ucb, "egreedy-v1"), ("egreedy-v1", "egreedy-v2")] {
        let (code, report) = ask(&run, champion, challenger, &[]);
        assert!(matches!(code, Some(1 | 2)), "{report:#}");
        let decisions = report["checks"].as_array().unwrap().iter();
        let mut decisions = decisions.filter(|c| c["name"] == "decisions of each policy");
        assert_eq!(decisions.next().unwrap()["seen"], 100.0);
        // As if this were the first look.
        std::fs::remove_dir_all(run.join("gate")).unwrap();
        let (code, report) = ask(&run, champion, challenger, &["--rule", &lenient]);
        assert!(matches!(code, Some(1 | 2)), "{report:#}");
    }
}

#[test]
fn logs_judge_policies_that_never_ran() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("uniform.parquet");
    let path = log.to_str().unwrap();
    fine(&[
        "log", "--policy", "uniform", "--users", "150", "--days", "40", "--out", path,
    ]);
    let mine = rule(
        folder.path(),
        "[log]\nmin_decisions = 5000\nmin_ess = 200.0\n[guards.rise]\ndismiss = 0.05\n",
    );
    let asked = |champion: &str, challenger: &str| {
        let of = [
            "--champion",
            champion,
            "--challenger",
            challenger,
            "--format",
            "json",
            "--rule",
            &mine,
        ];
        let output = oo_sim(&[&["gate", "--log", path], &of[..]].concat());
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), json)
    };
    let (code, report) = asked("logged", GREEDY);
    assert_eq!(code, Some(0), "{report:#}");
    let winner = folder.path().join("uniform.parquet.gate/winner");
    let policy: Value = serde_json::from_slice(&std::fs::read(winner.join("policy.json")).unwrap()).unwrap();
    assert_eq!(
        (&policy["spec"], &policy["reward"]["name"]),
        (&GREEDY.into(), &"r2".into())
    );
    assert!(policy["decisions"].as_u64().unwrap() > 5000);
    let (code, report) = asked(GREEDY, "uniform");
    assert_eq!(code, Some(1), "{report:#}");
    // A policy cannot be judged where the log never went.
    let narrow = folder.path().join("narrow.parquet");
    let greedy = "egreedy{epsilon=0,features=v3}";
    fine(&[
        "log",
        "--policy",
        greedy,
        "--users",
        "150",
        "--days",
        "40",
        "--out",
        narrow.to_str().unwrap(),
    ]);
    let of = ["--champion", "logged", "--challenger", "uniform", "--format", "json"];
    let output = oo_sim(&[&["gate", "--log", narrow.to_str().unwrap(), "--rule", &mine], &of[..]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &report["more_decisions"]),
        (Some(2), &Value::Null),
        "{report:#}"
    );
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    compare(&run, "3");
    let path = run.to_str().unwrap();
    let both = ["--champion", "uniform", "--challenger", GREEDY];
    let refuse = |more: &[&str]| refused(&[&[path], more].concat());
    let e = refuse(&["--champion", "unifrm", "--challenger", GREEDY]);
    assert!(e.contains("did you mean `uniform`"), "{e}");
    let e = refuse(&["--champion", "uniform", "--challenger", "uniform"]);
    assert!(e.contains("the same policy"), "{e}");
    assert!(refuse(&["--champion", "uniform"]).contains("--challenger"));
    assert!(refuse(&[&both[..], &["--flag"]].concat()).contains("--flag"));
    let e = refuse(&[&both[..], &["--env", "tip"]].concat());
    assert!(e.contains("did you mean `tips`"), "{e}");
    assert!(refused(&both).contains("--log"));
    for (text, expected) in [
        (
            "\n\n[guards]\ngroup_los = 1",
            "line 4, key `group_los`: unknown field `group_los`",
        ),
        ("confidence = \"high\"", "line 1, key `confidence`"),
        (
            "looks = 2.5",
            "line 1, key `looks`: expected \"any\" or a whole number of looks",
        ),
        ("[guards.rise]\ndismis = 1", "line 2, key `dismis`: unknown variant"),
        ("[rewards]\nr3 = 0", "unknown reward spec `r3`"),
        ("[log]\nestimators = [\"drr\"]", "unknown estimator `drr`"),
        (
            "confidence = 2",
            "parameter `confidence` of the rule: expected from 0.5 to below 1, got 2",
        ),
    ] {
        let e = refuse(&[&both[..], &["--rule", &rule(folder.path(), text)]].concat());
        assert!(e.contains(expected) && e.contains("rule.toml"), "{e}");
    }
    assert!(refuse(&[&both[..], &["--rule", "nowhere.toml"]].concat()).contains("nowhere.toml"));
    let e = refuse(&[&both[..], &["--log", "nowhere.parquet"]].concat());
    assert!(e.contains("nowhere.parquet"), "{e}");
    assert!(!run.join("gate").exists() && !run.join("winner").exists());
    let cells = std::fs::read_dir(run.join("cells"))
        .unwrap()
        .flatten()
        .map(|e| e.path());
    let cell = cells
        .into_iter()
        .find(|p| p.extension().is_some_and(|x| x == "parquet"))
        .unwrap();
    let bytes = std::fs::read(&cell).unwrap();
    std::fs::write(&cell, &bytes[..bytes.len() / 2]).unwrap();
    let e = refuse(&both);
    assert!(e.contains("1 of 6 cells") && e.contains("oo-sim compare"), "{e}");
    assert!(!run.join("gate").exists());
    let output = oo_sim(&["sensitivity", path]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_run_is_scored_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    compare(&run, "40");
    let path = run.to_str().unwrap();
    // A spec that turns every reward round turns the ranking round.
    let contrary = r#"{"name": "contrary", "version": 1, "done": [{"below_ms": 15000, "reward": 0.3},
        {"below_ms": 120000, "reward": -1.0}, {"below_ms": 600000, "reward": -0.6}, {"below_ms": null, "reward": -0.3}],
        "snooze": -0.1, "dismiss": 1.0, "helpful": 0, "not_helpful": 0}"#;
    let file = folder.path().join("contrary.json");
    std::fs::write(&file, contrary).unwrap();
    let rewards = format!("r2,{}", file.display());
    let json = fine(&["sensitivity", path, "--rewards", &rewards, "--format", "json"]);
    let s: Value = serde_json::from_str(&json).unwrap();
    let section = &s["environments"][0];
    assert_eq!(
        (&s["learned_under"], &section["survives"]),
        (&"r2".into(), &"no".into()),
        "{section:#}"
    );
    assert_eq!(section["rankings"][0]["tau"], -1.0);
    // Under the run's own spec the means are those of the comparison.
    let summary: Value = serde_json::from_slice(&std::fs::read(run.join("summary.json")).unwrap()).unwrap();
    let (ours, theirs) = (&section["means"][1], &summary["policies"][1]);
    assert!((ours["mean"].as_f64().unwrap() - theirs["mean_reward"].as_f64().unwrap()).abs() < 1e-12);
    assert!((ours["ci"][0].as_f64().unwrap() - theirs["ci"][0].as_f64().unwrap()).abs() < 1e-12);
    let text = fine(&["sensitivity", path]);
    assert!(
        text.contains("The ranking survives") && text.contains("r2 (learned)") && text.contains("learned from"),
        "{text}"
    );
    let output = oo_sim(&["sensitivity", path, "--rewards", "r0,R2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `r2`"));
    let linear = folder.path().join("linear").display().to_string();
    fine(&[
        "compare",
        "--env",
        "linear",
        "--rounds",
        "50",
        "--seeds",
        "2",
        "--policies",
        "uniform,ucb1",
        "--out",
        &linear,
    ]);
    let output = oo_sim(&["sensitivity", &linear]);
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("no reactions"));
    // The gate can do without reactions and groups.
    let (code, report) = ask(Path::new(&linear), "uniform", "ucb1", &[]);
    assert!(
        code == Some(2) && report["rule"]["rewards"].as_object().unwrap().is_empty(),
        "{report:#}"
    );
}
