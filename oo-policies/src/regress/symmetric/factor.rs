//! The inverse by Cholesky, eight columns at a time.
//!
//! Every element goes through the operations of the textbook's three loops, in their order: what is turned around is
//! only which elements are worked on together, so the bits are those of the plain loops on every instruction set.

#![allow(unsafe_code)]

use super::{LANES, padded};

/// Replaces the lower triangle of a matrix, `dim × dim` in rows of padded length, by that of its inverse, and gives the
/// squared ratio of the factor's largest to smallest pivot; `None` when it is not positive definite. `inverse` is as large
/// and zero; what is left there, and above the diagonal, means nothing.
pub fn invert(l: &mut [f64], inverse: &mut [f64], dim: usize) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(l: &mut [f64], inverse: &mut [f64], dim: usize) -> Option<f64> {
            body(l, inverse, dim)
        }
        #[target_feature(enable = "avx512f")]
        fn avx512(l: &mut [f64], inverse: &mut [f64], dim: usize) -> Option<f64> {
            body(l, inverse, dim)
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            return unsafe { avx512(l, inverse, dim) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { avx2(l, inverse, dim) };
        }
    }
    body(l, inverse, dim)
}

#[inline(always)]
pub(super) fn body(l: &mut [f64], inverse: &mut [f64], dim: usize) -> Option<f64> {
    let len = padded(dim);
    let (mut low, mut high) = (f64::INFINITY, 0.0f64);
    // A = L Lᵀ, column after column; the rest of the matrix loses each as it comes.
    for k in 0..dim {
        let s = l[k * len + k];
        if !(s > 0.0 && s.is_finite()) {
            return None;
        }
        let pivot = s.sqrt();
        low = low.min(pivot);
        high = high.max(pivot);
        l[k * len + k] = pivot;
        // The column lies in a row of `inverse` that is not needed yet; it is zero up to k.
        let column = &mut inverse[..len];
        column[..=k].fill(0.0);
        for i in k + 1..dim {
            l[i * len + k] /= pivot;
            column[i] = l[i * len + k];
        }
        let columns = column.as_chunks::<LANES>().0;
        let first = (k + 1) / LANES;
        for i in k + 1..dim {
            let f = columns[i / LANES][i % LANES];
            let row = l[i * len..(i + 1) * len].as_chunks_mut::<LANES>().0;
            for c in first..=i / LANES {
                for m in 0..LANES {
                    row[c][m] -= f * columns[c][m];
                }
            }
        }
    }
    // L⁻¹, row after row.
    inverse[..len].fill(0.0);
    for i in 0..dim {
        let (above, row) = inverse.split_at_mut(i * len);
        let pivot = l[i * len + i];
        for c in 0..=i / LANES {
            let sum = combine(above, len, c, LANES * c..i, |k| l[i * len + k]);
            for m in 0..LANES {
                row[c * LANES + m] = -sum[m] / pivot;
            }
        }
        row[i] = 1.0 / pivot;
        row[i + 1..len].fill(0.0);
    }
    // L⁻ᵀ L⁻¹.
    for i in 0..dim {
        for c in 0..=i / LANES {
            let sum = combine(inverse, len, c, i..dim, |k| inverse[k * len + i]);
            l[i * len + c * LANES..][..LANES].copy_from_slice(&sum);
        }
    }
    Some((high / low) * (high / low))
}

/// Σₖ factor(k) · row k, of eight columns.
#[inline(always)]
fn combine(
    rows: &[f64],
    len: usize,
    eight: usize,
    range: std::ops::Range<usize>,
    factor: impl Fn(usize) -> f64,
) -> [f64; LANES] {
    let mut sum = [0.0; LANES];
    for k in range {
        let f = factor(k);
        let row = rows[k * len + eight * LANES..]
            .first_chunk::<LANES>()
            .expect("rows are whole vectors");
        for m in 0..LANES {
            sum[m] += f * row[m];
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::Symmetric;
    use super::*;
    use oo_core::Key;

    /// The textbook's loops.
    fn plain(m: &Symmetric) -> Vec<f64> {
        let d = m.dim();
        let (l, _) = m.cholesky().unwrap();
        let mut inv = vec![0.0; d * d];
        for j in 0..d {
            inv[j * d + j] = 1.0 / l[j * d + j];
            for i in j + 1..d {
                let s: f64 = (j..i).map(|k| l[i * d + k] * inv[k * d + j]).sum();
                inv[i * d + j] = -s / l[i * d + i];
            }
        }
        let element = |i: usize, j: usize| (i.max(j)..d).map(|k| inv[k * d + i] * inv[k * d + j]).sum();
        (0..d * d).map(|at| element(at / d, at % d)).collect()
    }

    #[test]
    fn gives_the_bits_of_the_plain_loops_on_every_instruction_set() {
        for dim in [1, 5, 8, 9, 12, 17, 40, 65] {
            let mut draws = Key::root(dim as u64).draws();
            let mut m = Symmetric::diagonal(dim, 1.0);
            let mut x = vec![0.0; padded(dim)];
            for _ in 0..2 * dim {
                x[..dim].fill_with(|| draws.normal());
                m.rank_one(0.5, &x);
            }
            let expected = plain(&m);
            let (inverse, _) = m.inverse().unwrap();
            let len = padded(dim);
            let (mut l, mut work) = (vec![0.0; len * len], vec![0.0; len * len]);
            for i in 0..dim {
                (0..=i).for_each(|j| l[i * len + j] = m.get(i, j));
            }
            body(&mut l, &mut work, dim).unwrap();
            for i in 0..dim {
                for j in 0..=i {
                    assert_eq!(
                        inverse.get(i, j).to_bits(),
                        expected[i * dim + j].to_bits(),
                        "{dim}: {i} {j}"
                    );
                    assert_eq!(
                        l[i * len + j].to_bits(),
                        expected[i * dim + j].to_bits(),
                        "{dim}: {i} {j}"
                    );
                }
            }
        }
    }
}
