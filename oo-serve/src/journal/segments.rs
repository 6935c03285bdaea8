//! The files of a journal: `00000001.log`, `00000002.log`, … Reading them, one after another or a record at a place.

use super::Location;
use super::disk::{Disk, RealDisk};
use super::record::{self, Found, HEAD, Head, Record, SEGMENT_HEAD};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The files of a folder.
pub struct Segments {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    open: RwLock<Handles>,
}

/// Files that records were read from lately.
#[derive(Default)]
struct Handles {
    files: VecDeque<(u32, Arc<File>)>,
    /// How often one was let go of since it was replaced.
    closed: u64,
}

impl Handles {
    /// More than these take longer to find, and a process may have few.
    const MOST: usize = 32;

    fn get(&self, segment: u32) -> Option<&Arc<File>> {
        self.files.iter().find(|(s, _)| *s == segment).map(|(_, file)| file)
    }

    /// Keeps a file that was opened when so many had been let go of; not one that may have been replaced since.
    fn keep(&mut self, segment: u32, file: &Arc<File>, closed: u64) {
        if self.closed != closed || self.get(segment).is_some() {
            return;
        }
        self.files.push_back((segment, Arc::clone(file)));
        if self.files.len() > Self::MOST {
            self.files.pop_front();
        }
    }
}

/// How the reading of a segment ended.
#[derive(Clone, PartialEq, Debug)]
pub struct End {
    /// Everything before this offset is sound.
    pub offset: u64,
    /// Bytes of the file.
    pub len: u64,
    /// The number of the record that would follow.
    pub next_seq: u64,
    /// Stamp of the last record; 0 without one.
    pub time: u64,
    /// Sound records met.
    pub records: u64,
    /// Why the reading ended before the file did.
    pub defect: Option<String>,
    /// Bytes that are in no sound record and are not zero, where the whole file was read.
    pub unsound: u64,
}

impl Segments {
    /// The files of `dir`.
    pub fn new(dir: &Path) -> Self {
        Self::on(dir, Arc::new(RealDisk))
    }

