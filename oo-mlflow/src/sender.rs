//! From the spool to a server, each entry once.
//!
//! The cursor says which entries a server has. Where a crash or a lost answer leaves it open whether something arrived,
//! the server is asked: runs are found by the spool's tag, metrics by their history, versions by their key. All other
//! calls change nothing when they are made twice.

use crate::client::Client;
use crate::entry::{Content, Entry, Status};
use crate::error::{Error, Result};
use crate::runs::Run;
use crate::spool::{Lines, Spool, append, open_to_append};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A line of the cursor.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Note {
    /// The experiment's id at the server.
    Experiment(String),
    /// A run's place at the server.
    Run { run: String, id: String, artefacts: String },
    /// The entry of this line has arrived.
    Sent(usize),
    /// The server took the entry of this line in part or not at all.
    Refused { line: usize, why: String },
}

/// Sends the entries of one spool to one server.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    root: PathBuf,
    spool: String,
    experiment_name: String,
    experiment: Option<String>,
    lines: Lines,
    cursor_path: PathBuf,
    cursor: File,
    done: BTreeSet<usize>,
    refused: BTreeMap<usize, String>,
    /// `None`: somebody deleted the run at the server.
    runs: BTreeMap<String, Option<Run>>,
    /// Whether a run that is not in `runs` is not at the server either.
    knows_all: bool,
    /// Runs of which nothing can have been logged but by this sender, without a failure.
    fresh: BTreeSet<String>,
    current: Option<(usize, Entry)>,
}

