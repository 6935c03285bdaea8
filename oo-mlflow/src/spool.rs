//! A folder in which entries wait for a server.
//!
//! ```text
//! spool.jsonl      a header, then an entry a line; only ever appended to
//! files/           what entries name and what would not stay as it is where it lies
//! sent-….jsonl     how far one server has got, one file a server and experiment; only ever appended to
//! lock             held by the process that is at work
//! ```
//!
//! A line that a crash cut short is dropped when the folder is opened, and nothing else is ever taken away. The folder
//! holds no credentials and no address that has any.

use crate::entry::{Artefact, Content, Entry, Status};
use crate::error::{Error, Result};
use crate::limits::sha256;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The format that is written and read.
const FORMAT: u32 = 1;
const ENTRIES: &str = "spool.jsonl";
const FILES: &str = "files";

/// The first line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The format.
    pub format: u32,
    /// Tells this spool from all others: runs carry it as a tag.
    pub spool: String,
    /// The experiment at the server, where nobody says another.
    pub experiment: String,
    /// The server, likewise.
    pub server: String,
}

/// How a run of the spool stands, by the last entry that says so.
pub type Runs = BTreeMap<String, Option<Status>>;

/// An open folder. Nobody else has it open meanwhile.
#[derive(Debug)]
pub struct Spool {
    root: PathBuf,
    folder: PathBuf,
    header: Header,
    is_new: bool,
    runs: Runs,
    out: File,
    _lock: File,
}

impl Spool {
    /// Opens the spool in `folder`, which is made for `server` and `experiment` where there is none. `root` is the folder
    /// that artefacts' paths start from.
    ///
    /// # Errors
    /// A folder that cannot be written, that somebody else has open, or whose lines are damaged.
    pub fn open(root: &Path, folder: &Path, server: &str, experiment: &str) -> Result<Spool> {
        fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
        let path = folder.join("lock");
        let lock = OpenOptions::new().create(true).append(true).open(&path);
        let lock = lock.map_err(|e| Error::file(&path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: folder.into() }),
            Err(TryLockError::Error(e)) => return Err(Error::file(&path, e)),
        }
        let path = folder.join(ENTRIES);
        let (mut out, length) = open_to_append(&path)?;
        let is_new = length == 0;
        if is_new {
            let header = Header {
                format: FORMAT,
                spool: unique(folder),
                experiment: experiment.into(),
                server: crate::address::redacted(server),
            };
            append(&mut out, &header).map_err(|e| Error::file(&path, e))?;
        }
        let mut lines = Lines::open(&path)?;
        let header = read_header(&path, &mut lines)?;
        // Only what is needed: a spool may be long.
        #[derive(Deserialize)]
        struct Brief {
            run: String,
            #[serde(default)]
            status: Option<Status>,
        }
        let mut runs = Runs::new();
        while let Some((_, Brief { run, status })) = lines.next()? {
            let known: &mut Option<Status> = runs.entry(run).or_default();
            *known = status.or(*known);
        }
        Ok(Spool {
            root: root.into(),
            folder: folder.into(),
            header,
            is_new,
            runs,
            out,
            _lock: lock,
        })
    }

    /// The header of the spool in a folder; `None` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or another format.
    pub fn header_in(folder: &Path) -> Result<Option<Header>> {
        let path = folder.join(ENTRIES);
        if !path.is_file() {
            return Ok(None);
        }
        read_header(&path, &mut Lines::open(&path)?).map(Some)
    }

    /// What the first line says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// True when it was made just now.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The runs with an entry, and how they stand.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder that artefacts' paths start from.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Adds an entry, brought within the server's limits.
    ///
    /// # Errors
    /// A full disk; nothing but a piece of a line is left then, which the next opening drops.
    pub fn append(&mut self, entry: Entry) -> Result<()> {
        let entry = entry.guarded();
        let path = self.folder.join(ENTRIES);
        append(&mut self.out, &entry).map_err(|e| Error::file(&path, e))?;
        let known = self.runs.entry(entry.run).or_default();
        *known = entry.status.or(*known);
        Ok(())
    }

    /// Keeps bytes that may change where they come from, and names them as an artefact.
    ///
    /// # Errors
    /// A full disk.
    pub fn keep(&self, path: &str, bytes: &[u8]) -> Result<Artefact> {
        let digest = sha256(bytes);
        let files = self.folder.join(FILES);
        let file = files.join(&digest);
        let write = || -> io::Result<()> {
            fs::create_dir_all(&files)?;
            let under = files.join(format!("{digest}.tmp"));
            fs::write(&under, bytes)?;
            fs::rename(&under, &file)
        };
        write().map_err(|e| Error::file(&file, e))?;
        let folder = self.folder.strip_prefix(&self.root).unwrap_or(&self.folder);
        Ok(Artefact {
            path: path.into(),
            content: Content::File {
                path: folder.join(FILES).join(&digest),
                sha256: digest,
            },
        })
    }

    pub(crate) fn entries(&self) -> Result<Lines> {
        let mut lines = Lines::open(&self.folder.join(ENTRIES))?;
        lines.next::<serde::de::IgnoredAny>()?;
        Ok(lines)
    }

    pub(crate) fn cursor(&self, server: &str, experiment: &str) -> PathBuf {
        let destination = sha256(format!("{server}\n{experiment}").as_bytes());
        self.folder.join(format!("sent-{}.jsonl", &destination[..16]))
    }
}

