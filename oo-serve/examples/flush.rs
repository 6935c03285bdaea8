//! What one flush costs on a disk: appends 512 bytes and calls fdatasync, 200 times, and prints the median and the 99th
//! percentile in milliseconds. `benches/serve/run.sh` runs it on the disk under test.
//!
//! `cargo run --release -p oo-serve --example flush -- FOLDER`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

fn main() -> io::Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("flush.{}.tmp", std::process::id()));
    let mut file = std::fs::File::create_new(&path)?;
    let mut times = Vec::new();
    let mut all = || -> io::Result<()> {
        for _ in 0..200 {
            file.write_all(&[7; 512])?;
            let begun = Instant::now();
            file.sync_data()?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(())
    };
    let done = all();
    std::fs::remove_file(&path)?;
    done?;
    times.sort_by(f64::total_cmp);
    println!("{:.3} {:.3}", times[100], times[197]);
    Ok(())
}
