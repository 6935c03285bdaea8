//! What requests and answers look like. Requests borrow from the body; unknown fields are refused, since a misspelt
//! field that is silently left out costs a week.

mod schema;

use crate::engine::{Reason, Status, Suppressed};
use oo_core::tips::Reaction;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use utoipa::ToSchema;

/// A text, borrowed where the body has no escapes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Text<'a>(pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Text<'_> {
    /// The same with a life of its own.
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.into())))
            }
        }
        from.deserialize_str(Reader)
    }
}

/// A name: a text, or a whole number, which counts as its decimal text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct Id<'a>(pub Cow<'a, str>);

impl std::ops::Deref for Id<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Id<'_> {
    /// The same with a life of its own.
    pub fn into_owned(self) -> Id<'static> {
        Id(Cow::Owned(self.0.into_owned()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Id<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Id<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text of 1 to 512 bytes or a whole number from 0")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Id<'de>, E> {
                check_id(text)?;
                Ok(Id(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id<'de>, E> {
                check_id(text)?;
                Ok(Id(Cow::Owned(text.into())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Id<'de>, E> {
                Ok(Id(Cow::Owned(number.to_string())))
            }
        }
        from.deserialize_any(Reader)
    }
}

fn check_id<E: de::Error>(text: &str) -> Result<(), E> {
    let length = text.len();
    if length == 0 || length > crate::engine::ask::MAX_ID {
        return Err(E::custom(format_args!(
            "invalid length {length}, expected a text of 1 to {} bytes",
            crate::engine::ask::MAX_ID
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(E::custom("a control character, expected a text without any"));
    }
    Ok(())
}

/// `POST /recommend` and `POST /score`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "user_id": "alice",
    "candidates": [
        {"id": "t1", "content": "Call the dentist", "priority": 3, "due": "2026-11-24", "effort_minutes": 5},
        {"id": "t2", "content": "Write the report", "priority": 4, "effort_minutes": 120}
    ]
}))]
pub struct RecommendRequest<'a> {
    /// For whom; a text or a whole number.
    #[serde(borrow)]
    pub user_id: Id<'a>,
    /// Context features by position, or by name; for policies over the features of tips `now` and `profile` as well.
    pub context: Option<Context<'a>>,
    /// What to choose from, 1 to 1000, ids all different. Without them they come from the user's signal source.
    pub candidates: Option<Vec<Candidate<'a>>>,
    /// How many rows of the ranking to return; all by default.
    pub n: Option<u32>,
    /// The caller's name for the decision: the same request, byte for byte, gets the same answer again, without
    /// contributions and the profile's age. Another request by this name is refused.
    pub decision_id: Option<Id<'a>>,
}

/// One thing to choose: a text to show, and what it is like, by features or by the fields of a task.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate<'a> {
    /// Unique in the request; a text or a whole number.
    #[serde(borrow)]
    pub id: Id<'a>,
    /// By position, or by name. Without them they are made of the fields of a task.
    pub features: Option<Features<'a>>,
    /// task, advice, insight or reminder, or a word of the caller's; returned with the tip.
    #[schema(value_type = Option<String>)]
    pub kind: Option<Text<'a>>,
    /// What to show; returned with the tip.
    #[schema(value_type = Option<String>)]
    pub content: Option<Text<'a>>,
    /// Where it came from: llm, task_direct, fallback, or a word of the caller's; returned with the tip.
    #[schema(value_type = Option<String>)]
    pub source: Option<Text<'a>>,
    /// Why it may help; returned with the tip.
    #[schema(value_type = Option<String>)]
    pub rationale: Option<Text<'a>>,
    /// The task behind the tip; returned with it.
    pub task_id: Option<Id<'a>>,
    /// The model that wrote it; returned with the tip.
    #[schema(value_type = Option<String>)]
    pub model: Option<Text<'a>>,
    /// The prompt that it came from; returned with the tip.
    #[schema(value_type = Option<String>)]
    pub prompt_version: Option<Text<'a>>,
    /// The writer's confidence, 0 to 1; returned with the tip.
    pub confidence: Option<f64>,
    /// 1 (low) to 4 (urgent); 1 by default.
    pub priority: Option<u8>,
    /// When the task came in; now by default.
    pub created: Option<When>,
    /// When it should be finished.
    pub due: Option<When>,
    /// How long it takes; 30 by default.
    pub effort_minutes: Option<f64>,
    /// Recent showings of this very task, faded: 0 fresh, 3 worn out. By default what the journal says of this person.
    pub shown_recently: Option<f64>,
}

