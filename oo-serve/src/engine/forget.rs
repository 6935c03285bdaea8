//! Forgotten users in saved states: those that policies began with (`policies/SHA256`), and those of policies that gave way
//! (`before`, see [`undo`](super::undo)).
//!
//! A state that somebody was taken out of no longer has the digest that is its name: it lies sealed under
//! `policies/SHA256.scrubbed`, and whoever asks for the digest gets that. A state that no record and nobody in place names
//! any more is removed instead.
//!
//! A sealed file is a body and its CRC32C u32.

use super::Engine;
use super::ask::identity;
use super::event::{Event, GivenEvent, kind};
use super::models::Models;
use super::recover::policies_dir;
use super::settings::Artefact;
use super::state::{State, read};
use crate::journal::disk::Disk;
use crate::journal::{Record, fail};
use crate::{Error, Result, registry};
use oo_core::{Shape, Spec, UserId};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl State {
    /// True for a record of somebody who was forgotten after it.
    pub fn is_forgotten(&self, user: &str, record: u64) -> bool {
        self.forgotten.get(&identity(user)).is_some_and(|seq| record < *seq)
    }

    /// The same for feedback in this record, where it says whose it is.
    pub fn is_of_forgotten(&self, given: &GivenEvent, record: u64) -> bool {
        let mut gone = given
            .people()
            .into_iter()
            .flatten()
            .filter_map(|user| self.forgotten.get(&user));
        gone.any(|seq| record < *seq)
    }
}

/// How the name of a state ends from which somebody was taken.
pub(crate) const SCRUBBED: &str = "scrubbed";

/// Writes a sealed file, under another name first.
///
/// # Errors
/// A disk that does not take it; what was there before stands.
pub(super) fn seal(disk: &dyn Disk, path: &Path, mut body: Vec<u8>) -> Result<()> {
    let crc = crc32c::crc32c(&body);
    body.extend_from_slice(&crc.to_le_bytes());
    let temporary = path.with_extension("tmp");
    fail::point("seal.write");
    let mut file = disk.create(&temporary).map_err(Error::io("create", &temporary))?;
    let written = file.write_at(&body, 0).and_then(|()| file.sync());
    fail::point("seal.rename");
    let renamed = written.and_then(|()| disk.rename(&temporary, path));
    if let Err(e) = renamed {
        // What is left of it is in the way of nothing; the next start removes it if this does not.
        let _ = disk.remove(&temporary);
        return Err(Error::io("write", path)(e));
    }
    let folder = path.parent().unwrap_or(path);
    disk.sync_dir(folder).map_err(Error::io("flush", folder))?;
    fail::point("seal.done");
    Ok(())
}

/// The body of a sealed file.
///
/// # Errors
/// A file that cannot be read, or whose checksum differs.
pub(super) fn unseal(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let sound = bytes.len().checked_sub(4).filter(|at| {
        let (body, crc) = bytes.split_at(*at);
        crc32c::crc32c(body).to_le_bytes() == crc
    });
    let length = sound.ok_or_else(|| Error::Damaged {
        path: path.into(),
        why: "its checksum differs; put a policy in charge by its spec or folder instead".into(),
    })?;
    bytes.truncate(length);
    Ok(bytes)
}

/// The specs of saved states by their digests.
pub(super) type StateNames = BTreeMap<String, String>;

/// True for a record after which other saved states are in place than before.
pub(super) fn changes(r: &Record<'_>) -> bool {
    matches!(
        r.kind,
        kind::SWAPPED | kind::UNDONE | kind::BEGUN | kind::ENDED | kind::SHADOWING | kind::UNSHADOWED
    )
}

/// The digest and the spec of a saved state that a record names.
pub(super) fn named(r: &Record<'_>) -> Option<(String, String)> {
    if !matches!(r.kind, kind::SWAPPED | kind::UNDONE | kind::BEGUN | kind::SHADOWING) {
        return None;
    }
    let (digest, spec) = match Event::decode(r).ok()? {
        Event::Swapped(s) => (s.digest, s.spec),
        Event::Undone(u) => (u.next.digest, u.next.spec),
        Event::Begun(b) => (b.challenger.digest, b.challenger.spec),
        Event::Shadowing(s) => (s.digest, s.spec),
        _ => return None,
    };
    (!digest.is_empty()).then_some((digest, spec))
}

