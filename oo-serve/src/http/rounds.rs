//! From a request's words to a round's numbers: features by position, by name, or from the fields of a task by the very
//! code that the simulator uses.

use super::contract::{Candidate, Context, Features, ProfileBody, When};
use super::moment::moment;
use super::problem::Problem;
use crate::engine::ask::identity;
use oo_core::tips::{Moment, Profile, Task};
use oo_core::{Shape, features};
use std::sync::LazyLock;

/// Longest effort that means anything: a year.
const MAX_MINUTES: f64 = 525_600.0;

/// What the features of tips need besides the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around {
    /// The server's time, milliseconds since 1970.
    pub now_ms: u64,
    /// Minutes that the person's clock is ahead of UTC, where the request does not say.
    pub ahead: i32,
    /// Aggregates of the person by the signal source, where the request does not say; all unknown without a source.
    pub profile: ProfileBody,
}

/// A round's numbers.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Numbers {
    /// As many as the shape has.
    pub context: Vec<f32>,
    /// `n × dim`, row-major.
    pub features: Vec<f32>,
}

/// True where features can be made of the fields of a task.
pub fn is_tips(shape: &Shape) -> bool {
    static TIPS: LazyLock<Shape> = LazyLock::new(features::shape);
    *shape == *TIPS
}

/// The numbers of a request.
///
/// # Errors
/// A 422 that names the field.
pub fn numbers(
    shape: &Shape,
    context: Option<&Context<'_>>,
    candidates: &[Candidate<'_>],
    around: &Around,
) -> Result<Numbers, Problem> {
    let mut out = Numbers {
        context: Vec::with_capacity(shape.context.len()),
        features: Vec::with_capacity(shape.candidate.len() * candidates.len()),
    };
    let tips = is_tips(shape);
    let given = context.and_then(|c| c.features.as_ref());
    let person = Person::new(context, around);
    match given {
        Some(features) => place(features, &shape.context, &|| "context".into(), &mut out.context)?,
        None if tips => {
            let profile = profile(&person.profile)?;
            features::context_into(person.now, &profile, &mut out.context);
        }
        None if shape.context.is_empty() => {}
        None => {
            let expected = listed(&shape.context);
            return Err(Problem::field("context", format!("missing; expected {expected}")));
        }
    }
    for (i, candidate) in candidates.iter().enumerate() {
        check(candidate, i)?;
        match &candidate.features {
            Some(features) => {
                let field = || format!("candidates[{i}].features");
                place(features, &shape.candidate, &field, &mut out.features)?;
            }
            None if tips => {
                let (task, shown) = person.task(candidate, i)?;
                features::candidate_into(&task, person.now, shown, &out.context, &mut out.features);
            }
            None if shape.candidate.is_empty() => {}
            None => {
                let expected = listed(&shape.candidate);
                let field = format!("candidates[{i}].features");
                return Err(Problem::field(field, format!("missing; expected {expected}")));
            }
        }
    }
    Ok(out)
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(6).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > 6 { ", …" } else { "" };
    format!("{} numbers: {shown}{more}", names.len())
}

/// Fields that are checked whether or not they become features.
fn check(c: &Candidate<'_>, i: usize) -> Result<(), Problem> {
    let refuse = |field: &str, expected: &str, got: f64| {
        let detail = format!("expected {expected}, got {got}");
        Err(Problem::field(format!("candidates[{i}].{field}"), detail))
    };
    match c {
        Candidate {
            confidence: Some(x), ..
        } if !(0.0..=1.0).contains(x) => refuse("confidence", "0 to 1", *x),
        Candidate { priority: Some(p), .. } if !(1..=4).contains(p) => refuse("priority", "1 to 4", f64::from(*p)),
        Candidate {
            effort_minutes: Some(x),
            ..
        } if !(0.0..=MAX_MINUTES).contains(x) => refuse("effort_minutes", "0 to 525600", *x),
        Candidate {
            shown_recently: Some(x),
            ..
        } if !(0.0..=1e6).contains(x) => refuse("shown_recently", "a number of at least 0", *x),
        _ => Ok(()),
    }
}

/// Appends the numbers of `features` in the order of `names`.
fn place(
    features: &Features<'_>,
    names: &[String],
    field: &dyn Fn() -> String,
    out: &mut Vec<f32>,
) -> Result<(), Problem> {
    let start = out.len();
    match features {
        Features::Positional(values) => {
            if values.len() != names.len() {
                let detail = format!("expected {}, got {} numbers", listed(names), values.len());
                return Err(Problem::field(field(), detail));
            }
            out.extend(values.iter().map(|v| *v as f32));
        }
        Features::Named(values) => {
            out.resize(start + names.len(), f32::NAN);
            let row = &mut out[start..];
            for (i, (name, value)) in values.iter().enumerate() {
                // Most callers keep the order.
                let at = match names.get(i) {
                    Some(n) if **n == **name => i,
                    _ => match names.iter().position(|n| **n == **name) {
                        Some(at) => at,
                        None => {
                            let detail = format!("unknown feature; expected {}", listed(names));
                            return Err(Problem::field(format!("{}.{}", field(), cut(name)), detail));
                        }
                    },
                };
                let number = *value as f32;
                if !number.is_finite() {
                    return Err(infinite(format!("{}.{}", field(), cut(name)), *value));
                }
                if !row[at].is_nan() {
                    return Err(Problem::field(format!("{}.{}", field(), cut(name)), "named twice"));
                }
                row[at] = number;
            }
            if let Some(at) = row.iter().position(|v| v.is_nan()) {
                let detail = format!("missing; expected {}", listed(names));
                return Err(Problem::field(format!("{}.{}", field(), names[at]), detail));
            }
        }
    }
    match out[start..].iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(infinite(format!("{}[{at}]", field()), f64::from(out[start + at]))),
    }
}

