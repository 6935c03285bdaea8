//! What to compare: read from TOML, overridden by flags, and checked as a whole before any work begins.
//!
//! The number of threads is not part of an experiment, since no result depends on it.

use crate::environments::{self, Horizon, World};
use crate::folder::Location;
use crate::store;
use anyhow::{Context, Result, bail, ensure};
use oo_core::judge::Judge;
use oo_core::tips::RewardSpec;
use oo_core::{Environment, Error, Key, Policy, Shape, Spec};
use oo_policies::States;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// An experiment as it stands in a file; every key may be left out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Experiment {
    /// Names the folder of its results: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Environments with their wrappers.
    pub env: Vec<String>,
    /// Policies, presets allowed; where none is named, the first of `USUAL` that fits every environment.
    pub policies: Vec<String>,
    /// The judge of reactions.
    pub judge: String,
    /// The reward table.
    pub reward: String,
    /// People, where the environment has people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<usize>,
    /// Days, where the environment has days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days: Option<usize>,
    /// Rounds, where the environment counts rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u64>,
    /// How many worlds: `seed`, `seed + 1`, …
    pub seeds: u64,
    /// The first of them.
    pub seed: u64,
    /// Compare every policy with this one only, instead of every pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Add seeds, from `seeds` on, until every pair is decided, up to this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seeds: Option<u64>,
    /// Policies whose mean rewards differ by less than this count as the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

/// What is compared when nobody says: in the tips world, where there are features, where there are none.
const USUAL: [&[&str]; 3] = [
    &["uniform", "egreedy-v1", "egreedy-v2", "lin-ucb", "lin-ts"],
    &["uniform", "egreedy", "lin-ucb", "lin-ts"],
    &["uniform", "ucb1", "kl-ucb", "beta-ts"],
];

impl Default for Experiment {
    fn default() -> Self {
        Experiment {
            name: "compare".into(),
            env: vec!["tips".into()],
            policies: Vec::new(),
            judge: "rule".into(),
            reward: "r2".into(),
            users: None,
            days: None,
            rounds: None,
            seeds: 10,
            seed: 42,
            baseline: None,
            max_seeds: None,
            margin: None,
        }
    }
}

/// What flags change; `None` leaves the file's value.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // The fields are those of `Experiment`.
pub struct Overrides {
    pub env: Option<Vec<String>>,
    pub policies: Option<Vec<String>>,
    pub judge: Option<String>,
    pub reward: Option<String>,
    pub users: Option<usize>,
    pub days: Option<usize>,
    pub rounds: Option<u64>,
    pub seeds: Option<u64>,
    pub seed: Option<u64>,
    pub baseline: Option<String>,
    pub max_seeds: Option<u64>,
    pub margin: Option<f64>,
}

