//! Wrong propensities are found, right ones are left alone: simulated logs of 100,000 rows.
//!
//! Logger: softmax over ten actions with five normal features; target: a softmax of other weights. Without the behaviour
//! pmf the diagnostics see what every log has; with it, they also compare frequencies.

use oo_core::Key;
use oo_judge::estimators::diagnostics::Diagnostics;
use oo_judge::estimators::{Logged, Sizes, Weighted};

const ROWS: usize = 100_000;
const ACTIONS: usize = 10;
const FEATURES: usize = 5;

/// How the logger makes probabilities of its scores, which are normal with standard deviation 1.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// exp(spread · score), normalised: 1 makes an even logger, 2 one with large weights.
    Softmax(f64),
    /// The best score, and everything else with probability ε/K.
    Greedy(f64),
}

fn pmf(kind: Kind, theta: &[f64], x: &[f64], out: &mut [f64]) {
    for (a, out) in out.iter_mut().enumerate() {
        let score: f64 = (0..FEATURES).map(|d| theta[a * FEATURES + d] * x[d]).sum();
        *out = score / (FEATURES as f64).sqrt();
    }
    match kind {
        Kind::Softmax(spread) => {
            out.iter_mut().for_each(|score| *score = (spread * *score).exp());
            let sum: f64 = out.iter().sum();
            out.iter_mut().for_each(|p| *p /= sum);
        }
        Kind::Greedy(epsilon) => {
            let best = (1..out.len()).fold(0, |best, a| if out[a] > out[best] { a } else { best });
            let rest = epsilon / out.len() as f64;
            out.fill(rest);
            out[best] += 1.0 - epsilon;
        }
    }
}

/// A right log and its logger's pmf.
fn log(kind: Kind, rows: usize, key: Key) -> (Logged, Vec<f64>) {
    let mut draws = key.draws();
    let mut weights = || (0..ACTIONS * FEATURES).map(|_| draws.normal()).collect::<Vec<f64>>();
    let (logger, target, model) = (weights(), weights(), weights());
    let softer = match kind {
        Kind::Softmax(spread) => Kind::Softmax(0.7 * spread),
        Kind::Greedy(_) => Kind::Greedy(0.0),
    };
    let mut log = Logged {
        action: vec![],
        reward: vec![0.0; rows],
        propensity: vec![],
        candidates: Sizes::Fixed(ACTIONS),
        target: vec![0.0; rows * ACTIONS],
        model: vec![0.0; rows * ACTIONS],
        cluster: vec![],
        first_row: 1,
    };
    let mut behaviour = vec![0.0; rows * ACTIONS];
    let mut x = [0.0; FEATURES];
    for row in 0..rows {
        let of = row * ACTIONS..(row + 1) * ACTIONS;
        draws.normals(&mut x);
        pmf(kind, &logger, &x, &mut behaviour[of.clone()]);
        pmf(softer, &target, &x, &mut log.target[of.clone()]);
        pmf(Kind::Softmax(1.0), &model, &x, &mut log.model[of.clone()]);
        let (mut u, mut action) = (draws.uniform(), 0);
        let p = &behaviour[of];
        while action + 1 < ACTIONS && u >= p[action] {
            u -= p[action];
            action += 1;
        }
        log.action.push(action as u32);
        log.propensity.push(p[action]);
    }
    (log, behaviour)
}

type Wrong = fn(&mut Logged, &mut [f64], Key);

/// Changes every row's pmf, and the propensity with it.
fn reshape(log: &mut Logged, behaviour: &mut [f64], power: f64) {
    for (row, p) in behaviour.chunks_exact_mut(ACTIONS).enumerate() {
        p.iter_mut().for_each(|p| *p = p.powf(power));
        let sum: f64 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= sum);
        log.propensity[row] = p[log.action[row] as usize];
    }
}

