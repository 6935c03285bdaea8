//! Our side of `peers/run`: writes the stream that the peers read, and says what this library does with it.
//!
//! `stream FOLDER` writes the files and prints lines of `what, who, how many a CPU-second`, separated by tabs.

use oo_benches::{contexts, rounds_a_second, seconds};
use oo_core::Key;
use oo_judge::estimators::{Estimator, Logged, Sizes, estimate, find};
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::io;
use std::path::Path;

const DIM: usize = 20;
const ARMS: usize = 10;
/// Rows and actions of the log for off-policy evaluation.
const LOG: (usize, usize) = (200_000, 10);

/// What is compared, and our policy for it. A peer's script names it the same.
const POLICIES: [(&str, &str); 5] = [
    ("LinUCB, a model an arm", "lin-ucb{model=disjoint}"),
    ("LinTS, a model an arm", "lin-ts{model=disjoint}"),
    ("ε-greedy over ridge, a model an arm", "egreedy{model=disjoint}"),
    (
        "ε-greedy over SGD, a model an arm",
        "egreedy{model=disjoint,learner=sgd}",
    ),
    (
        "SquareCB over SGD, a model an arm",
        "square-cb{model=disjoint,learner=sgd}",
    ),
];

const SEVEN: [&str; 7] = ["ips", "snips", "dm", "dr", "sndr", "switch-dr", "dr-os"];

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| {
        eprintln!("expected a folder to write the stream to, as `stream FOLDER`");
        std::process::exit(2);
    });
    let folder = Path::new(&folder);
    let contexts = contexts(DIM);
    fs::write(
        folder.join("contexts.f32"),
        bytes(contexts.iter().map(|x| x.to_le_bytes())),
    )?;
    fs::write(folder.join("vw.txt"), vw(&contexts))?;
    for (what, spec) in POLICIES {
        let rate = rounds_a_second(spec, DIM, ARMS, 20_000);
        println!("{what}\t`{spec}`\t{rate:.0}");
    }
    let log = log(LOG.0, LOG.1);
    for (name, column) in [
        ("reward", &log.reward),
        ("propensity", &log.propensity),
        ("target", &log.target),
        ("model", &log.model),
    ] {
        fs::write(
            folder.join(name).with_extension("f64"),
            bytes(column.iter().map(|x| x.to_le_bytes())),
        )?;
    }
    fs::write(
        folder.join("action.u32"),
        bytes(log.action.iter().map(|x| x.to_le_bytes())),
    )?;
    let seven: Vec<Box<dyn Estimator>> = SEVEN
        .iter()
        .map(|name| find(name).and_then(|entry| entry.build(None)).expect("in the table"))
        .collect();
    let taken = seconds(|| drop(black_box(estimate(black_box(&log), &seven))));
    println!(
        "seven estimators over a log, rows\t`oo-judge`, with standard errors\t{:.0}",
        LOG.0 as f64 / taken
    );
    Ok(())
}

fn bytes<const N: usize>(numbers: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    numbers.flatten().collect()
}

/// The stream as Vowpal Wabbit reads it: every arm a line, and what a uniform logger got for one of them.
fn vw(contexts: &[f32]) -> String {
    let mut out = String::new();
    for (t, context) in contexts.chunks(DIM).enumerate() {
        let chosen = Key::root(3).fold(t as u64).draws().below(ARMS);
        out += "shared |x";
        for (i, x) in context.iter().enumerate() {
            let _ = write!(out, " {i}:{x}");
        }
        for arm in 0..ARMS {
            let cost = if context[0] > 0.5 * chosen as f32 { -1 } else { 0 };
            let label = if arm == chosen {
                format!("0:{cost}:{} ", 1.0 / ARMS as f32)
            } else {
                String::new()
            };
            let _ = write!(out, "\n{label}|a a{arm}");
        }
        out += "\n\n";
    }
    out
}

/// A uniform logger, a random target, a random model.
fn log(rows: usize, actions: usize) -> Logged {
    let mut draws = Key::root(1).name("ope").draws();
    let mut log = Logged {
        action: vec![],
        reward: vec![],
        propensity: vec![1.0 / actions as f64; rows],
        candidates: Sizes::Fixed(actions),
        target: vec![],
        model: vec![],
        cluster: vec![],
        first_row: 1,
    };
    for _ in 0..rows {
        let target: Vec<f64> = (0..actions).map(|_| draws.exponential()).collect();
        let sum: f64 = target.iter().sum();
        log.target.extend(target.iter().map(|p| p / sum));
        log.model.extend((0..actions).map(|_| draws.uniform()));
        log.action.push(draws.below(actions) as u32);
        log.reward.push(f64::from(draws.uniform() < 0.5));
    }
    log
}
