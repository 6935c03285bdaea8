//! Runs one hot path, for whoever counts what it does.
//!
//! `hot list` prints the paths as `group::name`, a line each; `hot count NUMBER` prepares the path of that line, the first
//! being 0, and runs it once inside [`cases::counted`]. A path has a process of its own, so that it does not depend on what
//! ran before it.

use oo_benches::cases::{self, counted};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut cases = cases::all();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => cases.iter().for_each(|case| println!("{}::{}", case.group, case.name)),
        ["count", number] if number.parse().is_ok_and(|n: usize| n < cases.len()) => {
            let number: usize = number.parse().unwrap_or_default();
            let mut work = cases.swap_remove(number).prepare();
            counted(&mut *work);
        }
        _ => {
            eprintln!(
                "expected `hot list`, or `hot count NUMBER` with a number below {}",
                cases.len()
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
