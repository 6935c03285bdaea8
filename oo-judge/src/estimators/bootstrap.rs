//! The bootstrap of an estimate: rows (or clusters) drawn with replacement, exactly multinomial.
//!
//! Drawing n rows one by one reads memory at random, which is slow beyond the caches. The same distribution comes from
//! two steps: first how many of the n draws fall into each stretch of rows, then which rows of the stretch.
//!
//! 1. The rows are cut into stretches of 2ᵏ. How many draws fall into one is binomial given the rest; within a
//!    stretch, each half gets Binomial(m, ½) of its m draws, down to leaves of a few rows.
//! 2. In a leaf of 2ᵇ rows a table holds the sums of all pairs of rows: 2b random bits give two independent draws at
//!    once, and the table lies in the nearest cache.
//!
//! Random bits belong to (resample, stretch), so the result is the same at any number of threads.

use super::Terms;
use super::binomial::{binomial, half};
use super::clusters::{Totals, value_of};
use oo_core::Key;
use oo_core::key::Draws;
use rayon::prelude::*;

/// 2ᵏ rows a stretch at most: the unit of work of a thread.
const STRETCH: u32 = 13;

/// The estimate in each resample.
#[derive(Clone, PartialEq, Debug)]
pub struct Bootstrap {
    /// In the order of the resamples. NaN where a resample has no weight at all.
    pub values: Vec<f64>,
}

impl Bootstrap {
    /// Resamples rows. For a plain mean (den = 1 throughout) this takes a third of the time.
    pub fn rows(terms: &Terms, resamples: usize, key: Key) -> Bootstrap {
        let values = if terms.den.iter().all(|den| *den == 1.0) {
            let rows: Vec<[f64; 1]> = terms.base.iter().zip(&terms.num).map(|(b, n)| [b + n]).collect();
            let size = rows.len() as f64;
            resample(&rows, resamples, key)
                .into_iter()
                .map(|[sum]| sum / size)
                .collect()
        } else {
            let rows = (0..terms.len()).map(|i| [terms.base[i], terms.num[i], terms.den[i], 1.0]);
            let rows: Vec<[f64; 4]> = rows.collect();
            resample(&rows, resamples, key).iter().map(value_of).collect()
        };
        Bootstrap { values }
    }

    /// Resamples clusters, each with all its rows.
    pub fn clusters(totals: &Totals, resamples: usize, key: Key) -> Bootstrap {
        let values = resample(&totals.0, resamples, key).iter().map(value_of).collect();
        Bootstrap { values }
    }

    /// The percentile interval at `level` (0.95, say), interpolated between order statistics; resamples without
    /// weight are left out. `None` when none is left, or with a level outside (0, 1).
    pub fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let mut sorted: Vec<f64> = self.values.iter().copied().filter(|v| !v.is_nan()).collect();
        if sorted.is_empty() || !(level > 0.0 && level < 1.0) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let at = q * (sorted.len() - 1) as f64;
            let (below, part) = (at.floor() as usize, at.fract());
            let above = (below + 1).min(sorted.len() - 1);
            sorted[below] + part * (sorted[above] - sorted[below])
        };
        Some((quantile((1.0 - level) / 2.0), quantile((1.0 + level) / 2.0)))
    }

    /// Standard deviation of the resampled estimates; NaN with fewer than two.
    pub fn std_error(&self) -> f64 {
        let defined = || self.values.iter().filter(|v| !v.is_nan());
        let n = defined().count() as f64;
        let mean = defined().sum::<f64>() / n;
        (defined().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0)).sqrt()
    }
}

/// The sums of `rows.len()` rows drawn with replacement, for each resample.
fn resample<const C: usize>(rows: &[[f64; C]], resamples: usize, key: Key) -> Vec<[f64; C]> {
    let key = key.name("bootstrap");
    let stretches = stretches(rows.len());
    // One row a stretch, so that a thread reads its own counts in order.
    let by_resample: Vec<Vec<u32>> = (0..resamples)
        .into_par_iter()
        .map(|r| split_rows(rows.len(), &stretches, &mut key.fold(r as u64).draws()))
        .collect();
    let mut sums = vec![[0.0; C]; resamples];
    // A few stretches at a time bound the memory; sums are added in the order of the stretches.
    for wave in (0..stretches.len()).collect::<Vec<_>>().chunks(64) {
        let parts: Vec<Vec<[f64; C]>> = wave
            .par_iter()
            .map(|&s| {
                let (start, bits) = stretches[s];
                let counts: Vec<u32> = by_resample.iter().map(|counts| counts[s]).collect();
                let draws = (0..resamples)
                    .map(|r| key.fold(r as u64).fold(1 + s as u64).draws())
                    .collect();
                sum_stretch(&rows[start..start + (1 << bits)], bits, counts, draws)
            })
            .collect();
        for part in parts {
            for (sum, part) in sums.iter_mut().zip(part) {
                for (sum, part) in sum.iter_mut().zip(part) {
                    *sum += part;
                }
            }
        }
    }
    sums
}

/// (first row, k) of stretches of 2ᵏ rows that cover `rows` rows: as many of the largest as fit, then the binary
/// digits of the rest.
fn stretches(rows: usize) -> Vec<(usize, u32)> {
    let mut stretches: Vec<(usize, u32)> = (0..rows >> STRETCH).map(|s| (s << STRETCH, STRETCH)).collect();
    let mut start = stretches.len() << STRETCH;
    for bits in (0..STRETCH).rev() {
        if (rows - start) >> bits == 1 {
            stretches.push((start, bits));
            start += 1 << bits;
        }
    }
    stretches
}

