//! What stands in an experiment's folder, read and checked as a whole.

use super::expected::Expected;
use super::findings::{KINDS, Kind};
use crate::datasets::{cache, manifest};
use crate::experiment::parse_toml;
use anyhow::{Context, Result, bail, ensure};
use oo_core::Error;
use serde::Deserialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The file of the steps.
pub(super) const STEPS: &str = "steps.toml";
/// The file for people.
pub(super) const README: &str = "README.md";
/// The file of what the small size gives.
pub(super) const EXPECTED: &str = "expected.toml";

/// `steps.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The question, in a sentence.
    pub question: String,
    /// The answer, in a sentence.
    pub answer: String,
    /// How large the whole is, with its cost in CPU time.
    pub size: String,
    /// The data sets that it reads.
    #[serde(default)]
    pub data: Vec<String>,
    /// What is run, in this order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    /// What is drawn from the tables of the README.
    #[serde(default, rename = "figure")]
    pub figures: Vec<Figure>,
}

/// One command.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Names its results; the command's name by default.
    #[serde(default)]
    pub name: String,
    /// A command of the program with what has no flag: `compare {here}/experiment.toml`.
    pub command: String,
    /// Its flags without their dashes; true is a flag without value, and a list is joined with commas.
    #[serde(default)]
    pub options: toml::Table,
    /// The flags that are other at the small size; false leaves one out.
    #[serde(default)]
    pub small: toml::Table,
    /// How far a number may be from what is expected, in units of the larger of it and 1: room for the last bits of a
    /// sum under another compiler, and for nothing else.
    #[serde(default = "exact")]
    pub tolerance: f64,
}

fn exact() -> f64 {
    1e-9
}

/// A drawing of one table of the README.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The file, in the folder.
    #[serde(default = "figure_file")]
    pub file: String,
    /// Which table of the README, counted from 1.
    pub table: usize,
    /// How many of its first columns name the row.
    #[serde(default = "one")]
    pub labels: usize,
    /// What is drawn: dots, a panel a column, or a line a row.
    #[serde(default)]
    pub shape: Shape,
    /// The columns to draw, by their headings; all by default.
    #[serde(default)]
    pub columns: Vec<String>,
    /// The rows to leave out.
    #[serde(default)]
    pub without: Vec<String>,
    /// One scale for all panels.
    #[serde(default)]
    pub same_scale: bool,
    /// What the numbers are, with their unit.
    pub unit: String,
    /// What the columns are, for lines.
    #[serde(default)]
    pub along: String,
    /// For screen readers.
    pub title: String,
}

/// See [`Figure::shape`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A panel a column, with a dot a row and its interval.
    #[default]
    Dots,
    /// A line a row, from column to column.
    Lines,
}

fn figure_file() -> String {
    "figure.svg".into()
}

fn one() -> usize {
    1
}

impl Step {
    /// What kind of command it is.
    pub(super) fn kind(&self) -> Result<&'static Kind> {
        let name = self.command.split_whitespace().next().unwrap_or_default();
        let found = KINDS.iter().find(|k| k.command == name);
        Ok(found.ok_or_else(|| Error::Unknown {
            kind: "command of a step".into(),
            name: name.into(),
            known: KINDS.iter().map(|k| k.command.into()).collect(),
        })?)
    }

    /// The flags of a size.
    pub(super) fn flags(&self, small: bool) -> toml::Table {
        let mut flags = self.options.clone();
        if small {
            flags.extend(self.small.clone());
        }
        flags.retain(|_, value| *value != toml::Value::Boolean(false));
        flags
    }
}

/// An experiment.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The folder's name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its `steps.toml`.
    pub manifest: Manifest,
}

