//! The solution of A x = b for a positive definite A, by A = L Lᵀ.
//!
//! Matrices are packed: the lower triangle, row after row, so that element (i, j ≤ i) is at i(i+1)/2 + j.

use oo_core::{Error, Result};

/// Where row `i` begins.
pub const fn row(i: usize) -> usize {
    i * (i + 1) / 2
}

/// A ← A + scale · z zᵀ.
pub fn add_outer(a: &mut [f64], scale: f64, z: &[f32]) {
    for (i, &zi) in z.iter().enumerate() {
        let factor = scale * f64::from(zi);
        for (a, &zj) in a[row(i)..row(i) + i + 1].iter_mut().zip(z) {
            *a += factor * f64::from(zj);
        }
    }
}

/// Turns `b` into the solution; `a` becomes its factor.
///
/// # Errors
/// [`Error::Singular`] where A is not positive definite within rounding.
pub fn solve(a: &mut [f64], b: &mut [f64]) -> Result<()> {
    let n = b.len();
    let largest = (0..n).map(|i| a[row(i) + i]).fold(0.0, f64::max);
    for i in 0..n {
        for j in 0..=i {
            let (ri, rj) = (row(i), row(j));
            let dot: f64 = (0..j).map(|k| a[ri + k] * a[rj + k]).sum();
            let rest = a[ri + j] - dot;
            if i > j {
                a[ri + j] = rest / a[rj + j];
            } else if rest > largest * 1e-14 {
                a[ri + i] = libm::sqrt(rest);
            } else {
                let condition = largest / rest.max(largest * 1e-300);
                return Err(Error::Singular {
                    what: "the reward model's matrix",
                    condition,
                });
            }
        }
    }
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| a[row(i) + k] * b[k]).sum();
        b[i] = (b[i] - dot) / a[row(i) + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| a[row(k) + i] * b[k]).sum();
        b[i] = (b[i] - dot) / a[row(i) + i];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand_and_singular() {
        // [[4, 2], [2, 3]] x = [10, 8] has the solution [1.75, 1.5].
        let (mut a, mut b) = ([4.0, 2.0, 3.0], [10.0, 8.0]);
        solve(&mut a, &mut b).unwrap();
        assert!((b[0] - 1.75).abs() < 1e-14 && (b[1] - 1.5).abs() < 1e-14, "{b:?}");
        let e = solve(&mut [1.0, 1.0, 1.0], &mut [1.0, 1.0]).unwrap_err();
        assert!(matches!(e, Error::Singular { .. }), "{e}");
        let e = solve(&mut [f64::NAN], &mut [1.0]).unwrap_err();
        assert!(matches!(e, Error::Singular { .. }), "{e}");
    }
}
