//! Changes of the policy that can be undone, over restarts too. Which policies gave way is part of the state; what each
//! had learned by then lies beside it in `before/GENERATION`: the policy's saved state, then its CRC32C u32.
//!
//! A file is written before the record that makes it needed, and removed when nothing can come back to it. A user who was
//! forgotten since is forgotten in it as well: by the next compaction, or when it is put in charge.

use super::Engine;
use super::event::{Event, Undone};
use super::models::Models;
use super::settings::Artefact;
use super::state::read;
use crate::{Error, Result};
use oo_core::{Spec, UserId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// Changes that can be undone.
pub(crate) const MOST: usize = 8;

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
        let artefact = Artefact {
            spec: Spec::parse(&former.spec)?,
            state: Some(self.former_state(&former, &forgotten)?.0),
        };
        let back = |next| {
            Event::Undone(Box::new(Undone {
                to: former.generation,
                next,
            }))
        };
        let generation = self.exchange(&artefact, back)?;
        self.tidy_formers();
        Ok(generation)
    }

    /// Writes down what the policy in charge has learned, before it gives way.
    pub(super) fn keep_former(&self) -> Result<()> {
        let (generation, frozen) = {
            let _state = self.settled();
            let serving = read(&self.serving);
            (serving.swapped.generation, serving.models.freeze())
        };
        self.write_former(generation, frozen.state()?)
    }

    fn write_former(&self, generation: u64, mut bytes: Vec<u8>) -> Result<()> {
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let (disk, path) = (&self.settings.disk, path(&self.dir, generation));
        let temporary = path.with_extension("tmp");
        let mut file = disk.create(&temporary).map_err(Error::io("create", &temporary))?;
        let written = file.write_at(&bytes, 0).and_then(|()| file.sync());
        written
            .and_then(|()| disk.rename(&temporary, &path))
            .and_then(|()| disk.sync_dir(&folder(&self.dir)))
            .map_err(Error::io("write", &path))
    }

    /// What a former policy had learned, without those who were forgotten since; true where that changed it.
    fn former_state(&self, former: &Former, forgotten: &BTreeMap<u64, u64>) -> Result<(Vec<u8>, bool)> {
        let path = path(&self.dir, former.generation);
        let mut bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let sound = bytes.len().checked_sub(4).filter(|body| {
            let (body, crc) = bytes.split_at(*body);
            crc32c::crc32c(body).to_le_bytes() == crc
        });
        let Some(body) = sound else {
            return Err(Error::Damaged {
                path,
                why: "its checksum differs; put a policy in charge by its spec or folder instead".into(),
            });
        };
        bytes.truncate(body);
        let gone: Vec<u64> = forgotten
            .iter()
            .filter(|(_, seq)| **seq > former.until)
            .map(|(user, _)| *user)
            .collect();
        if gone.is_empty() {
            return Ok((bytes, false));
        }
        let artefact = Artefact {
            spec: Spec::parse(&former.spec)?,
            state: Some(bytes),
        };
        let mut models = Models::new(&artefact, &self.settings.shape, self.settings.home(&self.dir))?;
        gone.into_iter().for_each(|user| models.forget(UserId(user)));
        Ok((models.freeze().state()?, true))
    }

    /// Forgets these users, each with the number of the record that says so, in what former policies had learned.
    pub(super) fn forget_in_formers(&self, pending: &BTreeMap<u64, u64>) -> Result<()> {
        let all = self.state().before.clone();
        for former in all.iter().filter(|f| path(&self.dir, f.generation).exists()) {
            let (state, changed) = self.former_state(former, pending)?;
            if changed {
                self.write_former(former.generation, state)?;
            }
        }
        Ok(())
    }

    /// Removes what nothing can come back to. A disk that does not do it now is asked again after the next change.
    pub(super) fn tidy_formers(&self) {
        let needed: Vec<u64> = self.state().before.iter().map(|f| f.generation).collect();
        let files = std::fs::read_dir(folder(&self.dir)).into_iter().flatten().flatten();
        for file in files {
            let generation = file.file_name().to_str().and_then(|name| name.parse().ok());
            if generation.is_some_and(|g: u64| !needed.contains(&g)) {
                let _ = self.settings.disk.remove(&file.path());
            }
        }
    }
}
