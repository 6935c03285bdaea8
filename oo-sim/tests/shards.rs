//! The whole program in parts: shards put together have the bytes of one run, and what is missing or wrong is named.

mod commands;

use commands::{fails, succeeds};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const EXPERIMENT: &str = "env = [\"linear{d=3}\", \"tips\"]\npolicies = [\"uniform\", \"lin-ucb{alpha=0.2}\", \"lin-ts\"]\n\
                          rounds = 60\nseeds = 4\n";

/// A folder for everything, with the experiment in it.
struct Bench {
    folder: tempfile::TempDir,
    experiment: String,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let experiment = folder.path().join("mine.toml");
        std::fs::write(&experiment, EXPERIMENT).unwrap();
        Bench {
            experiment: experiment.display().to_string(),
            folder,
        }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn shard(&self, shard: &str, out: &str) -> String {
        succeeds(&["compare", &self.experiment, "--shard", shard, "--out", &self.at(out)])
    }

    fn merge(&self, parts: &[&str], out: &str) -> Vec<String> {
        let mut args = vec!["merge".to_string()];
        args.extend(parts.iter().map(|p| self.at(p)));
        args.extend(["--out".to_string(), self.at(out)]);
        args
    }

    /// A run on one machine.
    fn whole(&self) -> BTreeMap<String, Vec<u8>> {
        succeeds(&["compare", &self.experiment, "--out", &self.at("whole")]);
        succeeds(&["report", &self.at("whole")]);
        bytes(&self.folder.path().join("whole"))
    }
}

/// All files of a run by name, without what a clock wrote: timings.json, the notes of cells, the report's last section.
fn bytes(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in [run.to_path_buf(), run.join("cells")] {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(run).unwrap().display().to_string();
            if path.is_dir() || name == "timings.json" {
                continue;
            }
            let mut content = std::fs::read(&path).unwrap();
            if name.ends_with(".json") && name.starts_with("cells") {
                let mut note: serde_json::Value = serde_json::from_slice(&content).unwrap();
                assert!(note["cpu_us"].take().is_number());
                content = note.to_string().into_bytes();
            } else if name == "report.html" {
                let html = String::from_utf8(content).unwrap();
                content = html
                    .split_once("<section id=\"timings\">")
                    .unwrap()
                    .0
                    .as_bytes()
                    .to_vec();
            }
            files.insert(name, content);
        }
    }
    files
}

