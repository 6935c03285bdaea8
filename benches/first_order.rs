//! Rounds a CPU-second of explorers on first-order regression (decide + update, one thread).
//!
//! `cargo run --release -p oo-benches --bin first_order`

use cpu_time::ThreadTime;
use oo_core::{ActionId, Batch, Candidates, Decision, Key, Log, Round, Shape, Spec, UserId};

/// Seconds of CPU time that `work` takes, the least of five tries.
fn seconds(mut work: impl FnMut()) -> f64 {
    (0..5)
        .map(|_| {
            let start = ThreadTime::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

fn rounds_a_second(spec: &str, dim: usize, arms: usize) -> f64 {
    let shape = Shape {
        context: (0..dim).map(|i| format!("x{i}")).collect(),
        candidate: vec![],
        actions: Some(arms),
    };
    let mut policy = oo_policies::build(&Spec::parse(spec).expect("a valid spec"), &shape).expect("a policy");
    let ids: Vec<ActionId> = (0..arms as u64).map(ActionId).collect();
    let mut draws = Key::root(1).draws();
    let contexts: Vec<f32> = (0..2000 * dim).map(|_| draws.normal() as f32).collect();
    let (mut decision, mut log) = (Decision::new(), Log::new());
    let rounds = 50_000;
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

fn main() {
    println!("| policy | d × arms | rounds/CPU-s | asked | ratio |");
    println!("|---|---|---|---|---|");
    let (greedy, square) = ("egreedy{learner=sgd}", "square-cb{learner=sgd}");
    for (spec, dim, arms, asked) in [
        (greedy, 55, 7, 282_000.0),
        (square, 55, 7, 193_000.0),
        (square, 65, 10, 240_000.0),
        (square, 21, 10, 150_000.0),
        (square, 112, 2, 197_000.0),
        (square, 17, 26, 103_000.0),
        ("reg-cb{learner=sgd}", 55, 7, 87_000.0),
        ("reg-cb{learner=sgd}", 21, 10, 116_000.0),
        ("reg-cb{learner=sgd}", 17, 26, 54_000.0),
        ("cover{learner=sgd,policies=16}", 55, 7, 6_690.0),
        ("cover{learner=sgd,policies=16}", 65, 10, 4_190.0),
        ("cover{learner=sgd,policies=16}", 21, 10, 12_600.0),
        ("cover{learner=sgd,policies=16}", 112, 2, 13_300.0),
        ("cover{learner=sgd,policies=16}", 17, 26, 6_390.0),
        ("egreedy{learner=logistic}", 55, 7, 282_000.0),
    ] {
        let speed = rounds_a_second(spec, dim, arms);
        println!(
            "| {spec} | {dim} × {arms} | {speed:.0} | {asked:.0} | {:.2} |",
            speed / asked
        );
    }
}
