//! The registry: models, their versions, and the aliases `champion` and `challenger`.

use crate::client::{Client, whole};
use crate::entry::{Model, Role};
use crate::error::{Error, Result};
use crate::runs::{Run, list};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Who is in charge.
pub const CHAMPION: &str = "champion";
/// Who was before, or may be next.
pub const CHALLENGER: &str = "challenger";

/// Which model a version is, by its key.
const KEY_TAG: &str = "oo.key";
/// When its promotion was decided.
const DECIDED_TAG: &str = "oo.decided_ms";

/// A version of a registered model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Its number, from 1.
    pub number: u64,
    /// What is known of it.
    pub tags: BTreeMap<String, String>,
}

impl Version {
    fn decided_ms(&self) -> i64 {
        self.tags.get(DECIDED_TAG).and_then(|t| t.parse().ok()).unwrap_or(0)
    }
}

/// `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `models:/NAME/latest`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// The model.
    pub name: String,
    /// Which version of it.
    pub which: Which,
}

/// A version, named in one of three ways.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// By what is expected of it: it may change.
    Alias(String),
    /// By its number: it never changes.
    Number(u64),
    /// The one of the highest number.
    Latest,
}

impl Reference {
    /// How references begin.
    pub const PREFIX: &'static str = "models:/";

    /// Reads one.
    ///
    /// # Errors
    /// Another form, or a name that a folder cannot have.
    pub fn parse(text: &str) -> Result<Reference> {
        let wrong = || Error::Reference { got: text.into() };
        let rest = text.strip_prefix(Self::PREFIX).ok_or_else(wrong)?;
        let (name, which) = match (rest.rsplit_once('@'), rest.rsplit_once('/')) {
            (Some((name, alias)), _) => (name, Which::Alias(alias.into())),
            (None, Some((name, "latest"))) => (name, Which::Latest),
            (None, Some((name, number))) => (name, Which::Number(number.parse().map_err(|_| wrong())?)),
            (None, None) => return Err(wrong()),
        };
        let plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "-_. ".contains(c));
        let alias_is_plain = !matches!(&which, Which::Alias(a) if a.is_empty() || !plain(a));
        if !plain(name) || name.trim_matches(['.', ' ']).is_empty() || !alias_is_plain {
            return Err(wrong());
        }
        Ok(Reference {
            name: name.into(),
            which,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Alias(alias) => write!(f, "models:/{}@{alias}", self.name),
            Which::Number(number) => write!(f, "models:/{}/{number}", self.name),
            Which::Latest => write!(f, "models:/{}/latest", self.name),
        }
    }
}

impl Client {
    /// The version that a reference means now.
    ///
    /// # Errors
    /// No answer, or nothing of that name.
    pub fn version(&self, reference: &Reference) -> Result<Version> {
        let name = reference.name.as_str();
        let found = match &reference.which {
            Which::Alias(alias) => self.alias(name, alias)?,
            Which::Latest => self.search(name, None, 1)?.into_iter().next(),
            Which::Number(number) => {
                const GET: &str = "model-versions/get";
                match self.get(GET, &[("name", name), ("version", &number.to_string())]) {
                    Err(e) if e.is_missing() => None,
                    found => Some(self.read_version(GET, &found?["model_version"])?),
                }
            }
        };
        found.ok_or_else(|| Error::Missing {
            server: self.server().into(),
            what: reference.to_string(),
        })
    }

    /// Where the files of a version lie.
    ///
    /// # Errors
    /// No answer, or no such version.
    pub fn files_of(&self, name: &str, version: u64) -> Result<String> {
        const URI: &str = "model-versions/get-download-uri";
        let found = self.get(URI, &[("name", name), ("version", &version.to_string())])?;
        self.text(URI, &found, "/artifact_uri")
    }

