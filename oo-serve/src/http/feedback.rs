//! `POST /feedback`: what came of a decision. Answered once the record is durable.

use super::contract::*;
use super::problem::{Problem, Unwritten, parse};
use super::{Answer, Call, json};
use crate::engine::ask::MAX_ID;
use crate::engine::{Durability, Feedback, Given, Hints, Target};
use oo_core::tips;

/// A client's clock may be ahead by so much.
const AHEAD_MS: i64 = 5 * 60_000;
/// A reward beyond this is a mistake.
pub const MAX_REWARD: f64 = 1000.0;
/// Headers that make a repetition count once, after the field.
const ID_HEADERS: [&str; 2] = ["idempotency-key", "x-ms-client-request-id"];

/// Reports what came of a decision.
///
/// The policy learns from it before the answer, and the answer is given once the record is on the disk. With a
/// feedback_id, or the header Idempotency-Key or x-ms-client-request-id, a repetition counts once and gets the same
/// answer; the same id with another body is refused. Without one, the first feedback of a decision counts.
#[utoipa::path(post, path = "/feedback", tag = "decide", request_body = FeedbackRequest<'static>,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Stands for feedback_id where the body has none"),
        ("x-ms-client-request-id" = Option<String>, Header, description = "Likewise, where there is no Idempotency-Key"),
    ),
    responses(
        (status = 200, description = "Durable", body = FeedbackAnswer<'static>),
        (status = 404, description = "About nothing that is known", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field cannot be used, or contradicts an earlier one", body = Problem, content_type = "application/problem+json"),
        Unwritten,
    ), security((), ("bearer" = [])))]
pub async fn feedback(call: Call) -> Answer {
    let request: FeedbackRequest<'_> = parse(&call.body)?;
    let app = &call.app;
    let target = match (&request.decision_id, &request.tip_id, &request.user_id) {
        (Some(id), _, _) => Target::Decision(id.to_string()),
        (None, Some(tip), Some(user)) => Target::Tip {
            user: user.to_string(),
            tip: tip.to_string(),
        },
        (None, Some(_), None) => return Err(Problem::field("user_id", "missing; `tip_id` needs the user as well")),
        (None, None, _) => {
            return Err(Problem::field(
                "decision_id",
                "missing; expected `decision_id` or `tip_id`",
            ));
        }
    };
    let given = match (request.reaction, request.reward) {
        (Some(_), Some(_)) => {
            return Err(Problem::field(
                "reward",
                "expected one of `reaction` and `reward`, got both",
            ));
        }
        (Some(reaction), None) => Given::Reaction(tips::Feedback {
            reaction,
            dwell_ms: request.dwell_ms,
        }),
        (None, Some(reward)) if (-MAX_REWARD..=MAX_REWARD).contains(&reward) => Given::Reward(reward),
        (None, Some(reward)) => {
            return Err(Problem::field(
                "reward",
                format!("expected −{MAX_REWARD} to {MAX_REWARD}, got {reward}"),
            ));
        }
        (None, None) => return Err(Problem::field("reaction", "missing; expected `reaction` or `reward`")),
    };
    if matches!(given, Given::Reward(_)) {
        for (field, there) in [
            ("dwell_ms", request.dwell_ms.is_some()),
            ("until", request.until.is_some()),
        ] {
            if there {
                return Err(Problem::field(
                    field,
                    "goes with `reaction`, got `reward`; leave it out",
                ));
            }
        }
    }
    let client_time = request.at.map(|at| at.utc_ms(0));
    let now = app.engine.settings().clock.wall() as i64;
    if let Some(at) = client_time
        && at > now + AHEAD_MS
    {
        let ahead = (at - now) / 1000;
        return Err(Problem::field(
            "at",
            format!("{ahead} s ahead of the server's clock; expected at most 300 s"),
        ));
    }
    let feedback_id = match request.feedback_id {
        Some(id) => Some(id.to_string()),
        None => header_id(&call)?,
    };
    let hints = Hints {
        user: request.user_id.as_deref(),
        tip: request.tip_id.as_deref(),
        until: request.until.map(|until| until.utc_ms(0).max(0) as u64),
    };
    let receipt = app
        .engine
        .feedback_with(
            &Feedback {
                target,
                feedback_id,
                given,
                client_time: client_time.map(|t| t.max(0) as u64),
                early: request.early,
            },
            hints,
        )?
        .await?;
    let settings = app.engine.settings();
    json(&FeedbackAnswer {
        decision_id: &receipt.decision_id,
        status: receipt.status,
        reward: receipt.reward,
        reward_spec: &app.reward,
        durability: match settings.durability {
            Durability::Disk => "disk",
            Durability::Process => "process",
        },
        seq: receipt.seq,
        repeated: receipt.repeated,
    })
}

fn header_id(call: &Call) -> Result<Option<String>, Problem> {
    for name in ID_HEADERS {
        if let Some(value) = call.headers.get(name) {
            // A structured field's text is quoted, others are not.
            return match value.to_str().map(|text| text.trim_matches('"')) {
                Ok(id) if !id.is_empty() && id.len() <= MAX_ID => Ok(Some(id.to_string())),
                _ => Err(Problem::field(
                    name,
                    format!("expected 1 to {MAX_ID} visible characters"),
                )),
            };
        }
    }
    Ok(None)
}
