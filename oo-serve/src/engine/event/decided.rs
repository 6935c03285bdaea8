//! The record of a decision, the longest and the most frequent one: written from its parts without copies.

use super::{Decided, Whose};
use crate::engine::ask::{Answer, Arm, Logged, Reason, Suppressed, identity};
use crate::engine::codec::{Get, Put};
use crate::journal::{Location, Record};
use oo_core::Method;
use oo_core::tips::Reaction;
use std::sync::Arc;

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

/// The user and the id of a decision, without the rest.
pub(super) fn whose<'r>(from: &mut Get<'r>) -> Option<Whose<'r>> {
    from.u64()?;
    let decision = from.text()?;
    from.u8()?;
    Some(Whose {
        user: Some(identity(from.text()?)),
        said: None,
        decision: Some(decision),
    })
}

pub(super) fn decided(r: &Record<'_>) -> Option<Decided> {
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
