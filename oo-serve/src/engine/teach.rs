//! What the policy learns: a reward with its decision, at once, or as soon as what it needs can be read, in the journal's
//! order.

use super::aside::Row;
use super::ask::{Answer, Logged, action_id, user_id};
use super::state::{Fetch, Serving, State, User, write};
use crate::Result;
use crate::journal::Location;
use oo_core::tips::Feedback;
use oo_core::{ActionId, Batch, Candidates, Log, Round, UserId};
use std::sync::{Arc, RwLock};

/// A reward that the policy is still owed: its decision or its model could not be read when it was due.
#[derive(Clone, Copy)]
pub(super) struct Owed {
    pub at: Location,
    pub reward: f64,
    pub feedback: Option<Feedback>,
    pub time: u64,
    pub by: By,
}

/// What a reward comes from.
#[derive(Clone, Copy)]
pub(super) enum By {
    /// One feedback.
    Given,
    /// All of them, at the end of the window.
    Joined,
    /// Nobody gave one until the window ended.
    Default,
}

/// What the policy was taught, for others to hear.
#[derive(Clone, Default)]
pub(crate) struct Taught {
    /// Somebody learns from the rows.
    pub wanted: bool,
    rows: Vec<(Logged, f64, Option<Feedback>)>,
    /// Somebody watches the rewards.
    pub watched: bool,
    rewards: Vec<f64>,
    /// Work is left that is to be done aside.
    pub(super) left: bool,
}

impl Taught {
    pub fn take(&mut self) -> Vec<(Logged, f64, Option<Feedback>)> {
        std::mem::take(&mut self.rows)
    }

    pub fn take_rewards(&mut self) -> Vec<f64> {
        std::mem::take(&mut self.rewards)
    }
}

impl State {
    pub(super) fn teach_default(&mut self, at: Location, time: u64, serving: &RwLock<Serving>, fetch: Fetch<'_>) {
        if let Some(reward) = self.rules.default_reward {
            let row = Owed {
                at,
                reward,
                feedback: None,
                time,
                by: By::Default,
            };
            self.owe(row, serving, fetch);
        }
    }

    /// A reward is to be learned: at once, unless something cannot be read; then it waits, and all others behind it, so
    /// that their order is the journal's.
    pub(super) fn owe(&mut self, row: Owed, serving: &RwLock<Serving>, fetch: Fetch<'_>) {
        self.owed.push_back(row);
        // Whoever needs nothing to be owed asks for it and hears why; a decision goes on without.
        let _ = self.settle(serving, fetch);
    }

    /// How many rewards wait for the disk to be readable.
    pub fn owing(&self) -> usize {
        self.owed.len()
    }

    /// Learns what is owed.
    ///
    /// # Errors
    /// What cannot be read still; the rest waits.
    pub fn settle(&mut self, serving: &RwLock<Serving>, fetch: Fetch<'_>) -> Result<()> {
        while let Some(row) = self.owed.front().copied() {
            match fetch(row.at) {
                Ok(d) => {
                    self.teach(&d.logged, row, serving)?;
                    match row.by {
                        By::Given => {}
                        By::Joined => self.counts.aggregates += 1,
                        By::Default => self.counts.defaults += 1,
                    }
                }
                Err(e) if e.is_passing() => return Err(e),
                // Gone, as it is for a replay.
                Err(_) => {}
            }
            self.owed.pop_front();
        }
        Ok(())
    }

    /// The policy learns one row. Nothing has changed when its model cannot be read.
    fn teach(&mut self, l: &Logged, row: Owed, serving: &RwLock<Serving>) -> Result<()> {
        let Owed {
            at,
            reward,
            feedback,
            time,
            ..
        } = row;
        let user = user_id(&l.user);
        let mut serving = write(serving);
        serving.models.warm(user)?;
        // In an experiment both hear the same.
        let second = self.trial.as_ref().map(|trial| Arc::clone(&trial.challenger));
        let mut challenger = second.as_deref().map(write);
        if let Some(challenger) = &mut challenger {
            challenger.models.warm(user)?;
        }
        let row = enter(l, reward, feedback, &mut self.log);
        let known = self.users.or_insert_with(user.0, User::default);
        known.pulls += 1;
        known.sum += reward;
        known.updated = time;
        if self.taught.watched {
            self.taught.rewards.push(reward);
        }
        if self.taught.wanted {
            self.taught.rows.push((l.clone(), reward, feedback));
        }
        let batch = Batch::new(&self.log, std::slice::from_ref(&row));
        let aside = self.aside.then_some(Row { at, reward, feedback });
        self.taught.left |= learn(&mut serving, user, &batch, aside);
        if let Some(challenger) = &mut challenger {
            self.taught.left |= learn(challenger, user, &batch, aside);
        }
        if let (Some(trial), Some(arm)) = (&mut self.trial, l.arm) {
            trial.rewarded(arm, user.0, reward, feedback.as_ref());
        }
        Ok(())
    }
}

/// Writes a row into a log of its own.
pub(super) fn enter(l: &Logged, reward: f64, feedback: Option<Feedback>, log: &mut Log) -> usize {
    let ids: Vec<ActionId> = l.ids.iter().map(|id| action_id(id)).collect();
    let round = Round {
        index: l.index,
        user: user_id(&l.user),
        context: &l.context,
        candidates: Candidates {
            ids: &ids,
            features: &l.features,
            dim: l.dim(),
        },
    };
    let Answer {
        probs, chosen, method, ..
    } = &l.answer;
    log.clear();
    let row = log.push_parts(&round, probs, *chosen, *method);
    log.settle(row, reward, feedback);
    row
}

/// Work that takes long may be left where a row is named; true where somebody is to do it now.
fn learn(serving: &mut Serving, user: UserId, batch: &Batch<'_>, aside: Option<Row>) -> bool {
    let models = &mut serving.models;
    // A policy that panics refuses; what it is then, it is in a replay too.
    let learn = std::panic::AssertUnwindSafe(|| match aside {
        Some(_) => models.update_quickly(user, batch),
        None => models.update(user, batch).map(|()| false),
    });
    let left = match std::panic::catch_unwind(learn) {
        Ok(Ok(left)) => {
            serving.updates += 1;
            left
        }
        _ => {
            serving.refused += 1;
            false
        }
    };
    aside.is_some_and(|row| serving.learned(row, left))
}
