//! A policy that starts from what another one of its kind has learned: `lin-ts+warm{from=FILE}`.
//!
//! What stands before it is loaded once and then learns as ever, so `lin-ts+warm{from=FILE}+per-user` starts every person
//! from the same model. The file is about other people: sums come without the old penalty, people by name become what
//! they say about people, and every old row counts `trust` times (see [`transfer::evidence`]). A population can also start
//! a regression that is about one person: `lin-ts+warm{from=HIERARCHICAL}+per-user` (see [`transfer::person`]).
//!
//! This crate opens no file: whoever builds the policy brings the contents, as [`States`].
//!
//! ```
//! use oo_core::{Spec, features};
//! use oo_policies::{States, build, build_from};
//! let old = build(&Spec::parse("lin-ts{features=v1}")?, &features::shape())?;
//! let mut states = States::default();
//! states.insert("old", old.save());
//! let spec = Spec::parse("lin-ts{features=v1}+warm{from=old,trust=0.1}+per-user")?;
//! let people = build_from(&spec, &features::shape(), &states)?;
//! assert!(!people.save().is_empty());
//! # Ok::<(), oo_core::Error>(())
//! ```

use crate::hierarchical::Hierarchical;
use crate::{Maker, Wrapper, per_user, state, transfer};
use oo_core::spec::{configure, require};
use oo_core::{Build, Error, Policy, Result, Shape, Spec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The wrapper's name.
pub const NAME: &str = "warm";

/// The wrapper's line in the table.
pub const WRAPPER: Wrapper = Wrapper {
    name: NAME,
    summary: "Start from a saved policy that learned on other people or from a log; before +per-user, every person does",
    options: &[
        ("from", "file of the saved policy, as `oo-sim fit` writes it; required"),
        (
            "trust",
            "how many rows of its own one row behind the file counts for: 1 as many as its own, near 0 a cold start; \
             positive, and 1 where a policy keeps no sums",
        ),
    ],
    defaults: || crate::defaults::<Config>(),
    wrap,
};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Config {
    from: String,
    trust: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            from: String::new(),
            trust: 1.0,
        }
    }
}

/// Saved policies by the name that specs call them.
#[derive(Clone, Debug, Default)]
pub struct States(BTreeMap<String, Arc<[u8]>>);

impl States {
    /// Adds what the file `name` holds.
    pub fn insert(&mut self, name: impl Into<String>, bytes: impl Into<Arc<[u8]>>) {
        self.0.insert(name.into(), bytes.into());
    }

    fn get(&self, name: &str) -> Result<&[u8]> {
        self.0.get(name).map(|b| &b[..]).ok_or_else(|| Error::Unfit {
            owner: NAME.into(),
            why: format!("nobody has read `{name}`; +warm stands behind a policy, not inside another one's options"),
        })
    }
}

/// The files that a spec starts from, in its order.
///
/// # Errors
/// Options that +warm does not have, or a file that is not named.
pub fn files(spec: &Spec) -> Result<Vec<String>> {
    let parts = spec.wrappers().iter().filter(|part| part.name == NAME);
    parts.map(|part| Ok(config(&part.options)?.from)).collect()
}

fn config(options: &Map<String, Value>) -> Result<Config> {
    let c: Config = configure(NAME, options)?;
    require(
        !c.from.is_empty(),
        NAME,
        "from",
        "the file of a saved policy",
        "nothing",
    )?;
    let positive = c.trust > 0.0 && c.trust.is_finite();
    require(positive, NAME, "trust", "a positive number", c.trust)?;
    Ok(c)
}

fn wrap(make: Maker, options: &Map<String, Value>, states: &States) -> Result<Maker> {
    let c = config(options)?;
    let bytes = states.get(&c.from)?;
    let mut policy = make()?;
    match start(bytes, policy.as_mut(), c.trust) {
        // Once for all that are made from it: a person's model is made when the person comes.
        Ok(()) => {
            let state = policy.save();
            Ok(Arc::new(move || {
                let mut policy = make()?;
                policy.load(&state)?;
                Ok(policy)
            }))
        }
        Err(Error::State { policy: name, why }) => Err(Error::State {
            policy: name,
            why: format!("{}: {why}{}", c.from, remedy(bytes, policy.as_ref())),
        }),
        Err(other) => Err(other),
    }
}

fn start(bytes: &[u8], policy: &mut dyn Policy, trust: f64) -> Result<()> {
    let population = state::header(bytes)?.policy == Hierarchical::NAME;
    if population {
        let blank = policy.save();
        if state::header(&blank)?.policy != Hierarchical::NAME {
            return policy.load(&transfer::person(bytes, &blank, trust)?);
        }
    }
    policy.load(&transfer::evidence(bytes, trust)?)
}

/// A policy that started from saved ones, as a spec that names no file and a state: what it has learned, and what new people
/// begin with where +per-user stands behind +warm.
///
/// # Errors
/// As [`build_from`](crate::build_from).
pub fn settle(spec: &Spec, shape: &Shape, states: &States, policy: &dyn Policy) -> Result<(Spec, Vec<u8>)> {
    let mut plain = crate::expand(spec)?;
    let mut state = policy.save();
    let last = plain.parts.len() - 1;
    let per_user = plain.parts[last].name == per_user::NAME;
    if per_user && plain.parts[..last].iter().any(|part| part.name == NAME) {
        let mut inner = plain.clone();
        inner.parts.pop();
        let start = crate::build_from(&inner, shape, states)?.save();
        state = per_user::with_start(&state, &start)?;
    }
    plain.parts.retain(|part| part.name != NAME);
    Ok((plain, state))
}

/// What can be done about a state that does not load, where something can.
fn remedy(bytes: &[u8], policy: &dyn Policy) -> String {
    let (Ok(before), Ok(own)) = (state::header(bytes), state::header(&policy.save())) else {
        return String::new();
    };
    if own.policy == per_user::NAME && before.policy != per_user::NAME {
        return "; put +warm before +per-user".into();
    }
    if own.policy != before.policy || own.features.is_empty() || own.features == before.features {
        return String::new();
    }
    let only = |a: &[String], b: &[String]| {
        let names: Vec<_> = a.iter().filter(|f| !b.contains(f)).cloned().collect();
        match names.len() {
            0 => "nothing".into(),
            _ => names.join(", "),
        }
    };
    format!(
        "; its features are others (only there: {}; only here: {}): `oo-sim migrate` moves what can be moved",
        only(&before.features, &own.features),
        only(&own.features, &before.features)
    )
}
