//! The program's commands, one file each.

pub mod compare;
pub mod data;
pub mod policies;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

const EXIT_CODES: &str = "Exit codes:\n  0  fine\n  1  failure while running\n  2  bad input: a flag, a name, an option, \
                          or the experiment file";

/// Compare bandit policies in simulated and recorded worlds.
#[derive(Debug, Parser)]
#[command(name = "oo-sim", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run policies in environments and say which is better
    #[command(after_help = compare::AFTER_HELP)]
    Compare(Box<compare::Args>),
    /// List data sets, download them, say where they are
    #[command(after_help = data::AFTER_HELP)]
    Data(data::Args),
    /// List policies, their options and where they were published
    Policies,
    /// List environments and wrappers with their options
    Environments,
}

/// Something that the caller should put right: exit code 2.
#[derive(Debug)]
pub struct BadInput(pub anyhow::Error);

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for BadInput {}

/// Reads the command line, does what it says, and reports errors on stderr.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Compare(args) => compare::run(*args),
        Command::Data(args) => data::run(args),
        Command::Policies => policies::policies(),
        Command::Environments => policies::environments(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Nothing is left to do when stderr is closed too.
            let _ = writeln!(std::io::stderr(), "error: {e:#}");
            ExitCode::from(if e.is::<BadInput>() { 2 } else { 1 })
        }
    }
}

/// Prints to stdout. A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}
