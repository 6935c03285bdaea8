//! The folder of an experiment: one Parquet file a cell, each written whole or not at all, so that a killed run leaves
//! nothing half-written and a rerun goes on where it stopped. Files have the name of what their numbers depend on, so
//! any number of programs on any number of machines may fill one folder: two that run the same cell write the same
//! bytes.

use crate::experiment::{Named, Plan};
use crate::folder::{Folder, Location};
use crate::interrupt::Unfinished;
use crate::runner::{Cell, Records};
use anyhow::{Context, Result};
use oo_core::tips::RewardSpec;
use polars_core::prelude::{Column, DataFrame};
use polars_io::SerReader;
use polars_io::parquet::read::{ParallelStrategy, ParquetReader};
use polars_io::parquet::write::ParquetWriter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Which cell it is.
    pub of: Identity,
}

/// Everything that a cell's numbers depend on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// The environment, canonical, and the digest of the data that it reads.
    pub env: (String, Option<String>),
    /// The policy, canonical, and the digests of the states that it starts from.
    pub policy: (String, Option<String>),
    /// The seed.
    pub seed: u64,
    /// The judge of reactions.
    pub judge: String,
    /// The reward table.
    pub reward: RewardSpec,
    /// People, days, rounds, where they were given.
    pub size: [Option<u64>; 3],
    /// The program's code.
    pub code: String,
}

impl Identity {
    /// Of a cell that this program runs.
    pub fn of(plan: &Plan, cell: Cell<'_>) -> Identity {
        let e = &plan.experiment;
        let both = |named: &Named| (named.canonical.clone(), named.reads.clone());
        Identity {
            env: both(cell.env),
            policy: both(cell.policy),
            seed: cell.seed,
            judge: e.judge.clone(),
            reward: plan.reward.clone(),
            size: [e.users.map(|u| u as u64), e.days.map(|d| d as u64), e.rounds],
            code: env!("OO_CODE").into(),
        }
    }

    /// The name of the cell's files, without their extension.
    pub fn name(&self) -> Result<String> {
        Ok(sha256(serde_json::to_string(self)?.as_bytes())[..16].into())
    }
}

/// An experiment's folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: Location,
    folder: Arc<dyn Folder>,
}

