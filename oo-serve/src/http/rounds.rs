//! From a request's words to a round's numbers: features by position, by name, or from the fields of a task by the very
//! code that the simulator uses.

use super::contract::{Candidate, Context, Features, ProfileBody, When};
use super::problem::Problem;
use crate::engine::ask::identity;
use oo_core::tips::{Moment, Profile, Task};
use oo_core::{Shape, features};
use std::sync::LazyLock;

/// Longest effort that means anything: a year.
const MAX_MINUTES: f64 = 525_600.0;

/// What the features of tips need besides the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'a> {
    /// The server's time, milliseconds since 1970.
    pub now_ms: u64,
    /// Minutes that the person's clock is ahead of UTC, where the request does not say.
    pub ahead: i32,
    /// Aggregates of the person by the signal source, where the request does not say.
    pub profile: ProfileBody,
    /// The same by the journal, where neither says.
    pub known: Profile,
    /// Showings of each candidate by the journal, where the request does not say; 0 beyond its end.
    pub shown: &'a [f64],
}

/// A round's numbers.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Numbers {
    /// As many as the shape has.
    pub context: Vec<f32>,
    /// `n × dim`, row-major.
    pub features: Vec<f32>,
    /// Minutes that the person's clock is ahead of UTC.
    pub ahead: i16,
}

impl Numbers {
    /// Drops the rows of candidates that `goes` names.
    pub fn drop_rows(&mut self, dim: usize, goes: impl Fn(usize) -> bool) {
        let rows = self.features.len().checked_div(dim).unwrap_or(0);
        let mut kept = 0;
        for i in (0..rows).filter(|i| !goes(*i)) {
            self.features.copy_within(i * dim..(i + 1) * dim, kept * dim);
            kept += 1;
        }
        self.features.truncate(kept * dim);
    }
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
    around: &Around<'_>,
) -> Result<Numbers, Problem> {
    let tips = is_tips(shape);
    let given = context.and_then(|c| c.features.as_ref());
    let person = Person::new(context, around);
    let mut out = Numbers {
        context: Vec::with_capacity(shape.context.len()),
        features: Vec::with_capacity(shape.candidate.len() * candidates.len()),
        ahead: person.ahead.clamp(-1440, 1440) as i16,
    };
    match given {
        Some(features) => place(features, &shape.context, &|| "context".into(), &mut out.context)?,
        None if tips => {
            let given = context.and_then(|c| c.profile).unwrap_or_default();
            let profile = profile(&given, around)?;
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
                let task = person.task(candidate, i)?;
                let counted = around.shown.get(i).copied().unwrap_or(0.0);
                let shown = candidate.shown_recently.unwrap_or(counted);
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
}

/// How far a person's clock is ahead of UTC, where its time is told without an offset: all zones are whole quarters of an
/// hour. A time that is no time of today says nothing.
fn ahead_by(local_ms: i64, now_ms: u64) -> Option<i32> {
    const QUARTER: i64 = 15 * 60_000;
    let quarters = (local_ms - now_ms as i64 + QUARTER / 2).div_euclid(QUARTER);
    // A time thousands of years away is more quarters than fit.
    (quarters.abs() <= 14 * 4).then(|| quarters as i32 * 15)
}

impl Person {
    fn new(context: Option<&Context<'_>>, around: &Around<'_>) -> Person {
        let server = When {
            local_ms: around.now_ms as i64 + i64::from(around.ahead) * 60_000,
            offset: Some(around.ahead),
        };
        let now = context.and_then(|c| c.now).unwrap_or(server);
        Person {
            now: Moment::from_unix_ms(now.local_ms),
            ahead: match now.offset {
                Some(offset) => offset,
                None if around.ahead != 0 => around.ahead,
                None => ahead_by(now.local_ms, around.now_ms).unwrap_or(0),
            },
        }
    }

    /// By the person's clock.
    fn moment(&self, when: When) -> Moment {
        let local = when.local_ms + i64::from(self.ahead - when.offset.unwrap_or(self.ahead)) * 60_000;
        Moment::from_unix_ms(local)
    }

    fn task(&self, c: &Candidate<'_>, i: usize) -> Result<Task, Problem> {
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
        Ok(task)
    }
}

/// What each number may be; else its name, and what was expected and came.
pub(crate) fn check_profile(p: &ProfileBody) -> Result<(), (&'static str, String)> {
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
            return Err((name, format!("expected 0 to {most}, got {value}")));
        }
    }
    Ok(())
}

