//! Runs cells: one policy in one environment under one seed.
//!
//! A cell's numbers depend on its own environment, policy and seed alone, so cells run in any order on any number
//! of threads, and adding a policy moves nobody's numbers.

use crate::experiment::{Named, Plan};
use crate::store::Store;
use crate::{interrupt, progress};
use anyhow::{Context, Result};
use cpu_time::ThreadTime;
use oo_core::tips::{Feedback, Reaction};
use oo_core::{Arrival, Batch, Decision, Environment, Error, Key, Log, Outcome, Policy, Row, Shape};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// Every so many ticks the policy's time is taken; reading the clock costs as much as a simple policy.
const SAMPLE_EVERY: u64 = 16;

/// One policy in one environment under one seed.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// The environment.
    pub env: &'a Named,
    /// The policy.
    pub policy: &'a Named,
    /// The seed.
    pub seed: u64,
}

/// All cells of a plan, in the order of environments, policies, seeds.
pub fn cells(plan: &Plan) -> Vec<Cell<'_>> {
    let mut all = Vec::new();
    for env in &plan.envs {
        for policy in &plan.policies {
            all.extend(plan.seeds().map(|seed| Cell { env, policy, seed }));
        }
    }
    all
}

/// What happened in a cell, by column; one entry a round.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The round's number.
    pub index: Vec<u64>,
    /// The world's time.
    pub time: Vec<u64>,
    /// For whom.
    pub user: Vec<u64>,
    /// Position in `group_names`.
    pub group: Vec<Option<usize>>,
    /// The groups that occurred.
    pub group_names: Vec<String>,
    /// The identity of the chosen action.
    pub action: Vec<u64>,
    /// How many there were to choose from.
    pub candidates: Vec<u32>,
    /// The probability of the choice.
    pub propensity: Vec<f64>,
    /// How the probability was found.
    pub method: Vec<&'static str>,
    /// What came of it, also where the learner never heard.
    pub reward: Vec<f64>,
    /// The expected reward of the choice, where the world knows it.
    pub expected: Vec<Option<f64>>,
    /// The best expected reward on offer, likewise.
    pub best: Vec<Option<f64>>,
    /// The reaction, where there was one.
    pub reaction: Vec<Option<Reaction>>,
    /// Its dwell, where it is known.
    pub dwell_ms: Vec<Option<u64>>,
    /// CPU time of deciding and learning, in microseconds, scaled up from the sampled ticks.
    pub cpu_us: f64,
}

impl Records {
    /// The number of rounds.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True when nothing happened.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn group_code(&mut self, name: &str) -> usize {
        // A handful of groups: a search is faster than any map.
        self.group_names.iter().position(|g| g == name).unwrap_or_else(|| {
            self.group_names.push(name.into());
            self.group_names.len() - 1
        })
    }
}

/// The log with the rows that wait for their outcome.
#[derive(Default)]
struct Pending {
    log: Log,
    /// By arrival, then row.
    waiting: BTreeMap<(u64, usize), (f64, Option<Feedback>)>,
    rows: Vec<usize>,
}

impl Pending {
    /// Teaches what has arrived by `now`, as one batch.
    fn deliver(&mut self, now: u64, policy: &mut dyn Policy) -> oo_core::Result<()> {
        self.rows.clear();
        while let Some(entry) = self.waiting.first_entry() {
            let (due, row) = *entry.key();
            if due > now {
                break;
            }
            let (reward, feedback) = entry.remove();
            self.log.settle(row, reward, feedback);
            self.rows.push(row);
        }
        self.learn(policy)
    }

    fn learn(&mut self, policy: &mut dyn Policy) -> oo_core::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let done = policy.update(&Batch::new(&self.log, &self.rows));
        self.rows.clear();
        done
    }

    /// Forgets rows that nobody waits for, so that memory is bounded by what is pending.
    fn tidy(&mut self) {
        if self.waiting.is_empty() {
            self.log.clear();
        } else if self.log.len() > 1024 + 2 * self.waiting.len() {
            // Copying happens at most once in so many rows, hence at constant cost a row. Row order is kept.
            let mut keys: Vec<(u64, usize)> = self.waiting.keys().copied().collect();
            keys.sort_unstable_by_key(|&(_, row)| row);
            let mut log = Log::new();
            let mut waiting = BTreeMap::new();
            for key in keys {
                let row = self.log.row(key.1);
                let moved = log.push_parts(&row.round, row.probs, row.chosen, row.method);
                if let Some(outcome) = self.waiting.remove(&key) {
                    waiting.insert((key.0, moved), outcome);
                }
            }
            self.log = log;
            self.waiting = waiting;
        }
    }
}