/// 32 hexadecimal digits that nobody else has: from the time, the process and the place. No result depends on it.
fn unique(folder: &Path) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let text = format!("{:?} {} {}", now, std::process::id(), folder.display());
    sha256(text.as_bytes())[..32].into()
}

fn read_header(path: &Path, lines: &mut Lines) -> Result<Header> {
    let damaged = |why: String| Error::Damaged {
        path: path.into(),
        line: 1,
        why,
    };
    let (_, header): (_, Header) = lines.next()?.ok_or_else(|| damaged("it is empty".into()))?;
    if header.format != FORMAT {
        return Err(damaged(format!(
            "it has format {}; this program reads format {FORMAT}",
            header.format
        )));
    }
    Ok(header)
}

/// Opens a file of lines behind its last whole line, and gives the length up to there.
pub(crate) fn open_to_append(path: &Path) -> Result<(File, u64)> {
    let open = || -> io::Result<(File, u64)> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let length = file.metadata()?.len();
        let (mut end, mut block) = (length, vec![0; 1 << 16]);
        // From the end backwards to the last line's end.
        while end > 0 {
            let start = end.saturating_sub(block.len() as u64);
            let part = &mut block[..(end - start) as usize];
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(part)?;
            if let Some(at) = part.iter().rposition(|&b| b == b'\n') {
                end = start + at as u64 + 1;
                break;
            }
            end = start;
        }
        if end < length {
            file.set_len(end)?;
        }
        file.seek(SeekFrom::Start(end))?;
        Ok((file, end))
    };
    open().map_err(|e| Error::file(path, e))
}

/// Adds a line in one write.
pub(crate) fn append(file: &mut File, line: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

/// The whole lines of a file that may be growing.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    buffer: Vec<u8>,
    count: usize,
}

impl Lines {
    pub fn open(path: &Path) -> Result<Lines> {
        let file = File::open(path).map_err(|e| Error::file(path, e))?;
        Ok(Lines {
            path: path.into(),
            reader: BufReader::new(file),
            buffer: Vec::new(),
            count: 0,
        })
    }

    /// The next line with its number from 0; `None` where no whole one is there yet.
    pub fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<(usize, T)>> {
        let read = self.reader.read_until(b'\n', &mut self.buffer);
        read.map_err(|e| Error::file(&self.path, e))?;
        if self.buffer.last() != Some(&b'\n') {
            return Ok(None); // its beginning waits in the buffer for the rest
        }
        let line = serde_json::from_slice(&self.buffer);
        self.buffer.clear();
        self.count += 1;
        let line = line.map_err(|e| Error::Damaged {
            path: self.path.clone(),
            line: self.count,
            why: e.to_string(),
        })?;
        Ok(Some((self.count - 1, line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(run: &str) -> Entry {
        Entry {
            run: run.into(),
            ..Entry::default()
        }
    }

    #[test]
    fn a_torn_line_is_dropped_and_the_rest_stays() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("mlflow");
        let open = || Spool::open(root.path(), &folder, "http://me:secret@h", "e").unwrap();
        let mut spool = open();
        assert!(spool.is_new());
        let header = spool.header().clone();
        assert_eq!(header.server, "http://…@h");
        for run in ["a", "b"] {
            spool.append(entry(run)).unwrap();
        }
        assert!(matches!(
            Spool::open(root.path(), &folder, "", "").unwrap_err(),
            Error::Busy { .. }
        ));
        drop(spool);
        let path = folder.join(ENTRIES);
        let whole = fs::read(&path).unwrap();
        let second = 1 + whole[..whole.len() - 1].iter().rposition(|&b| b == b'\n').unwrap();
        for cut in second..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut spool = open();
            assert_eq!(spool.header(), &header);
            assert_eq!(spool.runs().keys().collect::<Vec<_>>(), ["a"]);
            spool.append(entry("b")).unwrap();
            drop(spool);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
        // Cut within the header, it is a new spool.
        fs::write(&path, &whole[..10]).unwrap();
        assert!(open().is_new());
        // A whole line that is none of ours is not passed over.
        fs::write(&path, [&whole[..], b"{}\n"].concat()).unwrap();
        let said = Spool::open(root.path(), &folder, "", "").unwrap_err().to_string();
        assert!(said.contains("line 4") && said.contains("run"), "{said}");
    }

    #[test]
    fn lines_are_read_while_they_grow() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), folder.path(), "", "e").unwrap();
        let mut lines = spool.entries().unwrap();
        assert!(lines.next::<Entry>().unwrap().is_none());
        spool.append(entry("a")).unwrap();
        let mut half = OpenOptions::new()
            .append(true)
            .open(folder.path().join(ENTRIES))
            .unwrap();
        half.write_all(b"{\"run\":").unwrap();
        assert_eq!(lines.next::<Entry>().unwrap().unwrap().1.run, "a");
        assert!(lines.next::<Entry>().unwrap().is_none());
        half.write_all(b"\"b\"}\n").unwrap();
        assert_eq!(lines.next::<Entry>().unwrap().unwrap(), (2, entry("b")));
    }
}
