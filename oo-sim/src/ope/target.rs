//! What the target policy would do in each round of a log.
//!
//! A frozen policy is the same in every row, and rows are asked side by side. A learning one is asked about a row and
//! then learns from what the log says came of it: its probabilities depend on earlier rows of the log only, so weighting
//! estimates the mean value of the sequence of policies that learning from this log makes. That is not what the policy
//! would have earned on its own, had it collected the data.

use crate::datasets::cache;
use crate::experiment::read_states;
use crate::logs::{self, About, Block};
use anyhow::{Context, Result, bail, ensure};
use oo_core::{Batch, Decision, Key, Log, Policy, Round, Row, Shape, Spec};
use oo_judge::estimators::Sizes;
use oo_policies::States;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Rows that one thread is asked about at a time.
const CHUNK: usize = 256;

/// What a policy has learned before it is judged, and whether it goes on.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Learn {
    /// Nothing: blank.
    #[default]
    No,
    /// As the log goes along.
    Log,
    /// The first share of the log, in (0, 1); the rest judges.
    Share(f64),
    /// Another log, or a saved state.
    File(PathBuf),
}

impl Learn {
    /// Reads `none`, `log`, a share, or a path.
    ///
    /// # Errors
    /// A share outside (0, 1), or a file that is not there.
    pub fn parse(text: &str) -> Result<Learn> {
        if let Ok(share) = text.parse::<f64>() {
            ensure!(
                share > 0.0 && share < 1.0,
                "--learn: expected a share between 0 and 1, got {share}"
            );
            return Ok(Learn::Share(share));
        }
        match text {
            "none" => Ok(Learn::No),
            "log" => Ok(Learn::Log),
            path if Path::new(path).is_file() => Ok(Learn::File(path.into())),
            other => {
                bail!("--learn: expected none, log, a share such as 0.5, or the path of a log or state, got `{other}`")
            }
        }
    }
}

/// Hands logged rows to a policy as they came: what was decided at one time is learned together and before the next.
#[derive(Default)]
struct Lessons {
    waiting: Log,
    rows: Vec<usize>,
    time: Option<u64>,
}

impl Lessons {
    /// Lets the policy learn what waits, if it was decided before `time`; rows without a time come one by one.
    fn before(&mut self, policy: &mut dyn Policy, time: Option<u64>) -> Result<()> {
        if self.rows.is_empty() || (time.is_some() && time == self.time) {
            return Ok(());
        }
        policy.update(&Batch::new(&self.waiting, &self.rows))?;
        self.waiting.clear();
        self.rows.clear();
        Ok(())
    }

    /// Adds a row of this time.
    fn add(&mut self, row: &Row<'_>, time: Option<u64>) {
        let at = self.waiting.push_parts(&row.round, row.probs, row.chosen, row.method);
        if let Some(reward) = row.reward {
            self.waiting.settle(at, reward, row.feedback);
        }
        self.rows.push(at);
        self.time = time;
    }
}

/// What a policy was built from.
struct Origin {
    shape: Shape,
    full: Spec,
    states: States,
}

/// A policy for the rounds of a log, before it has learned any of it.
fn blank(spec: &str, about: &About) -> Result<(Box<dyn Policy>, Origin)> {
    let Some(shape) = &about.shape else {
        bail!(
            "a log of the format `{}` without `pi_e_0`, … or `q_hat_0`, … does not say which actions there are, so no \
             policy can be asked about it",
            about.format
        )
    };
    let full = oo_policies::expand(&Spec::parse(spec)?)?;
    let mut states = States::default();
    read_states(&full, &mut states)?;
    let built = oo_policies::build_from(&full, shape, &states);
    let policy = built.with_context(|| format!("policy `{spec}` on this log"))?;
    let shape = shape.clone();
    Ok((policy, Origin { shape, full, states }))
}