fn cut(name: &str) -> String {
    name.chars().take(60).collect()
}

fn infinite(field: String, value: f64) -> Problem {
    Problem::field(field, format!("expected a number within ±3.4e38, got {value}"))
}

/// The person whose round it is.
struct Person {
    now: Moment,
    ahead: i32,
    profile: ProfileBody,
}

impl Person {
    fn new(context: Option<&Context<'_>>, around: &Around) -> Person {
        let server = When {
            local_ms: around.now_ms as i64 + i64::from(around.ahead) * 60_000,
            offset: Some(around.ahead),
        };
        let now = context.and_then(|c| c.now).unwrap_or(server);
        Person {
            now: moment(now.local_ms),
            ahead: now.offset.unwrap_or(around.ahead),
            profile: context.and_then(|c| c.profile).unwrap_or(around.profile),
        }
    }

    /// By the person's clock.
    fn moment(&self, when: When) -> Moment {
        let local = when.local_ms + i64::from(self.ahead - when.offset.unwrap_or(self.ahead)) * 60_000;
        moment(local)
    }

    fn task(&self, c: &Candidate<'_>, i: usize) -> Result<(Task, f64), Problem> {
        let task = Task {
            id: identity(&c.id),
            priority: c.priority.unwrap_or(1),
            created: c.created.map_or(self.now, |w| self.moment(w)),
            due: c.due.map(|w| self.moment(w)),
            effort_minutes: c.effort_minutes.unwrap_or(30.0),
            recurs_days: None,
        };
        if task.created > self.now {
            let detail = "lies after `context.now`; expected a moment that has been";
            return Err(Problem::field(format!("candidates[{i}].created"), detail));
        }
        Ok((task, c.shown_recently.unwrap_or(0.0)))
    }
}

