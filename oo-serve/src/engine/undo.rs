//! Changes of the policy that can be undone, over restarts too. Which policies gave way is part of the state; what each
//! had learned by then lies beside it in `before/GENERATION`: updates u64 · refused u64 · the policy's saved state, sealed
//! ([`forget`](super::forget)).
//!
//! A file is written before the record that makes it needed, and again after it with what was learned in between, so that
//! a kill costs those few rewards and never the file. It is removed when nothing can come back to it. A user who was
//! forgotten since is forgotten in it as well: by the next compaction, or when it is put in charge.

use super::Engine;
use super::codec::{Get, Put};
use super::event::{Event, Undone};
use super::forget::{seal, unseal};
use super::models::Frozen;
use super::settings::Artefact;
use super::state::{Serving, State, read};
use crate::{Error, Result};
use oo_core::{Spec, UserId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// A policy that gave way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Former {
    pub generation: u64,
    pub spec: String,
    /// The record that put another one in charge.
    pub until: u64,
}

pub(crate) fn folder(dir: &Path) -> PathBuf {
    dir.join("before")
}

fn path(dir: &Path, generation: u64) -> PathBuf {
    folder(dir).join(generation.to_string())
}

/// A policy in charge at one moment, with what it had learned.
pub(super) struct Leaving {
    generation: u64,
    updates: u64,
    refused: u64,
    models: Frozen,
}

/// What a file holds.
struct Kept {
    updates: u64,
    refused: u64,
    state: Vec<u8>,
}

impl State {
    /// The policy in charge gives way to another, by the record of this number.
    pub(super) fn give_way(&mut self, seq: u64, serving: &RwLock<Serving>) {
        let serving = read(serving);
        self.before.push(Former {
            generation: serving.swapped.generation,
            spec: serving.swapped.spec.clone(),
            until: seq,
        });
        self.trim_formers();
    }

    /// Drops those that are too many to come back.
    pub(super) fn trim_formers(&mut self) {
        let over = self.before.len().saturating_sub(self.rules.undo);
        self.before.drain(..over);
    }
}

impl Engine {
    /// The policies that can come back, as specs, the latest first.
    pub fn formers(&self) -> Vec<String> {
        let all = self.state().before.clone();
        let there = all.into_iter().rev().filter(|f| path(&self.dir, f.generation).exists());
        there.map(|f| f.spec).collect()
    }

    /// Puts back the policy that gave way last, with what it had learned by then. Returns its new generation.
    ///
    /// # Errors
    /// [`Error::NotFound`] where none can come back; [`Error::Invalid`] while an experiment runs; a file that is damaged;
    /// [`Error::Unavailable`] when the disk fails.
    pub fn roll_back(&self) -> Result<u64> {
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.no_experiment()?;
        let (former, forgotten) = {
            let state = self.state();
            let there = |f: &&Former| path(&self.dir, f.generation).exists();
            let last = state.before.iter().rev().find(there).cloned();
            (last, state.forgotten.clone())
        };
        let former = former.ok_or_else(|| Error::NotFound {
            field: "action",
            what: "policy that gave way",
            id: "the last one".into(),
        })?;
        let (kept, _) = self.read_former(&former, &forgotten)?;
        let back = |next| {
            Event::Undone(Box::new(Undone {
                to: former.generation,
                updates: kept.updates,
                refused: kept.refused,
                next,
            }))
        };
        let artefact = Artefact {
            spec: Spec::parse(&former.spec)?,
            state: Some(kept.state),
        };
        self.exchange(&artefact, back)
    }

    /// The policy in charge as it is now, once it has learned what is due.
    pub(super) fn former(&self, state: &mut State) -> Result<Leaving> {
        self.settle_owed(state)?;
        if state.is_due(self.stamps.now()) {
            self.put(state, &Event::Tick)?;
        }
        self.wait_for_asides(state);
        let serving = read(&self.serving);
        Ok(Leaving {
            generation: serving.swapped.generation,
            updates: serving.updates,
            refused: serving.refused,
            models: serving.models.freeze(),
        })
    }

