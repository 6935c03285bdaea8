//! Wrong propensities are found, right ones are left alone: simulated logs of 100,000 rows.
//!
//! Logger: softmax over ten actions with five normal features; target: a softmax of other weights. Without the behaviour
//! pmf the diagnostics see what every log has; with it, they also compare frequencies.

use oo_core::Key;
use oo_judge::estimators::diagnostics::{Diagnostics, Report};
use oo_judge::estimators::{BLOCK, Logged, Sizes, Weighted};

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

fn diagnose(log: &Logged, behaviour: Option<&[f64]>) -> Report {
    let (mut diagnostics, mut rounds) = (Diagnostics::new(f64::INFINITY), Weighted::default());
    log.weigh(&mut rounds);
    diagnostics.add(log, 0..log.len(), &rounds, behaviour);
    diagnostics.report()
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
    !diagnose(log, behaviour).alarms().is_empty()
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

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs().max(1.0)
}

/// Ten rows whose numbers are known by hand.
#[test]
fn numbers_by_hand() {
    let log = Logged {
        action: vec![0, 1, 0, 1, 0, 1, 0, 1, 0, 0],
        reward: vec![0.0; 10],
        propensity: vec![0.5; 10],
        candidates: Sizes::Fixed(3),
        target: [1.0, 0.0, 0.0]
            .repeat(5)
            .into_iter()
            .chain([0.25, 0.25, 0.5].repeat(5))
            .collect(),
        model: vec![],
        cluster: vec![],
        first_row: 1,
    };
    log.check().expect("a sound log");
    let mut diagnostics = Diagnostics::new(1.0);
    let mut rounds = Weighted::default();
    log.weigh(&mut rounds);
    let behaviour = [0.5, 0.5, 0.0].repeat(10);
    diagnostics.add(&log, 0..10, &rounds, Some(&behaviour));
    let report = diagnostics.report();
    // Weights: 2, 0, 2, 0, 2 and five times 0.5.
    assert_eq!((report.rows, report.max_weight), (10, 2.0));
    assert!(close(report.mean_weight, 0.85));
    assert!(close(report.effective_rows, 8.5 * 8.5 / (12.0 + 1.25)));
    assert!(close(report.zero_share, 0.2) && close(report.clipped_share, 0.3));
    assert!(close(report.candidates, 3.0) && close(report.reachable, 2.0));
    assert!(close(report.never_logged.expect("one set of actions"), 0.25));
    assert!(close(report.off_support.expect("a pmf"), 0.25));
    assert!(close(report.disagreeing.expect("a pmf"), 0.0));
    assert_eq!((report.floor.propensity, report.floor.rows), (0.5, 10));
    assert_eq!(report.tail_index, None);
}

/// Blocks, and parts that merge, show what the whole shows.
#[test]
fn parts_merge() {
    let (log, behaviour) = log(Kind::Softmax(2.0), 5000, Key::root(32));
    let whole = diagnose(&log, Some(&behaviour));
    let mut parts = vec![Diagnostics::new(f64::INFINITY); 3];
    let mut rounds = Weighted::default();
    for (i, start) in (0..5000).step_by(BLOCK).enumerate() {
        let rows = start..5000.min(start + BLOCK);
        log.weigh_rows(rows.clone(), &mut rounds);
        parts[i % 3].add(&log, rows, &rounds, Some(&behaviour));
    }
    let mut merged = Diagnostics::new(f64::INFINITY);
    parts.iter().for_each(|part| merged.merge(part));
    let merged = merged.report();
    assert_eq!(merged.checks.len(), whole.checks.len());
    for (a, b) in merged.checks.iter().zip(&whole.checks) {
        assert_eq!(a.what, b.what);
        assert!(close(a.got, b.got) && close(a.p, b.p), "{a:?} {b:?}");
    }
    assert!(close(merged.effective_rows, whole.effective_rows));
    assert_eq!(
        (merged.quantiles, merged.tail_index),
        (whole.quantiles, whole.tail_index)
    );
    assert_eq!((merged.rows, merged.floor), (whole.rows, whole.floor));
    assert!(close(
        merged.off_support.expect("a pmf"),
        whole.off_support.expect("a pmf")
    ));
}

/// Ten rows at 1e-6 cannot be right; many rows at the floor of an exploring logger can.
#[test]
fn a_floor_is_told_from_a_probability() {
    let (mut log, _) = log(Kind::Greedy(0.1), 10_000, Key::root(33));
    let exploring = diagnose(&log, None);
    assert_eq!(exploring.floor.propensity, 0.1 / 10.0);
    assert!(
        exploring.floor.rows > 500 && exploring.floor.p > 0.5,
        "{:?}",
        exploring.floor
    );
    assert!(exploring.alarms().is_empty(), "{:?}", exploring.alarms());
    (0..10).for_each(|i| log.propensity[997 * i] = 1e-6);
    let floored = diagnose(&log, None);
    assert_eq!((floored.floor.propensity, floored.floor.rows), (1e-6, 10));
    assert!(floored.floor.p < 1e-10, "{:?}", floored.floor);
    assert!(
        floored
            .alarms()
            .iter()
            .any(|check| check.what == "rows at the smallest p")
    );
}

/// The target goes where the logger never goes: the mean weight says how much, and it is an alarm.
#[test]
fn missing_support_is_seen() {
    let (mut log, mut behaviour) = log(Kind::Softmax(1.0), 20_000, Key::root(34));
    for row in 0..20_000 {
        // The last action is no candidate of the logger's: its draws go to the first, and so does its probability.
        let of = row * ACTIONS..(row + 1) * ACTIONS;
        behaviour[of.start] += behaviour[of.end - 1];
        behaviour[of.end - 1] = 0.0;
        if log.action[row] as usize == ACTIONS - 1 {
            log.action[row] = 0;
        }
        log.propensity[row] = behaviour[of.start + log.action[row] as usize];
    }
    let report = diagnose(&log, Some(&behaviour));
    let missing = report.off_support.expect("a pmf");
    assert!(missing > 0.02 && close(missing, report.never_logged.expect("one set of actions")));
    assert!((report.reachable - 9.0).abs() < 0.1, "{}", report.reachable);
    assert!((1.0 - report.mean_weight - missing).abs() < 0.02);
    // Propensities are right, and with the pmf that is plain.
    assert!(report.alarms().is_empty(), "{:?}", report.alarms());
    let blind = diagnose(&log, None);
    assert!(
        blind.alarms().iter().any(|check| check.what == "mean weight"),
        "{:?}",
        blind.alarms()
    );
}

/// A log of nothing has no numbers, and nothing panics.
#[test]
fn an_empty_report_is_not_a_number() {
    let report = Diagnostics::new(1.0).report();
    assert_eq!(report.rows, 0);
    assert!(report.mean_weight.is_nan() && report.effective_rows.is_nan());
    assert!(report.alarms().is_empty());
}