/// Runs one cell from beginning to end.
///
/// # Errors
/// What the environment or the policy refuses, with the cell named.
pub fn run_cell(plan: &Plan, cell: Cell<'_>) -> Result<Records> {
    let place = || format!("{} in {}, seed {}", cell.policy.name, cell.env.name, cell.seed);
    let mut env = plan.environment(cell.env, cell.seed).with_context(place)?;
    let mut policy = plan.policy(cell.policy, env.shape()).with_context(place)?;
    let key = Key::root(cell.seed).name("policy").name(&cell.policy.canonical);
    simulate(env.as_mut(), policy.as_mut(), key).with_context(place)
}

/// Who looks on while rounds happen, and writes down what it wants.
pub trait Witness {
    /// A round was decided; `i` is its place among the open rounds of the tick.
    fn decided(&mut self, _env: &dyn Environment, _i: usize, _decision: &Decision) {}

    /// The same round was answered; `row` holds no reward yet.
    ///
    /// # Errors
    /// Whatever keeps the witness from writing it down; it ends the run.
    fn answered(&mut self, _now: u64, _row: Row<'_>, _outcome: &Outcome) -> oo_core::Result<()> {
        Ok(())
    }
}

impl Witness for Records {
    fn decided(&mut self, env: &dyn Environment, i: usize, decision: &Decision) {
        let (round, at) = (env.round(i), decision.chosen());
        self.index.push(round.index);
        self.time.push(env.now());
        self.user.push(round.user.0);
        let group = env.group(round.user).map(|g| self.group_code(g));
        self.group.push(group);
        self.action.push(round.candidates.ids[at].0);
        self.candidates.push(round.candidates.len() as u32);
        self.propensity.push(decision.propensity());
        self.method.push(decision.method().name());
        let expected = env.expected(i);
        self.expected.push(expected.and_then(|e| e.get(at).copied()));
        self.best
            .push(expected.and_then(|e| e.iter().copied().reduce(f64::max)));
    }

    fn answered(&mut self, _now: u64, _row: Row<'_>, outcome: &Outcome) -> oo_core::Result<()> {
        self.reward.push(outcome.reward);
        self.reaction.push(outcome.feedback.map(|f| f.reaction));
        self.dwell_ms.push(outcome.feedback.and_then(|f| f.dwell_ms));
        Ok(())
    }
}

/// [`simulate_before`] with records of every round.
///
/// # Errors
/// As there.
pub fn simulate(env: &mut dyn Environment, policy: &mut dyn Policy, key: Key) -> oo_core::Result<Records> {
    let mut records = Records::default();
    records.cpu_us = simulate_before(env, policy, key, &mut records)?;
    Ok(records)
}

/// The loop: deliver, decide, respond, learn. Returns the CPU time of deciding and learning, in microseconds.
///
/// # Errors
/// The first error of any side; a feature that is not finite is named.
pub fn simulate_before(
    env: &mut dyn Environment,
    policy: &mut dyn Policy,
    key: Key,
    witness: &mut dyn Witness,
) -> oo_core::Result<f64> {
    let shape = env.shape().clone();
    let mut rounds = 0u64;
    let mut pending = Pending::default();
    let mut decision = Decision::new();
    let (mut chosen, mut outcomes, mut log_rows) = (Vec::new(), Vec::new(), Vec::new());
    let (mut sampled, mut sampled_rounds) = (Duration::ZERO, 0u64);
    let mut tick = 0u64;
    while env.advance()? {
        let now = env.now();
        let mut clock = Clock::start(tick.is_multiple_of(SAMPLE_EVERY));
        pending.deliver(now, policy)?;
        clock.stop();
        chosen.clear();
        log_rows.clear();
        for i in 0..env.open() {
            let round = env.round(i);
            clock.go();
            let decided = policy.decide(&round, key.fold(round.index), &mut decision);
            clock.stop();
            decided.map_err(|e| name_feature(e, &shape))?;
            witness.decided(env, i, &decision);
            log_rows.push(pending.log.push(&round, &decision));
            chosen.push(decision.chosen());
        }
        outcomes.clear();
        env.respond(&chosen, &mut outcomes)?;
        if outcomes.len() != chosen.len() {
            return Err(Error::Dimension {
                what: "outcomes",
                got: outcomes.len(),
                expected: chosen.len(),
            });
        }
        for (&row, outcome) in log_rows.iter().zip(&outcomes) {
            witness.answered(now, pending.log.row(row), outcome)?;
            match outcome.arrival {
                Arrival::Now => {
                    pending.log.settle(row, outcome.reward, outcome.feedback);
                    pending.rows.push(row);
                }
                Arrival::After(delay) => {
                    pending
                        .waiting
                        .insert((now.saturating_add(delay), row), (outcome.reward, outcome.feedback));
                }
                Arrival::Never => {}
            }
        }
        clock.go();
        pending.learn(policy)?;
        clock.stop();
        pending.tidy();
        if clock.on {
            sampled += clock.total;
            sampled_rounds += chosen.len() as u64;
        }
        rounds += chosen.len() as u64;
        tick += 1;
    }
    let a_round = sampled.as_secs_f64() * 1e6 / sampled_rounds.max(1) as f64;
    Ok(a_round * rounds as f64)
}