impl Folder {
    /// Reads a folder and checks its steps.
    ///
    /// # Errors
    /// A file that is missing; what is wrong in it, with the line; an unknown command or data set.
    pub fn read(path: &Path) -> Result<Folder> {
        let file = path.join(STEPS);
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let check = || -> Result<Manifest> {
            let mut manifest: Manifest = parse_toml(&text)?;
            settle(&mut manifest)?;
            Ok(manifest)
        };
        let manifest = check().with_context(|| file.display().to_string())?;
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().into();
        Ok(Folder {
            name,
            path: path.into(),
            manifest,
        })
    }

    /// The data sets that are not on this machine.
    ///
    /// # Errors
    /// A system without a folder for data.
    pub fn missing(&self) -> Result<Vec<&str>> {
        if self.manifest.data.is_empty() {
            return Ok(vec![]);
        }
        let folder = cache::folder()?;
        let here = |name: &str| manifest::find(name).is_some_and(|set| cache::locate_in(&folder, set).is_ok());
        Ok(self
            .manifest
            .data
            .iter()
            .map(String::as_str)
            .filter(|n| !here(n))
            .collect())
    }

    /// The README.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn readme(&self) -> Result<String> {
        let file = self.path.join(README);
        std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    /// What the small size should give.
    ///
    /// # Errors
    /// A file that is missing or no such table.
    pub fn expected(&self) -> Result<Expected> {
        let file = self.path.join(EXPECTED);
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!(
                "cannot read {}; `oo-sim experiments run {} --small --accept` writes it",
                file.display(),
                self.name
            )
        })?;
        Expected::parse(&text).with_context(|| file.display().to_string())
    }
}

/// Names steps and checks what can be checked without running them.
fn settle(manifest: &mut Manifest) -> Result<()> {
    for name in &manifest.data {
        manifest::named(name)?;
    }
    ensure!(!manifest.steps.is_empty(), "expected at least one [[step]]");
    let mut names: Vec<String> = Vec::new();
    for step in &mut manifest.steps {
        let kind = step.kind()?;
        if step.name.is_empty() {
            step.name = kind.command.into();
        }
        let word = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        ensure!(
            step.name.chars().all(word),
            "step `{}`: expected letters, digits, `-` and `_`, since the name is that of a folder",
            step.name
        );
        ensure!(
            !names.contains(&step.name),
            "two steps are called `{}`; give each its own `name`",
            step.name
        );
        ensure!(
            step.tolerance >= 0.0 && step.tolerance.is_finite(),
            "step `{}`: tolerance: expected a number from 0 on, got {}",
            step.name,
            step.tolerance
        );
        names.push(step.name.clone());
    }
    Ok(())
}

/// Every experiment of a folder, by name.
///
/// # Errors
/// A folder that is not there; an experiment that cannot be read.
pub fn index(root: &Path) -> Result<Vec<Folder>> {
    let entries = std::fs::read_dir(root).with_context(|| {
        format!(
            "cannot read the folder {}; run from the root of the repository, or name the folder with --experiments",
            root.display()
        )
    })?;
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", root.display()))?.path();
        if path.join(STEPS).is_file() {
            all.push(Folder::read(&path)?);
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(
        !all.is_empty(),
        "no experiment in {}: expected folders with a {STEPS}",
        root.display()
    );
    Ok(all)
}

/// The experiment of this name.
///
/// # Errors
/// As [`index`]; a name that none has.
pub fn find(root: &Path, name: &str) -> Result<Folder> {
    let path = root.join(name);
    let plain = !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.');
    if plain && path.join(STEPS).is_file() {
        return Folder::read(&path);
    }
    let known = index(root)?.into_iter().map(|f| f.name).collect();
    bail!(Error::Unknown {
        kind: "experiment".into(),
        name: name.into(),
        known,
    })
}

/// The table of questions and answers, as Markdown.
pub(crate) fn markdown(all: &[Folder]) -> String {
    let mut out = String::from("| Experiment | Question | Answer |\n|---|---|---|\n");
    for Folder { name, manifest, .. } in all {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| [{name}]({name}/README.md) | {} | {} |",
            manifest.question, manifest.answer
        );
    }
    out
}
