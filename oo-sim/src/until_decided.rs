//! Adding seeds until every pair is decided.
//!
//! After each batch of seeds all pairs are looked at, and the run stops once every one of them has a verdict. Stopping at
//! a moment of one's choice spoils an ordinary p value; those here hold at all times (`oo_judge::stats::anytime_difference`
//! and, over the pairs, Holm), so the looks cost nothing. What a pair's line says at the end depends on the seeds
//! alone and not on when they were looked at.

use crate::experiment::{Experiment, Plan};
use crate::pairs::{self, PairLine};
use crate::runner::{self, Watch, cells};
use crate::store::Store;
use crate::summary;
use anyhow::Result;
use oo_judge::stats::Cluster;
use serde::Serialize;

/// How a run with a changing number of seeds ended.
#[derive(Clone, Debug, Serialize)]
pub struct Stopping {
    /// Seeds taken.
    pub seeds: u64,
    /// As many as were allowed.
    pub max_seeds: u64,
    /// Pairs with a verdict.
    pub decided: usize,
    /// All pairs.
    pub pairs: usize,
}

impl Stopping {
    /// Of a run that may take more seeds than it has; `None` of any other.
    pub(crate) fn of(experiment: &Experiment, pairs: &[PairLine]) -> Option<Self> {
        Some(Stopping {
            seeds: experiment.seeds,
            max_seeds: experiment.max_seeds?,
            decided: pairs.iter().filter(|p| p.is_decided()).count(),
            pairs: pairs.len(),
        })
    }

    /// In a sentence.
    pub(crate) fn text(&self) -> String {
        let Stopping {
            seeds,
            max_seeds,
            decided,
            pairs,
        } = self;
        if decided == pairs {
            format!("Stopped after {seeds} of at most {max_seeds} seeds: every pair is decided.")
        } else {
            format!("Stopped at the limit of {max_seeds} seeds: {decided} of {pairs} pairs are decided.")
        }
    }
}

/// Runs seeds until every pair is decided or `max_seeds` is reached. Afterwards the plan has the seeds that were taken.
///
/// # Errors
/// As [`runner::run`].
pub(crate) fn run(plan: &mut Plan, store: &Store, threads: usize, watch: &dyn Watch) -> Result<()> {
    let max = plan.experiment.max_seeds.unwrap_or(plan.experiment.seeds);
    // By environment, policy, seed.
    let mut totals = vec![vec![Vec::<Cluster>::new(); plan.policies.len()]; plan.envs.len()];
    let mut batch = plan.clone();
    loop {
        runner::run(&batch, store, threads, watch)?;
        let size = batch.experiment.seeds as usize;
        for (i, cell) in cells(&batch).into_iter().enumerate() {
            let (env, policy) = (i / size / plan.policies.len(), i / size % plan.policies.len());
            totals[env][policy].push(summary::total(&batch, store, cell)?);
        }
        let seeds = plan.experiment.seeds;
        let decided = |(env, clusters): (_, &Vec<Vec<Cluster>>)| {
            pairs::compare(plan, env, clusters).iter().all(PairLine::is_decided)
        };
        if seeds >= max || plan.envs.iter().zip(&totals).all(decided) {
            return Ok(());
        }
        // An eighth more at a time: at most so much is run in vain, and there is something for many threads to do.
        plan.experiment.seeds = (seeds + (seeds / 8).max(1)).min(max);
        batch.experiment.seed = plan.experiment.seed + seeds;
        batch.experiment.seeds = plan.experiment.seeds - seeds;
    }
}
