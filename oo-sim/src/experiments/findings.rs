//! What a step may be, and what of its results counts.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One number, or word, that a step found.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// What it is under: a world, mostly.
    pub column: String,
    /// What it is about: a policy or an estimator, mostly.
    pub row: String,
    /// What was found.
    pub said: Said,
}

/// See [`Finding`].
#[derive(Clone, PartialEq, Debug)]
pub enum Said {
    /// A number, with half the width of its 95 % interval where there is one.
    Number(f64, Option<f64>),
    /// A word.
    Word(String),
}

impl Finding {
    fn number(column: &str, row: &str, value: &Value, ci: &Value) -> Finding {
        let half = match (ci[0].as_f64(), ci[1].as_f64()) {
            (Some(low), Some(high)) => Some((high - low) / 2.0),
            _ => None,
        };
        Finding {
            column: column.into(),
            row: row.into(),
            said: match value.as_f64() {
                Some(x) => Said::Number(x, half),
                None => Said::Word("none".into()),
            },
        }
    }

    fn word(column: &str, row: &str, word: &str) -> Finding {
        Finding {
            column: column.into(),
            row: row.into(),
            said: Said::Word(word.into()),
        }
    }
}

/// A command that a step may be.
#[derive(Debug)]
pub struct Kind {
    /// The command's name.
    pub command: &'static str,
    /// The flags by which its results come into the folder of the run, and the file of the results. Both have `{out}`
    /// where the folder and the step's name stand.
    pub flags: &'static [(&'static str, &'static str)],
    /// The results as JSON; none where there is nothing to read off.
    pub file: Option<&'static str>,
    /// The largest exit code that is an answer and no failure.
    pub answers: i32,
    /// Whether the command prints nothing, so that the findings are shown instead.
    pub silent: bool,
    read: fn(&Value) -> Result<Vec<Finding>>,
}

/// The commands that a step may be.
pub const KINDS: &[Kind] = &[
    Kind {
        flags: &[("out", "{out}")],
        file: Some("{out}/summary.json"),
        ..kind("compare", compare)
    },
    kind("fit", nothing),
    kind("migrate", nothing),
    Kind {
        flags: &[("out", "{out}.json")],
        file: Some("{out}.json"),
        ..kind("sensitivity", sensitivity)
    },
    Kind {
        flags: &[("report", "{out}"), ("out", "{out}-winner")],
        file: Some("{out}/report.json"),
        // Promote, keep, undecided.
        answers: 2,
        ..kind("gate", gate)
    },
    Kind {
        flags: &[("out", "{out}.json"), ("format", "json")],
        file: Some("{out}.json"),
        silent: true,
        ..kind("ope", ope)
    },
    Kind {
        flags: &[("out", "{out}.json")],
        file: Some("{out}.json"),
        ..kind("ope-bench", ope_bench)
    },
];

const fn kind(command: &'static str, read: fn(&Value) -> Result<Vec<Finding>>) -> Kind {
    Kind {
        command,
        flags: &[],
        file: None,
        answers: 0,
        silent: false,
        read,
    }
}

impl Kind {
    /// Where the results of a step are.
    pub fn results(&self, out: &str) -> Option<PathBuf> {
        Some(PathBuf::from(self.file?.replace("{out}", out)))
    }

    /// What a step found, from the file of its results.
    ///
    /// # Errors
    /// A file that cannot be read or has another shape.
    pub fn findings(&self, file: &Path) -> Result<Vec<Finding>> {
        let place = || format!("cannot read {}", file.display());
        let text = std::fs::read(file).with_context(place)?;
        let json = serde_json::from_slice(&text).with_context(place)?;
        (self.read)(&json).with_context(place)
    }
}

fn nothing(_: &Value) -> Result<Vec<Finding>> {
    Ok(vec![])
}

fn list<'a>(json: &'a Value, key: &str) -> Result<&'a [Value]> {
    let list = json[key].as_array();
    Ok(list.with_context(|| format!("expected a list under `{key}`"))?)
}

fn text<'a>(json: &'a Value, key: &str) -> Result<&'a str> {
    let text = json[key].as_str();
    text.with_context(|| format!("expected a text under `{key}`"))
}

/// Mean rewards. Differences follow from them.
fn compare(json: &Value) -> Result<Vec<Finding>> {
    let mut all = Vec::new();
    for line in list(json, "policies")? {
        let (env, policy) = (text(line, "env")?, text(line, "policy")?);
        all.push(Finding::number(env, policy, &line["mean_reward"], &line["ci"]));
    }
    Ok(all)
}

/// Mean rewards by spec, and whether the ranking survives.
fn sensitivity(json: &Value) -> Result<Vec<Finding>> {
    let mut all = Vec::new();
    for section in list(json, "environments")? {
        let env = text(section, "env")?;
        for line in list(section, "means")? {
            let column = format!("{env}, {}", text(line, "spec")?);
            all.push(Finding::number(
                &column,
                text(line, "policy")?,
                &line["mean"],
                &line["ci"],
            ));
        }
        let survives = text(section, "survives")?;
        all.push(Finding::word(env, "survives", survives));
    }
    Ok(all)
}

fn gate(json: &Value) -> Result<Vec<Finding>> {
    let who = format!("{} instead of {}", text(json, "challenger")?, text(json, "champion")?);
    Ok(vec![Finding::word("answer", &who, text(json, "answer")?)])
}

fn ope(json: &Value) -> Result<Vec<Finding>> {
    let answers = match json.get("policies") {
        Some(Value::Array(several)) => several.as_slice(),
        Some(_) => bail!("expected a list under `policies`"),
        None => std::slice::from_ref(json),
    };
    let mut all = Vec::new();
    for answer in answers {
        let policy = &without_folders(text(&answer["diagnostics"], "policy")?);
        for line in list(answer, "estimates")? {
            let row = match &line["parameter"] {
                Value::Null => text(line, "estimator")?.to_string(),
                parameter => format!("{}, {parameter}", text(line, "estimator")?),
            };
            all.push(Finding::number(policy, &row, &line["value"], &line["ci"]));
        }
    }
    Ok(all)
}

/// A policy's label without the folder of the log that it learned from: data lie elsewhere on every machine.
fn without_folders(label: &str) -> String {
    let words = label.split(' ').map(|word| {
        word.rsplit('/')
            .next()
            .filter(|_| word.starts_with('/'))
            .unwrap_or(word)
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Relative errors, and how often intervals held.
fn ope_bench(json: &Value) -> Result<Vec<Finding>> {
    let mut all = Vec::new();
    for cell in list(json, "cells")? {
        let place = format!(
            "{}, {}, {} rows",
            text(cell, "world")?,
            text(cell, "logger")?,
            cell["size"]
        );
        for line in list(cell, "lines")? {
            let name = text(line, "name")?;
            for (what, key) in [("error", "relative_error"), ("held", "coverage")] {
                all.push(Finding::number(
                    &format!("{place}: {what}"),
                    name,
                    &line[key],
                    &Value::Null,
                ));
            }
        }
    }
    Ok(all)
}
