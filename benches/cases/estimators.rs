//! Every registered estimator: one pass over a log, weights included.

use super::{Case, Work};
use oo_core::Key;
use oo_judge::estimators::loggers::Loggers;
use oo_judge::estimators::marginalised::{Dimension, Embedding};
use oo_judge::estimators::{BLOCK, ESTIMATORS, Entry, Logged, Sizes, Sums, Terms, Weighted, Weights};
use std::hint::black_box;

const ROWS: usize = 2048;
const ACTIONS: usize = 10;

/// One case an estimator.
pub(super) fn cases() -> Vec<Case> {
    let case = |entry: &'static Entry| Case::new("estimate", entry.name, move || pass(entry));
    ESTIMATORS.iter().map(case).collect()
}

fn pass(entry: &Entry) -> Work {
    let estimator = entry.build(None).expect("a default in range");
    let (log, weights) = (log(), entry.weights);
    // Two loggers, both uniform, who took turns.
    let loggers = Loggers {
        count: 2,
        of: (0..ROWS as u32).map(|row| row % 2).collect(),
        probability: vec![1.0 / ACTIONS as f64; 2 * ROWS],
    };
    loggers.check(&log).expect("loggers that fit");
    let of_action: Vec<u32> = (0..ACTIONS as u32).map(|action| action / 3).collect();
    let embedding = Embedding {
        dimensions: vec![Dimension::deterministic(&of_action, 4, &log).expect("categories below 4")],
        behaviour: vec![1.0 / ACTIONS as f64; ROWS * ACTIONS],
    };
    embedding.check(&log).expect("an embedding that fits");
    let (mut rounds, mut terms) = (Weighted::default(), Terms::default());
    Box::new(move || {
        let mut sums = Sums::new();
        for start in (0..ROWS).step_by(BLOCK) {
            let rows = start..ROWS.min(start + BLOCK);
            match weights {
                Weights::Importance => log.weigh_rows(rows, &mut rounds),
                Weights::Marginal => embedding.weigh_rows(&log, rows, &mut rounds),
                Weights::Balanced => loggers.weigh_balanced(&log, &[0.5, 0.5], rows, &mut rounds),
                Weights::Precision => loggers.weigh_precise(&log, &[0.5, 1.5], rows, &mut rounds),
            }
            estimator.terms(&rounds, &mut terms);
            sums.add(&terms);
        }
        black_box((sums.value(), sums.variance()));
    })
}

/// A uniform logger, a random target, a random model.
fn log() -> Logged {
    let mut draws = Key::root(1).name("log").draws();
    let mut log = Logged {
        action: vec![],
        reward: vec![],
        propensity: vec![1.0 / ACTIONS as f64; ROWS],
        candidates: Sizes::Fixed(ACTIONS),
        target: vec![],
        model: vec![],
        cluster: vec![],
        first_row: 1,
    };
    for _ in 0..ROWS {
        let target: Vec<f64> = (0..ACTIONS).map(|_| draws.exponential()).collect();
        let sum: f64 = target.iter().sum();
        log.target.extend(target.iter().map(|p| p / sum));
        log.model.extend((0..ACTIONS).map(|_| draws.uniform()));
        log.action.push(draws.below(ACTIONS) as u32);
        log.reward.push(f64::from(draws.uniform() < 0.5));
    }
    log.check().expect("a sound log");
    log
}
