//! `POST /recommend` decides and writes it down; `POST /score` only says what it would think.

use super::contract::*;
use super::problem::{Problem, Unwritten, parse};
use super::rounds::{Around, Numbers, is_tips, numbers};
use super::{Answer, App, Call, json};
use crate::config::Mode;
use crate::engine::experiment::ARMS;
use crate::engine::{self, Ask, Known, Suppressed};
use crate::rollout::Decided;
use crate::signals::{SignalError, Signals};
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, Type};

/// The strongest contributions that are told.
const TOLD: usize = 5;

/// What `POST /recommend` answers.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code)] // One of the two is written; this is what the document says.
enum Recommended<'a> {
    Decided(RecommendAnswer<'a>),
    NothingLeft(NothingLeft<'a>),
}

/// The answer where there is no candidate, or all are kept away: nothing went wrong, and nothing was decided.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NothingLeft<'a> {
    /// Always null.
    #[schema(required, schema_with = null)]
    tip: Option<Tip<'a>>,
    /// nothing_left.
    reason: &'static str,
    /// Candidates that were kept away, and why.
    #[schema(value_type = Vec<Object>)]
    suppressed: &'a [Suppressed],
}

impl<'a> NothingLeft<'a> {
    fn of(suppressed: &'a [Suppressed]) -> Self {
        NothingLeft {
            tip: None,
            reason: "nothing_left",
            suppressed,
        }
    }
}

fn null() -> Object {
    Object::with_type(Type::Null)
}

/// Decides for one person.
///
/// The answer names the tip, its probability, everybody's probability, and why. The decision is written down; tell what
/// came of it with `POST /feedback`. Tips that the person has done, dismissed or snoozed are kept away (`suppressed`); when
/// none is left, `tip` is null, `reason` is nothing_left, and no decision is made.
#[utoipa::path(post, path = "/recommend", tag = "decide", request_body = RecommendRequest<'static>,
    responses(
        (status = 200, description = "Decided, or nothing left to show", body = Recommended<'static>),
        (status = 404, description = "No candidates and no signals of this user", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field cannot be used", body = Problem, content_type = "application/problem+json"),
        Unwritten,
    ), security((), ("bearer" = [])))]
pub async fn recommend(call: Call) -> Answer {
    let request: RecommendRequest<'_> = parse(&call.body)?;
    // Sent again, it has its answer, whatever the source knows by now.
    if call.app.signals.is_some()
        && let Some(answer) = answered(&call.app, &request, hash_bytes(&call.body))?
    {
        return again(&call.app, &request, &answer);
    }
    let signals = signals(&call.app, &request).await?;
    decide(&call.app, &request, signals.as_deref(), &call.body).map_err(|p| blame(&request, p))
}

/// Candidates that are wrong are the caller's fault, or else the source's; where the caller says when it is, which of the two
/// cannot be told.
fn blame(request: &RecommendRequest<'_>, problem: Problem) -> Problem {
    let timed = request.context.as_ref().is_some_and(|c| c.now.is_some());
    match &problem.field {
        Some(field)
            if request.candidates.is_none() && !timed && (field.starts_with("candidates") || field == "note") =>
        {
            let user = &*request.user_id;
            Problem::unavailable(format!(
                "the signals of `{user}` cannot be used: {field}: {}",
                problem.detail
            ))
        }
        _ => problem,
    }
}

/// What the source knows of a person, where that is wanted: without it there are no candidates; with candidates of the caller's
/// it may still have a profile and an offset.
async fn signals(app: &Arc<App>, request: &RecommendRequest<'_>) -> Result<Option<Arc<Signals>>, Problem> {
    let settings = app.engine.settings();
    if request.candidates.is_none() {
        return from_source(app, &request.user_id).await.map(Some);
    }
    if app.signals.is_none() || !is_tips(&settings.shape) {
        return Ok(None);
    }
    match from_source(app, &request.user_id).await {
        Ok(signals) => Ok(Some(signals)),
        Err(stranger) if stranger.status == hyper::StatusCode::NOT_FOUND => Ok(None),
        Err(other) => Err(other),
    }
}

/// What was answered to the same request before.
fn answered(app: &App, request: &RecommendRequest<'_>, body: u64) -> Result<Option<engine::Answer>, Problem> {
    let before = request.decision_id.as_deref().map(|id| app.engine.answered(id, body));
    Ok(before.transpose()?.flatten())
}

