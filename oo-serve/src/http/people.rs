//! What is known of a person, and how it is taken back.

use super::problem::{Problem, Unwritten, parse};
use super::{Answer, App, Call, json};
use crate::engine::{Known, Logged, Seen};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Vectors that `GET /features/{user}` returns.
const LAST: usize = 100;

fn stranger(user: &str) -> Problem {
    let shown: String = user.chars().take(100).collect();
    Problem::missing("user", format!("no decision for user `{shown}` is known"))
}

/// What a person got and what came of it.
#[utoipa::path(get, path = "/stats/{user}", tag = "look", params(("user" = String, Path)),
    responses(
        (status = 200, description = "{decisions, pulls, cumulative_reward, estimated_mean, last_updated, profile, weights}; \
            the profile by the journal with as_of, age_ms and whether it is fresh enough to be used, null where none is kept; \
            the weights of a linear model by feature, of the policy that decides for the person, null where candidates share none"),
        (status = 404, description = "A stranger", body = Problem, content_type = "application/problem+json"),
    ), security((), ("bearer" = [])))]
pub async fn stats(call: Call) -> Answer {
    let user = call.name();
    let stats = call.app.engine.stats(user).ok_or_else(|| stranger(user))?;
    let mut value = serde_json::to_value(stats).unwrap_or_default();
    value["user_id"] = user.into();
    value["profile"] = json!(profile(&call.app, user));
    // A person's model may have to be read, or be learning.
    let (app, name) = (call.app.clone(), user.to_string());
    let weights = tokio::task::spawn_blocking(move || app.engine.weights(&name)).await;
    let shape = &call.app.engine.settings().shape;
    let named = |weights: Vec<(usize, f64)>| -> Value {
        let named = weights
            .into_iter()
            .map(|(i, w)| (shape.feature(i).to_string(), w.into()));
        Value::Object(named.collect())
    };
    value["weights"] = weights.ok().flatten().map_or(Value::Null, named);
    json(&value)
}

/// The feature vectors of a person's last 100 decisions, the latest first.
#[utoipa::path(get, path = "/features/{user}", tag = "look", params(("user" = String, Path)),
    responses(
        (status = 200, description = "{user_id, names, vectors: [{ts, decision_id, tip_id, tip, policy, reason, features, \
            score, propensity}], profile, tips: [{tip_id, shown_recently, suppressed}]}"),
        (status = 404, description = "A stranger", body = Problem, content_type = "application/problem+json"),
    ), security((), ("bearer" = [])))]
pub async fn features(call: Call) -> Answer {
    let user = call.name();
    if call.app.engine.stats(user).is_none() {
        return Err(stranger(user));
    }
    let (app, name) = (call.app.clone(), user.to_string());
    let read = tokio::task::spawn_blocking(move || app.engine.history(&name, LAST)).await;
    let history = read.map_err(|_| Problem::unavailable("the history cannot be read"))?;
    let vectors: Vec<Value> = history.iter().map(vector).collect();
    let shown: BTreeSet<&str> = history.iter().map(|l| l.ids[l.answer.chosen].as_str()).collect();
    let seen = call.app.engine.seen(user, shown.iter().copied());
    let profiles = call.app.engine.settings().profile_age_ms > 0;
    let tips = shown.iter().zip(seen).map(|(id, seen)| tip(id, seen, profiles));
    let tips: Vec<Value> = tips.collect();
    let profile = profile(&call.app, user);
    let shape = &call.app.engine.settings().shape;
    let names: Vec<&String> = shape.context.iter().chain(&shape.candidate).collect();
    json(&json!({"user_id": user, "names": names, "vectors": vectors, "profile": profile, "tips": tips}))
}

/// What the journal says of a person, where it is asked.
fn profile(app: &App, user: &str) -> Option<Known> {
    let asked = app.engine.settings().profile_age_ms > 0;
    app.engine.profile(user).filter(|_| asked)
}

fn tip(id: &str, seen: Seen, profiles: bool) -> Value {
    json!({
        "tip_id": id,
        "shown_recently": profiles.then_some(seen.shown_recently),
        "suppressed": seen.kept.map(|(reaction, until)| json!({"reason": reaction, "until": until})),
    })
}

