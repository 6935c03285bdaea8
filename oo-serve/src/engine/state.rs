//! What is known besides the policy: users, decisions that wait, feedback that waits, ids. A deterministic state machine:
//! [`State::apply`] is the only thing that changes it, and sees nothing but records.

use super::aside::Aside;
use super::ask::{Arm, Given, Reason, Stats, Status, identity};
use super::due::Deadlines;
use super::event::{Claim, Decided, Ended, Event, GivenEvent, Outcome, Swapped};
use super::experiment::{self, Trial};
use super::ids::{Ids, decision_hash, feedback_hash};
use super::join::{Join, Joined};
use super::models::Models;
use super::people::History;
use super::settings::Rules;
use super::shards::Shards;
use super::teach::{By, Owed, Taught};
use super::undo::Former;
use crate::Result;
use crate::journal::Location;
use oo_core::tips::Feedback;
use oo_core::{Log, UserId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

/// The policy in charge and what is said about it. Behind a lock of its own: decisions read, records that teach write.
pub(crate) struct Serving {
    pub models: Models,
    pub swapped: Swapped,
    pub spec: Arc<str>,
    /// Rewards learned.
    pub updates: u64,
    /// Rewards that the policy refused to learn from.
    pub refused: u64,
    /// What is done for it aside.
    pub aside: Option<Aside>,
}

/// A user.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct User {
    pub decisions: u64,
    pub pulls: u64,
    pub sum: f64,
    pub updated: u64,
    /// The latest decision; each names the one before it.
    pub last: Location,
    /// What the person was shown and said; where such is kept.
    pub history: Option<Arc<History>>,
}

impl User {
    pub fn stats(&self) -> Stats {
        Stats {
            decisions: self.decisions,
            pulls: self.pulls,
            cumulative_reward: self.sum,
            estimated_mean: if self.pulls > 0 {
                self.sum / self.pulls as f64
            } else {
                0.0
            },
            last_updated: self.updated,
        }
    }
}

/// A decision inside its wait window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Open {
    pub at: Location,
    pub user: u64,
    pub deadline: u64,
    /// No feedback has come yet.
    pub waiting: bool,
    pub observe: bool,
}

/// A feedback that waits for its decision.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Early {
    pub at: Location,
    pub time: u64,
    pub reward: f64,
    pub feedback: Option<Feedback>,
    /// When a snoozed tip may come back, where the caller said so.
    pub until: Option<u64>,
    /// What was said of the decision.
    pub claim: Claim,
}

/// Counts since the beginning of the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Decisions.
    pub decisions: u64,
    /// Feedbacks accepted.
    pub feedbacks: u64,
    /// Of these, learned at once.
    pub learned: u64,
    /// Held for a decision to come.
    pub held: u64,
    /// Held ones whose decision came.
    pub matched: u64,
    /// Held ones whose decision never came, or was another's, or showed another tip than was said.
    pub unmatched: u64,
    /// After the wait window.
    pub late: u64,
    /// After another feedback.
    pub extra: u64,
    /// Decisions without feedback.
    pub expired: u64,
    /// Default rewards learned.
    pub defaults: u64,
    /// Feedbacks taken into the reward of a decision that is learned when its window ends.
    pub joined: u64,
    /// Such rewards learned.
    pub aggregates: u64,
    /// One more than the highest index of a round, where that is above 0.
    pub rounds: u64,
}

/// A shadow that was begun and not ended.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Shadowed {
    pub spec: String,
    /// SHA-256 of the state it began with; empty for a blank one.
    pub digest: String,
    /// The record that began it.
    pub since: u64,
    /// Proposals in the journal.
    pub proposed: u64,
    /// Of these, failures.
    pub failed: u64,
}

/// How likely the policy was to make the caller's choices.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Agreement {
    /// The sum of these probabilities.
    pub sum: f64,
    /// Choices.
    pub count: u64,
}

