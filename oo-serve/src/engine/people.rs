//! What the journal says of one person: tips shown, how they were taken, and what follows from it: the profile, how worn
//! out a tip is, and which tips are not to be shown now.
//!
//! A history grows with the records, inside the state machine, so a replay comes to the same bits. It is bounded: the
//! latest `SHOWN` tips of the window, and `TIPS` different ones. Profile and wear are computed from it by the code that
//! the simulator uses ([`oo_core::tips::history`]).

use super::ask::{Suppressed, identity};
use super::codec::{Get, Put};
use super::settings::Suppress;
use super::shards::Queue;
use super::{Engine, state};
use oo_core::tips::{Feedback, Moment, Profile, Reaction, Showings};
use serde::Serialize;
use std::sync::Arc;

/// Showings that are remembered of one person. Volume, the only count among the features, ends at 100.
const SHOWN: usize = 1024;
/// Different tips that are remembered of one person.
const TIPS: usize = 1024;
/// Of so few, what is kept takes no more room than it needs: most people have no more.
const FEW: usize = 8;
/// Wear below this shows in no feature: single precision has 24 bits.
const WORN: f64 = 1.0 / (1u64 << 30) as f64;

/// One showing; 16 bytes, since there may be many.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Shown {
    /// The decision's record, its lower bits: whoever was shown 1,024 tips since does not find it.
    seq: u32,
    /// Minutes, by UTC.
    at: u32,
    /// Minutes by the person's clock, and above them the reaction's code plus one; 0 where nothing was heard.
    heard: u32,
    /// Milliseconds; [`u32::MAX`] where nobody said. 49 days stand for anything longer.
    dwell: u32,
}

/// The bits of `heard` that count minutes: enough until the year 2990.
const MINUTES: u32 = (1 << 29) - 1;

impl Shown {
    fn hear(&mut self, at: Moment, feedback: Feedback) {
        self.heard = (at.0 as u32 & MINUTES) | (feedback.reaction as u32 + 1) << 29;
        let long = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX - 1).min(u32::MAX - 1);
        self.dwell = feedback.dwell_ms.map_or(u32::MAX, long);
    }

    fn heard(&self) -> Option<(Moment, Feedback)> {
        let code = (self.heard >> 29).checked_sub(1)?;
        let reaction = *Reaction::ALL.get(code as usize)?;
        let dwell_ms = (self.dwell != u32::MAX).then_some(u64::from(self.dwell));
        Some((Moment(u64::from(self.heard & MINUTES)), Feedback { reaction, dwell_ms }))
    }
}

/// One tip.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Tip {
    id: u64,
    showings: Showings,
    /// What the person said of it last that keeps it away: done, dismiss or snooze; and when, milliseconds since 1970.
    taken: Option<(Reaction, u64)>,
    /// When it may come back, where the caller said so.
    until: Option<u64>,
}

impl Tip {
    /// The last time that it was touched, in milliseconds since 1970, about.
    fn touched(&self) -> u64 {
        let shown = (self.showings.at.0.saturating_sub(Moment::from_unix_ms(0).0)) * 60_000;
        shown.max(self.taken.map_or(0, |(_, at)| at))
    }
}

/// Showings that a copy of a history does not share with it, at most.
const OWN: usize = 64;

/// Showings, the oldest first. A copy shares all but the latest few, since a snapshot copies whoever changes meanwhile.
#[derive(Clone, Debug, Default)]
struct Line {
    /// Most people have none of these.
    shared: Option<Box<Queue<Shown, OWN>>>,
    latest: Vec<Shown>,
}

