//! The journal that is written: memory in front, a thread that writes and flushes behind.

use super::commit::Commit;
use super::disk::{Disk, Sink};
use super::fail;
use super::record::{self, Found, MAX_PAYLOAD, Record, SEGMENT_HEAD};
use super::{Location, Position, Segments};
use crate::engine::settings::Durability;
use crate::{Error, Result};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of a chunk.
const CHUNK: usize = 64 * 1024;
/// Records that nobody waits for are written after this time at the latest.
const IDLE_WRITE: Duration = Duration::from_millis(10);
/// And flushed after this one.
const IDLE_FLUSH: Duration = Duration::from_secs(1);
/// Between two attempts at a disk that fails.
const RETRY: Duration = Duration::from_millis(200);
/// What may gather in memory while the disk fails, or does not come back; records beyond it are refused.
const BACKLOG: usize = 64 << 20;

/// How a journal is written.
#[derive(Clone)]
pub struct Options {
    /// When a record counts as committed.
    pub durability: Durability,
    /// A segment is closed at this size.
    pub segment_bytes: u64,
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
}

/// What a journal says about its disk.
#[derive(Clone, PartialEq, Debug)]
pub struct Health {
    /// Why the disk does not take records now; `None` when it does.
    pub failure: Option<String>,
    /// Bytes that are not written yet.
    pub backlog: usize,
    /// The number of the last committed record.
    pub committed: u64,
    /// The number of the last record.
    pub last: u64,
    /// Flushes so far.
    pub flushes: u64,
    /// Failures so far.
    pub failures: u64,
}

/// Bytes that lie side by side in one segment.
struct Chunk {
    at: Location,
    first_seq: u64,
    last_seq: u64,
    bytes: Vec<u8>,
}

pub(super) struct Failure {
    why: String,
    full: bool,
}

impl Failure {
    fn behind() -> Self {
        Failure {
            why: format!("{} MiB wait for the disk already", BACKLOG >> 20),
            full: false,
        }
    }
}

pub(super) struct Head {
    /// What has gathered, oldest first.
    gathered: VecDeque<Chunk>,
    /// What the thread is writing. It stays readable until it is in the file.
    writing: Arc<Vec<Chunk>>,
    at: Location,
    next_seq: u64,
    bytes: usize,
    /// Somebody waits for this record.
    wanted: u64,
    /// Somebody waits for a flush, whatever there is.
    settling: bool,
    pub(super) committed: u64,
    pub(super) failure: Option<Failure>,
    /// Rises with every failure, so that whoever waited through one learns of it.
    pub(super) failures: u64,
    flushes: u64,
    pub(super) wakers: Vec<Waker>,
    /// A record was refused, since too much waited, and that is not much less yet.
    refused: bool,
    stop: bool,
}

pub(super) struct Inner {
    head: Mutex<Head>,
    work: Condvar,
    pub(super) done: Condvar,
    segments: Segments,
    options: Options,
}

/// See the module above.
pub struct Journal {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

/// Reads what a journal holds.
pub struct Reader(Arc<Inner>);

impl Reader {
    /// See [`Journal::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read<'b>(&self, at: Location, buffer: &'b mut Vec<u8>) -> Result<Record<'b>> {
        self.0.read(at, buffer)
    }

    /// The file of a place.
    pub fn path(&self, at: Location) -> PathBuf {
        self.0.segments.path(at.segment)
    }

    /// True once the journal is being closed.
    pub fn closed(&self) -> bool {
        self.0.head().stop
    }
}

impl Inner {
    pub(super) fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record at a place, whether it is in the file yet or not.
    ///
    /// # Errors
    /// A segment that is gone, a place where no sound record is.
    fn read<'b>(&self, at: Location, buffer: &'b mut Vec<u8>) -> Result<Record<'b>> {
        let in_memory = {
            let head = self.head();
            let mut chunks = head.writing.iter().chain(&head.gathered);
            let holds = |c: &&Chunk| {
                c.at.segment == at.segment
                    && c.at.offset <= at.offset
                    && ((at.offset - c.at.offset) as usize) < c.bytes.len()
            };
            chunks.find(holds).is_some_and(|chunk| {
                let bytes = &chunk.bytes[(at.offset - chunk.at.offset) as usize..];
                let Found::Record(found) = record::read(bytes, at) else {
                    return false;
                };
                buffer.clear();
                buffer.extend_from_slice(&bytes[..found.size()]);
                true
            })
        };
        if !in_memory {
            return self.segments.read(at, buffer);
        }
        match record::read(buffer, at) {
            Found::Record(found) => Ok(found),
            _ => Err(Error::Damaged {
                path: self.segments.path(at.segment),
                why: format!("no record at offset {}", at.offset),
            }),
        }
    }

    pub(super) fn unavailable(failure: Option<&Failure>) -> Error {
        Error::Unavailable {
            why: failure.map_or("it failed a moment ago".into(), |f| f.why.clone()),
            full: failure.is_some_and(|f| f.full),
            retry_after: Duration::from_secs(1),
        }
    }
}