/// A policy that is asked about every row of a log.
pub struct Target {
    spec: Spec,
    shape: Shape,
    states: States,
    policy: Box<dyn Policy>,
    key: Key,
    /// What it has yet to learn; none of a frozen policy.
    lessons: Option<Lessons>,
    /// Rows from the beginning that it has learned from and is not judged on.
    pub skip: u64,
}

impl Target {
    /// Builds the policy and lets it learn what it is to learn beforehand.
    ///
    /// # Errors
    /// A policy that does not fit the log, a log to learn from that is of another shape.
    pub fn new(spec: &str, learn: &Learn, log: (&Path, &str), about: &About, seed: u64) -> Result<Target> {
        let (mut policy, Origin { shape, full, states }) = blank(spec, about)?;
        let mut skip = 0;
        match learn {
            Learn::No | Learn::Log => {}
            Learn::Share(share) => {
                let mut rows = 0;
                for_each_block(log, |block| {
                    rows += block.logged.len() as u64;
                    Ok(true)
                })?;
                skip = (rows as f64 * share) as u64;
                ensure!(
                    skip > 0 && skip < rows,
                    "--learn: {share} of {rows} rows leaves nothing on one side"
                );
                study(policy.as_mut(), log, skip, None)?;
            }
            Learn::File(path) if is_state(path)? => {
                let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                policy
                    .load(&bytes)
                    .with_context(|| format!("state {}", path.display()))?;
            }
            Learn::File(path) => {
                ensure!(
                    cache::sha256(path)? != cache::sha256(log.0)?,
                    "--learn {}: this is the log that judges, and a policy judged by the rows that it learned from looks \
                     better than it is; use another log, a share of this one (--learn 0.5), or --learn log",
                    path.display()
                );
                let mut learn = || -> Result<()> {
                    let other = logs::open(path, "auto")?;
                    let columns = matching(&shape, other.about().shape.as_ref())?;
                    study(policy.as_mut(), (path, "auto"), u64::MAX, columns.as_deref())
                };
                learn().with_context(|| format!("--learn {}", path.display()))?;
            }
        }
        Ok(Target {
            policy,
            key: Key::root(seed).name("ope").name(&full.to_string()),
            spec: full,
            shape,
            states,
            lessons: (*learn == Learn::Log).then(Lessons::default),
            skip,
        })
    }

    /// The policy as a spec that names no file, and a state with all that it has learned so far.
    ///
    /// # Errors
    /// None that [`new`](Target::new) has not met.
    pub fn settle(&self) -> Result<(Spec, Vec<u8>)> {
        Ok(oo_policies::warm::settle(
            &self.spec,
            &self.shape,
            &self.states,
            self.policy.as_ref(),
        )?)
    }

    /// Fills in the target probabilities of a block.
    ///
    /// # Errors
    /// What the policy refuses, with the row.
    pub fn fill(&mut self, block: &mut Block) -> Result<()> {
        let rows = block.logged.len();
        let total = block.logged.candidates.total(rows);
        block.logged.target.clear();
        block.logged.target.resize(total, 0.0);
        let first = block.logged.first_row;
        let decide = |policy: &dyn Policy, key: Key, i: usize, decision: &mut Decision| -> Result<()> {
            let round = block.rounds.row(i).round;
            let decided = policy.decide(&round, key.fold(round.index), decision);
            decided.with_context(|| format!("row {}", first + i as u64))
        };
        if let Some(lessons) = &mut self.lessons {
            let mut decision = Decision::new();
            for i in 0..rows {
                let time = block.time.get(i).copied();
                let learned = lessons.before(self.policy.as_mut(), time);
                learned.with_context(|| format!("before row {}", first + i as u64))?;
                decide(self.policy.as_ref(), self.key, i, &mut decision)?;
                block.logged.target[block.logged.candidates.of(i)].copy_from_slice(decision.probs());
                lessons.add(&block.rounds.row(i), time);
            }
            return Ok(());
        }
        let mut target = std::mem::take(&mut block.logged.target);
        let mut parts = Vec::new();
        let mut rest = target.as_mut_slice();
        for start in (0..rows).step_by(CHUNK) {
            let end = rows.min(start + CHUNK);
            let length = block.logged.candidates.of(end - 1).end - block.logged.candidates.of(start).start;
            let (part, after) = rest.split_at_mut(length);
            parts.push((start..end, part));
            rest = after;
        }
        let (policy, key) = (self.policy.as_ref(), self.key);
        let asked = parts.into_par_iter().map(|(span, part)| -> Result<()> {
            let mut decision = Decision::new();
            let mut at = 0;
            for i in span {
                decide(policy, key, i, &mut decision)?;
                part[at..at + decision.probs().len()].copy_from_slice(decision.probs());
                at += decision.probs().len();
            }
            Ok(())
        });
        // Collected in order, so that the first row's error is the one reported.
        asked.collect::<Vec<_>>().into_iter().collect::<Result<()>>()?;
        block.logged.target = target;
        Ok(())
    }
}

