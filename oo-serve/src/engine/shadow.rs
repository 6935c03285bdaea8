//! Shadows: policies that see the same rounds and rewards and never answer. Each lives on a thread of its own behind a
//! bounded queue, so that whatever it does (fail, panic, sleep) reaches no answer: what it does not get to is dropped and
//! counted, and what it found is logged later, with the number of the decision it is about.

use super::Engine;
use super::ask::{Logged, action_id, user_id};
use super::event::{Event, ShadowEvent};
use super::guard::Owned;
use super::settings::Artefact;
use crate::{Error, Result};
use oo_core::tips::Feedback;
use oo_core::{ActionId, Batch, Candidates, Decision, Key, Log, Policy, Round, UserId};
use serde::Serialize;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Rounds that may wait for a shadow.
const QUEUE: usize = 4096;
/// Findings that wait for the journal.
const FOUND: usize = 1 << 16;
/// A proposal that takes longer is logged as failed.
const LIMIT: Duration = Duration::from_millis(100);

enum Job {
    Propose { seq: u64, round: Owned, key: Key },
    Learn(Box<(Logged, f64, Option<Feedback>)>),
    Forget(UserId),
    Save(SyncSender<Vec<u8>>),
}

/// How a shadow goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShadowReport {
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: String,
    /// Proposals logged or to be logged.
    pub proposed: u64,
    /// Proposals that failed: errors, panics, no distribution, too slow.
    pub failed: u64,
    /// Rounds and rewards that it did not get to.
    pub dropped: u64,
}

#[derive(Default)]
struct Tally {
    proposed: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

struct Shadow {
    name: String,
    artefact: Artefact,
    jobs: SyncSender<Job>,
    tally: Arc<Tally>,
    /// Left to itself when it is removed: it may be asleep.
    _thread: JoinHandle<()>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Shadows {
    all: RwLock<Vec<Shadow>>,
    any: AtomicBool,
    found: Arc<Mutex<VecDeque<ShadowEvent>>>,
}

impl Shadows {
    fn each(&self, act: impl Fn(&Shadow)) {
        self.all
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .for_each(act);
    }

