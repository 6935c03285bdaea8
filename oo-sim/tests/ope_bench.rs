//! `oo-sim ope-bench`: the same bytes for any number of threads, known failures show, errors that help.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const SMALL: &[&str] = &[
    "ope-bench",
    "--env",
    "logistic{d=3,actions=4,scale=3}",
    "--loggers",
    "uniform,egreedy{epsilon=0.2}",
    "--sizes",
    "100,400",
    "--logs",
    "40",
    "--train",
    "200",
    "--truth",
    "20000",
];

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oo-sim")).args(args).output().unwrap()
}

fn report(more: &[&str], out: &Path) -> (Vec<u8>, Value) {
    let output = run(&[SMALL, more, &["--out", out.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(out).unwrap();
    let value = serde_json::from_slice(&bytes).unwrap();
    (bytes, value)
}

/// A number of the line `name` in a cell.
fn number(cell: &Value, name: &str, field: &str) -> f64 {
    let lines = cell["lines"].as_array().unwrap();
    let line = lines.iter().find(|l| l["name"] == name).unwrap();
    line[field].as_f64().unwrap()
}

#[test]
fn threads_do_not_change_a_byte_and_the_truth_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let with = |threads: &str| report(&["--threads", threads], &folder.path().join(threads));
    let ((one, value), (two, _), (eight, _)) = (with("1"), with("2"), with("8"));
    assert!(one == two && one == eight);
    // Sizes by loggers and one learner.
    let cells = value["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 6);
    for cell in cells {
        for name in ["ips", "snips", "dr", "sndr", "mrdr"] {
            // Unbiased, or nearly so: 30 checks at 5 standard errors over 40 logs (Student's t) are a false alarm once in
            // 3,000 seeds; this seed is fixed.
            let (bias, error) = (number(cell, name, "bias"), number(cell, name, "bias_error"));
            let truth_error = cell["truth_error"].as_f64().unwrap();
            assert!(
                bias.abs() < 5.0 * error + 5.0 * truth_error,
                "{name}: {bias} {error} in {cell}"
            );
        }
        // Valid at all times, for logs that learn too: fewer than 30 of 40 hold with a probability below 1e-9.
        assert!(number(cell, "sequence", "coverage") >= 0.75, "{cell}");
    }
    // Four times the rows halve the error of a uniform log; over 40 logs its own noise is about 11 %.
    let ratio = number(&cells[0], "dr", "rmse") / number(&cells[3], "dr", "rmse");
    assert!((1.3..3.1).contains(&ratio), "{ratio}");
    let text = run(&[SMALL, &["--logs", "4"]].concat());
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("effective size") && text.contains("sequence"), "{text}");
}

#[test]
fn people_and_data_sets_have_truths_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let toy = folder.path().join("toy.csv");
    let rows: String = (0..300).map(|i| format!("{},{},{}\n", i % 7, i % 5, i % 3)).collect();
    std::fs::write(&toy, format!("a,b,label\n{rows}")).unwrap();
    let out = folder.path().join("report.json");
    let worlds = format!("tips,data:{}", toy.display());
    let args = [
        "--env",
        &worlds,
        "--sizes",
        "60",
        "--logs",
        "5",
        "--loggers",
        "uniform",
        "--target",
        "egreedy",
    ];
    let base = ["ope-bench", "--train", "100", "--out", out.to_str().unwrap()];
    let output = run(&[&base[..], &args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    let cells = value["cells"].as_array().unwrap();
    assert!(cells[0]["truth_error"].is_null() && cells[0]["world"] == "tips");
    assert_eq!(cells[2]["truth_error"], 0.0);
}

#[test]
fn bad_input_is_told_before_any_work() {
    for (args, word) in [
        (&["--env", "lineer"][..], "did you mean `linear`"),
        (&["--target", "uniformm"], "did you mean `uniform`"),
        (&["--learners", "egreedy{epsilon=2}"], "epsilon"),
        (&["--model", "lineer"], "did you mean `linear`"),
        (&["--folds", "0"], "folds"),
        (&["--sizes", "0"], "sizes"),
        (&["--logs", "1"], "logs"),
        (&["--threads", "0"], "threads"),
    ] {
        let output = run(&[&["ope-bench"], args].concat());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(word), "{args:?}: {text}");
    }
    let output = run(&["ope-bench", "--env", "data:/nowhere.csv"]);
    assert_eq!(output.status.code(), Some(2));
}
