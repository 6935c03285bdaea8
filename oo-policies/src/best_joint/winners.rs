//! The loop that draws are spent in: which of several jointly normal variables is the largest, in eight draws at once.
//!
//! Eight numbers side by side are one AVX-512 register, two AVX2 registers or four of the baseline; multiply and add are
//! separate operations in one order, so that every instruction set gives the same winners.

#![allow(unsafe_code)]

/// Draws side by side.
pub const LANES: usize = 8;

/// What turns independent normals into the variables, one row a variable.
#[derive(Clone, Copy)]
pub enum Rows<'a> {
    /// The lower triangle of n × n numbers, row-major.
    Lower(&'a [f64]),
    /// n rows of this many numbers.
    Whole(&'a [f64], usize),
}

/// The position of the largest of mean + row · z + own · z′ in each of eight draws, the first among equals. `z` holds the
/// normals of the rows, then one for each of `own`, which has one standard deviation a variable or none.
pub fn winners(means: &[f64], rows: Rows<'_>, own: &[f64], z: &[[f64; LANES]]) -> [u64; LANES] {
    #[cfg(target_arch = "x86_64")]
    {
        type Z<'a> = &'a [[f64; LANES]];
        #[target_feature(enable = "avx2")]
        fn avx2(means: &[f64], rows: Rows<'_>, own: &[f64], z: Z<'_>) -> [u64; LANES] {
            body(means, rows, own, z)
        }
        #[target_feature(enable = "avx512f")]
        fn avx512(means: &[f64], rows: Rows<'_>, own: &[f64], z: Z<'_>) -> [u64; LANES] {
            body(means, rows, own, z)
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            return unsafe { avx512(means, rows, own, z) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { avx2(means, rows, own, z) };
        }
    }
    body(means, rows, own, z)
}

#[inline(always)]
fn body(means: &[f64], rows: Rows<'_>, own: &[f64], z: &[[f64; LANES]]) -> [u64; LANES] {
    let n = means.len();
    let (z, own_z) = z.split_at(z.len() - own.len());
    let (mut best, mut winner) = ([f64::NEG_INFINITY; LANES], [0; LANES]);
    for i in 0..n {
        let row = match rows {
            Rows::Lower(factor) => &factor[i * n..i * n + i + 1],
            Rows::Whole(factor, width) => &factor[i * width..(i + 1) * width],
        };
        let mut sample = [means[i]; LANES];
        for (f, z) in row.iter().zip(z) {
            for l in 0..LANES {
                sample[l] += f * z[l];
            }
        }
        if let Some(sd) = own.get(i) {
            for l in 0..LANES {
                sample[l] += sd * own_z[i][l];
            }
        }
        for l in 0..LANES {
            let better = sample[l] > best[l];
            best[l] = if better { sample[l] } else { best[l] };
            winner[l] = if better { i as u64 } else { winner[l] };
        }
    }
    winner
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn agrees_with_the_plain_loop_on_every_instruction_set() {
        let mut draws = Key::root(31).draws();
        for (n, width) in [(1, 1), (3, 5), (10, 10), (17, 4)] {
            let mut some = |n: usize| (0..n).map(|_| draws.normal()).collect::<Vec<f64>>();
            let (means, lower, whole, own) = (some(n), some(n * n), some(n * width), some(n));
            for (rows, own) in [
                (Rows::Lower(&lower), &own[..0]),
                (Rows::Whole(&whole, width), &own[..0]),
                (Rows::Whole(&whole, width), &own[..]),
            ] {
                let wide = match rows {
                    Rows::Lower(_) => n,
                    Rows::Whole(_, width) => width,
                };
                let z = some(LANES * (wide + own.len()));
                let z = z.as_chunks().0;
                let plain: [u64; LANES] = std::array::from_fn(|l| {
                    let value = |i: usize| {
                        let row = |j: usize| match rows {
                            Rows::Lower(f) => f[i * n + j] * f64::from(u8::from(j <= i)),
                            Rows::Whole(f, w) => f[i * w + j],
                        };
                        let shared = (0..wide).fold(means[i], |sum, j| sum + row(j) * z[j][l]);
                        shared + own.get(i).map_or(0.0, |sd| sd * z[wide + i][l])
                    };
                    (0..n).fold(0, |best, i| if value(i) > value(best) { i } else { best }) as u64
                });
                assert_eq!(winners(&means, rows, own, z), plain);
                assert_eq!(body(&means, rows, own, z), plain);
            }
        }
    }
}
