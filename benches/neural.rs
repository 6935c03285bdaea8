//! Rounds a CPU-second of NeuralLinear (decide + update, one thread), beside a PyTorch program of the same network,
//! batch and schedule; and what a row, a batch and a step of the optimiser cost.
//!
//! `cargo run --release -p oo-benches --bin neural`: the peer needs `python3` with `torch`; without it the table has
//! our rows alone.

use candle_core::{Device, Tensor};
use cpu_time::{ProcessTime, ThreadTime};
use oo_core::{ActionId, Batch, Candidates, Decision, Key, Log, Round, Shape, Spec, UserId};
use oo_policies::regress::adam::{Optimiser, Rule};
use oo_policies::regress::graph::{Graph, squared_error};
use oo_policies::regress::lanes::{Left, padded, product};
use oo_policies::regress::mlp::Mlp;
use std::hint::black_box;
use std::process::Command;

const DIM: usize = 54;
const ARMS: usize = 7;
const ROUNDS: usize = 20_000;

/// Rounds a second of this process's CPU time on all its threads: the best of three runs, each from a blank policy.
fn rounds_a_second(spec: &str) -> f64 {
    let shape = Shape {
        context: (0..DIM).map(|i| format!("x{i}")).collect(),
        candidate: vec![],
        actions: Some(ARMS),
    };
    let spec = Spec::parse(spec).expect("a valid spec");
    let ids: Vec<ActionId> = (0..ARMS as u64).map(ActionId).collect();
    let mut draws = Key::root(1).draws();
    let contexts: Vec<f32> = (0..2000 * DIM).map(|_| draws.normal() as f32).collect();
    let run = |rounds: usize| {
        let mut policy = oo_policies::build(&spec, &shape).expect("a policy");
        let (mut decision, mut log) = (Decision::new(), Log::new());
        let start = ProcessTime::now();
        for t in 0..rounds {
            let at = t % 2000 * DIM;
            let round = Round {
                index: t as u64,
                user: UserId(0),
                context: &contexts[at..at + DIM],
                candidates: Candidates {
                    ids: &ids,
                    features: &[],
                    dim: 0,
                },
            };
            let key = Key::root(2).fold(t as u64);
            policy.decide(&round, key, &mut decision).expect("a decision");
            log.clear();
            let row = log.push(&round, &decision);
            let reward = f64::from(round.context[0] > 0.5 * decision.chosen() as f32);
            log.settle(row, reward, None);
            policy.update(&Batch::new(&log, &[row])).expect("an update");
        }
        rounds as f64 / start.elapsed().as_secs_f64()
    };
    run(1000);
    (0..3).map(|_| run(ROUNDS)).fold(0.0, f64::max)
}

