//! What goes into the engine and what comes out.

use oo_core::tips::Reaction;
use oo_core::{ActionId, Key, Method, UserId};
use serde::Serialize;
use std::sync::Arc;

/// Bytes of an id of a user, a candidate, a decision or a feedback.
pub const MAX_ID: usize = 512;
/// Candidates of one decision.
pub const MAX_CANDIDATES: usize = 1000;
/// Bytes of a note.
pub const MAX_NOTE: usize = 256 * 1024;

/// A request to choose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// For whom; at most [`MAX_ID`] bytes, not empty.
    pub user: &'a str,
    /// The caller's name for the decision. With it the request may be sent again: the same body gets the same answer.
    pub decision_id: Option<&'a str>,
    /// Context features, as many as the shape has.
    pub context: &'a [f32],
    /// The candidates' ids, all different.
    pub ids: &'a [&'a str],
    /// Candidate features, `n × dim` row-major, `dim` as the shape has.
    pub features: &'a [f32],
    /// Whatever should be kept with the decision (the texts shown, the explanation); at most [`MAX_NOTE`] bytes.
    pub note: &'a [u8],
    /// The round's index, where a simulator's run is replayed; otherwise decisions are counted.
    pub index: Option<u64>,
    /// The key to draw with, where a simulator's run is replayed; otherwise it follows from seed, user and decision id.
    pub key: Option<Key>,
    /// Digest of the request as it came, where the numbers above depend on the clock: it says whether a request is the
    /// same as one before. By default it is made of the numbers.
    pub body: Option<u64>,
    /// True to log the decision without ever teaching the policy by it (log-only mode).
    pub observe: bool,
    /// Minutes that the person's clock is ahead of UTC.
    pub ahead: i16,
    /// Candidates of the request that were kept away; only logged.
    pub suppressed: &'a [Suppressed],
}

/// A candidate that was kept away from a decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Suppressed {
    /// Its id.
    pub id: String,
    /// What the person said of it.
    #[serde(rename = "reason")]
    pub reaction: Reaction,
    /// When it may come back, milliseconds since 1970; `None` for never.
    pub until: Option<u64>,
}

/// Why this candidate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The policy's draw.
    Policy,
    /// The policy failed: drawn uniformly.
    FallbackError,
    /// The policy took too long: drawn uniformly.
    FallbackTimeout,
    /// The caller's own choice was kept (apprentice mode); the engine itself never says so.
    Given,
}

impl Reason {
    /// All reasons, in the order of their codes.
    pub const ALL: [Reason; 4] = [
        Reason::Policy,
        Reason::FallbackError,
        Reason::FallbackTimeout,
        Reason::Given,
    ];
}

/// A choice.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The decision's name: the caller's, or one made here.
    pub decision_id: String,
    /// Position of the chosen candidate.
    pub chosen: usize,
    /// Probability a candidate.
    pub probs: Vec<f64>,
    /// Score a candidate; zeros after a fallback.
    pub scores: Vec<f64>,
    /// How the probabilities were found.
    pub method: Method,
    /// The policy in charge, as a spec.
    pub policy: Arc<str>,
    /// Which artefact of it: rises with every swap.
    pub generation: u64,
    /// Updates that it had learned from.
    pub updates: u64,
    /// Why.
    pub reason: Reason,
    /// Stamp, milliseconds since 1970.
    pub time: u64,
    /// True when this decision had been made before and was only asked for again.
    pub repeated: bool,
}

impl Answer {
    /// The probability with which the chosen candidate was chosen.
    pub fn propensity(&self) -> f64 {
        self.probs[self.chosen]
    }
}

/// What a feedback is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A decision.
    Decision(String),
    /// The user's latest open decision that showed this tip.
    Tip {
        /// The user.
        user: String,
        /// The candidate's id.
        tip: String,
    },
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Given {
    /// What the person did; the reward rule makes a number of it.
    Reaction(oo_core::tips::Feedback),
    /// The number itself.
    Reward(f64),
}

impl Given {
    /// The reaction, where that is what happened.
    pub fn feedback(&self) -> Option<oo_core::tips::Feedback> {
        match self {
            Given::Reaction(feedback) => Some(*feedback),
            Given::Reward(_) => None,
        }
    }

    /// A reaction without dwell.
    pub fn reaction(reaction: Reaction) -> Given {
        Given::Reaction(oo_core::tips::Feedback {
            reaction,
            dwell_ms: None,
        })
    }
}

/// What came of a decision.
#[derive(Clone, PartialEq, Debug)]
pub struct Feedback {
    /// What it is about.
    pub target: Target,
    /// Makes it exactly-once: the same id again gets the same receipt, with another body it is refused. Without one
    /// only the first feedback of a decision counts, all the same.
    pub feedback_id: Option<String>,
    /// What happened.
    pub given: Given,
    /// When, as the client says; only logged.
    pub client_time: Option<u64>,
    /// True to hold a feedback whose decision is not known yet for the early window, false to refuse it.
    pub early: bool,
}

