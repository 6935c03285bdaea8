//! Off-policy evaluation of a log in memory: seven estimators with their standard errors in one pass, one thread, and
//! the memory that the pass takes beyond the log.
//!
//! `cargo run --release -p oo-benches --bin ope`

use cpu_time::ProcessTime;
use oo_benches::seconds;
use oo_core::Key;
use oo_judge::estimators::{Estimator, Logged, Sizes, Terms, Weighted, bootstrap::Bootstrap, estimate, find};
use std::hint::black_box;

const SEVEN: [&str; 7] = ["ips", "snips", "dm", "dr", "sndr", "switch-dr", "dr-os"];

fn log(rows: usize, actions: usize) -> Logged {
    let mut draws = Key::root(1).name("ope").draws();
    let mut log = Logged {
        action: Vec::with_capacity(rows),
        reward: Vec::with_capacity(rows),
        propensity: Vec::with_capacity(rows),
        candidates: Sizes::Fixed(actions),
        target: Vec::with_capacity(rows * actions),
        model: Vec::with_capacity(rows * actions),
        cluster: vec![],
        first_row: 1,
    };
    for _ in 0..rows {
        let start = log.target.len();
        log.target.extend((0..actions).map(|_| draws.exponential()));
        let sum: f64 = log.target[start..].iter().sum();
        log.target[start..].iter_mut().for_each(|p| *p /= sum);
        log.model.extend((0..actions).map(|_| draws.uniform()));
        log.action.push(draws.below(actions) as u32);
        log.propensity.push(1.0 / actions as f64);
        log.reward.push(f64::from(draws.uniform() < 0.5));
    }
    log
}

fn main() {
    let log = log(1_000_000, 10);
    let seven: Vec<Box<dyn Estimator>> = SEVEN
        .iter()
        .map(|name| find(name).and_then(|entry| entry.build(None)).expect("in the table"))
        .collect();
    let pass = seconds(|| {
        black_box(estimate(black_box(&log), &seven));
    });
    println!("pass {pass:.4}");
    let dr = find("dr").unwrap().build(None).unwrap();
    let (mut rounds, mut terms) = (Weighted::default(), Terms::default());
    log.weigh(&mut rounds);
    dr.terms(&rounds, &mut terms);
    let start = (ProcessTime::now(), std::time::Instant::now());
    let b = Bootstrap::rows(&terms, 1000, Key::root(1));
    println!(
        "bootstrap {:?} {:?} {:?} {}",
        start.0.elapsed(),
        start.1.elapsed(),
        b.interval(0.95),
        b.std_error()
    );
    let snips = find("sndr").unwrap().build(None).unwrap();
    snips.terms(&rounds, &mut terms);
    let start = (ProcessTime::now(), std::time::Instant::now());
    let b = Bootstrap::rows(&terms, 1000, Key::root(1));
    println!(
        "bootstrap {:?} {:?} {:?} {}",
        start.0.elapsed(),
        start.1.elapsed(),
        b.interval(0.95),
        b.std_error()
    );
}
