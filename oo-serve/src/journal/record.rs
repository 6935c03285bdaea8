//! A record and a segment's head, as bytes. All numbers are little-endian.
//!
//! ```text
//! segment  magic 8 · format u32 · 0 u32 · first seq u64 · CRC32C of the 24 bytes before u32 · 0 u32
//! record   CRC32C of all that follows u32 · payload bytes u32 · seq u64 · stamp u64 · kind u8 · version u8 · 0 u16 · payload
//! ```

use super::Location;

/// Bytes before a record's payload.
pub const HEAD: usize = 28;
/// Bytes before a segment's first record.
pub const SEGMENT_HEAD: usize = 32;
/// The journal's format. Rises when older programs could misread it, and has the snapshots' number. Format 2 has
/// people's histories, format 3 experiments, shadows that last, and what the policy would have done where the caller chose,
/// format 4 policies that can come back, format 5 what early feedback says of its decision.
pub const FORMAT: u32 = 5;
/// Bytes of a payload, at most.
pub const MAX_PAYLOAD: usize = 16 << 20;

const MAGIC: &[u8; 8] = b"oOjrnl\r\n";

/// The kind of a record that was blanked: its payload is zeros.
pub const BLANK: u8 = 0;

/// A record in memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Record<'a> {
    /// Where it lies.
    pub at: Location,
    /// Its number; the next one's is one more.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub time: u64,
    /// What it is.
    pub kind: u8,
    /// The version of its payload.
    pub version: u8,
    /// The rest.
    pub payload: &'a [u8],
}

impl Record<'_> {
    /// Bytes in the file.
    pub fn size(&self) -> usize {
        HEAD + self.payload.len()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Appends a record.
pub fn write(out: &mut Vec<u8>, seq: u64, time: u64, (kind, version): (u8, u8), payload: &[u8]) {
    debug_assert!(payload.len() <= MAX_PAYLOAD);
    let start = out.len();
    out.reserve(HEAD + payload.len());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&[kind, version, 0, 0]);
    out.extend_from_slice(payload);
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// What stands at the beginning of some bytes.
#[derive(Debug)]
pub enum Found<'a> {
    /// A whole record.
    Record(Record<'a>),
    /// The beginning of a record that needs so many bytes in all.
    Needs(usize),
    /// Nothing that was ever written here.
    Bad(String),
}

/// False where a few bytes tell already that no whole record stands there, which is faster than its checksum.
pub fn is_likely(bytes: &[u8]) -> bool {
    bytes.len() >= HEAD && u32_at(bytes, 4) as usize <= bytes.len() - HEAD && bytes[26..28] == [0, 0]
}

/// Reads the record at the beginning of `bytes`.
pub fn read(bytes: &[u8], at: Location) -> Found<'_> {
    if bytes.len() < HEAD {
        return Found::Needs(HEAD);
    }
    let len = u32_at(bytes, 4) as usize;
    if len > MAX_PAYLOAD {
        return Found::Bad(format!(
            "a record of {len} bytes at offset {}; at most {MAX_PAYLOAD} are written",
            at.offset
        ));
    }
    if bytes.len() < HEAD + len {
        return Found::Needs(HEAD + len);
    }
    if crc32c::crc32c(&bytes[4..HEAD + len]) != u32_at(bytes, 0) {
        return Found::Bad(format!("the checksum of the record at offset {} differs", at.offset));
    }
    Found::Record(Record {
        at,
        seq: u64_at(bytes, 8),
        time: u64_at(bytes, 16),
        kind: bytes[24],
        version: bytes[25],
        payload: &bytes[HEAD..HEAD + len],
    })
}

/// The first bytes of a segment.
pub fn segment_head(first_seq: u64) -> [u8; SEGMENT_HEAD] {
    head_of_format(FORMAT, first_seq)
}

/// The same in any format, for tests of what a newer one meets.
pub fn head_of_format(format: u32, first_seq: u64) -> [u8; SEGMENT_HEAD] {
    let mut head = [0; SEGMENT_HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&format.to_le_bytes());
    head[16..24].copy_from_slice(&first_seq.to_le_bytes());
    let crc = crc32c::crc32c(&head[..24]);
    head[24..28].copy_from_slice(&crc.to_le_bytes());
    head
}

/// What a segment's first bytes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head {
    /// The number of its first record.
    First(u64),
    /// A format from the future.
    Newer(u32),
    /// No head, or a damaged one.
    Bad,
}

/// Reads a segment's first bytes.
pub fn read_segment_head(bytes: &[u8]) -> Head {
    if bytes.len() < SEGMENT_HEAD || &bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..24]) != u32_at(bytes, 24) {
        return Head::Bad;
    }
    match u32_at(bytes, 8) {
        1..=FORMAT => Head::First(u64_at(bytes, 16)),
        newer if newer > FORMAT => Head::Newer(newer),
        _ => Head::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_no_flipped_bit_passes() {
        let at = Location { segment: 1, offset: 32 };
        let mut bytes = Vec::new();
        write(&mut bytes, 7, 1_700_000_000_000, (3, 1), b"payload");
        let Found::Record(r) = read(&bytes, at) else {
            panic!("unreadable")
        };
        assert_eq!((r.seq, r.kind, r.version, r.payload), (7, 3, 1, &b"payload"[..]));
        assert_eq!(r.size(), bytes.len());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(read(&flipped, at), Found::Record(_)), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(matches!(read(&bytes[..cut], at), Found::Needs(_)), "{cut}");
        }
    }

    #[test]
    fn a_segment_head_comes_back() {
        assert_eq!(read_segment_head(&segment_head(9)), Head::First(9));
        assert_eq!(
            read_segment_head(&head_of_format(FORMAT + 1, 9)),
            Head::Newer(FORMAT + 1)
        );
        let mut damaged = segment_head(9);
        damaged[17] ^= 1;
        assert_eq!(read_segment_head(&damaged), Head::Bad);
    }
}