/// What of a decision matters to the state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brief<'a> {
    pub id: &'a str,
    /// The caller chose the id.
    pub named: bool,
    pub user: u64,
    /// Nothing is learned from it.
    pub observe: bool,
    /// The chosen candidate.
    pub tip: u64,
    /// Minutes that the person's clock is ahead of UTC.
    pub ahead: i16,
    pub arm: Option<Arm>,
    pub reason: Reason,
    pub took_us: u32,
    /// The policy's own probability of the caller's choice.
    pub own: Option<f64>,
    /// The round's index.
    pub index: u64,
}

/// Where a record lies, its number and its stamp.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Mark {
    pub seq: u64,
    pub time: u64,
    pub at: Location,
}

/// Finds decisions again.
pub(crate) type Fetch<'f> = &'f dyn Fn(Location) -> Result<Decided>;

/// See the module. A copy shares what is large with it.
#[derive(Clone)]
pub(crate) struct State {
    /// The last record applied.
    pub last: Mark,
    pub rules: Rules,
    /// True to ignore the recorded reward specs and rewards: a replay under another spec.
    pub overruled: bool,
    pub users: Shards<User>,
    /// In many parts: all of it changes within a wait window.
    pub open: Shards<Open, 13>,
    /// When those of `open` end, and some that are open no more.
    pub due: Deadlines<(u64, Location)>,
    pub early: BTreeMap<u64, Vec<Early>>,
    pub early_due: Deadlines<u64>,
    /// Rewards of open decisions that are learned when their window ends, by the decision's hash.
    pub joins: Shards<Joined>,
    pub ids: Ids,
    pub counts: Counts,
    /// Users to be blanked, with the number of the record that says so.
    pub forgotten: BTreeMap<u64, u64>,
    /// The last stamp in each segment.
    pub segment_ends: BTreeMap<u32, u64>,
    /// The experiment that runs.
    pub trial: Option<Trial>,
    /// The one that ended last.
    pub ended: Option<Ended>,
    /// How many ended, by outcome.
    pub ends: [u64; 3],
    /// The highest generation given so far.
    pub generations: u64,
    /// Policies that gave way and can be put back, the latest last.
    pub before: Vec<Former>,
    pub shadows: BTreeMap<String, Shadowed>,
    pub agreement: Agreement,
    pub(super) log: Log,
    /// In the order in which they are to be learned. Empty but while the disk cannot be read.
    pub(super) owed: VecDeque<Owed>,
    /// For those who hear what is taught.
    pub taught: Taught,
    /// What takes a policy long is done aside.
    pub aside: bool,
}

impl State {
    pub fn new(rules: Rules) -> Self {
        State {
            last: Mark {
                seq: 0,
                time: 0,
                at: Location::NOWHERE,
            },
            rules,
            overruled: false,
            users: Shards::default(),
            open: Shards::default(),
            due: Deadlines::default(),
            early: BTreeMap::new(),
            early_due: Deadlines::default(),
            joins: Shards::default(),
            ids: Ids::default(),
            counts: Counts::default(),
            forgotten: BTreeMap::new(),
            segment_ends: BTreeMap::new(),
            trial: None,
            ended: None,
            ends: [0; 3],
            generations: 0,
            before: Vec::new(),
            shadows: BTreeMap::new(),
            agreement: Agreement::default(),
            log: Log::new(),
            owed: VecDeque::new(),
            taught: Taught::default(),
            aside: false,
        }
    }

    /// Applies a record from before the first policy.
    pub fn begin(&mut self, mark: Mark, event: &Event) {
        self.move_to(mark);
        match event {
            Event::Rules(rules) => self.rule(rules),
            Event::Swapped(swapped) => self.generations = swapped.generation,
            _ => {}
        }
    }