impl Candidate<'_> {
    /// The same with a life of its own.
    pub fn into_owned(self) -> Candidate<'static> {
        let text = |t: Option<Text<'_>>| t.map(Text::into_owned);
        Candidate {
            id: self.id.into_owned(),
            features: self.features.map(|f| match f {
                Features::Positional(values) => Features::Positional(values),
                Features::Named(values) => {
                    Features::Named(values.into_iter().map(|(name, v)| (name.into_owned(), v)).collect())
                }
            }),
            kind: text(self.kind),
            content: text(self.content),
            source: text(self.source),
            rationale: text(self.rationale),
            task_id: self.task_id.map(Id::into_owned),
            model: text(self.model),
            prompt_version: text(self.prompt_version),
            confidence: self.confidence,
            priority: self.priority,
            created: self.created,
            due: self.due,
            effort_minutes: self.effort_minutes,
            shown_recently: self.shown_recently,
        }
    }
}

/// Numbers by position or by name.
#[derive(Clone, Debug, PartialEq)]
pub enum Features<'a> {
    /// As many as the policy's shape has.
    Positional(Vec<f64>),
    /// Each name of the shape once.
    Named(Vec<(Text<'a>, f64)>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Features<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Features<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of numbers or an object of names and numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Features<'de>, A::Error> {
                let mut values = Vec::with_capacity(16);
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Features::Positional(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Features<'de>, A::Error> {
                let mut values = Vec::with_capacity(16);
                while let Some(entry) = map.next_entry()? {
                    values.push(entry);
                }
                Ok(Features::Named(values))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// What all candidates share.
#[derive(Clone, Debug, Default)]
pub struct Context<'a> {
    /// Features by position or name, where there are any.
    pub features: Option<Features<'a>>,
    /// The person's time; the server's by default.
    pub now: Option<When>,
    /// Aggregates over the person's last 30 days. What is left out is that of the signal source, where the candidates
    /// come from one that has it, else what the journal says of this person.
    pub profile: Option<ProfileBody>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Context<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Context<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of numbers, or an object of names and numbers with `now` and `profile`")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Context<'de>, A::Error> {
                let features = Features::deserialize(de::value::SeqAccessDeserializer::new(seq))?;
                Ok(Context {
                    features: Some(features),
                    ..Context::default()
                })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Context<'de>, A::Error> {
                let (mut context, mut named) = (Context::default(), Vec::new());
                let (mut timed, mut profiled) = (false, false);
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    match &*key {
                        "now" if std::mem::replace(&mut timed, true) => return Err(de::Error::duplicate_field("now")),
                        "profile" if std::mem::replace(&mut profiled, true) => {
                            return Err(de::Error::duplicate_field("profile"));
                        }
                        "now" => context.now = map.next_value()?,
                        "profile" => context.profile = map.next_value()?,
                        _ => named.push((key, map.next_value()?)),
                    }
                }
                context.features = (!named.is_empty()).then_some(Features::Named(named));
                Ok(context)
            }
        }
        from.deserialize_any(Reader)
    }
}

/// Aggregates over a person's last 30 days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileBody {
    /// Done among all reactions, 0 to 1.
    pub completion_rate_30d: Option<f64>,
    /// Dismissed among all reactions, 0 to 1.
    pub dismiss_rate_30d: Option<f64>,
    /// Mean dwell in milliseconds.
    pub mean_dwell_ms_30d: Option<f64>,
    /// The hour with most done tasks, 0 to 24.
    pub preferred_hour: Option<f64>,
    /// Tips shown.
    pub tip_volume_30d: Option<f64>,
}

