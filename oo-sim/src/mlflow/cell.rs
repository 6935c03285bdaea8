//! A cell as a run: what it was given, its learning curve, its file.

use super::COMPARISON;
use super::facts::{self, Texts};
use crate::experiment::Plan;
use crate::runner::{Cell, Records};
use crate::store::Store;
use anyhow::{Context, Result};
use oo_mlflow::{Artefact, Content, Entry, Metric, Status, now_ms};

/// Points of a learning curve, and of the charts of `oo-sim report`.
const POINTS: usize = 40;

/// The columns that a curve is made of.
pub(crate) struct Course {
    reward: Vec<f64>,
    /// Best minus chosen expected reward; `None` where the world does not know them.
    regret: Option<Vec<f64>>,
}

impl Course {
    pub fn of(records: &Records) -> Course {
        let gaps = records.expected.iter().zip(&records.best);
        Course {
            reward: records.reward.clone(),
            regret: gaps.map(|(expected, best)| Some((*best)? - (*expected)?)).collect(),
        }
    }

    /// The same from the cell's file.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn read(plan: &Plan, store: &Store, cell: Cell<'_>) -> Result<Course> {
        let frame = store.read_cell(plan, cell)?;
        let numbers = |name: &str| -> Result<Vec<Option<f64>>> { Ok(frame.column(name)?.f64()?.iter().collect()) };
        let reward: Option<Vec<f64>> = numbers("reward")?.into_iter().collect();
        let gaps = numbers("expected")?.into_iter().zip(numbers("best")?);
        Ok(Course {
            reward: reward.context("a round without reward in a cell file")?,
            regret: gaps.map(|(expected, best)| Some(best? - expected?)).collect(),
        })
    }

    /// The mean reward so far and of the last part, and the regret so far, at evenly spaced rounds.
    fn metrics(&self, ms: i64) -> Vec<Metric> {
        let (n, mut out) = (self.reward.len(), Vec::new());
        let mut push = |key: &str, value: f64, step: usize| {
            out.push(Metric {
                key: key.into(),
                value,
                step: step as i64,
                ms,
            });
        };
        let (mut sum, mut regret, mut begin) = (0.0, 0.0, 0);
        for point in 1..=POINTS.min(n) {
            let end = point * n / POINTS.min(n);
            let part: f64 = self.reward[begin..end].iter().sum();
            sum += part;
            push("reward/so_far", sum / end as f64, end);
            push("reward/window", part / (end - begin) as f64, end);
            if let Some(gaps) = &self.regret {
                regret += gaps[begin..end].iter().sum::<f64>();
                push("regret/so_far", regret, end);
            }
            begin = end;
        }
        if n > 0 {
            push("mean_reward", sum / n as f64, n);
            if self.regret.is_some() {
                push("mean_regret", regret / n as f64, n);
            }
        }
        push("rounds", n as f64, n);
        out
    }
}

/// Everything to be said of a finished cell.
///
/// # Errors
/// The cell's note cannot be read.
pub(crate) fn entry(plan: &Plan, store: &Store, cell: Cell<'_>, course: &Course, tags: &Texts) -> Result<Entry> {
    let info = store.info(plan, cell)?;
    let now = now_ms();
    let mut metrics = course.metrics(now);
    metrics.push(Metric {
        key: "cpu_us_per_round".into(),
        value: info.cpu_us / info.rounds.max(1) as f64,
        step: info.rounds as i64,
        ms: now,
    });
    let mut tags = tags.clone();
    tags.extend(facts::data_tags([cell.env, cell.policy]));
    let place = match plan.envs.len() {
        1 => String::new(),
        _ => format!(" in {}", cell.env.name),
    };
    Ok(Entry {
        run: store.name(plan, cell)?,
        parent: Some(COMPARISON.into()),
        name: format!("{}{place}, seed {}", cell.policy.name, cell.seed),
        start_ms: now,
        status: Some(Status::Finished),
        end_ms: Some(now),
        params: facts::cell_params(plan, cell.env, cell.policy, cell.seed),
        tags,
        metrics,
        datasets: vec![facts::dataset(plan, cell.env)],
        artefacts: vec![Artefact {
            path: "cell.parquet".into(),
            content: Content::File {
                path: store.relative(plan, cell)?,
                sha256: info.sha256,
            },
        }],
        models: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_end_at_the_whole() {
        for n in [0, 1, 7, 40, 1001] {
            let course = Course {
                reward: (0..n).map(|i| i as f64).collect(),
                regret: Some(vec![0.5; n]),
            };
            let metrics = course.metrics(5);
            let of = |key: &str| metrics.iter().filter(|m| m.key == key).cloned().collect::<Vec<_>>();
            let so_far = of("reward/so_far");
            assert_eq!(so_far.len(), n.min(POINTS));
            assert_eq!(of("rounds")[0].value, n as f64);
            if let Some(last) = so_far.last() {
                assert_eq!((last.step, last.value), (n as i64, (n - 1) as f64 / 2.0));
                assert_eq!(of("mean_reward")[0].value, last.value);
                assert_eq!(of("regret/so_far").last().unwrap().value, n as f64 / 2.0);
                assert!(so_far.windows(2).all(|w| w[0].step < w[1].step));
            }
        }
        let unknown = Course {
            reward: vec![1.0; 9],
            regret: None,
        };
        assert!(unknown.metrics(5).iter().all(|m| !m.key.contains("regret")));
    }
}
