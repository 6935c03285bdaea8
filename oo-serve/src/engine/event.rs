//! What the journal's records say. A kind and its version never change their meaning; a new meaning gets a new version.

use super::ask::{Answer, Arm, Given, Logged, Reason, Status, Suppressed, identity};
use super::codec::{Get, Put};
use super::settings::Rules;
use crate::journal::{Location, Record};
use oo_core::Method;
use oo_core::tips::{Feedback, Reaction};
use std::sync::Arc;

/// The kinds of records, by number. 0 is a record that was blanked.
pub(crate) mod kind {
    pub const DECIDED: u8 = 1;
    pub const GIVEN: u8 = 2;
    pub const TICK: u8 = 3;
    pub const RULES: u8 = 4;
    pub const RESET: u8 = 5;
    pub const FORGOTTEN: u8 = 6;
    pub const SWAPPED: u8 = 7;
    pub const SHADOW: u8 = 8;
    pub const BEGUN: u8 = 9;
    pub const ENDED: u8 = 10;
    pub const SHADOWING: u8 = 11;
    pub const UNSHADOWED: u8 = 12;
}

/// The version of a kind's payload that is written today; older ones are read as well.
pub(crate) const fn version(kind: u8) -> u8 {
    match kind {
        // Version 3 adds the experiment's arm, the policy's own probabilities beside a choice of the caller, and the time
        // that the decision took; version 2 had added the person's clock and what was kept away.
        kind::DECIDED => 3,
        kind::GIVEN => 2,
        _ => 1,
    }
}

/// A decision with what the journal needs besides.
#[derive(Clone, PartialEq, Debug)]
pub struct Decided {
    /// As it was given.
    pub logged: Logged,
    /// True when the caller named it.
    pub named: bool,
    /// Digest of the request.
    pub body: u64,
    /// The user's decision before this one.
    pub before: Location,
}

/// A feedback and what became of it.
#[derive(Clone, PartialEq, Debug)]
pub struct GivenEvent {
    /// The decision.
    pub decision_id: String,
    /// The user, where known.
    pub user: u64,
    /// Makes it exactly-once.
    pub feedback_id: Option<String>,
    /// Digest of the request.
    pub body: u64,
    /// What happened.
    pub given: Given,
    /// What the client says about time.
    pub client_time: Option<u64>,
    /// What became of it.
    pub status: Status,
    /// Under the rules of its time.
    pub reward: f64,
    /// What it is about, where that was found.
    pub about: Option<About>,
    /// When the tip may come back, where the caller said so.
    pub until: Option<u64>,
}

/// The tip that a feedback is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct About {
    /// Number of the decision's record.
    pub seq: u64,
    /// The tip that it showed.
    pub tip: u64,
}

impl About {
    pub(crate) fn of(l: &Logged) -> About {
        About {
            seq: l.seq,
            tip: identity(&l.ids[l.answer.chosen]),
        }
    }
}

/// Another policy, or another state of one.
#[derive(Clone, PartialEq, Debug)]
pub struct Swapped {
    /// Rises by one with each.
    pub generation: u64,
    /// Name and options.
    pub spec: String,
    /// What rounds look like, as JSON.
    pub shape: String,
    /// SHA-256 of the state it begins with, the name of the file that holds it; empty for a blank one.
    pub digest: String,
}

/// What another policy would have done.
#[derive(Clone, PartialEq, Debug)]
pub struct ShadowEvent {
    /// Number of the decision's record.
    pub decision: u64,
    /// The user.
    pub user: u64,
    /// Which shadow.
    pub name: String,
    /// Its probabilities; empty when it failed.
    pub probs: Vec<f64>,
    /// Why it failed.
    pub failure: String,
}

/// An experiment begins: users are assigned to the policy in charge or to a challenger.
#[derive(Clone, PartialEq, Debug)]
pub struct Begun {
    /// Its name: the salt of the assignment.
    pub salt: String,
    /// The challenger's share of users.
    pub share: f64,
    /// The rule that judges it, as JSON.
    pub rule: String,
    /// The challenger.
    pub challenger: Swapped,
}

/// How an experiment ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Somebody stopped it.
    Stopped,
    /// The challenger took charge.
    Launched,
    /// The gate said that the champion stays, and everybody is served by it again.
    RolledBack,
}

impl Outcome {
    /// All, in the order of their codes.
    pub const ALL: [Outcome; 3] = [Outcome::Stopped, Outcome::Launched, Outcome::RolledBack];
}

/// An experiment ended.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct Ended {
    /// The number of the record that began it.
    pub experiment: u64,
    /// Its name.
    pub salt: String,
    /// How.
    pub outcome: Outcome,
    /// Why: the gate's reasons, in words.
    pub why: String,
}

