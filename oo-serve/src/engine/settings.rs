//! What an engine is opened with.

use super::clock::{Clock, SystemClock};
use super::join::Join;
use super::models::Home;
use crate::journal::disk::{Disk, RealDisk};
use oo_core::tips::RewardSpec;
use oo_core::{Policy, Shape, Spec};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// When a feedback is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Once it is on the disk: survives a power cut.
    #[default]
    Disk,
    /// Once the operating system has it: survives the death of the process, not of the machine.
    Process,
}

/// How rewards are made of what happens, and how long what is remembered. Part of the journal: a change is a record of its own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rules {
    /// Reaction and dwell to reward.
    pub reward: RewardSpec,
    /// How long a decision waits for its feedback, in milliseconds.
    pub wait_ms: u64,
    /// How long a feedback waits for its decision, in milliseconds.
    pub early_ms: u64,
    /// What a decision teaches whose wait window ends without feedback; `None` teaches nothing.
    pub default_reward: Option<f64>,
    /// How long ids are remembered, in milliseconds. Made longer, it brings none back that were dropped before; a replay of
    /// the whole journal has them.
    pub remember_ms: u64,
    /// How several feedbacks of one decision make one reward.
    #[serde(default)]
    pub join: Join,
    /// How long a person's history reaches back, in milliseconds; 0 keeps none. Histories begin with the rule: what was
    /// decided before is not looked up.
    #[serde(default)]
    pub window_ms: u64,
    /// Changes of the policy that can be undone. 0 in journals before format 4: what gave way then was not kept.
    #[serde(default)]
    pub undo: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            reward: RewardSpec::named("r2").expect("the table is checked by a test"),
            wait_ms: 3_600_000,
            early_ms: 120_000,
            default_reward: None,
            remember_ms: 48 * 3_600_000,
            join: Join::First,
            window_ms: 0,
            undo: 8,
        }
    }
}

/// How long a tip stays away after what the person said of it, in milliseconds; `None` for ever, 0 not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suppress {
    /// After done.
    pub done_ms: Option<u64>,
    /// After dismiss.
    pub dismiss_ms: Option<u64>,
    /// After snooze, where the feedback does not say until when.
    pub snooze_ms: Option<u64>,
}

impl Default for Suppress {
    fn default() -> Self {
        Suppress {
            done_ms: None,
            dismiss_ms: None,
            snooze_ms: Some(3_600_000),
        }
    }
}

impl std::str::FromStr for Suppress {
    type Err = String;

    /// Reads `done=ever,dismiss=7d,snooze=90m`; what is left out is as by default.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut suppress = Suppress::default();
        let mut named = Vec::new();
        for part in text.split(',') {
            let expected = || format!("expected done=…, dismiss=… or snooze=…, got `{part}`");
            let (name, value) = part.split_once('=').ok_or_else(expected)?;
            let span = match name.trim() {
                "done" => &mut suppress.done_ms,
                "dismiss" => &mut suppress.dismiss_ms,
                "snooze" => &mut suppress.snooze_ms,
                _ => return Err(expected()),
            };
            if named.contains(&name.trim()) {
                return Err(format!("expected each reaction once, got `{}` twice", name.trim()));
            }
            named.push(name.trim());
            *span = span_ms(value.trim()).ok_or_else(|| {
                format!("expected ever, never, or a number with s, m, h or d (as in 90m), got `{value}`")
            })?;
        }
        Ok(suppress)
    }
}

