//! Warm starts through the program: fit, migrate, compare; the same bytes every time, and a changed file is noticed.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const WORLD: &[&str] = &["--env", "tips{preset=sparse}", "--users", "8", "--days", "14"];

fn oo_sim(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oo-sim"))
        .current_dir(folder)
        .args(args)
        .output()
        .unwrap()
}

fn runs(folder: &Path, args: &[&str]) -> String {
    let output = oo_sim(folder, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with exit code 2, and says why.
fn refuses(folder: &Path, args: &[&str]) -> String {
    let output = oo_sim(folder, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn fit(folder: &Path, seed: &str, more: &[&str]) -> String {
    runs(folder, &[&["fit"], WORLD, &["--seed", seed], more].concat())
}

fn compare(folder: &Path, policies: &str, more: &[&str]) -> Value {
    let args = ["compare", "--seeds", "2", "--policies", policies, "--format", "json"];
    serde_json::from_str(&runs(folder, &[&args, WORLD, more].concat())).unwrap()
}

fn means(summary: &Value) -> Vec<String> {
    let policies = summary["policies"].as_array().unwrap();
    policies.iter().map(|p| p["mean_reward"].to_string()).collect()
}

#[test]
fn a_log_and_a_population_start_others() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let log = ["--policy", "lin-ts{features=v1}", "--behaviour", "egreedy-v2", "--out"];
    let said = fit(folder, "1000", &[&log[..], &["log.oo"]].concat());
    assert!(
        said.contains("of 8 people from egreedy-v2") && said.contains("log.oo"),
        "{said}"
    );
    fit(folder, "1000", &[&log[..], &["again.oo"]].concat());
    let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(bytes("log.oo"), bytes("again.oo"));
    fit(folder, "1001", &[&log[..], &["other.oo"]].concat());
    assert_ne!(bytes("log.oo"), bytes("other.oo"));
    fit(
        folder,
        "1000",
        &["--policy", "hierarchical{features=v1}", "--out", "new/people.oo"],
    );

    let policies = "lin-ts{features=v1},lin-ts{features=v1}+warm{from=log.oo},\
                    lin-ts{features=v1}+warm{from=log.oo,trust=0.1}+per-user,\
                    hierarchical{features=v1}+warm{from=new/people.oo}";
    let one = compare(folder, policies, &["--threads", "1", "--out", "one"]);
    let two = compare(folder, policies, &["--threads", "2", "--out", "two"]);
    assert_eq!(one, two);
    let all = means(&one);
    assert!((0..all.len()).all(|i| (0..i).all(|j| all[i] != all[j])), "{all:?}");
    let page = runs(folder, &["report", "one"]);
    assert!(page.contains("report.html"), "{page}");

    // A file with other contents under the same name is another policy: nothing of the old run is taken for it.
    std::fs::copy(folder.join("other.oo"), folder.join("log.oo")).unwrap();
    let cells = || std::fs::read_dir(folder.join("one/cells")).unwrap().count();
    let before = cells();
    let other = means(&compare(folder, policies, &["--out", "one"]));
    assert_eq!((&other[0], &other[3]), (&all[0], &all[3]));
    assert!(other[1] != all[1] && other[2] != all[2], "{other:?} {all:?}");
    // Two policies, two seeds, two files a cell.
    assert_eq!(cells() - before, 8);
}

#[test]
fn a_migration_says_what_became_of_each_feature() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fit(folder, "7", &["--policy", "lin-ucb{features=v1}", "--out", "v1.oo"]);
    let migrate = |from: &'static str, version: &str, out: &'static str| {
        let policy = format!("lin-ucb{{features={version}}}");
        runs(folder, &["migrate", from, "--policy", &policy, "--out", out])
    };
    let up = migrate("v1.oo", "v2", "v2.oo");
    assert!(
        up.contains("kept: hour_sin, hour_cos, is_overdue, task_age, priority, dow_sin, dow_cos\n"),
        "{up}"
    );
    assert!(
        up.contains("new, from the prior: completion_rate_30d,") && !up.contains("dropped"),
        "{up}"
    );
    let down = migrate("v2.oo", "v0", "v0.oo");
    assert!(
        down.contains("dropped: dow_sin, dow_cos, completion_rate_30d,"),
        "{down}"
    );
    migrate("v2.oo", "v3", "v3.oo");
    let policies = "lin-ucb{features=v3},lin-ucb{features=v3}+warm{from=v3.oo}";
    let all = means(&compare(folder, policies, &["--out", "out"]));
    assert_ne!(all[0], all[1]);

    let migrate = |from: &'static str, policy: &'static str, more: &[&'static str]| {
        refuses(
            folder,
            &[&["migrate", from, "--out", "no.oo", "--policy", policy], more].concat(),
        )
    };
    for (error, expected) in [
        (
            migrate("v1.oo", "lin-ts{features=v2}", &[]),
            "v1.oo: cannot load the state of lin-ts: it was saved by `lin-ucb`",
        ),
        (migrate("v1.oo", "lin-ucb{features=v1}", &[]), "these very features"),
        (
            migrate("v1.oo", "lin-ucb{features=v2}+per-user", &[]),
            "without wrappers",
        ),
        (
            migrate("v1.oo", "lin-ucb{features=v2}", &["--renew", "hour"]),
            "unknown feature in both specs `hour`",
        ),
        (
            migrate("v1.oo", "lin-ucb", &["--env", "linear"]),
            "no feature is in both",
        ),
        (migrate("no.oo", "lin-ucb{features=v2}", &[]), "cannot read no.oo"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
    assert!(!folder.join("no.oo").exists());
    // No step is taken unasked.
    let error = refuses(
        folder,
        &["compare", "--policies", "lin-ucb{features=v2}+warm{from=v1.oo}"],
    );
    assert!(
        error.contains("only here: completion_rate_30d") && error.contains("oo-sim migrate"),
        "{error}"
    );
    let error = refuses(folder, &["compare", "--policies", "lin-ucb+warm{from=none.oo}"]);
    assert!(error.contains("cannot read the saved policy none.oo"), "{error}");
    let error = refuses(folder, &["compare", "--policies", "lin-ucb+warm"]);
    assert!(error.contains("option `from` of warm"), "{error}");
    assert!(!folder.join("runs").exists(), "work began before the input was checked");
}

#[test]
fn a_neural_policy_starts_from_its_own_shape_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let small = "neural-egreedy{features=v1,width=8,layers=1,warm=20}";
    fit(folder, "3", &["--policy", small, "--out", "net.oo"]);
    let policies = format!("{small},{small}+warm{{from=net.oo}}");
    let all = means(&compare(folder, &policies, &["--out", "out"]));
    assert_ne!(all[0], all[1]);
    let wide = "neural-egreedy{features=v1,width=9,layers=1,warm=20}+warm{from=net.oo}";
    let error = refuses(folder, &["compare", "--policies", wide]);
    assert!(
        error.contains("1 x 8 hidden units") && error.contains("1 x 9 hidden units"),
        "{error}"
    );
    let other = "neural-egreedy{features=v2,width=8,layers=1,warm=20}";
    let error = refuses(folder, &["migrate", "net.oo", "--policy", other, "--out", "no.oo"]);
    assert!(error.contains("cannot be moved to other features"), "{error}");
}

/// What a policy learns from the file of a log is what it learns while the log is made.
#[test]
fn a_log_teaches_what_its_world_taught() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let learner = ["--policy", "lin-ts{features=v1}"];
    fit(
        folder,
        "7",
        &[&learner[..], &["--behaviour", "egreedy-v2", "--out", "world.oo"]].concat(),
    );
    let logged = ["log", "--policy", "egreedy-v2", "--seed", "7", "--out", "log.parquet"];
    runs(folder, &[&logged[..], WORLD].concat());
    let said = runs(
        folder,
        &[&["fit", "--log", "log.parquet", "--out", "log.oo"], &learner[..]].concat(),
    );
    assert!(said.contains("rows from the log log.parquet"), "{said}");
    let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(bytes("world.oo"), bytes("log.oo"));
    compare(folder, "lin-ts{features=v1}+warm{from=log.oo}", &[]);
    let error = refuses(
        folder,
        &[
            "fit",
            "--log",
            "nowhere.parquet",
            "--policy",
            "uniform",
            "--out",
            "x.oo",
        ],
    );
    assert!(error.contains("log nowhere.parquet"), "{error}");
    let error = refuses(
        folder,
        &[
            "fit",
            "--log",
            "log.parquet",
            "--seed",
            "7",
            "--policy",
            "uniform",
            "--out",
            "x.oo",
        ],
    );
    assert!(error.contains("cannot be used with"), "{error}");
    let error = refuses(
        folder,
        &[
            "fit", "--env", "linear", "--days", "7", "--seed", "7", "--policy", "uniform", "--out", "x.oo",
        ],
    );
    assert!(error.contains("linear has no days"), "{error}");
}
