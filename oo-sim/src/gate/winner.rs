//! The promoted policy as a folder: `policy.json` and `state.safetensors`. The format is in `docs/gate.md`.

use super::from_log::Judged;
use super::from_run::Run;
use crate::experiment::Named;
use crate::folder::Location;
use crate::interrupt::Unfinished;
use crate::runner::{Witness, simulate_before};
use crate::store::{sha256, write_once};
use anyhow::{Context, Result};
use oo_core::{Decision, Environment, Key, Outcome, Row, Shape, Spec};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// The version of the folder's format.
const FORMAT: u32 = 1;
/// A summary keeps at least half as many rounds, evenly spaced, and at most this many.
const MOST_KEPT: usize = 1 << 14;
const BINS: usize = 10;

/// A trained policy.
pub struct Winner {
    spec: Spec,
    shape: Shape,
    reward: Option<Reward>,
    seed: u64,
    trained_on: String,
    decisions: u64,
    summary: Option<Summary>,
    state: Vec<u8>,
}

/// Name and version of a reward spec.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Reward {
    pub name: String,
    pub version: u32,
}

/// `policy.json`.
#[derive(Serialize)]
struct File<'a> {
    format: u32,
    spec: String,
    shape: &'a Shape,
    features: Option<String>,
    reward: &'a Option<Reward>,
    seed: u64,
    trained_on: &'a str,
    decisions: u64,
    run: &'a str,
    gate: &'a str,
    state: String,
    summary: &'a Option<Summary>,
}

impl Winner {
    /// Writes the folder in one step: it is made under another name and renamed. One that is there is replaced. A
    /// bucket has no folders to rename; there `policy.json`, which holds the digest of the state, comes last.
    ///
    /// # Errors
    /// A folder that cannot be written, or one that holds something else.
    pub fn write(&self, folder: &Location, evidence: &str, gate: &str) -> Result<()> {
        let place = || format!("cannot write the winner to {folder}; choose another folder with --out");
        let file = File {
            format: FORMAT,
            spec: self.spec.to_string(),
            shape: &self.shape,
            features: features(&self.spec),
            reward: &self.reward,
            seed: self.seed,
            trained_on: &self.trained_on,
            decisions: self.decisions,
            run: evidence,
            gate,
            state: sha256(&self.state),
            summary: &self.summary,
        };
        let json = serde_json::to_string_pretty(&file)? + "\n";
        let Some(folder) = folder.local() else {
            let write = || -> Result<()> {
                let bucket = folder.folder()?;
                bucket.write("state.safetensors", &self.state)?;
                bucket.write("policy.json", json.as_bytes())
            };
            return write().with_context(place);
        };
        let mut name = folder.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        let make = || -> Result<()> {
            let unfinished = Unfinished::folder(folder.with_file_name(name))?;
            let inside = |name| unfinished.path().join(name);
            write_once(&inside("state.safetensors"), |f| Ok(f.write_all(&self.state)?))?;
            write_once(&inside("policy.json"), |f| Ok(f.write_all(json.as_bytes())?))?;
            if folder.exists() {
                anyhow::ensure!(
                    folder.join("policy.json").is_file() || std::fs::read_dir(folder)?.next().is_none(),
                    "the folder is there and holds no winner"
                );
                std::fs::remove_dir_all(folder)?;
            }
            Ok(unfinished.finish(folder)?)
        };
        make().with_context(place)
    }
}

/// The feature spec that a policy reads, where it names one.
fn features(spec: &Spec) -> Option<String> {
    let base = spec.base();
    let entry = oo_policies::POLICIES.iter().find(|e| e.name == base.name)?;
    let defaults = (entry.defaults)();
    let value = base.options.get("features").or_else(|| defaults.get("features"))?;
    value.as_str().map(String::from)
}

/// Trains a policy of the run anew in the world of one of its seeds: the same decisions as in its cell.
///
/// # Errors
/// What environment or policy refuse.
pub fn from_run(run: &Run, policy: &Named, seed: Option<u64>) -> Result<Winner> {
    let seed = seed.unwrap_or(run.plan.experiment.seed);
    let place = || format!("training {} in {}, seed {seed}", policy.name, run.env.name);
    let mut env = run.plan.environment(&run.env, seed).with_context(place)?;
    let shape = env.shape().clone();
    let mut trained = run.plan.policy(policy, &shape).with_context(place)?;
    let key = Key::root(seed).name("policy").name(&policy.canonical);
    let mut training = Training::new(&shape);
    simulate_before(env.as_mut(), trained.as_mut(), key, &mut training).with_context(place)?;
    // The folder stands for itself: a spec that starts from a file becomes one without, and what the file gave a part of
    // the state.
    let (spec, state) =
        oo_policies::warm::settle(&policy.spec, &shape, &run.plan.states, trained.as_ref()).with_context(place)?;
    Ok(Winner {
        spec,
        shape,
        reward: Some(Reward {
            name: run.plan.reward.name.clone(),
            version: run.plan.reward.version,
        }),
        seed,
        trained_on: run.env.name.clone(),
        decisions: training.rounds,
        summary: Some(training.summary()),
        state,
    })
}

