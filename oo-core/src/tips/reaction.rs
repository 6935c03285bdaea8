//! What a person does with a tip.

use serde::{Deserialize, Serialize};

/// The reaction to a tip.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// The task was finished.
    Done,
    /// Not now.
    Snooze,
    /// Not this.
    Dismiss,
    /// The tip helped, said explicitly (reward r1).
    Helpful,
    /// The tip did not help, said explicitly (reward r1).
    NotHelpful,
}

impl Reaction {
    /// All reactions, in the order of their codes.
    pub const ALL: [Reaction; 5] = [
        Reaction::Done,
        Reaction::Snooze,
        Reaction::Dismiss,
        Reaction::Helpful,
        Reaction::NotHelpful,
    ];

    /// The name in logs and tables.
    pub fn name(self) -> &'static str {
        ["done", "snooze", "dismiss", "helpful", "not_helpful"][self as usize]
    }
}

/// A reaction and how long it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Feedback {
    /// What the person did.
    pub reaction: Reaction,
    /// Milliseconds between showing and reaction; `None` where the client did not say.
    pub dwell_ms: Option<u64>,
}
