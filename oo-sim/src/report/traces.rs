//! What the summary lacks and the charts need: courses over the run and groups of people, with the spread between
//! clusters. One cell is in memory at a time.

use crate::experiment::{Named, Plan};
use crate::runner::Cell;
use crate::store::Store;
use crate::summary::LEVEL;
use anyhow::{Context, Result};
use oo_judge::stats::{Cluster, mean_interval};
use std::collections::BTreeMap;

/// Points of a cumulative course.
pub const POINTS: usize = 40;
/// Parts of a windowed course; each is a whole number of points.
pub const WINDOWS: usize = 20;

/// A value with its 95 % interval, at a number of decisions since the beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Decisions a seed.
    pub x: f64,
    /// The value.
    pub y: f64,
    /// Its interval; `None` with fewer than two clusters.
    pub band: Option<(f64, f64)>,
}

/// The mean reward of a group of people.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The group.
    pub group: String,
    /// Mean reward a round.
    pub mean: f64,
    /// Its interval; `None` with fewer than two clusters.
    pub band: Option<(f64, f64)>,
}

/// One policy's courses in one environment.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Mean reward of all decisions so far.
    pub so_far: Vec<Point>,
    /// Mean reward of each part of the run.
    pub windows: Vec<Point>,
    /// Regret summed so far, a seed; empty where the world does not know it.
    pub regret: Vec<Point>,
    /// Groups in the order of their names.
    pub slices: Vec<Slice>,
}

/// With one seed its users are the clusters, as in the summary; a single user then has no interval.
pub fn over_users(plan: &Plan) -> bool {
    plan.experiment.seeds == 1
}

/// What one cluster, a seed or a user, adds to each part of the run.
#[derive(Clone)]
struct Parts {
    reward: [Cluster; POINTS],
    regret: [f64; POINTS],
}

const EMPTY: Cluster = Cluster { sum: 0.0, count: 0.0 };

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            reward: [EMPTY; POINTS],
            regret: [0.0; POINTS],
        }
    }
}

/// Everything read from the cells of one policy.
#[derive(Default)]
struct Gathered {
    parts: BTreeMap<u64, Parts>,
    groups: BTreeMap<String, BTreeMap<u64, Cluster>>,
    regret_unknown: bool,
}

impl Gathered {
    fn take(&mut self, plan: &Plan, store: &Store, cell: Cell<'_>) -> Result<()> {
        let frame = store.read_cell(plan, cell)?;
        let n = frame.height();
        let (rewards, users) = (frame.column("reward")?.f64()?, frame.column("user")?.u64()?);
        let (expected, best) = (frame.column("expected")?.f64()?, frame.column("best")?.f64()?);
        let groups = frame.column("group")?.str()?;
        for i in 0..n {
            let reward = rewards.get(i).context("a round without reward in a cell file")?;
            let cluster = if over_users(plan) {
                users.get(i).unwrap_or(0)
            } else {
                cell.seed
            };
            let (parts, at) = (self.parts.entry(cluster).or_default(), i * POINTS / n);
            add(&mut parts.reward[at], reward);
            match (expected.get(i), best.get(i)) {
                (Some(e), Some(b)) => parts.regret[at] += b - e,
                _ => self.regret_unknown = true,
            }
            if let Some(group) = groups.get(i) {
                if !self.groups.contains_key(group) {
                    self.groups.insert(group.into(), BTreeMap::new());
                }
                if let Some(clusters) = self.groups.get_mut(group) {
                    add(clusters.entry(cluster).or_default(), reward);
                }
            }
        }
        Ok(())
    }

