//! What is logged, as it stands in the spool: everything to be said of one run, in one line.
//!
//! An entry may be sent any number of times and changes nothing the second time. Several entries of a run add up: one
//! that opens it, say, and one that ends it.

use crate::limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970: MLflow's time.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Something to say of a run.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Entry {
    /// Tells the run from all others of its spool.
    pub run: String,
    /// The run that it belongs to, by the same kind of name. It must have been logged before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// For people.
    pub name: String,
    /// When it began.
    pub start_ms: i64,
    /// How it ended; `None` leaves it running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<i64>,
    /// What it was given. The server refuses another value for a key that it has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// What else is known of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// What was measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// The data that it read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<Dataset>,
    /// What it made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artefacts: Vec<Artefact>,
    /// What it made that is worth serving.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Model>,
}

/// How a run ended. The server ignores words that it does not know, so these are all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// It goes on.
    Running,
    /// Well.
    Finished,
    /// With an error.
    Failed,
    /// Somebody stopped it.
    Killed,
}

impl Status {
    /// As the server calls it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Running => "RUNNING",
            Status::Finished => "FINISHED",
            Status::Failed => "FAILED",
            Status::Killed => "KILLED",
        }
    }
}

/// A number at a step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Metric {
    /// Its name.
    #[serde(rename = "k")]
    pub key: String,
    /// Its value. Infinities become tags.
    #[serde(rename = "v", serialize_with = "number_out", deserialize_with = "number_in")]
    pub value: f64,
    /// Where on the course.
    #[serde(rename = "s")]
    pub step: i64,
    /// When.
    #[serde(rename = "t")]
    pub ms: i64,
}

/// JSON has no word for what is not a number.
fn number_out<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.is_nan() {
        to.serialize_str("NaN")
    } else {
        to.serialize_f64(*value)
    }
}

fn number_in<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Plain(f64),
        Word(String),
    }
    match Number::deserialize(from)? {
        Number::Plain(value) => Ok(value),
        Number::Word(word) => word.parse().map_err(serde::de::Error::custom),
    }
}

/// A data set that a run read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// What tells one content from another; at most 36 characters are kept.
    pub digest: String,
    /// `local`, `http` or `code`.
    pub source_type: String,
    /// Where it comes from, as JSON.
    pub source: String,
    /// What for: `simulation`, say.
    pub context: String,
}

/// A file among a run's artefacts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Artefact {
    /// Its path there, with `/`.
    pub path: String,
    /// The bytes.
    pub content: Content,
}

/// Where an artefact's bytes are.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// In a file of the folder that the spool belongs to, by its path in it.
    File {
        /// The path.
        path: PathBuf,
        /// SHA-256 of what it must hold.
        sha256: String,
    },
    /// Here.
    Text(String),
}

/// A folder of artefacts as a version of a registered model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Model {
    /// Tells this version from all others.
    pub key: String,
    /// The registered model.
    pub name: String,
    /// The folder among the run's artefacts.
    pub artefact: String,
    /// For people.
    pub description: String,
    /// What is known of the version.
    pub tags: BTreeMap<String, String>,
    /// When it was decided. A later decision is not undone by an earlier one that arrives late.
    pub decided_ms: i64,
    /// What becomes of the aliases.
    pub role: Role,
}

/// How a version changes who is champion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It becomes the champion; the champion before it becomes the challenger.
    Promoted,
    /// It was the champion until now: registered where the model has no champion yet, and left out otherwise.
    Replaced,
}

impl Entry {
    /// The same, within the server's limits. What had to be changed is told by tags:
    /// `oo.cut` names the parameters and tags that were cut, whose whole text is in the artefacts under `cut/`;
    /// `oo.not_finite/KEY` has the infinite values of a metric with their steps.
    #[must_use]
    pub fn guarded(mut self) -> Entry {
        let mut cut = Vec::new();
        let mut wholes = Vec::new();
        let mut guard = |texts: &BTreeMap<String, String>, kind: &str, limit: usize| {
            let mut out = BTreeMap::new();
            for (name, text) in texts {
                let key = limits::key(name);
                let (kept, was_cut) = limits::cut(text, limit);
                if was_cut {
                    cut.push(format!("{kind} {key}"));
                    wholes.push(Artefact {
                        path: format!("cut/{kind}-{}.txt", key.replace(['/', ':'], "_")),
                        content: Content::Text(text.clone()),
                    });
                }
                out.insert(key, kept);
            }
            out
        };
        self.params = guard(&self.params, "param", limits::PARAM);
        self.tags = guard(&self.tags, "tag", limits::TAG);
        if !cut.is_empty() {
            self.tags
                .insert("oo.cut".into(), limits::cut(&cut.join(", "), limits::TAG).0);
            self.artefacts.extend(wholes);
        }
        let mut infinite: BTreeMap<String, Vec<String>> = BTreeMap::new();
        self.metrics.retain_mut(|metric| {
            metric.key = limits::key(&metric.key);
            if metric.value.is_infinite() {
                let list = infinite.entry(metric.key.clone()).or_default();
                list.push(format!("step {}: {}", metric.step, metric.value));
            }
            !metric.value.is_infinite()
        });
        for (key, list) in infinite {
            let name = limits::key(&format!("oo.not_finite/{key}"));
            self.tags.insert(name, limits::cut(&list.join("; "), limits::TAG).0);
        }
        for dataset in &mut self.datasets {
            dataset.name = limits::cut(&dataset.name, limits::DATASET_NAME).0;
            dataset.digest = limits::digest(&dataset.digest);
            dataset.source = limits::cut(&dataset.source, limits::DATASET_SOURCE).0;
        }
        for model in &mut self.models {
            model.tags = std::mem::take(&mut model.tags)
                .into_iter()
                .map(|(key, text)| (limits::key(&key), limits::cut(&text, limits::TAG).0))
                .collect();
        }
        self.name = limits::cut(&self.name, limits::KEY).0;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_changed_in_silence() {
        let metric = |key: &str, value, step| Metric {
            key: key.into(),
            value,
            step,
            ms: 1,
        };
        let entry = Entry {
            run: "r".into(),
            params: [
                ("short".into(), "x".into()),
                ("long{x}".into(), "é".repeat(limits::PARAM + 1)),
            ]
            .into(),
            tags: [("t".into(), "y".repeat(limits::TAG + 1))].into(),
            metrics: vec![
                metric("m@1", 1.5, 0),
                metric("m@1", f64::INFINITY, 1),
                metric("m@1", f64::NEG_INFINITY, 2),
                metric("n", f64::NAN, 3),
            ],
            ..Entry::default()
        };
        let guarded = entry.clone().guarded();
        assert_eq!(guarded.params["short"], "x");
        assert_eq!(guarded.params["long_x_"].chars().count(), limits::PARAM);
        assert_eq!(guarded.tags["t"].chars().count(), limits::TAG);
        assert_eq!(guarded.tags["oo.cut"], "param long_x_, tag t");
        assert_eq!(guarded.tags["oo.not_finite/m_1"], "step 1: inf; step 2: -inf");
        assert_eq!(guarded.metrics.len(), 2);
        let whole = &guarded.artefacts[0];
        assert_eq!(whole.path, "cut/param-long_x_.txt");
        assert_eq!(whole.content, Content::Text(entry.params["long{x}"].clone()));
        // A line and back, and what is within the limits stays as it is.
        let line = serde_json::to_string(&guarded).unwrap();
        let back: Entry = serde_json::from_str(&line).unwrap();
        assert!(back.metrics[1].value.is_nan());
        assert_eq!(serde_json::to_string(&back.guarded()).unwrap(), line);
    }
}
