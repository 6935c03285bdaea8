//! Many policies over many environments: ranks, and the difference of ranks that matters.
//!
//! Within an environment the best policy gets rank 1 and ties share their ranks, so environments with large rewards do not
//! drown the others. Friedman's test, as Iman and Davenport corrected it, asks whether the mean ranks differ at all.
//! Nemenyi's critical difference CD = q·√(k(k + 1)/(6N)), q being the upper α point of the range of k normals over √2, says
//! which of the k policies do: two whose mean ranks are further apart than CD differ, at a family-wise level of α. The
//! unit is the environment: with two or three of them the CD is large, and rightly so.
//!
//! Demšar (2006), Statistical comparisons of classifiers over multiple data sets. JMLR 7. Iman, Davenport (1980).

use oo_core::normal;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, FisherSnedecor};

/// Ranks over environments.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ranks {
    /// The mean rank of each policy; 1 is best.
    pub mean_ranks: Vec<f64>,
    /// p of "all policies rank alike".
    pub p: f64,
    /// Mean ranks further apart than this differ.
    pub critical_difference: f64,
    /// Groups that the critical difference does not tell apart, best first; each names policies by position. A policy
    /// may be in several, or in none when it differs from all others.
    pub cliques: Vec<Vec<usize>>,
}

/// Ranks `scores[environment][policy]`, higher being better.
///
/// `None` with fewer than two environments or policies, or where a score is not finite.
///
/// # Panics
/// When environments differ in the number of policies.
pub fn ranks(scores: &[Vec<f64>], alpha: f64) -> Option<Ranks> {
    let policies = scores.first()?.len();
    assert!(scores.iter().all(|s| s.len() == policies), "one score a policy");
    if scores.len() < 2 || policies < 2 || !scores.iter().flatten().all(|x| x.is_finite()) {
        return None;
    }
    let (n, k) = (scores.len() as f64, policies as f64);
    let mut sums = vec![0.0; policies];
    // Σ of squared ranks; ties lower it, and the statistic with it.
    let mut squares = 0.0;
    for own in scores {
        for (sum, rank) in sums.iter_mut().zip(within(own)) {
            *sum += rank;
            squares += rank * rank;
        }
    }
    let mean_ranks: Vec<f64> = sums.iter().map(|s| s / n).collect();
    let centre = (k + 1.0) / 2.0;
    let between = n * mean_ranks.iter().map(|r| (r - centre) * (r - centre)).sum::<f64>();
    let total = squares - n * k * centre * centre;
    let critical_difference =
        range_quantile(policies, alpha) / std::f64::consts::SQRT_2 * libm::sqrt(k * (k + 1.0) / (6.0 * n));
    Some(Ranks {
        p: friedman(between, total, n, k),
        cliques: cliques(&mean_ranks, critical_difference),
        mean_ranks,
        critical_difference,
    })
}

/// Ranks of one environment, ties sharing the mean of theirs.
fn within(scores: &[f64]) -> Vec<f64> {
    let rank = |x: &f64| {
        let above = scores.iter().filter(|y| *y > x).count() as f64;
        let ties = scores.iter().filter(|y| *y == x).count() as f64;
        above + (ties + 1.0) / 2.0
    };
    scores.iter().map(rank).collect()
}

/// The analysis of variance of ranks: `between` policies of the `total` within environments.
fn friedman(between: f64, total: f64, n: f64, k: f64) -> f64 {
    let within = total - between;
    // All tied everywhere, and everywhere the same order.
    if total <= 1e-12 {
        return 1.0;
    }
    if within <= 1e-12 * total {
        return 0.0;
    }
    let f = (n - 1.0) * between / within;
    FisherSnedecor::new(k - 1.0, (k - 1.0) * (n - 1.0)).map_or(f64::NAN, |d| d.sf(f))
}

