//! Training gives the same bits at any number of threads: of the program, and of the tensor library below it.

mod common;

use common::{build, play};
use std::process::Command;

/// Batches large enough for the library's parallel loops, which begin at 65,536 numbers.
const SPECS: [&str; 3] = [
    "neural-egreedy{batch=700,width=100,layers=2,every=16,warm=0}",
    "neural-dropout{batch=700,width=100,layers=1,every=32,warm=0,draws=2}",
    "two-tower{batch=700,width=100,every=16,warm=0}",
];

fn trained(spec: &str) -> Vec<u8> {
    let mut policy = build(spec);
    play(policy.as_mut(), 0, 128);
    policy.save()
}

/// FNV-1a of all states.
fn digest() -> String {
    let bytes = SPECS.iter().flat_map(|s| trained(s));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("digest {hash:016x}")
}

#[test]
fn threads_of_the_program_do_not_matter() {
    for spec in SPECS {
        let alone = trained(spec);
        for threads in [2, 8] {
            std::thread::scope(|scope| {
                let handles: Vec<_> = (0..threads).map(|_| scope.spawn(|| trained(spec))).collect();
                for handle in handles {
                    assert!(handle.join().unwrap() == alone, "{spec} at {threads} threads");
                }
            });
        }
    }
}

/// Prints the digest; the test below runs it in programs of their own, since a pool keeps its size for life.
#[test]
fn prints_its_digest() {
    println!("{}", digest());
}

#[test]
fn threads_of_the_library_do_not_matter() {
    let mut seen = Vec::new();
    for threads in ["1", "2", "8"] {
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "prints_its_digest", "--nocapture"])
            .env("RAYON_NUM_THREADS", threads)
            .env("CANDLE_NUM_THREADS", threads)
            .output()
            .unwrap();
        let text = String::from_utf8(run.stdout).unwrap();
        let at = text.find("digest ").expect("the program printed its digest");
        seen.push(text[at..at + 23].to_string());
    }
    assert!(seen.iter().all(|d| *d == seen[0]), "{seen:?}");
}
