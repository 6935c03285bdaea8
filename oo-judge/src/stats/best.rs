//! How sure it is that a policy is the best of all compared.
//!
//! Clusters are drawn with replacement, the same for every policy, and the share of resamples in which a policy has the
//! highest mean is its probability of being best: a bootstrap, which keeps what clusters do to all policies alike. Ties
//! are split. It describes what was seen and corrects for no number of comparisons; with few clusters it is too sure.

use super::intervals::resample;
use super::paired::Cluster;
use oo_core::Key;

/// The probability of being best, one a policy; they sum to 1. `policies` hold the same clusters, paired by index.
///
/// `None` with fewer than two clusters or no policies, or where a policy has no mean.
///
/// # Panics
/// When policies differ in the number of clusters.
pub fn probability_of_best(policies: &[Vec<Cluster>], resamples: u64, key: Key) -> Option<Vec<f64>> {
    let clusters = policies.first()?.len();
    assert!(
        policies.iter().all(|p| p.len() == clusters),
        "clusters are paired by index"
    );
    let counted = |p: &Vec<Cluster>| p.iter().map(|c| c.count).sum::<f64>() > 0.0;
    if clusters < 2 || resamples == 0 || !policies.iter().all(counted) {
        return None;
    }
    let mut share = vec![0.0; policies.len()];
    let mut valid = 0.0;
    let mut means = vec![0.0; policies.len()];
    resample(clusters, resamples, key, |times| {
        for (mean, policy) in means.iter_mut().zip(policies) {
            let add = |(sum, count): (f64, f64), (c, t): (&Cluster, &f64)| (sum + t * c.sum, count + t * c.count);
            let (sum, count) = policy.iter().zip(times).fold((0.0, 0.0), add);
            *mean = sum / count;
        }
        let best = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if means.iter().all(|m| m.is_finite()) {
            let ties = means.iter().filter(|m| **m == best).count() as f64;
            let winners = share.iter_mut().zip(&means).filter(|(_, m)| **m == best);
            winners.for_each(|(s, _)| *s += 1.0 / ties);
            valid += 1.0;
        }
        best
    });
    (valid > 0.0).then(|| share.into_iter().map(|s| s / valid).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn singles(values: &[f64]) -> Vec<Cluster> {
        values.iter().map(|&sum| Cluster { sum, count: 1.0 }).collect()
    }

    #[test]
    fn the_clear_cases() {
        let (low, high) = (singles(&[0.1, 0.5, 0.3]), singles(&[0.2, 0.6, 0.4]));
        let key = Key::root(1);
        // Always above within its pair, though the clusters overlap.
        assert_eq!(
            probability_of_best(&[low.clone(), high.clone()], 500, key),
            Some(vec![0.0, 1.0])
        );
        assert_eq!(
            probability_of_best(&[high.clone(), high.clone()], 500, key),
            Some(vec![0.5, 0.5])
        );
        assert_eq!(probability_of_best(&[singles(&[0.1])], 500, key), None);
        assert_eq!(probability_of_best(&[], 500, key), None);
        assert_eq!(probability_of_best(&[vec![Cluster::default(); 3]], 500, key), None);
    }

    #[test]
    fn a_close_race_by_enumeration() {
        // Differences −1 and 2 of two clusters: of the four samples one is negative. Over 4,000 resamples the sd is
        // 0.0068, so 0.035 is five of them.
        let share = probability_of_best(&[singles(&[0.0, 2.0]), singles(&[1.0, 0.0])], 4000, Key::root(5)).unwrap();
        assert!(
            (share[0] - 0.75).abs() < 0.035 && (share[0] + share[1] - 1.0).abs() < 1e-12,
            "{share:?}"
        );
    }
}
