//! How the benches measure: CPU time of one thread, the best of several tries. [`cases`] are the hot paths whose
//! instructions are counted.

pub mod cases;

use cpu_time::ThreadTime;
use oo_core::{ActionId, Batch, Candidates, Decision, Key, Log, Round, Shape, Spec, UserId};

/// Seconds of CPU time that `work` takes, the least of five tries.
pub fn seconds(mut work: impl FnMut()) -> f64 {
    (0..5)
        .map(|_| {
            let start = ThreadTime::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// 2000 contexts, row-major, that the benches go through again and again.
pub fn contexts(dim: usize) -> Vec<f32> {
    let mut draws = Key::root(1).draws();
    (0..2000 * dim).map(|_| draws.normal() as f32).collect()
}

/// Rounds a second of a policy that decides and learns, with `dim` context features and `arms` fixed actions.
///
/// # Panics
/// A spec that is none, or a policy that fails.
pub fn rounds_a_second(spec: &str, dim: usize, arms: usize, rounds: usize) -> f64 {
    let shape = Shape {
        context: (0..dim).map(|i| format!("x{i}")).collect(),
        candidate: vec![],
        actions: Some(arms),
    };
    let mut policy = oo_policies::build(&Spec::parse(spec).expect("a valid spec"), &shape).expect("a policy");
    let ids: Vec<ActionId> = (0..arms as u64).map(ActionId).collect();
    let contexts = contexts(dim);
    let (mut decision, mut log) = (Decision::new(), Log::new());
    let mut run = || {
        for t in 0..rounds {
            let at = t % 2000 * dim;
            let round = Round {
                index: t as u64,
                user: UserId(0),
                context: &contexts[at..at + dim],
                candidates: Candidates {
                    ids: &ids,
                    features: &[],
                    dim: 0,
                },
            };
            policy
                .decide(&round, Key::root(2).fold(t as u64), &mut decision)
                .expect("a decision");
            log.clear();
            let row = log.push(&round, &decision);
            let reward = f64::from(round.context[0] > 0.5 * decision.chosen() as f32);
            log.settle(row, reward, None);
            policy.update(&Batch::new(&log, &[row])).expect("an update");
        }
    };
    run();
    rounds as f64 / seconds(run)
}
