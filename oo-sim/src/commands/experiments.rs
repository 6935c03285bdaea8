//! `oo-sim experiments`: the questions of the repository, and running them again.

use super::{BadInput, print, say};
use crate::experiments::{self, Folder, Size};
use crate::sheet::table;
use crate::store;
use anyhow::{Result, anyhow};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Shown under `experiments --help`.
pub(super) fn after_help() -> String {
    format!(
        "Examples:\n  oo-sim experiments list\n  oo-sim experiments run original-promotions\n  oo-sim experiments run \
         delay --small --check\n\nAn experiment is a folder: docs/experiments.md says what is in it.\n\n{}",
        super::exit_codes()
    )
}

/// The command's own commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the experiments
    #[arg(long, global = true, default_value = "experiments", value_name = "DIR")]
    experiments: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the questions, their size, and whether their data are here
    List {
        /// What to print
        #[arg(long, default_value = "table")]
        format: Format,
    },
    /// Run every step of an experiment; results go to runs/NAME, those of the small size to runs/small/runs/NAME
    Run {
        /// A name from the list
        name: String,
        /// A small size that takes seconds and answers nothing
        #[arg(long)]
        small: bool,
        /// Compare with the folder's expected.toml, and fail where something differs
        #[arg(long, requires = "small", conflicts_with = "accept")]
        check: bool,
        /// Write what was found into expected.toml
        #[arg(long, requires = "small")]
        accept: bool,
    },
    /// Draw the figures of an experiment again, from the tables of its README
    Draw {
        /// A name from the list
        name: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The table of experiments/README.md
    Markdown,
    /// For programs
    Json,
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] for a folder without experiments, an unknown name, a folder that cannot be read, and data that are not
/// here; a step that fails; results that differ from what is expected.
pub fn run(args: Args) -> Result<()> {
    let root = args.experiments;
    match args.command {
        Command::List { format } => list(&root, format),
        Command::Run {
            name,
            small,
            check,
            accept,
        } => {
            let folder = experiments::find(&root, &name).map_err(BadInput)?;
            // Before the work: it would be in vain.
            let expected = check.then(|| folder.expected()).transpose().map_err(BadInput)?;
            let size = if small { Size::Small } else { Size::Full };
            let found = experiments::run(&folder, size, &mut print)?;
            if accept {
                let file = folder.path.join("expected.toml");
                store::write_text(&file, &found.toml(&name)?)?;
                print(&format!("{}\n", file.display()))?;
            }
            let Some(expected) = expected else { return Ok(()) };
            let differ = expected.differences(&found, &folder.manifest);
            if differ.is_empty() {
                return print("As expected.\n");
            }
            Err(anyhow!("not as expected:\n{}", differ.join("\n")))
        }
        Command::Draw { name } => {
            let folder = experiments::find(&root, &name).map_err(BadInput)?;
            let drawn = experiments::figures(&folder).map_err(BadInput)?;
            for (file, drawing) in drawn {
                let file = folder.path.join(file);
                store::write_text(&file, &drawing)?;
                print(&format!("{}\n", file.display()))?;
            }
            Ok(())
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    question: &'a str,
    answer: &'a str,
    size: &'a str,
    data: &'a [String],
    missing: Vec<&'a str>,
}

fn line(folder: &Folder) -> Result<Line<'_>> {
    let Folder { name, manifest, .. } = folder;
    Ok(Line {
        name,
        question: &manifest.question,
        answer: &manifest.answer,
        size: &manifest.size,
        data: &manifest.data,
        missing: folder.missing()?,
    })
}

fn list(root: &Path, format: Format) -> Result<()> {
    let all = experiments::index(root).map_err(BadInput)?;
    let lines: Vec<Line<'_>> = all.iter().map(line).collect::<Result<_>>()?;
    match format {
        Format::Json => print(&(serde_json::to_string_pretty(&lines)? + "\n")),
        Format::Markdown => print(&experiments::markdown(&all)),
        Format::Table => {
            let mut t = table(["name", "question", "size", "data"], &[]);
            let mut missing: Vec<&str> = Vec::new();
            for line in lines {
                let data = match (line.data.len(), line.missing.len()) {
                    (0, _) => "none".into(),
                    (all, 0) => format!("all {all} here"),
                    (all, gone) => format!("{gone} of {all} missing"),
                };
                t.add_row([line.name, line.question, line.size, &data]);
                missing.extend(line.missing);
            }
            missing.sort_unstable();
            missing.dedup();
            let get = match missing[..] {
                [] => String::new(),
                _ => format!("\nWhat is missing: oo-sim data get {}\n", missing.join(" ")),
            };
            say(&format!("{t}\n{get}"))
        }
    }
}