impl Line {
    fn len(&self) -> usize {
        self.shared.as_ref().map_or(0, |s| s.len()) + self.latest.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Shown> {
        self.shared.iter().flat_map(|s| s.iter()).chain(&self.latest)
    }

    fn push(&mut self, shown: Shown) {
        if self.latest.len() == OWN {
            let shared = self.shared.get_or_insert_default();
            self.latest.drain(..).for_each(|s| shared.push_back(s));
        } else if self.latest.len() < FEW {
            self.latest.reserve_exact(1);
        }
        self.latest.push(shown);
    }

    /// Drops the oldest for as long as it is to go.
    fn drop_while(&mut self, goes: impl Fn(&Shown, usize) -> bool) {
        while let Some(shared) = &mut self.shared {
            match shared.front() {
                Some(oldest) if !goes(oldest, shared.len() + self.latest.len()) => return,
                Some(_) => drop(shared.pop_front()),
                None => self.shared = None,
            }
        }
        let len = self.latest.len();
        let gone = (0..len).take_while(|&i| goes(&self.latest[i], len - i)).count();
        self.latest.drain(..gone);
    }

    /// What the decision of this record showed.
    fn find(&mut self, seq: u32) -> Option<&mut Shown> {
        let is = |s: &Shown| s.seq == seq;
        match self.latest.iter().rposition(is) {
            Some(at) => Some(&mut self.latest[at]),
            None => self.shared.as_mut()?.find_last(is),
        }
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Line) -> bool {
        self.iter().eq(other.iter())
    }
}

/// See the module.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct History {
    shown: Line,
    /// By id.
    tips: Vec<Tip>,
    /// Minutes that the person's clock was ahead of UTC at the last decision.
    ahead: i16,
    /// Stamp of the last change, milliseconds since 1970.
    updated: u64,
}

fn utc(time: u64) -> Moment {
    Moment::from_unix_ms(i64::try_from(time).unwrap_or(i64::MAX))
}

impl History {
    /// A tip is shown by the decision of record `seq`.
    pub fn show(&mut self, seq: u64, time: u64, window_ms: u64, tip: u64, ahead: i16) {
        (self.ahead, self.updated) = (ahead, time);
        let now = utc(time);
        let window = window_ms / 60_000;
        self.shown
            .drop_while(|s, len| u64::from(s.at) + window < now.0 || len >= SHOWN);
        self.shown.push(Shown {
            seq: seq as u32,
            at: now.0 as u32,
            heard: 0,
            dwell: 0,
        });
        self.tip(tip, now).showings.add(now);
    }

    /// Something is heard of the tip that the decision of record `seq` showed. Of several reactions the first counts in
    /// the profile, and the last says whether the tip comes back.
    pub fn hear(&mut self, seq: u64, time: u64, tip: u64, feedback: Feedback, until: Option<u64>) {
        self.updated = time;
        let local = utc(time.saturating_add_signed(i64::from(self.ahead) * 60_000));
        if let Some(shown) = self.shown.find(seq as u32)
            && shown.heard == 0
        {
            shown.hear(local, feedback);
        }
        if matches!(feedback.reaction, Reaction::Done | Reaction::Dismiss | Reaction::Snooze) {
            let tip = self.tip(tip, utc(time));
            (tip.taken, tip.until) = (Some((feedback.reaction, time)), until);
        }
    }

    /// The tip of this id, made room for where it is new.
    fn tip(&mut self, id: u64, now: Moment) -> &mut Tip {
        let at = match self.tips.binary_search_by_key(&id, |t| t.id) {
            Ok(at) => at,
            Err(_) => {
                // Now and then, by the number alone, so that a replay does it at the same moments.
                if self.tips.len() >= 16 && self.tips.len().is_power_of_two() {
                    self.tips
                        .retain(|t| t.taken.is_some() || t.showings.recently(now) > WORN);
                }
                if self.tips.len() >= TIPS {
                    let oldest = (0..self.tips.len()).min_by_key(|&i| self.tips[i].touched());
                    oldest.map(|i| self.tips.remove(i));
                }
                let new = Tip {
                    id,
                    showings: Showings::none(now),
                    taken: None,
                    until: None,
                };
                let at = self.tips.partition_point(|t| t.id < id);
                if self.tips.len() < FEW {
                    self.tips.reserve_exact(1);
                }
                self.tips.insert(at, new);
                at
            }
        };
        &mut self.tips[at]
    }

    fn find(&self, id: u64) -> Option<&Tip> {
        let at = self.tips.binary_search_by_key(&id, |t| t.id).ok()?;
        Some(&self.tips[at])
    }