impl Sender {
    /// Reads how far the server has got. Nothing is sent yet. Without `experiment` it is that of the spool.
    /// Entries that were refused before are sent again when `again`.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn new(client: Client, spool: &Spool, experiment: Option<&str>, again: bool) -> Result<Sender> {
        let name = experiment.unwrap_or(&spool.header().experiment);
        let path = spool.cursor(client.server(), name);
        let (cursor, length) = open_to_append(&path)?;
        let mut sender = Sender {
            root: spool.root().into(),
            spool: spool.header().spool.clone(),
            experiment_name: name.into(),
            experiment: None,
            lines: spool.entries()?,
            cursor,
            done: BTreeSet::new(),
            refused: BTreeMap::new(),
            runs: BTreeMap::new(),
            knows_all: spool.is_new() && length == 0,
            fresh: BTreeSet::new(),
            current: None,
            cursor_path: path.clone(),
            client,
        };
        let mut notes = Lines::open(&path)?;
        while let Some((_, note)) = notes.next()? {
            match note {
                Note::Experiment(id) => sender.experiment = Some(id),
                Note::Run { run, id, artefacts } => {
                    sender.runs.insert(run, Some(Run { id, artefacts }));
                }
                Note::Sent(line) => {
                    sender.refused.remove(&line);
                    sender.done.insert(line);
                }
                Note::Refused { line, why } => {
                    sender.refused.insert(line, why);
                }
            }
        }
        if !again {
            sender.done.extend(sender.refused.keys());
        }
        Ok(sender)
    }

    /// The server's address, without secrets.
    pub fn server(&self) -> &str {
        self.client.server()
    }

    pub(crate) fn answers(&self) -> Arc<AtomicU64> {
        self.client.answers()
    }

    /// Why entries were refused, each once.
    pub fn refusals(&self) -> BTreeSet<&str> {
        self.refused.values().map(String::as_str).collect()
    }

    /// Where the server shows a run, if it has been sent.
    pub fn page_of(&self, run: &str) -> Option<String> {
        let (experiment, run) = (self.experiment.as_ref()?, self.runs.get(run)?.as_ref()?);
        let server = self.client.server();
        Some(format!("{server}/#/experiments/{experiment}/runs/{}", run.id))
    }

    /// Sends the next entry that has not been sent; false where there is none.
    ///
    /// # Errors
    /// A server that does not answer or lets nobody in, or files that cannot be read or written. The entry is the next
    /// one still.
    pub fn send_next(&mut self) -> Result<bool> {
        let Some((line, entry)) = self.next_unsent()? else {
            return Ok(false);
        };
        match self.send(&entry) {
            Err(e) => {
                // Some of it may have arrived.
                self.fresh.remove(&entry.run);
                self.current = Some((line, entry));
                Err(e)
            }
            Ok(None) => {
                self.note(&Note::Sent(line))?;
                self.done.insert(line);
                self.refused.remove(&line);
                Ok(true)
            }
            Ok(Some(refusal)) => {
                let why = refusal.to_string();
                self.note(&Note::Refused { line, why: why.clone() })?;
                self.done.insert(line);
                self.refused.insert(line, why);
                Ok(true)
            }
        }
    }

    /// How many entries have not been sent.
    ///
    /// # Errors
    /// A spool that cannot be read.
    pub fn unsent(&mut self, spool: &Spool) -> Result<usize> {
        let (mut lines, mut count) = (spool.entries()?, 0);
        while let Some((line, serde::de::IgnoredAny)) = lines.next()? {
            count += usize::from(!self.done.contains(&line));
        }
        Ok(count)
    }

    fn next_unsent(&mut self) -> Result<Option<(usize, Entry)>> {
        if let Some(current) = self.current.take() {
            return Ok(Some(current));
        }
        while let Some((line, entry)) = self.lines.next::<Entry>()? {
            if !self.done.contains(&line) {
                return Ok(Some((line, entry)));
            }
        }
        Ok(None)
    }

    fn note(&mut self, note: &Note) -> Result<()> {
        append(&mut self.cursor, note).map_err(|e| Error::file(&self.cursor_path, e))
    }

    /// Sends one entry. What the server refuses of it is passed over, and the first refusal returned.
    fn send(&mut self, entry: &Entry) -> Result<Option<Error>> {
        let experiment = self.experiment()?;
        let parent = match &entry.parent {
            None => None,
            Some(name) => match self.find(&experiment, name)? {
                Some(Some(parent)) => Some(parent.id),
                // Without the run that it belongs to it has no place.
                Some(None) | None => return Ok(None),
            },
        };
        let run = match self.find(&experiment, &entry.run)? {
            Some(Some(run)) => run,
            Some(None) => return Ok(None),
            None => self.create(&experiment, parent.as_deref(), entry)?,
        };
        let is_fresh = self.fresh.contains(&entry.run);
        let client = &self.client;
        let mut refusal = None;
        let mut passed = |done: Result<()>| match done {
            Err(e) if e.may_pass() || e.is_about_the_server() => Err(e),
            Err(e) => {
                refusal.get_or_insert(e);
                Ok(())
            }
            Ok(()) => Ok(()),
        };
        passed((|| {
            let missing = if is_fresh || entry.metrics.is_empty() {
                None
            } else {
                Some(client.missing(&run.id, &entry.metrics)?)
            };
            let metrics = missing.as_ref().unwrap_or(&entry.metrics);
            client.log(&run.id, &entry.params, &entry.tags, metrics)
        })())?;
        if !entry.datasets.is_empty() {
            passed(client.log_datasets(&run.id, &entry.datasets))?;
        }
        for artefact in &entry.artefacts {
            passed(match &artefact.content {
                Content::Text(text) => client.upload_text(&run.artefacts, &artefact.path, text),
                Content::File { path, sha256 } => {
                    client.upload_file(&run.artefacts, &artefact.path, &self.root.join(path), sha256)
                }
            })?;
        }
        for model in &entry.models {
            passed(client.register(&run, model))?;
        }
        // A run that was just made runs already.
        if let Some(status) = entry.status.filter(|s| !(is_fresh && *s == Status::Running)) {
            passed(client.set_status(&run.id, status, entry.end_ms))?;
        }
        Ok(refusal)
    }

    fn experiment(&mut self) -> Result<String> {
        if let Some(id) = &self.experiment {
            return Ok(id.clone());
        }
        let id = self.client.experiment(&self.experiment_name)?;
        self.note(&Note::Experiment(id.clone()))?;
        self.experiment = Some(id.clone());
        Ok(id)
    }

    fn find(&mut self, experiment: &str, name: &str) -> Result<Option<Option<Run>>> {
        if !self.runs.contains_key(name) && !self.knows_all {
            for (name, run) in self.client.runs_of(experiment, &self.spool)? {
                self.runs.entry(name).or_insert(run);
            }
            self.knows_all = true;
        }
        Ok(self.runs.get(name).cloned())
    }

    fn create(&mut self, experiment: &str, parent: Option<&str>, entry: &Entry) -> Result<Run> {
        let made = self.client.create_run(experiment, &self.spool, parent, entry);
        let run = made.inspect_err(|_| {
            // It may have been made: ask before the next try.
            self.knows_all = false;
        })?;
        self.note(&Note::Run {
            run: entry.run.clone(),
            id: run.id.clone(),
            artefacts: run.artefacts.clone(),
        })?;
        self.runs.insert(entry.run.clone(), Some(run.clone()));
        self.fresh.insert(entry.run.clone());
        Ok(run)
    }
}
