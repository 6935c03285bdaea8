//! Who sees which arm: any experiment on request, and how the running one fills.

use super::contract::{AssignmentAnswer, AssignmentRequest, Features};
use super::problem::{Problem, parse};
use super::{Answer, Call, json};
use crate::assignment;

/// Arms of an experiment.
const MAX_ARMS: usize = 100;

/// Assigns a user, or an event of a user, to an arm: a pure function that docs/assignments.md writes down.
#[utoipa::path(post, path = "/assignments", tag = "decide", request_body = AssignmentRequest<'static>,
    responses(
        (status = 200, description = "Assigned", body = AssignmentAnswer<'static>),
        (status = 422, description = "A field cannot be used", body = Problem, content_type = "application/problem+json"),
    ), security((), ("bearer" = [])))]
pub async fn assign(call: Call) -> Answer {
    let request: AssignmentRequest<'_> = parse(&call.body)?;
    let Features::Named(given) = &request.arms else {
        return Err(Problem::field(
            "arms",
            "expected an object of names and weights, got an array",
        ));
    };
    if given.is_empty() || given.len() > MAX_ARMS {
        return Err(Problem::field(
            "arms",
            format!("expected 1 to {MAX_ARMS} arms, got {}", given.len()),
        ));
    }
    let mut sum = 0.0;
    for (i, (name, weight)) in given.iter().enumerate() {
        if !(0.0..=1e9).contains(weight) {
            return Err(Problem::field(
                format!("arms.{}", &**name),
                format!("expected 0 to 1e9, got {weight}"),
            ));
        }
        if given[..i].iter().any(|(n, _)| n == name) {
            return Err(Problem::field(format!("arms.{}", &**name), "named twice"));
        }
        sum += weight;
    }
    let arms: Vec<assignment::Arm<'_>> = given
        .iter()
        .map(|(name, weight)| assignment::Arm { name, weight: *weight })
        .collect();
    match assignment::assign(&request.salt, &request.user_id, &request.event, &arms) {
        Some(i) => json(&AssignmentAnswer {
            arm: arms[i].name,
            probability: arms[i].weight / sum,
        }),
        None => Err(Problem::field("arms", "every weight is 0; expected one above")),
    }
}

/// How many users each arm of the running experiment has, what they gave, and what the gate says of it now: its answer, the
/// difference with an interval that holds at any number of looks, and every check.
#[utoipa::path(get, path = "/assignments", tag = "look",
    responses((status = 200, description = "{experiment, arms: [{arm, weight, users, decisions, rewards, mean_reward, fallbacks, slow}], gate: {answer, difference, low, high, more_decisions, checks}, last_experiment}")),
    security((), ("bearer" = [])))]
pub async fn counts(call: Call) -> Answer {
    json(&call.app.rollout.report())
}