/// The end of the year 9999, in milliseconds since 1970.
const LAST_MS: u64 = 253_402_300_799_999;

/// A moment: RFC 3339 with an offset, the same without one (the person's own time), a date (its first minute), or
/// milliseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct When {
    /// Milliseconds since 1970, by the clock that the offset names, or by the person's.
    pub local_ms: i64,
    /// Minutes that this clock is ahead of UTC; `None` for the person's own.
    pub offset: Option<i32>,
}

impl When {
    /// Reads a text.
    pub fn parse(text: &str) -> Option<When> {
        super::moment::parse(text)
    }

    /// Milliseconds since 1970, where the person's clock is `ahead` minutes ahead of UTC.
    pub fn utc_ms(self, ahead: i32) -> i64 {
        self.local_ms - i64::from(self.offset.unwrap_or(ahead)) * 60_000
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = When;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time as 2026-11-24T09:30:00+01:00, a date as 2026-11-24, or milliseconds since 1970")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<When, E> {
                When::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<When, E> {
                if ms > LAST_MS {
                    return Err(E::invalid_value(de::Unexpected::Unsigned(ms), &self));
                }
                Ok(When {
                    local_ms: ms as i64,
                    offset: Some(0),
                })
            }
        }
        from.deserialize_any(Reader)
    }
}

/// The tip to show.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Tip<'a> {
    /// The candidate's id.
    #[schema(value_type = String)]
    pub id: &'a str,
    /// As it came with the candidate, and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[allow(missing_docs)]
    pub content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[allow(missing_docs)]
    pub source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[allow(missing_docs)]
    pub rationale: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[allow(missing_docs)]
    pub task_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[allow(missing_docs)]
    pub model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[allow(missing_docs)]
    pub prompt_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[allow(missing_docs)]
    pub confidence: Option<f64>,
}

impl<'a> Tip<'a> {
    /// What of a candidate is shown.
    pub fn of(c: &'a Candidate<'_>) -> Tip<'a> {
        fn text<'a>(t: &'a Option<Text<'_>>) -> Option<&'a str> {
            t.as_deref()
        }
        Tip {
            id: &c.id,
            kind: text(&c.kind),
            content: text(&c.content),
            source: text(&c.source),
            rationale: text(&c.rationale),
            task_id: c.task_id.as_deref(),
            model: text(&c.model),
            prompt_version: text(&c.prompt_version),
            confidence: c.confidence,
        }
    }
}

/// One row of the ranking.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Ranked<'a> {
    /// The candidate's id.
    #[schema(value_type = String)]
    pub id: &'a str,
    /// With which it could have been chosen.
    pub probability: f64,
    /// The policy's estimate or index, on a scale of its own; null where it is without bound, as of an action never tried.
    #[schema(value_type = Option<f64>, required)]
    pub score: f64,
}

/// What one feature adds to the chosen candidate's expected reward.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Contribution<'a> {
    /// The feature's name.
    #[schema(value_type = String)]
    pub feature: &'a str,
    /// Its value.
    pub value: f32,
    /// Weight times value.
    pub contribution: f64,
}

/// Why this candidate.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Explanation<'a> {
    /// True when another candidate had a better score: the draw explored.
    pub explored: bool,
    /// The strongest contributions first, at most five; left out where the policy is not linear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contributions: Option<Vec<Contribution<'a>>>,
}

/// The answer of `POST /recommend`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RecommendAnswer<'a> {
    /// What to show.
    pub tip: Tip<'a>,
    /// The decision's name, for the feedback.
    #[schema(value_type = String)]
    pub decision_id: &'a str,
    /// The policy that decided, as a spec.
    #[schema(value_type = String)]
    pub policy: &'a str,
    /// Which model of it: rises with every swap.
    pub model_version: u64,
    /// Rewards that it had learned since it took charge, or since its experiment began.
    pub updates: u64,
    /// The probability with which the tip was chosen.
    pub propensity: f64,
    /// The likeliest first.
    pub ranking: Vec<Ranked<'a>>,
    /// policy, fallback (the policy failed or took too long, and the draw was uniform) or baseline (the caller's first
    /// candidate, in the modes apprentice and log-only, or as its arm of an experiment).
    pub reason: &'static str,
    /// How the probabilities were found.
    pub method: &'static str,
    /// Why.
    pub explanation: Explanation<'a>,
    /// The arm of the running experiment, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub arm: Option<&'a str>,
    /// Candidates that were kept away from the draw for what the person said of them: id, reason (done, dismiss,
    /// snooze), until (milliseconds since 1970, null for ever).
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub suppressed: &'a [Suppressed],
    /// Milliseconds since the last decision or feedback behind the person's profile, where that of the journal was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_age_ms: Option<u64>,
    /// True when the decision had been made before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
}

