//! Is it the same, is it no worse: tests against a margin.
//!
//! "Not significantly different" is no finding: a small experiment differs significantly from nothing. To find that two
//! policies do the same, name a margin that does not matter and test that the difference lies within it: two one-sided
//! t-tests (TOST), the larger p of which counts. One of the two alone tests non-inferiority.
//!
//! Schuirmann (1987), A comparison of the two one-sided tests procedure and the power approach.

use super::paired::Difference;
use super::{Interval, Quantile};

/// p of "`a` is worse than `b` by `margin` or more": small where `a` is no worse than that. `None` where the difference
/// has no standard error.
///
/// # Panics
/// When `margin` is negative or not finite.
pub fn non_inferiority(d: &Difference, margin: f64) -> Option<f64> {
    one_sided(d, d.diff + checked(margin))
}

/// p of "the two differ by `margin` or more": small where they do the same within the margin. `None` where the difference
/// has no standard error.
///
/// # Panics
/// When `margin` is negative or not finite.
pub fn equivalence(d: &Difference, margin: f64) -> Option<f64> {
    let margin = checked(margin);
    Some(one_sided(d, d.diff + margin)?.max(one_sided(d, margin - d.diff)?))
}

/// True when an interval for the difference, at whatever level it has, lies within the margin: the form of the test for
/// confidence sequences.
pub fn within(interval: Interval, margin: f64) -> bool {
    -margin < interval.low && interval.high < margin && interval.low <= interval.high
}

fn checked(margin: f64) -> f64 {
    assert!(
        margin >= 0.0 && margin.is_finite(),
        "margin: expected at least 0, got {margin}"
    );
    margin
}

/// P(T > distance/se).
fn one_sided(d: &Difference, distance: f64) -> Option<f64> {
    let se = d.std_error.filter(|_| distance.is_finite())?;
    let units = d.df as usize + 1;
    if se > 1e-15 * distance.abs() {
        Some(Quantile::Student.above(distance / se, units))
    } else {
        // Without spread the difference is what it is; exactly at the margin it is not within.
        Some(if distance > 0.0 { 0.0 } else { 1.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Cluster, difference};
    use oo_core::Key;

    fn pairs(differences: &[f64]) -> Difference {
        let of = |x: f64| Cluster { sum: x, count: 1.0 };
        let a: Vec<Cluster> = differences.iter().map(|&d| of(d)).collect();
        difference(&a, &vec![of(0.0); a.len()], 0.95)
    }

    #[test]
    fn by_hand() {
        // Differences 1, 2, 3: mean 2, standard error 0.57735. Margin 4: t = (2+4)/se = 10.392 and (4−2)/se = 3.4641;
        // P(T > 3.4641) on 2 df is 0.03709, P(T > 10.392) is 0.00457.
        let d = pairs(&[1.0, 2.0, 3.0]);
        assert!((equivalence(&d, 4.0).unwrap() - 0.037_09).abs() < 1e-5);
        assert!((non_inferiority(&d, 4.0).unwrap() - 0.004_57).abs() < 1e-5);
        assert!(equivalence(&d, 1.0).unwrap() > 0.85);
    }

    #[test]
    fn edges() {
        assert_eq!(equivalence(&pairs(&[0.5]), 1.0), None);
        assert_eq!(equivalence(&pairs(&[0.5, 0.5]), 1.0), Some(0.0));
        assert_eq!(equivalence(&pairs(&[1.0, 1.0]), 1.0), Some(1.0));
        assert!(within(Interval::new(-0.5, 0.9), 1.0) && !within(Interval::new(-0.5, 1.0), 1.0));
        assert!(!within(Interval::new(f64::NEG_INFINITY, 0.0), 1.0));
    }

    #[test]
    fn false_claims_at_the_margin_are_five_in_a_hundred() {
        // The true difference is the margin, 0.5, where TOST is at its least careful. sd of the share is 0.0034 over
        // 4,000 runs: 0.033 to 0.067 is five of them on each side, 6e-7 false alarms.
        let root = Key::root(47).name("margin");
        let (mut same, mut no_worse) = (0, 0);
        for run in 0..4000 {
            let mut draws = root.fold(run).draws();
            let differences: Vec<f64> = (0..30).map(|_| 0.5 + 0.8 * draws.normal()).collect();
            same += u32::from(equivalence(&pairs(&differences), 0.5).unwrap() < 0.05);
            let worse: Vec<f64> = differences.iter().map(|d| d - 1.0).collect();
            no_worse += u32::from(non_inferiority(&pairs(&worse), 0.5).unwrap() < 0.05);
        }
        for count in [same, no_worse] {
            let share = f64::from(count) / 4000.0;
            assert!((0.033..0.067).contains(&share), "{share}");
        }
    }
}
