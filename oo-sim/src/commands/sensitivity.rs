//! `oo-sim sensitivity`: a run scored again under other rewards.

use super::{BadInput, print, report, say};
use crate::folder::Location;
use crate::{sensitivity, store, tally};
use anyhow::Result;
use clap::ValueEnum;
use std::path::PathBuf;

/// Shown under `sensitivity --help`.
pub(super) fn after_help() -> String {
    format!(
        "Examples:\n  oo-sim sensitivity runs/compare\n  oo-sim sensitivity runs/compare --rewards r0,r2,mine.json \
         --format json\n\nA file holds one spec or a list of them, in JSON:\n  {}\n\n{}",
        r#"{"name": "mine", "version": 1, "done": [{"below_ms": null, "reward": 1}], "snooze": 0.2, "dismiss": -1,
   "helpful": 0, "not_helpful": 0}"#,
        super::exit_codes()
    )
}

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a run, as compare wrote it: runs/compare, say
    run: Location,
    /// Reward specs, by name or as .json files, with commas between them
    #[arg(long, default_value = "r0,r1,r2")]
    rewards: String,
    /// Also write the answer, as JSON, to this file
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
    /// For programs
    Json,
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] for a folder that is no finished run, rewards that cannot be read, a world without reactions.
pub fn run(args: Args) -> Result<()> {
    let answer = || {
        let specs = tally::reward_specs(&args.rewards)?;
        let (plan, store) = report::finished(&args.run)?;
        sensitivity::sensitivity(&plan, &store, &specs)
    };
    let answer = answer().map_err(BadInput)?;
    let json = serde_json::to_string_pretty(&answer)? + "\n";
    if let Some(path) = &args.out {
        store::write_text(path, &json)?;
    }
    match args.format {
        Format::Json => print(&json),
        Format::Table => say(&sensitivity::text(&answer)),
    }
}
