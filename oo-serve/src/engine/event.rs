//! What the journal's records say. A kind and its version never change their meaning; a new meaning gets a new version.

mod decided;
mod given;

use super::ask::Logged;
use super::codec::{Get, Put};
use super::settings::Rules;
use crate::journal::{Location, Record};
use decided::decided;
pub(crate) use decided::{BEFORE_BYTES, DecidedParts};
pub use given::{About, Claim, GivenEvent};

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
    pub const UNDONE: u8 = 13;
}

/// The version of a kind's payload that is written today; older ones are read as well. [`Event::whose`] has to find the
/// user in every version.
pub(crate) const fn version(kind: u8) -> u8 {
    match kind {
        // Version 3 adds the experiment's arm, the policy's own probabilities beside a choice of the caller, and the time
        // that the decision took; version 2 had added the person's clock and what was kept away.
        kind::DECIDED => 3,
        // Version 3 adds what is said of a decision that is not known yet; version 2 had added the tip and its return.
        kind::GIVEN => 3,
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

/// A change that is undone: what was in charge before is so again.
#[derive(Clone, PartialEq, Debug)]
pub struct Undone {
    /// The generation that comes back.
    pub to: u64,
    /// Rewards that it had learned.
    pub updates: u64,
    /// Rewards that it had refused.
    pub refused: u64,
    /// It with what it had learned, under a number of its own.
    pub next: Swapped,
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
    /// A change is undone.
    Undone(Box<Undone>),
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

/// Whose a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Whose<'r> {
    /// The user; `None` for feedback that came before its decision, or long after it without its user.
    pub user: Option<u64>,
    /// Whose decision it is said to be about; as good as theirs, whoever it turns out to be of.
    pub said: Option<u64>,
    /// The decision, where the record names it by its id.
    pub decision: Option<&'r str>,
}

impl Event {
    /// True where it does something to policies, or to what they know of somebody, besides teaching them.
    pub(crate) fn changes_policies(&self) -> bool {
        matches!(
            self,
            Event::Reset(_)
                | Event::Forgotten(_)
                | Event::Swapped(_)
                | Event::Undone(_)
                | Event::Begun(_)
                | Event::Ended(_)
        )
    }

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
            Event::Undone(u) => {
                [u.to, u.updates, u.refused].into_iter().for_each(|v| out.u64(v));
                u.next.encode(out);
                kind::UNDONE
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

    /// Whose a record is that goes when its user is forgotten, without the rest of it: a compaction looks at every record
    /// there is.
    pub(crate) fn whose<'r>(r: &Record<'r>) -> Option<Whose<'r>> {
        let mut from = Get(r.payload);
        match r.kind {
            kind::DECIDED => decided::whose(&mut from),
            kind::GIVEN => given::whose(&mut from, r.version),
            kind::SHADOW => {
                from.u64()?;
                Some(Whose {
                    user: Some(from.u64()?),
                    said: None,
                    decision: None,
                })
            }
            _ => None,
        }
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
            kind::UNDONE => (|| {
                Some(Event::Undone(Box::new(Undone {
                    to: from.u64()?,
                    updates: from.u64()?,
                    refused: from.u64()?,
                    next: Swapped::decode(&mut from)?,
                })))
            })(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ask::identity;
    use crate::journal::record::FORMAT;
    use crate::journal::{Location, Segments};
    use std::path::Path;

    /// The same by the whole of a record, with a number for its kind.
    fn whole(r: &Record<'_>) -> Option<(usize, Option<u64>, Option<String>)> {
        match Event::decode(r).unwrap() {
            Event::Decided(d) => Some((0, Some(identity(&d.logged.user)), Some(d.logged.answer.decision_id))),
            Event::Given(g) => Some((1, Some(g.user).filter(|user| *user != 0), Some(g.decision_id))),
            Event::Shadow(s) => Some((2, Some(s.user), None)),
            _ => None,
        }
    }

    fn is_whole(r: &Record<'_>) -> Option<usize> {
        let found = Event::whose(r).map(|w| (w.user, w.decision.map(String::from)));
        let whole = whole(r);
        let kind = whole.as_ref().map(|(kind, ..)| *kind);
        assert_eq!(found, whole.map(|(_, user, decision)| (user, decision)));
        kind
    }

    #[test]
    fn the_user_is_that_of_the_whole() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let mut met = [0; 2];
        for format in 1..=FORMAT {
            let segments = Segments::new(&fixtures.join(format!("format-{format}/journal")));
            for segment in segments.list().unwrap() {
                let each = |r: Record<'_>| {
                    is_whole(&r).into_iter().for_each(|kind| met[kind] += 1);
                    Ok(())
                };
                segments.scan(segment, each).unwrap();
            }
        }
        assert!(met.iter().all(|n| *n > 10), "{met:?}");
        // The fixtures have no shadow.
        let shadow = ShadowEvent {
            decision: 3,
            user: 77,
            name: "s".into(),
            probs: vec![0.5, 0.5],
            failure: String::new(),
        };
        let mut payload = Vec::new();
        let (kind, version) = Event::Shadow(Box::new(shadow)).encode(&mut payload);
        let record = Record {
            at: Location { segment: 1, offset: 32 },
            seq: 4,
            time: 0,
            kind,
            version,
            payload: &payload,
        };
        assert_eq!(is_whole(&record), Some(2));
    }
}