    /// Other rules; whoever replays under another reward spec keeps that.
    fn rule(&mut self, rules: &Rules) {
        let reward = self.overruled.then(|| self.rules.reward.clone());
        self.rules = rules.clone();
        if let Some(reward) = reward {
            self.rules.reward = reward;
        }
        if self.rules.window_ms == 0 {
            self.users.values_mut().for_each(|u| u.history = None);
        }
        self.time_early();
        self.trim_formers();
    }

    /// Applies a record. Errors are about the records that this one refers to; the state is then as if those had not
    /// been there, live and in replay alike.
    pub fn apply(&mut self, mark: Mark, event: &Event, serving: &RwLock<Serving>, fetch: Fetch<'_>) {
        match event {
            Event::Decided(d) => {
                let l = &d.logged;
                let brief = Brief {
                    id: &l.answer.decision_id,
                    named: d.named,
                    user: identity(&l.user),
                    observe: l.observe,
                    tip: identity(&l.ids[l.answer.chosen]),
                    ahead: l.ahead,
                    arm: l.arm,
                    reason: l.answer.reason,
                    took_us: l.took_us,
                    own: l.own.get(l.answer.chosen).copied(),
                    index: l.index,
                };
                self.apply_decided(mark, brief, serving, fetch);
            }
            Event::Given(g) => self.apply_given(mark, g, serving, fetch),
            other => {
                self.pass(mark, serving, fetch);
                match other {
                    Event::Rules(rules) => self.rule(rules),
                    Event::Reset(user) => {
                        write(serving).models.forget(UserId(*user));
                        if let Some(trial) = &self.trial {
                            write(&trial.challenger).models.forget(UserId(*user));
                        }
                        if let Some(u) = self.users.get_mut(user) {
                            (u.pulls, u.sum, u.updated, u.history) = (0, 0.0, mark.time, None);
                        }
                    }
                    Event::Forgotten(user) => {
                        write(serving).models.forget(UserId(*user));
                        if let Some(trial) = &mut self.trial {
                            write(&trial.challenger).models.forget(UserId(*user));
                            trial.forget(*user);
                        }
                        self.users.remove(user);
                        self.joins
                            .retain(|hash, _| self.open.get(&hash).is_some_and(|o| o.user != *user));
                        self.open.retain(|_, o| o.user != *user);
                        self.early.retain(|_, held| {
                            held.retain(|e| e.claim.user != Some(*user));
                            !held.is_empty()
                        });
                        self.forgotten.insert(*user, mark.seq);
                    }
                    Event::Swapped(swapped) => {
                        // The first one of a folder is in charge when its record is written.
                        if read(serving).swapped.generation != swapped.generation {
                            self.give_way(mark.seq, serving);
                        }
                        self.generations = swapped.generation;
                    }
                    Event::Undone(undone) => {
                        self.before.retain(|f| f.generation < undone.to);
                        self.generations = undone.next.generation;
                    }
                    Event::Begun(begun) => self.generations = begun.challenger.generation,
                    Event::Ended(ended) => self.end(mark.seq, ended, serving),
                    Event::Shadowing(s) => {
                        let shadowed = Shadowed {
                            spec: s.spec.clone(),
                            digest: s.digest.clone(),
                            since: mark.seq,
                            proposed: 0,
                            failed: 0,
                        };
                        self.shadows.insert(s.name.clone(), shadowed);
                    }
                    Event::Unshadowed(name) => {
                        self.shadows.remove(name);
                    }
                    Event::Shadow(s) => {
                        if let Some(shadow) = self.shadows.get_mut(&s.name) {
                            shadow.proposed += u64::from(s.failure.is_empty());
                            shadow.failed += u64::from(!s.failure.is_empty());
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn end(&mut self, seq: u64, ended: &Ended, serving: &RwLock<Serving>) {
        let trial = self.trial.take_if(|t| t.number == ended.experiment);
        if let Some(trial) = trial {
            if ended.outcome == Outcome::Launched {
                self.give_way(seq, serving);
                experiment::launch(serving, &trial.challenger);
            }
            self.ends[ended.outcome as usize] += 1;
            self.ended = Some(ended.clone());
        }
    }

    fn move_to(&mut self, mark: Mark) {
        debug_assert!(mark.seq > self.last.seq);
        if mark.at.segment != self.last.at.segment && self.last.at.segment > 0 {
            self.segment_ends.insert(self.last.at.segment, self.last.time);
        }
        self.last = mark;
    }

    /// Time passes up to a record: windows end.
    fn pass(&mut self, mark: Mark, serving: &RwLock<Serving>, fetch: Fetch<'_>) {
        self.move_to(mark);
        while let Some(due) = self.due.pop_by(mark.time) {
            let Some(open) = self.is_open(due) else { continue };
            let (hash, _) = due;
            self.open.remove(&hash);
            if let Some(joined) = self.joins.remove(&hash) {
                let row = Owed {
                    at: open.at,
                    reward: joined.reward(),
                    feedback: joined.feedback,
                    time: mark.time,
                    by: By::Joined,
                };
                self.owe(row, serving, fetch);
            } else if open.waiting && !open.observe {
                self.counts.expired += 1;
                self.teach_default(open.at, mark.time, serving, fetch);
            }
        }
        while let Some(hash) = self.early_due.pop_by(mark.time) {
            if let Some(held) = self.early.get_mut(&hash) {
                let before = held.len();
                held.retain(|e| e.time.saturating_add(self.rules.early_ms) > mark.time);
                self.counts.unmatched += (before - held.len()) as u64;
                if held.is_empty() {
                    self.early.remove(&hash);
                }
            }
        }
    }

    /// The same as [`apply`](State::apply) for a decision, from what of it matters here.
    pub fn apply_decided(&mut self, mark: Mark, brief: Brief<'_>, serving: &RwLock<Serving>, fetch: Fetch<'_>) {
        let Brief {
            id,
            named,
            user,
            observe,
            tip,
            ahead,
            ..
        } = brief;
        self.pass(mark, serving, fetch);
        self.counts.decisions += 1;
        // Rounds were not numbered at first: all had 0.
        if brief.index > 0 {
            self.counts.rounds = self.counts.rounds.max(brief.index.saturating_add(1));
        }
        if let Some(own) = brief.own {
            self.agreement.sum += own;
            self.agreement.count += 1;
        }
        if let (Some(trial), Some(arm)) = (&mut self.trial, brief.arm) {
            let fell_back = matches!(brief.reason, Reason::FallbackError | Reason::FallbackTimeout);
            trial.decided(arm, user, fell_back, brief.took_us);
        }
        let known = self.users.or_insert_with(user, User::default);
        known.decisions += 1;
        known.last = mark.at;
        let hash = decision_hash(id);
        if named {
            self.ids.insert(hash, mark.at);
        }
        let mut open = Open {
            at: mark.at,
            user,
            deadline: mark.time.saturating_add(self.rules.wait_ms),
            waiting: true,
            observe,
        };
        // Of one with the same hash that gives way.
        self.joins.remove(&hash);
        let window = self.rules.window_ms;
        if let Some(history) = self.history(user) {
            history.show(mark.seq, mark.time, window, tip, ahead);
        }
        let mut held = self.early.remove(&hash).unwrap_or_default();
        held.retain(|e| e.time.saturating_add(self.rules.early_ms) > mark.time);
        let all = held.len();
        held.retain(|e| e.claim.fits(user, tip));
        self.counts.unmatched += (all - held.len()) as u64;
        if let (Some(first), false) = (held.first().copied(), held.is_empty()) {
            open.waiting = false;
            self.counts.matched += 1;
            match self.rules.join {
                _ if observe => self.counts.extra += held.len() as u64 - 1,
                Join::First => {
                    self.counts.extra += held.len() as u64 - 1;
                    let row = Owed {
                        at: mark.at,
                        reward: first.reward,
                        feedback: first.feedback,
                        time: mark.time,
                        by: By::Given,
                    };
                    self.owe(row, serving, fetch);
                }
                join => {
                    self.counts.joined += held.len() as u64;
                    let mut joined = Joined::new(join);
                    held.iter().for_each(|e| joined.add(e.reward, e.feedback));
                    self.joins.insert(hash, joined);
                }
            }
        }
        if let Some(history) = self.history(user) {
            for e in held {
                if let Some(feedback) = e.feedback {
                    history.hear(mark.seq, mark.time, tip, feedback, e.until);
                }
            }
        }
        // A decision of the same hash that is still open gives way; it has been found by its record until now.
        self.open.insert(hash, open);
        self.due.push(open.deadline, (hash, open.at));
    }

    fn apply_given(&mut self, mark: Mark, g: &GivenEvent, serving: &RwLock<Serving>, fetch: Fetch<'_>) {
        self.pass(mark, serving, fetch);
        self.counts.feedbacks += 1;
        if let Some(id) = &g.feedback_id {
            self.ids.insert(feedback_hash(id), mark.at);
        }
        let hash = decision_hash(&g.decision_id);
        let feedback = g.given.feedback();
        let reward = if self.overruled {
            self.reward(&g.given)
        } else {
            g.reward
        };
        if let (Some(about), Some(feedback)) = (&g.about, feedback)
            && let Some(history) = self.history(g.user)
        {
            history.hear(about.seq, mark.time, about.tip, feedback, g.until);
        }
        match g.status {
            Status::Joined => {
                let Some(open) = self.open.get_mut(&hash) else { return };
                open.waiting = false;
                self.counts.joined += 1;
                let join = self.rules.join;
                let joined = self.joins.or_insert_with(hash, || Joined::new(join));
                joined.add(reward, feedback);
            }
            Status::Learned | Status::Observed => {
                let Some(open) = self.open.get_mut(&hash) else { return };
                open.waiting = false;
                let (at, learn) = (open.at, g.status == Status::Learned);
                self.counts.learned += u64::from(learn);
                if learn {
                    let row = Owed {
                        at,
                        reward,
                        feedback,
                        time: mark.time,
                        by: By::Given,
                    };
                    self.owe(row, serving, fetch);
                }
            }
            Status::Held => {
                self.counts.held += 1;
                if let Some(user) = g.claim.user {
                    // Somebody of whom something is kept can be forgotten.
                    self.users.or_insert_with(user, User::default);
                }
                let until = mark.time.saturating_add(self.rules.early_ms);
                self.early_due.push(until, hash);
                self.early.entry(hash).or_default().push(Early {
                    at: mark.at,
                    time: mark.time,
                    reward,
                    feedback,
                    until: g.until,
                    claim: g.claim,
                });
            }
            Status::Late => self.counts.late += 1,
            Status::Extra => self.counts.extra += 1,
        }
    }

    /// What something given is worth now.
    pub fn reward(&self, given: &Given) -> f64 {
        match given {
            Given::Reaction(f) => self.rules.reward.reward(f),
            Given::Reward(reward) => *reward,
        }
    }

    /// The last segment whose ids are too old to matter. Whether an id is still known depends on its record's stamp alone,
    /// so dropping those changes no answer as long as the rule stays.
    pub fn outdated(&self) -> Option<u32> {
        let old = |time: u64| time.saturating_add(self.rules.remember_ms) < self.last.time;
        let gone = self.segment_ends.iter().filter(|(_, end)| old(**end)).map(|(s, _)| *s);
        gone.max()
    }
}

/// A thread that panicked while it held the lock was inside a policy, and that is caught.
pub(crate) fn write(serving: &RwLock<Serving>) -> std::sync::RwLockWriteGuard<'_, Serving> {
    serving.write().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read(serving: &RwLock<Serving>) -> std::sync::RwLockReadGuard<'_, Serving> {
    serving.read().unwrap_or_else(PoisonError::into_inner)
}
