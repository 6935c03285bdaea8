//! Validation by truth: every estimator on many logs of worlds whose values are known.
//!
//! A cell is a world, a policy that logs, and a size. Its logs are drawn, every estimator is applied to each, and the
//! estimates are held against the target policy's true value: bias, root mean squared error, relative error, and how
//! often 95 % intervals hold it. Cells are independent, so no result depends on the number of threads.

pub mod score;
pub mod table;
pub mod walk;

use crate::progress;
use anyhow::{Context, Result, ensure};
use oo_core::Key;
use oo_judge::estimators::{ESTIMATORS, Entry, Logged, Weights};
use oo_judge::models::{CrossFit, Inputs, Weighting};
use rayon::prelude::*;
use score::{Guess, Line};
use serde::{Deserialize, Serialize};
use walk::{Scene, Truth};

/// What to measure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// Worlds with their wrappers.
    pub worlds: Vec<String>,
    /// The policy whose value is estimated.
    pub target: String,
    /// Policies that log and do not learn while they do.
    pub loggers: Vec<String>,
    /// Policies that learn while they log.
    pub learners: Vec<String>,
    /// The reward model.
    pub model: String,
    /// Folds of its cross-fitting.
    pub folds: usize,
    /// Rows a log.
    pub sizes: Vec<u64>,
    /// Logs a cell.
    pub logs: u64,
    /// Rounds of uniform choices that the target learns from; frozen loggers get the first quarter.
    pub train: u64,
    /// Rounds over which the truth is taken.
    pub truth: u64,
    /// The seed.
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        Setup {
            worlds: texts(&["logistic{d=5,scale=3}", "linear{d=5,noise=0.5}", "wheel{delta=0.7}"]),
            target: "softmax{temperature=0.1}".into(),
            loggers: texts(&["uniform", "softmax{temperature=0.3}", "egreedy{epsilon=0.1}"]),
            learners: texts(&["egreedy{epsilon=1,schedule=decay}"]),
            model: "linear".into(),
            folds: 3,
            sizes: vec![250, 2500],
            logs: 100,
            train: 1000,
            truth: 100_000,
            seed: 42,
        }
    }
}

/// What was measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What was asked.
    pub setup: Setup,
    /// The level of the intervals.
    pub level: f64,
    /// In the order of worlds, sizes, loggers.
    pub cells: Vec<Cell>,
}

/// All estimators on the logs of one world, logger and size.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// The world.
    pub world: String,
    /// The policy that logged.
    pub logger: String,
    /// Whether it learned while it logged.
    pub learns: bool,
    /// Rows a log.
    pub size: u64,
    /// The target's value: of the world, or the mean over the logs' contexts.
    pub truth: f64,
    /// The standard error of the truth; `None` where each log has the truth of its own contexts, exactly.
    pub truth_error: Option<f64>,
    /// Median over logs of Kish's effective sample size, (Σw)²/Σw².
    pub effective_size: f64,
    /// Median over logs of the largest weight.
    pub max_weight: f64,
    /// One an estimator, then one a further interval.
    pub lines: Vec<Line>,
}

impl Setup {
    /// Measures.
    ///
    /// # Errors
    /// Anything that is wrong with the setup, before logs are drawn; what a world, a policy or a model refuses.
    pub fn run(&self) -> Result<Report> {
        self.measure(&self.scenes()?)
    }

    /// Checks the setup, builds the worlds, lets policies learn and finds the truths: whatever can be wrong with the
    /// setup is an error here.
    ///
    /// # Errors
    /// What is wrong.
    pub fn scenes(&self) -> Result<Vec<Scene>> {
        self.check()?;
        let scenes = self.worlds.par_iter().map(|world| {
            let scene = Scene::new(self, world)?;
            CrossFit::new(
                &self.model,
                scene.input_shape()?,
                self.folds,
                Weighting::Equal,
                Key::root(0),
            )?;
            Ok(scene)
        });
        // Collected in order, so that the first world's error is the one reported.
        scenes.collect::<Vec<_>>().into_iter().collect()
    }