impl Journal {
    /// Goes on at a position of the folder's files.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn open(dir: &Path, from: Position, mut options: Options) -> Result<Self> {
        // A place in a segment has 32 bits.
        options.segment_bytes = options.segment_bytes.min(1 << 31);
        let inner = Arc::new(Inner {
            head: Mutex::new(Head {
                gathered: VecDeque::new(),
                writing: Arc::default(),
                at: from.at,
                next_seq: from.next_seq,
                bytes: 0,
                wanted: 0,
                settling: false,
                committed: from.next_seq - 1,
                failure: None,
                failures: 0,
                flushes: 0,
                wakers: Vec::new(),
                refused: false,
                stop: false,
            }),
            work: Condvar::new(),
            done: Condvar::new(),
            segments: Segments::on(dir, Arc::clone(&options.disk)),
            options,
        });
        let thread = std::thread::Builder::new().name("journal".into()).spawn({
            let inner = Arc::clone(&inner);
            move || Writer::new(&inner).run()
        });
        let thread = Some(thread.map_err(Error::io("start a thread for", dir))?);
        Ok(Journal { inner, thread })
    }

    /// Puts a record into memory and numbers it. Returns its number and place.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when 64 MiB wait for a disk that fails, hangs or is slower than what comes; [`Error::Invalid`] for a
    /// payload that is too long.
    pub fn append(&self, time: u64, kind: (u8, u8), payload: &[u8]) -> Result<(u64, Location)> {
        if payload.len() > MAX_PAYLOAD {
            let expected = format!("at most {MAX_PAYLOAD} bytes in a record");
            return Err(Error::invalid("body", expected, payload.len()));
        }
        fail::point("append.before");
        let mut head = self.inner.head();
        let head = &mut *head;
        if head.bytes + payload.len() > BACKLOG {
            head.refused = true;
            let behind = Failure::behind();
            return Err(Inner::unavailable(head.failure.as_ref().or(Some(&behind))));
        }
        let seq = head.next_seq;
        let idle = head.gathered.is_empty();
        if head.at.offset == 0 || u64::from(head.at.offset) >= self.inner.options.segment_bytes {
            head.turn();
        }
        // A chunk that is full is not made larger: growing copies it, and large pieces of memory are given back to the
        // system and cleared anew each time.
        let full = |c: &Chunk| c.at.segment != head.at.segment || c.bytes.len() + payload.len() > CHUNK;
        if head.gathered.back().is_none_or(full) {
            head.gathered.push_back(Chunk {
                at: head.at,
                first_seq: seq,
                last_seq: seq,
                bytes: Vec::with_capacity(CHUNK),
            });
        }
        let at = head.at;
        if let Some(chunk) = head.gathered.back_mut() {
            let before = chunk.bytes.len();
            record::write(&mut chunk.bytes, seq, time, kind, payload);
            chunk.last_seq = seq;
            let size = chunk.bytes.len() - before;
            head.at.offset += size as u32;
            head.bytes += size;
        }
        head.next_seq += 1;
        fail::point("append.after");
        // The thread looks by itself soon; it need only be woken when it may be asleep for long.
        if idle {
            self.inner.work.notify_one();
        }
        Ok((seq, at))
    }

    /// The record at a place, whether it is in the file yet or not.
    ///
    /// # Errors
    /// A segment that is gone, a place where no sound record is.
    pub fn read<'b>(&self, at: Location, buffer: &'b mut Vec<u8>) -> Result<Record<'b>> {
        self.inner.read(at, buffer)
    }

    /// For those who read on a thread of their own.
    pub fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.inner))
    }

    /// Waits until a record is committed: block on it or await it.
    pub fn commit(&self, seq: u64) -> Commit {
        let mut head = self.inner.head();
        if head.wanted < seq {
            head.wanted = seq;
            self.inner.work.notify_one();
        }
        Commit {
            failures: head.failures,
            failed: head.failure.is_some(),
            seq,
            inner: Arc::clone(&self.inner),
        }
    }

    /// Waits until no record that is committed by now will be written once more: one that is not flushed yet is, after the
    /// disk has failed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the disk fails.
    pub fn settle(&self) -> Result<()> {
        let mut head = self.inner.head();
        let (flushes, failures) = (head.flushes, head.failures);
        head.settling = true;
        self.inner.work.notify_one();
        while head.flushes == flushes {
            if head.failure.is_some() || head.failures != failures {
                return Err(Inner::unavailable(head.failure.as_ref()));
            }
            head = self.inner.done.wait(head).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Begins a new segment with the next record. Returns the number of the one that is thereby closed.
    pub fn rotate(&self) -> u32 {
        let mut head = self.inner.head();
        let closed = head.at.segment;
        if head.at.offset > 0 {
            head.at = Location {
                segment: closed,
                offset: u32::MAX,
            };
        }
        closed
    }

    /// Refuses when the disk does not take records now.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn writable(&self) -> Result<()> {
        match &self.inner.head().failure {
            None => Ok(()),
            failure => Err(Inner::unavailable(failure.as_ref())),
        }
    }

    /// How it goes.
    pub fn health(&self) -> Health {
        let mut head = self.inner.head();
        // Small records may fit meanwhile.
        head.refused &= head.bytes > BACKLOG / 2;
        let behind = head.refused.then(Failure::behind);
        Health {
            failure: head.failure.as_ref().or(behind.as_ref()).map(|f| f.why.clone()),
            backlog: head.bytes,
            committed: head.committed,
            last: head.next_seq - 1,
            flushes: head.flushes,
            failures: head.failures,
        }
    }

    /// The files.
    pub fn segments(&self) -> &Segments {
        &self.inner.segments
    }
}

