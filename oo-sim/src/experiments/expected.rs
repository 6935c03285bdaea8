//! What a small run should find, as a file.

use super::findings::{Finding, Said};
use super::folder::Manifest;
use crate::experiment::parse_toml;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// By step, column, row. One order, whatever the order of the results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expected(BTreeMap<String, BTreeMap<String, BTreeMap<String, Value>>>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Number(f64),
    Word(String),
}

impl Value {
    fn shown(&self) -> String {
        match self {
            Value::Number(x) => x.to_string(),
            Value::Word(word) => word.clone(),
        }
    }
}

impl Expected {
    /// Reads the file's text.
    ///
    /// # Errors
    /// What is no such table, with its line.
    pub fn parse(text: &str) -> Result<Expected> {
        parse_toml(text)
    }

    /// What was found, by step.
    pub fn of(found: &[(String, Vec<Finding>)]) -> Expected {
        let mut all = Expected::default();
        for (step, findings) in found {
            let of_step = all.0.entry(step.clone()).or_default();
            for finding in findings {
                let value = match &finding.said {
                    Said::Number(x, _) => Value::Number(*x),
                    Said::Word(word) => Value::Word(word.clone()),
                };
                let column = of_step.entry(finding.column.clone()).or_default();
                column.insert(finding.row.clone(), value);
            }
        }
        all.0.retain(|_, step| !step.is_empty());
        all
    }

    /// The file's text.
    ///
    /// # Errors
    /// None in practice: TOML holds every number.
    pub fn toml(&self, name: &str) -> Result<String> {
        let table = toml::to_string(self).context("cannot write the expected results as TOML")?;
        Ok(format!(
            "# At the small size. `oo-sim experiments run {name} --small --accept` wrote it, `--small --check` compares.\n\n\
             {table}"
        ))
    }

    /// The steps that something is expected of.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What differs between this and what was found, a line each; nothing where all agree.
    pub fn differences(&self, found: &Expected, manifest: &Manifest) -> Vec<String> {
        let tolerance = |step: &str| {
            let step = manifest.steps.iter().find(|s| s.name == step);
            step.map_or(0.0, |s| s.tolerance)
        };
        let mut out = Vec::new();
        let (here, there) = (self.flat(), found.flat());
        for (&place, want) in &here {
            let tolerance = tolerance(place.0);
            let why = match there.get(&place) {
                None => "nothing".into(),
                Some(got) if agree(want, got, tolerance) => continue,
                Some(got) => got.shown(),
            };
            out.push(format!(
                "{}, {}, {}: expected {} within {tolerance:e}, found {why}",
                place.0,
                place.1,
                place.2,
                want.shown()
            ));
        }
        for (place, got) in there.iter().filter(|(place, _)| !here.contains_key(*place)) {
            let found = got.shown();
            out.push(format!(
                "{}, {}, {}: expected nothing, found {found}",
                place.0, place.1, place.2
            ));
        }
        out
    }

    fn flat(&self) -> BTreeMap<(&str, &str, &str), &Value> {
        let mut all = BTreeMap::new();
        for (step, columns) in &self.0 {
            for (column, rows) in columns {
                for (row, value) in rows {
                    all.insert((step.as_str(), column.as_str(), row.as_str()), value);
                }
            }
        }
        all
    }
}

fn agree(want: &Value, got: &Value, tolerance: f64) -> bool {
    match (want, got) {
        (Value::Number(a), Value::Number(b)) => (a - b).abs() <= tolerance * a.abs().max(1.0),
        (want, got) => want == got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(x: f64) -> Expected {
        let number = |row: &str, x| Finding {
            column: "world".into(),
            row: row.into(),
            said: Said::Number(x, None),
        };
        let word = Finding {
            column: "world".into(),
            row: "survives".into(),
            said: Said::Word("yes".into()),
        };
        Expected::of(&[
            ("compare".into(), vec![number("a{x=1}", x), word]),
            ("fit".into(), vec![]),
        ])
    }

    fn manifest(tolerance: f64) -> Manifest {
        let text = format!(
            "question = 'q'\nanswer = 'a'\nsize = 's'\n[[step]]\nname = 'compare'\ncommand = 'compare'\ntolerance = \
             {tolerance}\n"
        );
        parse_toml(&text).unwrap()
    }

    #[test]
    fn goes_through_its_file_and_back() {
        let expected = found(0.1 + 0.2);
        assert_eq!(Expected::parse(&expected.toml("x").unwrap()).unwrap(), expected);
        assert_eq!(expected.steps().collect::<Vec<_>>(), ["compare"]);
    }

    #[test]
    fn whatever_differs_is_named() {
        let (manifest, want) = (manifest(0.01), found(0.5));
        assert!(want.differences(&found(0.509), &manifest).is_empty());
        let lines = want.differences(&found(0.52), &manifest);
        assert_eq!(lines, ["compare, world, a{x=1}: expected 0.5 within 1e-2, found 0.52"]);
        assert_eq!(want.differences(&Expected::default(), &manifest).len(), 2);
        let lines = Expected::default().differences(&want, &manifest);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("expected nothing, found 0.5"), "{lines:?}");
        assert!(!want.differences(&found(f64::NAN), &manifest).is_empty());
    }
}
