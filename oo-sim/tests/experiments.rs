//! Every folder of `experiments/`: is it complete, and does it still give what it gave? A new folder is checked as it
//! stands; nothing is to be added here.

use oo_sim::experiments::{Folder, KINDS, figures, index};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments")
}

fn folders() -> Vec<Folder> {
    index(&root()).unwrap()
}

/// `oo-sim experiments`, in a folder of its own.
fn experiments(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oo-sim"));
    command.current_dir(folder).arg("experiments").args(args);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The settings beside the steps.
fn settings(folder: &Folder) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&folder.path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if name.ends_with(".toml") && name != "expected.toml" {
            all.push((name, std::fs::read_to_string(path).unwrap()));
        }
    }
    all
}

#[test]
fn every_experiment_has_question_command_answer_plot_and_expected_results() {
    for folder in folders() {
        let (name, manifest) = (&folder.name, &folder.manifest);
        let readme = folder.readme().unwrap();
        assert!(manifest.question.ends_with('?'), "{name}: {}", manifest.question);
        assert!(manifest.answer.ends_with('.'), "{name}: {}", manifest.answer);
        assert!(!manifest.size.is_empty(), "{name}: size");
        let command = format!("oo-sim experiments run {name}");
        for part in ["**Question.**", "**Answer", "```sh\n", command.as_str()] {
            assert!(readme.contains(part), "{name}: README.md has no `{part}`");
        }
        let drawn = figures(&folder).unwrap();
        assert!(!drawn.is_empty(), "{name}: no figure");
        for (file, drawing) in drawn {
            assert!(
                readme.contains(&format!("]({file})")),
                "{name}: README.md does not show {file}"
            );
            let there = std::fs::read_to_string(folder.path.join(&file)).unwrap_or_default();
            assert!(
                there == drawing,
                "{name}/{file} is not what the README's table gives; `oo-sim experiments draw {name}` draws it"
            );
        }
        let results = |command: &str| KINDS.iter().any(|k| k.command == command && k.results("").is_some());
        let with_results = manifest
            .steps
            .iter()
            .filter(|s| results(s.command.split(' ').next().unwrap()));
        let mut with_results: Vec<&str> = with_results.map(|s| s.name.as_str()).collect();
        with_results.sort_unstable();
        let expected = folder.expected().unwrap();
        assert_eq!(
            expected.steps().collect::<Vec<_>>(),
            with_results,
            "{name}: expected.toml"
        );
    }
}

#[test]
fn every_experiment_names_the_data_and_the_settings_that_it_reads() {
    for folder in folders() {
        let name = &folder.name;
        let settings = settings(&folder);
        let all: String = settings.iter().map(|(_, text)| text.as_str()).collect();
        for part in all.split("data:").skip(1) {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap();
            let set = &part[..end];
            assert!(
                folder.manifest.data.iter().any(|d| d == set),
                "{name}: `data` lacks {set}"
            );
        }
        for set in &folder.manifest.data {
            assert!(all.matches(set.as_str()).count() > 1, "{name}: no step reads {set}");
        }
        for (file, _) in settings.iter().filter(|(file, _)| file != "steps.toml") {
            let read = format!("{{here}}/{file}");
            assert!(
                folder.manifest.steps.iter().any(|s| s.command.contains(&read)),
                "{name}: no step reads {file}"
            );
        }
    }
}

#[test]
fn the_index_is_what_the_program_prints() {
    let output = experiments(&root(), &["list", "--format", "markdown", "--experiments", "."]);
    let table = text(&output.stdout);
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(
        output.status.success() && readme.contains(&table),
        "experiments/README.md should have this table:\n{table}{}",
        text(&output.stderr)
    );
}

