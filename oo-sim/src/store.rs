//! The folder of an experiment: one Parquet file a cell, written under another name and renamed when complete, so
//! that a killed run leaves nothing half-written and a rerun goes on where it stopped.

use crate::experiment::Plan;
use crate::runner::{Cell, Records};
use anyhow::{Context, Result};
use polars_core::prelude::{Column, DataFrame};
use polars_io::SerReader;
use polars_io::parquet::read::{ParallelStrategy, ParquetReader};
use polars_io::parquet::write::ParquetWriter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A temporary file of this age belongs to a run that was killed.
const STALE: Duration = Duration::from_secs(3600);

/// What to do about a file of an experiment that cannot be written.
const GOES_ON: &str = "; what was finished before is kept, and the same command goes on from there";

/// What is known about a cell besides its rounds. Times differ between runs, so they stay out of the Parquet file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CellInfo {
    /// The environment, as a spec. Like the next two for whoever reads the folder without the experiment.
    #[serde(default)]
    pub env: String,
    /// The policy, as a spec.
    #[serde(default)]
    pub policy: String,
    /// The seed.
    #[serde(default)]
    pub seed: u64,
    /// CPU time of deciding and learning, in microseconds.
    pub cpu_us: f64,
    /// The number of rounds.
    pub rounds: usize,
    /// Digest of the Parquet file: most damaged files still read, with other numbers.
    pub sha256: String,
}

/// An experiment's folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    cells: PathBuf,
}

impl Store {
    /// Makes the folder where it is missing, and checks that it can be written to.
    ///
    /// # Errors
    /// A folder that cannot be made or written.
    pub fn open(root: &Path) -> Result<Self> {
        let cells = root.join("cells");
        fs::create_dir_all(&cells)
            .with_context(|| format!("cannot make the folder {}; choose another with --out", cells.display()))?;
        for entry in fs::read_dir(&cells).into_iter().flatten().flatten() {
            let path = entry.path();
            let age = entry
                .metadata()
                .and_then(|m| m.modified())
                .ok()
                .and_then(|t| t.elapsed().ok());
            if path.extension().is_some_and(|e| e == "tmp") && age.is_some_and(|a| a > STALE) {
                // Failing to tidy up harms nobody.
                let _ = fs::remove_file(path);
            }
        }
        Ok(Store {
            root: root.into(),
            cells,
        })
    }

