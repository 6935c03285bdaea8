//! A request to choose, from its check to its record.

use super::ask::{Answer, Ask, MAX_CANDIDATES, MAX_ID, MAX_NOTE, action_id, identity};
use super::event::{BEFORE_BYTES, Decided, DecidedParts, kind, version};
use super::guard::By;
use super::offer::Choice;
use super::state::{Brief, Mark, State, read};
use super::{Engine, codec::Put};
use crate::journal::fail;
use crate::{Error, Result};
use oo_core::key::hash_name;
use oo_core::{ActionId, Candidates, Decision, Key, Method, Round, UserId};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

/// What a thread uses again and again.
#[derive(Default)]
struct Scratch {
    decision: Decision,
    ids: Vec<ActionId>,
    sorted: Vec<u64>,
    payload: Vec<u8>,
    own: Vec<f64>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn check_id(field: &'static str, id: &str) -> Result<()> {
    if id.is_empty() || id.len() > MAX_ID {
        return Err(Error::invalid(
            field,
            format!("1 to {MAX_ID} bytes"),
            format!("{} bytes", id.len()),
        ));
    }
    Ok(())
}

/// Digest of everything that makes two requests the same.
fn digest(ask: &Ask<'_>) -> u64 {
    let mut hash = hash_name(ask.user);
    let mut fold = |bytes: &[u8]| {
        // CRC over the bytes and their length, twice with different seeds: 64 bits at the speed of the instruction.
        let low = crc32c::crc32c_append(hash as u32, bytes);
        let high = crc32c::crc32c_append((hash >> 32) as u32 ^ 0x9e37_79b9, bytes);
        hash = (u64::from(high) << 32 | u64::from(low))
            .wrapping_add(bytes.len() as u64)
            .rotate_left(7);
    };
    let mut bytes = Vec::with_capacity(64 + 4 * (ask.context.len() + ask.features.len()));
    bytes.f32s(ask.context);
    bytes.f32s(ask.features);
    fold(&bytes);
    ask.ids.iter().for_each(|id| fold(id.as_bytes()));
    fold(ask.note);
    fold(&[u8::from(ask.observe)]);
    hash
}

/// A decision with what is said about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Explained {
    /// The decision.
    pub answer: Answer,
    /// What each feature adds to the score of the chosen candidate; empty where nobody can say.
    pub contributions: Vec<(usize, f64)>,
    /// The user's arm, where an experiment runs.
    pub arm: Option<u8>,
}

/// What was chosen, by whomever.
struct Made<'a> {
    chosen: usize,
    probs: &'a [f64],
    scores: &'a [f64],
    method: Method,
}

impl<'a> Made<'a> {
    fn of(decision: &'a Decision) -> Self {
        Made {
            chosen: decision.chosen(),
            probs: decision.probs(),
            scores: decision.scores(),
            method: decision.method(),
        }
    }

    fn given(choice: &Choice<'a>) -> Self {
        Made {
            chosen: choice.chosen,
            probs: choice.probs,
            scores: choice.scores,
            method: choice.method,
        }
    }
}

fn answer(id: &str, decision: &Decision, by: By, time: u64) -> Answer {
    Answer {
        decision_id: id.into(),
        chosen: decision.chosen(),
        probs: decision.probs().to_vec(),
        scores: decision.scores().to_vec(),
        method: decision.method(),
        policy: by.policy,
        generation: by.generation,
        updates: by.updates,
        reason: by.reason,
        time,
        repeated: false,
    }
}

impl Engine {
    /// Chooses, and writes down what it chose. The record is in memory when this returns and on the disk soon after;
    /// no feedback is acknowledged before the decision it is about.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field of a request that cannot be served; [`Error::Conflict`] for a decision id that
    /// was used with another body. A policy that fails is no error: the draw is then uniform, and the reason says so.
    pub fn decide(&self, ask: &Ask<'_>) -> Result<Answer> {
        Ok(self.decide_explained(ask)?.answer)
    }

    /// [`decide`](Engine::decide), what each feature adds to the score of the chosen candidate, by the very model that
    /// decided (see [`oo_core::Policy::contributions`]), and the arm. In an experiment the user's arm decides who decides.
    ///
    /// # Errors
    /// As [`decide`](Engine::decide).
    pub fn decide_explained(&self, ask: &Ask<'_>) -> Result<Explained> {
        SCRATCH.with_borrow_mut(|scratch| self.decide_with(ask, scratch, None))
    }

    /// Writes down what somebody else chose, and beside it how likely the policy in charge was to choose each candidate. The
    /// policy learns from what comes of it, unless it is only observed.
    ///
    /// # Errors
    /// As [`decide`](Engine::decide); [`Error::Invalid`] when the probabilities are none.
    pub fn record(&self, ask: &Ask<'_>, choice: &Choice<'_>) -> Result<Answer> {
        choice.check(ask)?;
        Ok(SCRATCH
            .with_borrow_mut(|scratch| self.decide_with(ask, scratch, Some(choice)))?
            .answer)
    }