    fn send(&self, job: impl Fn() -> Job) {
        self.each(|shadow| {
            if shadow.jobs.try_send(job()).is_err() {
                shadow.tally.dropped.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    pub fn propose(&self, seq: u64, round: &Round<'_>, key: Key) {
        if self.any.load(Ordering::Relaxed) {
            self.send(|| Job::Propose {
                seq,
                round: Owned::new(round),
                key,
            });
        }
    }

    pub fn learn(&self, rows: Vec<(Logged, f64, Option<Feedback>)>) {
        for row in rows {
            self.send(|| Job::Learn(Box::new(row.clone())));
        }
    }

    pub fn forget(&self, user: UserId) {
        self.send(|| Job::Forget(user));
    }
}

fn run(
    name: &str,
    mut policy: Box<dyn Policy>,
    jobs: &Receiver<Job>,
    tally: &Tally,
    found: &Mutex<VecDeque<ShadowEvent>>,
) {
    let (mut decision, mut log) = (Decision::new(), Log::new());
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Propose { seq, round, key } => {
                let begun = Instant::now();
                let key = key.name("shadow").name(name);
                let asked = catch_unwind(AssertUnwindSafe(|| policy.decide(&round.round(), key, &mut decision)));
                let failure = match asked {
                    Ok(Ok(())) if begun.elapsed() > LIMIT => format!("it took longer than {} ms", LIMIT.as_millis()),
                    Ok(Ok(())) => String::new(),
                    Ok(Err(e)) => e.to_string(),
                    Err(_) => "it panicked".into(),
                };
                let counter = if failure.is_empty() {
                    &tally.proposed
                } else {
                    &tally.failed
                };
                counter.fetch_add(1, Ordering::Relaxed);
                let event = ShadowEvent {
                    decision: seq,
                    user: round.round().user.0,
                    name: name.into(),
                    probs: if failure.is_empty() {
                        decision.probs().to_vec()
                    } else {
                        Vec::new()
                    },
                    failure,
                };
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                if found.len() < FOUND {
                    found.push_back(event);
                } else {
                    tally.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            Job::Learn(row) => {
                let (l, reward, feedback) = &*row;
                let ids: Vec<ActionId> = l.ids.iter().map(|id| action_id(id)).collect();
                let round = Round {
                    index: l.index,
                    user: user_id(&l.user),
                    context: &l.context,
                    candidates: Candidates {
                        ids: &ids,
                        features: &l.features,
                        dim: l.dim(),
                    },
                };
                log.clear();
                let row = log.push_parts(&round, &l.answer.probs, l.answer.chosen, l.answer.method);
                log.settle(row, *reward, *feedback);
                let batch = Batch::new(&log, std::slice::from_ref(&row));
                if !matches!(catch_unwind(AssertUnwindSafe(|| policy.update(&batch))), Ok(Ok(()))) {
                    tally.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            // A panic here leaves the shadow as it is.
            Job::Forget(user) => drop(catch_unwind(AssertUnwindSafe(|| policy.forget(user)))),
            Job::Save(to) => drop(catch_unwind(AssertUnwindSafe(|| to.send(policy.save())))),
        }
    }
}

impl Engine {
    /// Adds a policy that sees everything and answers nothing. It learns from what the policy in charge was rewarded
    /// for, from now on.
    ///
    /// # Errors
    /// A name that is taken, a policy that does not fit.
    pub fn add_shadow(&self, name: &str, artefact: &Artefact) -> Result<()> {
        let mut policy = (self.settings.build)(&oo_policies::expand(&artefact.spec)?, &self.settings.shape)?;
        if let Some(state) = &artefact.state {
            policy.load(state)?;
        }
        let mut all = self.shadows.all.write().unwrap_or_else(PoisonError::into_inner);
        if name.is_empty() || all.iter().any(|s| s.name == name) {
            return Err(Error::invalid("shadow", "a name that is free", format!("`{name}`")));
        }
        let (jobs, queue) = sync_channel(QUEUE);
        let tally = Arc::new(Tally::default());
        let thread = std::thread::Builder::new().name("shadow".into()).spawn({
            let (name, tally, found) = (name.to_string(), Arc::clone(&tally), Arc::clone(&self.shadows.found));
            move || run(&name, policy, &queue, &tally, &found)
        });
        all.push(Shadow {
            name: name.into(),
            artefact: artefact.clone(),
            jobs,
            tally,
            _thread: thread.map_err(Error::io("start a thread for", name))?,
        });
        drop(all);
        self.shadows.any.store(true, Ordering::Relaxed);
        self.state().taught.wanted = true;
        Ok(())
    }

    /// Removes a shadow. What it found so far is logged.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn remove_shadow(&self, name: &str) -> Result<()> {
        let mut all = self.shadows.all.write().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.retain(|s| s.name != name);
        let (found, any) = (all.len() < before, !all.is_empty());
        drop(all);
        self.shadows.any.store(any, Ordering::Relaxed);
        self.state().taught.wanted = any;
        match found {
            true => Ok(()),
            false => Err(unknown(name)),
        }
    }

    /// How the shadows go.
    pub fn shadows(&self) -> Vec<ShadowReport> {
        let all = self.shadows.all.read().unwrap_or_else(PoisonError::into_inner);
        let report = |s: &Shadow| ShadowReport {
            name: s.name.clone(),
            spec: s.artefact.spec.to_string(),
            proposed: s.tally.proposed.load(Ordering::Relaxed),
            failed: s.tally.failed.load(Ordering::Relaxed),
            dropped: s.tally.dropped.load(Ordering::Relaxed),
        };
        all.iter().map(report).collect()
    }

    /// A shadow with what it has learned, to be put in charge ([`swap`](Engine::swap)) or kept.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] when it does not answer in time.
    pub fn shadow(&self, name: &str, patience: Duration) -> Result<Artefact> {
        let (save, saved) = sync_channel(1);
        let spec = {
            let all = self.shadows.all.read().unwrap_or_else(PoisonError::into_inner);
            let shadow = all.iter().find(|s| s.name == name).ok_or_else(|| unknown(name))?;
            // A queue that is full is one that does not answer.
            let _ = shadow.jobs.try_send(Job::Save(save));
            shadow.artefact.spec.clone()
        };
        match saved.recv_timeout(patience) {
            Ok(state) => Ok(Artefact {
                spec,
                state: Some(state),
            }),
            Err(_) => Err(Error::invalid(
                "shadow",
                "a shadow that answers",
                format!("`{name}`, which does not"),
            )),
        }
    }

    /// Logs what the shadows found since the last time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the disk has failed for long.
    pub fn log_shadows(&self) -> Result<()> {
        loop {
            let next = {
                let mut found = self.shadows.found.lock().unwrap_or_else(PoisonError::into_inner);
                let n = found.len().min(256);
                found.drain(..n).collect::<Vec<_>>()
            };
            if next.is_empty() {
                return Ok(());
            }
            let mut state = self.state();
            for event in next {
                self.put(&mut state, &Event::Shadow(Box::new(event)))?;
            }
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::NotFound {
        field: "shadow",
        what: "shadow",
        id: name.into(),
    }
}
