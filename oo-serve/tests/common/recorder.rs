//! A disk that writes down what is done to it, can be full or broken, and can tell what a power cut would have left.

use oo_core::Key;
use oo_core::key::Draws;
use oo_serve::journal::disk::{Disk, RealDisk, Sink};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a broken disk says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None = 0,
    /// Writes half, then is full.
    Full = 1,
    /// Writes, but does not flush.
    NoFlush = 2,
    /// Writes and flushes, but nothing can be read.
    Unreadable = 3,
    /// Takes nothing and says nothing.
    Hangs = 4,
}

enum Op {
    Create(PathBuf, usize),
    Open(PathBuf, usize),
    Write(usize, u64, Vec<u8>),
    Length(usize, u64),
    Sync(usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
}

#[derive(Default)]
pub struct Recorder {
    ops: Mutex<Vec<Op>>,
    handles: AtomicUsize,
    trouble: Arc<AtomicU8>,
}

struct Recorded {
    recorder: Arc<Recorder>,
    file: Box<dyn Sink>,
    handle: usize,
}

/// The recorder, as a disk.
pub struct Recording(pub Arc<Recorder>);

impl Recorder {
    pub fn set(&self, trouble: Trouble) {
        self.trouble.store(trouble as u8, Ordering::SeqCst);
    }

    fn is(&self, trouble: Trouble) -> bool {
        self.trouble.load(Ordering::SeqCst) == trouble as u8
    }

    /// Operations so far.
    pub fn len(&self) -> usize {
        self.ops.lock().unwrap().len()
    }

    fn note(&self, op: Op) {
        self.ops.lock().unwrap().push(op);
    }
}

impl Recording {
    fn handle(&self, file: Box<dyn Sink>, op: impl FnOnce(usize) -> Op) -> Box<dyn Sink> {
        let handle = self.0.handles.fetch_add(1, Ordering::SeqCst);
        self.0.note(op(handle));
        Box::new(Recorded {
            recorder: Arc::clone(&self.0),
            file,
            handle,
        })
    }

    fn full(&self) -> io::Result<()> {
        match self.0.is(Trouble::Full) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Disk for Recording {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        self.full()?;
        let file = RealDisk.create(path)?;
        Ok(self.handle(file, |h| Op::Create(path.into(), h)))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        let file = RealDisk.open(path)?;
        Ok(self.handle(file, |h| Op::Open(path.into(), h)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)?;
        self.0.note(Op::Rename(from.into(), to.into()));
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)?;
        self.0.note(Op::Remove(path.into()));
        Ok(())
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)?;
        self.0.note(Op::SyncDir(dir.into()));
        Ok(())
    }
    fn read_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.0.is(Trouble::Unreadable) {
            true => Err(io::Error::from_raw_os_error(5)),
            false => RealDisk.read_at(file, bytes, offset),
        }
    }
}

impl Sink for Recorded {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        while self.recorder.is(Trouble::Hangs) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let full = self.recorder.is(Trouble::Full);
        let bytes = if full { &bytes[..bytes.len() / 2] } else { bytes };
        self.file.write_at(bytes, offset)?;
        self.recorder.note(Op::Write(self.handle, offset, bytes.to_vec()));
        match full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.recorder.note(Op::Length(self.handle, len));
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        if self.recorder.is(Trouble::NoFlush) {
            return Err(io::Error::from_raw_os_error(5));
        }
        // The rebuilt files are what counts here; a real flush would only take time.
        self.recorder.note(Op::Sync(self.handle));
        Ok(())
    }
}

#[derive(Default, Clone)]
struct Inode {
    safe: Vec<u8>,
    /// Written, not flushed: any of it may have reached the disk.
    loose: Vec<(u64, Vec<u8>)>,
}

fn apply(to: &mut Vec<u8>, (offset, bytes): &(u64, Vec<u8>)) {
    let end = *offset as usize + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[*offset as usize..end].copy_from_slice(bytes);
}

impl Recorder {
    /// What a power cut after the first `n` operations may leave under `to`, of what happened under `from`. Flushed
    /// bytes are there; of the others any part may be; names that were not flushed may be the old or the new ones.
    pub fn after_power_cut(&self, n: usize, from: &Path, to: &Path, key: Key) {
        let mut draws = key.draws();
        let (mut inodes, mut names, mut safe_names) = (Vec::<Inode>::new(), BTreeMap::new(), BTreeMap::new());
        let mut handles: BTreeMap<usize, usize> = BTreeMap::new();
        for op in &self.ops.lock().unwrap()[..n] {
            match op {
                Op::Create(path, handle) => {
                    inodes.push(Inode::default());
                    names.insert(path.clone(), inodes.len() - 1);
                    handles.insert(*handle, inodes.len() - 1);
                }
                Op::Open(path, handle) => {
                    handles.insert(*handle, names[path]);
                }
                Op::Write(handle, offset, bytes) => inodes[handles[handle]].loose.push((*offset, bytes.clone())),
                Op::Length(handle, len) => {
                    // Cutting is taken to be safe at once; what it guards against is what lies behind.
                    let inode = &mut inodes[handles[handle]];
                    inode.safe.truncate(*len as usize);
                    inode.loose.retain(|(offset, _)| offset < len);
                }
                Op::Sync(handle) => {
                    let inode = &mut inodes[handles[handle]];
                    for write in std::mem::take(&mut inode.loose) {
                        apply(&mut inode.safe, &write);
                    }
                }
                Op::Rename(a, b) => {
                    let inode = names.remove(a).unwrap();
                    names.insert(b.clone(), inode);
                }
                Op::Remove(path) => drop(names.remove(path)),
                Op::SyncDir(dir) => {
                    safe_names.retain(|path: &PathBuf, _| path.parent() != Some(dir));
                    let here = names.iter().filter(|(path, _)| path.parent() == Some(dir));
                    safe_names.extend(here.map(|(p, i)| (p.clone(), *i)));
                }
            }
        }
        let mut left = safe_names.clone();
        for dir in ["journal", "snapshots", "policies"].map(|d| from.join(d)) {
            if draws.below(2) == 0 {
                left.retain(|path, _| path.parent() != Some(&dir));
                left.extend(
                    names
                        .iter()
                        .filter(|(p, _)| p.parent() == Some(&dir))
                        .map(|(p, i)| (p.clone(), *i)),
                );
            }
        }
        for (path, inode) in left {
            let path = to.join(path.strip_prefix(from).unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, contents(&inodes[inode], &mut draws)).unwrap();
        }
    }
}

fn contents(inode: &Inode, draws: &mut Draws) -> Vec<u8> {
    let mut bytes = inode.safe.clone();
    for (offset, written) in &inode.loose {
        let kept = match draws.below(3) {
            0 => 0,
            1 => written.len(),
            _ => draws.below(written.len() + 1),
        };
        apply(&mut bytes, &(*offset, written[..kept].to_vec()));
    }
    bytes
}
