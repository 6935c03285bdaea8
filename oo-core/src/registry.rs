//! Static tables: a name, what to say about it, and how to build it. Help, reference pages and universal checks
//! are generated from them.

use crate::spec::{Part, Spec, configure};
use crate::{Build, Error, Policy, Result, Shape};
use serde_json::{Map, Value};

/// Makes a blank policy from options, for rounds of a shape.
pub type BuildPolicy = fn(&Map<String, Value>, &Shape) -> Result<Box<dyn Policy>>;

/// Name and one line of help of an option.
pub type OptionHelp = (&'static str, &'static str);

/// Two tables of options in one, at compile time; `N` is the sum of their lengths.
///
/// ```
/// use oo_core::registry::{OptionHelp, join};
/// const OWN: &[OptionHelp] = &[("alpha", "exploration width")];
/// const SHARED: &[OptionHelp] = &[("lambda", "ridge penalty")];
/// const ALL: &[OptionHelp] = &join::<{ OWN.len() + SHARED.len() }>(OWN, SHARED);
/// assert_eq!(ALL[1].0, "lambda");
/// ```
pub const fn join<const N: usize>(first: &[OptionHelp], then: &[OptionHelp]) -> [OptionHelp; N] {
    assert!(N == first.len() + then.len());
    let mut all = [("", ""); N];
    let mut i = 0;
    while i < N {
        all[i] = if i < first.len() {
            first[i]
        } else {
            then[i - first.len()]
        };
        i += 1;
    }
    all
}

/// One policy in the table.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// Name and help an option.
    pub options: &'static [OptionHelp],
    /// The options with their default values.
    pub defaults: fn() -> Map<String, Value>,
    /// Makes a blank policy.
    pub build: BuildPolicy,
}

/// A name for a spec that is used often.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// The name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub summary: &'static str,
    /// What it stands for.
    pub spec: &'static str,
}

/// The table entry of a policy type.
pub const fn entry<P: Build>() -> Entry {
    Entry {
        name: P::NAME,
        summary: P::SUMMARY,
        paper: P::PAPER,
        options: P::OPTIONS,
        defaults: || match serde_json::to_value(P::Config::default()) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        },
        build: |options, shape| Ok(Box::new(P::build(configure(P::NAME, options)?, shape)?)),
    }
}

/// The spec with presets replaced by what they stand for. Options given to a preset go to its base.
pub fn expand(spec: &Spec, presets: &[Preset]) -> Result<Spec> {
    let Some(preset) = presets.iter().find(|p| p.name == spec.base().name) else {
        return Ok(spec.clone());
    };
    let mut full = Spec::parse(preset.spec)?;
    full.parts[0].options.extend(spec.base().options.clone());
    full.parts.extend_from_slice(spec.wrappers());
    Ok(full)
}

/// Finds `part` by name in a table.
pub fn find<'t, T>(table: &'t [T], name: impl Fn(&T) -> &str, part: &Part, kind: &str, more: &[&str]) -> Result<&'t T> {
    table
        .iter()
        .find(|e| name(e) == part.name)
        .ok_or_else(|| Error::Unknown {
            kind: kind.into(),
            name: part.name.clone(),
            known: table
                .iter()
                .map(|e| name(e).to_string())
                .chain(more.iter().map(|m| m.to_string()))
                .collect(),
        })
}
