//! From cell files to numbers, in a fixed order: the summary is the same to the byte for any number of threads and
//! after any number of interruptions.

use crate::across::{Across, across};
use crate::environments::ENVIRONMENTS;
use crate::experiment::{Named, Plan};
use crate::pairs::{self, BestLine, PairLine};
use crate::runner::{Cell, cells};
use crate::store::Store;
use crate::until_decided::Stopping;
use crate::weeks::{self, WeekLine, WeekPair};
use anyhow::{Context, Result};
use oo_core::tips::Reaction;
use oo_judge::stats::{Cluster, mean_interval};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of every interval.
pub(crate) const LEVEL: f64 = 0.95;
/// Of every verdict.
pub(crate) const ALPHA: f64 = 0.05;
const BINS: usize = 20;
const MINUTES_A_DAY: u64 = 1440;
const MINUTES_A_WEEK: u64 = 7 * MINUTES_A_DAY;

/// Only the tips world counts minutes; the others count rounds.
fn has_weeks(env: &Named) -> bool {
    env.spec.base().name == crate::environments::tips::NAME
}

/// All results of an experiment.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The experiment's name.
    pub experiment: String,
    /// What intervals and verdicts rest on.
    pub method: String,
    /// How many seeds it took, where they were added until all was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
    /// One line an environment and policy.
    pub policies: Vec<PolicyLine>,
    /// Who is how likely the best. Apart from the policies' lines, since it depends on who else is compared.
    pub best: Vec<BestLine>,
    /// Comparisons.
    pub pairs: Vec<PairLine>,
    /// Over the environments, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub across: Option<Across>,
    /// The same means by group of people.
    pub groups: Vec<GroupLine>,
    /// The same by week, in worlds that have weeks.
    pub weeks: Vec<WeekLine>,
    /// Comparisons by week.
    pub week_pairs: Vec<WeekPair>,
}

impl Summary {
    /// The probability that a policy is the best of its environment.
    pub fn probability_of_best(&self, env: &str, policy: &str) -> Option<f64> {
        let line = self.best.iter().find(|l| l.env == env && l.policy == policy);
        line.map(|l| l.probability)
    }
}

/// A policy in an environment, over all seeds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PolicyLine {
    /// The environment.
    pub env: String,
    /// The policy.
    pub policy: String,
    /// Mean reward a round; `None` where there was no round.
    pub mean_reward: Option<f64>,
    /// Its 95 % interval; `None` with fewer than two clusters.
    pub ci: Option<[f64; 2]>,
    /// Mean of best minus chosen expected reward; `None` where the world does not know them.
    pub mean_regret: Option<f64>,
    /// Rounds over all seeds.
    pub rounds: u64,
    /// Rewards (their number, not their sum) a user and week; in the tips world only. Lost feedback counts too.
    pub rewards_per_user_week: Option<f64>,
    /// Shares of the three reactions; `None` where nobody reacts.
    pub reactions: Option<Shares>,
    /// Mean reward in twenty equal parts of the run; `None` for a part without rounds.
    pub curve: Vec<Option<f64>>,
}

/// Shares of reactions among all of them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Shares {
    /// Finished.
    pub done: f64,
    /// Not now.
    pub snooze: f64,
    /// Not this.
    pub dismiss: f64,
}

/// A policy in an environment for one group of people.
#[derive(Clone, Debug, Serialize)]
pub struct GroupLine {
    /// The environment.
    pub env: String,
    /// The policy.
    pub policy: String,
    /// The group.
    pub group: String,
    /// Mean reward a round.
    pub mean_reward: f64,
    /// Rounds over all seeds.
    pub rounds: u64,
}

/// CPU time of the policies. Kept apart from [`Summary`], since it differs from run to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timings {
    /// One line an environment and policy.
    pub policies: Vec<TimingLine>,
}

/// CPU time of one policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TimingLine {
    /// The environment.
    pub env: String,
    /// The policy.
    pub policy: String,
    /// Microseconds a round to decide and learn.
    pub cpu_us_per_round: f64,
}

/// One cell, boiled down.
#[derive(Clone, Debug, Default)]
struct CellStats {
    total: Cluster,
    regret: Option<f64>,
    reactions: [u64; Reaction::ALL.len()],
    curve: [Cluster; BINS],
    users: BTreeMap<u64, Cluster>,
    groups: BTreeMap<String, Cluster>,
    last_time: u64,
    /// By week, then user.
    weeks: Vec<BTreeMap<u64, Cluster>>,
}

