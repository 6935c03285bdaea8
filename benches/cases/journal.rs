//! Appending to the journal. The thread behind it writes to no file: what a disk costs is not a matter of instructions.

use super::{Case, Work};
use oo_serve::engine::Durability;
use oo_serve::journal::disk::{Disk, Sink};
use oo_serve::journal::{Journal, Location, Options, Position, record};
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::sync::Arc;

const RECORDS: u64 = 1024;
/// About a decision among ten candidates.
const PAYLOAD: usize = 300;

/// The record's bytes, and the whole append.
pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("journal", "record", write),
        Case::new("journal", "append", append),
    ]
}

fn payload() -> Vec<u8> {
    (0..PAYLOAD).map(|i| (i * 31) as u8).collect()
}

fn write() -> Work {
    let (payload, mut out) = (
        payload(),
        Vec::with_capacity(RECORDS as usize * (record::HEAD + PAYLOAD)),
    );
    Box::new(move || {
        out.clear();
        for seq in 1..=RECORDS {
            record::write(&mut out, seq, 1_700_000_000_000, (1, 1), black_box(&payload));
        }
        black_box(&out);
    })
}

fn append() -> Work {
    let options = Options {
        durability: Durability::Process,
        segment_bytes: 64 << 20,
        disk: Arc::new(Nowhere),
    };
    let start = Position {
        at: Location::NOWHERE,
        next_seq: 1,
    };
    let journal = Journal::open(Path::new("nowhere"), start, options).expect("a journal");
    let payload = payload();
    journal.append(1_700_000_000_000, (1, 1), &payload).expect("a place");
    Box::new(move || {
        for _ in 0..RECORDS {
            let place = journal.append(1_700_000_000_000, (1, 1), black_box(&payload));
            black_box(place).expect("a place");
        }
    })
}

struct Nowhere;

impl Disk for Nowhere {
    fn create(&self, _: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(Nowhere))
    }
    fn open(&self, _: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(Nowhere))
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Nowhere {
    fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
