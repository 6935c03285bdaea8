//! One HTML page about a finished run: it needs no network, no script and no font, reads in light and dark, and
//! prints. The same cells give the same bytes; only the section of timings, the last, comes from a clock.

mod axis;
mod charts;
mod page;
pub(crate) mod plots;
mod svg;
mod traces;
mod verdict;

use crate::experiment::Plan;
use crate::store::Store;
use crate::summary::{self, Summary, Timings};
use anyhow::{Context, Result};
use traces::Trace;

/// The page of the run in `store`. `timings` are those of `timings.json`, where it is there.
///
/// # Errors
/// A cell file that is missing or damaged.
pub fn html(plan: &Plan, store: &Store, timings: Option<&Timings>) -> Result<String> {
    of(plan, store, &summary::summarize(plan, store)?, timings)
}

/// The same for a summary that is there already.
///
/// # Errors
/// As [`html`].
pub(crate) fn of(plan: &Plan, store: &Store, summary: &Summary, timings: Option<&Timings>) -> Result<String> {
    let traces: Vec<Vec<Trace>> = plan
        .envs
        .iter()
        .map(|env| traces::read(plan, store, env))
        .collect::<Result<_>>()?;
    let page = page::Page::new(&page::Source {
        experiment: &plan.experiment,
        baseline: plan.baseline.map(|b| plan.policies[b].name.as_str()),
        summary,
        traces: &traces,
        timings,
    })?;
    page.render().context("cannot fill in the page")
}

/// The page's style sheet, for pages of the same family.
pub(crate) fn style() -> &'static str {
    let after = page::TEMPLATE.split_once("<style>").map_or("", |(_, rest)| rest);
    after.split_once("</style>").map_or("", |(style, _)| style)
}
