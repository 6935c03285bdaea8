//! How often nominal 95 % intervals hold the truth, in simulated logs whose value is known. The table in
//! docs/statistics.md is what these tests print.
//!
//! The world: two contexts, three actions, weights from 0.29 to 3, rewards 0 or 1, a reward model that is wrong
//! everywhere. 500 rows a log. Where users matter, a log has 60 of them with 2 to 16 rows each, and a user's rewards
//! are all likelier or all less likely by 0.25.

use super::*;
use crate::stats::{Cluster, Estimate, difference};
use oo_core::Key;
use oo_core::key::Draws;

const LOGGING: [[f64; 3]; 2] = [[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]];
const TARGET: [[f64; 3]; 2] = [[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]];
const OTHER: [[f64; 3]; 2] = [[0.4, 0.4, 0.2], [0.3, 0.4, 0.3]];
const MEAN: [[f64; 3]; 2] = [[0.3, 0.6, 0.5], [0.7, 0.4, 0.35]];
const MODEL: [[f64; 3]; 2] = [[0.4, 0.5, 0.6], [0.5, 0.5, 0.2]];
const EFFECT: f64 = 0.25;

const UNIT: Interval = Interval::new(0.0, 1.0);
const WEIGHTS: Interval = Interval::new(0.0, 3.0);
const LEVEL: f64 = 0.95;
const SETS: u64 = 2000;

fn value(policy: &[[f64; 3]; 2]) -> f64 {
    let of = |x: usize| (0..3).map(|a| policy[x][a] * MEAN[x][a]).sum::<f64>();
    0.5 * (of(0) + of(1))
}

/// A log by column, and the columns of four estimators.
#[derive(Default)]
struct World {
    weight: Vec<f64>,
    other: Vec<f64>,
    reward: Vec<f64>,
    user: Vec<u64>,
    zeros: Vec<f64>,
    ones: Vec<f64>,
    weighted: Vec<f64>,
    other_weighted: Vec<f64>,
    model: Vec<f64>,
    residual: Vec<f64>,
}

impl World {
    fn rows(key: Key, rows: usize) -> Self {
        let (mut world, mut draws) = (World::default(), key.draws());
        (0..rows).for_each(|i| world.row(&mut draws, i as u64, 0.0));
        world
    }

    fn users(key: Key) -> Self {
        let (mut world, mut draws) = (World::default(), key.draws());
        for user in 0..60 {
            let effect = if draws.uniform() < 0.5 { EFFECT } else { -EFFECT };
            for _ in 0..2 + draws.below(15) {
                world.row(&mut draws, user, effect);
            }
        }
        world
    }

    fn row(&mut self, draws: &mut Draws, user: u64, effect: f64) {
        let x = draws.below(2);
        let (u, logging) = (draws.uniform(), LOGGING[x]);
        let a = if u < logging[0] {
            0
        } else {
            1 + usize::from(u >= logging[0] + logging[1])
        };
        let r = f64::from(u8::from(draws.uniform() < MEAN[x][a] + effect));
        let (w, other) = (TARGET[x][a] / logging[a], OTHER[x][a] / logging[a]);
        self.weight.push(w);
        self.other.push(other);
        self.reward.push(r);
        self.user.push(user);
        self.zeros.push(0.0);
        self.ones.push(1.0);
        self.weighted.push(w * r);
        self.other_weighted.push(other * r);
        self.model.push((0..3).map(|a| TARGET[x][a] * MODEL[x][a]).sum());
        self.residual.push(w * (r - MODEL[x][a]));
    }

    fn ips(&self) -> Rows<'_> {
        Rows {
            base: &self.zeros,
            num: &self.weighted,
            den: &self.ones,
        }
    }

    fn snips(&self) -> Rows<'_> {
        Rows {
            den: &self.weight,
            ..self.ips()
        }
    }

    fn dr(&self) -> Rows<'_> {
        Rows {
            base: &self.model,
            num: &self.residual,
            den: &self.ones,
        }
    }

    fn sndr(&self) -> Rows<'_> {
        Rows {
            den: &self.weight,
            ..self.dr()
        }
    }
}

fn ends(e: &Estimate) -> Option<Interval> {
    Some(Interval::new(e.low?, e.high?))
}

/// The share of logs whose interval holds the truth, and the mean width.
fn cover(name: &str, truth: f64, mut interval: impl FnMut(Key) -> Option<Interval>) -> f64 {
    let root = Key::root(41).name("coverage");
    let (mut held, mut width) = (0u32, 0.0);
    for set in 0..SETS {
        let i = interval(root.fold(set)).expect("a sound log");
        held += u32::from(i.contains(truth));
        width += i.width();
    }
    let share = f64::from(held) / SETS as f64;
    println!("{name:<40} {:5.1} % {:.3}", 100.0 * share, width / SETS as f64);
    share
}

// The share has a standard error of 0.0049 where the coverage is 0.95: it leaves 0.93 to 0.97 once in 20,000 seeds.
fn nominal(name: &str, truth: f64, interval: impl FnMut(Key) -> Option<Interval>) {
    let share = cover(name, truth, interval);
    assert!((0.93..=0.97).contains(&share), "{name}: {share}");
}

