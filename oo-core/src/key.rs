//! Randomness as a value.
//!
//! A [`Key`] is 128 bits. Folding a name or a number gives another key; a key gives one number, or a stream of
//! them. Nothing stores a generator, so no result depends on the order in which parts of a program draw.
//! Keys fold names and identifiers, never positions: adding a policy or reordering candidates moves nobody's
//! numbers.
//!
//! The generator is PCG-XSL-RR 128/64 MCG (O'Neill 2014), pinned by `golden_numbers` below.

use crate::normal;
use rand::Rng;
use rand_pcg::Pcg64Mcg;

/// A point in the tree of all random numbers of a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key([u64; 2]);

/// Stafford's "Mix13" finaliser of splitmix64: a bijection in which every input bit moves every output bit.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a over the bytes, finished by the same mixing as keys; usable in constants so that hot paths fold a number.
pub const fn hash_name(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < bytes.len() {
        h = (h ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    mix(h)
}

impl Key {
    /// The root of a run.
    pub const fn root(seed: u64) -> Key {
        Key([
            mix(seed ^ 0x6f4f_6f4f_6f4f_6f4f),
            mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)),
        ])
    }

    /// The child named `name`.
    #[must_use]
    pub const fn name(self, name: &str) -> Key {
        self.fold(hash_name(name))
    }

    /// The child numbered `value`.
    #[must_use]
    pub const fn fold(self, value: u64) -> Key {
        let [a, b] = self.0;
        let c = mix(a.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(value ^ b));
        Key([c, mix(b.wrapping_add(0xd1b5_4a32_d192_ed03) ^ c.rotate_left(29))])
    }

    /// 64 bits that belong to this key alone.
    pub const fn bits(self) -> u64 {
        mix(self.0[0] ^ self.0[1].rotate_left(32))
    }

    /// One uniform number in [0, 1), on a grid of 2⁻⁵³.
    pub fn uniform(self) -> f64 {
        unit(self.bits())
    }

    /// One standard normal number.
    pub fn normal(self) -> f64 {
        normal::quantile(open_unit(self.bits()))
    }

    /// A stream of numbers, when one key needs many.
    pub fn draws(self) -> Draws {
        Draws(Pcg64Mcg::new((u128::from(self.0[0]) << 64) | u128::from(self.0[1])))
    }
}

fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// In (0, 1): the middle of a cell of width 2⁻⁵², so that quantiles are finite.
fn open_unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
}

/// Numbers drawn one after another from one key.
#[derive(Clone, Debug)]
pub struct Draws(Pcg64Mcg);

impl Draws {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        unit(self.0.next_u64())
    }

    /// Standard normal, by inversion: one draw a number, so streams stay aligned.
    pub fn normal(&mut self) -> f64 {
        normal::quantile(open_unit(self.0.next_u64()))
    }

    /// Fills `out` with what as many calls of [`normal`](Draws::normal) would give, faster.
    pub fn normals(&mut self, out: &mut [f64]) {
        out.iter_mut().for_each(|x| *x = open_unit(self.0.next_u64()));
        normal::quantiles(out);
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(open_unit(self.0.next_u64()))
    }

    /// Uniform on `0..n` without bias (Lemire 2019); `n` must be positive.
    pub fn below(&mut self, n: usize) -> usize {
        debug_assert!(n > 0);
        let n = n as u64;
        loop {
            let m = u128::from(self.0.next_u64()) * u128::from(n);
            if (m as u64) >= n || (m as u64) >= n.wrapping_neg() % n {
                return (m >> 64) as usize;
            }
        }
    }

    /// Fisher–Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_numbers() {
        // Changing any of these changes every result ever published with the workbench.
        let key = Key::root(42).name("world").fold(7);
        let mut draws = key.draws();
        assert_eq!(
            [key.bits(), draws.0.next_u64(), draws.0.next_u64()],
            GOLDEN,
            "the generator has moved"
        );
    }
    const GOLDEN: [u64; 3] = [
        13_496_320_567_075_899_693,
        8_761_562_246_031_470_247,
        2_355_577_585_797_543_500,
    ];

    #[test]
    fn siblings_are_uncorrelated() {
        // 10,000 neighbours under three foldings; the mean of a uniform has sd 0.00289, so 5 sd = 0.0144:
        // false alarm 2e-6 over the three.
        for shift in [0u32, 17, 40] {
            let mean = (0..10_000u64)
                .map(|i| Key::root(1).fold(i << shift).uniform())
                .sum::<f64>()
                / 10_000.0;
            assert!((mean - 0.5).abs() < 0.0144, "{mean}");
        }
        let lag = (0..10_000u64)
            .map(|i| (Key::root(i).uniform() - 0.5) * (Key::root(i + 1).uniform() - 0.5))
            .sum::<f64>()
            / 10_000.0;
        assert!(lag.abs() < 5.0 / 12.0 / 100.0, "{lag}");
    }

    #[test]
    fn order_and_name_matter() {
        let k = Key::root(0);
        assert_ne!(k.fold(1).fold(2), k.fold(2).fold(1));
        assert_ne!(k.name("a"), k.name("b"));
    }
}
