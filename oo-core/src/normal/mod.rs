//! The normal distribution: density, distribution and quantile functions.
//!
//! Everything goes through `libm`, compiled in, so that a result does not depend on the platform's own
//! mathematics library.

mod bulk;

/// Density of the standard normal at `x`.
pub fn density(x: f64) -> f64 {
    0.398_942_280_401_432_7 * libm::exp(-0.5 * x * x)
}

/// P(Z ≤ x) for a standard normal Z.
pub fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// Half the width of the central region of [`quantile`].
const CENTRE: f64 = 0.425;

/// Density and P(Z ≤ x) at once, at the price of one exponential; the second with an absolute error below 1e-14.
///
/// Hart et al. (1968), as given by West (2005), "Better approximations to cumulative normal functions".
pub fn density_and_cdf(x: f64) -> (f64, f64) {
    let exponential = libm::exp(-0.5 * x * x);
    let z = x.abs();
    let tail = if z < 7.071_067_811_865_47 {
        let above = poly(
            z,
            &[
                220.206_867_912_376,
                221.213_596_169_931,
                112.079_291_497_871,
                33.912_866_078_383,
                6.373_962_203_531_65,
                0.700_383_064_443_688,
                3.526_249_659_989_11e-2,
            ],
        );
        let below = poly(
            z,
            &[
                440.413_735_824_752,
                793.826_512_519_948,
                637.333_633_378_831,
                296.564_248_779_674,
                86.780_732_202_946_1,
                16.064_177_579_207,
                1.755_667_163_182_64,
                8.838_834_764_831_84e-2,
            ],
        );
        exponential * above / below
    } else {
        let fraction = z + 1.0 / (z + 2.0 / (z + 3.0 / (z + 4.0 / (z + 0.65))));
        exponential / fraction / 2.506_628_274_631
    };
    let below = if x > 0.0 { 1.0 - tail } else { tail };
    (0.398_942_280_401_432_7 * exponential, below)
}

/// The x with P(Z ≤ x) = p, for p in (0, 1). Relative error about 1e-16.
///
/// Wichura (1988), Algorithm AS 241, PPND16.
pub fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= CENTRE { central(q) } else { tail(p) }
}

pub use bulk::quantiles;

#[inline(always)]
fn central(q: f64) -> f64 {
    let r = 0.180625 - q * q;
    q * poly(
        r,
        &[
            3.387_132_872_796_366_5,
            133.141_667_891_784_38,
            1_971.590_950_306_551_3,
            13_731.693_765_509_46,
            45_921.953_931_549_87,
            67_265.770_927_008_7,
            33_430.575_583_588_13,
            2_509.080_928_730_122_7,
        ],
    ) / poly(
        r,
        &[
            1.0,
            42.313_330_701_600_91,
            687.187_007_492_057_9,
            5_394.196_021_424_751,
            21_213.794_301_586_597,
            39_307.895_800_092_71,
            28_729.085_735_721_943,
            5_226.495_278_852_545,
        ],
    )
}

fn tail(p: f64) -> f64 {
    let q = p - 0.5;
    let r = libm::sqrt(-libm::log(if q < 0.0 { p } else { 1.0 - p }));
    let x = if r <= FAR { near(r) } else { far(r) };
    if q < 0.0 { -x } else { x }
}

/// The tail up to here has a ratio of polynomials of its own.
const FAR: f64 = 5.0;

#[inline(always)]
fn near(r: f64) -> f64 {
    let r = r - 1.6;
    poly(
        r,
        &[
            1.423_437_110_749_683_5,
            4.630_337_846_156_546,
            5.769_497_221_460_691,
            3.647_848_324_763_204_5,
            1.270_458_252_452_368_4,
            0.241_780_725_177_450_6,
            0.022_723_844_989_269_184,
            7.745_450_142_783_414e-4,
        ],
    ) / poly(
        r,
        &[
            1.0,
            2.053_191_626_637_759,
            1.676_384_830_183_803_8,
            0.689_767_334_985_1,
            0.148_103_976_427_480_08,
            0.015_198_666_563_616_457,
            5.475_938_084_995_345e-4,
            1.050_750_071_644_416_9e-9,
        ],
    )
}

fn far(r: f64) -> f64 {
    let r = r - FAR;
    poly(
        r,
        &[
            6.657_904_643_501_103,
            5.463_784_911_164_114,
            1.784_826_539_917_291_3,
            0.296_560_571_828_504_87,
            0.026_532_189_526_576_124,
            0.001_242_660_947_388_078_4,
            2.711_555_568_743_487_6e-5,
            2.010_334_399_292_288_1e-7,
        ],
    ) / poly(
        r,
        &[
            1.0,
            0.599_832_206_555_887_9,
            0.136_929_880_922_735_8,
            0.014_875_361_290_850_615,
            7.868_691_311_456_133e-4,
            1.846_318_317_510_054_8e-5,
            1.421_511_758_316_446e-7,
            2.044_263_103_389_939_8e-15,
        ],
    )
}

/// Horner's rule; the lowest coefficient first.
#[inline(always)]
fn poly(x: f64, c: &[f64]) -> f64 {
    c.iter().rev().fold(0.0, |acc, c| acc * x + c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_at_once_are_each() {
        for i in -9000..=9000 {
            let x = f64::from(i) / 1000.0;
            let (d, c) = density_and_cdf(x);
            assert_eq!(d, density(x));
            assert!((c - cdf(x)).abs() < 1e-14, "{x}: {c} {}", cdf(x));
            assert!((c - cdf(x)).abs() < 1e-6 * cdf(x), "{x}: {c} {}", cdf(x));
        }
    }

    #[test]
    fn quantile_inverts_cdf() {
        for i in -70..=80 {
            let x = f64::from(i) / 10.0;
            let p = cdf(x);
            if p < 1.0 - 1e-12 {
                assert!(
                    (quantile(p) - x).abs() < 1e-9 * (1.0 + x.abs()) + 1e-16 / density(x),
                    "{x}"
                );
            }
        }
    }
}
