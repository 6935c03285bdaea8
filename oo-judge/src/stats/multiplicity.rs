//! Several comparisons at once.
//!
//! Holm (1979), A simple sequentially rejective multiple test procedure. Benjamini, Hochberg (1995), Controlling the false
//! discovery rate.

/// Holm's step-down adjustment: the family-wise error stays below α whatever the dependence between the tests.
///
/// The answer keeps the order of `p`. A NaN counts as 1: a test that could not be made has found nothing, yet it
/// was planned, so it stays in the count.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let p: Vec<f64> = p.iter().map(|&p| if p.is_nan() { 1.0 } else { p }).collect();
    let mut order: Vec<usize> = (0..p.len()).collect();
    // Ties share a value after adjustment, so their order among themselves does not matter.
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let mut adjusted = vec![0.0; p.len()];
    let mut reached = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        reached = reached.max((p.len() - rank) as f64 * p[i]).min(1.0);
        adjusted[i] = reached;
    }
    adjusted
}

/// Benjamini and Hochberg's step-up adjustment: of the findings below α a share of at most α is false, on average. That is
/// a weaker promise than Holm's, for long lists that are looked through rather than acted on. It holds for independent
/// tests and for those that depend positively.
///
/// The answer keeps the order of `p`. A NaN counts as 1.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let p: Vec<f64> = p.iter().map(|&p| if p.is_nan() { 1.0 } else { p }).collect();
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let mut adjusted = vec![0.0; p.len()];
    let mut reached = 1.0f64;
    for (rank, &i) in order.iter().enumerate().rev() {
        reached = reached.min(p.len() as f64 / (rank + 1) as f64 * p[i]);
        adjusted[i] = reached;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Sorted: 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04; the last is raised to 0.06.
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (got, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((got - expected).abs() < 1e-15, "{adjusted:?}");
        }
    }

    #[test]
    fn benjamini_hochberg_by_hand() {
        // Sorted: 0.005, 0.01, 0.03, 0.04 times 4, 2, 4/3, 1 = 0.02, 0.02, 0.04, 0.04.
        let adjusted = benjamini_hochberg(&[0.01, 0.04, 0.03, 0.005]);
        for (got, expected) in adjusted.iter().zip([0.02, 0.04, 0.04, 0.02]) {
            assert!((got - expected).abs() < 1e-15, "{adjusted:?}");
        }
    }

    #[test]
    fn a_step_up_lowers_what_lies_above() {
        // 0.03·3 = 0.09 is lowered to 0.031·3/2 = 0.0465, and that to 0.032.
        let adjusted = benjamini_hochberg(&[0.03, 0.031, 0.032]);
        assert!(adjusted.iter().all(|p| (p - 0.032).abs() < 1e-15), "{adjusted:?}");
        assert!(benjamini_hochberg(&[]).is_empty());
        assert_eq!(benjamini_hochberg(&[0.2, f64::NAN]), [0.4, 1.0]);
    }

    #[test]
    fn edges() {
        assert!(holm(&[]).is_empty());
        assert_eq!(holm(&[0.2]), [0.2]);
        assert_eq!(holm(&[0.9, 0.8, f64::NAN]), [1.0, 1.0, 1.0]);
    }
}