/// Microseconds of CPU time that `work` takes, the least of five tries of `times`.
fn microseconds(times: usize, mut work: impl FnMut()) -> f64 {
    (0..5)
        .map(|_| {
            let start = ThreadTime::now();
            (0..times).for_each(|_| work());
            start.elapsed().as_secs_f64() * 1e6 / times as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn parts() {
    let mut mlp = Mlp::new(DIM, 1, &[100, 100], ARMS, Key::root(1));
    let mut draws = Key::root(3).draws();
    let (rows, width) = (64, padded(ARMS));
    let x: Vec<f32> = (0..rows * DIM).map(|_| draws.normal() as f32).collect();
    let mut activations = vec![0.0; mlp.activations()];
    let mut deltas = activations.clone();
    let mut gradient = vec![0.0; mlp.weights().len()];
    println!("\n| 54-100-100-7 network | µs |\n|---|---|");
    let ours = microseconds(2000, || mlp.forward(0, black_box(&x[..DIM]), &mut activations));
    println!("| a row forward, our loops | {ours:.1} |");
    let theirs = microseconds(500, || {
        let graph = Graph::new(&mlp).expect("a graph");
        let row = graph.constant(x[..DIM].to_vec(), 1).expect("a row");
        black_box(graph.forward(&row, &[]).expect("a pass"));
    });
    println!("| a row forward, candle's graph | {theirs:.1} |");
    let ours = microseconds(100, || {
        gradient.fill(0.0);
        for row in x.chunks_exact(DIM) {
            mlp.forward(0, row, &mut activations);
            mlp.deltas(&activations, &[0.1; ARMS], &mut deltas);
            mlp.add_gradient(1.0 / 64.0, 0, row, &activations, &deltas, &mut gradient);
        }
    });
    println!("| gradient of 64 rows one by one, our loops | {ours:.1} |");
    let theirs = microseconds(100, || {
        let graph = Graph::new(&mlp).expect("a graph");
        let constant = |v: Vec<f32>| graph.constant(v, rows).expect("a constant");
        let output = graph.forward(&constant(x.clone()), &[]).expect("a pass");
        let (target, weight) = (constant(vec![0.0; rows * width]), constant(vec![1.0; rows * width]));
        let by = squared_error(&output, &target, &weight, rows).expect("a loss");
        graph.gradient(&by, &mut gradient).expect("a gradient");
    });
    println!("| gradient of 64 rows at once, candle's graph over our products | {theirs:.1} |");
    products();
    let mut adam = Optimiser::new(Rule::Adam, 0.003, 0.0, gradient.len());
    let step = microseconds(500, || adam.step(mlp.weights_mut(), black_box(&gradient)));
    println!("| a step of Adam | {step:.1} |");
}

/// One product of the size that a batch needs, on all threads that each library takes.
fn products() {
    let (rows, inner, columns) = (64, 112, 112);
    let mut draws = Key::root(4).draws();
    let mut numbers = |n: usize| (0..n).map(|_| draws.normal() as f32).collect::<Vec<f32>>();
    let (a, b) = (numbers(rows * inner), numbers(inner * columns));
    let mut c = vec![0.0; rows * columns];
    let left = Left {
        data: &a,
        down: inner,
        right: 1,
    };
    let cpu = |work: &mut dyn FnMut()| {
        (0..5)
            .map(|_| {
                let start = ProcessTime::now();
                (0..1000).for_each(|_| work());
                start.elapsed().as_secs_f64() * 1e3
            })
            .fold(f64::INFINITY, f64::min)
    };
    let ours = cpu(&mut || {
        c.fill(0.0);
        product(left, black_box(&b), &mut c, inner, columns);
    });
    println!("| 64 × 112 by 112 × 112, our product | {ours:.1} |");
    let tensor = |v: &[f32], shape| Tensor::from_slice(v, shape, &Device::Cpu).expect("a tensor");
    let (a, b) = (tensor(&a, (rows, inner)), tensor(&b, (inner, columns)));
    let theirs = cpu(&mut || {
        black_box(a.matmul(&b).expect("a product"));
    });
    println!("| the same, candle's own (CPU time of all its threads) | {theirs:.1} |");
}

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/neural_linear_torch.py");
    let peer = Command::new(std::env::var("PYTHON").unwrap_or_else(|_| "python3".into()))
        .arg(script)
        .arg(ROUNDS.to_string())
        .output();
    let peer = peer
        .ok()
        .and_then(|o| String::from_utf8(o.stdout).ok())
        .and_then(|text| text.trim().parse::<f64>().ok());
    println!("| NeuralLinear, d = 54, 7 arms, 2 × 100, batch 64 every 16 rounds | rounds/CPU-s | to PyTorch |");
    println!("|---|---|---|");
    match peer {
        Some(rate) => println!("| PyTorch, one thread | {rate:.0} | 1 |"),
        None => println!("| PyTorch: not here | - | - |"),
    }
    let same = "width=100,layers=2,batch=64,every=16,warm=0,skip=false,pulls=0";
    for (spec, what) in [
        (format!("neural-linear{{{same},noise=1,refresh=0}}"), "as the peer"),
        (
            format!("neural-linear{{{same}}}"),
            "unknown noise, heads recomputed at growth of a tenth",
        ),
    ] {
        let rate = rounds_a_second(&spec);
        let ratio = peer.map_or("-".into(), |p| format!("{:.2}", rate / p));
        println!("| {what}: `{spec}` | {rate:.0} | {ratio} |");
    }
    parts();
}
