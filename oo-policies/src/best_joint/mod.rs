//! The probability that each of several jointly normal variables is the largest, by draws.
//!
//! Two have a closed form. For more, the frequencies of `draws` draws are mixed with a uniform floor of weight
//! 1/(draws + 1), so that no variable is ruled out by chance. Draws come in pairs of opposite signs, which halves
//! the normal numbers and never widens the spread. The frequencies are true propensities of what is drawn from them;
//! as estimates of the ideal ones their standard error is at most 1/(2√draws).

use crate::regress::Ridge;
use crate::regress::symmetric::{dot, padded};
use oo_core::{ActionId, Error, Key, Method, Result, normal};

mod winners;

use winners::{LANES, Rows, winners};

/// Pairs of draws side by side.
const HALF: usize = LANES / 2;
/// Normal numbers made at once: many are cheaper than four at a time.
const NORMALS: usize = 64;

/// Numbers of working memory for [`by_covariance`] of `n` variables.
pub const fn covariance_work(n: usize) -> usize {
    n * (n + 2 + LANES)
}

/// Numbers of working memory for [`by_factor`] of `n` variables.
pub const fn factor_work(n: usize, width: usize) -> usize {
    LANES * (width + n)
}

/// Few variables: by the covariance `k(i, j)` for j ≤ i, factorised in the order of `ids`, so that the order in which
/// the variables come does not matter. `probs` has one entry a variable, `work` at least [`covariance_work`] numbers.
pub fn by_covariance(
    ids: &[ActionId],
    means: &[f64],
    k: impl Fn(usize, usize) -> f64,
    draws: u32,
    key: Key,
    probs: &mut [f64],
    work: &mut [f64],
) -> Method {
    let n = ids.len();
    if n <= 2 {
        let variance = if n == 2 { k(0, 0) + k(1, 1) - 2.0 * k(1, 0) } else { 0.0 };
        return closed(means, variance, probs);
    }
    let (factor, rest) = work[..covariance_work(n)].split_at_mut(n * n);
    let (sorted, rest) = rest.split_at_mut(n);
    let (counts, z) = rest.split_at_mut(n);
    // Ranks wait where the counts will be.
    let rank = |i: usize| ids.iter().filter(|id| **id < ids[i]).count();
    (0..n).for_each(|i| counts[i] = rank(i) as f64);
    for i in 0..n {
        let at = counts[i] as usize;
        sorted[at] = means[i];
        for j in 0..=i {
            let other = counts[j] as usize;
            factor[at.max(other) * n + at.min(other)] = k(i, j);
        }
    }
    factorise(n, factor);
    count(sorted, Rows::Lower(factor), &[], draws, key, counts, z);
    (0..n).for_each(|i| probs[i] = counts[rank(i)]);
    Method::MonteCarlo { draws }
}

/// Many variables: by a factor of their covariance, `width` numbers a variable, and standard deviations of what is a
/// variable's own beyond it (one each, or none). `work` has at least [`factor_work`] numbers.
pub fn by_factor(
    means: &[f64],
    (factor, width): (&[f64], usize),
    own: &[f64],
    draws: u32,
    key: Key,
    probs: &mut [f64],
    work: &mut [f64],
) -> Method {
    let row = |i: usize| &factor[i * width..(i + 1) * width];
    if means.len() <= 2 {
        let variance = match means.len() {
            2 => {
                let apart: f64 = row(0).iter().zip(row(1)).map(|(a, b)| (a - b) * (a - b)).sum();
                apart + own.iter().map(|s| s * s).sum::<f64>()
            }
            _ => 0.0,
        };
        return closed(means, variance, probs);
    }
    count(
        means,
        Rows::Whole(factor, width),
        own,
        draws,
        key,
        probs,
        &mut work[..factor_work(own.len(), width)],
    );
    Method::MonteCarlo { draws }
}

/// One variable, or two whose difference has this variance.
fn closed(means: &[f64], variance: f64, probs: &mut [f64]) -> Method {
    probs[0] = match means {
        [a, b] if variance > 0.0 => normal::cdf((a - b) / variance.sqrt()),
        [a, b] => f64::from(u8::from(a >= b)),
        _ => 1.0,
    };
    if let [first, second] = probs {
        *second = 1.0 - *first;
    }
    Method::Exact
}

/// Replaces the covariance (n × n, row-major, lower triangle) by its Cholesky factor. Where rounding or equal
/// variables leave no variance, the column is zero: the variable follows those before it.
fn factorise(n: usize, k: &mut [f64]) {
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
    }
}

/// The frequencies, with the floor. `z` holds the normals of eight draws.
fn count(means: &[f64], rows: Rows<'_>, own: &[f64], draws: u32, key: Key, probs: &mut [f64], z: &mut [f64]) {
    let weight = 1.0 / f64::from(draws + 1);
    probs.fill(weight / means.len() as f64);
    let mut stream = key.draws();
    let (mut normals, mut used) = ([0.0; NORMALS], NORMALS);
    let (eights, _) = z.as_chunks_mut::<LANES>();
    let mut left = draws as usize;
    while left > 0 {
        for eight in &mut *eights {
            if used == NORMALS {
                stream.normals(&mut normals);
                used = 0;
            }
            for l in 0..HALF {
                let plus = normals[used + l];
                (eight[l], eight[HALF + l]) = (plus, -plus);
            }
            used += HALF;
        }
        let winner = winners(means, rows, own, eights);
        // The last eight may be more than are asked for; a pair is lanes l and l + 4.
        for l in (0..LANES).map(|l| l / 2 + l % 2 * (LANES / 2)).take(left) {
            probs[winner[l] as usize] += weight;
        }
        left -= left.min(LANES);
    }
}

