//! `oo-sim compare`: run, summarise, print.

use super::{BadInput, print, say};
use crate::experiment::{Experiment, Overrides, Plan, split_specs};
use crate::folder::Location;
use crate::mlflow::{self, Comparison};
use crate::shard::Shard;
use crate::store::Store;
use crate::summary::{Summary, Timings};
use crate::{runner, shard, summary, table, until_decided};
use anyhow::Result;
use clap::ValueEnum;
use std::path::PathBuf;

/// Where adding seeds ends when nobody says.
const MAX_SEEDS: u64 = 200;

/// Shown under `compare --help`.
pub(super) fn after_help() -> String {
    format!(
        "Examples:\n  oo-sim compare\n  oo-sim compare mine.toml --seeds 40 --out runs/forty\n  oo-sim compare mine.toml \
         --shard 2/4 --out runs/part-2\n\nA run that was stopped goes on where it stopped when the same command is given again: finished runs are kept \
         in OUT/cells.\nNo result depends on --threads.\nWith --until-decided, intervals and p values of pairs hold \
         however often the run looked at them; OUT/experiment.toml has the number of seeds that it took.\n\n{}",
        super::exit_codes()
    )
}

/// The command's flags. A flag wins over the experiment file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Experiment file; without it, the defaults
    experiment: Option<Location>,
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
    /// Folder of the results, or s3://BUCKET/PREFIX; runs/NAME by default
    #[arg(long)]
    out: Option<Location>,
    /// Run one share of the cells, such as 2/4; `oo-sim merge` puts the shares together
    #[arg(long, value_name = "I/N", conflicts_with_all = ["until_decided", "by", "format"])]
    shard: Option<Shard>,
    /// Run nothing: list the cells that --out does not hold, with the --shard that runs each alone
    #[arg(long, conflicts_with_all = ["shard", "until_decided", "by", "format"])]
    list: bool,
    #[command(flatten)]
    telling: Telling,
    #[command(flatten)]
    mlflow: mlflow::Options,
}

/// How results are shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Telling {
    /// Also show slices
    #[arg(long)]
    by: Option<By>,
    /// What to print
    #[arg(long, default_value = "table")]
    format: Format,
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
        Some(file) => Experiment::read_from(file)?,
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
    anyhow::ensure!(
        args.policies.is_none() || !experiment.policies.is_empty(),
        "--policies: expected at least one policy, got nothing; without the flag, there are usual ones"
    );
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
        .unwrap_or_else(|| PathBuf::from("runs").join(&plan.experiment.name).into());
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    if args.list {
        shard::check(&plan.experiment).map_err(BadInput)?;
        return print(&shard::list(&plan, &Store::existing(&out)?)?);
    }
    if let Some(shard) = args.shard {
        return run_shard(&plan, shard, &out, threads);
    }
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
        tell(&plan, &store, &args.telling)
    };
    let done = work();
    match (log, &done) {
        (Some(log), Ok((summary, timings))) => log.end(&plan, &store, summary, timings),
        (Some(log), Err(e)) => log.fail(&store, e),
        (None, _) => {}
    }
    done.map(drop)
}

/// Runs one share of the cells. There is nothing to conclude from it, and nothing to log.
fn run_shard(plan: &Plan, shard: Shard, out: &Location, threads: usize) -> Result<()> {
    shard::check(&plan.experiment).map_err(BadInput)?;
    let store = Store::open(out)?;
    shard::claim(plan, &store).map_err(BadInput)?;
    let cells = shard.cells(plan);
    let run = runner::run_cells(plan, &cells, &store, threads, &())?;
    print(&format!(
        "Shard {shard}: {} of {} cells, {run} run now, {} there before, in {out}\n",
        cells.len(),
        runner::cells(plan).len(),
        cells.len() - run
    ))
}

/// Writes the results of a run whose cells are all there, and prints them.
pub(super) fn tell(plan: &Plan, store: &Store, telling: &Telling) -> Result<(Summary, Timings)> {
    let summary = summary::summarize(plan, store)?;
    let timings = summary::timings(plan, store)?;
    let json = serde_json::to_string_pretty(&summary)? + "\n";
    store.write_text("summary.json", &json)?;
    store.write_text("timings.json", &(serde_json::to_string_pretty(&timings)? + "\n"))?;
    match telling.format {
        Format::Json => print(&json)?,
        Format::Table => say(&table::render(&summary, &timings, telling.by))?,
    }
    Ok((summary, timings))
}