/// Goes over a log until the end or until `visit` has seen enough.
fn for_each_block((path, format): (&Path, &str), mut visit: impl FnMut(&Block) -> Result<bool>) -> Result<()> {
    let mut source = logs::open(path, format)?;
    source.want_rounds();
    let mut block = Block::default();
    while source.next(&mut block)? {
        if !visit(&block)? {
            break;
        }
    }
    Ok(())
}

/// Learns the first rows of a log, with its context's features in the order that the policy knows them by.
fn study(policy: &mut dyn Policy, log: (&Path, &str), rows: u64, columns: Option<&[Option<usize>]>) -> Result<()> {
    let (mut lessons, mut left) = (Lessons::default(), rows);
    for_each_block(log, |block| {
        let now = left.min(block.logged.len() as u64);
        let turned = columns.map(|columns| translated(&block.rounds, columns));
        let rounds = turned.as_ref().unwrap_or(&block.rounds);
        for i in 0..now as usize {
            let time = block.time.get(i).copied();
            let learned = lessons.before(policy, time);
            learned.with_context(|| format!("before row {}", block.logged.first_row + i as u64))?;
            lessons.add(&rounds.row(i), time);
        }
        left -= now;
        Ok(left > 0)
    })?;
    lessons.before(policy, None)
}

/// A policy that has learned a whole log, and of how many rows.
///
/// # Errors
/// A log that cannot be read or describes no rounds, a policy that does not fit it.
pub fn study_whole(spec: &str, log: (&Path, &str)) -> Result<(Box<dyn Policy>, u64)> {
    let source = logs::open(log.0, log.1)?;
    let (mut policy, _) = blank(spec, source.about())?;
    let mut rows = 0;
    for_each_block(log, |block| {
        rows += block.logged.len() as u64;
        Ok(true)
    })?;
    ensure!(
        rows > 0,
        "the log is empty: expected at least one row with a reward, got none"
    );
    study(policy.as_mut(), log, rows, None)?;
    Ok((policy, rows))
}

/// A state is a safetensors file: eight bytes of length, then JSON.
fn is_state(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut head = [0; 9];
    let mut file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(file.read(&mut head)? == 9 && head[8] == b'{' && head[4..8] == [0; 4])
}

/// Where each context feature of the log to be judged on stands in another log: nothing to do where the shapes are the
/// same. The values of categories (`column=value`) may differ: what the other log never shows is 0 there, what it alone
/// shows is dropped.
fn matching(expected: &Shape, got: Option<&Shape>) -> Result<Option<Vec<Option<usize>>>> {
    let Some(got) = got else {
        bail!("expected a log with rounds, got one without");
    };
    if expected == got {
        return Ok(None);
    }
    let value = |name: &String| name.contains('=');
    let lacks = |shape: &Shape, name: &String| !shape.context.contains(name) && !shape.candidate.contains(name);
    if let Some(odd) = got
        .context
        .iter()
        .chain(&got.candidate)
        .find(|f| !value(f) && lacks(expected, f))
    {
        bail!("the log has a feature `{odd}` that the log to be judged on has not");
    }
    let missing = expected.context.iter().find(|f| !value(f) && !got.context.contains(f));
    ensure!(
        missing.is_none() && expected.candidate == got.candidate && expected.actions == got.actions,
        "expected the features and actions of the log to be judged on ({} + {} features, {:?} actions), got {} + {} \
         features, {:?} actions",
        expected.context.len(),
        expected.candidate.len(),
        expected.actions,
        got.context.len(),
        got.candidate.len(),
        got.actions
    );
    let place = |name: &String| got.context.iter().position(|other| other == name);
    Ok(Some(expected.context.iter().map(place).collect()))
}

