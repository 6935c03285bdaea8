//! `oo-sim ope`: a log's word on another policy.

use super::{BadInput, print};
use crate::datasets::cache;
use crate::logs::FORMATS;
use crate::ope::reward_model::{self, Choice};
use crate::ope::{Answer, Job, Learn, Method, answer, asked, evaluate, intervals};
use crate::{experiment::split_specs, sheet, store};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use oo_judge::models::MODELS;
use oo_judge::stats::Interval;
use std::path::PathBuf;

/// Shown under `ope --help`.
pub(super) fn after_help() -> String {
    let mut out = String::from(
        "Examples:\n  oo-sim ope logged.csv.gz\n  oo-sim ope logged.csv.gz --estimators snips,dr-clipped{lambda=5} --interval \
         bootstrap --format json\n  oo-sim ope journal.parquet --policy uniform,lin-ucb --learn 0.5\n  oo-sim ope \
         obd_random_men --policy uniform\n\nEstimators:\n",
    );
    for entry in asked::estimators() {
        let parameter = entry
            .parameter
            .map_or_else(String::new, |p| format!("{{{}={}}}", p.name, p.default));
        out.push_str(&format!("  {}{parameter}: {}\n", entry.name, entry.summary));
    }
    for whole in asked::WHOLE {
        out.push_str(&format!("  {}: {}\n", whole.name, whole.summary));
    }
    out.push_str("Instead of a number, lambda may be a rule that chooses it:\n");
    for (name, summary, _) in asked::RULES {
        out.push_str(&format!("  {name}: {summary}\n"));
    }
    out.push_str("\nIntervals:\n");
    for (name, summary, _) in intervals::METHODS {
        out.push_str(&format!("  {name}: {summary}\n"));
    }
    out.push_str("\nReward models, fitted to the log crosswise:\n");
    for entry in MODELS {
        out.push_str(&format!("  {}: {}\n", entry.name, entry.summary));
    }
    out.push_str("\nFormats, the first that fits:\n");
    for format in FORMATS {
        out.push_str(&format!("  {}: {}\n", format.name, format.summary));
    }
    out + "\nNo result depends on --threads.\n\n" + &super::exit_codes()
}

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The log: a path, or the name of a data set that is a log
    log: PathBuf,
    /// Policies to evaluate; without any, the one whose probabilities the log holds
    #[arg(long)]
    policy: Option<String>,
    /// What the policy has learned: none; log, as the log goes along; a share such as 0.5, the first part of the log; or
    /// the path of another log or of a saved state
    #[arg(long, default_value = "none")]
    learn: String,
    /// Estimators, with commas between them, or all
    #[arg(long, default_value = "all")]
    estimators: String,
    /// Reward model; the log's q_hat or else linear by default
    #[arg(long)]
    model: Option<String>,
    /// Folds in which the reward model is fitted
    #[arg(long, default_value_t = 5)]
    folds: usize,
    /// How intervals are found
    #[arg(long, default_value = "normal")]
    interval: String,
    /// Level of the intervals
    #[arg(long, default_value_t = 0.95)]
    level: f64,
    /// Resamples of the bootstrap
    #[arg(long, default_value_t = 1000)]
    resamples: usize,
    /// Least and largest possible reward, for clopper-pearson, cressie-read and cs
    #[arg(long, default_value = "0,1", allow_hyphen_values = true)]
    reward_range: String,
    /// Format of the log
    #[arg(long, default_value = "auto")]
    log_format: String,
    /// Seed of whatever is drawn
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// File to write instead of printing
    #[arg(long)]
    out: Option<PathBuf>,
    /// What to print
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

fn range(text: &str) -> Result<Interval> {
    let ends: Vec<Option<f64>> = text.split(',').map(|end| end.trim().parse().ok()).collect();
    match ends[..] {
        [Some(low), Some(high)] if low < high && f64::is_finite(low) && f64::is_finite(high) => {
            Ok(Interval::new(low, high))
        }
        _ => bail!("--reward-range: expected two numbers LOW,HIGH with LOW below HIGH, got `{text}`"),
    }
}

fn jobs(args: &Args) -> Result<Vec<Job>> {
    ensure!(
        args.level > 0.0 && args.level < 1.0,
        "--level: expected a number between 0 and 1, got {}",
        args.level
    );
    ensure!(
        (1..=1_000_000).contains(&args.resamples),
        "--resamples: expected 1 to 1000000, got {}",
        args.resamples
    );
    ensure!(
        (2..=100).contains(&args.folds),
        "--folds: expected 2 to 100, since no row may be predicted by a model that has seen it, got {}",
        args.folds
    );
    ensure!(args.threads != Some(0), "--threads: expected at least 1, got 0");
    let (method, range) = (Method::named(&args.interval)?, range(&args.reward_range)?);
    let learn = Learn::parse(&args.learn)?;
    let policies: Vec<Option<String>> = match args.policy.as_deref().map(split_specs) {
        None => vec![None],
        Some(names) => names.into_iter().map(Some).collect(),
    };
    ensure!(!policies.is_empty(), "--policy: expected a policy, got nothing");
    for (i, policy) in policies.iter().enumerate() {
        if let Some(name) = policy.as_ref().filter(|_| policies[..i].contains(policy)) {
            bail!("--policy: `{name}` is asked for twice");
        }
    }
    ensure!(
        learn == Learn::No || policies != [None],
        "--learn says what a policy has learned; name the policy with --policy"
    );
    if let Some(model) = &args.model {
        reward_model::check(model, args.folds)?;
    }
    let (estimators, all) = asked::parse(&args.estimators)?;
    // A path that exists wins over a data set of the same name.
    let log = match &args.log {
        path if path.exists() => path.clone(),
        name => cache::locate(&name.to_string_lossy())?,
    };
    let mut jobs = Vec::new();
    for policy in policies {
        jobs.push(Job {
            log: log.clone(),
            format: args.log_format.clone(),
            policy,
            learn: learn.clone(),
            estimators: estimators.clone(),
            all,
            model: args.model.clone().map_or(Choice::Auto, Choice::Spec),
            folds: args.folds,
            method,
            level: args.level,
            resamples: args.resamples,
            range,
            seed: args.seed,
        });
    }
    Ok(jobs)
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] for whatever is wrong with flags or log; anything else while writing.
pub fn run(args: Args) -> Result<()> {
    let jobs = jobs(&args).map_err(BadInput)?;
    let threads = args.threads.unwrap_or(0);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .with_context(|| format!("cannot start {threads} threads"))?;
    let answers = pool.install(|| jobs.iter().map(evaluate).collect::<Result<Vec<Answer>>>());
    let answers = answers.map_err(BadInput)?;
    let text = match args.format {
        Format::Text => sheet::prose(&answer::text(&answers)),
        Format::Json => answer::json(&answers)?,
    };
    match &args.out {
        None => print(&text),
        Some(path) => store::write_once(path, |file| Ok(std::io::Write::write_all(file, text.as_bytes())?))
            .with_context(|| format!("cannot write {}", path.display())),
    }
}