/// At least 95 %: those methods promise no more, and hold the truth far more often.
fn careful(name: &str, truth: f64, interval: impl FnMut(Key) -> Option<Interval>) {
    let share = cover(name, truth, interval);
    assert!(share >= 0.95, "{name}: {share}");
}

#[test]
fn delta_covers() {
    let truth = value(&TARGET);
    type Columns = fn(&World) -> Rows<'_>;
    let all: [(&str, Columns); 4] = [
        ("IPS", World::ips),
        ("SNIPS", World::snips),
        ("DR", World::dr),
        ("SNDR", World::sndr),
    ];
    for (name, columns) in all {
        nominal(&format!("delta, {name}"), truth, |key| {
            let world = World::rows(key, 500);
            ends(&delta(columns(&world), None, LEVEL, Quantile::Normal))
        });
        nominal(&format!("delta by user, {name}"), truth, |key| {
            let world = World::users(key);
            ends(&delta(columns(&world), Some(&world.user), LEVEL, Quantile::Student))
        });
    }
    // The reason for clusters: rows of one user taken as independent promise too much.
    let naive = cover("delta, DR, users ignored", truth, |key| {
        let world = World::users(key);
        ends(&delta(world.dr(), None, LEVEL, Quantile::Normal))
    });
    assert!(naive < 0.9, "{naive}");
}

#[test]
fn differences_cover() {
    nominal("delta, difference of two IPS", value(&TARGET) - value(&OTHER), |key| {
        let world = World::rows(key, 500);
        let other = Rows {
            num: &world.other_weighted,
            ..world.ips()
        };
        let d = delta_difference(world.ips(), other, None, LEVEL, Quantile::Normal);
        Some(Interval::new(d.low?, d.high?))
    });
}

#[test]
fn bootstrap_covers() {
    nominal("bootstrap percentile, SNIPS", value(&TARGET), |key| {
        let world = World::rows(key, 250);
        let snips = |times: &[f64]| {
            let add = |(num, den): (f64, f64), ((w, r), t): ((&f64, &f64), &f64)| (num + t * w * r, den + t * w);
            let rows = world.weight.iter().zip(&world.reward).zip(times);
            let (num, den) = rows.fold((0.0, 0.0), add);
            num / den
        };
        percentile(&resample(250, 400, key.name("resample"), snips), LEVEL)
    });
    nominal("BCa, paired difference of 50 clusters", 0.2, |key| {
        let (a, b) = pairs(key, 0.1);
        bootstrap_difference(&a, &b, LEVEL, 600, key.name("resample"))
    });
    // Where the differences are as skewed as an exponential distribution, 50 clusters are too few for either; that they
    // come out alike is what the table warns of.
    let bca = cover("BCa, the same, very skewed", 0.2, |key| {
        let (a, b) = pairs(key, 0.4);
        bootstrap_difference(&a, &b, LEVEL, 600, key.name("resample"))
    });
    let student = cover("Student, the same, very skewed", 0.2, |key| {
        let (a, b) = pairs(key, 0.4);
        let d = difference(&a, &b, LEVEL);
        Some(Interval::new(d.low?, d.high?))
    });
    assert!(bca > 0.9 && student > 0.9, "{bca}, {student}");
}

/// 50 pairs of clusters with an effect in common; the differences have mean 0.2, sd 0.2 from a normal part, and the given
/// sd from an exponential one.
fn pairs(key: Key, skewed: f64) -> (Vec<Cluster>, Vec<Cluster>) {
    let mut draws = key.draws();
    let mut pair = || {
        let count = 10.0 + draws.below(20) as f64;
        let shared = 0.5 * draws.normal();
        let a = shared + 0.2 + 0.2 * draws.normal() + skewed * (draws.exponential() - 1.0);
        let cluster = |mean: f64| Cluster {
            sum: count * mean,
            count,
        };
        (cluster(a), cluster(shared))
    };
    (0..50).map(|_| pair()).unzip()
}

#[test]
fn cressie_read_covers() {
    nominal("Cressie–Read, weights at most 3", value(&TARGET), |key| {
        let world = World::rows(key, 500);
        cressie_read(&world.weight, &world.reward, WEIGHTS, UNIT, LEVEL)
    });
    // An unseen row of any weight widens it.
    careful("Cressie–Read, weights of any size", value(&TARGET), |key| {
        let world = World::rows(key, 500);
        cressie_read(
            &world.weight,
            &world.reward,
            Interval::new(0.0, f64::INFINITY),
            UNIT,
            LEVEL,
        )
    });
}

#[test]
fn conservative_intervals_cover() {
    careful("Clopper–Pearson, weights at most 3", value(&TARGET), |key| {
        let world = World::rows(key, 500);
        scaled_clopper_pearson(&world.weight, &world.reward, WEIGHTS.high, UNIT, LEVEL)
    });
    careful("empirical Bernstein, weights at most 3", value(&TARGET), |key| {
        empirical_bernstein(&World::rows(key, 500).weighted, WEIGHTS, LEVEL)
    });
}

#[test]
fn the_peers_clopper_pearson_promises_too_much() {
    let share = cover("Clopper–Pearson on n/w_max trials", value(&TARGET), |key| {
        let world = World::rows(key, 500);
        weighted_clopper_pearson(&world.weight, &world.reward, UNIT, LEVEL)
    });
    // Three standard errors of a share at 0.95 below it.
    assert!(share < 0.935, "{share}");
}
