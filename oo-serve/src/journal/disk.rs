//! The few things that are done to files, behind a trait: tests record them, lose what was not flushed, fill the disk up,
//! and break it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Changes files, and reads pieces of those that are in use. What reads a whole file goes past it.
pub trait Disk: Send + Sync {
    /// An empty file, whatever was there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>>;
    /// A file that is there.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>>;
    /// Another name, in place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// No more.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder survive a power cut from here on.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes at a place, as many as there are, at least one before the end.
    fn read_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(bytes, offset)
    }
}

/// A file to be written.
pub trait Sink: Send {
    /// Writes all of it, at a place.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or lengthens.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// What was written survives a power cut from here on.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(File::create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl Sink for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
