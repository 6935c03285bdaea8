//! `oo-sim mlflow`: what a server that was down, slow or not asked has not got yet.

use super::{BadInput, print};
use crate::mlflow::{Options, sync};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Shown under `mlflow --help`.
pub(super) fn after_help() -> String {
    format!(
        "Examples:\n  oo-sim mlflow sync runs/compare\n  oo-sim mlflow sync runs/compare --mlflow https://mlflow.example\n\n\
         What a run had to log is kept in RUN/mlflow until it is sent, and each piece is sent once. A finished run that \
         was never logged is logged whole. Without --mlflow and MLFLOW_TRACKING_URI, it goes to the server that the run \
         named. docs/mlflow.md has the rest.\n\n{}",
        super::exit_codes()
    )
}

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send what is missing, each piece once
    Sync {
        /// Folder of a run, or of the report of `oo-sim gate --log`
        run: PathBuf,
        #[command(flatten)]
        mlflow: Options,
    },
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] for a folder with nothing to send; a server that does not answer, or that refused something.
pub fn run(args: Args) -> Result<()> {
    let Command::Sync { run, mlflow } = args.command;
    let synced = sync(&run, &mlflow).map_err(|e| {
        // What the server or the disk says is no bad input.
        let is_about_sending = e.chain().any(|cause| {
            let ours = cause.downcast_ref::<oo_mlflow::Error>();
            ours.is_some_and(|e| !matches!(e, oo_mlflow::Error::Address { .. }))
        });
        if is_about_sending { e } else { BadInput(e).into() }
    })?;
    let mut text = format!("{} entries sent; nothing is left\n", synced.sent);
    for page in &synced.pages {
        text += &format!("{page}\n");
    }
    print(&text)?;
    if !synced.refusals.is_empty() {
        bail!("MLflow refused a part of it:\n  {}", synced.refusals.join("\n  "));
    }
    Ok(())
}
