//! Writes a log of the format `table` in Parquet, as large as you like, to measure how `oo-sim ope` reads it.
//!
//! `cargo run --release -p oo-sim --example table_log -- FILE ROWS [ROWS A GROUP]`: 10 actions, target probabilities and
//! predictions for each, as many rows a row group as other writers' default, a million.

use oo_core::Key;
use polars_core::prelude::{Column, DataFrame};
use polars_io::parquet::write::{ParquetCompression, ParquetWriter};
use std::fs::File;

const ACTIONS: usize = 10;

/// Rows `start..start + rows`: uniform logging, a target that prefers one action, random predictions.
fn frame(start: usize, rows: usize) -> DataFrame {
    let mut action = Vec::with_capacity(rows);
    let mut reward = Vec::with_capacity(rows);
    let mut target = vec![Vec::new(); ACTIONS];
    let mut model = vec![Vec::new(); ACTIONS];
    for row in start..start + rows {
        let mut draws = Key::root(1).fold(row as u64).draws();
        action.push(draws.below(ACTIONS) as u32);
        reward.push(f64::from(u8::from(draws.uniform() < 0.3)));
        let weights: [f64; ACTIONS] = std::array::from_fn(|_| draws.exponential());
        let sum: f64 = weights.iter().sum();
        for a in 0..ACTIONS {
            target[a].push(weights[a] / sum);
            model[a].push(draws.uniform());
        }
    }
    let mut columns = vec![
        Column::new("action".into(), action),
        Column::new("reward".into(), reward),
        Column::new("propensity".into(), vec![1.0 / ACTIONS as f64; rows]),
    ];
    for (name, values) in [("pi_e", target), ("q_hat", model)] {
        let named = values.into_iter().enumerate();
        columns.extend(named.map(|(a, values)| Column::new(format!("{name}_{a}").into(), values)));
    }
    DataFrame::new(rows, columns).expect("columns of one length")
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize, default: usize| args.get(i).map_or(default, |n| n.parse().expect("a number of rows"));
    let path = args.get(1).expect("the file to write");
    let (rows, group) = (number(2, 1_000_000), number(3, 1_000_000));
    let mut file = ParquetWriter::new(File::create(path).expect("a file that can be written"))
        .with_compression(ParquetCompression::Snappy)
        .with_row_group_size(Some(group))
        .batched(frame(0, 1).schema())
        .expect("a writer");
    for start in (0..rows).step_by(group) {
        let part = frame(start, group.min(rows - start));
        file.write_batch(&part).expect("room on the disk");
    }
    file.finish().expect("room on the disk");
}
