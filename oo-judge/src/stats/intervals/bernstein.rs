//! The empirical Bernstein bound: no assumption but a known range.
//!
//! For x₁…xₙ in [0, 1], with V their sample variance, mean ± (√(2V·ln(4/α)/n) + 7·ln(4/α)/(3(n−1))) holds with
//! probability 1 − α for every n and every distribution; each side spends α/2. It is wider than need be, and by much
//! where the range is that of rare, large weights.
//!
//! Maurer, Pontil (2009), Empirical Bernstein bounds and sample-variance penalization, Theorem 4. arXiv:0907.3740

use super::Interval;

/// The interval at `level` for the mean of independent `x`, each within `range`, to which the answer is cut.
///
/// `None` with fewer than two rows, a range without bound, or a row out of it.
pub fn empirical_bernstein(x: &[f64], range: Interval, level: f64) -> Option<Interval> {
    if x.len() < 2 || !range.is_range() || !x.iter().all(|&x| range.contains(x)) {
        return None;
    }
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0);
    let log = libm::log(4.0 / (1.0 - level));
    let half = libm::sqrt(2.0 * variance * log / n) + range.width() * 7.0 * log / (3.0 * (n - 1.0));
    Some(Interval::new(
        (mean - half).max(range.low),
        (mean + half).min(range.high),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 50 zeros and 50 ones: mean 0.5, V = 25/99, ln(80) = 4.382027; 0.14874 + 0.10328 = 0.25202.
        let x: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        let i = empirical_bernstein(&x, Interval::new(0.0, 1.0), 0.95).unwrap();
        assert!(
            (i.high - 0.752_041).abs() < 1e-5 && (i.low + i.high - 1.0).abs() < 1e-12,
            "{i:?}"
        );
        // Ten times the unit, ten times the interval.
        let wide: Vec<f64> = x.iter().map(|x| 10.0 * x - 5.0).collect();
        let j = empirical_bernstein(&wide, Interval::new(-5.0, 5.0), 0.95).unwrap();
        assert!((j.high - (10.0 * i.high - 5.0)).abs() < 1e-12);
    }

    #[test]
    fn edges() {
        let unit = Interval::new(0.0, 1.0);
        assert_eq!(empirical_bernstein(&[0.5], unit, 0.95), None);
        assert_eq!(empirical_bernstein(&[0.5, 1.5], unit, 0.95), None);
        assert_eq!(empirical_bernstein(&[0.5, f64::NAN], unit, 0.95), None);
        assert_eq!(empirical_bernstein(&[0.5, 0.5], unit, 0.95), Some(unit));
    }
}
