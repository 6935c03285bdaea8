//! Time of every hot path, for information: timings of one machine vary by more than a change does, so nothing fails here.
//!
//! `cargo bench -p oo-benches --bench time [NAME]`

use criterion::Criterion;
use oo_benches::cases;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    for case in cases::all() {
        let (name, mut prepared) = (format!("{}/{}", case.group, case.name), None);
        criterion.bench_function(&name, |bencher| {
            // Prepared only if the filter lets it through.
            let work = prepared.get_or_insert_with(|| case.prepare());
            bencher.iter(work);
        });
    }
    criterion.final_summary();
}
