//! Rounds a CPU-second of the linear policies (decide + update, one thread), against the multiply-adds they need.
//!
//! `cargo run --release -p oo-benches --bin linear`

use cpu_time::ThreadTime;
use oo_core::{ActionId, Batch, Candidates, Decision, Key, Log, Round, Shape, Spec, UserId};
use oo_policies::regress::symmetric::{Symmetric, padded};
use std::hint::black_box;

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

/// Multiply-adds a second of xᵀMx on a matrix in the first-level cache.
fn machine_rate() -> f64 {
    let dim = 64;
    let m = Symmetric::diagonal(dim, 1.0);
    let mut x = vec![1.0; padded(dim)];
    let times = 200_000;
    let taken = seconds(|| {
        for _ in 0..times {
            x[0] = black_box(m.quadratic(&x)).min(1.0);
        }
    });
    (times * dim * (dim + 8) / 2) as f64 / taken
}

fn rounds_a_second(spec: &str, dim: usize, arms: usize) -> f64 {
    let names = (0..dim).map(|i| format!("x{i}")).collect();
    let shape = Shape {
        context: names,
        candidate: vec![],
        actions: Some(arms),
    };
    let mut policy = oo_policies::build(&Spec::parse(spec).expect("a valid spec"), &shape).expect("a policy");
    let ids: Vec<ActionId> = (0..arms as u64).map(ActionId).collect();
    let mut draws = Key::root(1).draws();
    let contexts: Vec<f32> = (0..2000 * dim).map(|_| draws.normal() as f32).collect();
    let (mut decision, mut log) = (Decision::new(), Log::new());
    let rounds = 20_000;
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
    let rate = machine_rate();
    println!("machine: {:.1} G multiply-adds a second in f64", rate / 1e9);
    println!("| policy | d × arms | rounds/CPU-s | asked | ratio | multiply-adds a round | share of the floor |");
    println!("|---|---|---|---|---|---|---|");
    let ucb = "lin-ucb{model=disjoint}";
    for (spec, dim, arms, asked) in [
        (ucb, 65, 10, 140_000.0),
        (ucb, 21, 10, 1_000_000.0),
        (ucb, 112, 2, 90_000.0),
        (ucb, 17, 26, 550_000.0),
        (ucb, 55, 7, 220_000.0),
        ("lin-ts{model=disjoint}", 65, 10, 20_000.0),
    ] {
        let speed = rounds_a_second(spec, dim, arms);
        // One quadratic form an arm; for the chosen one A⁻¹x and two rank-one updates; θᵀx and θ are linear in d.
        let half = dim * (dim + 1) / 2;
        let adds = arms * (half + dim) + 3 * half + 3 * dim;
        let share = speed * adds as f64 / rate;
        println!(
            "| {spec} | {dim} × {arms} | {speed:.0} | {asked:.0} | {:.2} | {adds} | {:.0} % |",
            speed / asked,
            100.0 * share
        );
    }
}