impl Experiment {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read; a key that does not exist or a value of the wrong type, with its line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut experiment = Self::parse(&text).with_context(|| format!("cannot read {}", path.display()))?;
        if !text.lines().any(|l| {
            l.trim_start()
                .strip_prefix("name")
                .is_some_and(|r| r.trim_start().starts_with('='))
        }) {
            // Experiments in different files should not share a folder just because neither has a name.
            if let Some(stem) = path.file_stem().and_then(|s| s.to_str()) {
                experiment.name = stem.into();
            }
        }
        Ok(experiment)
    }

    /// Reads a file of a folder or of a bucket.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_from(file: &Location) -> Result<Self> {
        match file {
            Location::Local(path) => Self::read(path),
            Location::S3 { .. } => Self::parse(&file.read_text()?).with_context(|| format!("cannot read {file}")),
        }
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str) -> Result<Self> {
        parse_toml(text)
    }

    /// The experiment as TOML, with everything said.
    ///
    /// # Errors
    /// A number that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("cannot write the experiment as TOML")
    }

    /// Puts flags on top.
    pub fn apply(&mut self, flags: Overrides) {
        fn set<T>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        set(&mut self.env, flags.env);
        set(&mut self.policies, flags.policies);
        set(&mut self.judge, flags.judge);
        set(&mut self.reward, flags.reward);
        set(&mut self.seeds, flags.seeds);
        set(&mut self.seed, flags.seed);
        self.users = flags.users.or(self.users);
        self.days = flags.days.or(self.days);
        self.rounds = flags.rounds.or(self.rounds);
        self.baseline = flags.baseline.or(self.baseline.take());
        self.max_seeds = flags.max_seeds.or(self.max_seeds);
        self.margin = flags.margin.or(self.margin);
    }

    /// Checks everything that can be wrong by building every environment and every policy once.
    ///
    /// # Errors
    /// The first thing that is wrong, with what exists instead.
    pub fn plan(mut self) -> Result<Plan> {
        let word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure!(
            self.name.chars().all(word) && self.name.chars().any(|c| c != '.'),
            "name `{}`: expected letters, digits, `-`, `_` and `.`, since it names a folder",
            self.name
        );
        ensure!(!self.env.is_empty(), "env: expected at least one environment");
        ensure!(self.seeds >= 1, "seeds: expected at least 1, got 0");
        if let Some(max) = self.max_seeds {
            ensure!(
                max >= self.seeds && max >= 2,
                "max_seeds: expected at least 2 and at least the {} seeds to begin with, got {max}",
                self.seeds
            );
        }
        ensure!(
            self.margin.is_none_or(|m| m > 0.0 && m.is_finite()),
            "margin: expected above 0, got {}",
            self.margin.unwrap_or_default()
        );
        let most = self.max_seeds.unwrap_or(self.seeds);
        ensure!(
            self.seed.checked_add(most).is_some(),
            "seed {} + seeds {most}: too large",
            self.seed
        );
        // TOML holds signed numbers; the resolved experiment must be writable.
        ensure!(
            self.seed + most <= i64::MAX as u64,
            "seed: expected below 2^63, got {}",
            self.seed
        );
        for (key, zero) in [
            ("users", self.users == Some(0)),
            ("days", self.days == Some(0)),
            ("rounds", self.rounds == Some(0)),
        ] {
            ensure!(!zero, "{key}: expected at least 1, got 0");
        }
        let judge: Arc<dyn Judge> = Arc::from(oo_judge::reactions::judge(&self.judge)?);
        let reward = RewardSpec::named(&self.reward)?;
        let mut envs: Vec<Named> = Vec::new();
        for text in &self.env {
            let spec = Spec::parse(text)?;
            let named = Named {
                name: spec.to_string(),
                canonical: spec.to_string(),
                reads: environments::reads(&spec)?,
                spec,
            };
            ensure!(
                envs.iter().all(|e| e.canonical != named.canonical),
                "environment `{text}` is named twice"
            );
            envs.push(named);
        }
        let mut plan = Plan {
            experiment: self.clone(),
            envs,
            policies: Vec::new(),
            baseline: None,
            states: States::default(),
            judge,
            reward,
        };
        let shapes = plan
            .envs
            .iter()
            .map(|env| {
                let world = plan.environment(env, self.seed);
                let world = world.with_context(|| format!("environment `{}`", env.name))?;
                Ok(world.shape().clone())
            })
            .collect::<Result<Vec<Shape>>>()?;
        for (key, given) in [("users", self.users.is_some()), ("days", self.days.is_some())] {
            let mut known = false;
            for env in &plan.envs {
                known |= environments::has_option(&env.spec, key)?;
            }
            let names: Vec<&str> = plan.envs.iter().map(|e| e.name.as_str()).collect();
            ensure!(
                known || !given,
                "{key}: {} has no {key}, and its size is a number of rounds",
                names.join(", ")
            );
        }
        if self.policies.is_empty() {
            self.policies = usual(&shapes)?;
        }
        let mut policies: Vec<Named> = Vec::new();
        for text in &self.policies {
            let spec = Spec::parse(text)?;
            let full = oo_policies::expand(&spec)?;
            let named = Named {
                name: spec.to_string(),
                canonical: full.to_string(),
                reads: read_states(&full, &mut plan.states)?,
                spec: full,
            };
            if let Some(same) = policies.iter().find(|p| p.canonical == named.canonical) {
                bail!("policies `{}` and `{}` are the same; keep one", same.name, named.name);
            }
            policies.push(named);
        }
        let baseline = match &self.baseline {
            None => None,
            Some(text) => {
                let canonical = oo_policies::expand(&Spec::parse(text)?)?.to_string();
                let found = policies.iter().position(|p| p.canonical == canonical);
                Some(found.ok_or_else(|| Error::Unknown {
                    kind: "baseline, which must be one of the policies compared,".into(),
                    name: text.clone(),
                    known: policies.iter().map(|p| p.name.clone()).collect(),
                })?)
            }
        };
        for (env, shape) in plan.envs.iter().zip(&shapes) {
            for policy in &policies {
                plan.policy(policy, shape)
                    .with_context(|| format!("policy `{}` in environment `{}`", policy.name, env.name))?;
            }
        }
        (plan.experiment, plan.policies, plan.baseline) = (self, policies, baseline);
        Ok(plan)
    }
}

/// Adds the saved policies that `spec` starts from; returns their SHA-256.
pub(crate) fn read_states(spec: &Spec, states: &mut States) -> Result<Option<String>> {
    let mut digests = Vec::new();
    for name in oo_policies::warm::files(spec)? {
        let bytes = std::fs::read(&name).with_context(|| format!("cannot read the saved policy {name}"))?;
        digests.push(store::sha256(&bytes));
        states.insert(name, bytes);
    }
    Ok((!digests.is_empty()).then(|| digests.join(" ")))
}

