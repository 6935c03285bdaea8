//! The whole program on logs: the golden set, every kind of bad input, logs of our own and of others.

mod commands;
mod samples;

use commands::{fails, oo_sim, succeeds};
use samples::{event, golden, gzip, ours, text_with_floor, write};
use serde_json::Value;
use std::path::Path;

fn ope(log: &Path, more: &[&str]) -> Value {
    let args = [&["ope", log.to_str().unwrap(), "--format", "json"], more].concat();
    serde_json::from_str(&succeeds(&args)).unwrap()
}

/// The entry of an estimator.
fn entry<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let estimates = answer["estimates"].as_array().unwrap();
    let found = estimates.iter().find(|e| e["estimator"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {estimates:?}"))
}

fn value(answer: &Value, name: &str) -> f64 {
    entry(answer, name)["value"].as_f64().unwrap()
}

#[test]
fn the_golden_set() {
    let Some(folder) = golden() else { return };
    let log = folder.join("logged.csv.gz");
    let text = std::fs::read_to_string(folder.join("obp-estimates.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let expected = expected["estimates"].as_object().unwrap();
    let specs: Vec<String> = expected
        .keys()
        .map(|theirs| match ours(theirs) {
            (name, Value::Null) => name,
            (name, Value::String(rule)) => format!("{name}{{lambda={rule}}}"),
            (name, parameter) => format!("{name}{{lambda={parameter}}}"),
        })
        .collect();
    let answer = ope(&log, &["--estimators", &specs.join(",")]);
    assert_eq!(answer.as_object().unwrap().len(), 2);
    for (theirs, expected) in expected {
        let (name, parameter) = ours(theirs);
        let estimates = answer["estimates"].as_array().unwrap();
        let same = |e: &&Value| e["estimator"] == name.as_str() && e["parameter"] == parameter;
        let found = estimates.iter().find(same).unwrap_or_else(|| panic!("no {theirs}"));
        assert_eq!(found.as_object().unwrap().len(), 5);
        let (got, expected) = (found["value"].as_f64().unwrap(), expected["value"].as_f64().unwrap());
        assert!((got - expected).abs() < 1e-9, "{theirs}: {got}, expected {expected}");
    }
    let d = &answer["diagnostics"];
    assert!((d["effective_rows"].as_f64().unwrap() - 436.358_474_622_060_84).abs() < 1e-6);
    let warnings = d["warnings"].to_string();
    assert!(warnings.contains("effective sample size is 436 of 10000"), "{warnings}");

    // `all` has every default, the tuned variants, and the values of VW's estimators.
    let all = ope(&log, &[]);
    for (name, expected) in [
        ("snips", 0.556_602_082_918_340_5),
        ("mle", 0.545_881_895_955_759),
        ("cressie-read", 0.545_881_895_955_759),
    ] {
        assert!((value(&all, name) - expected).abs() < 1e-9, "{name}");
    }
    let tuned = |e: &&Value| e["parameter"].is_string();
    assert_eq!(all["estimates"].as_array().unwrap().iter().filter(tuned).count(), 8);
}

#[test]
fn intervals_of_the_golden_set() {
    let Some(folder) = golden() else { return };
    let log = folder.join("logged.csv.gz");
    let text = std::fs::read_to_string(folder.join("vw-estimators.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    for (method, theirs) in [
        ("gaussian", "gaussian"),
        ("clopper-pearson", "clopper_pearson"),
        ("cressie-read", "cressieread"),
        ("cs", "cs"),
    ] {
        let answer = ope(&log, &["--estimators", "ips,dr", "--interval", method]);
        for end in [0, 1] {
            let got = entry(&answer, "ips")["ci"][end].as_f64().unwrap();
            let expected = expected[format!("{theirs}.Interval")][end].as_f64().unwrap();
            assert!((got - expected).abs() < 1e-6, "{method}: {got}, expected {expected}");
        }
        // What knows weights and rewards only has no interval for an estimate that leans on a model.
        assert_eq!(entry(&answer, "dr")["ci"].is_null(), method != "gaussian");
    }
    let answer = ope(&log, &["--estimators", "dr,snips", "--interval", "bootstrap"]);
    let end = |name: &str, i: usize| entry(&answer, name)["ci"][i].as_f64().unwrap();
    // The other library's percentiles of DR from 2,000 resamples; two such ends differ by about 0.005. Its percentiles of
    // SNIPS are wrong (they keep the denominator), so that is held against the linearised interval.
    assert!((end("dr", 0) - 0.52926).abs() < 0.01 && (end("dr", 1) - 0.59419).abs() < 0.01);
    assert!((end("snips", 0) - 0.5108).abs() < 0.015 && (end("snips", 1) - 0.6024).abs() < 0.015);
}

#[test]
fn threads_do_not_change_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.parquet");
    let log = log.to_str().unwrap();
    succeeds(&[
        "log",
        "--env",
        "linear{d=4}",
        "--policy",
        "egreedy",
        "--rounds",
        "3000",
        "--out",
        log,
    ]);
    let with = |threads: &str| {
        succeeds(&[
            "ope",
            log,
            "--policy",
            "lin-ucb,uniform",
            "--learn",
            "0.4",
            "--interval",
            "bootstrap",
            "--threads",
            threads,
            "--format",
            "json",
        ])
    };
    let (one, four) = (with("1"), with("4"));
    assert_eq!(one, four);
    let answer: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(answer["policies"].as_array().unwrap().len(), 2);
    assert_eq!(answer["policies"][0]["diagnostics"]["learned_from"], 1200);
}

#[test]
fn the_logging_policy_earns_what_it_earned() {
    let folder = tempfile::tempdir().unwrap();
    for (env, policy) in [("bernoulli", "uniform"), ("tips", "softmax{temperature=1}")] {
        let log = folder.path().join(format!("{policy}.parquet"));
        let mut make = vec!["log", "--env", env, "--policy", policy, "--out", log.to_str().unwrap()];
        make.extend(if env == "tips" {
            ["--users", "20", "--days", "10"].as_slice()
        } else {
            &["--rounds", "2000"]
        });
        succeeds(&make);
        // It learns from the log as it did when it wrote it, so its probabilities are those in the log.
        let answer = ope(
            &log,
            &[
                "--policy",
                policy,
                "--learn",
                "log",
                "--estimators",
                "ips,snips",
                "--seed",
                "42",
            ],
        );
        let d = &answer["diagnostics"];
        let mean = d["logged_mean"].as_f64().unwrap();
        for name in ["ips", "snips"] {
            assert!((value(&answer, name) - mean).abs() < 1e-9, "{policy}: {answer}");
        }
        for key in ["mean_weight", "max_weight"] {
            assert!((d[key].as_f64().unwrap() - 1.0).abs() < 1e-9, "{policy}: {answer}");
        }
        assert_eq!(d["users"].is_null(), env != "tips");
        assert_eq!(d["warnings"].as_array().unwrap().len(), 0, "{answer}");
    }
}

#[test]
fn what_the_log_cannot_show_is_said() {
    let folder = tempfile::tempdir().unwrap();
    // Action 2 was never logged, and the target does it with .31.
    let mut text = String::from("action,reward,propensity,pi_e_0,pi_e_1,pi_e_2\n");
    for i in 0..400 {
        text.push_str(&format!("{},{},0.5,0.4,0.29,0.31\n", i % 2, i % 3 / 2));
    }
    let log = write(folder.path(), "log.csv", &text);
    let text = succeeds(&["ope", log.to_str().unwrap()]);
    assert!(
        text.contains("no support for 31 % of what this policy would do: no estimator can answer"),
        "{text}"
    );
    let floor = text_with_floor();
    let log = write(folder.path(), "floor.csv", &floor);
    let text = succeeds(&["ope", log.to_str().unwrap()]);
    assert!(
        text.contains("Warning: the smallest propensity is 1e-6, in 3 rows: that is a floor"),
        "{text}"
    );
}

#[test]
fn dsjson_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> = (0..300).map(event).collect();
    lines.insert(5, r#"{"RewardValue":1,"EventId":"dangling"}"#.into());
    let text = lines.join("\n") + "\n";
    let log = write(folder.path(), "log.json", &text);
    let answer = ope(&log, &["--policy", "uniform"]);
    let d = &answer["diagnostics"];
    assert_eq!(d["rows"], 300);
    assert!((d["max_weight"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    assert!((value(&answer, "ips") - 0.25 * 2.0 / 3.0).abs() < 1e-9);
    assert!((value(&answer, "snips") - 0.25).abs() < 1e-9);
    let packed = folder.path().join("log.json.gz");
    std::fs::write(&packed, gzip(text.as_bytes())).unwrap();
    assert_eq!(ope(&packed, &["--policy", "uniform"]), answer);
    // Both kinds of a label on its own.
    let by_text = r#"{"_label":"1:-1:0.5","c":{"_multi":[{"x":1},{"x":2}]}}"#;
    let by_parts = r#"{"_label":{"Action":2,"Cost":-1,"Probability":0.25},"c":{"_multi":[{"x":1},{"x":2}]}}"#;
    let log = write(folder.path(), "labels.json", &format!("{by_text}\n{by_parts}\n"));
    let answer = ope(&log, &["--policy", "uniform", "--estimators", "ips"]);
    assert!((value(&answer, "ips") - 1.5).abs() < 1e-12);
    // A policy that reads features has them.
    succeeds(&[
        "ope",
        folder.path().join("log.json").to_str().unwrap(),
        "--policy",
        "lin-ucb",
        "--learn",
        "0.5",
    ]);
}

#[test]
fn the_open_bandit_set_is_read() {
    let output = oo_sim(&["ope", "obd_random_men", "--policy", "uniform", "--format", "json"]);
    if !output.status.success() && std::env::var("OO_REQUIRE_DATA").as_deref() != Ok("1") {
        return;
    }
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!((value(&answer, "ips") - 0.0046).abs() < 1e-6, "{answer}");
    // 34 items with a propensity of 1/34, which the file has with seven digits.
    assert!((answer["diagnostics"]["mean_weight"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    let floor = succeeds(&["ope", "obd_bts_women", "--policy", "uniform", "--model", "none"]);
    assert!(floor.contains("is a floor that somebody put there"), "{floor}");
}

#[test]
fn a_policy_learns_elsewhere_or_comes_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (first, second, state) = (path("first.parquet"), path("second.parquet"), path("state.safetensors"));
    for (seed, out) in [("1", &first), ("2", &second)] {
        succeeds(&[
            "log",
            "--env",
            "linear{d=3}",
            "--policy",
            "lin-ucb",
            "--rounds",
            "500",
            "--seed",
            seed,
            "--out",
            out,
            "--save",
            &state,
        ]);
    }
    let learn = |from: &str| {
        let answer = ope(
            Path::new(&first),
            &["--policy", "lin-ucb", "--learn", from, "--estimators", "snips,dm"],
        );
        answer["estimates"].clone()
    };
    // The state at the end of the second run is what learning from the second log gives.
    assert_eq!(learn(&state), learn(&second));
    let warm = format!("lin-ucb+warm{{from={state}}}");
    let answer = ope(Path::new(&first), &["--policy", &warm, "--estimators", "snips,dm"]);
    assert_eq!(answer["estimates"], learn(&state));
    // What taught a policy does not judge it, under another name neither.
    let copy = path("copy.parquet");
    std::fs::copy(&first, &copy).unwrap();
    let e = fails(&["ope", &first, "--policy", "lin-ucb", "--learn", &copy]);
    assert!(e.contains("this is the log that judges"), "{e}");
    assert!(fails(&["ope", &second, "--policy", "egreedy", "--learn", &state]).contains("state"));
    let other = path("other.parquet");
    succeeds(&[
        "log",
        "--env",
        "linear{d=4}",
        "--policy",
        "uniform",
        "--rounds",
        "50",
        "--out",
        &other,
    ]);
    let e = fails(&["ope", &second, "--policy", "lin-ucb", "--learn", &other]);
    assert!(
        e.contains("expected the features and actions") || e.contains("has a feature"),
        "{e}"
    );
}

#[test]
fn late_rewards_are_left_out_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("late.parquet");
    succeeds(&[
        "log",
        "--env",
        "linear{d=3}+delay{rounds=100}",
        "--policy",
        "uniform",
        "--rounds",
        "400",
        "--out",
        log.to_str().unwrap(),
    ]);
    let answer = ope(&log, &["--policy", "uniform"]);
    let d = &answer["diagnostics"];
    assert_eq!(d["rows"].as_u64().unwrap() + d["unanswered"].as_u64().unwrap(), 400);
    assert!((50..=200).contains(&d["unanswered"].as_u64().unwrap()), "{d}");
    assert!(d["warnings"][0].as_str().unwrap().contains("no reward yet"), "{d}");
}

#[test]
fn bad_tables_are_refused_with_their_row() {
    let folder = tempfile::tempdir().unwrap();
    let head = "action,reward,propensity,pi_e_0,pi_e_1,q_hat_0,q_hat_1\n";
    let good = "0,1,0.5,0.5,0.5,0.1,0.2\n";
    let row = |bad: &str| format!("{head}{good}{good}{bad}\n");
    let cases = [
        (
            row("0,1,0,0.5,0.5,0.1,0.2"),
            "row 3, column `propensity`: expected a probability in (0, 1], got 0",
        ),
        (
            row("0,1,1.5,0.5,0.5,0.1,0.2"),
            "row 3, column `propensity`: expected a probability in (0, 1], got 1.5",
        ),
        (
            row("0,1,,0.5,0.5,0.1,0.2"),
            "row 3, column `propensity`: expected a number, got nothing",
        ),
        (
            row("0,NaN,0.5,0.5,0.5,0.1,0.2"),
            "row 3, column `reward`: expected a finite number, got NaN",
        ),
        (
            row("2,1,0.5,0.5,0.5,0.1,0.2"),
            "row 3, column `action`: expected a number below 2",
        ),
        (row("-1,1,0.5,0.5,0.5,0.1,0.2"), "row 3, column `action`"),
        (row("0.5,1,0.5,0.5,0.5,0.1,0.2"), "row 3, column `action`"),
        (
            row("0,1,0.5,0.5,0.6,0.1,0.2"),
            "row 3, column `pi_e_…`: expected probabilities that sum to 1",
        ),
        (row("0,1,0.5,1.5,-0.5,0.1,0.2"), "row 3, column `pi_e_…`"),
        (
            row("0,1,0.5,0.5,0.5,inf,0.2"),
            "row 3, column `q_hat_…`: expected a finite number, got inf",
        ),
        (
            row("red,1,0.5,0.5,0.5,0.1,0.2"),
            "row 3, column `action`: expected a number, got `red`",
        ),
        (row("0,1,0.5,0.5,0.5,0.1"), "row 3: expected 7 cells, got 6"),
        (row("0,1,0.5,0.5,0.5,0.1,0.2,9"), "row 3: expected 7 cells, got 8"),
        (head.into(), "the log is empty"),
        (String::new(), "the log is empty"),
        (
            "action,reward,pi_e_0\n0,1,1\n".into(),
            "there is no column `propensity` or `pscore`; there are: action",
        ),
        ("action,cost\n0,1\n".into(), "no known format"),
        ("action,reward,pscore,pi_e_0,pi_e_2\n0,1,1,1,0\n".into(), "no `pi_e_1`"),
        (
            "action,reward,pscore,pi_e_0,q_hat_0,q_hat_1\n0,1,1,1,0,0\n".into(),
            "expected as many",
        ),
        (
            "action,reward,reward,pscore\n0,1,1,1\n".into(),
            "two columns are named `reward`",
        ),
        (
            "action,reward,pscore\n0,1,1\n".into(),
            "does not say what the target policy would do",
        ),
    ];
    for (i, (text, expected)) in cases.iter().enumerate() {
        let out = folder.path().join("answer.json");
        let log = write(folder.path(), &format!("{i}.csv"), text);
        let e = fails(&["ope", log.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        assert!(e.contains(expected), "{text}: {e}");
        assert!(e.contains(&format!("{i}.csv")), "the log is not named: {e}");
        assert!(!out.exists());
    }
    let whole = gzip(row(&good.repeat(500)).as_bytes());
    let log = folder.path().join("cut.csv.gz");
    std::fs::write(&log, &whole[..whole.len() / 2]).unwrap();
    assert!(fails(&["ope", log.to_str().unwrap()]).contains("cannot be read on"));
    assert!(fails(&["ope", "nowhere.csv"]).contains("nowhere.csv"));
}

#[test]
fn bad_lines_of_dsjson_are_refused_with_their_row() {
    let folder = tempfile::tempdir().unwrap();
    let good = event(0);
    let cases = [
        ("not json".to_string(), "row 2: expected a JSON object of dsjson"),
        (
            good.replace(r#""_label_probability":0.5"#, r#""_label_probability":0"#),
            "row 2, column `_label_probability`",
        ),
        (
            good.replace(r#""_label_probability":0.5"#, r#""_label_probability":0.4"#),
            "0.5, as in `p`",
        ),
        (good.replace(r#""_labelIndex":0"#, r#""_labelIndex":7"#), "row 2"),
        (good.replace(r#""_label_cost":-1,"#, ""), "row 2, column `_label_cost`"),
        (good.replace("[0.5,0.3,0.2]", "[0.5,0.3,0.3]"), "row 2, column `p`"),
        (good.replace("[0.5,0.3,0.2]", "[0.5,0.5]"), "row 2, column `p`"),
        (good.replace(r#""a":[1,2,3]"#, r#""a":[1,2,2]"#), "row 2, column `a`"),
        (good.replace("_multi", "_slots"), "row 2, column `c._multi`"),
        (
            good[..good.len() / 2].to_string(),
            "row 2: expected a JSON object of dsjson",
        ),
    ];
    for (i, (line, expected)) in cases.iter().enumerate() {
        let log = write(folder.path(), &format!("{i}.json"), &format!("{good}\n{line}\n"));
        let e = fails(&["ope", log.to_str().unwrap(), "--policy", "uniform"]);
        assert!(e.contains(expected), "{line}: {e}");
    }
}

#[test]
fn damaged_parquet_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.parquet");
    let path = log.to_str().unwrap();
    succeeds(&[
        "log",
        "--env",
        "linear{d=3}",
        "--policy",
        "egreedy",
        "--rounds",
        "300",
        "--out",
        path,
    ]);
    let bytes = std::fs::read(&log).unwrap();
    for length in [0, 3, 4, 11, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&log, &bytes[..length]).unwrap();
        fails(&["ope", path, "--policy", "uniform"]);
    }
    // A byte turned over anywhere gives another answer or an error, and never a panic.
    for i in 0..60 {
        let mut damaged = bytes.clone();
        // Half of them in the last 4,000 bytes: the footer is where structure is.
        let at = match i % 2 {
            0 => i * bytes.len() / 60,
            _ => bytes.len() - 4000 + 66 * i,
        };
        damaged[at] ^= 0xff;
        std::fs::write(&log, &damaged).unwrap();
        let output = oo_sim(&[
            "ope",
            path,
            "--policy",
            "uniform",
            "--model",
            "none",
            "--estimators",
            "ips",
        ]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 2)), "byte {at}: {error}");
        assert!(!error.contains("panicked"), "byte {at}: {error}");
    }
}

#[test]
fn flags_are_checked_first() {
    for (args, expected) in [
        (["--estimators", "sinps"], "did you mean `snips`"),
        (["--estimators", "ips{lambda=-1}"], "from 0 to inf"),
        (["--interval", "exact"], "expected one of normal"),
        (["--level", "1"], "between 0 and 1"),
        (["--resamples", "0"], "expected 1 to"),
        (["--folds", "1"], "expected 2 to 100"),
        (["--threads", "0"], "at least 1"),
        (["--reward-range", "1,0"], "LOW below HIGH"),
        (["--learn", "log"], "name the policy"),
        (["--learn", "1.5"], "a share between 0 and 1"),
        (["--learn", "nothing"], "expected none, log, a share"),
    ] {
        let e = fails(&["ope", "nowhere.csv", args[0], args[1]]);
        assert!(e.contains(expected), "{args:?}: {e}");
    }
    let folder = tempfile::tempdir().unwrap();
    let log = write(
        folder.path(),
        "log.csv",
        "action,reward,pscore,pi_e_0,pi_e_1\n0,2,0.5,0.5,0.5\n",
    );
    let log = log.to_str().unwrap();
    for (args, expected) in [
        (["--policy", "lin-ucbb"], "did you mean `lin-ucb`"),
        (["--model", "quadratic"], "quadratic"),
        (
            ["--interval", "cs"],
            "row 1, column `reward`: expected a reward from 0 to 1",
        ),
        (["--log-format", "xml"], "unknown log format `xml`"),
        (["--log-format", "dsjson"], "row 1"),
        (["--estimators", "mips"], "library only"),
    ] {
        let e = fails(&["ope", log, args[0], args[1]]);
        assert!(e.contains(expected), "{args:?}: {e}");
    }
    for (row, expected) in [
        (
            "0,1e308,0.5,0.5,0.5,0,0",
            "row 1, column `reward`: expected a number between -1e100 and 1e100, got 1e308",
        ),
        (
            "0,1,0.5,0.5,0.6,0,0",
            "row 1, column `pi_e_…`: expected probabilities that sum to 1",
        ),
        (
            "0,1,0.5,0.5,0.5,0,inf",
            "row 1, column `q_hat_…`: expected a finite number, got inf",
        ),
    ] {
        let bad = format!("action,reward,pscore,pi_e_0,pi_e_1,q_hat_0,q_hat_1\n{row}\n");
        let bad = write(folder.path(), "bad.csv", &bad);
        let e = fails(&["ope", bad.to_str().unwrap()]);
        assert!(e.contains(expected), "{e}");
    }
    for args in [["--estimators", "snips,snips"], ["--policy", "uniform,uniform"]] {
        let e = fails(&["ope", log, args[0], args[1]]);
        assert!(e.contains("is asked for twice"), "{e}");
    }
    // Also where no estimator needs one.
    let e = fails(&["ope", log, "--estimators", "ips", "--model", "quadratic"]);
    assert!(e.contains("unknown reward model `quadratic`"), "{e}");
    let e = fails(&["ope", log, "--estimators", "dr", "--model", "none"]);
    assert!(e.contains("needs a reward model"), "{e}");
}

#[test]
fn what_shows_no_spread_has_no_interval() {
    let folder = tempfile::tempdir().unwrap();
    for reward in ["0", "1", "0.1"] {
        let rows: String = (0..60).map(|i| format!("{},{reward},0.5,0.8,0.2\n", i % 2)).collect();
        let text = format!("action,reward,pscore,pi_e_0,pi_e_1\n{rows}");
        let log = write(folder.path(), "equal.csv", &text);
        for method in ["normal", "bootstrap"] {
            let answer = ope(&log, &["--estimators", "snips", "--interval", method]);
            assert!(entry(&answer, "snips")["ci"].is_null(), "{answer}");
            let warnings = answer["diagnostics"]["warnings"].to_string();
            assert!(
                warnings.contains("no interval for snips") && warnings.contains("all rewards are equal"),
                "{warnings}"
            );
        }
        // Those that go by the range of rewards have one, and it holds the reward.
        for method in ["cressie-read", "cs"] {
            let answer = ope(&log, &["--estimators", "snips", "--interval", method]);
            let ci = &entry(&answer, "snips")["ci"];
            let (low, high, reward) = (
                ci[0].as_f64().unwrap(),
                ci[1].as_f64().unwrap(),
                reward.parse().unwrap(),
            );
            assert!(low <= reward && reward <= high && low < high, "{method}: {ci}");
        }
    }
}
