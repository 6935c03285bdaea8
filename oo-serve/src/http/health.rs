//! Is it alive, does it take work, how does it go.

use super::problem::Problem;
use super::{Answer, Call, json, uptime, with_type};
use crate::metrics::Text;
use serde_json::json;
use std::sync::atomic::Ordering;

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "probe", responses((status = 200, description = "Alive")))]
pub async fn live(_: Call) -> Answer {
    Ok(with_type("ok\n", "text/plain"))
}

/// The server takes work: it is not stopping, and the disk takes records.
#[utoipa::path(get, path = "/readyz", tag = "probe", responses(
    (status = 200, description = "Ready"),
    (status = 503, description = "Stopping, or the disk fails", body = Problem, content_type = "application/problem+json")))]
pub async fn ready(call: Call) -> Answer {
    if call.app.draining.load(Ordering::Acquire) {
        return Err(Problem::unavailable("the server is stopping"));
    }
    let condition = call.app.engine.condition();
    match condition.journal.failure {
        Some(why) => Err(Problem::unavailable(format!("the journal cannot be written: {why}"))),
        None if condition.owed > 0 => Err(Problem::unavailable("the journal cannot be read")),
        None => Ok(with_type("ok\n", "text/plain")),
    }
}

/// How it goes, for people.
#[utoipa::path(get, path = "/health", tag = "probe", responses((status = 200, description = "{ok, policy, …}")),
    security((), ("bearer" = [])))]
pub async fn health(call: Call) -> Answer {
    let app = &call.app;
    let condition = app.engine.condition();
    let ok = condition.journal.failure.is_none() && condition.owed == 0 && !app.draining.load(Ordering::Acquire);
    json(&json!({
        "ok": ok,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": uptime(app).as_secs(),
        "mode": app.mode.name(),
        "policy": condition.policy,
        "model_version": condition.generation,
        "updates": condition.updates,
        "users": condition.users,
        "open_decisions": condition.open,
        "held_feedbacks": condition.held,
        "counts": condition.counts,
        "journal": {
            "last": condition.journal.last,
            "durable": condition.journal.committed,
            "failure": condition.journal.failure,
        },
    }))
}

/// Counters in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "probe", responses((status = 200, description = "Text format 0.0.4")),
    security((), ("bearer" = [])))]
pub async fn metrics(call: Call) -> Answer {
    let app = &call.app;
    let mut text = Text::default();
    app.metrics.write(&mut text);
    let c = app.engine.condition();
    text.family("oo_policy_info", "gauge", "The policy in charge.");
    let version = c.generation.to_string();
    text.sample(
        "oo_policy_info",
        &[("policy", &c.policy), ("model_version", &version)],
        1.0,
    );
    for (name, help, value) in [
        (
            "oo_decisions_total",
            "Decisions since the journal began.",
            c.counts.decisions,
        ),
        (
            "oo_feedbacks_total",
            "Feedbacks accepted since the journal began.",
            c.counts.feedbacks,
        ),
        (
            "oo_feedbacks_learned_total",
            "Feedbacks learned at once.",
            c.counts.learned,
        ),
        (
            "oo_feedbacks_held_total",
            "Feedbacks held for a decision to come.",
            c.counts.held,
        ),
        (
            "oo_feedbacks_unmatched_total",
            "Held feedbacks whose decision did not come in time, or was not as they said.",
            c.counts.unmatched,
        ),
        (
            "oo_feedbacks_late_total",
            "Feedbacks after the wait window.",
            c.counts.late,
        ),
        (
            "oo_feedbacks_extra_total",
            "Feedbacks of a decision that had one.",
            c.counts.extra,
        ),
        (
            "oo_feedbacks_joined_total",
            "Feedbacks taken into a reward that is learned when its window ends.",
            c.counts.joined,
        ),
        ("oo_joined_rewards_total", "Such rewards learned.", c.counts.aggregates),
        (
            "oo_decisions_expired_total",
            "Decisions whose window ended without feedback.",
            c.counts.expired,
        ),
        (
            "oo_default_rewards_total",
            "Default rewards learned.",
            c.counts.defaults,
        ),
        (
            "oo_updates_total",
            "Rewards that the model in charge has learned.",
            c.updates,
        ),
        (
            "oo_updates_refused_total",
            "Rewards that the model in charge refused.",
            c.refused,
        ),
    ] {
        text.counter(name, help, value as f64);
    }
    text.gauge("oo_users", "Users known.", c.users as f64);
    text.gauge(
        "oo_open_decisions",
        "Decisions inside their wait window.",
        c.open as f64,
    );
    text.gauge(
        "oo_journal_failed",
        "1 while the journal cannot be written.",
        f64::from(u8::from(c.journal.failure.is_some())),
    );
    text.gauge(
        "oo_rewards_owed",
        "Rewards that wait for the journal to be readable.",
        c.owed as f64,
    );
    text.gauge(
        "oo_engine_lock_longest_seconds",
        "The longest that anybody held the engine's lock since the start; everybody else waits meanwhile.",
        c.holds.longest.as_secs_f64(),
    );
    text.counter(
        "oo_engine_lock_long_total",
        "How often it was held for more than 5 ms.",
        c.holds.long as f64,
    );
    text.gauge(
        "oo_policy_works_aside",
        "1 while the policy in charge works at something that takes long, such as an estimate, and answers without it.",
        f64::from(u8::from(c.aside)),
    );
    app.rollout.write(&mut text);
    Ok(with_type(text.finish(), "text/plain; version=0.0.4"))
}
