//! A feedback, from its check to its receipt.

use super::Engine;
use super::ask::{Feedback, Given, Hints, Logged, MAX_ID, Receipt, Status, Target, identity};
use super::codec::Put;
use super::event::{About, Claim, Event, GivenEvent};
use super::ids::{decision_hash, feedback_hash};
use super::join::Join;
use super::state::{Open, State, write};
use crate::journal::{Commit, Location};
use crate::{Error, Result};
use oo_core::UserId;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// A reward beyond this is a mistake.
const MAX_REWARD: f64 = 1e6;
/// Decisions of a user that are looked through for a tip.
const TIP_DEPTH: usize = 100;

/// A receipt that is good once its record is on the disk: await it, or block on it.
pub struct Pending {
    receipt: Option<Receipt>,
    commit: Commit,
}

impl Pending {
    /// Blocks until the receipt is good.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the disk failed: nobody knows yet whether it will count; send it again, same id.
    pub fn wait(self) -> Result<Receipt> {
        self.commit.wait()?;
        self.receipt.ok_or_else(taken)
    }
}

fn taken() -> Error {
    Error::invalid("feedback", "a receipt that is asked for once", "a second time")
}

impl Future for Pending {
    type Output = Result<Receipt>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Receipt>> {
        match pin!(&mut self.commit).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Ready(Ok(())) => Poll::Ready(self.receipt.take().ok_or_else(taken)),
        }
    }
}

/// What a feedback was found to be about.
enum Found {
    /// Inside its window.
    Open(String, Open, About),
    /// A decision once, but not any more; whose and about what, where that is known.
    Closed(String, Option<(u64, About)>),
    /// Nothing that is known.
    Unknown(String),
}

fn digest(f: &Feedback, until: Option<u64>) -> u64 {
    let mut bytes = Vec::new();
    match &f.target {
        Target::Decision(id) => bytes.text(id),
        Target::Tip { user, tip } => {
            bytes.text(user);
            bytes.text(tip);
        }
    }
    match f.given {
        Given::Reaction(r) => {
            bytes.u8(r.reaction as u8);
            bytes.option(r.dwell_ms);
        }
        Given::Reward(reward) => bytes.f64(reward),
    }
    if until.is_some() {
        bytes.option(until);
    }
    // The client's time is left out: a retry may carry a new one.
    let high = crc32c::crc32c(&bytes);
    let low = crc32c::crc32c_append(!high, &bytes);
    u64::from(high) << 32 | u64::from(low)
}

impl Engine {
    /// Takes a feedback: it is learned when this returns, and acknowledged once [`Pending`] ends well.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::NotFound`] for a feedback about nothing known (unless it may be
    /// early); [`Error::Conflict`] for a feedback id that was used with another body; [`Error::Unavailable`] when the
    /// disk does not take records now.
    pub fn feedback(&self, feedback: &Feedback) -> Result<Pending> {
        self.feedback_with(feedback, Hints::default())
    }