/// What may be said with a feedback besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hints<'a> {
    /// Whose feedback. With it a decision is found that has been closed for long.
    pub user: Option<&'a str>,
    /// Which tip it is about.
    pub tip: Option<&'a str>,
    /// When the tip may come back, milliseconds since 1970.
    pub until: Option<u64>,
}

/// What became of a feedback.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The policy was taught by it.
    Learned,
    /// It waits for its decision.
    Held,
    /// The wait window was over: logged, not learned.
    Late,
    /// The decision had its feedback already: logged, not learned.
    Extra,
    /// The decision was only observed: logged, not learned.
    Observed,
    /// Taken into the decision's reward, which is learned when the wait window ends.
    Joined,
}

impl Status {
    /// All statuses, in the order of their codes.
    pub const ALL: [Status; 6] = [
        Status::Learned,
        Status::Held,
        Status::Late,
        Status::Extra,
        Status::Observed,
        Status::Joined,
    ];
}

/// The answer to a feedback. A repeated one gets an equal receipt but for `repeated`.
#[derive(Clone, PartialEq, Debug)]
pub struct Receipt {
    /// The decision; where a tip was named, the one that was found.
    pub decision_id: String,
    /// What became of it.
    pub status: Status,
    /// The reward under the rule in force.
    pub reward: f64,
    /// Number of the record in the journal.
    pub seq: u64,
    /// Stamp, milliseconds since 1970.
    pub time: u64,
    /// True when it had been given before.
    pub repeated: bool,
}

/// What is known of a user.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Stats {
    /// Decisions made.
    pub decisions: u64,
    /// Rewards learned, default rewards among them.
    pub pulls: u64,
    /// Their sum.
    pub cumulative_reward: f64,
    /// Their mean; 0 before the first.
    pub estimated_mean: f64,
    /// Stamp of the last change, milliseconds since 1970.
    pub last_updated: u64,
}

/// A decision as it stands in the journal.
#[derive(Clone, PartialEq, Debug)]
pub struct Logged {
    /// Number of the record.
    pub seq: u64,
    /// The user, as text.
    pub user: String,
    /// Context features.
    pub context: Vec<f32>,
    /// The candidates' ids.
    pub ids: Vec<String>,
    /// `n × dim`, row-major.
    pub features: Vec<f32>,
    /// The round's index.
    pub index: u64,
    /// What was kept with it.
    pub note: Vec<u8>,
    /// True when nothing is learned from it.
    pub observe: bool,
    /// The arm of the experiment that it was made in.
    pub arm: Option<Arm>,
    /// The probabilities that the policy in charge would have given, where the caller chose; else empty.
    pub own: Vec<f64>,
    /// Microseconds that the policy took, where an experiment ran.
    pub took_us: u32,
    /// Minutes that the person's clock was ahead of UTC.
    pub ahead: i16,
    /// Candidates that were kept away.
    pub suppressed: Vec<Suppressed>,
    /// The answer that was given.
    pub answer: Answer,
}

/// An arm of an experiment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arm {
    /// The number of the record that began it.
    pub experiment: u64,
    /// 0 for the policy in charge, 1 for the challenger.
    pub position: u8,
}

impl Logged {
    /// Features a candidate.
    pub fn dim(&self) -> usize {
        self.features.len() / self.ids.len().max(1)
    }

    /// Features of the chosen candidate.
    pub fn chosen_features(&self) -> &[f32] {
        let (i, dim) = (self.answer.chosen, self.dim());
        &self.features[i * dim..(i + 1) * dim]
    }
}

/// The number behind a name: a decimal number below 2⁶³ is itself, so that a simulator's users and actions keep theirs;
/// any other text is hashed into the upper half.
pub fn identity(text: &str) -> u64 {
    const UPPER: u64 = 1 << 63;
    let digits = !text.is_empty() && text.len() <= 19 && text.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits && (text.len() == 1 || !text.starts_with('0'));
    match text.parse::<u64>() {
        Ok(number) if canonical && number < UPPER => number,
        _ => oo_core::key::hash_name(text) | UPPER,
    }
}

/// See [`identity`].
pub fn user_id(text: &str) -> UserId {
    UserId(identity(text))
}

/// See [`identity`].
pub fn action_id(text: &str) -> ActionId {
    ActionId(identity(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_value_and_names_do_not_meet_them() {
        assert_eq!((identity("0"), identity("17")), (0, 17));
        assert_eq!(identity("9223372036854775807"), (1 << 63) - 1);
        for name in [
            "",
            "017",
            "+17",
            "17 ",
            "9223372036854775808",
            "99999999999999999999",
            "anna",
        ] {
            assert!(identity(name) >= 1 << 63, "{name}");
        }
        assert_ne!(identity("anna"), identity("Anna"));
    }
}