    /// The same, read through a disk of the caller's.
    pub fn on(dir: &Path, disk: Arc<dyn Disk>) -> Self {
        Segments {
            dir: dir.into(),
            disk,
            open: RwLock::default(),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a segment.
    pub fn path(&self, segment: u32) -> PathBuf {
        self.dir.join(format!("{segment:08}.log"))
    }

    /// The numbers of all segments, rising.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn list(&self) -> Result<Vec<u32>> {
        let entries = fs::read_dir(&self.dir).map_err(Error::io("read the folder", &self.dir))?;
        let mut numbers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("read the folder", &self.dir))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|n| n.strip_suffix(".log"));
            numbers.extend(number.filter(|n| n.len() == 8).and_then(|n| n.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The number of a segment's first record; `None` where its head is damaged or unfinished.
    ///
    /// # Errors
    /// A file that cannot be read, or has a format from the future.
    pub fn first_seq(&self, segment: u32) -> Result<Option<u64>> {
        let path = self.path(segment);
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        let mut head = Vec::new();
        let limit = SEGMENT_HEAD as u64;
        (&mut file)
            .take(limit)
            .read_to_end(&mut head)
            .map_err(Error::io("read", &path))?;
        self.head(segment, &head)
    }

    /// The format of a segment; `None` where its head is damaged or unfinished.
    ///
    /// # Errors
    /// As [`first_seq`](Segments::first_seq).
    pub fn format(&self, segment: u32) -> Result<Option<u32>> {
        if self.first_seq(segment)?.is_none() {
            return Ok(None);
        }
        let path = self.path(segment);
        let mut head = [0; 12];
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        file.read_exact(&mut head).map_err(Error::io("read", &path))?;
        Ok(Some(u32::from_le_bytes([head[8], head[9], head[10], head[11]])))
    }

    fn head(&self, segment: u32, bytes: &[u8]) -> Result<Option<u64>> {
        match record::read_segment_head(bytes) {
            Head::First(seq) => Ok(Some(seq)),
            Head::Bad => Ok(None),
            Head::Newer(found) => Err(Error::Format {
                path: self.path(segment),
                found,
                known: record::FORMAT,
            }),
        }
    }

    /// The stamp of a segment's first record; `None` where it has no sound one.
    ///
    /// # Errors
    /// As [`scan`](Segments::scan).
    pub fn first_time(&self, segment: u32) -> Result<Option<u64>> {
        let mut first = None;
        self.scan_while(segment, None, |r| {
            first = Some(r.time);
            Ok(false)
        })?;
        Ok(first)
    }

    /// Shows every sound record of a segment to `each`, in order, and stops at the first that is not.
    ///
    /// # Errors
    /// A file that cannot be read or has a format from the future, and what `each` returns.
    pub fn scan(&self, segment: u32, each: impl FnMut(Record<'_>) -> Result<()>) -> Result<End> {
        self.scan_from(segment, None, each)
    }

    /// The same from an offset on, where a record of that number is expected.
    ///
    /// # Errors
    /// As [`scan`](Segments::scan).
    pub fn scan_from(
        &self,
        segment: u32,
        from: Option<(u32, u64)>,
        mut each: impl FnMut(Record<'_>) -> Result<()>,
    ) -> Result<End> {
        self.scan_while(segment, from, |r| each(r).map(|()| true))
    }

    /// The same, up to a record for which `each` says false.
    ///
    /// # Errors
    /// As [`scan`](Segments::scan).
    pub fn scan_while(
        &self,
        segment: u32,
        from: Option<(u32, u64)>,
        mut each: impl FnMut(Record<'_>) -> Result<bool>,
    ) -> Result<End> {
        let path = self.path(segment);
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        let len = file.metadata().map_err(Error::io("read", &path))?.len();
        let mut window = Window::default();
        let mut end = End {
            offset: 0,
            len,
            next_seq: 0,
            time: 0,
            records: 0,
            defect: None,
            unsound: 0,
        };
        window.need(&mut file, SEGMENT_HEAD).map_err(Error::io("read", &path))?;
        let Some(first) = self.head(segment, window.bytes())? else {
            end.defect = Some("its head is damaged or unfinished".into());
            return Ok(end);
        };
        window.take(SEGMENT_HEAD);
        end.offset = SEGMENT_HEAD as u64;
        end.next_seq = first;
        if let Some((offset, seq)) = from {
            window
                .jump(&mut file, u64::from(offset))
                .map_err(Error::io("read", &path))?;
            (end.offset, end.next_seq) = (u64::from(offset), seq);
        }
        loop {
            let at = Location {
                segment,
                offset: end.offset as u32,
            };
            match record::read(window.bytes(), at) {
                Found::Record(r) if r.seq == end.next_seq => {
                    let size = r.size();
                    end.time = r.time;
                    if !each(r)? {
                        return Ok(end);
                    }
                    end.offset += size as u64;
                    end.next_seq += 1;
                    end.records += 1;
                    window.take(size);
                }
                Found::Record(r) => {
                    end.defect = Some(format!(
                        "record {} at offset {}, expected {}",
                        r.seq, end.offset, end.next_seq
                    ));
                }
                Found::Bad(why) => end.defect = Some(why),
                Found::Needs(bytes) => {
                    if !window.need(&mut file, bytes).map_err(Error::io("read", &path))? {
                        if !window.bytes().is_empty() {
                            end.defect = Some(format!("the record at offset {} is cut off", end.offset));
                        }
                        return Ok(end);
                    }
                }
            }
            if end.defect.is_some() {
                return Ok(end);
            }
        }
    }

    /// As [`scan`](Segments::scan), and then what is sound behind the damage.
    ///
    /// # Errors
    /// As [`scan`](Segments::scan).
    pub fn scan_all(&self, segment: u32, mut each: impl FnMut(Record<'_>) -> Result<()>) -> Result<End> {
        let mut end = self.scan(segment, &mut each)?;
        if end.defect.is_some() {
            end.unsound = self.scan_beyond(segment, end.offset, |r| each(r).map(|()| true))?;
        }
        Ok(end)
    }

    /// True when a sound record begins anywhere after an offset.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn is_record_beyond(&self, segment: u32, offset: u64) -> Result<bool> {
        let mut found = false;
        self.scan_beyond(segment, offset + 1, |_| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }

    /// Shows every sound record from an offset on, up to one for which `each` says false. Returns how many bytes between
    /// them are not zero.
    fn scan_beyond(&self, segment: u32, offset: u64, mut each: impl FnMut(Record<'_>) -> Result<bool>) -> Result<u64> {
        let path = self.path(segment);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let mut at = usize::try_from(offset).unwrap_or(usize::MAX).max(SEGMENT_HEAD);
        let mut unsound = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let offset = at as u32;
            let found = record::is_likely(rest).then(|| record::read(rest, Location { segment, offset }));
            let Some(Found::Record(r)) = found else {
                unsound += u64::from(rest[0] != 0);
                at += 1;
                continue;
            };
            at += r.size();
            if !each(r)? {
                break;
            }
        }
        Ok(unsound)
    }

    /// Reads the record at a place into `buffer`.
    ///
    /// # Errors
    /// A segment that is gone, a place where no sound record is, a disk that cannot be read now.
    pub fn read<'b>(&self, at: Location, buffer: &'b mut Vec<u8>) -> Result<Record<'b>> {
        let file = self.file(at.segment)?;
        read_at(&*self.disk, &file, at, buffer).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => Error::Damaged {
                path: self.path(at.segment),
                why: e.to_string(),
            },
            _ => Error::io("read", self.path(at.segment))(e),
        })
    }

    fn file(&self, segment: u32) -> Result<Arc<File>> {
        let closed = {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(file) = open.get(segment) {
                return Ok(Arc::clone(file));
            }
            open.closed
        };
        let path = self.path(segment);
        let file = Arc::new(File::open(&path).map_err(Error::io("open", &path))?);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.keep(segment, &file, closed);
        Ok(file)
    }

    /// Lets go of a file that was replaced or removed.
    pub fn close(&self, segment: u32) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.files.retain(|(s, _)| *s != segment);
        open.closed += 1;
    }
}

/// Reads the record at a place of a file; an error of the kind `InvalidData` says what is there instead.
fn read_at<'b>(disk: &dyn Disk, file: &File, at: Location, buffer: &'b mut Vec<u8>) -> io::Result<Record<'b>> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    // Most records fit, so that one call is enough.
    const GUESS: usize = 4096;
    let mut want = GUESS;
    loop {
        buffer.resize(want, 0);
        let mut filled = 0;
        while filled < want {
            match disk.read_at(file, &mut buffer[filled..], u64::from(at.offset) + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        buffer.truncate(filled);
        let needs = match record::read(buffer, at) {
            Found::Record(_) => None,
            Found::Needs(bytes) if filled < want => {
                return Err(bad(format!("no {bytes} bytes at offset {}", at.offset)));
            }
            Found::Needs(bytes) => Some(bytes.max(HEAD)),
            Found::Bad(why) => return Err(bad(why)),
        };
        match needs {
            Some(bytes) => want = bytes,
            None => break,
        }
    }
    match record::read(buffer, at) {
        Found::Record(record) => Ok(record),
        _ => Err(bad("a record that changed while it was read".into())),
    }
}

/// A stretch of a file in memory that moves forward.
#[derive(Default)]
struct Window {
    buffer: Vec<u8>,
    start: usize,
}

impl Window {
    const STEP: usize = 256 * 1024;

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn take(&mut self, n: usize) {
        self.start += n;
    }

    /// Goes to a place.
    fn jump(&mut self, file: &mut File, offset: u64) -> std::io::Result<()> {
        self.buffer.clear();
        self.start = 0;
        file.seek(SeekFrom::Start(offset))?;
        Ok(())
    }

    /// Reads on until there are `n` bytes; false when the file ends before.
    fn need(&mut self, file: &mut File, n: usize) -> std::io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        while self.buffer.len() < n {
            let step = Self::STEP.max(n - self.buffer.len()) as u64;
            if (&mut *file).take(step).read_to_end(&mut self.buffer)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_open_and_none_that_was_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let segments = Segments::new(dir.path());
        let write = |segment: u32, time: u64| {
            let mut bytes = record::segment_head(u64::from(segment)).to_vec();
            record::write(&mut bytes, u64::from(segment), time, (1, 1), b"payload");
            let temporary = dir.path().join("tmp");
            fs::write(&temporary, bytes).unwrap();
            fs::rename(temporary, segments.path(segment)).unwrap();
        };
        let offset = SEGMENT_HEAD as u32;
        let time = |segment| {
            segments
                .read(Location { segment, offset }, &mut Vec::new())
                .unwrap()
                .time
        };
        for segment in 0..100 {
            write(segment, 1);
            assert_eq!((time(segment), time(segment / 2)), (1, 1));
            assert!(segments.open.read().unwrap().files.len() <= Handles::MOST);
        }
        // Opened, then replaced and let go of, then kept: as two threads may come to it.
        let (closed, before) = (
            segments.open.read().unwrap().closed,
            File::open(segments.path(7)).unwrap(),
        );
        write(7, 2);
        segments.close(7);
        segments.open.write().unwrap().keep(7, &Arc::new(before), closed);
        assert_eq!(time(7), 2);
    }
}