/// Longest runs of the ranking whose ends are not further apart than the critical difference, two policies or more.
fn cliques(mean_ranks: &[f64], critical_difference: f64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..mean_ranks.len()).collect();
    order.sort_by(|&i, &j| mean_ranks[i].total_cmp(&mean_ranks[j])); // stable: ties stay in their order
    let mut found: Vec<Vec<usize>> = Vec::new();
    let mut reached = 0;
    for start in 0..order.len() {
        let near = |&&i: &&usize| mean_ranks[i] - mean_ranks[order[start]] <= critical_difference;
        let end = start + order[start..].iter().take_while(near).count();
        if end > reached && end - start > 1 {
            found.push(order[start..end].to_vec());
        }
        reached = reached.max(end);
    }
    found
}

/// The x that the range of `k` independent standard normals exceeds with probability `alpha`: Studentised range with
/// infinitely many degrees of freedom.
fn range_quantile(k: usize, alpha: f64) -> f64 {
    // P(range ≤ x) = k·∫ φ(z)·(Φ(z) − Φ(z − x))^(k−1) dz, z being the largest; the trapezoid rule is exact to rounding
    // for an integrand that dies out at both ends.
    let below = |x: f64| {
        let step = 1.0 / 16.0;
        let term = |i: i32| {
            let z = f64::from(i) * step;
            normal::density(z) * libm::pow(normal::cdf(z) - normal::cdf(z - x), (k - 1) as f64)
        };
        k as f64 * step * (-144..=144).map(term).sum::<f64>()
    };
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if below(middle) < 1.0 - alpha {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nemenyis_table() {
        // Demšar (2006), Table 5(a): q at 0.05 and 0.10 for 2 to 10 classifiers, to three digits.
        let five = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164];
        let ten = [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920];
        for (k, (q05, q10)) in (2..).zip(five.into_iter().zip(ten)) {
            for (alpha, expected) in [(0.05, q05), (0.10, q10)] {
                let q = range_quantile(k, alpha) / std::f64::consts::SQRT_2;
                assert!((q - expected).abs() < 1.5e-3, "{k} at {alpha}: {q}, not {expected}");
            }
        }
    }

    #[test]
    fn by_hand() {
        // Three policies in four environments: ranks 1 2 3 | 1 2 3 | 1 3 2 | 2 1 3. Means 1.25, 2, 2.75. Friedman's χ² =
        // 12·4/(3·4)·(0.75² + 0 + 0.75²) = 4.5; Iman–Davenport F = 3·4.5/(8 − 4.5) = 3.857 on 2 and 6: p = 0.0838.
        let scores = vec![
            vec![0.9, 0.5, 0.1],
            vec![9.0, 5.0, 1.0],
            vec![0.9, 0.1, 0.5],
            vec![0.5, 0.9, 0.1],
        ];
        let r = ranks(&scores, 0.05).unwrap();
        assert_eq!(r.mean_ranks, [1.25, 2.0, 2.75]);
        assert!((r.p - 0.0838).abs() < 5e-4, "{}", r.p);
        // 2.343·√(12/24) = 1.657: all within it.
        assert!((r.critical_difference - 1.657).abs() < 2e-3);
        assert_eq!(r.cliques, [vec![0, 1, 2]]);
    }

    #[test]
    fn cliques_overlap_and_leave_out_the_lonely() {
        assert_eq!(cliques(&[1.0, 2.0, 3.0, 6.0], 1.5), [vec![0, 1], vec![1, 2]]);
        assert_eq!(cliques(&[3.0, 1.0], 5.0), [vec![1, 0]]);
        assert!(cliques(&[1.0, 5.0], 1.0).is_empty());
    }

    #[test]
    fn ties_and_edges() {
        assert_eq!(within(&[0.5, 0.7, 0.5, 0.1]), [2.5, 1.0, 2.5, 4.0]);
        assert_eq!(ranks(&[vec![1.0, 1.0], vec![2.0, 2.0]], 0.05).unwrap().p, 1.0);
        assert_eq!(ranks(&[vec![1.0, 0.0], vec![2.0, 0.0]], 0.05).unwrap().p, 0.0);
        assert_eq!(ranks(&[vec![1.0, 2.0]], 0.05), None);
        assert_eq!(ranks(&[vec![1.0], vec![2.0]], 0.05), None);
        assert_eq!(ranks(&[vec![1.0, f64::NAN], vec![2.0, 1.0]], 0.05), None);
        assert_eq!(ranks(&[], 0.05), None);
    }
}