impl Drop for Journal {
    /// Writes and flushes what is left; gives up at the first failure.
    fn drop(&mut self) {
        self.inner.head().stop = true;
        self.inner.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has left the files as a crash would have.
            let _ = thread.join();
        }
    }
}

impl Head {
    /// The next record begins a segment.
    fn turn(&mut self) {
        fail::point("rotate.before");
        self.at = Location {
            segment: self.at.segment + 1,
            offset: SEGMENT_HEAD as u32,
        };
        fail::point("rotate.after");
    }
}

struct Writer<'a> {
    inner: &'a Inner,
    /// The file in hand and its segment.
    file: Option<(u32, Box<dyn Sink>)>,
    flushed: Instant,
    /// Written, not flushed: a flush that fails may have lost these, so they are kept for another attempt.
    unflushed: Vec<Arc<Vec<Chunk>>>,
}

impl<'a> Writer<'a> {
    fn new(inner: &'a Inner) -> Self {
        Writer {
            inner,
            file: None,
            flushed: Instant::now(),
            unflushed: Vec::new(),
        }
    }

    fn dirty(&self) -> bool {
        !self.unflushed.is_empty()
    }

    fn run(mut self) {
        loop {
            let (batch, wanted, stop) = self.gather();
            let flush = wanted || stop || self.flushed.elapsed() >= IDLE_FLUSH;
            let end = batch.last().map(|c| c.last_seq);
            self.unflushed.push(Arc::clone(&batch));
            match self.write(batch.iter(), flush, false) {
                Ok(()) => self.committed(end, flush),
                Err(error) if stop => return self.failed(&error),
                Err(error) => {
                    self.failed(&error);
                    if !self.insist() {
                        return;
                    }
                    self.committed(end, true);
                }
            }
            if stop && self.inner.head().gathered.is_empty() {
                return;
            }
        }
    }

