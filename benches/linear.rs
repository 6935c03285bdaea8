//! Rounds a CPU-second of the linear policies (decide + update, one thread), against the multiply-adds they need.
//!
//! `cargo run --release -p oo-benches --bin linear`

use oo_benches::{rounds_a_second, seconds};
use oo_policies::regress::symmetric::{Symmetric, padded};
use std::hint::black_box;

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
        let speed = rounds_a_second(spec, dim, arms, 20_000);
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
