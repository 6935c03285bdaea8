//! Rows of a world that is known, and estimators over them.

use oo_core::Key;
use oo_core::key::Draws;
use oo_judge::estimators::loggers::{Loggers, Precision};
use oo_judge::estimators::marginalised::{Dimension, Embedding};
use oo_judge::estimators::{Entry, Estimator, Logged, Sizes, Sums, Terms, Weighted, Weights, find};

/// A world that is known: four contexts, four actions of which the first two and the last two look the same and pay
/// the same, and two logging policies, of which `uniform` makes one.
pub struct World {
    pub log: Logged,
    pub loggers: Loggers,
    pub embedding: Embedding,
    pub truth: f64,
}

/// Expected rewards by context and look.
const PAY: [[f64; 2]; 4] = [[0.2, 0.7], [0.5, 0.4], [0.9, 0.1], [0.3, 0.6]];
const TARGET: [[f64; 4]; 4] = [
    [0.1, 0.2, 0.3, 0.4],
    [0.25, 0.25, 0.25, 0.25],
    [0.6, 0.1, 0.1, 0.2],
    [0.0, 0.1, 0.1, 0.8],
];
const LOGGER: [[f64; 4]; 2] = [[0.4, 0.3, 0.2, 0.1], [0.1, 0.15, 0.35, 0.4]];

pub fn draw(p: &[f64], draws: &mut Draws) -> usize {
    let mut u = draws.uniform();
    for (i, p) in p.iter().enumerate() {
        if u < *p {
            return i;
        }
        u -= p;
    }
    p.len() - 1
}

pub fn world(rows: usize, uniform: bool, model_error: f64, key: Key) -> World {
    let mut draws = key.draws();
    let mut log = Logged {
        action: vec![],
        reward: vec![],
        propensity: vec![],
        candidates: Sizes::Fixed(4),
        target: vec![],
        model: vec![],
        cluster: vec![],
        first_row: 1,
    };
    let mut loggers = Loggers {
        count: 2,
        of: vec![],
        probability: vec![],
    };
    let mut behaviour = vec![];
    for _ in 0..rows {
        let context = draws.below(4);
        let logger = usize::from(draws.uniform() < 0.3);
        let policies = if uniform { [[0.25; 4]; 2] } else { LOGGER };
        let action = draw(&policies[logger], &mut draws);
        log.action.push(action as u32);
        log.propensity.push(policies[logger][action]);
        log.reward
            .push(f64::from(u8::from(draws.uniform() < PAY[context][action / 2])));
        log.target.extend(TARGET[context]);
        log.model
            .extend((0..4).map(|a| PAY[context][a / 2] + model_error * (a as f64 - 1.0)));
        loggers.of.push(logger as u32);
        loggers.probability.extend([policies[0][action], policies[1][action]]);
        behaviour.extend(policies[logger]);
    }
    let truth = (0..4)
        .map(|x| (0..4).map(|a| TARGET[x][a] * PAY[x][a / 2]).sum::<f64>() / 4.0)
        .sum();
    let look = Dimension::deterministic(&[0, 0, 1, 1], 2, &log).expect("sound categories");
    let embedding = Embedding {
        dimensions: vec![look],
        behaviour,
    };
    log.check().expect("a sound log");
    loggers.check(&log).expect("sound loggers");
    embedding.check(&log).expect("a sound embedding");
    World {
        log,
        loggers,
        embedding,
        truth,
    }
}

/// The rows with the weights that an entry expects.
pub fn weigh(world: &World, entry: &Entry) -> Weighted {
    let (log, rows) = (&world.log, 0..world.log.len());
    let mut out = Weighted::default();
    match entry.weights {
        Weights::Importance => log.weigh(&mut out),
        Weights::Marginal => world.embedding.weigh_rows(log, rows, &mut out),
        Weights::Balanced => world
            .loggers
            .weigh_balanced(log, &world.loggers.shares(), rows, &mut out),
        Weights::Precision => {
            log.weigh(&mut out);
            let mut terms = Terms::default();
            let plain = if entry.needs_model { "dr" } else { "ips" };
            build(plain, None).terms(&out, &mut terms);
            let mut precision = Precision::new(2);
            precision.add(&terms, &world.loggers.of);
            let multipliers = precision.multipliers().expect("terms that vary");
            world.loggers.weigh_precise(log, &multipliers, rows, &mut out);
        }
    }
    out
}

pub fn build(name: &str, parameter: Option<f64>) -> Box<dyn Estimator> {
    find(name)
        .and_then(|entry| entry.build(parameter))
        .expect("in the table")
}

pub fn sums(estimator: &dyn Estimator, rounds: &Weighted) -> Sums {
    let (mut terms, mut sums) = (Terms::default(), Sums::new());
    estimator.terms(rounds, &mut terms);
    sums.add(&terms);
    sums
}

/// The entry at the parameter where its expectation is the truth, in this world.
pub fn unbiased(entry: &Entry) -> Box<dyn Estimator> {
    entry
        .build(entry.parameter.map(|p| p.unchanged))
        .expect("the limit is allowed")
}

pub fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * b.abs().max(1.0)
}
