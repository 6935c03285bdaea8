//! What the gate tells: as text, as JSON.

use crate::{sheet, table};
use anyhow::{Context, Result};
use oo_judge::gate::{Answer, Check, Looks, Outcome, Rule};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Who is compared, and in which environment where both ran.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pair {
    /// Canonical.
    pub champion: String,
    /// Canonical.
    pub challenger: String,
    /// Canonical.
    pub env: Option<String>,
}

/// Where evidence comes from.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Source {
    /// `run` or `log`.
    pub kind: &'static str,
    /// The folder or file.
    pub what: String,
    /// Environment and seeds, or what the policies learned from.
    pub detail: String,
    /// SHA-256 over its content, as far as it was looked at.
    pub digest: String,
}

/// The answer with everything it rests on.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Promote, keep or undecided.
    pub answer: Answer,
    /// Where undecided: about so many more decisions of each policy, if any number would do.
    pub more_decisions: Option<u64>,
    /// As it was asked for.
    pub champion: String,
    /// As it was asked for.
    pub challenger: String,
    /// Where the evidence comes from.
    pub sources: Vec<Source>,
    /// Which look at growing evidence this is, from 1.
    pub look: u32,
    /// The rule, with everything said.
    pub rule: Rule,
    /// Whether nobody wrote it.
    pub rule_is_default: bool,
    /// SHA-256 of the rule as TOML, as it is printed.
    pub rule_digest: String,
    /// SHA-256 over the sources.
    pub evidence_digest: String,
    /// Every check.
    pub checks: Vec<Check>,
}

impl Report {
    /// One line.
    pub fn headline(&self) -> String {
        match (self.answer, self.more_decisions) {
            (Answer::Promote, _) => format!("promote: {} replaces {}", self.challenger, self.champion),
            (Answer::Keep, _) => format!("keep: {} stays", self.champion),
            (Answer::Undecided, Some(n)) => {
                format!(
                    "undecided (about {} more decisions)",
                    table::thousands(table::rounded(n))
                )
            }
            (Answer::Undecided, None) => "undecided (more decisions alone will not settle it)".into(),
        }
    }

    /// What the guarantees are, in words.
    pub fn method(&self) -> String {
        // 100 · (1 − 0.95) is not 5 in floating point.
        let alpha = (1e8 * (1.0 - self.rule.confidence)).round() / 1e6;
        let looks = match self.rule.looks {
            Looks::Any(_) => "however often it is looked at while clusters are added".to_string(),
            Looks::Planned(1) => "in the one look planned".into(),
            Looks::Planned(n) => format!("over the {n} looks planned"),
        };
        format!(
            "Promotion needs every check to pass; a challenger that falls short of any requirement is promoted with \
             probability at most {alpha} %, {looks}. Checks fail at {alpha} % divided by their number, so one that \
             meets them all is sent away with probability at most {alpha} %. Bounds are one-sided."
        )
    }

    /// The JSON of `--format json` and of `report.json`.
    ///
    /// # Errors
    /// None in practice: every number is finite.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self).context("cannot write the report as JSON")? + "\n")
    }

    /// For people. `rule_text` is the rule as TOML.
    pub fn text(&self, rule_text: &str) -> String {
        let mut out = format!("{}\n\n", self.headline());
        // Writing to a String cannot fail.
        for s in &self.sources {
            let _ = writeln!(out, "{} {}: {}", s.kind, s.what, s.detail);
        }
        let header = ["check", "of", "required", "seen", "bounds", "outcome"];
        let mut rows = sheet::table(header, &[3, 4]);
        for c in &self.checks {
            rows.add_row(cells(c));
        }
        let _ = writeln!(out, "\n{rows}\n\n{}\n", self.method());
        let whose = if self.rule_is_default {
            "No --rule: this default was used. Save it, change it, and keep it from the first look on"
        } else {
            "Rule"
        };
        let _ = writeln!(
            out,
            "{whose} (look {}, digest {}):\n\n{}",
            self.look,
            &self.rule_digest[..16],
            rule_text.trim_end()
        );
        out
    }
}

/// The cells of a row, for the table and for the page.
pub fn cells(c: &Check) -> Vec<String> {
    let bound = |x: Option<f64>, none: &str| x.map_or_else(|| none.into(), |x| format!("{x:+.4}"));
    let counted = c.required.starts_with("at ") || c.required.starts_with("an ");
    let seen = c.seen.map_or_else(
        || "–".into(),
        |x| {
            if !counted {
                format!("{x:+.4}")
            } else if x.fract() == 0.0 {
                table::thousands(x as u64)
            } else {
                format!("{x:.4}")
            }
        },
    );
    let bounds = match (c.low, c.high) {
        (None, None) => String::new(),
        (low, high) => format!("{} … {}", bound(low, "−∞"), bound(high, "∞")),
    };
    let outcome = match (c.outcome, c.more_decisions) {
        (Outcome::Pass, _) => "pass".into(),
        (Outcome::Fail, _) => "fail".into(),
        (Outcome::Undecided, Some(n)) if n > 0 => {
            format!(
                "undecided: about {} more decisions",
                table::thousands(table::rounded(n))
            )
        }
        (Outcome::Undecided, _) => "undecided".into(),
    };
    vec![
        c.name.clone(),
        c.source.into(),
        c.required.clone(),
        seen,
        bounds,
        outcome,
    ]
}
