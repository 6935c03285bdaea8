//! Instructions of every hot path, counted by callgrind. `benches/gate` runs this and compares.
//!
//! Each case is a process of its own: this program again, with `count` and the case's number among all cases, so that no
//! case depends on what ran before it.

use gungraun::{Bench, BinaryBenchmark, BinaryBenchmarkConfig, BinaryBenchmarkGroup, Callgrind, Command};
use oo_benches::cases::{self, counted};

/// Collection is on inside this function only.
const COUNTED: &str = "--toggle-collect=*oo_benches::cases::counted*";

fn add_cases(group: &mut BinaryBenchmarkGroup) {
    let program = std::env::current_exe().expect("the path of this program");
    let mut benchmarks: Vec<(&str, BinaryBenchmark)> = Vec::new();
    for (number, case) in cases::all().into_iter().enumerate() {
        let command = Command::new(&program)
            .args(["count".into(), number.to_string()])
            .build();
        let mut bench = Bench::new(case.name);
        bench.command(command);
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

fn count_all() {
    use groups::hot;
    gungraun::main!(
        config = BinaryBenchmarkConfig::default()
            .tool(Callgrind::with_args([COUNTED]))
            // No second thread does a share of the work that would then not be counted.
            .env("RAYON_NUM_THREADS", "1");
        binary_benchmark_groups = hot
    );
    main();
}

fn main() {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some("count"), Some(number)) => {
            let number: usize = number.parse().expect("the number of a case");
            let mut work = cases::all()[number].prepare();
            counted(&mut *work);
        }
        _ => count_all(),
    }
}
