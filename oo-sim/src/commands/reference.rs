//! `oo-sim reference`: everything that has a name, as Markdown, from the tables themselves. `docs/reference.md` is
//! its output.

use super::{EXITS, gate, print};
use crate::environments::{ENVIRONMENTS, WRAPPERS};
use crate::logs::FORMATS;
use crate::ope::{asked, intervals};
use anyhow::Result;
use oo_core::features::{self, FeatureSpec};
use oo_core::tips::RewardSpec;
use oo_judge::models::MODELS;
use serde_json::{Map, Value};
use std::fmt::Write;

/// Shown under `reference --help`.
pub(super) const AFTER_HELP: &str = "Examples:\n  oo-sim reference > docs/reference.md";

const INTRODUCTION: &str = "\
# Reference

<!-- Written by `oo-sim reference`. Do not edit: change the tables in the code, and write it again. -->

Specs are names with options, `lin-ucb{alpha=0.5}`; wrappers follow a plus sign, `linear{d=5}+delay{rounds=50}`. An
option that is left out has its default. A number with a point in its default may have one; the others are whole.
";

/// What kind of value an option takes, by its default.
fn kind(default: &Value) -> &'static str {
    match default {
        Value::Bool(_) => "true or false",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "whole number",
        _ => "word",
    }
}

fn shown(default: &Value) -> String {
    match default {
        Value::String(text) if text.is_empty() => "none".into(),
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        other => other.to_string(),
    }
}

fn options(out: &mut String, options: &[(&str, &str)], defaults: &Map<String, Value>) {
    if options.is_empty() {
        out.push_str("\nNo options.\n");
        return;
    }
    out.push_str("\n| Option | Takes | Default | Meaning; range |\n|---|---|---|---|\n");
    for (name, help) in options {
        let default = defaults.get(*name).unwrap_or(&Value::Null);
        // Writing to a String cannot fail; a bar would end the cell.
        let (kind, shown, help) = (kind(default), shown(default), help.replace('|', "\\|"));
        let _ = writeln!(out, "| `{name}` | {kind} | `{shown}` | {help} |");
    }
}

fn policies(out: &mut String) {
    out.push_str("\n## Policies\n");
    for entry in oo_policies::POLICIES {
        let paper = if entry.paper == "none" {
            String::new()
        } else {
            format!("\n{}.", entry.paper)
        };
        let _ = writeln!(out, "\n### `{}`\n\n{}.{paper}", entry.name, entry.summary);
        options(out, entry.options, &(entry.defaults)());
    }
    out.push_str("\n## Presets\n\nOptions given to a preset go to the policy that it stands for.\n");
    for preset in oo_policies::PRESETS {
        let _ = writeln!(
            out,
            "\n### `{}`\n\n{}.\n\n    {}",
            preset.name, preset.summary, preset.spec
        );
    }
    out.push_str("\n## Policy wrappers\n\nThe first is innermost.\n");
    for entry in oo_policies::WRAPPERS {
        let _ = writeln!(out, "\n### `+{}`\n\n{}.", entry.name, entry.summary);
        options(out, entry.options, &(entry.defaults)());
    }
}

fn environments(out: &mut String) {
    out.push_str("\n## Environments\n");
    for entry in ENVIRONMENTS {
        let _ = writeln!(out, "\n### `{}`\n\n{}.", entry.name, sentence(entry.summary));
        options(out, entry.options, &(entry.defaults)());
    }
    out.push_str("\n## Environment wrappers\n\nThe first is innermost.\n");
    for entry in WRAPPERS {
        let _ = writeln!(out, "\n### `+{}`\n\n{}.", entry.name, sentence(entry.summary));
        options(out, entry.options, &(entry.defaults)());
    }
}

/// With a capital at its beginning.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

fn judges(out: &mut String) {
    out.push_str("\n## Judges\n\nWho reacts to a tip.\n\n| Judge | Meaning |\n|---|---|\n");
    for judge in oo_judge::reactions::JUDGES {
        let _ = writeln!(out, "| `{}` | {} |", judge.name, judge.summary);
    }
}

