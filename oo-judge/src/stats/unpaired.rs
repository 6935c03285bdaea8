//! Differences of means per round between two arms with clusters of their own, kept up to date cluster by cluster.
//!
//! An [`Arm`] is six sums over its clusters, so a cluster that grows costs O(1) and nothing is passed over again. With
//! m = ΣR/Σn, the variance of m is C/(C − 1)·Σ(R − m·n)²/(Σn)², linearised as in [`paired`](super::paired), and the arms'
//! variances add up: they share nobody.

use super::Cluster;

/// The clusters of an arm, as sums.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Arm {
    clusters: u64,
    sum: f64,
    count: f64,
    sum_sum: f64,
    sum_count: f64,
    count_count: f64,
}

impl Arm {
    /// Of clusters that stand.
    pub fn of(clusters: &[Cluster]) -> Arm {
        let mut arm = Arm::default();
        for &cluster in clusters {
            arm.change(Cluster::default(), cluster);
        }
        arm
    }

    /// A cluster goes from `before` to `after`. It counts from its first round on.
    pub fn change(&mut self, before: Cluster, after: Cluster) {
        self.clusters += u64::from(after.count > 0.0);
        self.clusters -= u64::from(before.count > 0.0).min(self.clusters);
        self.sum += after.sum - before.sum;
        self.count += after.count - before.count;
        self.sum_sum += after.sum * after.sum - before.sum * before.sum;
        self.sum_count += after.sum * after.count - before.sum * before.count;
        self.count_count += after.count * after.count - before.count * before.count;
    }

    /// Its sums, to be kept.
    pub fn parts(&self) -> [f64; 6] {
        [
            self.clusters as f64,
            self.sum,
            self.count,
            self.sum_sum,
            self.sum_count,
            self.count_count,
        ]
    }

    /// From kept sums, bit for bit.
    pub fn from_parts([clusters, sum, count, sum_sum, sum_count, count_count]: [f64; 6]) -> Arm {
        Arm {
            clusters: clusters as u64,
            sum,
            count,
            sum_sum,
            sum_count,
            count_count,
        }
    }

    /// Clusters with at least one round.
    pub fn clusters(&self) -> usize {
        self.clusters as usize
    }

    /// Rounds.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Mean per round; NaN before the first.
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// Variance of the mean; `None` with fewer than two clusters.
    fn variance(&self) -> Option<f64> {
        let (c, m) = (self.clusters as f64, self.mean());
        let squares = self.sum_sum - 2.0 * m * self.sum_count + m * m * self.count_count;
        // What is left of a difference of large sums is rounding.
        let rounding = 1e-12 * (self.sum_sum + m * m * self.count_count);
        let squares = if squares > rounding { squares } else { 0.0 };
        (self.clusters > 1).then(|| c / (c - 1.0) * squares / (self.count * self.count))
    }
}

/// A difference of two arms.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TwoMeans {
    /// Mean of `a` less mean of `b`; NaN where one has no rounds.
    pub diff: f64,
    /// Its standard error; `None` with fewer than two clusters in either.
    pub std_error: Option<f64>,
}

/// The difference of the means of `a` and `b`.
pub fn two_means(a: &Arm, b: &Arm) -> TwoMeans {
    let variance = a.variance().zip(b.variance()).map(|(a, b)| a + b);
    TwoMeans {
        diff: a.mean() - b.mean(),
        std_error: variance.map(libm::sqrt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::mean_interval;
    use oo_core::Key;

    fn clusters(key: Key, n: u64) -> Vec<Cluster> {
        let mut draws = key.draws();
        let mut one = || {
            let count = 1.0 + draws.below(9) as f64;
            let sum = count * draws.normal() + draws.normal();
            Cluster { sum, count }
        };
        (0..n).map(|_| one()).collect()
    }

    #[test]
    fn is_what_a_pass_over_the_clusters_gives() {
        let (a, b) = (clusters(Key::root(1), 40), clusters(Key::root(2), 70));
        let (ea, eb) = (mean_interval(&a, 0.95), mean_interval(&b, 0.95));
        // One arm grows round by round, as it does in service.
        let mut grown = Arm::default();
        for c in &a {
            let half = Cluster {
                sum: c.sum - 0.25,
                count: c.count - 1.0,
            };
            grown.change(Cluster::default(), half);
            grown.change(half, *c);
        }
        let d = two_means(&grown, &Arm::of(&b));
        assert!((d.diff - (ea.value - eb.value)).abs() < 1e-12);
        let se = libm::hypot(ea.std_error.unwrap(), eb.std_error.unwrap());
        assert!((d.std_error.unwrap() - se).abs() < 1e-12, "{d:?} {se}");
        assert_eq!((grown.clusters(), grown.count()), (40, a.iter().map(|c| c.count).sum()));
    }

    #[test]
    fn few_and_equal_clusters() {
        let one = Arm::of(&[Cluster { sum: 1.0, count: 1.0 }]);
        assert_eq!(two_means(&one, &Arm::of(&clusters(Key::root(1), 9))).std_error, None);
        assert!(two_means(&Arm::default(), &one).diff.is_nan());
        let same = Arm::of(&[Cluster { sum: 0.3, count: 3.0 }; 50]);
        assert_eq!(
            two_means(&same, &same),
            TwoMeans {
                diff: 0.0,
                std_error: Some(0.0)
            }
        );
    }
}
