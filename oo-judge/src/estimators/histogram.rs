//! Counts of positive numbers in buckets of equal relative width: quantiles and tails of weights without keeping them.

/// Buckets an octave; a bucket's middle is within 1.6 % of all its numbers.
const PARTS: u32 = 5;
const LOWEST: i32 = -64;
const HIGHEST: i32 = 64;
const BUCKETS: usize = ((HIGHEST - LOWEST) as usize) << PARTS;

/// A histogram over 2⁻⁶⁴ … 2⁶⁴, in 32 parts an octave; what lies outside goes into the outermost buckets.
#[derive(Clone, PartialEq, Debug)]
pub struct Histogram {
    zeros: u64,
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            zeros: 0,
            counts: vec![0; BUCKETS],
        }
    }
}

impl Histogram {
    /// Counts a number; not positive ones are zeros.
    pub fn add(&mut self, x: f64) {
        if x > 0.0 {
            // The exponent and the first bits of the fraction, read as one number, rise with x.
            let place = (x.to_bits() >> (52 - PARTS)) as i64 - (i64::from(1023 + LOWEST) << PARTS);
            self.counts[place.clamp(0, BUCKETS as i64 - 1) as usize] += 1;
        } else {
            self.zeros += 1;
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Histogram) {
        self.zeros += other.zeros;
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            *own += other;
        }
    }

    /// How many numbers were counted.
    pub fn count(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// How many of them were zeros.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The number below which a share `q` of all lies, within 1.6 %; NaN when nothing was counted.
    pub fn quantile(&self, q: f64) -> f64 {
        let all = self.count();
        if all == 0 {
            return f64::NAN;
        }
        let rank = ((q * all as f64).ceil() as u64).clamp(1, all);
        let mut below = self.zeros;
        if rank <= below {
            return 0.0;
        }
        for (bucket, count) in self.counts.iter().enumerate() {
            below += count;
            if rank <= below {
                return middle(bucket);
            }
        }
        f64::NAN
    }

    /// Hill's estimate of 1/α for a tail x^−α, from the `top` largest numbers: above ½ the variance is infinite, above 1
    /// the mean is. The threshold is the least of them, so many equal numbers have no tail. `None` with fewer than `top`
    /// positive numbers.
    pub fn tail_index(&self, top: u64) -> Option<f64> {
        let mut taken = 0;
        let mut logs = 0.0;
        for bucket in (0..BUCKETS).rev() {
            let count = self.counts[bucket].min(top - taken);
            taken += count;
            logs += count as f64 * middle(bucket).ln();
            if taken == top {
                return (top > 0).then(|| logs / top as f64 - middle(bucket).ln());
            }
        }
        None
    }
}

fn middle(bucket: usize) -> f64 {
    let octave = (bucket >> PARTS) as i32 + LOWEST;
    let part = (bucket & ((1 << PARTS) - 1)) as f64 + 0.5;
    (1.0 + part / f64::from(1u32 << PARTS)) * f64::from(octave).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn quantiles_and_tails_of_a_pareto() {
        // x = u^(−1/α) has quantiles (1 − q)^(−1/α) and tail index 1/α. With 100,000 numbers the 99 % quantile has a
        // relative sd of 0.5 % at α = 2 (4 % allows for buckets and four sd); Hill over 1000 has 3.2 % (five sd).
        let mut histogram = Histogram::default();
        let mut other = Histogram::default();
        let mut draws = Key::root(5).draws();
        for i in 0..100_000 {
            let x = (1.0 - draws.uniform()).powf(-0.5);
            if i % 2 == 0 { histogram.add(x) } else { other.add(x) }
        }
        histogram.merge(&other);
        assert_eq!(histogram.count(), 100_000);
        for q in [0.5, 0.9, 0.99] {
            let expected = (1.0f64 - q).powf(-0.5);
            assert!((histogram.quantile(q) / expected - 1.0).abs() < 0.04, "{q}");
        }
        let tail = histogram.tail_index(1000).expect("a tail");
        assert!((tail - 0.5).abs() < 0.08, "{tail}");
    }

    #[test]
    fn numbers_of_two_sizes_have_no_tail() {
        // The weights of an ε-greedy target over a uniform logger.
        let mut histogram = Histogram::default();
        for i in 0..1000 {
            histogram.add(if i % 5 == 0 { 4.6 } else { 0.1 });
        }
        assert_eq!(histogram.tail_index(100), Some(0.0));
        assert_eq!(histogram.tail_index(1001), None);
    }

    #[test]
    fn buckets_rise_and_ends_hold_everything() {
        let mut histogram = Histogram::default();
        assert!(histogram.quantile(0.5).is_nan());
        assert_eq!(histogram.tail_index(1), None);
        for x in [0.0, 1e-300, 1.0, 1e300] {
            histogram.add(x);
        }
        assert_eq!((histogram.count(), histogram.zeros()), (4, 1));
        assert_eq!(histogram.quantile(0.2), 0.0);
        assert!(histogram.quantile(0.5) < 1e-19);
        assert!((histogram.quantile(0.75) - 1.0).abs() < 0.016);
        assert!(histogram.quantile(1.0) > 1e19);
        // Equal weights have no tail.
        let mut equal = Histogram::default();
        (0..100).for_each(|_| equal.add(3.0));
        equal.add(2.9);
        assert!(equal.tail_index(50).expect("a tail") < 0.06);
    }
}
