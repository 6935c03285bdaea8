//! The rule of an experiment, as a request gives it.

use crate::artefact::read_file;
use crate::http::problem::Problem;
use oo_judge::gate::Rule;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::fmt;
use std::path::Path;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Bytes of a file with a rule.
const LARGEST: u64 = 1 << 20;

/// A rule, or where it stands.
#[derive(Clone, PartialEq, Debug)]
pub enum RuleGiven {
    /// Itself.
    Rule(Box<Rule>),
    /// The path of a TOML file.
    File(String),
}

impl<'de> Deserialize<'de> for RuleGiven {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = RuleGiven;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, or the path of a TOML file")
            }
            fn visit_str<E>(self, path: &str) -> Result<RuleGiven, E> {
                Ok(RuleGiven::File(path.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RuleGiven, A::Error> {
                Rule::deserialize(MapAccessDeserializer::new(map)).map(|rule| RuleGiven::Rule(Box::new(rule)))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl PartialSchema for RuleGiven {
    fn schema() -> RefOr<Schema> {
        let forms = OneOfBuilder::new()
            .item(Object::new())
            .item(Object::with_type(Type::String));
        forms
            .description(Some("A rule of docs/gate.md, or the path of a TOML file with one."))
            .into()
    }
}

impl ToSchema for RuleGiven {}

impl RuleGiven {
    /// The rule.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no rule.
    pub fn read(&self) -> Result<Rule, Problem> {
        match self {
            RuleGiven::Rule(rule) => Ok((**rule).clone()),
            RuleGiven::File(path) => {
                let expected = "expected an object or the path of a TOML file";
                let text = read(path).map_err(|e| Problem::field("rule", format!("{expected}; {path}: {e}")))?;
                toml::from_str(&text).map_err(|e| Problem::field("rule", format!("{path}: {}", e.message())))
            }
        }
    }
}

fn read(path: &str) -> std::io::Result<String> {
    let bytes = read_file(Path::new(path), LARGEST)?;
    String::from_utf8(bytes).map_err(std::io::Error::other)
}