fn add(to: &mut Cluster, reward: f64) {
    to.sum += reward;
    to.count += 1.0;
}

fn merge(to: &mut Cluster, other: &Cluster) {
    to.sum += other.sum;
    to.count += other.count;
}

fn mean(c: &Cluster) -> Option<f64> {
    (c.count > 0.0).then(|| c.sum / c.count)
}

fn boil_down(plan: &Plan, store: &Store, cell: Cell<'_>) -> Result<CellStats> {
    let frame = store.read_cell(plan, cell)?;
    let mut stats = CellStats::default();
    let n = frame.height();
    let (mut regret, mut known) = (0.0, n > 0);
    let (rewards, users, times) = (
        frame.column("reward")?.f64()?,
        frame.column("user")?.u64()?,
        frame.column("time")?.u64()?,
    );
    let (expected, best) = (frame.column("expected")?.f64()?, frame.column("best")?.f64()?);
    let (groups, reactions) = (frame.column("group")?.str()?, frame.column("reaction")?.str()?);
    for i in 0..n {
        let reward = rewards.get(i).context("a round without reward in a cell file")?;
        add(&mut stats.total, reward);
        add(&mut stats.curve[i * BINS / n], reward);
        add(stats.users.entry(users.get(i).unwrap_or(0)).or_default(), reward);
        if let Some(group) = groups.get(i) {
            match stats.groups.get_mut(group) {
                Some(cluster) => add(cluster, reward),
                None => add(stats.groups.entry(group.into()).or_default(), reward),
            }
        }
        if let Some(name) = reactions.get(i)
            && let Some(code) = Reaction::ALL.iter().position(|r| r.name() == name)
        {
            stats.reactions[code] += 1;
        }
        match (expected.get(i), best.get(i)) {
            (Some(e), Some(b)) => regret += b - e,
            _ => known = false,
        }
        if has_weeks(cell.env) {
            let week = (times.get(i).unwrap_or(0) / MINUTES_A_WEEK) as usize;
            if stats.weeks.len() <= week {
                stats.weeks.resize_with(week + 1, BTreeMap::new);
            }
            add(stats.weeks[week].entry(users.get(i).unwrap_or(0)).or_default(), reward);
        }
        stats.last_time = stats.last_time.max(times.get(i).unwrap_or(0));
    }
    stats.regret = known.then_some(regret);
    Ok(stats)
}

/// What the clusters of an experiment are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Seed,
    User,
    Nothing,
}

fn clusters_by(plan: &Plan, cells: &[CellStats]) -> By {
    if plan.experiment.seeds >= 2 {
        By::Seed
    } else if cells.iter().all(|c| c.users.len() >= 2) {
        By::User
    } else {
        By::Nothing
    }
}

/// One cluster a seed, or one a user; `users` are those of all policies, so that pairs correspond.
fn clusters(by: By, seeds: &[CellStats], users: &[u64]) -> Vec<Cluster> {
    match by {
        By::Seed | By::Nothing => seeds.iter().map(|c| c.total).collect(),
        By::User => {
            let of = |u: &u64| seeds.first().and_then(|c| c.users.get(u)).copied().unwrap_or_default();
            users.iter().map(of).collect()
        }
    }
}

/// An interval with two finite ends.
pub(crate) fn interval(low: Option<f64>, high: Option<f64>) -> Option<[f64; 2]> {
    Some([low?, high?]).filter(|ci| ci.iter().all(|x| x.is_finite()))
}

/// The people and days of a world that has them: by flag, by option, by default.
fn people_and_days(plan: &Plan, env: &Named) -> (Option<u64>, Option<u64>) {
    let base = env.spec.base();
    let defaults = ENVIRONMENTS
        .iter()
        .find(|e| e.name == base.name)
        .map(|e| (e.defaults)())
        .unwrap_or_default();
    let option = |name: &str| base.options.get(name).or(defaults.get(name)).and_then(|v| v.as_u64());
    let e = &plan.experiment;
    let days = e.days.map(|d| d as u64);
    // With a number of rounds, the world lasts as long as they take.
    let days = if e.rounds.is_some() {
        None
    } else {
        days.or_else(|| option("days"))
    };
    (e.users.map(|u| u as u64).or_else(|| option("users")), days)
}

