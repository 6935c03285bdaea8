//! Counts against the weights by which they should have come, at all times: a sample-ratio check that may be looked at
//! after every user.
//!
//! E is the likelihood of the arms in their order under shares drawn from a Dirichlet distribution around the weights, over
//! that under the weights themselves: Π Γ(m·wᵢ + nᵢ)/Γ(m·wᵢ) · Γ(m)/Γ(m + n) / Π wᵢ^nᵢ. It is a martingale when the weights
//! are right, so it ever reaches 1/α with probability at most α, and 1/E is a p value at every number of users. m = 1000:
//! shares off by one or two hundredths are what it is best at.
//!
//! Lindon, Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS 35. arXiv:2011.03567

/// m.
const MASS: f64 = 1000.0;

/// The p value of counts that should have come by these weights, of any positive scale, however often one looked. `None`
/// with fewer than two arms of positive weight, or none counted; 0 when an arm of weight 0 was seen.
pub fn sample_ratio(counts: &[u64], weights: &[f64]) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let sum: f64 = weights.iter().filter(|w| **w > 0.0).sum();
    let live = weights.iter().filter(|w| **w > 0.0).count();
    if total == 0 || live < 2 || counts.len() != weights.len() {
        return None;
    }
    let mut log_e = libm::lgamma(MASS) - libm::lgamma(MASS + total as f64);
    for (&seen, &weight) in counts.iter().zip(weights) {
        let (seen, share) = (seen as f64, weight / sum);
        if weight > 0.0 {
            log_e += libm::lgamma(MASS * share + seen) - libm::lgamma(MASS * share) - seen * libm::log(share);
        } else if seen > 0.0 {
            return Some(0.0);
        }
    }
    Some(libm::exp(-log_e).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    /// The smallest p over every look, and the users at which it first was below `alpha`.
    fn watched(key: Key, share: f64, users: u64, alpha: f64) -> Option<u64> {
        let (mut draws, mut counts) = (key.draws(), [0, 0]);
        (1..=users).find(|_| {
            counts[usize::from(draws.uniform() < share)] += 1;
            sample_ratio(&counts, &[0.9, 0.1]).unwrap() < alpha
        })
    }

    #[test]
    fn looking_after_every_user_raises_no_more_alarms_than_promised() {
        // 1,000 right assignments of up to 3,000 users: at most 5 % may ever be below 0.05, and no sampling error is
        // allowed for. A chi-square test at 5 % looked at as often is wrong in more than half.
        let root = Key::root(31).name("ratio");
        let alarms = (0..1000)
            .filter(|&r| watched(root.fold(r), 0.1, 3000, 0.05).is_some())
            .count();
        assert!(alarms <= 50, "{alarms} of 1,000");
        // A share of 0.13 instead of 0.1 is found, at 0.001, within 6,000 users.
        let found = (0..50)
            .filter(|&r| watched(root.fold(r), 0.13, 6000, 0.001).is_some())
            .count();
        assert!(found >= 48, "{found} of 50");
    }

    #[test]
    fn odd_counts() {
        assert_eq!(sample_ratio(&[0, 0], &[1.0, 1.0]), None);
        assert_eq!(sample_ratio(&[5, 5], &[1.0, 0.0]), None);
        assert_eq!(sample_ratio(&[5, 5, 1], &[1.0, 1.0, 0.0]), Some(0.0));
        assert_eq!(sample_ratio(&[500, 500], &[1.0, 1.0]), Some(1.0));
        assert!(sample_ratio(&[50_700, 49_300], &[1.0, 1.0]).unwrap() < 0.001);
    }
}