    /// Sleeps until there is something to do; takes what has gathered.
    fn gather(&mut self) -> (Arc<Vec<Chunk>>, bool, bool) {
        let mut head = self.inner.head();
        let begun = Instant::now();
        loop {
            let settling = head.settling;
            let wanted = head.wanted > head.committed || settling;
            let waiting = !head.gathered.is_empty();
            let overdue = waiting && begun.elapsed() >= IDLE_WRITE;
            let unflushed = self.dirty() && self.flushed.elapsed() >= IDLE_FLUSH;
            if head.stop || settling || (wanted && (waiting || self.dirty())) || overdue || unflushed {
                head.settling = false;
                let batch: Arc<Vec<Chunk>> = Arc::new(head.gathered.drain(..).collect());
                head.writing = Arc::clone(&batch);
                return (batch, wanted, head.stop);
            }
            let patience = match (waiting, self.dirty()) {
                (true, _) => IDLE_WRITE,
                (false, true) => IDLE_FLUSH,
                (false, false) => Duration::from_secs(3600),
            };
            let waited = self.inner.work.wait_timeout(head, patience);
            head = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes chunks where they belong. `again`: after a failure, when the file may hold any part of them. It is not cut
    /// back then: whoever reads a record that was written, but not flushed, must find it at any moment.
    fn write<'c>(&mut self, batch: impl IntoIterator<Item = &'c Chunk>, flush: bool, again: bool) -> io::Result<()> {
        for chunk in batch {
            if self
                .file
                .as_ref()
                .is_none_or(|(segment, _)| *segment != chunk.at.segment)
            {
                // Whatever was written to the file before this one is part of what is committed next.
                if let (Some((_, file)), Durability::Disk) = (&mut self.file, self.inner.options.durability) {
                    file.sync()?;
                }
                self.file = Some((chunk.at.segment, self.begin(chunk, again)?));
            }
            let Some((_, file)) = &mut self.file else { continue };
            let offset = u64::from(chunk.at.offset);
            fail::point("write.before");
            if fail::due("write.half") {
                // A torn write, as a power cut leaves it.
                let _ = file.write_at(&chunk.bytes[..chunk.bytes.len() / 2], offset);
                std::process::abort();
            }
            file.write_at(&chunk.bytes, offset)?;
            fail::point("write.after");
        }
        if flush {
            fail::point("flush.before");
            if let (Some((_, file)), Durability::Disk) = (&mut self.file, self.inner.options.durability) {
                file.sync()?;
            }
            fail::point("flush.after");
            self.unflushed.clear();
            self.flushed = Instant::now();
        }
        Ok(())
    }

    /// The file of a chunk: there already, or made now.
    fn begin(&self, chunk: &Chunk, again: bool) -> io::Result<Box<dyn Sink>> {
        let path = self.inner.segments.path(chunk.at.segment);
        let disk = &self.inner.options.disk;
        if chunk.at.offset as usize > SEGMENT_HEAD {
            return disk.open(&path);
        }
        let mut file = match again && path.exists() {
            true => disk.open(&path)?,
            false => disk.create(&path)?,
        };
        file.write_at(&record::segment_head(chunk.first_seq), 0)?;
        disk.sync_dir(self.inner.segments.dir())?;
        Ok(file)
    }

    /// Tries again until the disk takes all that is not flushed; false when it is time to stop.
    fn insist(&mut self) -> bool {
        loop {
            let mut head = self.inner.head();
            if !head.stop {
                let waited = self.inner.work.wait_timeout(head, RETRY);
                head = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if head.stop {
                return false;
            }
            drop(head);
            // A file that failed is opened anew: after a failed flush nobody knows what the old handle still holds.
            self.file = None;
            let all = self.unflushed.clone();
            let chunks = all.iter().flat_map(|batch| batch.iter());
            match self.write(chunks, true, true) {
                Ok(()) => return true,
                Err(error) => self.failed(&error),
            }
        }
    }

    fn committed(&mut self, end: Option<u64>, flushed: bool) {
        let mut head = self.inner.head();
        head.bytes -= head.writing.iter().map(|c| c.bytes.len()).sum::<usize>();
        head.writing = Arc::default();
        head.failure = None;
        // With `Process` a written record counts; with `Disk` only a flushed one.
        let process = self.inner.options.durability == Durability::Process;
        let all_written = head.gathered.front().map_or(head.next_seq, |c| c.first_seq) - 1;
        if flushed || process {
            head.committed = end.unwrap_or(all_written).max(head.committed);
        }
        head.flushes += u64::from(flushed);
        let wakers = std::mem::take(&mut head.wakers);
        drop(head);
        self.inner.done.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn failed(&self, error: &io::Error) {
        let mut head = self.inner.head();
        head.failures += 1;
        head.failure = Some(Failure {
            why: error.to_string(),
            full: error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded,
        });
        let wakers = std::mem::take(&mut head.wakers);
        drop(head);
        self.inner.done.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}
