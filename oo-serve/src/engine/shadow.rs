//! Shadows: policies that see the same rounds and rewards and never answer. Each lives on a thread of its own behind a
//! bounded queue, so that whatever it does (fail, panic, sleep) reaches no answer: what it does not get to is dropped and
//! counted, and what it found is logged later, with the number of the decision it is about.
//!
//! A shadow begins and ends with a record, and outlives a restart: what it has learned is kept beside every snapshot
//! (`snapshots/SEQ.shadows`) as of that snapshot's record, and the rewards after it are told again while the journal is
//! replayed. One that keeps up has then learned what it would have without the restart, bit for bit; what a shadow did not
//! get to is lost to it alone. One that was asleep when a snapshot was taken goes on from an older copy, or from its
//! beginning, with a gap that counts as dropped.

pub(crate) mod saved;

use super::Engine;
use super::ask::Logged;
use super::event::{Event, ShadowEvent, Shadowing};
use super::guard::Owned;
use super::recover::{keep, kept};
use super::settings::{Artefact, Settings};
use super::state::Shadowed;
use super::teach::enter;
use crate::{Error, Result};
use oo_core::tips::Feedback;
use oo_core::{Batch, Decision, Key, Log, Policy, Round, Spec, UserId};
use saved::Saving;
use serde::Serialize;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Rounds that may wait for a shadow.
const QUEUE: usize = 4096;
/// Findings that wait for the journal.
const FOUND: usize = 1 << 16;
/// Findings logged at a time, at least, and the pause after them: answers wait for the same lock, and a second's findings
/// are many. At most so many times running.
const AT_ONCE: usize = 32;
const TIMES: usize = 512;
const PAUSE: Duration = Duration::from_micros(200);
/// What a shadow with nothing to do sleeps before it asks to be woken, so that under load no answer pays for waking it.
const NAP: Duration = Duration::from_millis(1);
/// A proposal that takes longer is logged as failed.
const LIMIT: Duration = Duration::from_millis(100);
/// What a replay waits for a shadow that does not keep up, in all.
const REPLAYING: Duration = Duration::from_secs(5);

enum Job {
    Propose { seq: u64, round: Arc<Owned>, key: Key },
    Learn(Arc<(Logged, f64, Option<Feedback>)>),
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
    /// Proposals made; after a restart those that were logged, which one about a person who was forgotten first is not.
    pub proposed: u64,
    /// Proposals that failed: errors, panics, no distribution, too slow.
    pub failed: u64,
    /// Rounds, rewards and resets that it did not get to.
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
    spec: Spec,
    jobs: Sender<Job>,
    /// Jobs in the queue.
    waiting: Arc<AtomicUsize>,
    tally: Arc<Tally>,
    /// Left to itself when it is removed: it may be asleep.
    _thread: JoinHandle<()>,
}

impl Shadow {
    /// Gives a job back where the queue is full.
    fn try_send(&self, job: Job) -> std::result::Result<(), Job> {
        if self.waiting.load(Ordering::Relaxed) >= QUEUE {
            return Err(job);
        }
        self.send(job)
    }