    /// What the policy in charge would do, and no more: nothing is written down.
    ///
    /// # Errors
    /// As [`decide`](Engine::decide).
    pub fn propose(&self, ask: &Ask<'_>) -> Result<Answer> {
        SCRATCH.with_borrow_mut(|scratch| {
            self.check(ask, scratch)?;
            let id = ask.decision_id.unwrap_or_default();
            let Scratch { decision, ids, .. } = scratch;
            let round = self.round(ask, ids, self.rounds.load(Ordering::Relaxed));
            let by = self.choose(&round, self.key(ask, id), decision);
            Ok(answer(id, decision, by, self.stamps.now()))
        })
    }

    /// What each feature at 1 adds to the expected reward for this user, numbered as [`Shape::feature`](oo_core::Shape::feature)
    /// counts: the weights of a linear model, of the policy that decides for the user. `None` where the expectation is no such
    /// sum, or actions have weights of their own.
    pub fn weights(&self, user: &str) -> Option<Vec<(usize, f64)>> {
        let shape = &self.settings.shape;
        let [context, features] = [&shape.context, &shape.candidate].map(|names| vec![1.0; names.len()]);
        let ids = [""];
        let ask = Ask {
            user,
            context: &context,
            ids: &ids,
            features: &features,
            ..Ask::default()
        };
        let round = self.round(&ask, &[ActionId(0)], 0);
        let lane = self.lane(user).filter(|(_, arm)| arm.position > 0);
        let serving = lane.as_ref().map_or(&self.serving, |(lane, _)| &lane.serving);
        let models = &read(serving).models;
        let mut weights = Vec::new();
        let told = AssertUnwindSafe(|| models.shares_weights() && models.contributions(&round, 0, &mut weights));
        matches!(catch_unwind(told), Ok(true)).then_some(weights)
    }

    fn key(&self, ask: &Ask<'_>, id: &str) -> Key {
        let made = || {
            Key::root(self.settings.seed)
                .name("decide")
                .fold(identity(ask.user))
                .fold(hash_name(id))
        };
        ask.key.unwrap_or_else(made)
    }

    fn round<'a>(&self, ask: &Ask<'a>, ids: &'a [ActionId], index: u64) -> Round<'a> {
        Round {
            index: ask.index.unwrap_or(index),
            user: UserId(identity(ask.user)),
            context: ask.context,
            candidates: Candidates {
                ids,
                features: ask.features,
                dim: self.settings.shape.candidate.len(),
            },
        }
    }

    fn choose(&self, round: &Round<'_>, key: Key, decision: &mut Decision) -> By {
        self.guard
            .choose(&self.serving, self.settings.policy_timeout, round, key, decision)
    }

