//! The program's commands, one file each.

pub mod compare;
pub mod completions;
pub mod data;
pub mod doctor;
pub mod experiments;
pub mod fit;
pub mod gate;
pub mod log;
pub mod man;
pub mod merge;
pub mod migrate;
pub mod mlflow;
pub mod ope;
pub mod ope_bench;
pub mod policies;
pub mod reference;
pub mod report;
pub mod sensitivity;
mod world;

use crate::{interrupt, sheet};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// What the program's exit codes mean.
pub(crate) const EXITS: &[(u8, &str)] = &[
    (0, "fine"),
    (1, "failure while running"),
    (
        2,
        "bad input: a flag, a name, an option, the experiment file, a log, or a folder that is no finished run",
    ),
    (
        interrupt::INTERRUPTED,
        "stopped by Ctrl-C; the message says what is kept",
    ),
];

/// The same for help texts.
fn exit_codes() -> String {
    let lines = EXITS.iter().map(|(code, meaning)| format!("\n  {code}  {meaning}"));
    format!("Exit codes:{}", lines.collect::<String>())
}

/// Compare bandit policies in simulated and recorded worlds.
#[derive(Debug, Parser)]
#[command(name = "oo-sim", version, after_help = exit_codes())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run policies in environments and say which is better
    #[command(after_help = compare::after_help())]
    Compare(Box<compare::Args>),
    /// Put the shards of an experiment together
    #[command(after_help = merge::after_help())]
    Merge(merge::Args),
    /// Let a policy learn in one world or from a log, and save it, for +warm to start from
    #[command(after_help = fit::after_help())]
    Fit(fit::Args),
    /// Move a saved policy to other features, and say what was kept
    #[command(after_help = migrate::after_help())]
    Migrate(migrate::Args),
    /// List data sets, download them, say where they are
    #[command(after_help = data::AFTER_HELP)]
    Data(data::Args),
    /// Simulate one policy and write the log of its decisions
    #[command(after_help = log::after_help())]
    Log(Box<log::Args>),
    /// Say from a log what another policy would have earned
    #[command(after_help = ope::after_help())]
    Ope(Box<ope::Args>),
    /// Hold off-policy estimators against known values, on many simulated logs
    #[command(after_help = ope_bench::after_help())]
    OpeBench(Box<ope_bench::Args>),
    /// Say whether a policy may replace another, by a rule written beforehand
    #[command(after_help = gate::after_help())]
    Gate(Box<gate::Args>),
    /// Score a run again under other rewards and say whether the ranking survives
    #[command(after_help = sensitivity::after_help())]
    Sensitivity(sensitivity::Args),
    /// Send to an MLflow server what it lacks of a run
    #[command(after_help = mlflow::after_help())]
    Mlflow(mlflow::Args),
    /// Write one HTML page about a finished run
    #[command(after_help = report::AFTER_HELP)]
    Report(report::Args),
    /// List the repository's experiments and run them again
    #[command(after_help = experiments::after_help())]
    Experiments(experiments::Args),
    /// List policies, their options and where they were published
    #[command(after_help = policies::POLICIES_HELP)]
    Policies,
    /// List environments and wrappers with their options
    #[command(after_help = policies::ENVIRONMENTS_HELP)]
    Environments,
    /// Say what is here, what is missing, and which feature wants it
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(doctor::Args),
    /// Print the completions of a shell
    #[command(after_help = completions::AFTER_HELP)]
    Completions(completions::Args),
    /// Print the manual page, or write one a command
    #[command(after_help = man::AFTER_HELP)]
    Man(man::Args),
    /// Print docs/reference.md: everything that has a name, with options, types, ranges and defaults
    #[command(after_help = reference::AFTER_HELP)]
    Reference,
}

/// Whether the program would understand these arguments; they are not looked at any further.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn understood(arguments: &[String]) -> anyhow::Result<()> {
    let program = std::iter::once("oo-sim");
    let words = program.chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(e) => anyhow::bail!("{}", e.render().to_string().trim_start_matches("error: ").trim_end()),
    }
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
    interrupt::listen();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let done = match cli.command {
        Command::Gate(args) => return gate_answer(gate::run(*args)),
        Command::Doctor(args) => return answer(doctor::run(&args)),
        Command::Compare(args) => compare::run(*args),
        Command::Merge(args) => merge::run(args),
        Command::Fit(args) => fit::run(args),
        Command::Migrate(args) => migrate::run(args),
        Command::Data(args) => data::run(args),
        Command::Log(args) => log::run(*args),
        Command::Ope(args) => ope::run(*args),
        Command::OpeBench(args) => ope_bench::run(*args),
        Command::Mlflow(args) => mlflow::run(args),
        Command::Report(args) => report::run(args),
        Command::Experiments(args) => experiments::run(args),
        Command::Sensitivity(args) => sensitivity::run(args),
        Command::Policies => policies::policies(),
        Command::Environments => policies::environments(),
        Command::Completions(args) => completions::run(&args, &mut Cli::command()),
        Command::Man(args) => man::run(&args, Cli::command()),
        Command::Reference => reference::run(),
    };
    answer(done.map(|()| ExitCode::SUCCESS))
}

/// The exit code of a command, once its error was told.
fn answer(done: anyhow::Result<ExitCode>) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(e) => {
            // Nothing is left to do when stderr is closed too.
            let _ = writeln!(std::io::stderr(), "error: {e:#}");
            ExitCode::from(if e.is::<BadInput>() { 2 } else { 1 })
        }
    }
}

/// Codes 0 to 2 are the gate's answers, so its errors have another.
fn gate_answer(answer: anyhow::Result<ExitCode>) -> ExitCode {
    answer.unwrap_or_else(|e| {
        let _ = writeln!(std::io::stderr(), "error: {e:#}");
        ExitCode::from(gate::FAILED)
    })
}

/// Prints help, or what is wrong with the flags.
fn usage(e: &clap::Error) -> ExitCode {
    let _ = e.print();
    let is_gate = std::env::args().nth(1).is_some_and(|command| command == "gate");
    match (e.use_stderr(), is_gate) {
        (false, _) => ExitCode::SUCCESS,
        (true, true) => ExitCode::from(gate::FAILED),
        (true, false) => ExitCode::from(2),
    }
}

/// Prints what people read to stdout, no wider than they can.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    print(&sheet::prose(text))
}

/// Prints to stdout. A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(e).context("cannot write to standard output"))
        }
        _ => Ok(()),
    }
}