    /// [`feedback`](Engine::feedback), with what may be said besides.
    ///
    /// # Errors
    /// As [`feedback`](Engine::feedback).
    pub fn feedback_with(&self, feedback: &Feedback, hints: Hints<'_>) -> Result<Pending> {
        check(feedback, hints)?;
        self.journal.writable()?;
        let body = digest(feedback, hints.until);
        let mut state = self.state();
        if let Some(id) = &feedback.feedback_id
            && let Some((receipt, claim)) = self.known_feedback(&state, id, body)?
        {
            // What is said besides is to be as true as the first time, while the decision is known; before, the same.
            if hints.user.is_some() || hints.tip.is_some() {
                match self.known_decision(&state, &receipt.decision_id)? {
                    Some(decided) => agree(&decided.logged, hints)?,
                    None => repeat(claim, hints)?,
                }
            }
            return Ok(self.pending(receipt));
        }
        let now = self.stamps.now();
        let (decision_id, status, whose) = match self.find(&state, &feedback.target, hints)? {
            Found::Open(id, open, about) => {
                let status = match open {
                    Open { deadline, .. } if deadline <= now => Status::Late,
                    Open {
                        waiting: true,
                        observe: true,
                        ..
                    } => Status::Observed,
                    Open { waiting: true, .. } if state.rules.join == Join::First => Status::Learned,
                    Open { waiting: true, .. } => Status::Joined,
                    // The first feedback settled which rule the decision goes by.
                    _ if state.joins.contains_key(&decision_hash(&id)) => Status::Joined,
                    _ => Status::Extra,
                };
                (id, status, Some((open.user, about)))
            }
            Found::Closed(id, whose) => (id, Status::Late, whose),
            Found::Unknown(id) if feedback.early => (id, Status::Held, None),
            Found::Unknown(id) => {
                return Err(Error::NotFound {
                    field: "decision_id",
                    what: "decision",
                    id,
                });
            }
        };
        if let (Status::Learned, Some((user, _))) = (status, whose) {
            // Better refused than acknowledged and learned later.
            let warmed = write(&self.serving).models.warm(UserId(user));
            warmed.map_err(|e| Error::from(e).unread())?;
        }
        let claim = match status {
            Status::Held => Claim {
                user: hints.user.map(identity),
                tip: hints.tip.map(identity),
            },
            _ => Claim::default(),
        };
        let event = GivenEvent {
            decision_id,
            user: whose.map_or(0, |(user, _)| user),
            feedback_id: feedback.feedback_id.clone(),
            body,
            given: feedback.given,
            client_time: feedback.client_time,
            status,
            reward: state.reward(&feedback.given),
            about: whose.map(|(_, about)| about),
            until: hints.until,
            claim,
        };
        let event = Event::Given(Box::new(event));
        let mark = self.put_at(&mut state, &event, now)?;
        let Event::Given(event) = event else {
            return Err(taken());
        };
        let receipt = Receipt {
            decision_id: event.decision_id,
            status,
            reward: event.reward,
            seq: mark.seq,
            time: mark.time,
            repeated: false,
        };
        Ok(self.pending(receipt))
    }

    fn pending(&self, receipt: Receipt) -> Pending {
        Pending {
            commit: self.journal.commit(receipt.seq),
            receipt: Some(receipt),
        }
    }