/// `ever` is `Some(None)`.
fn span_ms(text: &str) -> Option<Option<u64>> {
    match text {
        "ever" => return Some(None),
        "never" => return Some(Some(0)),
        _ => {}
    }
    let unit = match text.chars().last()? {
        's' => 1000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    Some(Some(number.checked_mul(unit)?))
}

/// A policy to serve: its spec, and what it has learned elsewhere.
#[derive(Clone, PartialEq, Debug)]
pub struct Artefact {
    /// Name and options.
    pub spec: Spec,
    /// What `Policy::save` gave; `None` starts blank.
    pub state: Option<Vec<u8>>,
}

impl Artefact {
    /// A blank policy.
    ///
    /// # Errors
    /// A spec that does not parse.
    pub fn blank(spec: &str) -> crate::Result<Self> {
        Ok(Artefact {
            spec: Spec::parse(spec)?,
            state: None,
        })
    }
}

/// Makes a blank policy of a spec. `oo_policies::build`, but for tests that bring policies of their own.
pub type BuildPolicy = Arc<dyn Fn(&Spec, &Shape) -> oo_core::Result<Box<dyn Policy>> + Send + Sync>;

/// What an engine is opened with.
#[derive(Clone)]
pub struct Settings {
    /// The policy of a folder that has none yet. A folder that has one keeps it, whatever stands here, until
    /// [`Engine::swap`](crate::Engine::swap).
    pub policy: Artefact,
    /// What rounds look like.
    pub shape: Shape,
    /// How rewards are made.
    pub rules: Rules,
    /// A folder that has a reward spec goes on with it, whatever `rules` say.
    pub keeps_reward: bool,
    /// What keeps a tip away from [`Engine::person`](crate::Engine::person)'s candidates; `None` keeps all in.
    pub suppress: Option<Suppress>,
    /// A profile whose last decision or feedback is older, in milliseconds, counts as unknown.
    pub profile_age_ms: u64,
    /// Root of every draw.
    pub seed: u64,
    /// When a feedback is acknowledged.
    pub durability: Durability,
    /// A policy that takes longer gives way to a uniform draw.
    pub policy_timeout: Duration,
    /// A journal's file is closed at this size, in bytes.
    pub segment_bytes: u64,
    /// A snapshot is taken after so many records; 0 takes none by itself.
    pub snapshot_every: u64,
    /// What takes a policy long is done aside (see [`oo_core::Policy::update_quickly`]). Without, everybody waits for it, and
    /// a decision is a function of the records before it.
    pub aside: bool,
    /// Records older than this are dropped by [`Engine::compact`](crate::Engine::compact); `None` keeps all.
    pub retention: Option<Duration>,
    /// Models of one user each that are kept unpacked in memory (`+per-user` policies).
    pub hot_users: usize,
    /// Makes policies.
    pub build: BuildPolicy,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where files are.
    pub disk: Arc<dyn Disk>,
}

impl Settings {
    /// Where the policies of a folder live.
    pub(crate) fn home<'a>(&'a self, dir: &'a Path) -> Home<'a> {
        Home {
            dir,
            disk: &self.disk,
            build: &self.build,
            hot_users: self.hot_users,
        }
    }

    /// A policy for rounds of a shape, and defaults for the rest.
    pub fn new(policy: Artefact, shape: Shape) -> Self {
        Settings {
            policy,
            shape,
            rules: Rules::default(),
            keeps_reward: false,
            suppress: None,
            profile_age_ms: u64::MAX,
            seed: 0,
            durability: Durability::default(),
            policy_timeout: Duration::from_millis(20),
            segment_bytes: 64 << 20,
            snapshot_every: 500_000,
            aside: true,
            retention: None,
            hot_users: 1024,
            build: Arc::new(oo_policies::build),
            clock: Arc::new(SystemClock::default()),
            disk: Arc::new(RealDisk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_refused() {
        let read = |text: &str| text.parse::<Suppress>();
        let all = Suppress {
            done_ms: None,
            dismiss_ms: Some(7 * 86_400_000),
            snooze_ms: Some(90 * 60_000),
        };
        assert_eq!(read("done=ever, dismiss=7d, snooze=90m"), Ok(all));
        assert_eq!(read("done=never").unwrap().done_ms, Some(0));
        assert_eq!(read("snooze=1h").unwrap(), Suppress::default());
        for bad in [
            "",
            "done",
            "done=",
            "done=7",
            "done=-1d",
            "other=1d",
            "done=1w",
            "done=99999999999999999999d",
            "snooze=é",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    /// What a release without them wrote still says what it said.
    #[test]
    fn rules_of_before_are_read() {
        let mut old = serde_json::to_value(Rules::default()).unwrap();
        let fields = old.as_object_mut().unwrap();
        fields.remove("join");
        fields.remove("window_ms");
        assert_eq!(serde_json::from_value::<Rules>(old).unwrap(), Rules::default());
    }
}
