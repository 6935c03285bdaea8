//! Logging to MLflow: one run a comparison, with one child a cell, and the gate's winner in the registry.
//!
//! Everything is written to a spool in the run's folder, `RUN/mlflow`, and sent by a thread of its own while the
//! comparison goes on. A server that is down or slow changes neither the results nor, but for a bounded wait after they
//! are printed, how long they take. `oo-sim mlflow sync` sends the rest.

mod cell;
mod comparison;
mod destination;
mod facts;
mod promotion;

pub use comparison::Comparison;
pub use destination::{Destination, Options};
pub use promotion::{model_name, promotion};

use crate::commands::report::finished;
use crate::folder::Location;
use anyhow::{Context, Result, bail, ensure};
use oo_mlflow::{Client, Entry, Patience, Sender, Spool, Status, now_ms};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder in a run's folder.
pub const FOLDER: &str = "mlflow";
/// The file that makes a folder that of a run.
const EXPERIMENT: &str = "experiment.toml";
/// The spool's name for the run of the whole comparison.
pub(crate) const COMPARISON: &str = "comparison";
/// At most so long is waited for the server once the results are out, or this share of the time that they took.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_SHARE: f64 = 0.05;

/// The folder of a spool, which is appended to and so cannot be an object of a bucket.
pub(crate) fn here(place: &Location) -> Result<&Path> {
    place.local().with_context(|| {
        format!(
            "{place} is in a bucket, and a log for MLflow is kept in a folder; bring the run here with `oo-sim merge \
             {place} --out DIR`, then give `oo-sim mlflow sync DIR`"
        )
    })
}

/// What a bounded wait ended with, for people; on stderr, since stdout has the results.
pub(crate) fn told(outcome: &oo_mlflow::Outcome, server: &str, folder: &Location) -> String {
    let mut text = match (&outcome.page, outcome.all_sent) {
        (Some(page), true) => format!("MLflow: {page}\n"),
        (None, true) => format!("MLflow: {server} has everything\n"),
        (_, false) => format!(
            "MLflow: not all is sent ({}); it is kept, and `oo-sim mlflow sync {folder}` sends the rest\n",
            outcome.trouble.as_deref().unwrap_or("no answer"),
        ),
    };
    for refusal in &outcome.refusals {
        text += &format!("MLflow: {refusal}\n");
    }
    text
}

/// What `oo-sim mlflow sync` has done.
#[derive(Debug, Default)]
pub struct Synced {
    /// Entries sent now.
    pub sent: usize,
    /// Where they can be seen.
    pub pages: Vec<String>,
    /// What the server refused.
    pub refusals: Vec<String>,
}

/// Sends what a server lacks of a folder's spools. A finished run that was never logged is logged whole.
///
/// # Errors
/// A folder that is neither logged nor a finished run; a server that does not answer or lets nobody in.
pub fn sync(folder: &Path, options: &Options) -> Result<Synced> {
    let given = options.destination()?;
    let mut spools = spools(folder)?;
    if spools.is_empty() {
        let runs = if folder.join(EXPERIMENT).is_file() {
            vec![]
        } else {
            runs_in(folder)?
        };
        if let Some(first) = runs.first() {
            bail!(
                "{} is no run, but holds {}: give one at a time, such as `oo-sim mlflow sync {}`",
                folder.display(),
                if runs.len() == 1 {
                    "one".into()
                } else {
                    format!("{} of them", runs.len())
                },
                first.display()
            );
        }
        let destination = given.as_ref().with_context(|| {
            format!(
                "{} was not logged yet, so that the server is not known: give --mlflow URL, or set MLFLOW_TRACKING_URI",
                folder.display()
            )
        })?;
        let (plan, store) = finished(&folder.into())?;
        spools.push(Comparison::record(destination, &plan, &store)?);
    }
    let mut synced = Synced::default();
    for place in spools {
        let header = Spool::header_in(&place)?.with_context(|| format!("{} holds no spool", place.display()))?;
        let destination = match &given {
            Some(destination) => destination.clone(),
            None => Destination::new(&header.server, options)?,
        };
        let server = destination.address.to_string();
        let mut spool = Spool::open(folder, &place, &server, &header.experiment)?;
        // Nobody works on it, so whoever began it is gone.
        if spool.runs().get(COMPARISON) == Some(&Some(Status::Running)) {
            spool.append(Entry {
                run: COMPARISON.into(),
                status: Some(Status::Killed),
                end_ms: Some(now_ms()),
                ..Entry::default()
            })?;
        }
        let client = Client::new(destination.address, Patience::FOREGROUND);
        let mut sender = Sender::new(client, &spool, destination.experiment.as_deref(), true)?;
        let sending = |sender: &mut Sender| -> Result<usize> {
            let mut sent = 0;
            loop {
                match sender.send_next() {
                    Ok(true) => sent += 1,
                    Ok(false) => return Ok(sent),
                    Err(e) => {
                        let left = sender.unsent(&spool)?;
                        return Err(e).with_context(|| {
                            format!("{sent} entries of {} are sent, {left} are left", place.display())
                        });
                    }
                }
            }
        };
        synced.sent += sending(&mut sender)?;
        synced.pages.extend(sender.page_of(COMPARISON));
        synced.refusals.extend(sender.refusals().into_iter().map(String::from));
    }
    Ok(synced)
}

/// The runs that lie in a folder, in the order of their names.
fn runs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let place = entry?.path();
        if place.join(EXPERIMENT).is_file() || place.join(FOLDER).is_dir() {
            found.push(place);
        }
    }
    found.sort();
    Ok(found)
}

/// The folders of the spools in a run's folder, in the order of their names.
fn spools(folder: &Path) -> Result<Vec<PathBuf>> {
    ensure!(folder.is_dir(), "there is no folder {}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.join(FOLDER)).into_iter().flatten() {
        let place = entry?.path();
        if Spool::header_in(&place)?.is_some() {
            found.push(place);
        }
    }
    found.sort();
    Ok(found)
}
