//! `oo-sim report`: a finished run as one HTML page.

use super::{BadInput, print};
use crate::experiment::{Experiment, Plan};
use crate::store::{self, Store};
use crate::{report, runner};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a run, as compare wrote it: runs/compare, say
    run: PathBuf,
    /// File to write; RUN/report.html by default
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The plan of the run, once all of its cells are known to be there and whole.
pub(crate) fn finished(run: &Path) -> Result<(Plan, Store)> {
    let folder = run.display();
    let file = run.join("experiment.toml");
    ensure!(
        file.is_file(),
        "{folder} is no folder of a run: expected experiment.toml in it; give the folder that `oo-sim compare` wrote, \
         such as runs/compare"
    );
    let plan = Experiment::read(&file)?
        .plan()
        .with_context(|| format!("{}", file.display()))?;
    let store = Store::existing(run);
    let all = runner::cells(&plan);
    let missing: Vec<_> = all.iter().filter(|c| !store.is_finished(&plan, **c)).collect();
    if let Some(first) = missing.first() {
        bail!(
            "{} of {} cells in {folder} are missing or damaged, first {} in {}, seed {}; finish the run with \
             `oo-sim compare {} --out {folder}`",
            missing.len(),
            all.len(),
            first.policy.name,
            first.env.name,
            first.seed,
            file.display()
        );
    }
    Ok((plan, store))
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] for a folder that is no finished run; anything else while reading or writing.
pub fn run(args: Args) -> Result<()> {
    let (plan, store) = finished(&args.run).map_err(BadInput)?;
    let timings = args.run.join("timings.json");
    let timings = match std::fs::read(&timings) {
        // A run that was stopped between its last cell and its tables has none.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        read => {
            let place = || {
                format!(
                    "cannot read {}; run the comparison again to have it written",
                    timings.display()
                )
            };
            Some(serde_json::from_slice(&read.with_context(place)?).with_context(place)?)
        }
    };
    let html = report::html(&plan, &store, timings.as_ref())?;
    let out = args.out.unwrap_or_else(|| args.run.join("report.html"));
    store::write_text(&out, &html)?;
    print(&format!("{}\n", out.display()))
}