fn rewards(out: &mut String) {
    out.push_str(
        "\n## Reward specs\n\nWhat a reaction pays. \"Done\" pays by dwell, the time from the tip to the reaction.\n\n\
         | Spec | Done | Snooze | Dismiss | Helpful | Not helpful |\n|---|---|---|---|---|---|\n",
    );
    for spec in RewardSpec::all() {
        let bands = spec.done.iter().map(|band| match band.below_ms {
            Some(ms) => format!("{:?} below {} s", band.reward, ms as f64 / 1000.0),
            None if spec.done.len() == 1 => format!("{:?}", band.reward),
            None => format!("{:?} from there on", band.reward),
        });
        let bands: Vec<String> = bands.collect();
        let _ = writeln!(
            out,
            "| `{}` | {} | {:?} | {:?} | {:?} | {:?} |",
            spec.name,
            bands.join(", "),
            spec.snooze,
            spec.dismiss,
            spec.helpful,
            spec.not_helpful
        );
    }
}

fn feature_specs(out: &mut String) -> Result<()> {
    out.push_str(
        "\n## Feature specs\n\nWhat a policy reads of the tips world, with `features=`. `all` reads everything.\n",
    );
    for name in FeatureSpec::ALL {
        let spec = FeatureSpec::named(name)?;
        let _ = writeln!(out, "\n### `{}`\n\n{} features:\n", spec.name, spec.names.len());
        for feature in &spec.names {
            let of = if features::CONTEXT.contains(&feature.as_str()) {
                "context"
            } else {
                "candidate"
            };
            let _ = writeln!(out, "- `{feature}` ({of})");
        }
    }
    Ok(())
}

/// What `oo-sim ope` knows by name.
fn evaluation(out: &mut String) {
    out.push_str(
        "\n## Estimators\n\nOf the value of a target policy, from a log: weight w, reward r, model q̂, the model's value of the \
         target v. Their parameter is `lambda`.\n\n| Estimator | Meaning | Formula | lambda | Source |\n|---|---|---|---|---|\n",
    );
    let cell = |text: &str| text.replace('|', "\\|");
    for entry in asked::estimators() {
        let parameter = entry.parameter.map_or_else(String::new, |p| {
            format!("{}; {} to {}, default {}", p.help, p.low, p.high, p.default)
        });
        let (summary, formula, paper) = (cell(entry.summary), cell(entry.formula), cell(entry.paper));
        let _ = writeln!(
            out,
            "| `{}` | {summary} | {formula} | {parameter} | {paper} |",
            entry.name
        );
    }
    for whole in asked::WHOLE {
        let _ = writeln!(out, "| `{}` | {} | | | {} |", whole.name, whole.summary, whole.paper);
    }
    out.push_str(
        "\nRules that choose `lambda` from the log, as in `dr-os{lambda=slope}`:\n\n| Rule | Meaning |\n|---|---|\n",
    );
    for (name, summary, _) in asked::RULES {
        let _ = writeln!(out, "| `{name}` | {summary} |");
    }
    out.push_str("\n## Intervals\n\n| Interval | Meaning |\n|---|---|\n");
    for (name, summary, _) in intervals::METHODS {
        let _ = writeln!(out, "| `{name}` | {summary} |");
    }
    out.push_str("\n## Reward models\n");
    for entry in MODELS {
        let _ = writeln!(out, "\n### `{}`\n\n{}.", entry.name, sentence(entry.summary));
        options(out, entry.options, &(entry.defaults)());
    }
    out.push_str("\n## Log formats\n\n| Format | Meaning |\n|---|---|\n");
    for format in FORMATS {
        let _ = writeln!(out, "| `{}` | {} |", format.name, cell(format.summary));
    }
}

/// The whole reference.
///
/// # Errors
/// A feature spec that is listed and does not exist.
pub fn text() -> Result<String> {
    let mut out = String::from(INTRODUCTION);
    policies(&mut out);
    environments(&mut out);
    judges(&mut out);
    rewards(&mut out);
    feature_specs(&mut out)?;
    evaluation(&mut out);
    out.push_str("\n## Exit codes\n\n| Code | Meaning |\n|---|---|\n");
    for (code, meaning) in EXITS {
        let _ = writeln!(out, "| {code} | {} |", sentence(meaning));
    }
    out.push_str("\n`oo-sim gate` answers by its exit code:\n\n| Code | Meaning |\n|---|---|\n");
    for (code, meaning) in gate::EXITS {
        let _ = writeln!(out, "| {code} | {} |", sentence(meaning));
    }
    Ok(out)
}

/// `oo-sim reference`.
///
/// # Errors
/// A stdout that cannot be written.
pub fn run() -> Result<()> {
    print(&text()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_reference_is_what_the_program_prints() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == super::text().unwrap(),
            "docs/reference.md is out of date; write it again: \
             cargo run --release --bin oo-sim -- reference > docs/reference.md"
        );
    }
}