/// The whole of every experiment, at its small size. About 30 CPU-seconds.
#[test]
fn every_experiment_gives_what_is_expected_at_the_small_size() {
    let root = root().canonicalize().unwrap();
    let root = root.to_str().unwrap();
    let work = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for folder in folders() {
        let missing = folder.missing().unwrap();
        if !missing.is_empty() {
            let required = std::env::var("OO_REQUIRE_DATA").is_ok_and(|v| v == "1");
            assert!(
                !required,
                "{}: OO_REQUIRE_DATA=1, but {missing:?} are not here",
                folder.name
            );
            continue;
        }
        let args = ["run", &folder.name, "--small", "--check", "--experiments", root];
        let output = experiments(work.path(), &args);
        if !output.status.success() {
            failures.push(format!("{}: {}", folder.name, text(&output.stderr)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A folder with one experiment, as somebody would add it.
fn added(root: &Path, name: &str, steps: &str) {
    let folder = root.join("experiments").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let about = "question = 'Which?'\nanswer = 'None.'\nsize = 'small'\n";
    std::fs::write(folder.join("steps.toml"), format!("{about}{steps}")).unwrap();
    std::fs::write(folder.join("README.md"), "# New\n").unwrap();
}

const ARMS: &str = "[[step]]\ncommand = 'compare'\n[step.options]\nenv = 'bernoulli'\npolicies = ['ucb1', 'uniform']\n\
                    rounds = 300\nseeds = 2\n[step.small]\nrounds = 60\n";

#[test]
fn a_new_folder_is_an_experiment_and_what_changes_is_noticed() {
    let work = tempfile::tempdir().unwrap();
    added(work.path(), "arms", ARMS);
    let output = experiments(work.path(), &["list"]);
    assert!(text(&output.stdout).contains("Which?"), "{}", text(&output.stderr));
    // Nothing is expected yet.
    let check = ["run", "arms", "--small", "--check"];
    let output = experiments(work.path(), &check);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("oo-sim experiments run arms --small --accept"),
        "{error}"
    );

    assert!(
        experiments(work.path(), &["run", "arms", "--small", "--accept"])
            .status
            .success()
    );
    let output = experiments(work.path(), &check);
    assert!(
        text(&output.stdout).ends_with("As expected.\n"),
        "{}",
        text(&output.stderr)
    );
    let file = work.path().join("experiments/arms/expected.toml");
    let expected = std::fs::read_to_string(&file).unwrap();
    let line = expected.lines().find(|l| l.starts_with("ucb1 = ")).unwrap();
    std::fs::write(&file, expected.replace(line, "ucb1 = 0.25")).unwrap();
    let output = experiments(work.path(), &check);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("compare, bernoulli, ucb1: expected 0.25 within 1e-9, found 0."),
        "{error}"
    );

    let output = experiments(work.path(), &["run", "arms"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("$ oo-sim compare --env bernoulli --policies ucb1,uniform --rounds 300"),
        "{shown}"
    );
    let results = std::fs::read_to_string(work.path().join("runs/arms/results.md")).unwrap();
    assert!(results.contains("| `ucb1` | 0."), "{results}");
    assert!(work.path().join("runs/arms/compare/summary.json").is_file());
}

#[test]
fn what_is_wrong_is_said_before_any_work() {
    let work = tempfile::tempdir().unwrap();
    let refused = |args: &[&str], part: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oo-sim"));
        command
            .current_dir(work.path())
            .env("OO_DATA_DIR", work.path())
            .arg("experiments")
            .args(args);
        let output = command.output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(part), "{error}");
        assert!(!work.path().join("runs").exists(), "work was done: {error}");
    };
    refused(&["list"], "name the folder with --experiments");
    added(work.path(), "arms", ARMS);
    refused(&["run", "amrs"], "did you mean `arms`");
    refused(&["run", "../arms"], "unknown experiment");
    refused(&["run", "arms", "--check"], "--small");
    added(work.path(), "arms", &format!("data = ['letter', 'vowel']\n{ARMS}"));
    refused(&["run", "arms"], "`oo-sim data get letter vowel` downloads them");
    added(work.path(), "arms", &ARMS.replace("rounds = 300", "ronuds = 300"));
    refused(&["run", "arms"], "step compare: compare --env bernoulli");
    added(work.path(), "arms", &ARMS.replace("'compare'", "'comapre'"));
    refused(&["run", "arms"], "did you mean `compare`");
    added(work.path(), "arms", &ARMS.replace("[step.small]", "[step.smal]"));
    refused(&["run", "arms"], "steps.toml: line ");
}
