//! What a person does with a tip.

use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;

/// The reaction to a tip.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
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
        NAMES[self as usize]
    }
}

const NAMES: &[&str] = &["done", "snooze", "dismiss", "helpful", "not_helpful"];

/// From its name and nothing else: as derived, `{"done": null}` would pass as well.
impl<'de> Deserialize<'de> for Reaction {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Name;
        impl de::Visitor<'_> for Name {
            type Value = Reaction;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "one of {}", NAMES.join(", "))
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Reaction, E> {
                let found = Reaction::ALL.into_iter().find(|r| r.name() == name);
                found.ok_or_else(|| E::unknown_variant(name, NAMES))
            }
        }
        from.deserialize_str(Name)
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
