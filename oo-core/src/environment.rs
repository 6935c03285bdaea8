//! A world to choose in.
//!
//! An environment moves in ticks. In a tick some rounds are open at once (one in most environments; in the tips
//! world, one for every person who looks at the screen in that hour), all are decided, then all respond: so a
//! judge that works in batches sees a batch, and nobody learns from what has not happened yet.
//!
//! An environment is built from a [`Key`](crate::Key) that leaves out the policy's name: every policy meets the
//! same world, and the same action in the same situation gets the same outcome.

use crate::tips::Feedback;
use crate::{Result, Round, Shape, UserId};

/// When an outcome becomes known to the learner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Arrival {
    /// Before the next round.
    #[default]
    Now,
    /// So many units of [`Environment::now`] later.
    After(u64),
    /// It is lost: the world pays, the learner never hears of it.
    Never,
}

/// What came of a choice.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Outcome {
    /// The reward.
    pub reward: f64,
    /// The reaction behind it, where the world has one.
    pub feedback: Option<Feedback>,
    /// When the learner hears of it.
    pub arrival: Arrival,
}

/// A world to choose in. See the module for ticks and rounds.
pub trait Environment: Send {
    /// What all rounds have in common.
    fn shape(&self) -> &Shape;

    /// Moves to the next tick; false at the end of the world.
    fn advance(&mut self) -> Result<bool>;

    /// The time, in units of this world (rounds, or minutes in the tips world); never falls.
    fn now(&self) -> u64;

    /// The number of rounds open in this tick, at least 1 after `advance` returned true.
    fn open(&self) -> usize {
        1
    }

    /// Open round `i`.
    fn round(&self, i: usize) -> Round<'_>;

    /// The expected reward of every candidate of open round `i`, where the world knows it. For regret; no policy
    /// sees it.
    fn expected(&self, i: usize) -> Option<&[f64]>;

    /// Takes the chosen positions, one an open round, and appends one outcome each to `out`.
    fn respond(&mut self, chosen: &[usize], out: &mut Vec<Outcome>) -> Result<()>;

    /// The group of a user to slice results by (the persona), where there are groups.
    fn group(&self, _user: UserId) -> Option<&str> {
        None
    }
}
