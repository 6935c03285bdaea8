//! Judges of reactions: how does this person take this tip at this moment?

use crate::tips::{Feedback, Scene};
use crate::{Key, Result};

/// The distribution of a reaction, where a judge can state it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Response {
    /// Probability of done, snooze, dismiss; sums to 1.
    pub probs: [f64; 3],
    /// Mean and standard deviation of ln(dwell in ms) for each of the three.
    pub log_dwell: [(f64, f64); 3],
}

/// Decides how a person reacts. Works in batches, since some judges are slow and concurrent inside.
pub trait Judge: Send + Sync {
    /// One feedback a scene. `key`s belong to the scenes: the same scene and key get the same feedback.
    fn react(&self, scenes: &[(Scene<'_>, Key)], out: &mut Vec<Feedback>) -> Result<()>;

    /// The distribution behind `react`, where the judge knows it; gives exact regret.
    fn response(&self, _scene: &Scene<'_>) -> Option<Response> {
        None
    }
}
