//! Names with options, as they stand on the command line: `lin-ucb{alpha=0.05}`, `linear{d=10}+delay{rounds=50}`.
//!
//! A spec is a base and any number of wrappers, joined by `+`. Options are `key=value` between braces; a value is
//! a number, `true`, `false`, a bare word, or a text in quotes.

use crate::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::fmt;

/// One name with its options.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The name before the brace.
    pub name: String,
    /// What stands between the braces, by key.
    pub options: Map<String, Value>,
}

/// A base and its wrappers, the innermost first.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// At least one part.
    pub parts: Vec<Part>,
}

impl Spec {
    /// Reads a spec.
    ///
    /// # Errors
    /// [`Error::Syntax`] with the character and what was expected there.
    pub fn parse(text: &str) -> Result<Spec> {
        let mut reader = Reader {
            text,
            chars: text.chars().collect(),
            at: 0,
        };
        let mut parts = vec![reader.part()?];
        while reader.eat('+') {
            parts.push(reader.part()?);
        }
        if reader.at < reader.chars.len() {
            return Err(reader.expected("`{`, `+` or the end"));
        }
        Ok(Spec { parts })
    }

    /// The first part.
    pub fn base(&self) -> &Part {
        &self.parts[0]
    }

    /// The parts after the first.
    pub fn wrappers(&self) -> &[Part] {
        &self.parts[1..]
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, (key, value)) in self.options.iter().enumerate() {
            f.write_str(if i == 0 { "{" } else { "," })?;
            match value {
                Value::String(s) if s.chars().all(is_word) && !s.is_empty() => write!(f, "{key}={s}")?,
                other => write!(f, "{key}={other}")?,
            }
        }
        if self.options.is_empty() {
            Ok(())
        } else {
            f.write_str("}")
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts.iter().enumerate() {
            if i > 0 {
                f.write_str("+")?;
            }
            part.fmt(f)?;
        }
        Ok(())
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "-_./:~".contains(c)
}

struct Reader<'a> {
    text: &'a str,
    chars: Vec<char>,
    at: usize,
}

impl Reader<'_> {
    fn expected(&self, what: &str) -> Error {
        Error::Syntax {
            text: self.text.into(),
            at: self.at + 1,
            expected: what.into(),
        }
    }

    fn eat(&mut self, c: char) -> bool {
        let hit = self.chars.get(self.at) == Some(&c);
        self.at += usize::from(hit);
        hit
    }

    fn skip_space(&mut self) {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }

    fn word(&mut self, what: &str) -> Result<String> {
        let start = self.at;
        while self.chars.get(self.at).is_some_and(|&c| is_word(c)) {
            self.at += 1;
        }
        if start == self.at {
            Err(self.expected(what))
        } else {
            Ok(self.chars[start..self.at].iter().collect())
        }
    }

    fn part(&mut self) -> Result<Part> {
        self.skip_space();
        let name = self.word("a name")?;
        let mut options = Map::new();
        if self.eat('{') {
            self.skip_space();
            while !self.eat('}') {
                let key = self.word("an option or `}`")?;
                self.skip_space();
                if !self.eat('=') {
                    return Err(self.expected("`=`"));
                }
                self.skip_space();
                let value = self.value()?;
                options.insert(key, value);
                self.skip_space();
                if !self.eat(',') && self.chars.get(self.at) != Some(&'}') {
                    return Err(self.expected("`,` or `}`"));
                }
                self.skip_space();
            }
        }
        self.skip_space();
        Ok(Part { name, options })
    }

    fn value(&mut self) -> Result<Value> {
        for quote in ['"', '\''] {
            if self.eat(quote) {
                let start = self.at;
                while self.chars.get(self.at).is_some_and(|&c| c != quote) {
                    self.at += 1;
                }
                let text: String = self.chars[start..self.at].iter().collect();
                return if self.eat(quote) {
                    Ok(Value::String(text))
                } else {
                    Err(self.expected("a closing quote"))
                };
            }
        }
        let word = self.word("a value")?;
        Ok(match word.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            w => match serde_json::from_str::<Value>(w) {
                Ok(number @ Value::Number(_)) => number,
                _ => match w.parse::<f64>() {
                    Ok(x) if x.is_finite() => serde_json::json!(x),
                    _ => Value::String(word),
                },
            },
        })
    }
}

/// The configuration of `owner`: its defaults with `options` on top.
///
/// # Errors
/// [`Error::Unknown`] for an option that `C` has no field for, [`Error::Option`] for a value of the wrong type.
pub fn configure<C>(owner: &str, options: &Map<String, Value>) -> Result<C>
where
    C: Default + Serialize + DeserializeOwned,
{
    let Ok(Value::Object(mut merged)) = serde_json::to_value(C::default()) else {
        return Err(Error::Failed(format!("the options of {owner} are no table")));
    };
    for (key, value) in options {
        if !merged.contains_key(key) {
            return Err(Error::Unknown {
                kind: format!("option of {owner}"),
                name: key.clone(),
                known: merged.keys().cloned().collect(),
            });
        }
        let before = merged.insert(key.clone(), value.clone());
        // One at a time, so that the message can name the option.
        if let Err(e) = serde_json::from_value::<C>(Value::Object(merged.clone())) {
            let expected = e.to_string();
            let expected = expected.split("expected ").nth(1).unwrap_or(&expected);
            let default = before.map(|v| format!(" (default {v})")).unwrap_or_default();
            return Err(Error::Option {
                owner: owner.into(),
                option: key.clone(),
                expected: format!("{expected}{default}"),
                got: value.to_string(),
            });
        }
    }
    serde_json::from_value(Value::Object(merged)).map_err(|e| Error::Failed(format!("{owner}: {e}")))
}

/// Refuses a value outside its range, naming owner and option.
pub fn require(ok: bool, owner: &str, option: &str, expected: &str, got: impl fmt::Display) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::Option {
        owner: owner.into(),
        option: option.into(),
        expected: expected.into(),
        got: got.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        let text = "lin-ucb{alpha=0.05,model=disjoint}+per-user";
        let spec = Spec::parse(text).unwrap();
        assert_eq!(spec.base().options["alpha"], serde_json::json!(0.05));
        assert_eq!(spec.wrappers()[0].name, "per-user");
        assert_eq!(spec.to_string(), text);
        assert_eq!(Spec::parse("data:/a/b.csv.gz").unwrap().base().name, "data:/a/b.csv.gz");
    }

    #[test]
    fn says_where_it_stopped() {
        let message = |t: &str| Spec::parse(t).unwrap_err().to_string();
        assert_eq!(message("a{b}"), "cannot read `a{b}` at character 4: expected `=`");
        assert_eq!(
            message("a{b=1"),
            "cannot read `a{b=1` at character 6: expected `,` or `}`"
        );
        assert_eq!(message(""), "cannot read `` at character 1: expected a name");
    }

    #[derive(Debug, Default, Serialize, serde::Deserialize)]
    struct Config {
        alpha: f64,
    }

    #[test]
    fn options_are_checked_by_name_and_type() {
        let options = |t: &str| Spec::parse(t).unwrap().base().options.clone();
        let e = configure::<Config>("x", &options("x{alhpa=1}")).unwrap_err();
        assert!(e.to_string().contains("did you mean `alpha`"), "{e}");
        let e = configure::<Config>("x", &options("x{alpha=much}")).unwrap_err();
        assert_eq!(
            e.to_string(),
            "option `alpha` of x: expected f64 (default 0.0), got \"much\""
        );
    }
}
