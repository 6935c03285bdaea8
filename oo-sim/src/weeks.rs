//! The same comparison week by week, in worlds that have weeks: who is better at the beginning, and who later?

use crate::experiment::Named;
use crate::summary::{LEVEL, interval};
use oo_judge::stats::{Cluster, difference, holm, mean_interval};
use serde::Serialize;

/// A policy in one week, over all seeds.
#[derive(Clone, Debug, Serialize)]
pub struct WeekLine {
    /// The environment.
    pub env: String,
    /// The policy.
    pub policy: String,
    /// Counts from 1.
    pub week: usize,
    /// Mean reward a round; `None` where there was no round.
    pub mean_reward: Option<f64>,
    /// Its 95 % interval; `None` with fewer than two clusters.
    pub ci: Option<[f64; 2]>,
    /// Rounds over all seeds.
    pub rounds: u64,
}

/// Two policies in one week.
#[derive(Clone, Debug, Serialize)]
pub struct WeekPair {
    /// The environment.
    pub env: String,
    /// The first policy.
    pub a: String,
    /// The second policy; the baseline where there is one.
    pub b: String,
    /// Counts from 1.
    pub week: usize,
    /// Mean reward of `a` minus that of `b`.
    pub diff: Option<f64>,
    /// Its 95 % interval, not adjusted for the number of pairs.
    pub ci: Option<[f64; 2]>,
    /// p value after Holm over all pairs and weeks of the environment.
    pub p_adjusted: Option<f64>,
}

/// `clusters[policy][week]` holds the clusters of that week, those of all policies in the same order.
pub(crate) fn compare(
    env: &Named,
    policies: &[Named],
    pairs: &[(usize, usize)],
    clusters: &[Vec<Vec<Cluster>>],
) -> (Vec<WeekLine>, Vec<WeekPair>) {
    let weeks = clusters.iter().map(Vec::len).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (policy, of_policy) in policies.iter().zip(clusters) {
        for (week, clusters) in of_policy.iter().enumerate() {
            let estimate = mean_interval(clusters, LEVEL);
            lines.push(WeekLine {
                env: env.name.clone(),
                policy: policy.name.clone(),
                week: week + 1,
                mean_reward: Some(estimate.value).filter(|v| v.is_finite()),
                ci: interval(estimate.low, estimate.high),
                rounds: clusters.iter().map(|c| c.count).sum::<f64>() as u64,
            });
        }
    }
    let mut all = Vec::new();
    for &(a, b) in pairs {
        for week in 0..weeks {
            let d = difference(&clusters[a][week], &clusters[b][week], LEVEL);
            let line = WeekPair {
                env: env.name.clone(),
                a: policies[a].name.clone(),
                b: policies[b].name.clone(),
                week: week + 1,
                diff: Some(d.diff).filter(|v| v.is_finite()),
                ci: interval(d.low, d.high),
                p_adjusted: None,
            };
            all.push((line, d.p.filter(|p| p.is_finite())));
        }
    }
    // A week without an answer was planned all the same, and counts.
    let adjusted = holm(&all.iter().map(|(_, p)| p.unwrap_or(f64::NAN)).collect::<Vec<_>>());
    let pairs = all
        .into_iter()
        .zip(adjusted)
        .map(|((line, p), adjusted)| WeekPair {
            p_adjusted: p.map(|_| adjusted),
            ..line
        })
        .collect();
    (lines, pairs)
}
