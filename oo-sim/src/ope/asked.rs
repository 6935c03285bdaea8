//! Estimators as they are asked for: `all`, or names with options such as `snips,dr-clipped{lambda=5}`.
//!
//! `lambda` may be a number, or the rule that chooses it from the log: `dr-os{lambda=slope}`.

use crate::experiment::split_specs;
use anyhow::{Result, bail};
use oo_core::registry;
use oo_core::spec::Part;
use oo_core::{Error, Spec};
use oo_judge::estimators::tuning::{GRID, Rule, Tuning};
use oo_judge::estimators::{ESTIMATORS, Entry, Weights};
use oo_judge::stats::Interval;
use oo_judge::stats::intervals::{cressie_read_estimate, likelihood_estimate};
use serde_json::Value;

/// The rules that choose a parameter, by name.
pub const RULES: &[(&str, &str, Rule)] = &[
    ("mse", "the least estimated mean squared error", Rule::Mse),
    ("slope", "Lepski's principle in pairs (SLOPE++)", Rule::Slope),
    (
        "slope-intervals",
        "Lepski's principle by common points of intervals (SLOPE)",
        Rule::SlopeIntervals,
    ),
];

/// An estimate that needs all weights and rewards at once.
pub struct Whole {
    /// The name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// The estimate from weights, rewards and the range of possible weights.
    pub value: fn(&[f64], &[f64], Interval) -> Option<f64>,
}

/// All of these.
pub const WHOLE: &[Whole] = &[
    Whole {
        name: "mle",
        summary: "most likely value under the constraint that weights average 1",
        paper: "Karampatziakis, Langford, Mineiro (2020), arXiv:1906.03323",
        value: likelihood_estimate,
    },
    Whole {
        name: "cressie-read",
        summary: "the same with a quadratic likelihood, in closed form",
        paper: "Karampatziakis, Langford, Mineiro (2020), arXiv:1906.03323",
        value: cressie_read_estimate,
    },
];

/// One estimate that is asked for.
#[derive(Clone, Copy)]
pub enum Asked {
    /// An estimator with its parameter, its default where none is given.
    Fixed(&'static Entry, Option<f64>),
    /// An estimator whose parameter a rule chooses.
    Tuned(&'static Entry, &'static str, Rule),
    /// One that needs all weights and rewards at once.
    Whole(&'static Whole),
}

impl Asked {
    /// The name in the tables.
    pub fn name(&self) -> &'static str {
        match self {
            Asked::Fixed(entry, _) | Asked::Tuned(entry, ..) => entry.name,
            Asked::Whole(whole) => whole.name,
        }
    }

    /// What sets it apart from others: name, parameter with its default, rule.
    fn identity(&self) -> (&'static str, Option<u64>, Option<&'static str>) {
        match self {
            Asked::Fixed(entry, given) => {
                let parameter = given.or(entry.parameter.map(|p| p.default));
                (entry.name, parameter.map(f64::to_bits), None)
            }
            Asked::Tuned(entry, rule, _) => (entry.name, None, Some(rule)),
            Asked::Whole(whole) => (whole.name, None, None),
        }
    }

    /// The table's row, where it is one of the estimators that go row by row.
    pub fn entry(&self) -> Option<&'static Entry> {
        match self {
            Asked::Fixed(entry, _) | Asked::Tuned(entry, ..) => Some(entry),
            Asked::Whole(_) => None,
        }
    }

    /// Whether it is worth nothing without a reward model.
    pub fn needs_model(&self) -> bool {
        self.entry().is_some_and(|entry| entry.needs_model)
    }

    /// Whether it wants a model of its own, fitted for the least variance.
    pub fn needs_own_model(&self) -> bool {
        self.name() == oo_judge::estimators::doubly_robust::MORE_ROBUST.name
    }
}

/// The estimators that need nothing but weights of one policy over another: embeddings and several loggers are no part of
/// a log.
pub fn estimators() -> impl Iterator<Item = &'static Entry> {
    ESTIMATORS.iter().filter(|entry| entry.weights == Weights::Importance)
}

/// Every estimator at its default, and every one with a parameter tuned by `mse` and by `slope`.
pub fn all() -> Vec<Asked> {
    let mut asked = Vec::new();
    for entry in estimators() {
        asked.push(Asked::Fixed(entry, None));
        for &(name, _, rule) in &RULES[..2] {
            // A grid of largest weights fits those whose parameter is one.
            if Tuning::new(entry, &GRID).is_ok() {
                asked.push(Asked::Tuned(entry, name, rule));
            }
        }
    }
    asked.extend(WHOLE.iter().map(Asked::Whole));
    asked
}

