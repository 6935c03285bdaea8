//! `oo-sim compare`: run, summarise, print.

use super::{BadInput, print};
use crate::experiment::{Experiment, Overrides, Plan, split_specs};
use crate::mlflow::{self, Comparison};
use crate::store::Store;
use crate::summary::{Summary, Timings};
use crate::{runner, summary, table, until_decided};
use anyhow::Result;
use clap::ValueEnum;
use std::path::PathBuf;

/// Where adding seeds ends when nobody says.
const MAX_SEEDS: u64 = 200;

/// Shown under `compare --help`.
pub(super) fn after_help() -> String {
    format!(
        "A run that was stopped goes on where it stopped when the same command is given again: finished runs are kept \
         in OUT/cells.\nNo result depends on --threads.\nWith --until-decided, intervals and p values of pairs hold \
         however often the run looked at them; OUT/experiment.toml has the number of seeds that it took.\n\n{}",
        super::exit_codes()
    )
}

/// The command's flags. A flag wins over the experiment file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Experiment file; without it, the defaults
    experiment: Option<PathBuf>,
    /// Environments, such as tips or linear{d=10}+delay{rounds=50}; several with commas
    #[arg(long)]
    env: Option<String>,
    /// Policies, such as uniform,lin-ucb{alpha=0.05}; commas inside braces do not split
    #[arg(long)]
    policies: Option<String>,
    /// Judge of reactions
    #[arg(long)]
    judge: Option<String>,
    /// Reward table: r0, r1 or r2
    #[arg(long)]
    reward: Option<String>,
    /// People, where the environment has people
    #[arg(long)]
    users: Option<usize>,
    /// Days, where the environment has days
    #[arg(long)]
    days: Option<usize>,
    /// Rounds, where the environment counts rounds
    #[arg(long)]
    rounds: Option<u64>,
    /// How many worlds
    #[arg(long)]
    seeds: Option<u64>,
    /// The first world's seed; the others follow
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// Compare each policy with this one only
    #[arg(long)]
    baseline: Option<String>,
    /// Add seeds, from --seeds on, until every pair is decided
    #[arg(long)]
    until_decided: bool,
    /// Stop adding seeds at so many; 200 by default
    #[arg(long, requires = "until_decided")]
    max_seeds: Option<u64>,
    /// Call policies the same when their mean rewards surely differ by less than this
    #[arg(long)]
    margin: Option<f64>,
    /// Folder of the results; runs/NAME by default
    #[arg(long)]
    out: Option<PathBuf>,
    /// Also show slices
    #[arg(long)]
    by: Option<By>,
    /// What to print
    #[arg(long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    mlflow: mlflow::Options,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum By {
    /// Means by the kind of person
    Persona,
    /// Means and differences by week, in the tips world
    Week,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The text of summary.json
    Json,
}

fn plan(args: &Args) -> Result<Plan> {
    let mut experiment = match &args.experiment {
        Some(path) => Experiment::read(path)?,
        None => Experiment::default(),
    };
    experiment.apply(Overrides {
        env: args.env.as_deref().map(split_specs),
        policies: args.policies.as_deref().map(split_specs),
        judge: args.judge.clone(),
        reward: args.reward.clone(),
        users: args.users,
        days: args.days,
        rounds: args.rounds,
        seeds: args.seeds,
        seed: args.seed,
        baseline: args.baseline.clone(),
        max_seeds: args.max_seeds,
        margin: args.margin,
    });
    if args.until_decided {
        experiment.max_seeds.get_or_insert(MAX_SEEDS.max(experiment.seeds));
    }
    anyhow::ensure!(args.threads != Some(0), "--threads: expected at least 1, got 0");
    experiment.plan()
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] before any work; anything else while running.
pub fn run(args: Args) -> Result<()> {
    let mut plan = plan(&args).map_err(BadInput)?;
    let destination = args.mlflow.destination().map_err(BadInput)?;
    let out = args
        .out
        .unwrap_or_else(|| PathBuf::from("runs").join(&plan.experiment.name));
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let store = Store::open(&out)?;
    store.write_text("experiment.toml", &plan.experiment.to_toml()?)?;
    let log = Comparison::begin(destination.as_ref(), &plan, &store);
    let mut work = || -> Result<(Summary, Timings)> {
        if plan.experiment.max_seeds.is_some() {
            until_decided::run(&mut plan, &store, threads, &log)?;
            store.write_text("experiment.toml", &plan.experiment.to_toml()?)?;
        } else {
            runner::run(&plan, &store, threads, &log)?;
        }
        let summary = summary::summarize(&plan, &store)?;
        let timings = summary::timings(&plan, &store)?;
        let json = serde_json::to_string_pretty(&summary)? + "\n";
        store.write_text("summary.json", &json)?;
        store.write_text("timings.json", &(serde_json::to_string_pretty(&timings)? + "\n"))?;
        match args.format {
            Format::Json => print(&json)?,
            Format::Table => print(&table::render(&summary, &timings, args.by))?,
        }
        Ok((summary, timings))
    };
    let done = work();
    match (log, &done) {
        (Some(log), Ok((summary, timings))) => log.end(&plan, &store, summary, timings),
        (Some(log), Err(e)) => log.fail(&store, e),
        (None, _) => {}
    }
    done.map(drop)
}
