//! Off-policy evaluation of a log in memory: seven estimators with their standard errors in one pass on one thread, the
//! memory that takes beyond the log, and the bootstrap.
//!
//! `cargo run --release -p oo-benches --bin ope`

// Counting allocations needs a global allocator, and that is an unsafe trait.
#![allow(unsafe_code)]

use cpu_time::ProcessTime;
use oo_benches::seconds;
use oo_core::Key;
use oo_judge::estimators::bootstrap::Bootstrap;
use oo_judge::estimators::diagnostics::Diagnostics;
use oo_judge::estimators::{BLOCK, Estimator, Logged, Sizes, Terms, Weighted, estimate, find};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Bytes now, and the most there were.
struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards to the system allocator; the counters are plain numbers. `realloc` is the default one, which calls
// both.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: likewise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most megabytes that `work` held at once.
fn megabytes(work: impl FnOnce()) -> f64 {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    work();
    (MOST.load(Relaxed) - before) as f64 / 1e6
}

const SEVEN: [&str; 7] = ["ips", "snips", "dm", "dr", "sndr", "switch-dr", "dr-os"];

/// A uniform logger, a random target, a random model.
fn log(rows: usize, actions: usize) -> Logged {
    let mut draws = Key::root(1).name("ope").draws();
    let mut log = Logged {
        action: Vec::with_capacity(rows),
        reward: Vec::with_capacity(rows),
        propensity: vec![1.0 / actions as f64; rows],
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
        log.reward.push(f64::from(draws.uniform() < 0.5));
    }
    log
}

fn build(name: &str) -> Box<dyn Estimator> {
    find(name).and_then(|entry| entry.build(None)).expect("in the table")
}

/// CPU and wall seconds of `work` over all threads, each the least of five tries.
fn both_seconds(mut work: impl FnMut()) -> (f64, f64) {
    (0..5).fold((f64::INFINITY, f64::INFINITY), |(cpu, wall), _| {
        let start = (ProcessTime::now(), Instant::now());
        work();
        (
            cpu.min(start.0.elapsed().as_secs_f64()),
            wall.min(start.1.elapsed().as_secs_f64()),
        )
    })
}

fn main() {
    let log = log(1_000_000, 10);
    let seven: Vec<Box<dyn Estimator>> = SEVEN.iter().map(|name| build(name)).collect();
    println!("| 1,000,000 rows × 10 actions, one thread | CPU-s | MB beyond the log |");
    println!("|---|---|---|");
    let pass = || drop(black_box(estimate(black_box(&log), &seven)));
    println!(
        "| {} in one pass | {:.4} | {:.2} |",
        SEVEN.join(", "),
        seconds(pass),
        megabytes(pass)
    );
    let none = || drop(black_box(estimate(black_box(&log), &[])));
    println!(
        "| reading and weighing alone | {:.4} | {:.2} |",
        seconds(none),
        megabytes(none)
    );
    let check = || black_box(&log).check().expect("a sound log");
    println!("| the log's check | {:.4} | {:.2} |", seconds(check), megabytes(check));
    let diagnose = || {
        let (mut diagnostics, mut rounds) = (Diagnostics::new(100.0), Weighted::default());
        for start in (0..log.len()).step_by(BLOCK) {
            let rows = start..log.len().min(start + BLOCK);
            log.weigh_rows(rows.clone(), &mut rounds);
            diagnostics.add(&log, rows, &rounds, None);
        }
        black_box(diagnostics.report());
    };
    println!(
        "| diagnostics | {:.4} | {:.2} |",
        seconds(diagnose),
        megabytes(diagnose)
    );

    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("\n| 1000 resamples of 1,000,000 rows, {threads} threads | CPU-s | wall s | MB beyond the terms |");
    println!("|---|---|---|---|");
    let (mut rounds, mut terms) = (Weighted::default(), Terms::default());
    log.weigh(&mut rounds);
    for name in ["dr", "sndr"] {
        build(name).terms(&rounds, &mut terms);
        let resample = || drop(black_box(Bootstrap::rows(&terms, 1000, Key::root(1))));
        let (cpu, wall) = both_seconds(resample);
        println!("| {name} | {cpu:.3} | {wall:.3} | {:.0} |", megabytes(resample));
    }
}
