//! A comparison as a run with a child a cell, logged while it goes on.

use super::cell::{self, Course};
use super::facts::{self, Texts};
use super::{COMPARISON, Destination, FOLDER, LONGEST_SHARE, LONGEST_WAIT, here, told};
use crate::experiment::Plan;
use crate::folder::Location;
use crate::report;
use crate::runner::{Cell, Records, Watch, cells};
use crate::store::Store;
use crate::summary::{self, Summary, Timings};
use anyhow::Result;
use oo_mlflow::limits::distinct_keys;
use oo_mlflow::{Background, Client, Entry, Metric, Patience, Sender, Spool, Status, now_ms};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A comparison that is being logged. None of its methods fails: a comparison is not worth less for a log that is not
/// written.
pub struct Comparison {
    began: Instant,
    server: String,
    wait: Option<Duration>,
    tags: Texts,
    spool: Mutex<Spool>,
    background: Background,
    /// The first thing that went wrong here, as opposed to at the server.
    broken: Mutex<Option<String>>,
}

impl Comparison {
    /// Begins to log, where a destination is given and the spool can be written.
    pub fn begin(destination: Option<&Destination>, plan: &Plan, store: &Store) -> Option<Comparison> {
        let destination = destination?;
        let begin = || -> Result<Comparison> {
            let spool = open(destination, plan, store)?;
            let client = Client::new(destination.address.clone(), Patience::BACKGROUND);
            let sender = Sender::new(client, &spool, destination.experiment.as_deref(), false)?;
            Ok(Comparison {
                began: Instant::now(),
                server: destination.address.to_string(),
                wait: destination.wait,
                tags: facts::source_tags("compare"),
                spool: Mutex::new(spool),
                background: Background::start(sender, COMPARISON.into()),
                broken: Mutex::default(),
            })
        };
        match begin() {
            Ok(comparison) => {
                comparison.note(|spool| open_run(spool, plan, &comparison.tags));
                Some(comparison)
            }
            Err(e) => {
                warn(&format!("MLflow: nothing is logged; {e:#}\n"));
                None
            }
        }
    }

    /// Writes a finished run to a spool; gives the spool's folder.
    ///
    /// # Errors
    /// A cell that cannot be read, a folder that cannot be written.
    pub fn record(destination: &Destination, plan: &Plan, store: &Store) -> Result<PathBuf> {
        let mut spool = open(destination, plan, store)?;
        let tags = facts::source_tags("compare");
        open_run(&mut spool, plan, &tags)?;
        record_cells(&mut spool, plan, store, &tags)?;
        if spool.runs().get(COMPARISON) != Some(&Some(Status::Finished)) {
            let (summary, timings) = (summary::summarize(plan, store)?, summary::timings(plan, store)?);
            let entry = end(&spool, plan, store, &summary, &timings)?;
            spool.append(entry)?;
        }
        Ok(spool.folder().into())
    }

    fn lock(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, write: impl FnOnce(&mut Spool) -> Result<()>) {
        let done = write(&mut self.lock());
        match done {
            Ok(()) => self.background.notify(),
            Err(e) => {
                let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
                broken.get_or_insert(format!("{e:#}"));
            }
        }
    }

    /// Logs what the comparison came to, once its results are printed, and waits a bounded time for the server.
    pub fn end(self, plan: &Plan, store: &Store, summary: &Summary, timings: &Timings) {
        // Cells of an earlier process, which may not have logged.
        self.note(|spool| record_cells(spool, plan, store, &self.tags));
        self.note(|spool| {
            if spool.runs().get(COMPARISON) != Some(&Some(Status::Finished)) {
                let entry = end(spool, plan, store, summary, timings)?;
                spool.append(entry)?;
            }
            Ok(())
        });
        self.finish(store.root());
    }

    /// Logs that the comparison failed.
    pub fn fail(self, store: &Store, why: &anyhow::Error) {
        self.note(|spool| {
            Ok(spool.append(Entry {
                run: COMPARISON.into(),
                tags: [("oo.error".to_string(), format!("{why:#}"))].into(),
                status: Some(Status::Failed),
                end_ms: Some(now_ms()),
                ..Entry::default()
            })?)
        });
        self.finish(store.root());
    }

    fn finish(self, root: &Location) {
        let wait = self
            .wait
            .unwrap_or_else(|| LONGEST_WAIT.max(self.began.elapsed().mul_f64(LONGEST_SHARE)));
        let outcome = self.background.finish(wait);
        if let Some(why) = self.broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
            warn(&format!("MLflow: the log is not complete; {why}\n"));
        }
        warn(&told(&outcome, &self.server, root));
    }
}

impl Watch for Comparison {
    fn finished(&self, plan: &Plan, store: &Store, cell: Cell<'_>, records: &Records) {
        let name = store.name(plan, cell);
        if name.is_ok_and(|name| self.lock().runs().contains_key(&name)) {
            return;
        }
        // Made outside the lock: cells finish side by side.
        let entry = cell::entry(plan, store, cell, &Course::of(records), &self.tags);
        self.note(|spool| Ok(spool.append(entry?)?));
    }
}

fn warn(text: &str) {
    // A closed stderr is no reason to stop.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn open(destination: &Destination, plan: &Plan, store: &Store) -> Result<Spool> {
    let root = here(store.root())?;
    let folder = root.join(FOLDER).join(&facts::configuration(plan)[..16]);
    let experiment = destination.experiment.as_deref().unwrap_or(&plan.experiment.name);
    let server = destination.address.to_string();
    Ok(Spool::open(root, &folder, &server, experiment)?)
}