    /// Writes down what the policy in charge has learned, before it gives way.
    pub(super) fn keep_former(&self) -> Result<()> {
        let leaving = self.former(&mut self.settled())?;
        self.write_leaving(&leaving)
    }

    /// Writes it down again, as it was when it gave way. On a disk that does not take it, what was written before stands.
    pub(super) fn keep_last(&self, leaving: Option<Leaving>) {
        let _ = leaving.map(|leaving| self.write_leaving(&leaving));
    }

    fn write_leaving(&self, leaving: &Leaving) -> Result<()> {
        let kept = Kept {
            updates: leaving.updates,
            refused: leaving.refused,
            state: leaving.models.state()?,
        };
        self.write_former(leaving.generation, &kept)
    }

    fn write_former(&self, generation: u64, kept: &Kept) -> Result<()> {
        let mut body = Vec::with_capacity(kept.state.len() + 20);
        body.u64(kept.updates);
        body.u64(kept.refused);
        body.extend_from_slice(&kept.state);
        seal(&*self.settings.disk, &path(&self.dir, generation), body)
    }

    /// What a former policy had learned, without those who were forgotten since; true where that changed it.
    fn read_former(&self, former: &Former, forgotten: &BTreeMap<u64, u64>) -> Result<(Kept, bool)> {
        let path = path(&self.dir, former.generation);
        let mut kept = parse(&unseal(&path)?).ok_or(Error::Damaged {
            path,
            why: "it is too short".into(),
        })?;
        let since = forgotten.iter().filter(|(_, seq)| **seq > former.until);
        let gone: Vec<UserId> = since.map(|(user, _)| UserId(*user)).collect();
        if gone.is_empty() {
            return Ok((kept, false));
        }
        let less = self.without(&former.spec, kept.state.clone(), &gone)?;
        let changed = less.is_some();
        kept.state = less.unwrap_or(kept.state);
        Ok((kept, changed))
    }

    /// Forgets these users, each with the number of the record that says so, in what former policies had learned.
    pub(super) fn forget_in_formers(&self, pending: &BTreeMap<u64, u64>) -> Result<()> {
        let all = self.state().before.clone();
        for former in all.iter().filter(|f| path(&self.dir, f.generation).exists()) {
            match self.read_former(former, pending) {
                Ok((kept, true)) => self.write_former(former.generation, &kept)?,
                Ok((_, false)) => {}
                Err(e) if e.is_passing() => return Err(e),
                // It cannot come back, and may hold what is to be forgotten.
                Err(_) => {
                    let path = path(&self.dir, former.generation);
                    self.settings.disk.remove(&path).map_err(Error::io("remove", path))?;
                }
            }
        }
        Ok(())
    }

    /// Removes what nothing can come back to.
    ///
    /// # Errors
    /// A disk that does not do it now: it is asked again after the next change, and when somebody is to be forgotten.
    pub(super) fn tidy_formers(&self) -> Result<()> {
        let needed: Vec<u64> = self.state().before.iter().map(|f| f.generation).collect();
        let files = std::fs::read_dir(folder(&self.dir)).into_iter().flatten().flatten();
        let mut done = Ok(());
        for file in files {
            let generation = file.file_name().to_str().and_then(|name| name.parse().ok());
            if generation.is_some_and(|g: u64| !needed.contains(&g)) {
                let path = file.path();
                done = done.and(self.settings.disk.remove(&path).map_err(Error::io("remove", path)));
            }
        }
        done
    }
}

/// The parts of a file's body.
fn parse(body: &[u8]) -> Option<Kept> {
    let mut from = Get(body);
    Some(Kept {
        updates: from.u64()?,
        refused: from.u64()?,
        state: from.0.to_vec(),
    })
}