async fn from_source(app: &Arc<App>, user: &str) -> Result<Arc<Signals>, Problem> {
    if app.signals.is_none() {
        let detail = "missing; the server has no signal source (--signals), so every request brings its candidates";
        return Err(Problem::field("candidates", detail));
    }
    let (app, user) = (app.clone(), user.to_string());
    // A source may block: on a disk, on a network.
    let read = tokio::task::spawn_blocking(move || match &app.signals {
        Some(source) => source.signals(&user),
        None => Ok(Arc::default()),
    });
    match read.await {
        Ok(Ok(signals)) => Ok(signals),
        Ok(Err(e @ SignalError::Unknown(_))) => Err(Problem::missing("user_id", e.to_string())),
        Ok(Err(e)) => Err(Problem::unavailable(e.to_string())),
        Err(_) => Err(Problem::unavailable("the signal source failed")),
    }
}

fn check_candidates(app: &App, candidates: &[Candidate<'_>]) -> Result<(), Problem> {
    let (n, most) = (candidates.len(), app.limits.candidates);
    if n == 0 || n > most {
        return Err(Problem::field(
            "candidates",
            format!("expected 1 to {most} candidates, got {n}"),
        ));
    }
    // Few candidates are compared, many are sorted.
    let twice = if n <= 16 {
        (1..n).find(|&i| candidates[..i].iter().any(|c| c.id == candidates[i].id))
    } else {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| candidates[a].id.cmp(&candidates[b].id).then(a.cmp(&b)));
        let pairs = order.windows(2).filter(|w| candidates[w[0]].id == candidates[w[1]].id);
        pairs.map(|w| w[1]).min()
    };
    match twice {
        None => Ok(()),
        Some(i) => {
            let shown: String = candidates[i].id.chars().take(100).collect();
            let detail = format!("`{shown}` stands there twice; expected ids that are all different");
            Err(Problem::field(format!("candidates[{i}].id"), detail))
        }
    }
}

/// A request with everything that the engine needs.
struct Prepared<'r> {
    candidates: Cow<'r, [Candidate<'r>]>,
    numbers: Numbers,
    suppressed: Vec<Suppressed>,
    /// The journal's profile, where it was used.
    known: Option<Known>,
}

fn prepare<'r>(
    app: &App,
    request: &'r RecommendRequest<'_>,
    signals: Option<&'r Signals>,
) -> Result<Prepared<'r>, Problem> {
    let mut candidates = Cow::Borrowed(candidates(request, signals));
    if candidates.is_empty() && request.candidates.is_none() {
        // A source that knows nothing to do now is no mistake of the caller's.
        return Ok(Prepared {
            candidates,
            numbers: Numbers::default(),
            suppressed: Vec::new(),
            known: None,
        });
    }
    check_candidates(app, &candidates)?;
    let settings = app.engine.settings();
    // Who decides elsewhere has decided.
    let keeps_away = settings.suppress.is_some() && app.mode == Mode::Serve;
    let profiles = settings.profile_age_ms > 0 && is_tips(&settings.shape);
    let person = match settings.rules.window_ms > 0 && (keeps_away || profiles) {
        true => app.engine.person(&request.user_id, candidates.iter().map(|c| &*c.id)),
        false => engine::Person::default(),
    };
    let known = person.known.filter(|k| k.fresh && profiles);
    let now_ms = settings.clock.wall();
    let fresh = |s: &&Signals| {
        let age = s.profile_at.map_or(0, |at| now_ms.saturating_sub(at));
        age <= settings.profile_age_ms
    };
    let around = Around {
        now_ms,
        ahead: signals.map_or(0, |s| s.utc_offset_minutes),
        profile: signals.filter(fresh).and_then(|s| s.profile).unwrap_or_default(),
        known: known.map(|k| k.profile).unwrap_or_default(),
        shown: if profiles { &person.shown } else { &[] },
    };
    // All of them are checked, those that are kept away as well.
    let mut numbers = numbers(&settings.shape, request.context.as_ref(), &candidates, &around)?;
    let mut suppressed = Vec::new();
    if keeps_away && !person.suppressed.is_empty() {
        let goes = |i: usize| person.suppressed.binary_search_by_key(&i, |(at, _)| *at).is_ok();
        numbers.drop_rows(settings.shape.candidate.len(), goes);
        let kept = candidates.iter().enumerate().filter(|(i, _)| !goes(*i));
        candidates = Cow::Owned(kept.map(|(_, c)| c.clone()).collect());
        suppressed = person.suppressed.into_iter().map(|(_, s)| s).collect();
    }
    Ok(Prepared {
        candidates,
        numbers,
        suppressed,
        known,
    })
}

