//! `oo-sim ope-bench`: estimators held against known values.

use super::{BadInput, print, say};
use crate::experiment::split_specs;
use crate::ope_bench::{Setup, table};
use crate::store;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::path::PathBuf;

/// Shown under `ope-bench --help`.
pub(super) fn after_help() -> String {
    format!(
        "Examples:\n  oo-sim ope-bench --sizes 500 --logs 50\n  oo-sim ope-bench --env 'logistic{{d=5}}' --loggers uniform \
         --out bench.json\n\nNo result depends on --threads.\n\n{}",
        super::exit_codes()
    )
}

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Worlds, such as logistic{d=5} or data:pendigits; several with commas
    #[arg(long)]
    env: Option<String>,
    /// The policy whose value is estimated; it learns from --train uniform rounds and is then frozen
    #[arg(long)]
    target: Option<String>,
    /// Policies that log without learning; they learned from the first quarter of --train
    #[arg(long)]
    loggers: Option<String>,
    /// Policies that learn while they log, from nothing
    #[arg(long)]
    learners: Option<String>,
    /// Reward model, such as linear, logistic{lambda=10}, neural or none
    #[arg(long)]
    model: Option<String>,
    /// Folds of the model's cross-fitting; 1 lets it predict what it has seen
    #[arg(long)]
    folds: Option<usize>,
    /// Rows a log; several with commas
    #[arg(long, value_delimiter = ',')]
    sizes: Option<Vec<u64>>,
    /// Logs a world, logger and size
    #[arg(long)]
    logs: Option<u64>,
    /// Rounds that the target learns from
    #[arg(long)]
    train: Option<u64>,
    /// Rounds over which the truth is taken, where the world is not a data set
    #[arg(long)]
    truth: Option<u64>,
    /// The seed
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// Also write the report, as JSON, to this file
    #[arg(long)]
    out: Option<PathBuf>,
    /// What to print
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The report with every number
    Json,
}

fn setup(args: &Args) -> Setup {
    let usual = Setup::default();
    let specs = |text: &Option<String>, usual| text.as_deref().map_or(usual, split_specs);
    Setup {
        worlds: specs(&args.env, usual.worlds),
        target: args.target.clone().unwrap_or(usual.target),
        loggers: specs(&args.loggers, usual.loggers),
        learners: specs(&args.learners, usual.learners),
        model: args.model.clone().unwrap_or(usual.model),
        folds: args.folds.unwrap_or(usual.folds),
        sizes: args.sizes.clone().unwrap_or(usual.sizes),
        logs: args.logs.unwrap_or(usual.logs),
        train: args.train.unwrap_or(usual.train),
        truth: args.truth.unwrap_or(usual.truth),
        seed: args.seed.unwrap_or(usual.seed),
    }
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] for a setup that cannot be; anything else while running.
pub fn run(args: Args) -> Result<()> {
    let setup = setup(&args);
    if args.threads == Some(0) {
        return Err(BadInput(anyhow::anyhow!("--threads: expected at least 1, got 0")).into());
    }
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = args.threads {
        pool = pool.num_threads(threads);
    }
    let pool = pool.build().context("cannot start the threads")?;
    let report = pool.install(|| {
        let scenes = setup.scenes().map_err(BadInput)?;
        setup.measure(&scenes)
    })?;
    let json = serde_json::to_string_pretty(&report)? + "\n";
    if let Some(path) = &args.out {
        store::write_text(path, &json)?;
    }
    match args.format {
        Format::Json => print(&json),
        Format::Table => say(&table::render(&report)),
    }
}