impl Engine {
    /// The state without these users; `None` where it holds nothing of them.
    ///
    /// # Errors
    /// A state that does not fit its spec.
    pub(super) fn without(&self, spec: &str, state: Vec<u8>, users: &[UserId]) -> Result<Option<Vec<u8>>> {
        self.without_of(&self.settings.shape, spec, state, users)
    }

    /// An artefact from outside without those whom a compaction has still to take out: it does not look at what is in place.
    ///
    /// # Errors
    /// A state that does not fit its spec.
    pub(super) fn without_pending<'a>(&self, artefact: &'a Artefact) -> Result<Cow<'a, Artefact>> {
        let blanked = self.blanked();
        let users: Vec<UserId> = {
            let state = self.state();
            let pending = state.forgotten.iter().filter(|(_, seq)| **seq > blanked);
            pending.map(|(user, _)| UserId(*user)).collect()
        };
        let Some(state) = artefact.state.as_ref().filter(|_| !users.is_empty()) else {
            return Ok(Cow::Borrowed(artefact));
        };
        let less = self.without(&artefact.spec.to_string(), state.clone(), &users)?;
        Ok(less.map_or(Cow::Borrowed(artefact), |state| {
            Cow::Owned(Artefact {
                spec: artefact.spec.clone(),
                state: Some(state),
            })
        }))
    }

    fn without_of(&self, shape: &Shape, spec: &str, state: Vec<u8>, users: &[UserId]) -> Result<Option<Vec<u8>>> {
        let artefact = Artefact {
            spec: Spec::parse(spec)?,
            state: Some(state),
        };
        let mut models = Models::new(&artefact, shape, self.settings.home(&self.dir))?;
        drop(artefact);
        if !models.forget_all(users) {
            return Ok(None);
        }
        Ok(Some(models.freeze().state()?))
    }

    /// Takes these users out of the states that policies began with. `names` has what the journal names: spec by digest.
    pub(super) fn forget_in_policies(&self, mut names: StateNames, users: &BTreeMap<u64, u64>) -> Result<()> {
        let users: Vec<UserId> = users.keys().map(|user| UserId(*user)).collect();
        let mut needed = BTreeMap::new();
        {
            let state = self.state();
            let swapped = read(&self.serving).swapped.clone();
            needed.insert(swapped.digest, swapped.spec);
            if let Some(trial) = &state.trial {
                let swapped = read(&trial.challenger).swapped.clone();
                needed.insert(swapped.digest, swapped.spec);
            }
            needed.extend(state.shadows.values().map(|s| (s.digest.clone(), s.spec.clone())));
        }
        names.extend(needed.iter().map(|(digest, spec)| (digest.clone(), spec.clone())));
        let folder = policies_dir(&self.dir);
        let remove = |path: &Path| self.settings.disk.remove(path).map_err(Error::io("remove", path));
        let listed = std::fs::read_dir(&folder).map_err(Error::io("read the folder", &folder))?;
        // As they are before any is written.
        let listed: Vec<PathBuf> = listed.flatten().map(|file| file.path()).collect();
        for path in listed {
            if path.extension().is_some_and(|e| e == "tmp") {
                remove(&path)?;
                continue;
            }
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let Some(digest) = stem.filter(|stem| stem.len() == 64) else {
                continue;
            };
            let sealed = path.extension().is_some_and(|e| e == SCRUBBED);
            let Some(spec) = names.get(digest) else {
                remove(&path)?;
                continue;
            };
            let state = match sealed {
                true => unseal(&path),
                false => std::fs::read(&path).map_err(Error::io("read", &path)),
            };
            match state.and_then(|state| self.without(spec, state, &users)) {
                Ok(None) => {}
                Ok(Some(state)) => {
                    seal(
                        &*self.settings.disk,
                        &folder.join(format!("{digest}.{SCRUBBED}")),
                        state,
                    )?;
                    if !sealed {
                        fail::point("scrub.remove");
                        remove(&path)?;
                    }
                }
                Err(e) if e.is_passing() || needed.contains_key(digest) => return Err(e),
                // Nothing can begin with it, and it may hold what is to be forgotten.
                Err(_) => remove(&path)?,
            }
        }
        self.sync(&folder)?;
        // Registered models lie in the folder as well.
        registry::forget(&self.dir, |winner| {
            let (policy, state) = (&winner.policy, winner.state.clone());
            self.without_of(&policy.shape, &policy.spec, state, &users)
        })
    }
}