/// The request's word goes over the signal source's, and that over the journal's, number by number.
fn profile(given: &ProfileBody, around: &Around<'_>) -> Result<Profile, Problem> {
    let (source, known) = (&around.profile, &around.known);
    let p = ProfileBody {
        completion_rate_30d: given.completion_rate_30d.or(source.completion_rate_30d),
        dismiss_rate_30d: given.dismiss_rate_30d.or(source.dismiss_rate_30d),
        mean_dwell_ms_30d: given.mean_dwell_ms_30d.or(source.mean_dwell_ms_30d),
        preferred_hour: given.preferred_hour.or(source.preferred_hour),
        tip_volume_30d: given.tip_volume_30d.or(source.tip_volume_30d),
    };
    check_profile(&p).map_err(|(name, detail)| Problem::field(format!("context.profile.{name}"), detail))?;
    Ok(Profile {
        completion_rate_30d: p.completion_rate_30d.or(known.completion_rate_30d),
        dismiss_rate_30d: p.dismiss_rate_30d.or(known.dismiss_rate_30d),
        mean_dwell_ms_30d: p.mean_dwell_ms_30d.or(known.mean_dwell_ms_30d),
        preferred_hour: p.preferred_hour.or(known.preferred_hour),
        tip_volume_30d: p.tip_volume_30d.or(known.tip_volume_30d),
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
            ahead: 0,
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
        let now = Moment::from_unix_ms(When::parse("2026-11-24T09:00").unwrap().local_ms);
        let task = Task {
            id: 0,
            priority: 4,
            created: Moment(now.0 - 10 * 1440),
            due: Some(Moment(now.0 + 11 * 60)),
            effort_minutes: 15.0,
            recurs_days: None,
        };
        let mut want = Numbers {
            ahead: 60,
            ..Numbers::default()
        };
        let profile = Profile {
            preferred_hour: Some(9.0),
            ..Profile::default()
        };
        features::context_into(now, &profile, &mut want.context);
        features::candidate_into(&task, now, 0.0, &want.context, &mut want.features);
        assert_eq!(got, want);
        assert_eq!(now.weekday(), 1);
    }

    /// Request over source over journal, number by number; the journal's showings where the request has none.
    #[test]
    fn the_callers_word_goes_first() {
        let body = r#"{"user_id":1,"context":{"now":"2026-11-24T09:00","profile":{"preferred_hour":9}},
            "candidates":[{"id":"x","shown_recently":3},{"id":"y"}]}"#;
        let request: RecommendRequest<'_> = parse(body.as_bytes()).unwrap();
        let known = Profile {
            completion_rate_30d: Some(0.25),
            preferred_hour: Some(21.0),
            tip_volume_30d: Some(9.0),
            ..Profile::default()
        };
        let around = Around {
            now_ms: When::parse("2026-11-24T03:31").unwrap().local_ms as u64,
            profile: ProfileBody {
                tip_volume_30d: Some(99.0),
                ..ProfileBody::default()
            },
            known,
            shown: &[1.5, 1.5],
            ..Around::default()
        };
        let candidates = request.candidates.unwrap();
        let got = numbers(&features::shape(), request.context.as_ref(), &candidates, &around).unwrap();
        // 5 h 29 min ahead, to the next quarter.
        assert_eq!(got.ahead, 330);
        let at = |name: &str| features::CONTEXT.iter().position(|n| *n == name).unwrap();
        assert_eq!(got.context[at("completion_rate_30d")], 0.25);
        assert_eq!(got.context[at("preferred_hour_alignment")], 1.0);
        assert_eq!(
            got.context[at("tip_volume_30d")],
            (libm::log1p(99.0) / libm::log1p(100.0)) as f32
        );
        let dim = features::shape().candidate.len();
        assert_eq!((got.features[5], got.features[dim + 5]), (1.0, 0.5));
        let mut fewer = got.clone();
        fewer.drop_rows(dim, |i| i == 0);
        assert_eq!(fewer.features, got.features[dim..]);
        assert_eq!(ahead_by(0, 1_795_509_000_000), None);
    }
}
