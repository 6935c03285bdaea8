//! A feedback in the journal.

use super::Whose;
use crate::engine::ask::{Given, Logged, Status, identity};
use crate::engine::codec::{Get, Put};
use oo_core::tips::{Feedback, Reaction};

/// A feedback and what became of it.
#[derive(Clone, PartialEq, Debug)]
pub struct GivenEvent {
    /// The decision.
    pub decision_id: String,
    /// The user, where known; else 0.
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
    /// What is said of its decision, where that is not known yet.
    pub claim: Claim,
}

/// What is said of a decision that is not known yet: whose it is, and which tip it will have shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Claim {
    /// The user.
    pub user: Option<u64>,
    /// The tip.
    pub tip: Option<u64>,
}

impl Claim {
    /// True where nothing said is against it.
    pub(crate) fn fits(self, user: u64, tip: u64) -> bool {
        self.user.is_none_or(|said| said == user) && self.tip.is_none_or(|said| said == tip)
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.u8(u8::from(self.user.is_some()) | u8::from(self.tip.is_some()) << 1);
        self.user.into_iter().chain(self.tip).for_each(|v| out.u64(v));
    }

    pub(crate) fn decode(from: &mut Get<'_>) -> Option<Self> {
        let there = from.u8()?;
        let mut next = |bit: u8| match there & bit {
            0 => Some(None),
            _ => from.u64().map(Some),
        };
        let claim = Claim {
            user: next(1)?,
            tip: next(2)?,
        };
        (there <= 3).then_some(claim)
    }
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

impl GivenEvent {
    /// Whose it is and whose it is said to be, where that is known.
    pub(crate) fn people(&self) -> [Option<u64>; 2] {
        [self.about.map(|_| self.user), self.claim.user]
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        self.claim.encode(out);
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

    pub(super) fn decode(payload: &[u8], version: u8) -> Option<Self> {
        let mut from = Get(payload);
        let claim = claim(&mut from, version)?;
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
            claim,
        };
        if version > 1 {
            let (seq, tip) = (from.option()?, from.u64()?);
            event.about = seq.map(|seq| About { seq, tip });
            event.until = from.option()?;
        }
        from.done().then_some(event)
    }
}

/// What begins a record: what is said of its decision.
fn claim(from: &mut Get<'_>, version: u8) -> Option<Claim> {
    match version {
        ..3 => Some(Claim::default()),
        _ => Claim::decode(from),
    }
}

/// Whose a record is, without the rest of it.
pub(super) fn whose<'r>(from: &mut Get<'r>, version: u8) -> Option<Whose<'r>> {
    let claim = claim(from, version)?;
    let decision = from.text()?;
    // 0 stands for nobody, so a user of this number is found by the decision as well.
    let user = from.u64()?;
    Some(Whose {
        user: (user != 0).then_some(user),
        said: claim.user,
        decision: Some(decision),
    })
}