impl Store {
    /// Makes the folder where it is missing.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(root: &Location) -> Result<Self> {
        if root.local().is_some() {
            root.join("cells").make()?;
        }
        let folder = root.make()?;
        Ok(Store {
            root: root.clone(),
            folder,
        })
    }

    /// A folder that is only read; nothing is made.
    ///
    /// # Errors
    /// Object storage whose settings in the environment do not do.
    pub fn existing(root: &Location) -> Result<Self> {
        let folder = root.folder()?;
        Ok(Store {
            root: root.clone(),
            folder,
        })
    }

    /// The folder's place.
    pub fn root(&self) -> &Location {
        &self.root
    }

    /// The folder's files.
    pub fn folder(&self) -> &dyn Folder {
        self.folder.as_ref()
    }

    /// The name of a cell, a digest of everything that its numbers depend on.
    ///
    /// # Errors
    /// None in practice: an identity can be written as JSON.
    pub fn name(&self, plan: &Plan, cell: Cell<'_>) -> Result<String> {
        Identity::of(plan, cell).name()
    }

    /// The path of a cell's rounds in the folder.
    ///
    /// # Errors
    /// As [`name`](Self::name).
    pub fn relative(&self, plan: &Plan, cell: Cell<'_>) -> Result<PathBuf> {
        Ok(self.file(plan, cell, "parquet")?.into())
    }

    fn file(&self, plan: &Plan, cell: Cell<'_>, extension: &str) -> Result<String> {
        Ok(format!("cells/{}.{extension}", Identity::of(plan, cell).name()?))
    }

    /// The bytes of a file that must be there.
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let read = self
            .folder
            .read(name)
            .and_then(|bytes| bytes.context("there is no such file"));
        read.with_context(|| format!("cannot open {}", self.root.join(name)))
    }

    /// True when the cell's files are there and whole.
    ///
    /// # Errors
    /// A place that cannot be reached.
    pub fn is_finished(&self, plan: &Plan, cell: Cell<'_>) -> Result<bool> {
        Ok(self.whole(plan, cell)?.is_some())
    }

    /// What is known about a cell, with the bytes of its Parquet file; `None` unless both are there and whole.
    ///
    /// # Errors
    /// A place that cannot be reached.
    pub fn whole(&self, plan: &Plan, cell: Cell<'_>) -> Result<Option<(CellInfo, Vec<u8>)>> {
        let place = |name: &str| format!("cannot open {}", self.root.join(name));
        let read = |name: &str| self.folder.read(name).with_context(|| place(name));
        let Some(info) = read(&self.file(plan, cell, "json")?)? else {
            return Ok(None);
        };
        let Ok(info) = serde_json::from_slice::<CellInfo>(&info) else {
            return Ok(None);
        };
        if info.of != Identity::of(plan, cell) {
            return Ok(None);
        }
        let bytes = read(&self.file(plan, cell, "parquet")?)?.filter(|bytes| sha256(bytes) == info.sha256);
        Ok(bytes.map(|bytes| (info, bytes)))
    }

    /// The cell's rounds.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn read_cell(&self, plan: &Plan, cell: Cell<'_>) -> Result<DataFrame> {
        let name = self.file(plan, cell, "parquet")?;
        let bytes = self.read(&name)?;
        // Cells are read side by side already.
        let reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
        // Both anyhow and polars have a `with_context`.
        let frame = reader.finish().map_err(anyhow::Error::from);
        frame.with_context(|| format!("cannot read {}; delete it and run again", self.root.join(&name)))
    }

    /// What is known about the cell besides its rounds.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn info(&self, plan: &Plan, cell: Cell<'_>) -> Result<CellInfo> {
        let name = self.file(plan, cell, "json")?;
        let text = self.read(&name)?;
        serde_json::from_slice(&text)
            .with_context(|| format!("cannot read {}; delete it and run again", self.root.join(&name)))
    }

    /// Writes what happened in a cell.
    ///
    /// # Errors
    /// A full disk, a place that cannot be reached or written.
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
            of: Identity::of(plan, cell),
        };
        self.put_cell(&info, &bytes)
    }

    /// Writes both files of a cell, the Parquet file last: it is what makes the cell finished. Two that run the same
    /// cell write the same Parquet file, so it does not matter who comes last.
    ///
    /// # Errors
    /// As [`write_cell`](Self::write_cell).
    pub fn put_cell(&self, info: &CellInfo, parquet: &[u8]) -> Result<()> {
        let name = info.of.name()?;
        self.write_text(
            &format!("cells/{name}.json"),
            &(serde_json::to_string_pretty(info)? + "\n"),
        )?;
        self.write(&format!("cells/{name}.parquet"), parquet)
    }

    /// What is known about every cell in the folder, of this experiment or another. What cannot be read is left out.
    ///
    /// # Errors
    /// A place that cannot be reached.
    pub fn infos(&self) -> Result<Vec<CellInfo>> {
        let place = || format!("cannot list {}", self.root.join("cells"));
        let names = self.folder.list("cells").with_context(place)?;
        let mut infos = Vec::new();
        for name in names.iter().filter(|name| name.ends_with(".json")) {
            if let Ok(info) = serde_json::from_slice(&self.read(name)?) {
                infos.push(info);
            }
        }
        Ok(infos)
    }

    /// Writes text to a file of the folder.
    ///
    /// # Errors
    /// As [`write_cell`](Self::write_cell).
    pub fn write_text(&self, name: &str, text: &str) -> Result<()> {
        self.write(name, text.as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let place = || format!("cannot write {}{GOES_ON}", self.root.join(name));
        self.folder.write(name, bytes).with_context(place)
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

/// Writes under a temporary name and renames, so that a reader sees the whole file or none.
fn write_whole(path: &Path, remedy: &str, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    write_once(path, write).with_context(|| format!("cannot write {}{remedy}", path.display()))
}

/// The same for a file that is made in one go.
pub(crate) fn write_once<T>(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<T>) -> Result<T> {
    let (file, unfinished) = temporary(path)?;
    let mut file = BufWriter::new(file);
    let made = write(&mut file)?;
    file.into_inner().map_err(|e| e.into_error())?;
    unfinished.finish(path)?;
    Ok(made)
}

/// A new file beside `path`, for nobody else: processes have the same number in two containers, so the name is tried.
pub(crate) fn temporary(path: &Path) -> std::io::Result<(File, Unfinished)> {
    let mut tried = 0u32;
    loop {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}-{tried}.tmp", std::process::id()));
        match Unfinished::file(path.with_file_name(name)) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && tried < u32::MAX => tried += 1,
            made => return made,
        }
    }
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