    /// Draws the logs and applies the estimators.
    ///
    /// # Errors
    /// What a world, a policy or a model refuses.
    pub fn measure(&self, scenes: &[Scene]) -> Result<Report> {
        let loggers = self.loggers.len() + self.learners.len();
        let mut jobs = Vec::new();
        for w in 0..scenes.len() {
            for &size in &self.sizes {
                jobs.extend((0..loggers).map(|logger| (w, size, logger)));
            }
        }
        let template = "{bar:32} {pos}/{len} cells, {elapsed} so far";
        let bar = progress::bar(Some(jobs.len() as u64), template);
        let cell = |&(w, size, logger): &(usize, u64, usize)| {
            let cell = self.cell(&scenes[w], &self.worlds[w], size, logger);
            bar.inc(1);
            cell
        };
        let cells: Vec<Result<Cell>> = jobs.par_iter().map(cell).collect();
        bar.finish_and_clear();
        Ok(Report {
            setup: self.clone(),
            level: score::LEVEL,
            cells: cells.into_iter().collect::<Result<_>>()?,
        })
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.worlds.is_empty(), "expected at least one world");
        ensure!(
            !(self.loggers.is_empty() && self.learners.is_empty()),
            "expected at least one policy that logs"
        );
        ensure!(self.logs >= 2, "logs: expected at least 2, got {}", self.logs);
        ensure!(!self.sizes.is_empty(), "sizes: expected at least one");
        for &size in &self.sizes {
            ensure!(
                (2..=100_000_000).contains(&size),
                "sizes: expected 2 to 1e8 rows, got {size}"
            );
        }
        ensure!(self.train >= 4, "train: expected at least 4 rounds, got {}", self.train);
        ensure!(self.truth >= 2, "truth: expected at least 2 rounds, got {}", self.truth);
        Ok(())
    }

    fn cell(&self, scene: &Scene, world: &str, size: u64, logger: usize) -> Result<Cell> {
        let name = self
            .loggers
            .iter()
            .chain(&self.learners)
            .nth(logger)
            .map_or("", String::as_str);
        let entries: Vec<&Entry> = self.estimators();
        let mut guesses: Vec<Vec<Guess>> = vec![Vec::new(); entries.len() + score::OTHER.len()];
        let (mut truth, mut sizes, mut largest) = (Vec::new(), Vec::new(), Vec::new());
        let shape = scene.input_shape()?;
        scene
            .logs(logger, size, self.logs, |number, mut written| {
                let key = Key::root(self.seed).name("ope-bench").name("models").fold(number);
                let fill = |log: &mut Logged, inputs: &Inputs, weighting| -> oo_judge::Result<()> {
                    let mut fit = CrossFit::new(&self.model, shape, self.folds, weighting, key)?;
                    fit.add(log, inputs)?;
                    fit.finish()?.fill(log, inputs)
                };
                let (plain, mrdr): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|e| !score::wants_mrdr(e));
                fill(&mut written.log, &written.inputs, Weighting::Equal)?;
                let mut found = score::guesses(&written.log, &plain)?;
                if !mrdr.is_empty() {
                    fill(&mut written.log, &written.inputs, Weighting::Mrdr)?;
                    found.extend(score::guesses(&written.log, &mrdr)?);
                }
                found.extend(score::others(&written.log));
                for (all, guess) in guesses.iter_mut().zip(found) {
                    all.push(guess);
                }
                truth.push(match scene.truth {
                    Truth::World { value, .. } => value,
                    Truth::Contexts => written.value,
                });
                let (effective, max) = weights(&written.log);
                sizes.push(effective);
                largest.push(max);
                Ok(())
            })
            .with_context(|| format!("{world}, logged by {name}, {size} rows"))?;
        let names = entries.iter().map(|e| e.name).chain(score::OTHER.iter().copied());
        Ok(Cell {
            world: world.into(),
            logger: name.into(),
            learns: logger >= self.loggers.len(),
            size,
            truth: truth.iter().sum::<f64>() / truth.len() as f64,
            truth_error: match scene.truth {
                Truth::World { std_error, .. } => Some(std_error),
                Truth::Contexts => None,
            },
            effective_size: median(sizes),
            max_weight: median(largest),
            lines: names
                .zip(&guesses)
                .map(|(name, guesses)| score::line(name, guesses, &truth))
                .collect(),
        })
    }

    /// Those of the table that can be had, MRDR's last.
    fn estimators(&self) -> Vec<&'static Entry> {
        let blind = self.model == "none";
        // A log of one policy has no embeddings and no second logger: estimators for those would only repeat others.
        let had = |e: &&Entry| e.weights == Weights::Importance && !(blind && e.needs_model);
        let mut entries: Vec<&Entry> = ESTIMATORS.iter().filter(had).collect();
        entries.sort_by_key(|e| score::wants_mrdr(e));
        entries
    }
}

/// Kish's effective size and the largest weight.
fn weights(log: &Logged) -> (f64, f64) {
    let mut weighted = oo_judge::estimators::Weighted::default();
    log.weigh(&mut weighted);
    let (mut sum, mut squares, mut largest) = (0.0, 0.0, 0.0f64);
    for &w in &weighted.weight {
        sum += w;
        squares += w * w;
        largest = largest.max(w);
    }
    (if squares > 0.0 { sum * sum / squares } else { 0.0 }, largest)
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_unstable_by(f64::total_cmp);
    x[x.len() / 2]
}