const WRONG: [(&str, Wrong); 8] = [
    ("0.5 in every row", |log, _, _| log.propensity.fill(0.5)),
    ("1/K in every row", |log, behaviour, _| {
        log.propensity.fill(1.0 / ACTIONS as f64);
        behaviour.fill(1.0 / ACTIONS as f64);
    }),
    ("shuffled over rows", |log, _, key| {
        key.draws().shuffle(&mut log.propensity)
    }),
    ("power 1.2, not normalised", |log, _, _| {
        log.propensity.iter_mut().for_each(|p| *p = p.powf(1.2))
    }),
    ("power 0.8, not normalised", |log, _, _| {
        log.propensity.iter_mut().for_each(|p| *p = p.powf(0.8))
    }),
    ("temperature a fifth too low", |log, behaviour, _| {
        reshape(log, behaviour, 1.25)
    }),
    ("temperature a fifth too high", |log, behaviour, _| {
        reshape(log, behaviour, 1.0 / 1.2)
    }),
    ("1 % of rows at 1e-6", |log, _, key| {
        for (row, p) in log.propensity.iter_mut().enumerate() {
            if key.fold(row as u64).uniform() < 0.01 {
                *p = 1e-6;
            }
        }
    }),
];

fn alarm(log: &Logged, behaviour: Option<&[f64]>) -> bool {
    let (mut diagnostics, mut rounds) = (Diagnostics::new(f64::INFINITY), Weighted::default());
    log.weigh(&mut rounds);
    diagnostics.add(log, 0..log.len(), &rounds, behaviour);
    !diagnostics.report().alarms().is_empty()
}

/// How many of `logs` right ones raise an alarm, without and with the pmf.
fn false_alarms(kind: Kind, rows: usize, logs: u64, key: Key) -> [usize; 2] {
    let mut alarms = [0; 2];
    for i in 0..logs {
        let (log, behaviour) = log(kind, rows, key.fold(i));
        alarms[0] += usize::from(alarm(&log, None));
        alarms[1] += usize::from(alarm(&log, Some(&behaviour)));
    }
    alarms
}

/// How many of `logs` wrong ones do, for each way to be wrong.
fn found(kind: Kind, logs: u64, key: Key) -> Vec<(&'static str, [usize; 2])> {
    let mut all: Vec<_> = WRONG.iter().map(|(name, _)| (*name, [0; 2])).collect();
    for i in 0..logs {
        let (right, pmf) = log(kind, ROWS, key.fold(i));
        for ((_, spoil), (_, found)) in WRONG.iter().zip(&mut all) {
            let (mut log, mut behaviour) = (right.clone(), pmf.clone());
            spoil(&mut log, &mut behaviour, key.fold(i).name("wrong"));
            found[0] += usize::from(alarm(&log, None));
            found[1] += usize::from(alarm(&log, Some(&behaviour)));
        }
    }
    all
}

/// Every wrong log of a few is found, and no right one is accused. At a rate of 95 % found, all of 2 · 8 · 3 logs would
/// be found in 9 % of seeds; at 1 % accused, 12 right logs are let off in 89 %: the seed is fixed, and the table below
/// has the rates.
#[test]
fn wrong_propensities_are_found_and_right_ones_are_not() {
    for kind in [Kind::Softmax(1.0), Kind::Softmax(2.0)] {
        for (name, found) in found(kind, 3, Key::root(31)) {
            assert_eq!(found, [3, 3], "{kind:?}, {name}");
        }
        assert_eq!(false_alarms(kind, ROWS, 3, Key::root(31)), [0, 0], "{kind:?}");
    }
}

/// The full size, printed: `cargo test --release -p oo-judge --test propensities -- --ignored --nocapture`.
#[test]
#[ignore = "the tables of docs/estimators.md; minutes"]
fn tables() {
    let logs = std::env::var("OO_LOGS").map_or(200, |n| n.parse().expect("a number"));
    println!("right logs accused, of {}, without and with the pmf", 5 * logs);
    for kind in [
        Kind::Softmax(1.0),
        Kind::Softmax(2.0),
        Kind::Softmax(3.0),
        Kind::Greedy(0.1),
        Kind::Greedy(0.01),
    ] {
        for rows in [1_000, 10_000, ROWS] {
            let times = if rows == ROWS { logs } else { 5 * logs };
            println!(
                "| {kind:?} | {rows} | {times} | {:?} |",
                false_alarms(kind, rows, times, Key::root(30))
            );
        }
    }
    println!("wrong logs found, of {logs}");
    for kind in [Kind::Softmax(1.0), Kind::Softmax(2.0)] {
        for (name, found) in found(kind, logs, Key::root(30)) {
            println!("| {kind:?} | {name} | {} | {} |", found[0], found[1]);
        }
    }
}