fn candidates<'r>(request: &'r RecommendRequest<'_>, signals: Option<&'r Signals>) -> &'r [Candidate<'r>] {
    match (&request.candidates, signals) {
        (Some(own), _) => own,
        (None, Some(signals)) => &signals.candidates,
        (None, None) => &[],
    }
}

fn decide(app: &App, request: &RecommendRequest<'_>, signals: Option<&Signals>, body: &[u8]) -> Answer {
    let prepared = prepare(app, request, signals)?;
    let Prepared {
        candidates,
        numbers,
        suppressed,
        ..
    } = &prepared;
    let body = hash_bytes(body);
    if candidates.is_empty() {
        // What was decided before the last tip went is still what was decided.
        return match answered(app, request, body)? {
            Some(answer) => again(app, request, &answer),
            None => json(&NothingLeft::of(suppressed)),
        };
    }
    let ids: Vec<&str> = candidates.iter().map(|c| &*c.id).collect();
    let note = note(candidates);
    let index = match app.replay {
        None => None,
        Some(_) => Some(round_number(request)?),
    };
    let ask = Ask {
        user: &request.user_id,
        index,
        key: app.replay.zip(index).map(|(key, index)| key.fold(index)),
        decision_id: request.decision_id.as_deref(),
        context: &numbers.context,
        ids: &ids,
        features: &numbers.features,
        note: &note,
        // The numbers may depend on the clock; the body does not.
        body: Some(body),
        ahead: numbers.ahead,
        suppressed,
        ..Ask::default()
    };
    let decided = app.rollout.decide(app, &ask)?;
    if decided.answer.repeated {
        return again(app, request, &decided.answer);
    }
    tell(app, request, &prepared, &decided)
}

fn round_number(request: &RecommendRequest<'_>) -> Result<u64, Problem> {
    let number = request.decision_id.as_deref().and_then(|id| id.parse().ok());
    number.ok_or_else(|| Problem::field("decision_id", "expected the number of the simulator's round (--replay)"))
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    let low = crc32c::crc32c(bytes);
    u64::from(crc32c::crc32c_append(!low, bytes)) << 32 | u64::from(low)
}

/// What is kept of the texts: the tips as they would be shown, where there is any text at all.
fn note(candidates: &[Candidate<'_>]) -> Vec<u8> {
    let bare = |c: &Candidate<'_>| {
        let texts = [
            &c.kind,
            &c.content,
            &c.source,
            &c.rationale,
            &c.model,
            &c.prompt_version,
        ];
        texts.iter().all(|t| t.is_none()) && c.task_id.is_none() && c.confidence.is_none()
    };
    if candidates.iter().all(bare) {
        return Vec::new();
    }
    let tips: Vec<Tip<'_>> = candidates.iter().map(Tip::of).collect();
    let mut note = Vec::with_capacity(128 * tips.len());
    match serde_json::to_writer(&mut note, &tips) {
        Ok(()) => note,
        Err(_) => Vec::new(),
    }
}

fn best(scores: &[f64]) -> usize {
    (0..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
}

/// The likeliest first, then the better scored, then as they came.
fn ranking<'r>(ids: impl Iterator<Item = &'r str>, probs: &[f64], scores: &[f64], n: Option<u32>) -> Vec<Ranked<'r>> {
    let mut rows: Vec<Ranked<'r>> = ids
        .zip(probs.iter().zip(scores))
        .map(|(id, (&probability, &score))| Ranked { id, probability, score })
        .collect();
    rows.sort_by(|a, b| {
        b.probability
            .total_cmp(&a.probability)
            .then(b.score.total_cmp(&a.score))
    });
    rows.truncate(n.map_or(usize::MAX, |n| n as usize));
    rows
}