    fn check(&self, ask: &Ask<'_>, scratch: &mut Scratch) -> Result<()> {
        check_id("user_id", ask.user)?;
        ask.decision_id.map_or(Ok(()), |id| check_id("decision_id", id))?;
        let n = ask.ids.len();
        if n == 0 || n > MAX_CANDIDATES {
            return Err(Error::invalid(
                "candidates",
                format!("1 to {MAX_CANDIDATES} of them"),
                n,
            ));
        }
        let shape = &self.settings.shape;
        if ask.context.len() != shape.context.len() {
            let expected = format!("{} features", shape.context.len());
            return Err(Error::invalid("context", expected, ask.context.len()));
        }
        let dim = shape.candidate.len();
        if ask.features.len() != n * dim {
            let expected = format!("{dim} features for each of {n} candidates");
            return Err(Error::invalid("candidates.features", expected, ask.features.len()));
        }
        for (field, values) in [("context", ask.context), ("candidates.features", ask.features)] {
            if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
                return Err(Error::invalid(field, "finite numbers", bad));
            }
        }
        if ask.note.len() > MAX_NOTE {
            return Err(Error::invalid(
                "note",
                format!("at most {MAX_NOTE} bytes"),
                ask.note.len(),
            ));
        }
        scratch.ids.clear();
        for id in ask.ids {
            check_id("candidates.id", id)?;
            scratch.ids.push(action_id(id));
        }
        if let Some(n) = shape.actions
            && let Some(i) = scratch.ids.iter().position(|id| id.0 >= n as u64)
        {
            let expected = format!("whole numbers below {n}, the number of actions");
            return Err(Error::invalid("candidates.id", expected, format!("`{}`", ask.ids[i])));
        }
        scratch.sorted.clear();
        scratch.sorted.extend(scratch.ids.iter().map(|id| id.0));
        scratch.sorted.sort_unstable();
        if let Some(pair) = scratch.sorted.windows(2).find(|w| w[0] == w[1]) {
            let id = ask.ids.iter().find(|id| identity(id) == pair[0]).copied().unwrap_or("");
            return Err(Error::invalid(
                "candidates.id",
                "different ids",
                format!("`{id}` twice"),
            ));
        }
        Ok(())
    }

    fn decide_with(&self, ask: &Ask<'_>, scratch: &mut Scratch, choice: Option<&Choice<'_>>) -> Result<Explained> {
        self.check(ask, scratch)?;
        let body = ask.decision_id.map_or(0, |_| ask.body.unwrap_or_else(|| digest(ask)));
        if let Some(id) = ask.decision_id
            && let Some(answer) = self.repeated(&self.state(), id, body)?
        {
            return Ok(self.again(ask, answer));
        }
        let made;
        let id = match ask.decision_id {
            Some(id) => id,
            None => {
                made = self.names.make(self.stamps.now());
                &made
            }
        };
        let Scratch {
            decision,
            ids,
            payload,
            own,
            ..
        } = scratch;
        own.clear();
        // Policies draw by it, so no two rounds share one; where one comes to nothing its number is left out.
        let index = match ask.index {
            None => self.rounds.fetch_add(1, Ordering::Relaxed),
            Some(given) => given,
        };
        let round = self.round(ask, ids, index);
        let user = round.user.0;
        let key = self.key(ask, id);
        let lane = if choice.is_none() { self.lane(ask.user) } else { None };
        let (mut arm, mut took_us) = (None, 0);
        let mut by = match (choice, lane) {
            (None, None) => self.choose(&round, key, decision),
            (None, Some((lane, of))) => {
                arm = Some(of);
                let begun = std::time::Instant::now();
                let by = if of.position == 0 {
                    self.choose(&round, key, decision)
                } else {
                    let limit = self.settings.policy_timeout;
                    lane.guard
                        .choose(&lane.serving, limit, &round, key.name("challenger"), decision)
                };
                took_us = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
                by
            }
            (Some(choice), _) => {
                let by = self.choose(&round, key, decision);
                // Of a policy that failed nothing is known.
                if by.reason == super::Reason::Policy {
                    own.extend_from_slice(decision.probs());
                }
                By {
                    policy: choice.policy.into(),
                    reason: choice.reason,
                    contributions: Vec::new(),
                    ..by
                }
            }
        };
        let Made {
            chosen,
            probs,
            scores,
            method,
        } = choice.map_or_else(|| Made::of(decision), Made::given);
        let parts = DecidedParts {
            id,
            named: ask.decision_id.is_some(),
            user: ask.user,
            body,
            index: round.index,
            context: ask.context,
            ids: ask.ids,
            features: ask.features,
            probs,
            scores,
            chosen,
            method,
            policy: &by.policy,
            generation: by.generation,
            updates: by.updates,
            reason: by.reason,
            observe: ask.observe,
            note: ask.note,
            ahead: ask.ahead,
            suppressed: ask.suppressed,
            arm,
            own: own.as_slice(),
            took_us,
        };
        parts.encode(payload);
        let mut state = self.state();
        // Somebody with the same id may have come first.
        if ask.decision_id.is_some()
            && let Some(answer) = self.repeated(&state, id, body)?
        {
            drop(state);
            return Ok(self.again(ask, answer));
        }
        let before = state.users.get(&user).map_or(0, |u| u.last.bits());
        payload[..BEFORE_BYTES].copy_from_slice(&before.to_le_bytes());
        let time = self.stamps.now();
        let (seq, at) = self
            .journal
            .append(time, (kind::DECIDED, version(kind::DECIDED)), payload)?;
        fail::point("apply.before");
        let brief = Brief {
            id,
            named: ask.decision_id.is_some(),
            user,
            observe: ask.observe,
            tip: ids[chosen].0,
            ahead: ask.ahead,
            arm,
            reason: by.reason,
            took_us,
            own: own.get(chosen).copied(),
            index: round.index,
        };
        state.apply_decided(Mark { seq, time, at }, brief, &self.serving, &|at| self.fetch(at));
        fail::point("apply.after");
        self.tell(&mut state);
        drop(state);
        self.shadows.propose(seq, &round, key);
        let contributions = std::mem::take(&mut by.contributions);
        let answer = Answer {
            decision_id: id.into(),
            chosen,
            probs: probs.to_vec(),
            scores: scores.to_vec(),
            method,
            policy: by.policy,
            generation: by.generation,
            updates: by.updates,
            reason: by.reason,
            time,
            repeated: false,
        };
        Ok(Explained {
            answer,
            contributions,
            arm: arm.map(|a| a.position),
        })
    }

    /// An answer that had been given before.
    fn again(&self, ask: &Ask<'_>, answer: Answer) -> Explained {
        Explained {
            answer,
            contributions: Vec::new(),
            arm: self.lane(ask.user).map(|(_, arm)| arm.position),
        }
    }

    /// The answer that was given under an id of the caller's, to a request with this digest.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the request was another.
    pub fn answered(&self, id: &str, body: u64) -> Result<Option<Answer>> {
        self.repeated(&self.state(), id, body)
    }

    /// The answer that was given under this id.
    fn repeated(&self, state: &State, id: &str, body: u64) -> Result<Option<Answer>> {
        let Some(Decided {
            logged, body: before, ..
        }) = self.known_decision(state, id)?
        else {
            return Ok(None);
        };
        if before != body {
            return Err(Error::Conflict {
                field: "decision_id",
                id: id.into(),
            });
        }
        let mut answer = logged.answer;
        answer.repeated = true;
        Ok(Some(answer))
    }
}