/// Adds up the thread's CPU time between `go` and `stop`, on sampled ticks only.
struct Clock {
    on: bool,
    since: Option<ThreadTime>,
    total: Duration,
}

impl Clock {
    fn start(on: bool) -> Self {
        let mut clock = Clock {
            on,
            since: None,
            total: Duration::ZERO,
        };
        clock.go();
        clock
    }

    fn go(&mut self) {
        if self.on {
            self.since = ThreadTime::try_now().ok();
        }
    }

    fn stop(&mut self) {
        if let Some(since) = self.since.take() {
            self.total += since.try_elapsed().unwrap_or_default();
        }
    }
}

/// A policy knows features by number; people know them by name.
fn name_feature(error: Error, shape: &Shape) -> Error {
    match error {
        Error::NotFinite { feature, value, round } => {
            let name = feature
                .strip_prefix('#')
                .and_then(|i| i.parse().ok())
                .map(|i| shape.feature(i).to_string());
            Error::NotFinite {
                feature: name.unwrap_or(feature),
                value,
                round,
            }
        }
        other => other,
    }
}

/// The cells that the store does not hold yet.
fn unfinished<'a>(plan: &Plan, all: &[Cell<'a>], store: &Store, pool: &rayon::ThreadPool) -> Result<Vec<Cell<'a>>> {
    let open = |&cell: &Cell<'a>| match store.is_finished(plan, cell) {
        Ok(finished) => (!finished).then_some(Ok(cell)),
        Err(e) => Some(Err(e)),
    };
    pool.install(|| all.par_iter().filter_map(open).collect())
}

/// Who hears of cells as they finish, from many threads.
pub trait Watch: Sync {
    /// A cell was run and is in the store.
    fn finished(&self, _plan: &Plan, _store: &Store, _cell: Cell<'_>, _records: &Records) {}
}

/// Nobody.
impl Watch for () {}

impl<T: Watch> Watch for Option<T> {
    fn finished(&self, plan: &Plan, store: &Store, cell: Cell<'_>, records: &Records) {
        if let Some(watch) = self {
            watch.finished(plan, store, cell, records);
        }
    }
}

/// Runs every cell that the store does not hold yet. Returns how many were run.
///
/// # Errors
/// The error of the first failing cell in the plan's order; finished cells stay.
pub fn run(plan: &Plan, store: &Store, threads: usize, watch: &dyn Watch) -> Result<usize> {
    run_cells(plan, &cells(plan), store, threads, watch)
}

/// The same for some of the plan's cells.
///
/// # Errors
/// As [`run`].
pub fn run_cells(plan: &Plan, all: &[Cell<'_>], store: &Store, threads: usize, watch: &dyn Watch) -> Result<usize> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .with_context(|| format!("cannot start {threads} threads"))?;
    let todo = unfinished(plan, all, store, &pool)?;
    let template = "{bar:32} {pos}/{len} runs, {elapsed} so far, about {eta} left";
    let bar = progress::bar(Some(all.len() as u64), template);
    bar.set_position((all.len() - todo.len()) as u64);
    let (told, of, root) = (bar.clone(), all.len(), store.root().clone());
    let _stopped = interrupt::tell(move || {
        let done = told.position();
        format!("{done} of {of} runs are finished and kept in {root}; the same command goes on from there")
    });
    let results: Vec<Result<()>> = pool.install(|| {
        todo.par_iter()
            .map(|&cell| {
                let records = run_cell(plan, cell)?;
                store.write_cell(plan, cell, &records)?;
                watch.finished(plan, store, cell, &records);
                bar.inc(1);
                Ok(())
            })
            .collect()
    });
    bar.finish_and_clear();
    results.into_iter().collect::<Result<()>>()?;
    Ok(todo.len())
}
