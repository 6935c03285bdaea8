//! Features of the tips world, every dimension named.
//!
//! An environment computes all of them once; a policy's [`Columns`] take those of its [`FeatureSpec`]. The specs
//! v0 (5), v1 (7) and v2 (12) are the original system's, dimension by dimension. In them only `is_overdue`,
//! `task_age` and `priority` differ between the candidates of one decision, so a linear policy's greedy choice
//! depends on nothing else; v3 (40) adds what candidates have of their own and the products of candidate and
//! context features, which can say "urgent things in the morning".

mod columns;

pub use columns::Columns;

use crate::tips::{Moment, Profile, Task};
use crate::{Error, Result, Shape};
use std::f64::consts::TAU;

/// Features that all candidates of a decision share.
pub const CONTEXT: [&str; 9] = [
    "hour_sin",
    "hour_cos",
    "dow_sin",
    "dow_cos",
    "completion_rate_30d",
    "dismiss_rate_30d",
    "mean_dwell_30d",
    "preferred_hour_alignment",
    "tip_volume_30d",
];

/// Features of a candidate itself.
pub const CANDIDATE: [&str; 6] = [
    "is_overdue",
    "task_age",
    "priority",
    "due_soon",
    "effort",
    "recently_shown",
];

/// Positions in [`CANDIDATE`] and [`CONTEXT`] whose products v3 adds.
const CROSSED: ([usize; 5], [usize; 5]) = ([0, 1, 2, 3, 4], [0, 1, 2, 3, 7]);

/// A version of the feature vector: an ordered list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureSpec {
    /// v0, v1, v2 or v3.
    pub name: &'static str,
    /// One name a dimension.
    pub names: Vec<String>,
}

