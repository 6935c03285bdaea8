//! Asking the policy without being harmed by it: an error, a panic or a long wait gives way to a uniform draw.
//!
//! A policy is tried out before it takes charge. One that is fast is asked on the caller's thread, at no cost, until it
//! has passed the limit several times running: then, or when the trial was slow, it is asked on a thread of its own, and
//! the caller waits no longer than the limit, until it has been fast again for a while. A thread that comes too late is
//! let run to its end; when too many are under way the draw is uniform at once.

use super::ask::Reason;
use super::state::{Serving, read};
use oo_core::{ActionId, Candidates, Decision, Key, Round, Shape, UserId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock, mpsc};
use std::time::{Duration, Instant};

/// Proposals in time that make a guarded policy a trusted one.
const PROBATION: u64 = 32;
/// Proposals running that pass the limit and make a trusted policy a guarded one. One may be the machine's doing.
const STRIKES: u64 = 3;
/// What a trial may take.
const TRIAL: Duration = Duration::from_secs(1);
/// Threads that may be under way.
const THREADS: u64 = 64;

#[derive(Default)]
pub(crate) struct Guard {
    guarded: AtomicBool,
    /// Proposals running that speak against the present mode: slow ones while trusted, fast ones while guarded.
    against: AtomicU64,
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
        let by = if self.is_guarded() {
            self.apart(serving, limit, round, key, decision)
        } else {
            let begun = Instant::now();
            let by = propose(serving, round, key, decision);
            self.note(false, begun.elapsed() > limit, STRIKES);
            by
        };
        if by.reason != Reason::Policy {
            uniformly(round, key, decision);
        }
        by
    }

    /// True where the policy is asked on a thread of its own.
    pub fn is_guarded(&self) -> bool {
        self.guarded.load(Ordering::Relaxed)
    }

    /// Takes up a policy's mode, with the policy.
    pub fn set(&self, guarded: bool) {
        self.guarded.store(guarded, Ordering::Relaxed);
        self.against.store(0, Ordering::Relaxed);
    }

    /// Counts what speaks against the mode that a proposal was made in, and changes it after `enough`. Of several that were
    /// under way when the mode changed the rest says nothing about the new one.
    fn note(&self, guarded: bool, against: bool, enough: u64) {
        if self.is_guarded() != guarded {
            return;
        }
        if !against {
            // The usual case writes nothing that other threads read.
            if self.against.load(Ordering::Relaxed) > 0 {
                self.against.store(0, Ordering::Relaxed);
            }
        } else if self.against.fetch_add(1, Ordering::Relaxed) + 1 >= enough {
            self.against.store(0, Ordering::Relaxed);
            let (now, next) = (guarded, !guarded);
            let _ = self
                .guarded
                .compare_exchange(now, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Tries a policy out, which takes charge next, on a made-up round of ten candidates. Returns its mode.
    pub fn trial(serving: &Arc<RwLock<Serving>>, limit: Duration, shape: &Shape) -> bool {
        const N: usize = 10;
        let actions = shape.actions.map_or(N, |n| n.clamp(1, N));
        let owned = Owned {
            index: 0,
            user: UserId(0),
            context: vec![0.5; shape.context.len()],
            ids: (0..actions as u64).map(ActionId).collect(),
            features: vec![0.5; actions * shape.candidate.len()],
            dim: shape.candidate.len(),
        };
        let (send, receive) = mpsc::sync_channel(1);
        let shared = Arc::clone(serving);
        let spawned = std::thread::Builder::new().name("trial".into()).spawn(move || {
            let mut decision = Decision::new();
            // The fastest of three: the first pays for what is made once.
            let times = (0..3).map(|i| {
                let begun = Instant::now();
                propose(&shared, &owned.round(), Key::root(i), &mut decision);
                begun.elapsed()
            });
            let fastest = times.min();
            // Whoever hears of it may want the policy back.
            drop(shared);
            let _ = send.send(fastest);
        });
        let fastest = spawned.ok().and_then(|_| receive.recv_timeout(TRIAL).ok().flatten());
        fastest.is_none_or(|t| t > limit)
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
            generation: 0,
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
            // An answer that lay ready when the caller woke up too late is late all the same.
            Ok((by, made)) if begun.elapsed() <= limit => {
                *decision = made;
                self.note(true, begun.elapsed() <= limit / 2, PROBATION);
                by
            }
            _ => {
                self.against.store(0, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_under_way_when_the_mode_changed_does_not_change_it_back() {
        let guard = Guard::default();
        (1..=2 * STRIKES + 2).for_each(|n| {
            guard.note(false, true, STRIKES);
            assert_eq!(guard.is_guarded(), n >= STRIKES, "after {n}");
        });
        (1..=2 * PROBATION).for_each(|n| {
            guard.note(true, true, PROBATION);
            assert_eq!(guard.is_guarded(), n < PROBATION, "after {n}");
        });
    }
}
