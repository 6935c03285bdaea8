//! Where the data sets lie: the folder in `OO_DATA_DIR`, else the platform's cache folder.

use super::manifest::{self, Dataset};
use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
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
    let Some(set) = manifest::find(name) else {
        let path = PathBuf::from(name);
        if path.is_file() {
            return Ok(path);
        }
        let looks_like_path = name.contains(['/', '\\', '.']);
        if looks_like_path {
            bail!(
                "there is no data file `{name}`; give a path to a CSV, CSV.gz or Parquet file, or the name of a data set"
            );
        }
        return Err(oo_core::Error::Unknown {
            kind: "data set".into(),
            name: name.into(),
            known: manifest::sets().iter().map(|s| s.name.clone()).collect(),
        }
        .into());
    };
    locate_in(&folder()?, set)
}

fn locate_in(folder: &Path, set: &Dataset) -> anyhow::Result<PathBuf> {
    let path = folder.join(&set.file);
    if path.is_file() {
        return Ok(path);
    }
    bail!(
        "data set `{}` is not on this machine: there is no {}; set OO_DATA_DIR to the folder that holds `{}`",
        set.name,
        path.display(),
        set.file
    )
}

/// Compares a file with the size and the SHA-256 of its set.
///
/// # Errors
/// A file that cannot be read or that is another one.
pub fn verify(set: &Dataset, path: &Path) -> anyhow::Result<()> {
    let got = sha256(path)?;
    if got != set.sha256 {
        bail!(
            "{} is not the file of data set `{}`: expected SHA-256 {} ({} bytes), got {got}; replace the file",
            path.display(),
            set.name,
            set.sha256,
            set.bytes
        );
    }
    Ok(())
}

/// SHA-256 of a file, in hex.
pub fn sha256(path: &Path) -> anyhow::Result<String> {
    let place = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(place)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).with_context(place)?;
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
        assert!(e.contains("`letter`"), "{e}");
    }
}
