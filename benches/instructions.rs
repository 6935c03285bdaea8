//! Instructions of every hot path under gungraun, which also shows where they are spent and compares with the run before.
//! The gate counts the same program by itself: `benches/gate` says why.
//!
//! `cargo install gungraun-runner --version 0.20.0`, then `cargo bench --bench instructions [NAME]`

use gungraun::{Bench, BinaryBenchmark, BinaryBenchmarkConfig, BinaryBenchmarkGroup, Callgrind, Command};
use oo_benches::cases;

/// Collection is on inside this function only.
const COUNTED: &str = "--toggle-collect=*oo_benches::cases::counted*";

fn add_cases(group: &mut BinaryBenchmarkGroup) {
    let mut benchmarks: Vec<(&str, BinaryBenchmark)> = Vec::new();
    for (number, case) in cases::all().into_iter().enumerate() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hot"));
        let mut bench = Bench::new(case.name);
        bench.command(command.args(["count".into(), number.to_string()]).build());
        if benchmarks.last().is_none_or(|(name, _)| *name != case.group) {
            benchmarks.push((case.group, BinaryBenchmark::new(case.group)));
        }
        let (_, benchmark) = benchmarks.last_mut().expect("one was put there");
        benchmark.bench(bench);
    }
    for (_, benchmark) in benchmarks {
        group.binary_benchmark(benchmark);
    }
}

/// What the macro makes is public and without documentation.
mod groups {
    use gungraun::binary_benchmark_group;

    binary_benchmark_group!(
        name = hot,
        benchmarks = |group: &mut BinaryBenchmarkGroup| crate::add_cases(group)
    );
}
use groups::hot;

gungraun::main!(
    config = BinaryBenchmarkConfig::default()
        .tool(Callgrind::with_args([COUNTED]))
        // No second thread does a share of the work that would then not be counted.
        .env("RAYON_NUM_THREADS", "1");
    binary_benchmark_groups = hot
);
