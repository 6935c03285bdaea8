//! Quantiles of many numbers at once: the operations of [`quantile`](super::quantile) on each number, in the same order,
//! so that vector instructions of any width give its bits.
//!
//! Every number takes the central region's polynomials; the 15 % outside it are then gathered and take the tail's. The
//! logarithm there is `libm`'s for a positive normal number, without its branches. The loops are compiled for the
//! baseline, AVX2 and AVX-512 and chosen at run time: on a processor with AVX-512 a number takes a third of the time of
//! the baseline, which is the measured need for `unsafe`. Multiply and add stay separate operations everywhere.

#![allow(unsafe_code)]

use super::{CENTRE, FAR, central, near, tail};

/// Numbers that are worked on together: as many as a mask has bits.
const BLOCK: usize = 64;
/// Numbers side by side.
const LANES: usize = 8;

/// [`quantile`](super::quantile) of every number, in place. The same bits, several times faster.
pub fn quantiles(p: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(p: &mut [f64]) {
            body(p);
        }
        #[target_feature(enable = "avx512f")]
        fn avx512(p: &mut [f64]) {
            body(p);
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            return unsafe { avx512(p) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { avx2(p) };
        }
    }
    body(p);
}

#[inline(always)]
fn body(p: &mut [f64]) {
    let (blocks, rest) = p.as_chunks_mut();
    // No closures below: code inside one is compiled for the baseline.
    for p in blocks {
        block(p);
    }
    if !rest.is_empty() {
        let mut whole = [0.5; BLOCK];
        whole[..rest.len()].copy_from_slice(rest);
        block(&mut whole);
        rest.copy_from_slice(&whole[..rest.len()]);
    }
}

#[inline(always)]
fn block(p: &mut [f64; BLOCK]) {
    let before = *p;
    // Loops of a fixed, long count: of any other the compiler makes registers of two.
    for x in p.iter_mut() {
        *x = central(*x - 0.5);
    }
    // One bit a number that is outside.
    let mut outside = 0u64;
    for (i, p) in before.iter().enumerate() {
        outside |= u64::from((p - 0.5).abs() > CENTRE) << i;
    }
    let (mut places, mut r, mut n) = ([0usize; BLOCK], [0.05; BLOCK], 0);
    while outside != 0 {
        let i = outside.trailing_zeros() as usize;
        (places[n], r[n]) = (i, before[i].min(1.0 - before[i]));
        (n, outside) = (n + 1, outside & (outside - 1));
    }
    let mut x = [0.0; BLOCK];
    let eights = x.as_chunks_mut().0.iter_mut().zip(r.as_chunks_mut().0);
    for (x, r) in eights.take(n.div_ceil(LANES)) {
        tails(x, r);
    }
    for k in 0..n {
        let at = before[places[k]];
        p[places[k]] = if r[k] <= FAR {
            x[k].copysign(at - 0.5)
        } else {
            // Once in 36,000,000,000 numbers.
            tail(at)
        };
    }
}

/// Replaces probabilities of tails by √(−ln p), and gives the distances where that is at most [`FAR`].
#[inline(always)]
fn tails(x: &mut [f64; LANES], r: &mut [f64; LANES]) {
    for l in 0..LANES {
        r[l] = (-ln(r[l])).sqrt();
        x[l] = near(r[l]);
    }
}

/// The natural logarithm of a positive normal number, with the operations of `libm::log` in their order; what it gives
/// for others lies beyond [`FAR`].
///
/// x = 2ᵏ(1 + f) with 1 + f between √½ and √2; log(1 + f) is a polynomial of s = f/(2 + f), and 2ᵏ is added in two parts.
#[inline(always)]
fn ln(x: f64) -> f64 {
    /// The upper halves of 1 and of √½.
    const ONE: u64 = 0x3ff0_0000 << 32;
    const ROOT: u64 = 0x3fe6_a09e << 32;
    const MANTISSA: u64 = (1 << 52) - 1;
    /// 2⁵²: a number below it, put into its mantissa, is that number beyond it.
    const SHIFT: u64 = 0x4330_0000 << 32;
    let bits = x.to_bits().wrapping_add(ONE - ROOT);
    let k = f64::from_bits(SHIFT | (bits >> 52)) - (f64::from_bits(SHIFT) + 1023.0);
    let f = f64::from_bits((bits & MANTISSA) + ROOT) - 1.0;
    let half = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (0.399_999_999_994_094_2 + w * (0.222_221_984_321_497_84 + w * 0.153_138_376_992_093_73));
    let odd = z
        * (0.666_666_666_666_673_5
            + w * (0.285_714_287_436_623_9 + w * (0.181_835_721_616_180_5 + w * 0.147_981_986_051_165_86)));
    s * (half + (odd + even)) + k * 1.908_214_929_270_587_7e-10 - half + f + k * 0.693_147_180_369_123_8
}

#[cfg(test)]
mod tests {
    use super::super::quantile;
    use super::*;
    use crate::Key;

    #[test]
    fn many_at_once_give_the_same_bits_on_every_instruction_set() {
        let mut all: Vec<f64> = (0..100_000).map(|i| (f64::from(i) + 0.5) / 100_000.0).collect();
        let mut draws = Key::root(3).draws();
        // Tails down to 1e-20 from either side.
        for _ in 0..100_000 {
            let p = libm::pow(10.0, -20.0 * draws.uniform());
            all.extend([p, 1.0 - p]);
        }
        all.extend([0.0, 1e-310, 1e-300, 1e-17, 0.075, 0.925, 1.0 - 1e-16, 1.0]);
        let single: Vec<u64> = all.iter().map(|&p| quantile(p).to_bits()).collect();
        let bits = |all: Vec<f64>| all.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        let (mut chosen, mut portable) = (all.clone(), all);
        quantiles(&mut chosen);
        body(&mut portable);
        assert!(bits(chosen) == single);
        assert!(bits(portable) == single);
    }

    #[test]
    fn the_logarithm_is_libms() {
        let mut draws = Key::root(4).draws();
        for _ in 0..200_000 {
            let x = libm::pow(10.0, -300.0 * draws.uniform());
            assert_eq!(ln(x).to_bits(), libm::log(x).to_bits(), "{x}");
        }
    }
}