    /// Whatever waits already.
    fn send(&self, job: Job) -> std::result::Result<(), Job> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(job).map_err(|back| back.0)
    }

    fn drop_one(&self) {
        self.tally.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Shadows {
    all: RwLock<Vec<Shadow>>,
    any: AtomicBool,
    found: Arc<Mutex<VecDeque<ShadowEvent>>>,
}

impl Shadows {
    fn each(&self, act: impl FnMut(&Shadow)) {
        self.all
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .for_each(act);
    }

    fn send(&self, job: impl Fn() -> Job) {
        self.each(|shadow| {
            if shadow.try_send(job()).is_err() {
                shadow.drop_one();
            }
        });
    }

    /// True where there are any.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    pub fn propose(&self, seq: u64, round: &Round<'_>, key: Key) {
        if self.any() {
            let round = Arc::new(Owned::new(round));
            self.send(|| Job::Propose {
                seq,
                round: Arc::clone(&round),
                key,
            });
        }
    }

    pub fn learn(&self, rows: Vec<(Logged, f64, Option<Feedback>)>) {
        for row in rows {
            let row = Arc::new(row);
            self.send(|| Job::Learn(Arc::clone(&row)));
        }
    }

    /// A user begins anew.
    pub fn reset(&self, user: UserId) {
        self.send(|| Job::Forget(user));
    }

    /// None misses who is forgotten, however much waits: it would be kept with what it learned.
    pub fn forget(&self, user: UserId) {
        self.each(|shadow| drop(shadow.send(Job::Forget(user))));
    }

    /// Tells one to forget a user.
    pub fn forget_by(&self, name: &str, user: UserId) {
        self.each(|shadow| {
            if shadow.name == name {
                drop(shadow.send(Job::Forget(user)));
            }
        });
    }

    /// The same as [`learn`](Shadows::learn) while nobody waits for an answer: a full queue is waited for, until the patience
    /// is used up.
    pub fn learn_again(&self, rows: Vec<(Logged, f64, Option<Feedback>)>, patience: &mut Duration) {
        for row in rows {
            let row = Arc::new(row);
            self.each(|shadow| {
                let mut job = Job::Learn(Arc::clone(&row));
                loop {
                    match shadow.try_send(job) {
                        Ok(()) => return,
                        Err(back) if !patience.is_zero() => job = back,
                        Err(_) => return shadow.drop_one(),
                    }
                    let nap = Duration::from_millis(1);
                    std::thread::sleep(nap);
                    *patience = patience.saturating_sub(nap);
                }
            });
        }
    }

    /// Starts one. `before` is what the journal has of it, `saved` what it had learned.
    pub fn start(
        &self,
        (name, before): (&str, &Shadowed),
        saved: Option<&[u8]>,
        dir: &Path,
        settings: &Settings,
    ) -> Result<()> {
        let shadow = self.ready((name, before), saved, dir, settings)?;
        self.admit(shadow);
        Ok(())
    }

    /// One that hears nothing yet.
    fn ready(
        &self,
        (name, before): (&str, &Shadowed),
        saved: Option<&[u8]>,
        dir: &Path,
        settings: &Settings,
    ) -> Result<Shadow> {
        let spec = Spec::parse(&before.spec)?;
        let first = kept(dir, &before.digest)?;
        let mut policy = (settings.build)(&oo_policies::expand(&spec)?, &settings.shape)?;
        if let Some(state) = saved.or(first.as_deref()) {
            policy.load(state)?;
        }
        let (jobs, queue) = channel();
        let (waiting, tally) = (Arc::new(AtomicUsize::new(0)), Arc::new(Tally::default()));
        let thread = std::thread::Builder::new().name("shadow".into()).spawn({
            let (waiting, tally, found) = (Arc::clone(&waiting), Arc::clone(&tally), Arc::clone(&self.found));
            let name = name.to_string();
            move || {
                let next = || {
                    let job = match queue.try_recv() {
                        Err(TryRecvError::Empty) => {
                            std::thread::sleep(NAP);
                            queue.recv().ok()?
                        }
                        job => job.ok()?,
                    };
                    waiting.fetch_sub(1, Ordering::Relaxed);
                    Some(job)
                };
                run(&name, policy, std::iter::from_fn(next), &tally, &found);
            }
        });
        Ok(Shadow {
            name: name.into(),
            spec,
            jobs,
            waiting,
            tally,
            _thread: thread.map_err(Error::io("start a thread for", name))?,
        })
    }

    /// It hears everything from now on.
    fn admit(&self, shadow: Shadow) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.push(shadow);
        self.any.store(true, Ordering::Relaxed);
    }

    /// Lets one go.
    pub fn stop(&self, name: &str) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|s| s.name != name);
        self.any.store(!all.is_empty(), Ordering::Relaxed);
    }

    /// Asks all what they have learned from what they were told so far.
    pub fn ask(&self) -> Saving {
        let mut asked = Vec::new();
        self.each(|shadow| {
            let (save, saved) = sync_channel(1);
            if shadow.try_send(Job::Save(save)).is_ok() {
                asked.push((shadow.name.clone(), saved));
            }
        });
        asked
    }

    /// What the journal has of a shadow, once it has been read to its end.
    pub fn tally(&self, name: &str, before: &Shadowed) {
        self.each(|shadow| {
            if shadow.name == name {
                shadow.tally.proposed.store(before.proposed, Ordering::Relaxed);
                shadow.tally.failed.store(before.failed, Ordering::Relaxed);
            }
        });
    }

    /// One more thing that a shadow of this name did not get to.
    pub fn missed(&self, name: &str) {
        self.each(|shadow| {
            if shadow.name == name {
                shadow.drop_one();
            }
        });
    }
}

/// How long a replay has patience with its shadows.
pub(crate) fn patience() -> Duration {
    REPLAYING
}

