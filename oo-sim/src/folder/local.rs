//! A folder of this machine, or of a file system that several machines share.

use super::Folder;
use crate::store::{folder_of, temporary, write_once};
use anyhow::{Context, Result};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A temporary file of this age belongs to a run that was killed.
const STALE: Duration = Duration::from_secs(3600);

/// Files are written under another name and renamed.
#[derive(Debug)]
pub(super) struct Local {
    root: PathBuf,
}

impl Local {
    pub(super) fn new(root: &Path) -> Self {
        Local { root: root.into() }
    }

    /// Makes the folder where it is missing, and removes what killed runs left in it.
    pub(super) fn make(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("cannot make the folder {}; choose another with --out", root.display()))?;
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let path = entry.path();
            let changed = entry.metadata().and_then(|m| m.modified()).ok();
            let age = changed.and_then(|t| t.elapsed().ok());
            if path.extension().is_some_and(|e| e == "tmp") && age.is_some_and(|a| a > STALE) {
                // Failing to tidy up harms nobody.
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(Self::new(root))
    }
}

/// True of an error that means that there is no such file.
fn is_missing(e: &std::io::Error) -> bool {
    [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&e.kind())
}

impl Folder for Local {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match std::fs::read(self.root.join(name)) {
            Err(e) if is_missing(&e) => Ok(None),
            read => Ok(Some(read?)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        folder_of(&path)?;
        write_once(&path, |file| Ok(file.write_all(bytes)?))
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.root.join(name);
        folder_of(&path)?;
        if path.try_exists()? {
            return Ok(false);
        }
        let (mut file, whole) = temporary(&path)?;
        // A link is made only where there is no file yet; a rename does not heed that.
        let written = file.write_all(bytes);
        let linked = written.and_then(|()| std::fs::hard_link(whole.path(), &path));
        drop(whole);
        match linked {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            // A file system without links. Of two writers at the very same time the later one stays.
            Err(e) if [ErrorKind::Unsupported, ErrorKind::PermissionDenied].contains(&e.kind()) => {
                self.write(name, bytes)?;
                Ok(true)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.root.join(folder)) {
            Err(e) if is_missing(&e) => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
                names.push(format!("{folder}/{name}"));
            }
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_creators_one_succeeds_and_its_bytes_stay() {
        let root = tempfile::tempdir().unwrap();
        let folder = Local::new(root.path());
        let made: Vec<bool> = std::thread::scope(|s| {
            let folder = &folder;
            let create = |i: u8| s.spawn(move || folder.create("sub/file", &[i; 999]).unwrap());
            let all: Vec<_> = (0..8).map(create).collect();
            all.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let winner = made.iter().position(|&m| m).unwrap();
        assert_eq!(made.iter().filter(|&&m| m).count(), 1);
        assert_eq!(folder.read("sub/file").unwrap(), Some(vec![winner as u8; 999]));
        assert_eq!(folder.list("sub").unwrap(), ["sub/file"]);
    }

    #[test]
    fn files_are_replaced_whole_and_missing_ones_are_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = Local::new(root.path());
        assert_eq!(folder.read("nowhere/file").unwrap(), None);
        assert!(folder.list("nowhere").unwrap().is_empty());
        for text in ["first", "second"] {
            folder.write("file", text.as_bytes()).unwrap();
            assert_eq!(folder.read("file").unwrap().unwrap(), text.as_bytes());
        }
        assert_eq!(folder.read("file/below").unwrap(), None);
        assert!(folder.read(".").is_err());
    }
}