fn policy_line(plan: &Plan, env: &Named, policy: &Named, seeds: &[CellStats], clusters: &[Cluster]) -> PolicyLine {
    let estimate = mean_interval(clusters, LEVEL);
    let mut total = Cluster::default();
    let mut curve = [Cluster::default(); BINS];
    let mut counts = [0u64; Reaction::ALL.len()];
    let mut regret = Some(0.0);
    let mut user_weeks = 0.0;
    let size = people_and_days(plan, env);
    for c in seeds {
        merge(&mut total, &c.total);
        curve.iter_mut().zip(&c.curve).for_each(|(to, bin)| merge(to, bin));
        counts.iter_mut().zip(c.reactions).for_each(|(to, n)| *to += n);
        regret = regret.zip(c.regret).map(|(a, b)| a + b);
        // What nobody set is taken from what happened.
        let users = size.0.unwrap_or(c.users.len() as u64);
        let days = size.1.unwrap_or(c.last_time / MINUTES_A_DAY + 1);
        user_weeks += users as f64 * days as f64 / 7.0;
    }
    let reacted: u64 = counts.iter().sum();
    let share = |r: Reaction| counts[r as usize] as f64 / reacted as f64;
    PolicyLine {
        env: env.name.clone(),
        policy: policy.name.clone(),
        mean_reward: mean(&total),
        ci: interval(estimate.low, estimate.high),
        mean_regret: regret.filter(|_| total.count > 0.0).map(|r| r / total.count),
        rounds: total.count as u64,
        rewards_per_user_week: (has_weeks(env) && user_weeks > 0.0).then(|| total.count / user_weeks),
        reactions: (reacted > 0).then(|| Shares {
            done: share(Reaction::Done),
            snooze: share(Reaction::Snooze),
            dismiss: share(Reaction::Dismiss),
        }),
        curve: curve.iter().map(mean).collect(),
    }
}

/// `weeks` lists of clusters, as [`clusters`] makes them for the whole run.
fn weekly_clusters(by: By, seeds: &[CellStats], users: &[u64], weeks: usize) -> Vec<Vec<Cluster>> {
    let none = BTreeMap::new();
    let of = |week: usize| {
        let mut all = seeds.iter().map(|c| c.weeks.get(week).unwrap_or(&none));
        match by {
            By::Seed | By::Nothing => all
                .map(|week| {
                    let mut total = Cluster::default();
                    week.values().for_each(|c| merge(&mut total, c));
                    total
                })
                .collect(),
            By::User => {
                let week = all.next().unwrap_or(&none);
                users.iter().map(|u| week.get(u).copied().unwrap_or_default()).collect()
            }
        }
    };
    (0..weeks).map(of).collect()
}

/// Some lines on where intervals and verdicts come from.
fn method_text(plan: &Plan, by: By, pairs: bool, stopping: Option<&Stopping>) -> String {
    let mut text = String::from(match by {
        By::Seed => "Ratio means with 95 % Student intervals over seeds, each seed one world that every policy meets.",
        By::User => "Ratio means with 95 % Student intervals over users of the one seed.",
        By::Nothing => "One seed and one user: means only; intervals and verdicts need --seeds 2 or more.",
    });
    text += match (pairs, stopping) {
        (false, _) => "\nOne policy: nothing to compare.",
        (true, None) => {
            "\nPairs: differences paired by cluster; a verdict needs p < 0.05 after Holm over the pairs of an environment."
        }
        (true, Some(_)) => {
            "\nPairs: differences paired by seed. Their intervals and p values are anytime-valid: they hold however often \
             one looked and whyever the run stopped. A verdict needs p < 0.05 after Holm over the pairs of an environment. \
             Intervals of single policies are those of a fixed number of seeds."
        }
    };
    if let (true, Some(margin)) = (pairs, plan.experiment.margin) {
        text += &match stopping {
            None => format!(
                "\nSame within {margin}: two one-sided t-tests, p < 0.05 after Holm over the pairs of an environment."
            ),
            Some(_) => format!(
                "\nSame within {margin}: the anytime-valid interval at 0.05 over the number of pairs lies within it."
            ),
        };
    }
    if let Some(stopping) = stopping {
        text += "\n";
        text += &stopping.text();
    }
    text
}