fn merged(bench: &Bench, parts: &[&str], out: &str) -> BTreeMap<String, Vec<u8>> {
    let args = bench.merge(parts, out);
    let table = succeeds(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(table.contains("lin-ucb"), "{table}");
    succeeds(&["report", &bench.at(out)]);
    bytes(&bench.folder.path().join(out))
}

#[test]
fn shards_put_together_have_the_bytes_of_one_run() {
    let bench = Bench::new();
    let whole = bench.whole();
    assert_eq!(whole.len(), 3 + 2 * 24);
    // Each in a folder of its own, one of them twice.
    let parts = ["1", "2", "3", "4"];
    for i in parts {
        let said = bench.shard(&format!("{i}/4"), i);
        assert!(said.contains("6 of 24 cells, 6 run now, 0 there before"), "{said}");
        assert!(!bench.folder.path().join(i).join("summary.json").exists());
    }
    let said = bench.shard("2/4", "2");
    assert!(said.contains("0 run now, 6 there before"), "{said}");
    assert_eq!(merged(&bench, &parts, "merged"), whole);
    // Shards of other sizes that overlap, in folders that overlap, and what was merged before.
    for (shard, out) in [("1/3", "a"), ("2/3", "a"), ("1/2", "b"), ("2/2", "b")] {
        bench.shard(shard, out);
    }
    assert_eq!(merged(&bench, &["a", "b", "merged"], "again"), whole);
    // In place.
    assert_eq!(merged(&bench, &["b"], "b"), whole);
}

/// Every shard at once, each started twice, by the queue that every machine has.
#[cfg(unix)]
#[test]
fn shards_started_by_xargs_share_a_folder() {
    let bench = Bench::new();
    let queue = "seq 8; seq 8";
    let line = format!(
        "({queue}) | xargs -P 4 -I {{}} {} compare {} --threads 1 --shard {{}}/8 --out {}",
        env!("CARGO_BIN_EXE_oo-sim"),
        bench.experiment,
        bench.at("shared")
    );
    let done = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(merged(&bench, &["shared"], "shared"), bench.whole());
}

/// What the book gives to Slurm and Kubernetes, by a shell that does what they do: every task with its number, then the rest.
#[cfg(unix)]
#[test]
fn the_books_scripts_for_queues_run() {
    let bench = Bench::new();
    let page = include_str!("../../docs/cluster.md");
    let between = |start: &str, end: &str| {
        let (_, rest) = page
            .split_once(start)
            .unwrap_or_else(|| panic!("{start} is not in docs/cluster.md"));
        rest.split_once(end).unwrap().0.to_string()
    };
    let programs = Path::new(env!("CARGO_BIN_EXE_oo-sim")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(programs.to_path_buf()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    let sh = |script: &str, number: Option<(&str, u32)>| {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .current_dir(bench.folder.path())
            .env("PATH", &path);
        command.envs(number.map(|(name, value)| (name, value.to_string())));
        let done = command.output().unwrap();
        assert!(
            done.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    let slurm = between("cat > shard.sh <<'END'\n", "END\n");
    assert!(slurm.contains("#SBATCH --array=1-16\n"));
    (1..=16).for_each(|i| sh(&slurm, Some(("SLURM_ARRAY_TASK_ID", i))));
    sh(&between("--wrap '", "'\n"), None);
    assert_eq!(merged(&bench, &["runs/mine"], "of-slurm"), bench.whole());
    // A folder stands for the bucket; object_storage.rs has one.
    let pod = between("args: ['", "']\n").replace("s3://results/", "results/");
    assert!(page.contains("completionMode: Indexed\n  completions: 16\n"));
    (0..16).for_each(|i| sh(&pod, Some(("JOB_COMPLETION_INDEX", i))));
    assert_eq!(merged(&bench, &["results/mine"], "of-pods"), bench.whole());
}

#[test]
fn what_is_missing_is_named_with_the_commands_that_run_it() {
    let bench = Bench::new();
    for i in ["1", "3", "4"] {
        bench.shard(&format!("{i}/4"), i);
    }
    let args = bench.merge(&["1", "3", "4"], "merged");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let e = fails(&args);
    assert!(e.contains("6 of 24 cells are missing or damaged"), "{e}");
    assert!(e.contains("uniform in linear{d=3}, seed 43"), "{e}");
    assert!(!bench.folder.path().join("merged").exists(), "something was written");
    // The command is run as printed.
    let commands: Vec<&str> = e.lines().filter_map(|l| l.trim().strip_prefix("oo-sim ")).collect();
    assert_eq!(commands.len(), 1, "{e}");
    assert!(commands[0].contains("--shard 2/4"), "{e}");
    succeeds(&commands[0].split(' ').collect::<Vec<_>>());
    succeeds(&args);
    // A damaged cell is as good as missing; another folder's is taken.
    let cell = std::fs::read_dir(bench.folder.path().join("3/cells"))
        .unwrap()
        .flatten();
    let cell = cell
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|x| x == "parquet"))
        .unwrap();
    let content = std::fs::read(&cell).unwrap();
    std::fs::write(&cell, &content[..content.len() / 2]).unwrap();
    assert!(
        fails(
            &bench
                .merge(&["1", "3", "4"], "other")
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
        )
        .contains("1 of 24")
    );
    succeeds(&args);
}

#[test]
fn the_list_names_what_is_left() {
    let bench = Bench::new();
    let list = || succeeds(&["compare", &bench.experiment, "--list", "--out", &bench.at("out")]);
    let all = list();
    assert_eq!(all.lines().count(), 24);
    assert!(!bench.folder.path().join("out").exists());
    let columns: Vec<&str> = all.lines().nth(5).unwrap().split('\t').collect();
    assert_eq!(
        [columns[0], columns[2], columns[3], columns[4]],
        ["6/24", "linear{d=3}", "lin-ucb{alpha=0.2}", "43"]
    );
    bench.shard("6/24", "out");
    assert!(
        bench
            .folder
            .path()
            .join("out/cells")
            .join(format!("{}.parquet", columns[1]))
            .is_file()
    );
    let left: Vec<String> = all
        .lines()
        .filter(|l| !l.starts_with("6/24\t"))
        .map(String::from)
        .collect();
    assert_eq!(list().lines().collect::<Vec<_>>(), left);
}

#[test]
fn folders_that_do_not_belong_together_are_refused() {
    let bench = Bench::new();
    bench.shard("1/2", "1");
    bench.shard("2/2", "2");
    let refused = |parts: &[&str]| {
        fails(
            &bench
                .merge(parts, "merged")
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        )
    };
    // Another experiment, in a folder of its own and in one that is taken.
    let other = |out: &str| {
        [
            "compare",
            &bench.experiment,
            "--seeds",
            "3",
            "--shard",
            "1/2",
            "--out",
            &bench.at(out),
        ]
        .map(String::from)
    };
    succeeds(&other("3").each_ref().map(String::as_str));
    let e = refused(&["1", "3"]);
    assert!(e.contains("`seeds` is 3 there and 4 here"), "{e}");
    let e = fails(&other("1").each_ref().map(String::as_str));
    assert!(
        e.contains("holds another experiment") && e.contains("`seeds` is 4 there and 3 here"),
        "{e}"
    );
    // No run at all.
    let e = refused(&["1", "nowhere"]);
    assert!(e.contains("expected experiment.toml"), "{e}");
    // Cells of another build.
    let notes = std::fs::read_dir(bench.folder.path().join("2/cells"))
        .unwrap()
        .flatten();
    for path in notes.map(|e| e.path()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if let Ok(text) = std::fs::read_to_string(&path) {
            let code = text.find("\"code\": \"").unwrap() + 9;
            std::fs::write(&path, format!("{}9.9.9-{}", &text[..code], &text[code..])).unwrap();
        }
        std::fs::rename(&path, path.with_file_name(format!("f{}", &name[1..]))).unwrap();
    }
    let e = refused(&["1", "2"]);
    assert!(
        e.contains("12 cells in") && e.contains("by another build of oo-sim, 9.9.9-"),
        "{e}"
    );
    // The same cell with other rounds, sound in itself.
    bench.shard("1/2", "4");
    bench.shard("2/2", "4");
    let of = |folder: &str, file: &str| bench.folder.path().join(folder).join("cells").join(file);
    let list = succeeds(&["compare", &bench.experiment, "--list", "--out", &bench.at("nowhere")]);
    let names: Vec<&str> = list.lines().map(|l| l.split('\t').nth(1).unwrap()).collect();
    let (cell, changed) = (format!("{}.parquet", names[0]), format!("{}.json", names[0]));
    let foreign = std::fs::read(of("4", &format!("{}.parquet", names[1]))).unwrap();
    let mut note: serde_json::Value = serde_json::from_slice(&std::fs::read(of("4", &changed)).unwrap()).unwrap();
    let theirs: serde_json::Value =
        serde_json::from_slice(&std::fs::read(of("4", &format!("{}.json", names[1]))).unwrap()).unwrap();
    note["sha256"] = theirs["sha256"].clone();
    std::fs::write(of("4", &cell), foreign).unwrap();
    std::fs::write(of("4", &changed), note.to_string()).unwrap();
    let e = refused(&["1", "4"]);
    assert!(
        e.contains("hold different rounds of uniform in linear{d=3}, seed 42"),
        "{e}"
    );
    assert!(!bench.folder.path().join("merged").exists());
}

#[test]
fn bad_shards_are_refused_before_anything_is_made() {
    let bench = Bench::new();
    let with = |more: &[&str]| {
        let e = fails(&[&["compare", &bench.experiment, "--out", &bench.at("out")], more].concat());
        assert!(!bench.folder.path().join("out").exists());
        e
    };
    assert!(with(&["--shard", "5/4"]).contains("I from 1 to N"));
    assert!(with(&["--shard", "1/4", "--format", "json"]).contains("cannot be used with"));
    let e = with(&["--shard", "1/4", "--until-decided"]);
    assert!(e.contains("cannot be used with"), "{e}");
    let file = bench.folder.path().join("until.toml");
    std::fs::write(&file, format!("{EXPERIMENT}max_seeds = 9\n")).unwrap();
    let e = fails(&[
        "compare",
        file.to_str().unwrap(),
        "--shard",
        "1/4",
        "--out",
        &bench.at("out"),
    ]);
    assert!(e.contains("depends on the cells of all shards together"), "{e}");
    let e = with(&["--out", "gs://bucket/run"]);
    assert!(
        e.contains("s3://BUCKET/PREFIX") || e.contains("cannot be used multiple times"),
        "{e}"
    );
}

/// What the refusal of `--shard` with `--until-decided` advises.
#[test]
fn merged_shards_go_on_until_decided() {
    let bench = Bench::new();
    let experiment = bench.folder.path().join("until.toml");
    std::fs::write(
        &experiment,
        "env = [\"linear\"]\npolicies = [\"uniform\", \"lin-ucb\"]\nrounds = 100\nseeds = 3\n",
    )
    .unwrap();
    let experiment = experiment.display().to_string();
    let until = ["--until-decided", "--max-seeds", "60", "--format", "json"];
    let whole = succeeds(&[&["compare", &experiment, "--out", &bench.at("whole")][..], &until].concat());
    for i in ["1", "2"] {
        succeeds(&[
            "compare",
            &experiment,
            "--shard",
            &format!("{i}/2"),
            "--out",
            &bench.at("run"),
        ]);
    }
    succeeds(&["merge", &bench.at("run"), "--out", &bench.at("run")]);
    let merged = bench.at("run/experiment.toml");
    assert_eq!(
        succeeds(&[&["compare", &merged, "--out", &bench.at("run")][..], &until].concat()),
        whole
    );
    assert_eq!(
        bytes(&bench.folder.path().join("run")),
        bytes(&bench.folder.path().join("whole"))
    );
}
