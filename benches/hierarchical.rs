//! Rounds a CPU-second of hierarchical Thompson sampling: decide + update, one thread, 24 features, 20 candidates; and what an
//! estimate of the population costs a person.
//!
//! `cargo run --release -p oo-benches --bin hierarchical`

use cpu_time::ThreadTime;
use oo_core::{ActionId, Batch, Candidates, Decision, Key, Log, Round, Shape, Spec, UserId};
use oo_policies::hierarchical::population::{Population, Prior};

const DIM: usize = 24;
const CANDIDATES: usize = 20;
const ASKED: f64 = 30_000.0;

/// CPU-microseconds a person of an estimate from `people` people with `rows` rows each.
fn estimate(dim: usize, people: u64, rows: u64) -> f64 {
    let prior = Prior {
        lambda: 30.0,
        spread: 0.05,
        people: 3.0,
        noise: 0.5,
    };
    let mut population = Population::new(dim, prior);
    let mut draws = Key::root(3).draws();
    let mut x = vec![0.0; dim.next_multiple_of(8)];
    for user in (0..people).flat_map(|u| std::iter::repeat_n(UserId(u), rows as usize)) {
        x[..dim].fill_with(|| f64::from(draws.normal() as f32));
        let reward = x[0] + draws.normal();
        population.learn_row(user, &x, reward).expect("a row");
    }
    let start = ThreadTime::now();
    population.estimate().expect("an estimate");
    start.elapsed().as_secs_f64() * 1e6 / people as f64
}

fn main() {
    println!("| people | rounds | rounds/CPU-s, estimation included | without | asked |");
    println!("|---|---|---|---|---|");
    for (users, rounds) in [(200, 50_000), (1000, 50_000)] {
        let shape = Shape {
            context: vec![],
            candidate: (0..DIM).map(|i| format!("x{i}")).collect(),
            actions: None,
        };
        let spec = Spec::parse("hierarchical").expect("a spec");
        let mut policy = oo_policies::build(&spec, &shape).expect("a policy");
        let mut draws = Key::root(1).draws();
        let features: Vec<f32> = (0..1000 * CANDIDATES * DIM).map(|_| draws.normal() as f32).collect();
        let ids: Vec<ActionId> = (0..CANDIDATES as u64).map(ActionId).collect();
        let (mut decision, mut log) = (Decision::new(), Log::new());
        let mut steady: Vec<f64> = Vec::new();
        let mut total = 0.0;
        // In slices, so that those in which the population is estimated anew can be told apart.
        const SLICE: usize = 500;
        for slice in 0..rounds / SLICE {
            let start = ThreadTime::now();
            for t in slice * SLICE..(slice + 1) * SLICE {
                let at = t % 1000 * CANDIDATES * DIM;
                let round = Round {
                    index: t as u64,
                    user: UserId((t * 7919 % users) as u64),
                    context: &[],
                    candidates: Candidates {
                        ids: &ids,
                        features: &features[at..at + CANDIDATES * DIM],
                        dim: DIM,
                    },
                };
                policy
                    .decide(&round, Key::root(2).fold(t as u64), &mut decision)
                    .expect("a decision");
                log.clear();
                let row = log.push(&round, &decision);
                log.settle(row, f64::from(round.candidates.row(decision.chosen())[0]), None);
                policy.update(&Batch::new(&log, &[row])).expect("an update");
            }
            let taken = start.elapsed().as_secs_f64();
            total += taken;
            steady.push(taken);
        }
        // The median slice holds no estimation: they come at growing distances.
        steady.sort_by(f64::total_cmp);
        let median = steady[steady.len() / 2];
        println!(
            "| {users} | {rounds} | {:.0} | {:.0} | {ASKED:.0} |",
            rounds as f64 / total,
            SLICE as f64 / median
        );
    }
    println!("\n| features | rows a person | µs a person, 10,000 people |");
    println!("|---|---|---|");
    for (dim, rows) in [(12, 3), (12, 30), (40, 3), (40, 30), (40, 60)] {
        println!("| {dim} | {rows} | {:.0} |", estimate(dim, 10_000, rows));
    }
}