/// A shadow begins to decide along.
#[derive(Clone, PartialEq, Debug)]
pub struct Shadowing {
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: String,
    /// SHA-256 of the state it begins with; empty for a blank one.
    pub digest: String,
}

/// A record's meaning.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The payload is gone.
    Blank,
    /// A decision.
    Decided(Box<Decided>),
    /// A feedback.
    Given(Box<GivenEvent>),
    /// Time passed.
    Tick,
    /// Other rules.
    Rules(Box<Rules>),
    /// A user's model starts anew.
    Reset(u64),
    /// A user is forgotten.
    Forgotten(u64),
    /// Another policy.
    Swapped(Swapped),
    /// What a shadow would have done.
    Shadow(Box<ShadowEvent>),
    /// An experiment begins.
    Begun(Box<Begun>),
    /// It ends.
    Ended(Box<Ended>),
    /// A shadow begins.
    Shadowing(Shadowing),
    /// The shadow of this name ends.
    Unshadowed(String),
}

fn put_method(out: &mut Vec<u8>, method: Method) {
    let (code, draws) = match method {
        Method::Exact => (0, 0),
        Method::Quadrature => (1, 0),
        Method::MonteCarlo { draws } => (2, draws),
    };
    out.u8(code);
    out.u32(draws);
}

fn get_method(from: &mut Get<'_>) -> Option<Method> {
    let (code, draws) = (from.u8()?, from.u32()?);
    match code {
        0 => Some(Method::Exact),
        1 => Some(Method::Quadrature),
        2 => Some(Method::MonteCarlo { draws }),
        _ => None,
    }
}

/// What a decision's record is written from, without copies.
pub(crate) struct DecidedParts<'a> {
    pub id: &'a str,
    pub named: bool,
    pub user: &'a str,
    pub body: u64,
    pub index: u64,
    pub context: &'a [f32],
    pub ids: &'a [&'a str],
    pub features: &'a [f32],
    pub probs: &'a [f64],
    pub scores: &'a [f64],
    pub chosen: usize,
    pub method: Method,
    pub policy: &'a str,
    pub generation: u64,
    pub updates: u64,
    pub reason: Reason,
    pub observe: bool,
    pub note: &'a [u8],
    pub ahead: i16,
    pub suppressed: &'a [Suppressed],
    pub arm: Option<Arm>,
    pub own: &'a [f64],
    pub took_us: u32,
}

/// The first eight bytes of a decision's payload: the place of the user's decision before it. It is known last.
pub(crate) const BEFORE_BYTES: usize = 8;

impl DecidedParts<'_> {
    /// The payload, with the place of the user's decision before left open.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.u64(0);
        out.text(self.id);
        out.u8(u8::from(self.named));
        out.text(self.user);
        out.u64(self.body);
        out.u64(self.index);
        out.f32s(self.context);
        out.u32(self.ids.len() as u32);
        self.ids.iter().for_each(|id| out.text(id));
        out.f32s(self.features);
        out.f64s(self.probs);
        out.f64s(self.scores);
        out.u32(self.chosen as u32);
        put_method(out, self.method);
        out.text(self.policy);
        out.u64(self.generation);
        out.u64(self.updates);
        out.u8(self.reason as u8);
        out.u8(u8::from(self.observe));
        out.bytes(self.note);
        out.u32(self.ahead as u16 as u32);
        out.u32(self.suppressed.len() as u32);
        for s in self.suppressed {
            out.text(&s.id);
            out.u8(s.reaction as u8);
            out.option(s.until);
        }
        out.u64(self.arm.map_or(0, |a| a.experiment));
        out.u8(self.arm.map_or(0, |a| a.position));
        out.f64s(self.own);
        out.u32(self.took_us);
    }
}

fn suppressed(from: &mut Get<'_>) -> Option<Vec<Suppressed>> {
    let mut all = Vec::new();
    for _ in 0..from.u32()? {
        all.push(Suppressed {
            id: from.text()?.into(),
            reaction: *Reaction::ALL.get(from.u8()? as usize)?,
            until: from.option()?,
        });
    }
    Some(all)
}