    /// The receipt that was given under this id, and what had been said of the decision.
    fn known_feedback(&self, state: &State, id: &str, body: u64) -> Result<Option<(Receipt, Claim)>> {
        let mut buffer = Vec::new();
        for at in state.ids.places(feedback_hash(id)) {
            let record = match self.journal.read(at, &mut buffer) {
                Ok(record) => record,
                // What it says is not known: it may be this very feedback.
                Err(e) if e.is_passing() => return Err(e.unread()),
                Err(_) => continue,
            };
            let (seq, time) = (record.seq, record.time);
            let old = time.saturating_add(state.rules.remember_ms) < self.stamps.now();
            match Event::decode(&record) {
                Ok(Event::Given(g))
                    if !old && g.feedback_id.as_deref() == Some(id) && !state.is_of_forgotten(&g, seq) =>
                {
                    if g.body != body {
                        return Err(Error::Conflict {
                            field: "feedback_id",
                            id: id.into(),
                        });
                    }
                    let receipt = Receipt {
                        decision_id: g.decision_id,
                        status: g.status,
                        reward: g.reward,
                        seq,
                        time,
                        repeated: true,
                    };
                    return Ok(Some((receipt, g.claim)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn find(&self, state: &State, target: &Target, hints: Hints<'_>) -> Result<Found> {
        match target {
            Target::Decision(id) => self.find_decision(state, id, hints),
            Target::Tip { user, tip } => self.find_tip(state, user, tip),
        }
    }

    fn find_decision(&self, state: &State, id: &str, hints: Hints<'_>) -> Result<Found> {
        if let Some(open) = state.open.get(&decision_hash(id)).copied() {
            match self.fetch(open.at) {
                Ok(d) if d.logged.answer.decision_id == id => {
                    agree(&d.logged, hints)?;
                    return Ok(Found::Open(id.into(), open, About::of(&d.logged)));
                }
                Err(e) if e.is_passing() => return Err(e.unread()),
                _ => {}
            }
        }
        if let Some(d) = self.known_decision(state, id)? {
            agree(&d.logged, hints)?;
            let whose = (identity(&d.logged.user), About::of(&d.logged));
            return Ok(Found::Closed(id.into(), Some(whose)));
        }
        let passed = |time: u64| time.saturating_add(state.rules.wait_ms) <= self.stamps.now();
        let stamp = self.names.stamp(id);
        // Made here, and its window has not passed: it was lost with a crash.
        if stamp.is_some_and(|time| !passed(time)) {
            return Ok(Found::Unknown(id.into()));
        }
        let logged = hints.user.and_then(|user| self.find_among(state, user, id));
        logged.as_ref().map_or(Ok(()), |logged| agree(logged, hints))?;
        Ok(match (logged, stamp) {
            (Some(l), _) => Found::Closed(id.into(), Some((identity(&l.user), About::of(&l)))),
            // Nobody else makes such names.
            (None, Some(_)) => Found::Closed(id.into(), None),
            (None, None) => Found::Unknown(id.into()),
        })
    }

    /// A decision among the user's latest.
    fn find_among(&self, state: &State, user: &str, id: &str) -> Option<Logged> {
        let mut at = state.users.get(&identity(user))?.last;
        for _ in 0..TIP_DEPTH {
            let decided = (at != Location::NOWHERE).then(|| self.fetch(at).ok())??;
            if decided.logged.answer.decision_id == id {
                return Some(decided.logged);
            }
            at = decided.before;
        }
        None
    }

    /// The user's latest decision that showed the tip: an open one that waits, else the latest at all.
    fn find_tip(&self, state: &State, user: &str, tip: &str) -> Result<Found> {
        let mut at = state.users.get(&identity(user)).map_or(Location::NOWHERE, |u| u.last);
        let mut latest = None;
        for _ in 0..TIP_DEPTH {
            if at == Location::NOWHERE {
                break;
            }
            let decided = match self.fetch(at) {
                Ok(decided) => decided,
                Err(e) if e.is_passing() => return Err(e.unread()),
                Err(_) => break,
            };
            let logged = &decided.logged;
            let id = &logged.answer.decision_id;
            if logged.user == user && logged.ids[logged.answer.chosen] == tip {
                let about = About::of(logged);
                match state.open.get(&decision_hash(id)).filter(|o| o.at == at) {
                    Some(open) if open.waiting => return Ok(Found::Open(id.clone(), *open, about)),
                    Some(open) => {
                        latest.get_or_insert(Found::Open(id.clone(), *open, about));
                    }
                    None => {
                        latest.get_or_insert(Found::Closed(id.clone(), Some((identity(user), about))));
                    }
                }
            }
            at = decided.before;
        }
        latest.ok_or_else(|| Error::NotFound {
            field: "tip_id",
            what: "decision of that user that showed",
            id: tip.into(),
        })
    }
}

/// What is said beside the decision's id must be true of it.
fn agree(logged: &Logged, hints: Hints<'_>) -> Result<()> {
    // Another user's name is not for whoever does not know it.
    if let Some(user) = hints.user
        && user != logged.user
    {
        return Err(Error::invalid(
            "user_id",
            "the user of the decision",
            format!("`{user}`"),
        ));
    }
    let shown = &logged.ids[logged.answer.chosen];
    match hints.tip {
        Some(tip) if tip != shown => {
            let expected = format!("the tip that the decision showed, `{shown}`");
            Err(Error::invalid("tip_id", expected, format!("`{tip}`")))
        }
        _ => Ok(()),
    }
}

/// What is said beside the id of a decision that is not known yet must be what was said before.
fn repeat(claim: Claim, hints: Hints<'_>) -> Result<()> {
    for (field, said, now) in [("user_id", claim.user, hints.user), ("tip_id", claim.tip, hints.tip)] {
        if let (Some(said), Some(now)) = (said, now)
            && said != identity(now)
        {
            return Err(Error::invalid(
                field,
                "what was said with this feedback before",
                format!("`{now}`"),
            ));
        }
    }
    Ok(())
}

fn check(f: &Feedback, hints: Hints<'_>) -> Result<()> {
    let id = |field, id: &str| {
        let sound = !id.is_empty() && id.len() <= MAX_ID;
        let got = format!("{} bytes", id.len());
        sound
            .then_some(())
            .ok_or_else(|| Error::invalid(field, format!("1 to {MAX_ID} bytes"), got))
    };
    match &f.target {
        Target::Decision(decision) => id("decision_id", decision)?,
        Target::Tip { user, tip } => {
            id("user_id", user)?;
            id("tip_id", tip)?;
        }
    }
    for (field, given) in [
        ("user_id", hints.user),
        ("tip_id", hints.tip),
        ("feedback_id", f.feedback_id.as_deref()),
    ] {
        given.map_or(Ok(()), |given| id(field, given))?;
    }
    match f.given {
        Given::Reward(reward) if reward.is_nan() || reward.abs() > MAX_REWARD => {
            let expected = format!("a number between -{MAX_REWARD} and {MAX_REWARD}");
            Err(Error::invalid("reward", expected, reward))
        }
        _ => Ok(()),
    }
}
