//! Asking the policy without being harmed by it: an error, a panic or a long wait gives way to a uniform draw.
//!
//! A policy that has shown itself fast is asked on the caller's thread. Until then, and for a while after it was slow, it
//! is asked on a thread of its own, and the caller waits no longer than the limit. A thread that comes too late is let
//! run to its end; when too many are under way the draw is uniform at once.

use super::ask::Reason;
use super::state::{Serving, read};
use oo_core::{ActionId, Candidates, Decision, Key, Round, UserId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, mpsc};
use std::time::{Duration, Instant};

/// Proposals in time that make a policy fast.
const PROBATION: u64 = 32;
/// Threads that may be under way.
const THREADS: u64 = 64;

#[derive(Default)]
pub(crate) struct Guard {
    /// Proposals in time since the last that was slow, or since another policy came.
    sound: AtomicU64,
    /// The artefact that they are about.
    generation: AtomicU64,
    threads: Arc<AtomicU64>,
}

/// Who decided, and why so.
pub(crate) struct By {
    pub policy: Arc<str>,
    pub generation: u64,
    pub updates: u64,
    pub reason: Reason,
    /// See [`oo_core::Policy::contributions`]; empty where nobody asked, or the policy is no sum.
    pub contributions: Vec<(usize, f64)>,
}

/// A round that owns what it is made of.
pub(crate) struct Owned {
    index: u64,
    user: UserId,
    context: Vec<f32>,
    ids: Vec<ActionId>,
    features: Vec<f32>,
    dim: usize,
}

impl Owned {
    pub fn new(round: &Round<'_>) -> Self {
        Owned {
            index: round.index,
            user: round.user,
            context: round.context.to_vec(),
            ids: round.candidates.ids.to_vec(),
            features: round.candidates.features.to_vec(),
            dim: round.candidates.dim,
        }
    }

    pub fn round(&self) -> Round<'_> {
        Round {
            index: self.index,
            user: self.user,
            context: &self.context,
            candidates: Candidates {
                ids: &self.ids,
                features: &self.features,
                dim: self.dim,
            },
        }
    }
}

/// One proposal; true when it can be used.
fn propose(serving: &RwLock<Serving>, round: &Round<'_>, key: Key, decision: &mut Decision) -> By {
    let serving = read(serving);
    let models = &serving.models;
    let asked = catch_unwind(AssertUnwindSafe(|| models.decide(round, key, decision)));
    let mut contributions = Vec::new();
    if matches!(asked, Ok(Ok(()))) {
        let explain = AssertUnwindSafe(|| models.contributions(round, decision.chosen(), &mut contributions));
        if catch_unwind(explain).is_err() {
            contributions.clear();
        }
    }
    By {
        contributions,
        policy: Arc::clone(&serving.spec),
        generation: serving.swapped.generation,
        updates: serving.updates,
        reason: match asked {
            Ok(Ok(())) => Reason::Policy,
            _ => Reason::FallbackError,
        },
    }
}

impl Guard {
    /// A decision by the policy in charge, or a uniform one. The propensity is true in either case.
    pub fn choose(
        &self,
        serving: &Arc<RwLock<Serving>>,
        limit: Duration,
        round: &Round<'_>,
        key: Key,
        decision: &mut Decision,
    ) -> By {
        let by = if self.sound.load(Ordering::Relaxed) >= PROBATION {
            let begun = Instant::now();
            let by = propose(serving, round, key, decision);
            self.note(by.generation, begun.elapsed() <= limit / 4);
            by
        } else {
            self.apart(serving, limit, round, key, decision)
        };
        if by.reason != Reason::Policy {
            uniformly(round, key, decision);
        }
        by
    }

    fn note(&self, generation: u64, fast: bool) {
        let same = self.generation.swap(generation, Ordering::Relaxed) == generation;
        if fast && same {
            self.sound.fetch_add(1, Ordering::Relaxed);
        } else {
            self.sound.store(0, Ordering::Relaxed);
        }
    }

    /// On a thread of its own.
    fn apart(
        &self,
        serving: &Arc<RwLock<Serving>>,
        limit: Duration,
        round: &Round<'_>,
        key: Key,
        decision: &mut Decision,
    ) -> By {
        let late = |reason| By {
            // Who would have decided is not known while the policy is held by others.
            policy: "uniform".into(),
            generation: self.generation.load(Ordering::Relaxed),
            updates: 0,
            reason,
            contributions: Vec::new(),
        };
        if self.threads.fetch_add(1, Ordering::Relaxed) >= THREADS {
            self.threads.fetch_sub(1, Ordering::Relaxed);
            return late(Reason::FallbackTimeout);
        }
        let begun = Instant::now();
        let (send, receive) = mpsc::sync_channel(1);
        let (owned, shared, threads) = (Owned::new(round), Arc::clone(serving), Arc::clone(&self.threads));
        let spawned = std::thread::Builder::new().name("propose".into()).spawn(move || {
            let mut decision = Decision::new();
            let by = propose(&shared, &owned.round(), key, &mut decision);
            threads.fetch_sub(1, Ordering::Relaxed);
            // Nobody listens any more to one that comes too late.
            let _ = send.send((by, decision));
        });
        if spawned.is_err() {
            self.threads.fetch_sub(1, Ordering::Relaxed);
            return late(Reason::FallbackError);
        }
        match receive.recv_timeout(limit) {
            Ok((by, made)) => {
                *decision = made;
                self.note(by.generation, begun.elapsed() <= limit / 4);
                by
            }
            Err(_) => {
                self.sound.store(0, Ordering::Relaxed);
                late(Reason::FallbackTimeout)
            }
        }
    }
}

/// Every candidate with the same probability.
fn uniformly(round: &Round<'_>, key: Key, decision: &mut Decision) {
    let uniform: &dyn oo_core::Policy = &oo_policies::uniform::Uniform;
    let drawn = uniform.decide(round, key.name("fallback"), decision);
    debug_assert!(
        drawn.is_ok(),
        "the request was checked: there are candidates, and all numbers are finite"
    );
}