    /// The profile at a moment: the tips shown in the window before it.
    fn profile(&self, now: u64, window_ms: u64) -> Profile {
        let (now, window) = (utc(now), window_ms / 60_000);
        let inside = self.shown.iter().filter(|s| u64::from(s.at) + window >= now.0);
        Profile::of(inside.map(Shown::heard))
    }

    fn known(&self, now: u64, window_ms: u64, max_age_ms: u64) -> Known {
        let age_ms = now.saturating_sub(self.updated);
        Known {
            profile: self.profile(now, window_ms),
            as_of: self.updated,
            age_ms,
            fresh: age_ms <= max_age_ms,
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.ahead as u16 as u32);
        out.u64(self.updated);
        out.u32(self.shown.len() as u32);
        for s in self.shown.iter() {
            [s.seq, s.at, s.heard, s.dwell].into_iter().for_each(|v| out.u32(v));
        }
        out.u32(self.tips.len() as u32);
        for t in &self.tips {
            out.u64(t.id);
            out.f64(t.showings.sum);
            out.u64(t.showings.at.0);
            out.u8(t.taken.map_or(u8::MAX, |(reaction, _)| reaction as u8));
            out.u64(t.taken.map_or(0, |(_, at)| at));
            out.option(t.until);
        }
    }

    pub fn decode(from: &mut Get<'_>) -> Option<History> {
        let mut history = History {
            ahead: from.u32()? as u16 as i16,
            updated: from.u64()?,
            ..History::default()
        };
        for _ in 0..from.u32()? {
            let (seq, at, heard, dwell) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?);
            history.shown.push(Shown { seq, at, heard, dwell });
        }
        for _ in 0..from.u32()? {
            let (id, sum, at) = (from.u64()?, from.f64()?, Moment(from.u64()?));
            let (code, time) = (from.u8()?, from.u64()?);
            let taken = match code {
                u8::MAX => None,
                code => Some((*Reaction::ALL.get(code as usize)?, time)),
            };
            let until = from.option()?;
            let showings = Showings { sum, at };
            history.tips.push(Tip {
                id,
                showings,
                taken,
                until,
            });
        }
        Some(history)
    }
}

/// A profile and how old it is.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Known {
    /// What the tips of the window say.
    #[serde(flatten)]
    pub profile: Profile,
    /// Stamp of the last decision or feedback in it, milliseconds since 1970.
    pub as_of: u64,
    /// Milliseconds since then.
    pub age_ms: u64,
    /// Young enough to be used.
    pub fresh: bool,
}

/// What is known of a person before a decision.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Person {
    /// The profile; `None` for a stranger.
    pub known: Option<Known>,
    /// How worn out each candidate is, see [`Showings::recently`].
    pub shown: Vec<f64>,
    /// Candidates that are not to be shown now, by position, rising.
    pub suppressed: Vec<(usize, Suppressed)>,
}

/// What is known of one tip of a person.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Seen {
    /// How worn out it is.
    pub shown_recently: f64,
    /// Why it is kept away, and until when in milliseconds since 1970; without an end where that is `None`.
    pub kept: Option<(Reaction, Option<u64>)>,
}

impl Suppress {
    /// Why and until when a tip is kept away now.
    fn keeps(&self, tip: &Tip, now: u64) -> Option<(Reaction, Option<u64>)> {
        let (reaction, at) = tip.taken?;
        let span = match reaction {
            Reaction::Done => self.done_ms,
            Reaction::Dismiss => self.dismiss_ms,
            _ => self.snooze_ms,
        };
        // 0 never keeps; the caller's own word goes over the rule otherwise.
        let until = match span {
            Some(0) => return None,
            Some(span) => Some(tip.until.unwrap_or(at.saturating_add(span))),
            None => tip.until,
        };
        until.is_none_or(|until| now < until).then_some((reaction, until))
    }
}

