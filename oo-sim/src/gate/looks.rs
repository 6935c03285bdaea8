//! The record of looks, `looks.json` beside the report: which rule was held against which evidence, in which order.
//!
//! It makes a rule that changed after a look visible, and counts looks. It cannot know of looks that went past the gate
//! (the table of `oo-sim compare`), nor of a record that somebody deleted.

use super::report::{Pair, Report};
use crate::folder::Location;
use anyhow::{Context, Result};
use oo_judge::gate::{Answer, Evidence, History};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

const FILE: &str = "looks.json";

/// One look.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Look {
    /// Who was compared, and where.
    pub pair: Pair,
    /// Digest of the rule.
    pub rule: String,
    /// Digest of the evidence.
    pub evidence: String,
    /// Where it came from, in words.
    pub sources: Vec<String>,
    /// Decisions of each policy, by source.
    pub decisions: Vec<u64>,
    /// Clusters, likewise.
    pub clusters: Vec<usize>,
    /// What the gate said.
    pub answer: Answer,
    /// When, in seconds since 1970. Nothing depends on it.
    pub unix_time: u64,
}

impl Look {
    /// Now.
    pub fn new(pair: &Pair, report: &Report, evidence: &[Evidence]) -> Look {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let sources = report.sources.iter();
        Look {
            pair: pair.clone(),
            rule: report.rule_digest.clone(),
            evidence: report.evidence_digest.clone(),
            sources: sources
                .map(|s| format!("{} {}: {}", s.kind, s.what, s.detail))
                .collect(),
            decisions: evidence.iter().map(|e| e.decisions).collect(),
            clusters: evidence.iter().map(|e| e.clusters).collect(),
            answer: report.answer,
            unix_time: now.map_or(0, |d| d.as_secs()),
        }
    }
}

/// All looks, in their order.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Looks(Vec<Look>);

impl Looks {
    /// The looks in a folder; none where there is no record.
    ///
    /// # Errors
    /// A record that cannot be read: going on without it would hide looks.
    pub fn read(folder: &Location) -> Result<Looks> {
        let place = || {
            format!(
                "cannot read {}, the record of earlier looks; put it right; only fresh evidence in another folder has \
                 no record",
                folder.join(FILE)
            )
        };
        match folder.folder()?.read(FILE).with_context(place)? {
            None => Ok(Looks::default()),
            Some(bytes) => serde_json::from_slice(&bytes).with_context(place),
        }
    }

    /// What went before a look at this evidence. The same evidence looked at again is the same look.
    pub fn history(&self, pair: &Pair, rule: &str, evidence: &str) -> History {
        let mut seen: Vec<&str> = Vec::new();
        let of_pair: Vec<&Look> = self.0.iter().filter(|l| l.pair == *pair).collect();
        for look in &of_pair {
            if look.evidence == evidence {
                break;
            }
            if !seen.contains(&look.evidence.as_str()) {
                seen.push(&look.evidence);
            }
        }
        let objection = of_pair.first().filter(|first| first.rule != rule).map(|first| {
            let short = |digest: &str| digest.chars().take(8).collect::<String>();
            format!(
                "the rule of the first look, {}…; this is {}…",
                short(&first.rule),
                short(rule)
            )
        });
        History {
            looks_before: seen.len() as u32,
            objection,
        }
    }

    /// Adds the looks of another record.
    pub fn join(&mut self, other: Looks) {
        other.0.into_iter().for_each(|look| self.add(look));
    }

    /// Adds a look, unless the last one was the very same.
    pub fn add(&mut self, look: Look) {
        let same = |l: &Look| (&l.pair, &l.rule, &l.evidence) == (&look.pair, &look.rule, &look.evidence);
        if !self.0.iter().any(same) {
            self.0.push(look);
        }
    }

    /// Writes the record.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(&self, folder: &Location) -> Result<()> {
        folder
            .join(FILE)
            .write_text(&(serde_json::to_string_pretty(self)? + "\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(rule: &str, evidence: &str) -> Look {
        Look {
            pair: Pair {
                champion: "a".into(),
                challenger: "b".into(),
                env: None,
            },
            rule: rule.into(),
            evidence: evidence.into(),
            sources: vec![],
            decisions: vec![],
            clusters: vec![],
            answer: Answer::Undecided,
            unix_time: 0,
        }
    }

    #[test]
    fn looks_are_counted_once_and_a_changed_rule_is_seen() {
        let mut looks = Looks::default();
        let pair = look("", "").pair;
        assert_eq!(looks.history(&pair, "r", "1"), History::default());
        for evidence in ["1", "2", "2"] {
            looks.add(look("r", evidence));
        }
        let before = |evidence| looks.history(&pair, "r", evidence).looks_before;
        assert_eq!([before("1"), before("2"), before("3")], [0, 1, 2]);
        assert!(looks.history(&pair, "r", "3").objection.is_none());
        assert!(
            looks
                .history(&pair, "other", "3")
                .objection
                .unwrap()
                .contains("first look")
        );
        let other = Pair {
            challenger: "c".into(),
            ..pair
        };
        assert_eq!(looks.history(&other, "other", "3"), History::default());
        let folder = tempfile::tempdir().unwrap();
        let place = Location::from(folder.path());
        looks.write(&place).unwrap();
        assert_eq!(Looks::read(&place).unwrap(), looks);
        std::fs::write(folder.path().join(FILE), "[{").unwrap();
        assert!(Looks::read(&place).is_err());
    }
}
