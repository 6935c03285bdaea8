//! `oo-sim completions`: what a shell needs to complete commands and flags.

use super::print;
use anyhow::Result;
use clap_complete::{Shell, generate};

/// Shown under `completions --help`.
pub(super) const AFTER_HELP: &str = "\
Examples:
  oo-sim completions bash > ~/.local/share/bash-completion/completions/oo-sim
  oo-sim completions zsh > ~/.zfunc/_oo-sim                    (where ~/.zfunc is in fpath)
  oo-sim completions fish > ~/.config/fish/completions/oo-sim.fish";

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// Where it cannot print.
pub fn run(args: &Args, program: &mut clap::Command) -> Result<()> {
    let mut out = Vec::new();
    generate(args.shell, program, "oo-sim", &mut out);
    print(&String::from_utf8_lossy(&out))
}