    /// Who has an alias; `None` where nobody has, or where there is no such model.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn alias(&self, name: &str, alias: &str) -> Result<Option<Version>> {
        const ALIAS: &str = "registered-models/alias";
        match self.get(ALIAS, &[("name", name), ("alias", alias)]) {
            Err(e) if e.is_missing() => Ok(None),
            found => self.read_version(ALIAS, &found?["model_version"]).map(Some),
        }
    }

    /// Registers a version once, and moves the aliases as its role says.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn register(&self, run: &Run, model: &Model) -> Result<()> {
        let name = model.name.as_str();
        match self.post("registered-models/create", &json!({ "name": name })) {
            Err(e) if e.has_code("RESOURCE_ALREADY_EXISTS") => {}
            made => drop(made?),
        }
        let champion = self.alias(name, CHAMPION)?;
        if model.role == Role::Replaced && champion.is_some() {
            return Ok(());
        }
        let version = match self.version_of(run, model)? {
            Some(version) => {
                // Promoted again: what was decided in between and arrives later must not undo it.
                if version.decided_ms() < model.decided_ms {
                    self.set_decided(name, version.number, model.decided_ms)?;
                }
                version
            }
            None => match self.create_version(run, model) {
                // Whether it was made is open: the registry knows.
                Err(e) if e.may_pass() => self.version_of(run, model)?.ok_or(e)?,
                made => made?,
            },
        };
        match champion {
            Some(champion) if champion.number == version.number => Ok(()),
            Some(champion) if champion.decided_ms() > model.decided_ms => Ok(()),
            Some(champion) => {
                // In this order: once the champion is another, the one before it is known as challenger.
                self.set_alias(name, CHALLENGER, champion.number)?;
                self.set_alias(name, CHAMPION, version.number)
            }
            None => self.set_alias(name, CHAMPION, version.number),
        }
    }

    fn version_of(&self, run: &Run, model: &Model) -> Result<Option<Version>> {
        let all = self.search(&model.name, Some(&run.id), 100)?;
        Ok(all.into_iter().find(|v| v.tags.get(KEY_TAG) == Some(&model.key)))
    }

    fn create_version(&self, run: &Run, model: &Model) -> Result<Version> {
        const CREATE: &str = "model-versions/create";
        let mut tags = model.tags.clone();
        tags.insert(KEY_TAG.into(), model.key.clone());
        tags.insert(DECIDED_TAG.into(), model.decided_ms.to_string());
        let tags: Vec<Value> = tags
            .iter()
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect();
        let body = json!({
            "name": model.name,
            "source": format!("{}/{}", run.artefacts, model.artefact),
            "run_id": run.id,
            "description": model.description,
            "tags": tags,
        });
        let made = self.post_once(CREATE, &body)?;
        self.read_version(CREATE, &made["model_version"])
    }

    fn set_decided(&self, name: &str, version: u64, ms: i64) -> Result<()> {
        let body = json!({"name": name, "version": version.to_string(), "key": DECIDED_TAG, "value": ms.to_string()});
        self.post("model-versions/set-tag", &body).map(drop)
    }

    fn set_alias(&self, name: &str, alias: &str, version: u64) -> Result<()> {
        let body = json!({"name": name, "alias": alias, "version": version.to_string()});
        self.post("registered-models/alias", &body).map(drop)
    }

    /// Versions of a model, of one run where it is named, the last first.
    fn search(&self, name: &str, run: Option<&str>, most: u32) -> Result<Vec<Version>> {
        const SEARCH: &str = "model-versions/search";
        let mut filter = format!("name = '{name}'");
        if let Some(run) = run {
            filter += &format!(" AND run_id = '{run}'");
        }
        let query = [
            ("filter", filter.as_str()),
            ("order_by", "version_number DESC"),
            ("max_results", &most.to_string()),
        ];
        let answer = self.get(SEARCH, &query)?;
        let found = list(&answer, "model_versions").map(|v| self.read_version(SEARCH, v));
        found.collect()
    }

    fn read_version(&self, call: &str, version: &Value) -> Result<Version> {
        let number = whole(&version["version"]).and_then(|n| u64::try_from(n).ok());
        let text = |tag: &Value, key: &str| tag[key].as_str().map(String::from);
        Ok(Version {
            number: number.ok_or_else(|| self.unexpected(call, "version"))?,
            tags: list(version, "tags")
                .filter_map(|tag| Some((text(tag, "key")?, text(tag, "value")?)))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for text in ["models:/tips@champion", "models:/a b.c-d/12", "models:/x/latest"] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), text);
        }
        for wrong in [
            "models:/",
            "models:/x",
            "models:/x@",
            "models:/x/y",
            "models:/../1",
            "models:/x/1/2",
            "models:/x'y/1",
            "models:/@champion",
            "runs:/x@champion",
        ] {
            let said = Reference::parse(wrong).unwrap_err().to_string();
            assert!(said.contains("models:/NAME@ALIAS"), "{said}");
        }
    }
}