    fn trace(&self, seeds: u64) -> Trace {
        let seeds = seeds as f64;
        // Regret is a sum a seed: with users as clusters, the mean of one times their number.
        let scale = self.parts.len() as f64 / seeds;
        let mut trace = Trace::default();
        let mut sums = vec![EMPTY; self.parts.len()];
        let mut regrets = vec![Cluster { sum: 0.0, count: 1.0 }; self.parts.len()];
        let (mut window, mut decisions) = (sums.clone(), 0.0);
        for at in 0..POINTS {
            for (i, parts) in self.parts.values().enumerate() {
                merge(&mut sums[i], &parts.reward[at]);
                merge(&mut window[i], &parts.reward[at]);
                regrets[i].sum += parts.regret[at];
                decisions += parts.reward[at].count;
            }
            trace.so_far.extend(point(decisions / seeds, &sums, 1.0));
            if !self.regret_unknown {
                trace.regret.extend(point(decisions / seeds, &regrets, scale));
            }
            if (at + 1) % (POINTS / WINDOWS) == 0 {
                trace.windows.extend(point(decisions / seeds, &window, 1.0));
                window.fill(EMPTY);
            }
        }
        trace.slices.extend(self.groups.iter().filter_map(|(group, clusters)| {
            let clusters: Vec<Cluster> = clusters.values().copied().collect();
            let found = point(0.0, &clusters, 1.0)?;
            Some(Slice {
                group: group.clone(),
                mean: found.y,
                band: found.band,
            })
        }));
        trace
    }
}

fn add(to: &mut Cluster, reward: f64) {
    to.sum += reward;
    to.count += 1.0;
}

fn merge(to: &mut Cluster, other: &Cluster) {
    to.sum += other.sum;
    to.count += other.count;
}

/// `None` where nothing was counted.
fn point(x: f64, clusters: &[Cluster], scale: f64) -> Option<Point> {
    let found = mean_interval(clusters, LEVEL);
    found.value.is_finite().then(|| Point {
        x,
        y: scale * found.value,
        band: found.low.zip(found.high).map(|(low, high)| (scale * low, scale * high)),
    })
}

/// The traces of all policies in `env`, in the plan's order.
///
/// # Errors
/// A cell file that is missing or damaged.
pub fn read(plan: &Plan, store: &Store, env: &Named) -> Result<Vec<Trace>> {
    let of_policy = |policy| -> Result<Trace> {
        let mut gathered = Gathered::default();
        for seed in plan.seeds() {
            gathered.take(plan, store, Cell { env, policy, seed })?;
        }
        Ok(gathered.trace(plan.experiment.seeds))
    };
    plan.policies.iter().map(of_policy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cluster `c` has a reward of `c` and a regret of 1 in each part.
    fn gathered(clusters: u64) -> Gathered {
        let mut gathered = Gathered::default();
        for c in 0..clusters {
            let parts = gathered.parts.entry(c).or_default();
            parts.reward = [Cluster {
                sum: c as f64,
                count: 1.0,
            }; POINTS];
            parts.regret = [1.0; POINTS];
        }
        gathered
    }

    #[test]
    fn courses_end_where_the_table_is() {
        let trace = gathered(3).trace(3);
        let (last, whole) = (
            trace.so_far[POINTS - 1],
            mean_interval(&[0.0, 1.0, 2.0].map(|sum| Cluster { sum, count: 1.0 }), LEVEL),
        );
        assert_eq!((last.x, last.y), (40.0, 1.0));
        let (low, high) = last.band.unwrap();
        assert!((low - whole.low.unwrap()).abs() < 1e-12 && (high - whole.high.unwrap()).abs() < 1e-12);
        assert_eq!((trace.windows.len(), trace.windows[0].x), (WINDOWS, 2.0));
        assert_eq!(trace.regret[POINTS - 1].y, 40.0);
    }

    #[test]
    fn users_share_one_seed() {
        let trace = gathered(3).trace(1);
        assert_eq!((trace.so_far[0].x, trace.regret[0].y), (3.0, 3.0));
        let alone = gathered(1).trace(1);
        assert!(alone.so_far.iter().chain(&alone.regret).all(|p| p.band.is_none()));
    }

    #[test]
    fn parts_without_rounds_are_left_out() {
        let mut gathered = gathered(2);
        for parts in gathered.parts.values_mut() {
            parts.reward[2..].fill(EMPTY);
        }
        gathered.regret_unknown = true;
        let trace = gathered.trace(2);
        assert_eq!((trace.windows.len(), trace.regret.len()), (1, 0));
    }
}
