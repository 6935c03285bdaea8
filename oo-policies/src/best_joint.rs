//! The probability that each of several jointly normal variables is the largest, by draws.
//!
//! Two have a closed form. For more, the frequencies of `draws` draws are mixed with a uniform floor of weight
//! 1/(draws + 1), so that no variable is ruled out by chance. The numbers are true propensities of what is drawn
//! from them; as estimates of the ideal ones their standard error is at most 1/(2√draws).

use oo_core::{Key, Method, normal};

/// Jointly normal variables in their order of draws: mean vector and lower Cholesky factor of the covariance.
#[derive(Debug)]
pub struct Joint<'a> {
    /// n means.
    pub means: &'a [f64],
    /// n × width, row-major.
    pub factor: &'a [f64],
    /// Numbers a row.
    pub width: usize,
    /// Standard deviation of what is a variable's own, beyond the factor; n of them, or none.
    pub own: &'a [f64],
}

/// Replaces the covariance (n × n, row-major, lower triangle) by its Cholesky factor. Where rounding or equal
/// variables leave no variance, the column is zero: the variable follows those before it.
pub fn factorise(n: usize, k: &mut [f64]) {
    for i in 0..n {
        for j in 0..=i {
            let (above, row) = k.split_at_mut(i * n);
            let before: f64 = if j < i {
                (0..j).map(|m| row[m] * above[j * n + m]).sum()
            } else {
                (0..j).map(|m| row[m] * row[m]).sum()
            };
            let rest = row[j] - before;
            row[j] = if j == i {
                // Below this the difference of two nearly equal numbers is all rounding.
                if rest > 1e-12 * row[i] { rest.sqrt() } else { 0.0 }
            } else {
                match above[j * n + j] {
                    0.0 => 0.0,
                    pivot => rest / pivot,
                }
            };
        }
        k[i * n + i + 1..(i + 1) * n].fill(0.0);
    }
}

/// Fills `probs`, one entry a variable; `z` holds `width + n` numbers of working memory.
pub fn probabilities(joint: &Joint<'_>, draws: u32, key: Key, probs: &mut [f64], z: &mut [f64]) -> Method {
    let (n, m) = (joint.means.len(), joint.width);
    let row = |i: usize| &joint.factor[i * m..(i + 1) * m];
    match n {
        1 => {
            probs[0] = 1.0;
            Method::Exact
        }
        2 => {
            let own: f64 = joint.own.iter().map(|s| s * s).sum();
            let apart: f64 = row(0).iter().zip(row(1)).map(|(a, b)| (a - b) * (a - b)).sum();
            let (gap, variance) = (joint.means[0] - joint.means[1], own + apart);
            probs[0] = if variance > 0.0 {
                normal::cdf(gap / variance.sqrt())
            } else {
                f64::from(u8::from(gap >= 0.0))
            };
            probs[1] = 1.0 - probs[0];
            Method::Exact
        }
        _ => {
            let weight = 1.0 / f64::from(draws + 1);
            probs.fill(weight / n as f64);
            let z = &mut z[..m + joint.own.len()];
            let mut stream = key.draws();
            for _ in 0..draws {
                z.fill_with(|| stream.normal());
                let mut best = (0, f64::NEG_INFINITY);
                for i in 0..n {
                    let shared: f64 = row(i).iter().zip(&*z).map(|(s, z)| s * z).sum();
                    let own = joint.own.get(i).map_or(0.0, |s| s * z[m + i]);
                    let sample = joint.means[i] + shared + own;
                    if sample > best.1 {
                        best = (i, sample);
                    }
                }
                probs[best.0] += weight;
            }
            Method::MonteCarlo { draws }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_gives_the_covariance_back() {
        // The third variable is the sum of the first two: no variance of its own.
        let k = [4.0, 1.0, 5.0, 1.0, 2.0, 3.0, 5.0, 3.0, 8.0];
        let mut f = k;
        factorise(3, &mut f);
        for i in 0..3 {
            for j in 0..3 {
                let product: f64 = (0..3).map(|m| f[i * 3 + m] * f[j * 3 + m]).sum();
                assert!((product - k[i * 3 + j]).abs() < 1e-12, "{i} {j} {product}");
            }
        }
        assert_eq!(f[8], 0.0);
    }

    #[test]
    fn draws_agree_with_quadrature_where_nothing_is_joint() {
        let (means, own) = ([0.3, 0.0, -0.2, 0.1], [1.0, 0.5, 2.0, 0.1]);
        let joint = Joint {
            means: &means,
            factor: &[],
            width: 0,
            own: &own,
        };
        let (mut drawn, mut exact) = ([0.0; 4], [0.0; 4]);
        probabilities(&joint, 200_000, Key::root(1), &mut drawn, &mut [0.0; 4]);
        let arms: Vec<_> = (0..4)
            .map(|i| crate::best_arm::Normal {
                mean: means[i],
                sd: own[i],
            })
            .collect();
        crate::best_arm::probabilities(&arms, &mut exact, &mut Vec::new());
        // The sd of a share is at most 0.0011; five of them: a false alarm once in 4e5 seeds.
        for (d, e) in drawn.iter().zip(exact) {
            assert!((d - e).abs() < 0.0056, "{drawn:?} {exact:?}");
        }
    }
}
