//! Where the data sets lie: the folder in `OO_DATA_DIR`, else the platform's cache folder.

use super::manifest::{self, Dataset, SetFile};
use anyhow::{Context, bail};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The folder that holds the data sets. It need not exist.
///
/// # Errors
/// When `OO_DATA_DIR` is unset and the platform names no cache folder.
pub fn folder() -> anyhow::Result<PathBuf> {
    if let Some(set) = std::env::var_os("OO_DATA_DIR").filter(|v| !v.is_empty()) {
        return Ok(set.into());
    }
    let cache =
        dirs::cache_dir().context("this system names no cache folder; set OO_DATA_DIR to the folder of the data")?;
    Ok(cache.join("oo").join("datasets"))
}

/// The file of a set by its name, or of any path that exists.
///
/// # Errors
/// An unknown name (with the nearest known one), or a known set that is not on this machine.
pub fn locate(name: &str) -> anyhow::Result<PathBuf> {
    let set = match manifest::named(name) {
        Ok(set) => set,
        Err(unknown) => {
            let path = PathBuf::from(name);
            if path.is_file() {
                return Ok(path);
            }
            let looks_like_path = name.contains(['/', '\\', '.']);
            if looks_like_path {
                bail!(
                    "there is no data file `{name}`; give a path to a CSV, CSV.gz or Parquet file, or the name of a \
                     data set"
                );
            }
            return Err(unknown.into());
        }
    };
    locate_in(&folder()?, set)
}

/// The file of a set in this folder.
///
/// # Errors
/// A set that is not there.
pub fn locate_in(folder: &Path, set: &Dataset) -> anyhow::Result<PathBuf> {
    let path = folder.join(&set.file);
    if path.is_file() {
        return Ok(path);
    }
    bail!(
        "data set `{name}` is not on this machine: there is no {}; `oo-sim data get {name}` downloads it, or set \
         OO_DATA_DIR to the folder that holds `{}`",
        path.display(),
        set.file,
        name = set.name,
    )
}

/// Compares the table or log of a set with what it must be.
///
/// # Errors
/// A file that cannot be read or that is another one.
pub fn verify(set: &Dataset, path: &Path) -> anyhow::Result<()> {
    verify_file(set, set.files()[0], path)
}

/// Compares one file of a set with what it must be: the known compressed file, or another one with the same content.
///
/// # Errors
/// A file that cannot be read or that is another one.
pub fn verify_file(set: &Dataset, expected: SetFile<'_>, path: &Path) -> anyhow::Result<()> {
    if sha256(path)? == expected.sha256 {
        return Ok(());
    }
    let got = match content_sha256(path) {
        Ok(got) if got == expected.content_sha256 => return Ok(()),
        Ok(got) => format!("content with SHA-256 {got}"),
        Err(e) => format!("a file that does not unpack ({e:#})"),
    };
    bail!(
        "{} is not the file of data set `{name}`: expected content with SHA-256 {}, got {got}; remove the file, then \
         `oo-sim data get {name}` puts the right one there",
        path.display(),
        expected.content_sha256,
        name = set.name,
    )
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256(path: &Path) -> anyhow::Result<String> {
    File::open(path)
        .and_then(digest)
        .with_context(|| format!("cannot read {}", path.display()))
}

/// SHA-256 of what a gzip file holds, in hex.
fn content_sha256(path: &Path) -> io::Result<String> {
    digest(MultiGzDecoder::new(File::open(path)?))
}

/// SHA-256 of all that a reader gives, in hex.
pub(super) fn digest(mut reader: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_set_names_itself_and_the_remedy() {
        let empty = tempfile::tempdir().unwrap();
        let e = locate_in(empty.path(), manifest::find("letter").unwrap())
            .unwrap_err()
            .to_string();
        assert!(e.contains("`letter`") && e.contains("OO_DATA_DIR"), "{e}");
        assert!(e.contains("`oo-sim data get letter`"), "{e}");
        let e = locate("mushrom").unwrap_err().to_string();
        assert!(e.contains("did you mean `mushroom`"), "{e}");
        assert!(locate("no/such.csv").unwrap_err().to_string().contains("no/such.csv"));
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(
            sha256(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let e = verify(manifest::find("letter").unwrap(), &path)
            .unwrap_err()
            .to_string();
        assert!(e.contains("`letter`") && e.contains("does not unpack"), "{e}");
    }

    #[test]
    fn another_compressor_makes_no_other_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gz");
        let mut gz = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::none());
        io::Write::write_all(&mut gz, b"abc").unwrap();
        gz.finish().unwrap();
        let mut set = manifest::find("letter").unwrap().clone();
        assert!(verify(&set, &path).is_err());
        set.content_sha256 = digest(&b"abc"[..]).unwrap();
        verify(&set, &path).unwrap();
    }
}