fn vector(logged: &Logged) -> Value {
    let answer = &logged.answer;
    let features: Vec<f32> = logged.context.iter().chain(logged.chosen_features()).copied().collect();
    json!({
        "ts": answer.time,
        "decision_id": answer.decision_id,
        "tip_id": logged.ids[answer.chosen],
        "tip": shown(logged),
        "policy": &*answer.policy,
        "reason": super::contract::reason(answer.reason),
        "features": features,
        "score": answer.scores[answer.chosen],
        "propensity": answer.propensity(),
    })
}

/// The tip as it was shown, where texts came with it.
fn shown(logged: &Logged) -> Option<Value> {
    let tips: Vec<Value> = serde_json::from_slice(&logged.note).unwrap_or_default();
    tips.into_iter().nth(logged.answer.chosen)
}

/// A decision as it stands in the journal.
#[utoipa::path(get, path = "/decisions/{id}", tag = "look", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The decision: who, what was on offer, what was chosen, with what probability, why"),
        (status = 404, description = "Not known, or not any more", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The disk does not give it now", body = Problem, content_type = "application/problem+json"),
    ), security((), ("bearer" = [])))]
pub async fn decision(call: Call) -> Answer {
    let (app, id) = (call.app.clone(), call.name().to_string());
    let read = tokio::task::spawn_blocking(move || app.engine.decision(&id)).await;
    let logged = read.map_err(|_| Problem::unavailable("the journal cannot be read"))??;
    let answer = &logged.answer;
    json(&json!({
        "decision_id": answer.decision_id,
        "ts": answer.time,
        "seq": logged.seq,
        "user_id": logged.user,
        "chosen": logged.ids[answer.chosen],
        "tip": shown(&logged),
        "propensity": answer.propensity(),
        "candidates": logged.ids,
        "probabilities": answer.probs,
        "scores": answer.scores,
        "context": logged.context,
        "features": logged.features,
        "method": answer.method.name(),
        "policy": &*answer.policy,
        "model_version": answer.generation,
        "updates": answer.updates,
        "reason": super::contract::reason(answer.reason),
        "observed_only": logged.observe,
        "suppressed": logged.suppressed,
    }))
}

/// A body without fields.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Starts a person's model, statistics, profile and suppressed tips anew; the records stay, and `decisions` counts them.
#[utoipa::path(post, path = "/reset/{user}", tag = "change", params(("user" = String, Path)),
    responses(
        (status = 200, description = "{user_id, reset: true}, on the disk"),
        (status = 404, description = "A stranger", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A body with fields", body = Problem, content_type = "application/problem+json"),
        Unwritten,
    ), security((), ("bearer" = [])))]
pub async fn reset(call: Call) -> Answer {
    if !call.body.is_empty() {
        parse::<Nothing>(&call.body)?;
    }
    change(call, "reset", |engine, user| engine.reset(user)).await
}

/// Forgets a person: the model and statistics now, the records with the next compaction, which begins within a
/// second unless a long one has just been.
#[utoipa::path(delete, path = "/users/{user}", tag = "change", params(("user" = String, Path)),
    responses(
        (status = 200, description = "{user_id, forgotten: true}, on the disk"),
        (status = 404, description = "A stranger", body = Problem, content_type = "application/problem+json"),
        Unwritten,
    ), security((), ("bearer" = [])))]
pub async fn forget(call: Call) -> Answer {
    let app = call.app.clone();
    let answer = change(call, "forgotten", |engine, user| engine.forget(user)).await?;
    app.rollout.compact_soon();
    Ok(answer)
}

async fn change(
    call: Call,
    what: &'static str,
    act: impl FnOnce(&crate::Engine, &str) -> crate::Result<()> + Send + 'static,
) -> Answer {
    let user = call.name().to_string();
    if call.app.engine.stats(&user).is_none() {
        return Err(stranger(&user));
    }
    let (app, name) = (call.app.clone(), user.clone());
    // It waits for the disk.
    let done = tokio::task::spawn_blocking(move || act(&app.engine, &name)).await;
    done.map_err(|_| Problem::unavailable("the change was given up"))??;
    tracing::info!(what, "a person's data changed");
    json(&json!({"user_id": user, what: true}))
}