fn tell(app: &App, request: &RecommendRequest<'_>, prepared: &Prepared<'_>, decided: &Decided) -> Answer {
    let (candidates, numbers) = (&prepared.candidates, &prepared.numbers);
    let answer = &decided.answer;
    let chosen = answer.chosen;
    let shape = &app.engine.settings().shape;
    let dim = shape.candidate.len();
    let row = &numbers.features[chosen * dim..(chosen + 1) * dim];
    let contributions = (!decided.contributions.is_empty()).then(|| {
        let mut parts: Vec<&(usize, f64)> = decided.contributions.iter().filter(|(_, c)| *c != 0.0).collect();
        parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        let context = shape.context.len();
        let told = parts.iter().take(TOLD).map(|&&(i, contribution)| {
            let (feature, value) = match i.checked_sub(context) {
                None => (&shape.context[i], numbers.context[i]),
                Some(j) => (&shape.candidate[j], row[j]),
            };
            Contribution {
                feature,
                value,
                contribution,
            }
        });
        told.collect()
    });
    app.rollout.watch(answer, &numbers.context, row);
    json(&RecommendAnswer {
        tip: Tip::of(&candidates[chosen]),
        decision_id: &answer.decision_id,
        policy: &answer.policy,
        model_version: answer.generation,
        updates: answer.updates,
        propensity: answer.propensity(),
        ranking: ranking(
            candidates.iter().map(|c| &*c.id),
            &answer.probs,
            &answer.scores,
            request.n,
        ),
        reason: reason(answer.reason),
        method: answer.method.name(),
        explanation: Explanation {
            explored: answer.scores[chosen] < answer.scores[best(&answer.scores)],
            contributions,
        },
        arm: decided.arm(),
        suppressed: &prepared.suppressed,
        profile_age_ms: prepared.known.map(|k| k.age_ms),
        repeated: false,
    })
}

/// The same answer from the journal: what the request says now of texts and times may have changed.
fn again(app: &App, request: &RecommendRequest<'_>, answer: &engine::Answer) -> Answer {
    let logged = app.engine.decision(&answer.decision_id)?;
    let tips: Vec<serde_json::Value> = serde_json::from_slice(&logged.note).unwrap_or_default();
    let chosen = answer.chosen;
    let tip = tips
        .into_iter()
        .nth(chosen)
        .unwrap_or_else(|| json!({"id": logged.ids[chosen]}));
    let ranking = ranking(
        logged.ids.iter().map(String::as_str),
        &answer.probs,
        &answer.scores,
        request.n,
    );
    json(&json!({
        "tip": tip,
        "decision_id": answer.decision_id,
        "policy": &*answer.policy,
        "model_version": answer.generation,
        "updates": answer.updates,
        "propensity": answer.propensity(),
        "ranking": ranking,
        "reason": reason(answer.reason),
        "method": answer.method.name(),
        "explanation": {"explored": answer.scores[chosen] < answer.scores[best(&answer.scores)]},
        "arm": logged.arm.map(|arm| ARMS[usize::from(arm.position)]),
        "suppressed": logged.suppressed,
        "repeated": true,
    }))
}

/// Scores the candidates and decides nothing: no draw, no record.
#[utoipa::path(post, path = "/score", tag = "decide", request_body = RecommendRequest<'static>,
    responses(
        (status = 200, description = "{tip_id, score, policy, ranking}: the best candidate and everybody's score"),
        (status = 404, description = "No candidates and no signals of this user", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field cannot be used", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The signals or the model cannot be read now", body = Problem, content_type = "application/problem+json"),
    ), security((), ("bearer" = [])))]
pub async fn score(call: Call) -> Answer {
    let request: RecommendRequest<'_> = parse(&call.body)?;
    let app = &call.app;
    let signals = signals(app, &request).await?;
    let Prepared {
        candidates,
        numbers,
        suppressed,
        ..
    } = prepare(app, &request, signals.as_deref()).map_err(|p| blame(&request, p))?;
    if candidates.is_empty() {
        return json(&json!({"tip_id": null, "reason": "nothing_left", "suppressed": suppressed}));
    }
    let ids: Vec<&str> = candidates.iter().map(|c| &*c.id).collect();
    let proposed = app.engine.propose(&Ask {
        user: &request.user_id,
        context: &numbers.context,
        ids: &ids,
        features: &numbers.features,
        ..Ask::default()
    });
    let answer = proposed.map_err(|e| blame(&request, e.into()))?;
    let best = best(&answer.scores);
    json(&json!({
        "tip_id": ids[best],
        "score": answer.scores[best],
        "policy": &*answer.policy,
        "model_version": answer.generation,
        "updates": answer.updates,
        "reason": reason(answer.reason),
        "ranking": ranking(ids.iter().copied(), &answer.probs, &answer.scores, request.n),
        "suppressed": suppressed,
    }))
}
