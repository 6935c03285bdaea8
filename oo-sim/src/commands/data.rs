//! `oo-sim data`: which data sets there are, getting them, finding them.

use super::{BadInput, print, say};
use crate::datasets::get::{self, Got};
use crate::datasets::{Dataset, cache, manifest, sets};
use crate::sheet::table;
use crate::table::thousands;
use anyhow::{Result, anyhow};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// Shown under `data --help`.
pub(super) const AFTER_HELP: &str = "\
Examples:\n  oo-sim data list\n  oo-sim data get mushroom adult\n  oo-sim compare --env data:mushroom --rounds 2000\n\n\
The data folder is OO_DATA_DIR, or else the platform's cache folder.\n\nExit codes:\n  0  fine\n  1  failure while \
running: no network, a wrong file, a folder that cannot be written\n  2  bad input: a flag or a name";

/// The command's own commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the data sets and say which are on this machine
    List {
        /// What to print
        #[arg(long, default_value = "table")]
        format: Format,
    },
    /// Download data sets from their publishers and convert them
    Get {
        /// Names, or all
        #[arg(required = true)]
        names: Vec<String>,
        /// Download from a mirror of the original files instead, which holds them as URL/NAME/FILE
        #[arg(long, value_name = "URL")]
        from: Option<String>,
    },
    /// Print where the file of a data set is
    Path {
        /// A name from the list
        name: String,
    },
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
/// [`BadInput`] for an unknown name; anything else while running.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::List { format } => list(format),
        Command::Get { names, from } => get(&names, from.as_deref()),
        Command::Path { name } => {
            let set = manifest::named(&name).map_err(|e| BadInput(e.into()))?;
            let path = cache::locate_in(&cache::folder()?, set)?;
            print(&format!("{}\n", path.display()))
        }
    }
}

#[derive(Serialize)]
struct Listing<'a> {
    folder: String,
    sets: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    title: &'a str,
    task: &'a str,
    rows: usize,
    features: usize,
    classes: usize,
    licence: &'a str,
    present: bool,
    file: &'a str,
    source: &'a str,
    citation: &'a str,
}

fn line<'a>(set: &'a Dataset, folder: &Path) -> Line<'a> {
    Line {
        name: &set.name,
        title: &set.title,
        task: &set.task,
        rows: set.rows,
        features: set.features,
        classes: set.classes,
        licence: &set.licence,
        present: set.is_in(folder),
        file: &set.file,
        source: &set.original_url,
        citation: &set.citation,
    }
}

fn list(format: Format) -> Result<()> {
    let folder = cache::folder()?;
    let lines: Vec<Line<'_>> = sets().iter().map(|set| line(set, &folder)).collect();
    let folder = folder.display().to_string();
    if format == Format::Json {
        let listing = Listing { folder, sets: lines };
        return print(&(serde_json::to_string_pretty(&listing)? + "\n"));
    }
    let mut t = table(["name", "rows", "features", "classes", "licence", "here"], &[1, 2, 3]);
    for line in lines {
        t.add_row([
            line.name.to_string(),
            thousands(line.rows as u64),
            line.features.to_string(),
            line.classes.to_string(),
            line.licence.to_string(),
            if line.present { "yes" } else { "no" }.to_string(),
        ]);
    }
    say(&format!(
        "{t}\n\nWhere they come from: oo-sim data list --format json\nData folder: {folder}\n"
    ))
}

fn get(names: &[String], from: Option<&str>) -> Result<()> {
    if let Some(url) = from.filter(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        return Err(BadInput(anyhow!(
            "--from: expected an address with http:// or https://, got `{url}`"
        ))
        .into());
    }
    let mut wanted: Vec<&Dataset> = Vec::new();
    for name in names {
        let named = match name.as_str() {
            "all" => sets().iter().collect(),
            name => vec![manifest::named(name).map_err(|e| BadInput(e.into()))?],
        };
        for set in named {
            if !wanted.iter().any(|w| w.name == set.name) {
                wanted.push(set);
            }
        }
    }
    let folder = cache::folder()?;
    let mut failures = Vec::new();
    for set in &wanted {
        let path = folder.join(&set.file);
        match get::get(set, &folder, from) {
            Ok(Got::Present) => print(&format!("{}: already there, {}\n", set.name, path.display()))?,
            Ok(Got::Made) => print(&format!("{}: written, {}\n", set.name, path.display()))?,
            Err(e) => failures.push((set, e)),
        }
    }
    // One set that cannot be had must not keep the others away.
    if wanted.len() == 1
        && let Some((_, e)) = failures.pop()
    {
        return Err(e);
    }
    for (set, e) in &failures {
        // Nothing is left to do when stderr is closed too.
        let _ = writeln!(std::io::stderr(), "error: {}: {e:#}", set.name);
    }
    let names: Vec<&str> = failures.iter().map(|(set, _)| set.name.as_str()).collect();
    anyhow::ensure!(
        names.is_empty(),
        "{} of {} data sets could not be had: {}",
        names.len(),
        wanted.len(),
        names.join(", ")
    );
    Ok(())
}