/// The rounds with the context's columns where [`matching`] puts them.
fn translated(rounds: &Log, columns: &[Option<usize>]) -> Log {
    let mut out = Log::new();
    for i in 0..rounds.len() {
        let row = rounds.row(i);
        let context: Vec<f32> = columns
            .iter()
            .map(|from| from.map_or(0.0, |j| row.round.context[j]))
            .collect();
        let round = Round {
            context: &context,
            ..row.round
        };
        let at = out.push_parts(&round, row.probs, row.chosen, row.method);
        if let Some(reward) = row.reward {
            out.settle(at, reward, row.feedback);
        }
    }
    out
}

/// Drops the first rows of a block.
pub fn drop_first(block: &mut Block, rows: usize) {
    if rows == 0 {
        return;
    }
    let logged = &mut block.logged;
    let candidates = logged.candidates.total(rows);
    logged.action.drain(..rows);
    logged.reward.drain(..rows);
    logged.propensity.drain(..rows);
    for column in [&mut logged.target, &mut logged.model] {
        column.drain(..candidates.min(column.len()));
    }
    logged.cluster.drain(..rows.min(logged.cluster.len()));
    block.time.drain(..rows.min(block.time.len()));
    logged.first_row += rows as u64;
    if let Sizes::Ends(ends) = &mut logged.candidates {
        ends.drain(..rows);
        ends.iter_mut().for_each(|end| *end -= candidates);
    }
    if !block.rounds.is_empty() {
        let mut kept = Log::new();
        for i in rows..block.rounds.len() {
            let row = block.rounds.row(i);
            let at = kept.push_parts(&row.round, row.probs, row.chosen, row.method);
            if let Some(reward) = row.reward {
                kept.settle(at, reward, row.feedback);
            }
        }
        block.rounds = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::{ActionId, Candidates, Method, UserId};

    fn shape(context: &[&str]) -> Shape {
        Shape {
            context: context.iter().map(ToString::to_string).collect(),
            candidate: vec![],
            actions: Some(1),
        }
    }

    #[test]
    fn values_of_categories_are_matched_by_name() {
        let (here, there) = (shape(&["age", "town=A", "town=B"]), shape(&["age", "town=B", "town=C"]));
        let columns = matching(&here, Some(&there)).unwrap().unwrap();
        assert_eq!(columns, [Some(0), None, Some(1)]);
        let round = Round {
            index: 0,
            user: UserId(0),
            context: &[7.0, 1.0, 0.0],
            candidates: Candidates {
                ids: &[ActionId(0)],
                features: &[],
                dim: 0,
            },
        };
        let mut log = Log::new();
        let row = log.push_parts(&round, &[1.0], 0, Method::Exact);
        log.settle(row, 1.0, None);
        let turned = translated(&log, &columns);
        assert_eq!(turned.row(0).round.context, [7.0, 0.0, 1.0]);
        assert_eq!(turned.row(0).reward, Some(1.0));
        assert_eq!(matching(&here, Some(&here)).unwrap(), None);
        assert!(matching(&here, Some(&shape(&["age", "height"]))).is_err());
        assert!(matching(&here, Some(&shape(&["town=A"]))).is_err());
        assert!(matching(&here, None).is_err());
    }
}