fn run(
    name: &str,
    mut policy: Box<dyn Policy>,
    jobs: impl Iterator<Item = Job>,
    tally: &Tally,
    found: &Mutex<VecDeque<ShadowEvent>>,
) {
    let (mut decision, mut log) = (Decision::new(), Log::new());
    for job in jobs {
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
                let counter = match &event.failure {
                    _ if found.len() >= FOUND => &tally.dropped,
                    failure if failure.is_empty() => &tally.proposed,
                    _ => &tally.failed,
                };
                if found.len() < FOUND {
                    found.push_back(event);
                }
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Job::Learn(row) => {
                let (l, reward, feedback) = &*row;
                let row = enter(l, *reward, *feedback, &mut log);
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
    /// for, from now on, over restarts too.
    ///
    /// # Errors
    /// A name that is taken, a policy that does not fit; [`Error::Unavailable`] when the disk fails.
    pub fn add_shadow(&self, name: &str, artefact: &Artefact) -> Result<()> {
        if name.is_empty() || name.len() > super::ask::MAX_ID {
            return Err(Error::invalid(
                "name",
                "a name of 1 to 512 bytes",
                format!("{} bytes", name.len()),
            ));
        }
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.journal.writable()?;
        if self.state().shadows.contains_key(name) {
            return Err(Error::invalid("name", "a name that is free", format!("`{name}`")));
        }
        let swapped = keep(&self.dir, &self.settings, &*self.without_pending(artefact)?, 0)?;
        let before = Shadowed {
            spec: swapped.spec.clone(),
            digest: swapped.digest.clone(),
            since: 0,
            proposed: 0,
            failed: 0,
        };
        // It must fit before it is written down, and takes its time while nobody waits.
        let shadow = self.shadows.ready((name, &before), None, &self.dir, &self.settings)?;
        let event = Event::Shadowing(Shadowing {
            name: name.into(),
            spec: swapped.spec,
            digest: swapped.digest,
        });
        let mark = {
            let mut state = self.state();
            let mark = self.put(&mut state, &event)?;
            // It hears nothing of what was due before its record, as in a replay.
            self.shadows.admit(shadow);
            state.taught.wanted = true;
            mark
        };
        self.journal.commit(mark.seq).wait()
    }

    /// Removes a shadow. What it found so far is logged.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Unavailable`] when the disk fails.
    pub fn remove_shadow(&self, name: &str) -> Result<()> {
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.journal.writable()?;
        let mark = {
            let mut state = self.state();
            if !state.shadows.contains_key(name) {
                return Err(unknown(name));
            }
            let mark = self.put(&mut state, &Event::Unshadowed(name.into()))?;
            self.shadows.stop(name);
            state.taught.wanted = self.shadows.any();
            mark
        };
        self.journal.commit(mark.seq).wait()
    }

    /// How the shadows go.
    pub fn shadows(&self) -> Vec<ShadowReport> {
        let all = self.shadows.all.read().unwrap_or_else(PoisonError::into_inner);
        let report = |s: &Shadow| ShadowReport {
            name: s.name.clone(),
            spec: s.spec.to_string(),
            proposed: s.tally.proposed.load(Ordering::Relaxed),
            failed: s.tally.failed.load(Ordering::Relaxed),
            dropped: s.tally.dropped.load(Ordering::Relaxed),
        };
        all.iter().map(report).collect()
    }

    /// A shadow with what it has learned, to be put in charge ([`swap`](Engine::swap)) or kept.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Silent`] when it does not answer in time.
    pub fn shadow(&self, name: &str, patience: Duration) -> Result<Artefact> {
        let (save, saved) = sync_channel(1);
        let spec = {
            let all = self.shadows.all.read().unwrap_or_else(PoisonError::into_inner);
            let shadow = all.iter().find(|s| s.name == name).ok_or_else(|| unknown(name))?;
            // A queue that is full is one that does not answer.
            let _ = shadow.try_send(Job::Save(save));
            shadow.spec.clone()
        };
        match saved.recv_timeout(patience) {
            Ok(state) => Ok(Artefact {
                spec,
                state: Some(state),
            }),
            Err(_) => Err(Error::Silent {
                field: "name",
                what: "the shadow",
                id: name.into(),
            }),
        }
    }

    /// Logs what the shadows found since the last time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the disk has failed for long.
    pub fn log_shadows(&self) -> Result<()> {
        let found = || self.shadows.found.lock().unwrap_or_else(PoisonError::into_inner);
        // What comes meanwhile is for the next time: this comes to an end.
        let mut left = found().len();
        let at_once = AT_ONCE.max(left.div_ceil(TIMES));
        while left > 0 {
            let mut next: VecDeque<_> = {
                let mut found = found();
                let n = found.len().min(left).min(at_once);
                found.drain(..n).collect()
            };
            left = if next.is_empty() { 0 } else { left - next.len() };
            let mut state = self.state();
            while let Some(event) = next.pop_front() {
                // Nothing is written about somebody who was forgotten since the decision.
                let gone = state
                    .forgotten
                    .get(&event.user)
                    .is_some_and(|seq| event.decision < *seq);
                // Nor by one that has ended, where another has its name by now: it would count as that one's.
                let other = state.shadows.get(&event.name).is_some_and(|s| event.decision < s.since);
                if gone || other {
                    continue;
                }
                let event = Event::Shadow(Box::new(event));
                if let Err(e) = self.put(&mut state, &event) {
                    // For the next time, in their order.
                    let mut found = found();
                    next.into_iter().rev().for_each(|event| found.push_front(event));
                    if let Event::Shadow(event) = event {
                        found.push_front(*event);
                    }
                    return Err(e);
                }
            }
            drop(state);
            if left > 0 {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }
}

fn unknown(name: &str) -> Error {
    Error::NotFound {
        field: "name",
        what: "shadow",
        id: name.into(),
    }
}
