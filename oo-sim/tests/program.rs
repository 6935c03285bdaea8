//! The program as a whole: its help for shells and people, and what it says about the machine.

use std::path::Path;
use std::process::{Command, Output};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oo-sim"));
    command.env_remove("MLFLOW_TRACKING_URI").env_remove("NO_COLOR");
    command
}

fn run(args: &[&str]) -> Output {
    let out = program().args(args).output().unwrap();
    assert!(
        out.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

fn text(out: &Output) -> String {
    String::from_utf8(out.stdout.clone()).unwrap()
}

/// The names of all commands, from the program's own help.
fn commands() -> Vec<String> {
    let help = text(&run(&["--help"]));
    let list = help
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("Options:")
        .next()
        .unwrap();
    let names: Vec<String> = list
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' ')) // the rest of a long line
        .filter_map(|line| line.split_whitespace().next().map(String::from))
        .filter(|name| name != "help")
        .collect();
    assert!(names.len() >= 16, "{names:?}");
    names
}

#[test]
fn completions_of_every_shell_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&run(&["completions", shell]));
        for name in commands() {
            assert!(script.contains(&name), "{shell} does not know {name}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("oo-sim.bash");
    std::fs::write(&file, run(&["completions", "bash"]).stdout).unwrap();
    let parsed = Command::new("bash").arg("-n").arg(&file).output().unwrap();
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
}

#[test]
fn every_command_has_a_manual_page() {
    assert!(text(&run(&["man"])).contains(".TH oo-sim 1"));
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("man1");
    run(&["man", "--out", folder.to_str().unwrap()]);
    for name in commands() {
        let page = std::fs::read_to_string(folder.join(format!("oo-sim-{name}.1"))).unwrap();
        assert!(page.contains(".TH"), "{name}");
    }
}

#[test]
fn every_commands_help_has_an_example() {
    for name in commands() {
        let help = text(&run(&[&name, "--help"]));
        assert!(
            help.contains("Examples:\n") && help.contains(&format!("  oo-sim {name}")),
            "{name}"
        );
    }
}

#[test]
fn nothing_for_people_is_too_wide() {
    let dir = tempfile::tempdir().unwrap();
    let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments");
    let small = "compare --users 3 --days 2 --seeds 3 --by week --out run --policies \
                 uniform,lin-ucb{alpha=0.05,features=v2,model=disjoint}+per-user,egreedy-v1,egreedy-v2";
    let gate = "gate run --champion uniform --challenger egreedy-v1";
    let list = format!("experiments list --experiments {experiments}");
    let all = [
        small,
        gate,
        "sensitivity run",
        &list,
        "policies",
        "environments",
        "data list",
        "doctor",
        "--help",
    ];
    for line in all {
        let args: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let out = program().args(&args).current_dir(dir.path()).output().unwrap();
        let text = text(&out);
        assert!(
            text.lines().count() > 5,
            "{line}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        for printed in text.lines() {
            assert!(printed.chars().count() <= 100, "{line}:\n{printed}");
        }
    }
}

/// Every command's help says how it is used and what its exit codes mean, or is covered by the program's own.
#[test]
fn nothing_printed_to_a_file_is_coloured() {
    for name in commands() {
        let out = program().args([name.as_str(), "--help"]).output().unwrap();
        assert!(out.status.success(), "{name}");
        assert!(!out.stdout.contains(&0x1b), "{name} --help");
    }
    let dir = tempfile::tempdir().unwrap();
    let out = program()
        .args(["compare", "--users", "2", "--days", "1", "--seeds", "2", "--out", "run"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(!out.stdout.contains(&0x1b) && !out.stderr.contains(&0x1b));
    let wrong = program().args(["compare", "--polices", "x"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!wrong.stderr.contains(&0x1b));
}

/// A terminal is simulated by `script`, where that is installed.
#[test]
fn no_color_is_respected_on_a_terminal() {
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let shown = |no_color: bool| {
        let mut command = Command::new("script");
        let line = format!("{} compare --polices x", env!("CARGO_BIN_EXE_oo-sim"));
        command
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        command.output().unwrap().stdout
    };
    assert!(shown(false).contains(&0x1b), "colours on a terminal");
    assert!(!shown(true).contains(&0x1b));
}

fn doctor(dir: &Path, more: &[(&str, &str)]) -> (Option<i32>, serde_json::Value) {
    let out = program()
        .args(["doctor", "--format", "json"])
        .current_dir(dir)
        .envs(more.iter().copied())
        .output()
        .unwrap();
    (out.status.code(), serde_json::from_slice(&out.stdout).unwrap())
}

fn look<'a>(lines: &'a serde_json::Value, feature: &str) -> &'a serde_json::Value {
    lines
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["feature"] == feature)
        .unwrap()
}

#[test]
fn the_doctor_says_what_is_missing_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (code, lines) = doctor(dir.path(), &[("OO_DATA_DIR", data.to_str().unwrap())]);
    assert_eq!(code, Some(0), "a comparison needs no data: {lines}");
    let sets = look(&lines, "data sets");
    assert_eq!(sets["state"], "missing");
    assert_eq!(sets["remedy"], "oo-sim data get all");
    assert_eq!(look(&lines, "results")["state"], "ready");
    assert_eq!(look(&lines, "MLflow")["state"], "missing");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "it leaves nothing behind"
    );
    // Where no file can be made, not even by root.
    let (code, lines) = doctor(Path::new("/proc"), &[]);
    assert_eq!(code, Some(1));
    assert_eq!(look(&lines, "results")["state"], "missing");
}

#[test]
fn the_doctor_tells_no_secrets() {
    let dir = tempfile::tempdir().unwrap();
    // Port 9 is discard: nothing listens there.
    let address = "http://alice:hunter2@127.0.0.1:9";
    for format in ["json", "table"] {
        let out = program()
            .args(["doctor", "--format", format])
            .env("MLFLOW_TRACKING_URI", address)
            .env("MLFLOW_TRACKING_TOKEN", "tok-5ecret")
            .current_dir(dir.path())
            .output()
            .unwrap();
        let told = [out.stdout, out.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("127.0.0.1:9"), "{told}");
        assert!(
            !told.contains("hunter2") && !told.contains("5ecret") && !told.contains("alice"),
            "{told}"
        );
    }
}
