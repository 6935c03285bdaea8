//! An append-only journal: records with a checksum each, in files of a bounded size (segments), flushed in groups.
//!
//! `append` puts a record into memory and numbers it; a thread of its own writes what has gathered, flushes it with one
//! `fdatasync`, and then lets everybody go who waits for one of those records ([`Commit`]). So the price of a flush is
//! shared by all who came while the last one was under way, and nothing is acknowledged before it.
//!
//! A disk that fails loses nothing that was acknowledged: what is not flushed stays in memory, those who wait are told,
//! and the thread writes the same bytes to the same places again until the disk takes them. Half a record is left only by
//! a process that dies meanwhile, at the very end, where the next start cuts it off.

mod commit;
pub mod disk;
pub mod fail;
pub mod record;
pub mod segments;
mod writer;

pub use commit::Commit;
pub use record::Record;
pub use segments::{End, Segments};
pub use writer::{Health, Journal, Options, Reader};

/// Where a record lies. It never moves, not even when others are forgotten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Location {
    /// The number of the segment; 0 is nowhere.
    pub segment: u32,
    /// Bytes from its beginning.
    pub offset: u32,
}

impl Location {
    /// No record.
    pub const NOWHERE: Location = Location { segment: 0, offset: 0 };

    /// As one number.
    pub fn bits(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }

    /// From one number.
    pub fn from_bits(bits: u64) -> Self {
        Location {
            segment: (bits >> 32) as u32,
            offset: bits as u32,
        }
    }
}

/// Where the journal goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The segment and the offset in it; offset 0 begins a new file.
    pub at: Location,
    /// The number of the next record.
    pub next_seq: u64,
}