fn decided(r: &Record<'_>) -> Option<Decided> {
    let mut from = Get(r.payload);
    let before = Location::from_bits(from.u64()?);
    let decision_id = from.text()?.to_string();
    let named = from.u8()? == 1;
    let user = from.text()?.to_string();
    let body = from.u64()?;
    let index = from.u64()?;
    let context = from.f32s()?;
    let n = from.u32()? as usize;
    let mut ids = Vec::with_capacity(n.min(1 << 16));
    for _ in 0..n {
        ids.push(from.text()?.to_string());
    }
    let features = from.f32s()?;
    let probs = from.f64s()?;
    let scores = from.f64s()?;
    let chosen = from.u32()? as usize;
    let method = get_method(&mut from)?;
    let policy: Arc<str> = from.text()?.into();
    let generation = from.u64()?;
    let updates = from.u64()?;
    let reason = *Reason::ALL.get(from.u8()? as usize)?;
    let observe = from.u8()? == 1;
    let note = from.bytes()?.to_vec();
    let (ahead, suppressed) = match r.version {
        1 => (0, Vec::new()),
        _ => (from.u32()? as u16 as i16, suppressed(&mut from)?),
    };
    let (mut arm, mut own, mut took_us) = (None, Vec::new(), 0);
    if r.version >= 3 {
        let (experiment, position) = (from.u64()?, from.u8()?);
        arm = (experiment > 0).then_some(Arm { experiment, position });
        own = from.f64s()?;
        took_us = from.u32()?;
    }
    let holds = from.done()
        && arm.is_none_or(|a| a.position < 2)
        && (own.is_empty() || own.len() == n)
        && n > 0
        && probs.len() == n
        && scores.len() == n
        && chosen < n
        && features.len() % n == 0;
    holds.then_some(Decided {
        named,
        body,
        before,
        logged: Logged {
            seq: r.seq,
            user,
            context,
            ids,
            features,
            index,
            note,
            observe,
            ahead,
            suppressed,
            arm,
            own,
            took_us,
            answer: Answer {
                decision_id,
                chosen,
                probs,
                scores,
                method,
                policy,
                generation,
                updates,
                reason,
                time: r.time,
                repeated: false,
            },
        },
    })
}

impl Swapped {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u64(self.generation);
        [&self.spec, &self.shape, &self.digest]
            .into_iter()
            .for_each(|t| out.text(t));
    }

    pub(crate) fn decode(from: &mut Get<'_>) -> Option<Self> {
        Some(Swapped {
            generation: from.u64()?,
            spec: from.text()?.into(),
            shape: from.text()?.into(),
            digest: from.text()?.into(),
        })
    }
}

impl Begun {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.text(&self.salt);
        out.f64(self.share);
        out.text(&self.rule);
        self.challenger.encode(out);
    }

    pub(crate) fn decode(from: &mut Get<'_>) -> Option<Self> {
        Some(Begun {
            salt: from.text()?.into(),
            share: from.f64()?,
            rule: from.text()?.into(),
            challenger: Swapped::decode(from)?,
        })
    }
}

impl Ended {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u64(self.experiment);
        out.text(&self.salt);
        out.u8(self.outcome as u8);
        out.text(&self.why);
    }

    pub(crate) fn decode(from: &mut Get<'_>) -> Option<Self> {
        Some(Ended {
            experiment: from.u64()?,
            salt: from.text()?.into(),
            outcome: *Outcome::ALL.get(from.u8()? as usize)?,
            why: from.text()?.into(),
        })
    }
}

impl GivenEvent {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.text(&self.decision_id);
        out.u64(self.user);
        out.u8(u8::from(self.feedback_id.is_some()));
        out.text(self.feedback_id.as_deref().unwrap_or(""));
        out.u64(self.body);
        match self.given {
            Given::Reaction(f) => {
                out.u8(f.reaction as u8);
                out.option(f.dwell_ms);
            }
            Given::Reward(reward) => {
                out.u8(u8::MAX);
                out.option(Some(reward.to_bits()));
            }
        }
        out.option(self.client_time);
        out.u8(self.status as u8);
        out.f64(self.reward);
        out.option(self.about.map(|a| a.seq));
        out.u64(self.about.map_or(0, |a| a.tip));
        out.option(self.until);
    }

    fn decode(payload: &[u8], version: u8) -> Option<Self> {
        let mut from = Get(payload);
        let decision_id = from.text()?.to_string();
        let user = from.u64()?;
        let has_id = from.u8()? == 1;
        let id = from.text()?.to_string();
        let body = from.u64()?;
        let (code, value) = (from.u8()?, from.option()?);
        let given = match code {
            u8::MAX => Given::Reward(f64::from_bits(value?)),
            code => Given::Reaction(Feedback {
                reaction: *Reaction::ALL.get(code as usize)?,
                dwell_ms: value,
            }),
        };
        let mut event = GivenEvent {
            decision_id,
            user,
            feedback_id: has_id.then_some(id),
            body,
            given,
            client_time: from.option()?,
            status: *Status::ALL.get(from.u8()? as usize)?,
            reward: from.f64()?,
            about: None,
            until: None,
        };
        if version > 1 {
            let (seq, tip) = (from.option()?, from.u64()?);
            event.about = seq.map(|seq| About { seq, tip });
            event.until = from.option()?;
        }
        from.done().then_some(event)
    }
}