    /// A folder that is only read; nothing is made.
    pub fn existing(root: &Path) -> Self {
        Store {
            root: root.into(),
            cells: root.join("cells"),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The name of a cell, a digest of everything that its numbers depend on.
    pub fn name(&self, plan: &Plan, cell: Cell<'_>) -> String {
        let e = &plan.experiment;
        let identity = serde_json::json!([
            cell.env.canonical,
            cell.env.reads,
            cell.policy.canonical,
            cell.policy.reads,
            cell.seed,
            e.judge,
            plan.reward,
            [e.users.map(|u| u as u64), e.days.map(|d| d as u64), e.rounds],
            env!("OO_CODE"),
        ]);
        let digest = sha256(identity.to_string().as_bytes());
        digest[..16].into()
    }

    /// The path of a cell's rounds in the folder.
    pub fn relative(&self, plan: &Plan, cell: Cell<'_>) -> PathBuf {
        Path::new("cells").join(format!("{}.parquet", self.name(plan, cell)))
    }

    fn path(&self, plan: &Plan, cell: Cell<'_>, extension: &str) -> PathBuf {
        self.cells.join(format!("{}.{extension}", self.name(plan, cell)))
    }

    /// True when the cell's files are there and whole.
    pub fn is_finished(&self, plan: &Plan, cell: Cell<'_>) -> bool {
        let Ok(info) = self.info(plan, cell) else { return false };
        fs::read(self.path(plan, cell, "parquet")).is_ok_and(|bytes| sha256(&bytes) == info.sha256)
    }

    /// The cell's rounds.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn read_cell(&self, plan: &Plan, cell: Cell<'_>) -> Result<DataFrame> {
        let path = self.path(plan, cell, "parquet");
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        // Cells are read side by side already.
        let reader = ParquetReader::new(file).read_parallel(ParallelStrategy::None);
        // Both anyhow and polars have a `with_context`.
        let frame = reader.finish().map_err(anyhow::Error::from);
        frame.with_context(|| format!("cannot read {}; delete it and run again", path.display()))
    }

    /// What is known about the cell besides its rounds.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn info(&self, plan: &Plan, cell: Cell<'_>) -> Result<CellInfo> {
        let path = self.path(plan, cell, "json");
        let text = fs::read(&path).with_context(|| format!("cannot open {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("cannot read {}; delete it and run again", path.display()))
    }

    /// Writes both files of a cell, the Parquet file last: it is what makes the cell finished.
    ///
    /// # Errors
    /// A full disk or a folder that cannot be written.
    pub fn write_cell(&self, plan: &Plan, cell: Cell<'_>, records: &Records) -> Result<()> {
        let mut bytes = Vec::new();
        // Cells are written side by side already.
        ParquetWriter::new(&mut bytes)
            .set_parallel(false)
            .finish(&mut frame(records)?)?;
        let info = CellInfo {
            env: cell.env.name.clone(),
            policy: cell.policy.name.clone(),
            seed: cell.seed,
            cpu_us: records.cpu_us,
            rounds: records.len(),
            sha256: sha256(&bytes),
        };
        write_json(&self.path(plan, cell, "json"), &info)?;
        write_whole(&self.path(plan, cell, "parquet"), GOES_ON, |file| {
            Ok(file.write_all(&bytes)?)
        })
    }

    /// Writes text to a file of the folder.
    ///
    /// # Errors
    /// A full disk or a folder that cannot be written.
    pub fn write_text(&self, name: &str, text: &str) -> Result<()> {
        write_text(&self.root.join(name), text)
    }
}

/// Writes text to any file, under a temporary name first.
///
/// # Errors
/// A full disk, or a folder that is not there or cannot be written.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_whole(path, GOES_ON, |file| Ok(file.write_all(text.as_bytes())?))
}

/// Writes bytes to any file, under a temporary name first.
///
/// # Errors
/// As [`write_text`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, "", |file| Ok(file.write_all(bytes)?))
}

/// Makes the folder of a file where it is missing.
///
/// # Errors
/// A folder that cannot be made.
pub fn folder_of(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}; choose another with --out", folder.display()))
}

/// SHA-256 in 64 hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Pretty JSON with a newline at the end, under a temporary name first.
fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    write_whole(path, GOES_ON, |file| Ok(writeln!(file, "{text}")?))
}

/// Writes under a temporary name and renames, so that a reader sees the whole file or none.
fn write_whole(path: &Path, remedy: &str, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    write_once(path, write).with_context(|| format!("cannot write {}{remedy}", path.display()))
}

/// The same for a file that is made in one go.
pub(crate) fn write_once<T>(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<T>) -> Result<T> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    // The process's number keeps two runs in one folder out of each other's way.
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let attempt = || -> Result<T> {
        let mut file = BufWriter::new(File::create(&temporary)?);
        let made = write(&mut file)?;
        file.into_inner().map_err(|e| e.into_error())?;
        fs::rename(&temporary, path)?;
        Ok(made)
    };
    attempt().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

fn frame(records: &Records) -> Result<DataFrame> {
    let group: Vec<Option<&str>> = records
        .group
        .iter()
        .map(|g| g.and_then(|i| records.group_names.get(i)).map(String::as_str))
        .collect();
    let reaction: Vec<Option<&str>> = records.reaction.iter().map(|r| r.map(|r| r.name())).collect();
    let columns = vec![
        Column::new("index".into(), &records.index),
        Column::new("time".into(), &records.time),
        Column::new("user".into(), &records.user),
        Column::new("group".into(), &group),
        Column::new("action".into(), &records.action),
        Column::new("candidates".into(), &records.candidates),
        Column::new("propensity".into(), &records.propensity),
        Column::new("method".into(), &records.method),
        Column::new("reward".into(), &records.reward),
        Column::new("expected".into(), &records.expected),
        Column::new("best".into(), &records.best),
        Column::new("reaction".into(), &reaction),
        Column::new("dwell_ms".into(), &records.dwell_ms),
    ];
    Ok(DataFrame::new(records.len(), columns)?)
}