impl FeatureSpec {
    /// The names of all specs.
    pub const ALL: [&'static str; 4] = ["v0", "v1", "v2", "v3"];

    /// Finds a spec.
    ///
    /// # Errors
    /// [`Error::Unknown`] lists what exists.
    pub fn named(name: &str) -> Result<FeatureSpec> {
        let base = ["hour_sin", "hour_cos", "is_overdue", "task_age", "priority"];
        let week = ["dow_sin", "dow_cos"];
        let (v3, own) = (crossed_names(), CANDIDATE[3..].to_vec());
        let groups: &[&[&str]] = &[&base, &week, &CONTEXT[4..], &own];
        let (name, used) = match name {
            "v0" => ("v0", 1),
            "v1" => ("v1", 2),
            "v2" => ("v2", 3),
            "v3" => ("v3", 4),
            _ => {
                return Err(Error::Unknown {
                    kind: "feature spec".into(),
                    name: name.into(),
                    known: ["all"].iter().chain(&Self::ALL).map(ToString::to_string).collect(),
                });
            }
        };
        let mut names: Vec<String> = groups[..used]
            .iter()
            .flat_map(|g| g.iter())
            .map(ToString::to_string)
            .collect();
        if used == 4 {
            names.extend(v3);
        }
        Ok(FeatureSpec { name, names })
    }
}

fn crossed_names() -> Vec<String> {
    let (rows, columns) = CROSSED;
    rows.iter()
        .flat_map(|&r| columns.iter().map(move |&c| format!("{}*{}", CANDIDATE[r], CONTEXT[c])))
        .collect()
}

/// The names of what [`candidate_into`] appends.
pub fn candidate_names() -> Vec<String> {
    CANDIDATE
        .iter()
        .map(ToString::to_string)
        .chain(crossed_names())
        .collect()
}

/// The shape of every environment that offers these features.
pub fn shape() -> Shape {
    Shape {
        context: CONTEXT.iter().map(ToString::to_string).collect(),
        candidate: candidate_names(),
        actions: None,
    }
}

/// Appends the context features, 9 of them. A profile feature without history takes its null value: 0, and 0.5
/// for the alignment.
pub fn context_into(now: Moment, profile: &Profile, out: &mut Vec<f32>) {
    let hour = TAU * now.hour() / 24.0;
    let day = TAU * now.weekday() as f64 / 7.0;
    let alignment = profile
        .preferred_hour
        .map_or(0.5, |p| (libm::cos(TAU * (p - now.hour()) / 24.0) + 1.0) / 2.0);
    let volume = profile
        .tip_volume_30d
        .map_or(0.0, |n| libm::log1p(n) / libm::log1p(100.0));
    out.extend(
        [
            libm::sin(hour),
            libm::cos(hour),
            libm::sin(day),
            libm::cos(day),
            profile.completion_rate_30d.unwrap_or(0.0),
            profile.dismiss_rate_30d.unwrap_or(0.0),
            profile
                .mean_dwell_ms_30d
                .map_or(0.0, |d| (d / 600_000.0).clamp(0.0, 1.0)),
            alignment,
            volume.clamp(0.0, 1.0),
        ]
        .map(|v| v as f32),
    );
}

/// Appends the candidate features, 31 of them: six of its own and 25 products. `context` is what
/// [`context_into`] gave for this moment.
pub fn candidate_into(task: &Task, now: Moment, shown_recently: f64, context: &[f32], out: &mut Vec<f32>) {
    let until_due = task.due.map_or(f64::INFINITY, |due| due.0 as f64 - now.0 as f64) / 60.0;
    let own = [
        f64::from(u8::from(task.is_overdue(now))),
        (task.age_days(now) / 30.0).clamp(0.0, 1.0),
        f64::from(task.priority.clamp(1, 4) - 1) / 3.0,
        if until_due >= 0.0 {
            libm::exp(-until_due / 24.0)
        } else {
            0.0
        },
        (libm::log1p(task.effort_minutes) / libm::log1p(240.0)).clamp(0.0, 1.0),
        (shown_recently / 3.0).clamp(0.0, 1.0),
    ]
    .map(|v| v as f32);
    out.extend(own);
    let (rows, columns) = CROSSED;
    for r in rows {
        out.extend(columns.map(|c| own[r] * context[c]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActionId, Candidates, Key, Round, UserId};

    #[test]
    fn dimensions_are_the_originals_and_named_once() {
        for (name, dim) in [("v0", 5), ("v1", 7), ("v2", 12), ("v3", 40)] {
            let mut names = FeatureSpec::named(name).unwrap().names;
            assert_eq!(names.len(), dim);
            names.sort();
            names.dedup();
            assert_eq!(names.len(), dim, "{name} repeats a name");
        }
        let v2 = FeatureSpec::named("v2").unwrap().names;
        assert_eq!(
            (v2[2].as_str(), v2[5].as_str(), v2[7].as_str()),
            ("is_overdue", "dow_sin", "completion_rate_30d")
        );
        assert_eq!(v2[10], "preferred_hour_alignment");
        assert_eq!(shape().context.len() + shape().candidate.len(), 40);
    }

    #[test]
    fn null_policies() {
        let mut context = Vec::new();
        context_into(Moment(12 * 60), &Profile::default(), &mut context);
        assert_eq!(&context[4..], &[0.0, 0.0, 0.0, 0.5, 0.0]);
        assert!((context[1] + 1.0).abs() < 1e-6, "noon is the bottom of the cosine");
    }

    fn task(id: u64, priority: u8, effort: f64) -> Task {
        Task {
            id,
            priority,
            created: Moment(0),
            due: Some(Moment(5000 * id)),
            effort_minutes: effort,
            recurs_days: None,
        }
    }

    /// The greedy choice under `theta` among four tasks at `now`, with the features of `spec`.
    fn greedy(spec: &str, theta: &[f64], now: Moment) -> usize {
        let tasks = [task(1, 4, 90.0), task(2, 1, 5.0), task(3, 2, 30.0), task(4, 3, 15.0)];
        let (mut context, mut features) = (Vec::new(), Vec::new());
        context_into(now, &Profile::default(), &mut context);
        tasks
            .iter()
            .for_each(|t| candidate_into(t, now, 0.0, &context, &mut features));
        let ids: Vec<ActionId> = tasks.iter().map(|t| ActionId(t.id)).collect();
        let round = Round {
            index: 0,
            user: UserId(0),
            context: &context,
            candidates: Candidates {
                ids: &ids,
                features: &features,
                dim: 31,
            },
        };
        let columns = Columns::new("test", &shape(), spec).unwrap();
        let mut row = vec![0.0; columns.dim()];
        let score = |i| {
            columns.gather(&round, i, &mut row);
            row.iter().zip(theta).map(|(x, t)| x * t).sum::<f64>()
        };
        let scores: Vec<f64> = (0..4).map(score).collect();
        (0..4).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
    }

    #[test]
    fn constant_dimensions_cannot_change_a_linear_choice() {
        let now = Moment(9 * 60 + 3 * 1440);
        let names = FeatureSpec::named("v2").unwrap().names;
        for seed in 0..200 {
            let mut draws = Key::root(seed).draws();
            let theta: Vec<f64> = names.iter().map(|_| draws.normal()).collect();
            let mut bent = theta.clone();
            for (t, name) in bent.iter_mut().zip(&names) {
                if CONTEXT.contains(&name.as_str()) {
                    *t += 3.0 * draws.normal();
                }
            }
            assert_eq!(greedy("v2", &theta, now), greedy("v2", &bent, now));
        }
    }

    #[test]
    fn interactions_can() {
        // Weight on priority × hour_sin alone: urgent in the morning (sine 1 at 6), low priority in the evening.
        let names = FeatureSpec::named("v3").unwrap().names;
        let theta: Vec<f64> = names
            .iter()
            .map(|n| f64::from(u8::from(n == "priority*hour_sin")))
            .collect();
        assert_eq!(
            (
                greedy("v3", &theta, Moment(6 * 60)),
                greedy("v3", &theta, Moment(18 * 60))
            ),
            (0, 1)
        );
    }
}
