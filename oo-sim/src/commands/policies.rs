//! `oo-sim policies` and `oo-sim environments`: the reference, from the tables themselves.

use super::say;
use crate::environments::{ENVIRONMENTS, WRAPPERS};
use anyhow::Result;
use serde_json::{Map, Value};
use std::fmt::Write;

/// Shown under `policies --help`.
pub(super) const POLICIES_HELP: &str = "\
Examples:\n  oo-sim policies\n  oo-sim compare --policies 'lin-ucb{alpha=0.05},lin-ts'";

/// Shown under `environments --help`.
pub(super) const ENVIRONMENTS_HELP: &str = "\
Examples:\n  oo-sim environments\n  oo-sim compare --env 'tips{preset=sparse},linear{d=20}+delay{rounds=50}'";

fn options(out: &mut String, options: &[(&str, &str)], defaults: &Map<String, Value>) {
    for (name, help) in options {
        let default = defaults
            .get(*name)
            .map(|v| format!(" (default {})", shown(v)))
            .unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "    {name}: {help}{default}");
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "none".into(),
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        other => other.to_string(),
    }
}

/// Every policy, preset and wrapper as text.
pub fn policies_text() -> String {
    let mut out = String::from("Policies\n");
    for entry in oo_policies::POLICIES {
        let _ = writeln!(out, "\n  {}: {}\n    {}", entry.name, entry.summary, entry.paper);
        options(&mut out, entry.options, &(entry.defaults)());
    }
    out.push_str("\nPresets\n\n");
    for preset in oo_policies::PRESETS {
        let _ = writeln!(out, "  {}: {}\n    {}", preset.name, preset.summary, preset.spec);
    }
    out.push_str("\nWrappers\n");
    for entry in oo_policies::WRAPPERS {
        let _ = writeln!(out, "\n  +{}: {}", entry.name, entry.summary);
        options(&mut out, entry.options, &(entry.defaults)());
    }
    out
}

/// Every environment and wrapper as text.
pub fn environments_text() -> String {
    let mut out = String::from("Environments\n");
    for entry in ENVIRONMENTS {
        let _ = writeln!(out, "\n  {}: {}", entry.name, entry.summary);
        options(&mut out, entry.options, &(entry.defaults)());
    }
    out.push_str("\nWrappers\n");
    for entry in WRAPPERS {
        let _ = writeln!(out, "\n  +{}: {}", entry.name, entry.summary);
        options(&mut out, entry.options, &(entry.defaults)());
    }
    out
}

/// `oo-sim policies`.
///
/// # Errors
/// A stdout that cannot be written.
pub fn policies() -> Result<()> {
    say(&policies_text())
}

/// `oo-sim environments`.
///
/// # Errors
/// A stdout that cannot be written.
pub fn environments() -> Result<()> {
    say(&environments_text())
}
