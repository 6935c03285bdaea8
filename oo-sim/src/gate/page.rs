//! The report as one HTML page, in the style of [`crate::report`].

use super::report::{Report, cells};
use anyhow::{Context, Result};
use minijinja::{UndefinedBehavior, value::Serde};
use serde::Serialize;

const TEMPLATE: &str = include_str!("page.html");

/// The template's variables.
#[derive(Serialize)]
struct Page<'a> {
    style: &'static str,
    version: &'static str,
    headline: String,
    report: &'a Report,
    /// The cells of each check, and a class by its outcome.
    checks: Vec<(&'static str, Vec<String>)>,
    method: String,
    rule: &'a str,
}

/// The page. `rule` is the rule as TOML.
///
/// # Errors
/// A template that asks for what is not there.
pub fn html(report: &Report, rule: &str) -> Result<String> {
    use oo_judge::gate::Outcome;
    let class = |outcome| match outcome {
        Outcome::Pass => "better",
        Outcome::Fail => "worse",
        Outcome::Undecided => "open",
    };
    let page = Page {
        style: crate::report::style(),
        version: env!("CARGO_PKG_VERSION"),
        headline: report.headline(),
        report,
        checks: report.checks.iter().map(|c| (class(c.outcome), cells(c))).collect(),
        method: report.method(),
        rule,
    };
    let mut env = minijinja::Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    // The name's ending turns on escaping.
    env.add_template("page.html", TEMPLATE)?;
    let html = env.get_template("page.html")?.render(Serde(&page));
    html.context("cannot fill in the page")
}