/// The word for a reason.
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Policy => "policy",
        Reason::FallbackError | Reason::FallbackTimeout => "fallback",
        Reason::Given => "baseline",
    }
}

/// `POST /feedback`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"decision_id": "d-17", "reaction": "done", "dwell_ms": 42000}))]
pub struct FeedbackRequest<'a> {
    /// The decision. One of `decision_id` and `tip_id` is needed.
    #[serde(borrow)]
    pub decision_id: Option<Id<'a>>,
    /// A tip: the user's latest open decision that showed it and has no feedback, else the latest that showed it.
    pub tip_id: Option<Id<'a>>,
    /// Whose tip; needed with `tip_id`. With `decision_id` it lets a feedback that comes after the wait window find its tip.
    pub user_id: Option<Id<'a>>,
    /// What the person did: done, snooze, dismiss, helpful or not_helpful. One of `reaction` and `reward` is needed.
    #[schema(value_type = Option<String>, example = "done")]
    pub reaction: Option<Reaction>,
    /// The reward itself, −1000 to 1000, where there is no reaction.
    pub reward: Option<f64>,
    /// Milliseconds between showing and reaction; with `reaction` only.
    pub dwell_ms: Option<u64>,
    /// With `reaction` only, a snooze (or a done, a dismiss): when the tip may come back, instead of what `--suppress` says.
    pub until: Option<When>,
    /// When it happened, by the client's clock; logged. Refused when more than five minutes ahead of the server's.
    pub at: Option<When>,
    /// Makes a repetition count once; so do the headers Idempotency-Key and x-ms-client-request-id.
    pub feedback_id: Option<Id<'a>>,
    /// The decision may not be known yet: hold the feedback for up to two minutes, instead of refusing it.
    #[serde(default)]
    pub early: bool,
}

/// The answer of `POST /feedback`, given once the record is durable.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FeedbackAnswer<'a> {
    /// The decision.
    #[schema(value_type = String)]
    pub decision_id: &'a str,
    /// learned, joined (counts in the decision's reward, which is learned when the wait window ends), held (waits for its
    /// decision), late, extra (the decision had its feedback) or observed.
    #[schema(value_type = String)]
    pub status: Status,
    /// Under the reward spec in force.
    pub reward: f64,
    /// Name and version of that spec.
    #[schema(value_type = String)]
    pub reward_spec: &'a str,
    /// disk or process: what survived by now.
    pub durability: &'static str,
    /// The record's number in the journal.
    pub seq: u64,
    /// True when it had been given before.
    pub repeated: bool,
}

/// A question to `POST /assignments`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"salt": "exp-1", "user_id": "alice", "arms": {"control": 0.5, "challenger": 0.5}}))]
pub struct AssignmentRequest<'a> {
    /// The experiment's name.
    #[serde(borrow)]
    #[schema(value_type = String)]
    pub salt: Text<'a>,
    /// The user.
    pub user_id: Id<'a>,
    /// Empty (the default) keeps a user's arm; an event's id draws every event anew.
    #[serde(default)]
    #[schema(value_type = String)]
    pub event: Text<'a>,
    /// Name and weight.
    #[schema(value_type = Object)]
    pub arms: Features<'a>,
}

/// The answer of `POST /assignments`.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssignmentAnswer<'a> {
    /// The arm.
    #[schema(value_type = String)]
    pub arm: &'a str,
    /// Its share of all users.
    pub probability: f64,
}