fn profile(p: &ProfileBody) -> Result<Profile, Problem> {
    for (name, value, most) in [
        ("completion_rate_30d", p.completion_rate_30d, 1.0),
        ("dismiss_rate_30d", p.dismiss_rate_30d, 1.0),
        ("mean_dwell_ms_30d", p.mean_dwell_ms_30d, 1e12),
        ("preferred_hour", p.preferred_hour, 24.0),
        ("tip_volume_30d", p.tip_volume_30d, 1e9),
    ] {
        if let Some(value) = value
            && !(0.0..=most).contains(&value)
        {
            let detail = format!("expected 0 to {most}, got {value}");
            return Err(Problem::field(format!("context.profile.{name}"), detail));
        }
    }
    Ok(Profile {
        completion_rate_30d: p.completion_rate_30d,
        dismiss_rate_30d: p.dismiss_rate_30d,
        mean_dwell_ms_30d: p.mean_dwell_ms_30d,
        preferred_hour: p.preferred_hour,
        tip_volume_30d: p.tip_volume_30d,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::contract::RecommendRequest;
    use crate::http::problem::parse;

    fn shape() -> Shape {
        Shape {
            context: vec!["hour".into()],
            candidate: vec!["a".into(), "b".into()],
            actions: None,
        }
    }

    fn made(shape: &Shape, body: &str) -> Result<Numbers, Problem> {
        let request: RecommendRequest<'_> = parse(body.as_bytes())?;
        let candidates = request.candidates.unwrap_or_default();
        numbers(shape, request.context.as_ref(), &candidates, &Around::default())
    }

    #[test]
    fn by_position_and_by_name_are_the_same() {
        let position = made(
            &shape(),
            r#"{"user_id":1,"context":[5],"candidates":[{"id":"x","features":[1,2.5]}]}"#,
        );
        let name = made(
            &shape(),
            r#"{"user_id":1,"context":{"hour":5},"candidates":[{"id":"x","features":{"b":2.5,"a":1}}]}"#,
        );
        let want = Numbers {
            context: vec![5.0],
            features: vec![1.0, 2.5],
        };
        assert_eq!((position.unwrap(), name.unwrap()), (want.clone(), want));
    }

    #[test]
    fn refusals_name_the_field() {
        for (body, field) in [
            (r#"{"user_id":1,"candidates":[{"id":"x","features":[1,2]}]}"#, "context"),
            (r#"{"user_id":1,"context":[1,2],"candidates":[]}"#, "context"),
            (
                r#"{"user_id":1,"context":[1],"candidates":[{"id":"x","features":[1]}]}"#,
                "candidates[0].features",
            ),
            (
                r#"{"user_id":1,"context":[1],"candidates":[{"id":"x","features":[1,1e39]}]}"#,
                "candidates[0].features[1]",
            ),
            (
                r#"{"user_id":1,"context":[1],"candidates":[{"id":"x"}]}"#,
                "candidates[0].features",
            ),
            (
                r#"{"user_id":1,"context":[1],"candidates":[{"id":"x","features":{"a":1}}]}"#,
                "candidates[0].features.b",
            ),
            (
                r#"{"user_id":1,"context":[1],"candidates":[{"id":"x","features":{"a":1,"c":1}}]}"#,
                "candidates[0].features.c",
            ),
            (
                r#"{"user_id":1,"context":[1],"candidates":[{"id":"x","features":{"a":1,"a":1}}]}"#,
                "candidates[0].features.a",
            ),
            (
                r#"{"user_id":1,"context":[1],"candidates":[{"id":"x","priority":9,"features":[1,2]}]}"#,
                "candidates[0].priority",
            ),
        ] {
            assert_eq!(
                made(&shape(), body).unwrap_err().field.as_deref(),
                Some(field),
                "{body}"
            );
        }
    }

    #[test]
    fn the_fields_of_a_task_give_the_simulators_features() {
        let body = r#"{"user_id":1,"context":{"now":"2026-11-24T09:00:00+01:00","profile":{"preferred_hour":9}},
            "candidates":[{"id":"x","priority":4,"created":"2026-11-14T08:00:00Z","due":"2026-11-24T20:00","effort_minutes":15}]}"#;
        let got = made(&features::shape(), body).unwrap();
        let now = moment(When::parse("2026-11-24T09:00").unwrap().local_ms);
        let task = Task {
            id: 0,
            priority: 4,
            created: Moment(now.0 - 10 * 1440),
            due: Some(Moment(now.0 + 11 * 60)),
            effort_minutes: 15.0,
            recurs_days: None,
        };
        let mut want = Numbers::default();
        let profile = Profile {
            preferred_hour: Some(9.0),
            ..Profile::default()
        };
        features::context_into(now, &profile, &mut want.context);
        features::candidate_into(&task, now, 0.0, &want.context, &mut want.features);
        assert_eq!(got, want);
        assert_eq!(now.weekday(), 1);
    }
}
