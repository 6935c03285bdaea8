//! How much data a comparison needs.

use oo_core::normal;

/// The number of units (pairs of clusters) at which a two-sided test at level `alpha` finds a true difference
/// `diff` with probability `power`, when one unit's difference has standard deviation `sd_per_unit`.
///
/// ((z₁₋α/₂ + z_power) · sd / |diff|)², by the normal approximation: round up, and expect one or two more where
/// the answer is below about 20. `None` when there is no difference to find.
pub fn units_for_power(diff: f64, sd_per_unit: f64, alpha: f64, power: f64) -> Option<f64> {
    if diff == 0.0 || !diff.is_finite() {
        return None;
    }
    // From the lower tail: 1 − α/2 would round for a small α.
    let z = normal::quantile(power) - normal::quantile(alpha / 2.0);
    let ratio = z * sd_per_unit / diff;
    Some(ratio * ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn the_textbook_number() {
        // (1.959964 + 0.841621)² · (1 / 0.5)² = 31.395…
        let units = units_for_power(-0.5, 1.0, 0.05, 0.8).unwrap();
        assert!((units - 31.395_518).abs() < 1e-5, "{units}");
        assert_eq!(units_for_power(0.0, 1.0, 0.05, 0.8), None);
    }

    #[test]
    fn simulated_tests_have_that_power() {
        let (diff, sd, alpha, power) = (0.2, 1.3, 0.05, 0.9);
        let units = libm::ceil(units_for_power(diff, sd, alpha, power).unwrap()) as u64;
        let trials = 4000u64;
        let bound = -normal::quantile(alpha / 2.0);
        let found = (0..trials)
            .filter(|&trial| {
                let mut draws = Key::root(11).name("power").fold(trial).draws();
                let mean = (0..units).map(|_| diff + sd * draws.normal()).sum::<f64>() / units as f64;
                (mean * libm::sqrt(units as f64) / sd).abs() > bound
            })
            .count() as f64
            / trials as f64;
        // sd of the share is 0.0047; 5 sd is 0.024, a false alarm once in 1.7e6 seeds.
        assert!((found - power).abs() < 0.024, "{found} with {units} units");
    }
}