/// Reads what was asked for; the flag says whether it was `all`.
///
/// # Errors
/// An unknown name or option, a parameter out of range.
pub fn parse(text: &str) -> Result<(Vec<Asked>, bool)> {
    let names = split_specs(text);
    if names == ["all"] {
        return Ok((all(), true));
    }
    if names.is_empty() {
        bail!("--estimators: expected `all` or names with commas between them, got nothing");
    }
    let mut asked: Vec<Asked> = Vec::new();
    for name in &names {
        let one = parse_one(name)?;
        if asked.iter().any(|other| other.identity() == one.identity()) {
            bail!("--estimators: `{name}` is asked for twice");
        }
        asked.push(one);
    }
    Ok((asked, false))
}

fn parse_one(text: &str) -> Result<Asked> {
    let spec = Spec::parse(text)?;
    if let Some(wrapper) = spec.wrappers().first() {
        bail!("estimator `{text}`: expected no wrapper, got `+{}`", wrapper.name);
    }
    let part = spec.base();
    if let Some(whole) = WHOLE.iter().find(|w| w.name == part.name) {
        if let Some(option) = part.options.keys().next() {
            bail!("estimator `{}` has no options, got `{option}`", whole.name);
        }
        return Ok(Asked::Whole(whole));
    }
    // `ips{lambda=5}` can only mean the clipped one.
    let clipped = Part {
        name: format!("{}-clipped", part.name),
        options: part.options.clone(),
    };
    let is_clipped = !part.options.is_empty() && estimators().any(|e| e.name == clipped.name);
    let part = if is_clipped { &clipped } else { part };
    let more: Vec<&str> = WHOLE.iter().map(|w| w.name).chain(["all"]).collect();
    let entry = registry::find(ESTIMATORS, |e| e.name, part, "estimator", &more)?;
    if entry.weights != Weights::Importance {
        bail!(
            "estimator `{}` needs embeddings of actions or several logging policies, which no log holds; it is in the \
             library only",
            entry.name
        );
    }
    let known = entry.parameter.map_or("none", |p| p.name);
    if let Some(other) = part.options.keys().find(|o| *o != known) {
        return Err(Error::Unknown {
            kind: format!("option of {}", entry.name),
            name: other.clone(),
            known: vec![known.into()],
        }
        .into());
    }
    match part.options.get(known) {
        None => Ok(Asked::Fixed(entry, None)),
        Some(Value::String(word)) if word == "inf" => fixed(entry, f64::INFINITY),
        Some(Value::String(word)) => {
            let Some(&(name, _, rule)) = RULES.iter().find(|r| r.0 == word) else {
                let rules: Vec<&str> = RULES.iter().map(|r| r.0).collect();
                bail!(
                    "option `{known}` of {}: expected a number, inf, or a rule ({}), got `{word}`",
                    entry.name,
                    rules.join(", ")
                );
            };
            Tuning::new(entry, &GRID)?;
            Ok(Asked::Tuned(entry, name, rule))
        }
        Some(value) => match value.as_f64() {
            Some(x) => fixed(entry, x),
            None => bail!("option `{known}` of {}: expected a number, got {value}", entry.name),
        },
    }
}

fn fixed(entry: &'static Entry, value: f64) -> Result<Asked> {
    entry.build(Some(value))?;
    Ok(Asked::Fixed(entry, Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_options_and_rules() {
        let (asked, whole) = parse("snips,ips{lambda=5},dr-os{lambda=slope},mle,switch-dr{lambda=inf}").unwrap();
        let names: Vec<&str> = asked.iter().map(Asked::name).collect();
        assert_eq!(names, ["snips", "ips-clipped", "dr-os", "mle", "switch-dr"]);
        assert!(matches!(asked[1], Asked::Fixed(_, Some(5.0))));
        assert!(matches!(asked[2], Asked::Tuned(_, "slope", _)));
        assert!(!whole);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("sinps", "did you mean `snips`"),
            ("snips{lambda=1}", "unknown option of snips `lambda`"),
            ("dr-os{lamda=1}", "did you mean `lambda`"),
            ("dr-os{lambda=often}", "expected a number, inf, or a rule"),
            ("dr-os{lambda=-1}", "from 0 to inf"),
            ("sg-dr{lambda=mse}", "from 0 to 1"),
            ("ips+per-user", "expected no wrapper"),
            ("snips,dr,snips", "`snips` is asked for twice"),
            ("ips{lambda=20},ips-clipped", "`ips-clipped` is asked for twice"),
            ("", "got nothing"),
        ] {
            let e = format!("{:#}", parse(text).err().unwrap());
            assert!(e.contains(expected), "{text}: {e}");
        }
    }
}
