//! W3C Trace Context: the caller's trace goes on, or one begins here.
//!
//! <https://www.w3.org/TR/trace-context/>, version 00.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The identity of one request among those of all programs that took part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace {
    /// Of the whole; never 0.
    pub trace: u128,
    /// Of the caller's part, where there is one.
    pub parent: Option<u64>,
    /// The caller records this trace: the request is logged whatever the level.
    pub sampled: bool,
}

impl Trace {
    /// From the header `traceparent`; a header that is not valid counts as none.
    pub fn of(header: Option<&[u8]>) -> Trace {
        header.and_then(parse).unwrap_or_else(|| Trace {
            trace: fresh(),
            parent: None,
            sampled: false,
        })
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.trace)
    }
}

fn parse(header: &[u8]) -> Option<Trace> {
    let text = std::str::from_utf8(header).ok()?;
    // A later version may append fields; version ff is forbidden.
    let bytes = text.as_bytes();
    let later = bytes.len() > 55 && &text.as_bytes()[..2] != b"00" && bytes[55] == b'-';
    if !(bytes.len() == 55 || later) || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' || !text.is_ascii() {
        return None;
    }
    let hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let (version, trace, parent, flags) = (&text[..2], &text[3..35], &text[36..52], &text[53..55]);
    if version == "ff" || ![version, trace, parent, flags].iter().all(|p| hex(p)) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|t| *t != 0)?;
    let parent = u64::from_str_radix(parent, 16).ok().filter(|p| *p != 0)?;
    Some(Trace {
        trace,
        parent: Some(parent),
        sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
    })
}

/// An identity that nobody has: it names, so it must be unique and need not repeat.
pub fn fresh() -> u128 {
    static SALT: LazyLock<[u64; 2]> = LazyLock::new(|| {
        let state = RandomState::new();
        [state.hash_one(0), state.hash_one(1)]
    });
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let low = oo_core::Key::root(SALT[0]).fold(count).bits();
    ((u128::from(SALT[1]) << 64) | u128::from(low)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_trace_goes_on() {
        let header = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace::of(Some(header));
        assert_eq!(trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((trace.parent, trace.sampled), (Some(0x00f0_67aa_0ba9_02b7), true));
    }

    #[test]
    fn what_is_not_valid_counts_as_none() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "é0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        ] {
            assert_eq!(Trace::of(Some(bad.as_bytes())).parent, None, "{bad}");
        }
        let later = b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what";
        assert!(Trace::of(Some(later)).parent.is_some());
        assert_ne!(fresh(), fresh());
    }
}