/// The comparison's run, unless it is there and open or ended well.
fn open_run(spool: &mut Spool, plan: &Plan, tags: &Texts) -> Result<()> {
    let now = now_ms();
    match spool.runs().get(COMPARISON) {
        Some(Some(Status::Finished | Status::Running)) => return Ok(()),
        Some(_) => {
            // It was stopped, and goes on now.
            spool.append(Entry {
                run: COMPARISON.into(),
                status: Some(Status::Running),
                ..Entry::default()
            })?;
            return Ok(());
        }
        None => {}
    }
    let mut tags = tags.clone();
    tags.insert("oo.configuration".into(), facts::configuration(plan));
    tags.extend(facts::data_tags(plan.envs.iter().chain(&plan.policies)));
    let toml = plan.experiment.to_toml()?;
    let experiment = spool.keep("experiment.toml", toml.as_bytes())?;
    spool.append(Entry {
        run: COMPARISON.into(),
        name: plan.experiment.name.clone(),
        start_ms: now,
        status: Some(Status::Running),
        params: facts::experiment_params(plan),
        tags,
        datasets: plan.envs.iter().map(|env| facts::dataset(plan, env)).collect(),
        artefacts: vec![experiment],
        ..Entry::default()
    })?;
    Ok(())
}

fn record_cells(spool: &mut Spool, plan: &Plan, store: &Store, tags: &Texts) -> Result<()> {
    for cell in cells(plan) {
        if !spool.runs().contains_key(&store.name(plan, cell)?) {
            let course = Course::read(plan, store, cell)?;
            spool.append(cell::entry(plan, store, cell, &course, tags)?)?;
        }
    }
    Ok(())
}

/// What the whole comparison came to. Its own charts: MLflow shows none for a run whose children are folded away.
fn end(spool: &Spool, plan: &Plan, store: &Store, summary: &Summary, timings: &Timings) -> Result<Entry> {
    let now = now_ms();
    let policies = distinct_keys(plan.policies.iter().map(|p| p.name.as_str()));
    let envs = distinct_keys(plan.envs.iter().map(|e| e.name.as_str()));
    let key = |env: &str, policy: &str| -> Option<String> {
        let policy = &policies[plan.policies.iter().position(|p| p.name == policy)?];
        let env = &envs[plan.envs.iter().position(|e| e.name == env)?];
        Some(if envs.len() == 1 {
            policy.clone()
        } else {
            format!("{env} {policy}")
        })
    };
    let mut metrics = Vec::new();
    let mut push = |name: &str, key: &Option<String>, value: Option<f64>, step: u64| {
        if let (Some(key), Some(value)) = (key, value) {
            metrics.push(Metric {
                key: format!("{name}/{key}"),
                value,
                step: step as i64,
                ms: now,
            });
        }
    };
    for line in &summary.policies {
        let key = key(&line.env, &line.policy);
        push("mean_reward", &key, line.mean_reward, 0);
        push("mean_reward_low", &key, line.ci.map(|ci| ci[0]), 0);
        push("mean_reward_high", &key, line.ci.map(|ci| ci[1]), 0);
        push("mean_regret", &key, line.mean_regret, 0);
        let rounds = line.rounds / plan.experiment.seeds;
        for (i, mean) in line.curve.iter().enumerate() {
            push("reward", &key, *mean, (i as u64 + 1) * rounds / line.curve.len() as u64);
        }
    }
    for line in &summary.best {
        push(
            "probability_best",
            &key(&line.env, &line.policy),
            Some(line.probability),
            0,
        );
    }
    for line in &timings.policies {
        push(
            "cpu_us_per_round",
            &key(&line.env, &line.policy),
            Some(line.cpu_us_per_round),
            0,
        );
    }
    metrics.push(Metric {
        key: "seeds".into(),
        value: plan.experiment.seeds as f64,
        step: 0,
        ms: now,
    });
    let json = |value: String| value + "\n";
    let html = report::of(plan, store, summary, Some(timings))?;
    Ok(Entry {
        run: COMPARISON.into(),
        status: Some(Status::Finished),
        end_ms: Some(now),
        tags: [("mlflow.note.content".to_string(), note(summary))].into(),
        metrics,
        artefacts: vec![
            spool.keep("experiment.toml", plan.experiment.to_toml()?.as_bytes())?,
            spool.keep("summary.json", json(serde_json::to_string_pretty(summary)?).as_bytes())?,
            spool.keep("timings.json", json(serde_json::to_string_pretty(timings)?).as_bytes())?,
            spool.keep("report.html", html.as_bytes())?,
        ],
        ..Entry::default()
    })
}

/// The description of the run, in Markdown.
fn note(summary: &Summary) -> String {
    let mut text = String::from("| environment | policy | mean reward | 95 % |\n|---|---|---|---|\n");
    for line in &summary.policies {
        let mean = line.mean_reward.map_or_else(|| "–".into(), |m| format!("{m:.4}"));
        let ci = line
            .ci
            .map_or_else(|| "–".into(), |[low, high]| format!("{low:.4} … {high:.4}"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}` | `{}` | {mean} | {ci} |", line.env, line.policy);
    }
    let _ = write!(text, "\n{}", summary.method);
    text
}
