//! `oo-sim man`: the manual pages, from the same definitions as `--help`.

use super::print;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Shown under `man --help`.
pub(super) const AFTER_HELP: &str = "\
Examples:
  oo-sim man | man -l -
  oo-sim man --out ~/.local/share/man/man1";

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write oo-sim.1 and a page a command into this folder, instead of printing the first
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A folder that cannot be written.
pub fn run(args: &Args, program: clap::Command) -> Result<()> {
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(program).render(&mut page)?;
        return print(&String::from_utf8_lossy(&page));
    };
    let wrote = || format!("writing manual pages to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(wrote)?;
    clap_mangen::generate_to(program, folder).with_context(wrote)
}
