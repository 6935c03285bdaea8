//! `oo-sim report`: a finished run as one HTML page.

use super::{BadInput, print};
use crate::experiment::{Experiment, Plan};
use crate::folder::Location;
use crate::store::Store;
use crate::{report, runner};
use anyhow::{Context, Result, bail, ensure};

/// Shown under `report --help`.
pub(super) const AFTER_HELP: &str = "\
Examples:\n  oo-sim report runs/compare\n  oo-sim report runs/compare --out compare.html\n\nThe page holds everything that it \
shows; it loads nothing.";

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a run, as compare wrote it: runs/compare, say
    run: Location,
    /// File to write; RUN/report.html by default
    #[arg(long)]
    out: Option<Location>,
}

/// The plan of the run, once all of its cells are known to be there and whole.
pub(crate) fn finished(run: &Location) -> Result<(Plan, Store)> {
    let (folder, file) = (run, run.join("experiment.toml"));
    let store = Store::existing(run)?;
    let (plan, _) = planned(&store)?;
    let all = runner::cells(&plan);
    let mut missing = Vec::new();
    for cell in &all {
        if !store.is_finished(&plan, *cell)? {
            missing.push(cell);
        }
    }
    if let Some(first) = missing.first() {
        bail!(
            "{} of {} cells in {folder} are missing or damaged, or of another version of this program, first {} in {}, seed \
             {}; finish the run with `oo-sim compare {file} --out {folder}`",
            missing.len(),
            all.len(),
            first.policy.name,
            first.env.name,
            first.seed,
        );
    }
    Ok((plan, store))
}

/// The plan of a run that may be unfinished, and the text of its experiment.
///
/// # Errors
/// A folder that is no folder of a run.
pub(crate) fn planned(store: &Store) -> Result<(Plan, String)> {
    let folder = store.root();
    let file = folder.join("experiment.toml");
    let text = store
        .folder()
        .read("experiment.toml")
        .with_context(|| format!("cannot read {file}"))?;
    ensure!(
        text.is_some(),
        "{folder} is no folder of a run: expected experiment.toml in it; give the folder that `oo-sim compare` wrote, \
         such as runs/compare"
    );
    let read = || -> Result<(Plan, String)> {
        let text = String::from_utf8(text.unwrap_or_default())?;
        Ok((Experiment::parse(&text)?.plan()?, text))
    };
    read().with_context(|| format!("{file}"))
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] for a folder that is no finished run; anything else while reading or writing.
pub fn run(args: Args) -> Result<()> {
    let (plan, store) = finished(&args.run).map_err(BadInput)?;
    let place = || {
        let file = args.run.join("timings.json");
        format!("cannot read {file}; run the comparison again to have it written")
    };
    // A run that was stopped between its last cell and its tables has none.
    let timings = store.folder().read("timings.json").with_context(place)?;
    let timings = timings
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .with_context(place)?;
    let html = report::html(&plan, &store, timings.as_ref())?;
    let out = args.out.unwrap_or_else(|| args.run.join("report.html"));
    out.write_text(&html)?;
    print(&format!("{out}\n"))
}
