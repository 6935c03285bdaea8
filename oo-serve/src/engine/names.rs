//! Names of decisions that the caller left to us.
//!
//! 32 hexadecimal digits: stamp (48 bits), salt of this start (24), counter (24), check (32). The check says that the
//! name was made here, so that a feedback for it is told from one for nothing, however old it is, without remembering it.

use oo_core::Key;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Names {
    key: Key,
    salt: u64,
    counter: AtomicU64,
}

impl Names {
    /// `salt` differs from start to start.
    pub fn new(seed: u64, salt: u64) -> Self {
        Names {
            key: Key::root(seed).name("decision name"),
            salt: salt & 0xff_ffff,
            counter: AtomicU64::new(0),
        }
    }

    fn check(&self, high: u64, low: u64) -> u64 {
        self.key.fold(high).fold(low).bits() >> 32
    }

    /// A new name.
    pub fn make(&self, time: u64) -> String {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        // A counter that has gone round moves into the salt.
        let salt = self.salt.wrapping_add(counter >> 24) & 0xff_ffff;
        let high = (time & 0xffff_ffff_ffff) << 16 | salt >> 8;
        let low = (salt & 0xff) << 24 | counter & 0xff_ffff;
        format!("{high:016x}{low:08x}{:08x}", self.check(high, low))
    }

    /// The stamp in a name that was made here.
    pub fn stamp(&self, name: &str) -> Option<u64> {
        let lower = name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if name.len() != 32 || !lower {
            return None;
        }
        let number = |part: &str| u64::from_str_radix(part, 16).ok();
        let (high, low) = (number(&name[..16])?, number(&name[16..24])?);
        (self.check(high, low) == number(&name[24..])?).then_some(high >> 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_differ_and_are_known_again() {
        let names = Names::new(1, 99);
        let made: BTreeSet<String> = (0..10_000).map(|i| names.make(1_700_000_000_000 + i / 100)).collect();
        assert_eq!(made.len(), 10_000);
        let one = names.make(1_700_000_000_123);
        assert_eq!(names.stamp(&one), Some(1_700_000_000_123));
        // One digit in 16 that comes out right by chance eight times over: false alarm 32 · 15 / 2³².
        for i in 0..32 {
            let mut other: Vec<u8> = one.clone().into();
            other[i] = if other[i] == b'0' { b'1' } else { b'0' };
            assert_eq!(names.stamp(std::str::from_utf8(&other).unwrap()), None);
        }
        assert_eq!(
            names.stamp(&one.to_uppercase()).filter(|_| one != one.to_uppercase()),
            None
        );
        assert_eq!(Names::new(2, 99).stamp(&one), None);
    }
}
