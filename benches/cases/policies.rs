//! Every registered policy: deciding, and learning row by row.

use super::{Case, Work};
use oo_core::{ActionId, Batch, Candidates, Decision, Key, Log, Policy, Round, Spec, UserId, features};
use std::hint::black_box;

const CANDIDATES: usize = 10;
/// Before anything is measured, so many rounds are learned.
const WARM: u64 = 64;
/// Decisions that are measured.
const DECIDED: u64 = 16;
/// Rows that are learned while it is measured: a neural policy trains on them at least once.
const LEARNED: u64 = 64;

/// Paths through the code that the registered defaults do not take.
const VARIANTS: [&str; 5] = [
    "lin-ucb{model=disjoint}",
    "lin-ts{model=disjoint}",
    "egreedy{learner=sgd}",
    "square-cb{learner=logistic}",
    "lin-ucb+per-user",
];

/// Two cases a policy.
pub(super) fn cases() -> Vec<Case> {
    let registered = oo_policies::POLICIES.iter().map(|entry| entry.name);
    let specs: Vec<&str> = registered.chain(VARIANTS).collect();
    let decide = specs
        .iter()
        .map(|&spec| Case::new("decide", spec, move || decide(spec)));
    let update = specs
        .iter()
        .map(|&spec| Case::new("update", spec, move || update(spec)));
    decide.chain(update).collect()
}

fn decide(spec: &str) -> Work {
    let policy = warm(spec);
    let scenes: Vec<Scene> = (WARM..WARM + DECIDED).map(Scene::new).collect();
    let mut decision = Decision::new();
    Box::new(move || {
        for scene in &scenes {
            let key = Key::root(1).fold(scene.index);
            let decided = policy.decide(&scene.round(), key, &mut decision);
            decided.expect("a decision");
            black_box(&decision);
        }
    })
}

fn update(spec: &str) -> Work {
    let mut policy = warm(spec);
    let (mut log, mut decision) = (Log::new(), Decision::new());
    let rows: Vec<_> = (WARM..WARM + LEARNED)
        .map(|t| Scene::new(t).log(policy.as_ref(), &mut decision, &mut log))
        .collect();
    Box::new(move || {
        for row in &rows {
            policy.update(&Batch::new(&log, &[*row])).expect("an update");
        }
    })
}

/// A policy that has learned some rounds.
fn warm(spec: &str) -> Box<dyn Policy> {
    let spec = Spec::parse(spec).expect("a valid spec");
    let mut policy = oo_policies::build(&spec, &features::shape()).expect("a policy");
    let (mut log, mut decision) = (Log::new(), Decision::new());
    for t in 0..WARM {
        log.clear();
        let row = Scene::new(t).log(policy.as_ref(), &mut decision, &mut log);
        policy.update(&Batch::new(&log, &[row])).expect("an update");
    }
    policy
}

/// A round in the shape of the tips world. Ids move through a pool, so that arms come back.
struct Scene {
    index: u64,
    context: Vec<f32>,
    ids: Vec<ActionId>,
    features: Vec<f32>,
}

impl Scene {
    fn new(index: u64) -> Self {
        let shape = features::shape();
        let mut draws = Key::root(2).fold(index).draws();
        let mut numbers = |n: usize| (0..n).map(|_| draws.uniform() as f32).collect();
        Scene {
            index,
            context: numbers(shape.context.len()),
            ids: (0..CANDIDATES as u64).map(|i| ActionId((index + 5 * i) % 16)).collect(),
            features: numbers(CANDIDATES * shape.candidate.len()),
        }
    }

    fn round(&self) -> Round<'_> {
        Round {
            index: self.index,
            user: UserId(self.index % 4),
            context: &self.context,
            candidates: Candidates {
                ids: &self.ids,
                features: &self.features,
                dim: self.features.len() / CANDIDATES,
            },
        }
    }

    /// Decides and logs the round with a reward in [0, 1] that depends on features and action. Returns its row.
    fn log(&self, policy: &dyn Policy, decision: &mut Decision, log: &mut Log) -> usize {
        let round = self.round();
        let key = Key::root(1).fold(self.index);
        policy.decide(&round, key, decision).expect("a decision");
        let row = log.push(&round, decision);
        let (chosen, noise) = (decision.chosen(), key.name("reward").uniform());
        let by_features = 0.4 * f64::from(round.candidates.row(chosen)[2]);
        let reward = by_features + 0.02 * self.ids[chosen].0 as f64 + 0.3 * noise;
        log.settle(row, reward, None);
        row
    }
}
