//! `oo-sim merge`: the shards of an experiment, put together.

use super::BadInput;
use super::compare::{Telling, tell};
use crate::folder::Location;
use crate::shard;
use anyhow::Result;

/// Shown under `merge --help`.
pub(super) fn after_help() -> String {
    format!(
        "Examples:\n  oo-sim compare mine.toml --shard 1/2 --out parts/1\n  oo-sim compare mine.toml --shard 2/2 --out \
         parts/2\n  oo-sim merge parts/1 parts/2 --out runs/mine\n\nThe merged run has the bytes of one that a single \
         machine made, except for its timings. Nothing is written unless every cell is there and all folders agree.\n\
         Shards that shared one folder are merged where they are: oo-sim merge runs/mine --out runs/mine\n\n{}",
        super::exit_codes()
    )
}

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of shards, as compare --shard wrote them; s3://BUCKET/PREFIX too
    #[arg(required = true, value_name = "DIR")]
    shards: Vec<Location>,
    /// Folder of the whole run
    #[arg(long, value_name = "RUN")]
    out: Location,
    #[command(flatten)]
    telling: Telling,
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] for folders that make no whole run; anything else while reading or writing.
pub fn run(args: Args) -> Result<()> {
    let merged = shard::gather(&args.shards, &args.out).map_err(BadInput)?;
    let (plan, store) = merged.write(&args.out)?;
    tell(&plan, &store, &args.telling).map(drop)
}