impl Event {
    /// Kind, version and payload; decisions are written from their parts.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> (u8, u8) {
        out.clear();
        let kind = match self {
            Event::Blank => crate::journal::record::BLANK,
            Event::Tick => kind::TICK,
            Event::Rules(rules) => {
                out.text(&serde_json::to_string(rules).expect("rules are plain data"));
                kind::RULES
            }
            Event::Reset(user) => {
                out.u64(*user);
                kind::RESET
            }
            Event::Forgotten(user) => {
                out.u64(*user);
                kind::FORGOTTEN
            }
            Event::Swapped(s) => {
                s.encode(out);
                kind::SWAPPED
            }
            Event::Shadow(s) => {
                out.u64(s.decision);
                out.u64(s.user);
                out.text(&s.name);
                out.f64s(&s.probs);
                out.text(&s.failure);
                kind::SHADOW
            }
            Event::Begun(b) => {
                b.encode(out);
                kind::BEGUN
            }
            Event::Ended(e) => {
                e.encode(out);
                kind::ENDED
            }
            Event::Shadowing(s) => {
                [&s.name, &s.spec, &s.digest].into_iter().for_each(|t| out.text(t));
                kind::SHADOWING
            }
            Event::Unshadowed(name) => {
                out.text(name);
                kind::UNSHADOWED
            }
            Event::Given(g) => {
                g.encode(out);
                kind::GIVEN
            }
            Event::Decided(d) => {
                let (l, a) = (&d.logged, &d.logged.answer);
                let ids: Vec<&str> = l.ids.iter().map(String::as_str).collect();
                let parts = DecidedParts {
                    id: &a.decision_id,
                    named: d.named,
                    user: &l.user,
                    body: d.body,
                    index: l.index,
                    context: &l.context,
                    ids: &ids,
                    features: &l.features,
                    probs: &a.probs,
                    scores: &a.scores,
                    chosen: a.chosen,
                    method: a.method,
                    policy: &a.policy,
                    generation: a.generation,
                    updates: a.updates,
                    reason: a.reason,
                    observe: l.observe,
                    note: &l.note,
                    ahead: l.ahead,
                    suppressed: &l.suppressed,
                    arm: l.arm,
                    own: &l.own,
                    took_us: l.took_us,
                };
                parts.encode(out);
                out[..BEFORE_BYTES].copy_from_slice(&d.before.bits().to_le_bytes());
                kind::DECIDED
            }
        };
        (kind, version(kind))
    }

    /// What a record says; the error says why it cannot be understood.
    pub fn decode(r: &Record<'_>) -> Result<Event, String> {
        if r.kind == crate::journal::record::BLANK {
            return Ok(Event::Blank);
        }
        let known = version(r.kind);
        if r.version == 0 || r.version > known {
            return Err(format!(
                "record {} of kind {} has version {}; this program knows versions up to {known}",
                r.seq, r.kind, r.version
            ));
        }
        let mut from = Get(r.payload);
        let event = match r.kind {
            kind::DECIDED => decided(r).map(|d| Event::Decided(Box::new(d))),
            kind::GIVEN => GivenEvent::decode(r.payload, r.version).map(|g| Event::Given(Box::new(g))),
            kind::TICK => Some(Event::Tick),
            kind::RULES => from
                .text()
                .and_then(|t| serde_json::from_str(t).ok())
                .map(|rules| Event::Rules(Box::new(rules))),
            kind::RESET => from.u64().map(Event::Reset),
            kind::FORGOTTEN => from.u64().map(Event::Forgotten),
            kind::SWAPPED => Swapped::decode(&mut from).map(Event::Swapped),
            kind::BEGUN => Begun::decode(&mut from).map(|b| Event::Begun(Box::new(b))),
            kind::ENDED => Ended::decode(&mut from).map(|e| Event::Ended(Box::new(e))),
            kind::SHADOWING => (|| {
                Some(Event::Shadowing(Shadowing {
                    name: from.text()?.into(),
                    spec: from.text()?.into(),
                    digest: from.text()?.into(),
                }))
            })(),
            kind::UNSHADOWED => from.text().map(|name| Event::Unshadowed(name.into())),
            kind::SHADOW => (|| {
                Some(Event::Shadow(Box::new(ShadowEvent {
                    decision: from.u64()?,
                    user: from.u64()?,
                    name: from.text()?.into(),
                    probs: from.f64s()?,
                    failure: from.text()?.into(),
                })))
            })(),
            other => return Err(format!("record {} has the unknown kind {other}", r.seq)),
        };
        event.ok_or_else(|| format!("record {} of kind {} does not hold together", r.seq, r.kind))
    }
}