/// The challenger as it was judged on the log.
///
/// # Errors
/// None so far; the signature is that of [`from_run`].
pub fn from_log(judged: &Judged, seed: Option<u64>) -> Result<Winner> {
    Ok(Winner {
        spec: judged.spec.clone(),
        shape: judged.shape.clone(),
        reward: judged.reward.clone(),
        seed: seed.unwrap_or(super::from_log::SEED),
        trained_on: judged.source.detail.clone(),
        decisions: judged.learned_from,
        summary: None,
        state: judged.state.clone(),
    })
}

/// A histogram: `edges` ascending, values on an edge below it, one share more than edges.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Shares {
    edges: Vec<f64>,
    shares: Vec<f64>,
    mean: f64,
    sd: f64,
}

/// What training looked like, for measures of drift.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Summary {
    /// Of the chosen candidates and their contexts, by name.
    features: BTreeMap<String, Shares>,
    /// The score of the chosen candidate.
    prediction: Option<Shares>,
    /// Rewards.
    reward: Option<Shares>,
}

/// Watches a training run. Keeps every so-manieth round, and half of these when they become many.
struct Training {
    names: Vec<String>,
    every: u64,
    rounds: u64,
    /// Score, reward, then features: one row a kept round.
    kept: Vec<Vec<f64>>,
}

impl Training {
    fn new(shape: &Shape) -> Training {
        Training {
            names: shape.context.iter().chain(&shape.candidate).cloned().collect(),
            every: 1,
            rounds: 0,
            kept: Vec::new(),
        }
    }

    fn summary(&self) -> Summary {
        let column = |i: usize| shares(self.kept.iter().map(|row| row[i]).collect());
        let features = self.names.iter().enumerate();
        Summary {
            prediction: column(0),
            reward: column(1),
            features: features
                .filter_map(|(i, name)| Some((name.clone(), column(2 + i)?)))
                .collect(),
        }
    }
}

impl Witness for Training {
    fn decided(&mut self, env: &dyn Environment, i: usize, decision: &Decision) {
        if self.rounds.is_multiple_of(self.every) {
            let (round, at) = (env.round(i), decision.chosen());
            let mut row = vec![decision.scores()[at], 0.0];
            row.extend(
                round
                    .context
                    .iter()
                    .chain(round.candidates.row(at))
                    .map(|x| f64::from(*x)),
            );
            self.kept.push(row);
        }
        self.rounds += 1;
    }

    fn answered(&mut self, _now: u64, row: Row<'_>, outcome: &Outcome) -> oo_core::Result<()> {
        // All rounds of a tick are decided before the first is answered, so the row is found by its number.
        let index = row.round.index;
        if index.is_multiple_of(self.every)
            && let Some(kept) = self.kept.get_mut((index / self.every) as usize)
        {
            kept[1] = outcome.reward;
        }
        if self.kept.len() >= MOST_KEPT && index + 1 == self.rounds {
            let mut place = 0;
            self.kept.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.every *= 2;
        }
        Ok(())
    }
}

/// Deciles, fewer where values repeat; `None` without values.
fn shares(mut sample: Vec<f64>) -> Option<Shares> {
    sample.sort_by(f64::total_cmp);
    let n = sample.len();
    let count = n as f64;
    let mut edges: Vec<f64> = (1..BINS).filter_map(|i| sample.get(i * n / BINS).copied()).collect();
    edges.dedup();
    let mean = sample.iter().sum::<f64>() / count;
    let sd = libm::sqrt(sample.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count);
    let mut counts = vec![0.0; edges.len() + 1];
    for x in &sample {
        counts[edges.partition_point(|e| e < x)] += 1.0;
    }
    (n > 0).then(|| Shares {
        edges,
        shares: counts.iter().map(|c| c / count).collect(),
        mean,
        sd,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deciles() {
        let s = shares((0..100).map(f64::from).collect()).unwrap();
        assert_eq!((s.edges.len(), s.edges[0], s.mean), (9, 10.0, 49.5));
        assert!((s.shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let one = shares(vec![2.0; 7]).unwrap();
        assert_eq!((one.edges, one.shares, one.sd), (vec![2.0], vec![1.0, 0.0], 0.0));
        assert_eq!(shares(vec![]), None);
    }

    #[test]
    fn features_by_option_and_default() {
        let of = |text: &str| features(&Spec::parse(text).unwrap());
        assert_eq!(of("lin-ucb{features=v2}"), Some("v2".into()));
        assert_eq!(of("uniform"), None);
        assert!(of("lin-ucb").is_some());
    }
}