/// Candidates whose values are their rows times the weights of one regression, and a part of their own.
#[derive(Debug)]
pub struct Sharing<'a> {
    /// The regression; the weights' covariance is scale² times its inverse Gram matrix.
    pub ridge: &'a Ridge,
    /// Posterior standard deviations a width.
    pub scale: f64,
    /// n identities.
    pub ids: &'a [ActionId],
    /// n padded rows.
    pub rows: &'a [f64],
    /// n means.
    pub means: &'a [f64],
    /// n standard deviations of what is a candidate's own.
    pub own: &'a [f64],
}

/// Numbers that [`of_sharing`] works on, for `n` candidates and `d` features.
pub const fn room(n: usize, d: usize) -> usize {
    if n <= d {
        n * padded(d) + covariance_work(n)
    } else {
        d * d + n * d + factor_work(n, d)
    }
}

/// The probability that a candidate's value is the largest. With few candidates their covariance is factorised, with
/// many that of the weights. `work` holds [`room`] numbers.
///
/// # Errors
/// [`Error::Singular`] when the covariance of the weights cannot be factorised.
pub fn of_sharing(from: &Sharing<'_>, draws: u32, key: Key, probs: &mut [f64], work: &mut [f64]) -> Result<Method> {
    let &Sharing {
        ridge,
        scale,
        ids,
        rows,
        means,
        own,
    } = from;
    let (n, d) = (ids.len(), ridge.dim());
    let len = padded(d);
    if n <= d {
        let (turned, work) = work.split_at_mut(n * len);
        for (row, turned) in rows.chunks_exact(len).zip(turned.chunks_exact_mut(len)) {
            ridge.inverse().times(row, turned);
        }
        let k = |i: usize, j: usize| {
            let shared = dot(&rows[i * len..(i + 1) * len], &turned[j * len..(j + 1) * len]);
            scale * scale * shared + if i == j { own[i] * own[i] } else { 0.0 }
        };
        return Ok(by_covariance(ids, means, k, draws, key, probs, work));
    }
    let (root, rest) = work.split_at_mut(d * d);
    let (factor, work) = rest.split_at_mut(n * d);
    if ridge.inverse().cholesky_into(root).is_none() {
        return Err(Error::Singular {
            what: "the posterior covariance",
            condition: f64::INFINITY,
        });
    }
    for (x, spread) in rows.chunks_exact(len).zip(factor.chunks_exact_mut(d)) {
        for (j, s) in spread.iter_mut().enumerate() {
            *s = scale * (j..d).map(|k| x[k] * root[k * d + j]).sum::<f64>();
        }
    }
    Ok(by_factor(means, (factor, d), own, draws, key, probs, work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_gives_the_covariance_back() {
        // The third variable is the sum of the first two: no variance of its own.
        let k = [4.0, 0.0, 0.0, 1.0, 2.0, 0.0, 5.0, 3.0, 8.0];
        let mut f = k;
        factorise(3, &mut f);
        for i in 0..3 {
            for j in 0..=i {
                let product: f64 = (0..3).map(|m| f[i * 3 + m] * f[j * 3 + m]).sum();
                assert!((product - k[i * 3 + j]).abs() < 1e-12, "{i} {j} {product}");
            }
        }
        assert_eq!(f[8], 0.0);
    }

    #[test]
    fn draws_agree_with_quadrature_where_nothing_is_joint() {
        let (means, sd) = ([0.3, 0.0, -0.2, 0.1], [1.0, 0.5, 2.0, 0.1]);
        let (mut factor, mut covariance, mut exact) = ([0.0; 4], [0.0; 4], [0.0; 4]);
        let mut work = [0.0; 100];
        let ids = [7, 2, 9, 4].map(ActionId);
        let k = |i: usize, j: usize| if i == j { sd[i] * sd[i] } else { 0.0 };
        let (draws, key) = (200_000, Key::root(1));
        by_factor(&means, (&[], 0), &sd, draws, key, &mut factor, &mut work);
        by_covariance(&ids, &means, k, draws, key, &mut covariance, &mut work);
        let arms: Vec<_> = (0..4)
            .map(|i| crate::best_arm::Normal {
                mean: means[i],
                sd: sd[i],
            })
            .collect();
        crate::best_arm::probabilities(&arms, &mut exact, &mut Vec::new());
        // The sd of a share is at most 0.0011; five of them: a false alarm once in 4e5 seeds.
        for i in 0..4 {
            assert!((factor[i] - exact[i]).abs() < 0.0056, "{factor:?} {exact:?}");
            assert!((covariance[i] - exact[i]).abs() < 0.0056, "{covariance:?} {exact:?}");
        }
    }

    #[test]
    fn any_number_of_draws_sums_to_one() {
        for draws in [1, 2, 7, 8, 9, 255] {
            let mut probs = [0.0; 3];
            let ids = [1, 2, 3].map(ActionId);
            by_covariance(
                &ids,
                &[0.0; 3],
                |i, j| f64::from(u8::from(i == j)),
                draws,
                Key::root(2),
                &mut probs,
                &mut [0.0; 100],
            );
            assert!((probs.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{draws}: {probs:?}");
        }
    }
}
