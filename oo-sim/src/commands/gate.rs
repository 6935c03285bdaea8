//! `oo-sim gate`: may the challenger replace the champion?

use super::{print, say};
use crate::folder::Location;
use crate::gate::{Job, gate};
use crate::{interrupt, mlflow};
use anyhow::{Context, Result};
use clap::ValueEnum;
use oo_judge::gate::Answer;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What the gate's exit codes mean; errors have one of their own, since 0 to 2 are answers.
pub(crate) const EXITS: &[(u8, &str)] = &[
    (0, "promote"),
    (1, "keep"),
    (2, "undecided"),
    (3, "bad input or failure: nothing was decided"),
    (interrupt::INTERRUPTED, "stopped by Ctrl-C: nothing was decided"),
];

/// The code for errors.
pub(crate) const FAILED: u8 = 3;

/// Shown under `gate --help`.
pub(super) fn after_help() -> String {
    let mut out = String::from(
        "Examples:\n  oo-sim compare --policies egreedy-v1,lin-ucb --seeds 40 --out runs/new\n  oo-sim gate runs/new \
         --champion egreedy-v1 --challenger lin-ucb\n  oo-sim gate runs/new --champion egreedy-v1 --challenger lin-ucb \
         --rule rule.toml --format json\n  oo-sim gate --log decisions.parquet --champion logged --challenger lin-ucb\n\n\
         Without --rule a default rule is used and printed in full; save it, change it, and keep it from the first look \
         on.\nThe report goes to RUN/gate (or LOG.gate): report.json, report.html, and looks.json, the record of \
         looks.\nOn promote, RUN/winner holds the trained challenger for `oo-serve --policy`.\n\nExit codes of gate:",
    );
    for (code, meaning) in EXITS {
        out.push_str(&format!("\n  {code}  {meaning}"));
    }
    out
}

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a run in which both policies took part, as compare wrote it
    run: Option<Location>,
    /// The policy in charge; `logged` with --log alone: the policy that made the log's decisions
    #[arg(long)]
    champion: String,
    /// The policy that may replace it
    #[arg(long)]
    challenger: String,
    /// A log to judge by, instead of a run or besides
    #[arg(long)]
    log: Option<PathBuf>,
    /// Format of the log
    #[arg(long, default_value = "auto")]
    log_format: String,
    /// What both policies learned before the log judges them: none, log, a share such as 0.5, or a path
    #[arg(long, default_value = "0.5")]
    learn: String,
    /// The rule, as TOML; docs/gate.md has its keys
    #[arg(long)]
    rule: Option<PathBuf>,
    /// The run's environment, where it has several
    #[arg(long)]
    env: Option<String>,
    /// Seed of the world in which the winner is trained; the run's first by default
    #[arg(long)]
    seed: Option<u64>,
    /// Folder of the winner; RUN/winner by default
    #[arg(long)]
    out: Option<Location>,
    /// Folder of the report; RUN/gate or LOG.gate by default, where the record of looks is in any case
    #[arg(long)]
    report: Option<Location>,
    /// What to print
    #[arg(long, default_value = "text")]
    format: Format,
    #[command(flatten)]
    mlflow: mlflow::Options,
    /// Registered model of the winner; the name of the experiment by default
    #[arg(long, value_name = "NAME", help_heading = "MLflow")]
    mlflow_model: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Runs the command; the answer is the exit code.
///
/// # Errors
/// Anything: the program exits with 3 then.
pub fn run(args: Args) -> Result<ExitCode> {
    let job = Job {
        champion: args.champion,
        challenger: args.challenger,
        run: args.run,
        env: args.env,
        log: args.log,
        log_format: args.log_format,
        learn: args.learn,
        rule: args.rule,
        seed: args.seed,
        out: args.out,
        report: args.report,
    };
    let destination = args.mlflow.destination()?;
    if let Some(model) = &args.mlflow_model {
        oo_mlflow::Reference::parse(&format!("models:/{model}@champion")).context("--mlflow-model")?;
    }
    let stopped = interrupt::tell(|| "nothing was decided".into());
    let report = gate(&job)?;
    drop(stopped);
    match args.format {
        Format::Json => print(&report.json()?)?,
        Format::Text => {
            let rule = toml::to_string(&report.rule).context("cannot write the rule as TOML")?;
            let mut text = report.text(&rule);
            let folder = crate::gate::report_folder(&job)?;
            text.push_str(&format!("\nReport: {}\n", folder.join("report.html")));
            if report.answer == Answer::Promote {
                text.push_str(&format!("Winner: {}\n", crate::gate::winner_folder(&job)?));
            }
            say(&text)?;
        }
    }
    if let Some(destination) = destination {
        // The answer stands, whatever becomes of its log.
        let log = || -> Result<String> {
            let model = args.mlflow_model.map_or_else(|| mlflow::model_name(&job), Ok)?;
            mlflow::promotion(&destination, &job, &report, &model)
        };
        let told = log().unwrap_or_else(|e| format!("MLflow: nothing is logged; {e:#}\n"));
        let _ = std::io::stderr().write_all(told.as_bytes());
    }
    Ok(ExitCode::from(match report.answer {
        Answer::Promote => 0,
        Answer::Keep => 1,
        Answer::Undecided => 2,
    }))
}