/// Reads TOML of any kind.
///
/// # Errors
/// A key that does not exist or a value of the wrong type, with its line.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| {
        let line = e
            .span()
            .map(|s| text.as_bytes().iter().take(s.start).filter(|&&b| b == b'\n').count() + 1);
        let Some(line) = line else {
            return anyhow::anyhow!("{}", e.message());
        };
        let key = text
            .lines()
            .nth(line - 1)
            .and_then(|l| l.split_once('='))
            .map(|(k, _)| k.trim().to_string());
        let key = key.map(|k| format!(", key `{k}`")).unwrap_or_default();
        anyhow::anyhow!("line {line}{key}: {}", e.message().trim())
    })
}

/// The policies to compare when none is named.
fn usual(shapes: &[Shape]) -> Result<Vec<String>> {
    let fits = |name: &&str| {
        let spec = Spec::parse(name);
        shapes
            .iter()
            .all(|shape| spec.as_ref().is_ok_and(|spec| oo_policies::build(spec, shape).is_ok()))
    };
    let found = USUAL.iter().find(|names| names.iter().all(fits));
    let names =
        found.context("no usual set of policies fits these environments together; name some with --policies")?;
    Ok(names.iter().map(ToString::to_string).collect())
}

/// A spec with the two ways to write it.
#[derive(Clone, Debug)]
pub struct Named {
    /// As the experiment says it; for people.
    pub name: String,
    /// With presets replaced; for keys and file names.
    pub canonical: String,
    /// SHA-256 of the file that it reads, where it reads one; several are joined by spaces.
    pub reads: Option<String>,
    /// The same, parsed.
    pub spec: Spec,
}

/// An experiment that has passed every check.
#[derive(Clone)]
pub struct Plan {
    /// The experiment as it was resolved.
    pub experiment: Experiment,
    /// Its environments.
    pub envs: Vec<Named>,
    /// Its policies.
    pub policies: Vec<Named>,
    /// The position of the policy that the others are compared with.
    pub baseline: Option<usize>,
    /// The saved policies that its policies start from: read once, so that all runs start from the same bytes.
    pub states: States,
    /// The judge of reactions.
    pub judge: Arc<dyn Judge>,
    /// The reward table.
    pub reward: RewardSpec,
}

impl Plan {
    /// Builds the world of one seed. No policy's name enters its key.
    ///
    /// # Errors
    /// What the environment refuses.
    pub fn environment(&self, env: &Named, seed: u64) -> Result<Box<dyn Environment>> {
        let e = &self.experiment;
        let world = World {
            key: Key::root(seed).name("world"),
            reward: self.reward.clone(),
            judge: self.judge.clone(),
            horizon: Horizon {
                users: e.users,
                days: e.days,
                rounds: e.rounds,
            },
        };
        environments::build(&env.spec, &world)
    }

    /// Builds a policy of the plan for rounds of `shape`.
    ///
    /// # Errors
    /// What the policy refuses.
    pub fn policy(&self, policy: &Named, shape: &Shape) -> oo_core::Result<Box<dyn Policy>> {
        oo_policies::build_from(&policy.spec, shape, &self.states)
    }

    /// The seeds in their order.
    pub fn seeds(&self) -> std::ops::Range<u64> {
        self.experiment.seed..self.experiment.seed + self.experiment.seeds
    }
}

/// Splits at commas outside braces and quotes: `a,b{x=1,y=2}` is two specs.
pub fn split_specs(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut quote) = (vec![String::new()], 0i32, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '"' | '\'') if depth > 0 => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') => depth -= 1,
            (None, ',') if depth <= 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
        .iter()
        .map(|p| p.trim().to_string())
        .filter(|p| !p.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_braces_do_not_split() {
        assert_eq!(split_specs("a, b{x=1,y='p,}q'}+c,d"), ["a", "b{x=1,y='p,}q'}+c", "d"]);
        assert!(split_specs("").is_empty());
    }

    #[test]
    fn errors_name_line_and_key() {
        let e = Experiment::parse("name = \"x\"\nseeds = \"many\"\n")
            .unwrap_err()
            .to_string();
        assert!(e.starts_with("line 2, key `seeds`:"), "{e}");
        let e = Experiment::parse("\n\nsedes = 3\n").unwrap_err().to_string();
        assert!(
            e.starts_with("line 3") && e.contains("sedes") && e.contains("seeds"),
            "{e}"
        );
        let e = Experiment::parse("seeds = \n").unwrap_err().to_string();
        assert!(e.starts_with("line 1"), "{e}");
    }

    #[test]
    fn resolved_reads_back() {
        let e = Experiment {
            users: Some(3),
            baseline: Some("uniform".into()),
            ..Experiment::default()
        };
        assert_eq!(Experiment::parse(&e.to_toml().unwrap()).unwrap(), e);
    }
}