/// The rewards of one cell.
pub(crate) fn total(plan: &Plan, store: &Store, cell: Cell<'_>) -> Result<Cluster> {
    let frame = store.read_cell(plan, cell)?;
    let rewards = frame.column("reward")?.f64()?;
    let mut total = Cluster::default();
    for i in 0..frame.height() {
        add(
            &mut total,
            rewards.get(i).context("a round without reward in a cell file")?,
        );
    }
    Ok(total)
}

/// Reads every cell and computes the summary.
///
/// # Errors
/// A cell file that is missing or damaged.
pub fn summarize(plan: &Plan, store: &Store) -> Result<Summary> {
    // One cell in memory at a time; the order of the sums is fixed.
    let all: Vec<CellStats> = cells(plan)
        .into_iter()
        .map(|c| boil_down(plan, store, c))
        .collect::<Result<_>>()?;
    let seeds = plan.experiment.seeds as usize;
    let (mut policies, mut lines, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut best = Vec::new();
    let (mut weeks, mut week_pairs) = (Vec::new(), Vec::new());
    let mut weakest = By::Seed;
    for (env, of_env) in plan.envs.iter().zip(all.chunks(seeds * plan.policies.len())) {
        let by = clusters_by(plan, of_env);
        weakest = if weakest == By::Nothing || by == By::Nothing {
            By::Nothing
        } else {
            by
        };
        let mut users: Vec<u64> = of_env.iter().flat_map(|c| c.users.keys().copied()).collect();
        users.sort_unstable();
        users.dedup();
        let mut by_policy = Vec::new();
        let mut weekly = Vec::new();
        let number_of_weeks = of_env.iter().map(|c| c.weeks.len()).max().unwrap_or(0);
        for (policy, of_policy) in plan.policies.iter().zip(of_env.chunks(seeds)) {
            let own = clusters(by, of_policy, &users);
            policies.push(policy_line(plan, env, policy, of_policy, &own));
            by_policy.push(own);
            weekly.push(weekly_clusters(by, of_policy, &users, number_of_weeks));
            let mut merged: BTreeMap<&str, Cluster> = BTreeMap::new();
            for (group, cluster) in of_policy.iter().flat_map(|c| &c.groups) {
                merge(merged.entry(group).or_default(), cluster);
            }
            groups.extend(merged.into_iter().map(|(group, c)| GroupLine {
                env: env.name.clone(),
                policy: policy.name.clone(),
                group: group.into(),
                mean_reward: c.sum / c.count,
                rounds: c.count as u64,
            }));
        }
        let mut of_pairs = pairs::compare(plan, env, &by_policy);
        pairs::bootstrap(plan, env, &by_policy, &mut of_pairs);
        lines.extend(of_pairs);
        best.extend(pairs::best(plan, env, &by_policy));
        let (of_week, between) = weeks::compare(env, &plan.policies, &pairs::pairs(plan), &weekly);
        weeks.extend(of_week);
        week_pairs.extend(between);
    }
    let stopping = Stopping::of(&plan.experiment, &lines);
    Ok(Summary {
        experiment: plan.experiment.name.clone(),
        method: method_text(plan, weakest, !lines.is_empty(), stopping.as_ref()),
        stopping,
        across: across(&policies, &lines),
        policies,
        best,
        pairs: lines,
        groups,
        weeks,
        week_pairs,
    })
}

/// Reads the times of every cell.
///
/// # Errors
/// A file that is missing or damaged.
pub fn timings(plan: &Plan, store: &Store) -> Result<Timings> {
    let infos = cells(plan)
        .into_iter()
        .map(|c| store.info(plan, c))
        .collect::<Result<Vec<_>>>()?;
    let mut chunks = infos.chunks(plan.experiment.seeds as usize);
    let mut policies = Vec::new();
    for env in &plan.envs {
        for policy in &plan.policies {
            let of_policy = chunks.next().unwrap_or_default();
            let us: f64 = of_policy.iter().map(|i| i.cpu_us).sum();
            let rounds: usize = of_policy.iter().map(|i| i.rounds).sum();
            policies.push(TimingLine {
                env: env.name.clone(),
                policy: policy.name.clone(),
                cpu_us_per_round: us / rounds.max(1) as f64,
            });
        }
    }
    Ok(Timings { policies })
}