/// How many of `rows` draws fall into each stretch: a binomial tree over the stretches.
fn split_rows(rows: usize, stretches: &[(usize, u32)], draws: &mut Draws) -> Vec<u32> {
    fn split(stretches: &[(usize, u32)], count: u64, draws: &mut Draws, out: &mut Vec<u32>) {
        let size = |stretches: &[(usize, u32)]| stretches.iter().map(|(_, bits)| 1u64 << bits).sum::<u64>();
        if stretches.len() < 2 {
            out.extend(stretches.iter().map(|_| count as u32));
            return;
        }
        let (left, right) = stretches.split_at(stretches.len() / 2);
        let share = size(left) as f64 / size(stretches) as f64;
        let of_left = binomial(draws, count, share);
        split(left, of_left, draws, out);
        split(right, count - of_left, draws, out);
    }
    let mut counts = Vec::with_capacity(stretches.len());
    split(stretches, rows as u64, draws, &mut counts);
    counts
}

/// Rows of a leaf: 2ᵇ, so that the table of pairs has 32 KB.
const fn leaf_bits<const C: usize>() -> u32 {
    if C == 1 { 6 } else { 5 }
}

/// Sums of draws from one stretch of 2ᵇⁱᵗˢ rows, for each resample: `counts` draws from the stream `draws`.
fn sum_stretch<const C: usize>(rows: &[[f64; C]], bits: u32, counts: Vec<u32>, mut draws: Vec<Draws>) -> Vec<[f64; C]> {
    let mut sums = vec![[0.0; C]; counts.len()];
    let leaf = leaf_bits::<C>().min(bits);
    let leaves = 1usize << (bits - leaf);
    // Position r·leaves + l: draws of resample r from leaf l. A node's count stands at its first leaf until it splits.
    let mut tree = vec![0u32; leaves * counts.len()];
    for (r, tree) in tree.chunks_exact_mut(leaves).enumerate() {
        tree[0] = counts[r];
        let mut width = leaves;
        while width > 1 {
            for node in tree.chunks_exact_mut(width) {
                let left = half(&mut draws[r], u64::from(node[0])) as u32;
                node[width / 2] = node[0] - left;
                node[0] = left;
            }
            width /= 2;
        }
    }
    let mut pairs = vec![[0.0; C]; 1 << (2 * leaf)];
    for (l, rows) in rows.chunks_exact(1 << leaf).enumerate() {
        for (pairs, a) in pairs.chunks_exact_mut(1 << leaf).zip(rows) {
            for (pair, b) in pairs.iter_mut().zip(rows) {
                *pair = std::array::from_fn(|c| a[c] + b[c]);
            }
        }
        for (r, sum) in sums.iter_mut().enumerate() {
            let count = tree[r * leaves + l];
            let drawn = match leaf {
                0 => rows[0].map(|x| x * f64::from(count)),
                1 => sum_leaf::<C, 1>(rows, &pairs, count, &mut draws[r]),
                2 => sum_leaf::<C, 2>(rows, &pairs, count, &mut draws[r]),
                3 => sum_leaf::<C, 3>(rows, &pairs, count, &mut draws[r]),
                4 => sum_leaf::<C, 4>(rows, &pairs, count, &mut draws[r]),
                5 => sum_leaf::<C, 5>(rows, &pairs, count, &mut draws[r]),
                _ => sum_leaf::<C, 6>(rows, &pairs, count, &mut draws[r]),
            };
            for (sum, drawn) in sum.iter_mut().zip(drawn) {
                *sum += drawn;
            }
        }
    }
    sums
}

/// The sum of `count` rows of a leaf of 2ᴮ, two a look-up.
#[inline(always)]
fn sum_leaf<const C: usize, const B: u32>(
    rows: &[[f64; C]],
    pairs: &[[f64; C]],
    count: u32,
    draws: &mut Draws,
) -> [f64; C] {
    let mask = (1usize << (2 * B)) - 1;
    // Known lengths leave no bounds to check.
    let (pairs, rows) = (&pairs[..=mask], &rows[..1 << B]);
    let per_word = 64 / (2 * B);
    // Several sums side by side: one alone would wait for each addition.
    let mut sums = [[0.0; C]; 4];
    let mut add = |lane: usize, pair: &[f64; C]| {
        for c in 0..C {
            sums[lane][c] += pair[c];
        }
    };
    let looked_up = count / 2;
    for _ in 0..looked_up / per_word {
        let word = draws.bits();
        for i in 0..per_word {
            add(i as usize % 4, &pairs[(word >> (2 * B * i)) as usize & mask]);
        }
    }
    let rest = looked_up % per_word;
    if rest > 0 {
        let word = draws.bits();
        for i in 0..rest {
            add(i as usize % 4, &pairs[(word >> (2 * B * i)) as usize & mask]);
        }
    }
    let mut sum: [f64; C] = std::array::from_fn(|c| (sums[0][c] + sums[1][c]) + (sums[2][c] + sums[3][c]));
    if count % 2 == 1 {
        let row = &rows[draws.bits() as usize & ((1 << B) - 1)];
        for c in 0..C {
            sum[c] += row[c];
        }
    }
    sum
}
