//! Runs the steps of an experiment, each as the command that a person would type.
//!
//! Steps are processes of this very program, so that a step has the exit code, the files and the words of its command.

use super::expected::Expected;
use super::findings::Kind;
use super::folder::{Folder, Step};
use super::markdown;
use crate::commands::{self, BadInput};
use crate::datasets::cache;
use crate::{interrupt, sheet, store};
use anyhow::{Context, Result, anyhow, ensure};
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

/// How large a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// As the README answers.
    Full,
    /// Seconds, for checks: in a folder of its own, so that paths in settings mean other files.
    Small,
}

/// Where the small size works.
const SMALL: &str = "runs/small";

/// A step as it will be run.
struct Job<'a> {
    step: &'a Step,
    kind: &'static Kind,
    /// Where its results go; the step's name with its folder.
    out: String,
    arguments: Vec<String>,
}

/// Runs every step; `show` is given what there is to read. Results go to `runs/NAME`, of which `results.md` has the
/// findings as tables.
///
/// # Errors
/// [`BadInput`] before any work: data that are not here, a step that is no command. The first step that fails.
pub fn run(folder: &Folder, size: Size, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<Expected> {
    let missing = folder.missing()?;
    if !missing.is_empty() {
        return Err(BadInput(anyhow!(
            "experiment {} reads data sets that are not on this machine: {}; `oo-sim data get {}` downloads them, or set \
             OO_DATA_DIR to the folder that holds them",
            folder.name,
            missing.join(", "),
            missing.join(" ")
        ))
        .into());
    }
    let from = match size {
        Size::Full => PathBuf::new(),
        Size::Small => PathBuf::from(SMALL),
    };
    let results = format!("runs/{}", folder.name);
    let into = from.join(&results);
    let jobs = jobs(folder, size, &results).map_err(BadInput)?;
    std::fs::create_dir_all(&into).with_context(|| format!("cannot make the folder {}", into.display()))?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let (mut found, mut tables) = (
        Vec::new(),
        format!("# {}\n\n{}\n", folder.name, folder.manifest.question),
    );
    for job in &jobs {
        let line = format!("oo-sim {}", shown(&job.arguments));
        show(&match size {
            Size::Full => format!("$ {line}\n"),
            Size::Small => format!("$ (cd {SMALL} && {line})\n"),
        })?;
        let (name, kept) = (job.step.name.clone(), into.display().to_string());
        let _stopped = interrupt::tell(move || {
            format!("in step {name}; what was finished is kept in {kept}, and the same command goes on from there")
        });
        let mut command = Command::new(&program);
        command
            .args(&job.arguments)
            .current_dir(Path::new(".").join(&from))
            .stderr(std::process::Stdio::inherit());
        if let Ok(data) = cache::folder().and_then(|f| Ok(absolute(f)?)) {
            command.env("OO_DATA_DIR", data);
        }
        let output = interrupt::output(&mut command).with_context(|| format!("cannot run {}", program.display()))?;
        let code = output.status.code();
        ensure!(
            code.is_some_and(|c| (0..=job.kind.answers).contains(&c)),
            "step {} failed ({}); its command is above",
            job.step.name,
            output.status
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let findings = match job.kind.results(&job.out) {
            Some(file) => job.kind.findings(&from.join(file))?,
            None => vec![],
        };
        if !findings.is_empty() {
            tables += &format!("\n## {}\n\n{}", job.step.name, markdown::table(&findings));
        }
        if job.kind.silent {
            show(&(markdown::table(&findings) + "\n"))?;
        } else {
            store::write_text(&from.join(format!("{}.txt", job.out)), &text)?;
            // Paths that hold where the reader is.
            let text = text.replace(&results, &into.display().to_string());
            show(&(sheet::prose(&text) + "\n"))?;
        }
        found.push((job.step.name.clone(), findings));
    }
    let file = into.join("results.md");
    store::write_text(&file, &tables)?;
    show(&format!("Findings: {}\n", file.display()))?;
    Ok(Expected::of(&found))
}

/// The steps with their arguments, each of which the program understands.
fn jobs<'a>(folder: &'a Folder, size: Size, results: &str) -> Result<Vec<Job<'a>>> {
    let here = match size {
        Size::Full => folder.path.clone(),
        Size::Small => absolute(&folder.path)?,
    };
    let make = |step: &'a Step| -> Result<Job<'a>> {
        let kind = step.kind()?;
        let out = format!("{results}/{}", step.name);
        let arguments = arguments(step, kind, size, &here, results, &out)?;
        commands::understood(&arguments).with_context(|| format!("step {}: {}", step.name, shown(&arguments)))?;
        Ok(Job {
            step,
            kind,
            out,
            arguments,
        })
    };
    folder.manifest.steps.iter().map(make).collect()
}

fn arguments(step: &Step, kind: &Kind, size: Size, here: &Path, results: &str, out: &str) -> Result<Vec<String>> {
    let here = here.display().to_string();
    let data = cache::folder().and_then(|f| Ok(absolute(f)?.display().to_string()));
    let filled = |text: &str| -> Result<String> {
        let mut text = text
            .replace("{here}", &here)
            .replace("{runs}", results)
            .replace("{out}", out);
        if text.contains("{data}") {
            text = text.replace("{data}", data.as_ref().map_err(|e| anyhow!("{e:#}"))?);
        }
        Ok(text)
    };
    let mut all: Vec<String> = step.command.split_whitespace().map(filled).collect::<Result<_>>()?;
    for (flag, value) in step.flags(size == Size::Small) {
        all.push(format!("--{flag}"));
        if let Some(value) = word(&value) {
            all.push(filled(&value)?);
        }
    }
    for (flag, value) in kind.flags {
        all.extend([format!("--{flag}"), filled(value)?]);
    }
    Ok(all)
}

/// The value of a flag; none for a flag without.
fn word(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::Boolean(true) => None,
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Array(all) => Some(all.iter().filter_map(word).collect::<Vec<_>>().join(",")),
        other => Some(other.to_string()),
    }
}

/// A command line that a shell reads back.
fn shown(arguments: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+%@".contains(c);
    let quoted = arguments.iter().map(|a| {
        if !a.is_empty() && a.chars().all(plain) {
            a.clone()
        } else {
            format!("'{}'", a.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