impl Engine {
    /// What the journal says of a person and these candidates; nothing where no histories are kept, see
    /// [`Rules::window_ms`](super::Rules::window_ms).
    pub fn person<'i>(&self, user: &str, ids: impl Iterator<Item = &'i str>) -> Person {
        let state = self.state();
        let window = state.rules.window_ms;
        let history = state.users.get(&identity(user)).and_then(|u| u.history.as_deref());
        let Some(history) = history.filter(|_| window > 0) else {
            return Person::default();
        };
        let now = self.stamps.now();
        let moment = utc(now);
        let mut person = Person {
            known: Some(history.known(now, window, self.settings.profile_age_ms)),
            ..Person::default()
        };
        for (i, id) in ids.enumerate() {
            let tip = history.find(identity(id));
            person.shown.push(tip.map_or(0.0, |t| t.showings.recently(moment)));
            if let (Some(suppress), Some(tip)) = (&self.settings.suppress, tip)
                && let Some((reaction, until)) = suppress.keeps(tip, now)
            {
                let id = id.into();
                person.suppressed.push((i, Suppressed { id, reaction, until }));
            }
        }
        person
    }

    /// What the journal says of a person's tips.
    pub fn seen<'i>(&self, user: &str, ids: impl Iterator<Item = &'i str>) -> Vec<Seen> {
        let state = self.state();
        let history = state.users.get(&identity(user)).and_then(|u| u.history.as_deref());
        let now = self.stamps.now();
        let seen = |id: &str| {
            let Some(tip) = history.and_then(|h| h.find(identity(id))) else {
                return Seen::default();
            };
            Seen {
                shown_recently: tip.showings.recently(utc(now)),
                kept: self.settings.suppress.as_ref().and_then(|s| s.keeps(tip, now)),
            }
        };
        ids.map(seen).collect()
    }

    /// The profile that the journal gives a person.
    pub fn profile(&self, user: &str) -> Option<Known> {
        self.person(user, std::iter::empty()).known
    }
}

impl state::State {
    /// The history of a user, where such are kept.
    pub(super) fn history(&mut self, user: u64) -> Option<&mut History> {
        let wanted = self.rules.window_ms > 0;
        let user = self.users.get_mut(&user).filter(|_| wanted)?;
        Some(Arc::make_mut(user.history.get_or_insert_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;
    use std::collections::VecDeque;

    /// Against a plain queue, with copies that must stay what they were: windows that end, full histories, long pauses.
    #[test]
    fn a_line_is_a_queue() {
        let mut draws = Key::root(7).draws();
        let (mut line, mut plain) = (Line::default(), VecDeque::<Shown>::new());
        let (mut at, mut copies) = (0, Vec::new());
        // Dropped for their number; nothing left of what is shared; some of the latest dropped, some not.
        let mut met = [0; 3];
        for seq in 0..20_000u32 {
            // Every other thousand or two at the same minute, so that the number decides; else some 900 in a window.
            at += match seq % 5000 < 2000 {
                true => 0,
                false => [0, 1, 1, 2][draws.below(4)] + [890, 2000][draws.below(2)] * u32::from(draws.below(150) == 0),
            };
            let had = (line.shared.is_some(), line.latest.len());
            line.drop_while(|s, len| s.at + 900 < at || len >= SHOWN);
            while plain.front().is_some_and(|s| s.at + 900 < at) || plain.len() >= SHOWN {
                met[0] += u32::from(plain.len() >= SHOWN);
                plain.pop_front();
            }
            met[1] += u32::from(had.0 && line.shared.is_none());
            met[2] += u32::from(!line.latest.is_empty() && line.latest.len() < had.1);
            let new = Shown {
                seq,
                at,
                heard: 0,
                dwell: 0,
            };
            line.push(new);
            plain.push_back(new);
            let reach = [4, 1500][draws.below(2)];
            let about = seq.saturating_sub(draws.below(reach) as u32);
            let (found, wanted) = (line.find(about), plain.iter_mut().rev().find(|s| s.seq == about));
            assert_eq!(found, wanted);
            if let (Some(a), Some(b)) = (found, wanted) {
                (a.dwell, b.dwell) = (seq, seq);
            }
            assert_eq!(line.len(), plain.len());
            if seq % 1000 == 0 {
                copies.push((line.clone(), plain.clone()));
            }
        }
        copies.push((line, plain));
        for (line, plain) in copies {
            assert!(line.iter().eq(&plain));
        }
        assert!(met.iter().all(|n| *n > 10), "{met:?}");
    }
}
