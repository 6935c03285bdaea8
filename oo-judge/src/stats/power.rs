//! How much more would settle it.

use oo_core::normal::quantile;

/// Units (clusters) a side for a two-sided test at `alpha` to find `diff` with probability `power`, when one
/// paired unit has standard deviation `sd`. `None` when there is no difference to find.
///
/// n = ((z₁₋α⸝₂ + z_power) · sd / diff)², the normal approximation.
pub fn units_for_power(diff: f64, sd: f64, alpha: f64, power: f64) -> Option<f64> {
    let z = quantile(1.0 - alpha / 2.0) + quantile(power);
    let n = (z * sd / diff) * (z * sd / diff);
    n.is_finite().then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn the_promised_power_is_reached() {
        let n = units_for_power(0.5, 1.0, 0.05, 0.8).unwrap().ceil() as usize;
        assert_eq!(n, 32);
        // 4,000 trials: sd of the rate 0.0064, so ±0.032 is 5 sd.
        let found = (0..4000)
            .filter(|&trial| {
                let mut draws = Key::root(trial).draws();
                let mean = (0..n).map(|_| 0.5 + draws.normal()).sum::<f64>() / n as f64;
                (mean * (n as f64).sqrt()).abs() > 1.96
            })
            .count() as f64
            / 4000.0;
        assert!((found - 0.807).abs() < 0.032, "{found}");
        assert_eq!(units_for_power(0.0, 1.0, 0.05, 0.8), None);
    }
}
