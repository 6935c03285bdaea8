//! Rounds a CPU-second of explorers on first-order regression (decide + update, one thread).
//!
//! `cargo run --release -p oo-benches --bin first_order`

use oo_benches::rounds_a_second;

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
        let speed = rounds_a_second(spec, dim, arms, 50_000);
        println!(
            "| {spec} | {dim} × {arms} | {speed:.0} | {asked:.0} | {:.2} |",
            speed / asked
        );
    }
}
