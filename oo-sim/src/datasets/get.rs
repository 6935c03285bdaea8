//! A set onto this machine: download the original, convert it, compare the checksum, write.

use super::manifest::{Dataset, Original, SetFile};
use super::{cache, convert, download};
use crate::{interrupt, progress, store};
use anyhow::{Context, Result, bail, ensure};
use flate2::{Compression, write::GzEncoder};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// Downloads lie here, in the data folder, until they are converted.
const DOWNLOADS: &str = "downloads";

/// What [`get`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// Nothing: the right files were there.
    Present,
    /// The files were made.
    Made,
}

/// Puts the files of a set into the folder, unless they are there. `mirror` is the address of a folder that holds the
/// original files as `NAME/FILE`.
///
/// # Errors
/// Another file in the place of the set's, a folder that cannot be written, a failed download, an original that is not
/// the one that was expected. No half-written file stays; a broken download stays and is resumed by the next call.
pub fn get(set: &Dataset, folder: &Path, mirror: Option<&str>) -> Result<Got> {
    if present(set, folder)? {
        return Ok(Got::Present);
    }
    let downloads = folder.join(DOWNLOADS);
    let place = downloads.join(&set.name);
    fs::create_dir_all(&downloads).with_context(|| unwritable(folder))?;
    let _lock = lock(&downloads).with_context(|| unwritable(folder))?;
    // Another process may have made it while this one waited.
    if present(set, folder)? {
        return Ok(Got::Present);
    }
    fs::create_dir_all(&place).with_context(|| unwritable(folder))?;
    let mut originals = Vec::new();
    for original in &set.original {
        originals.push(original_file(set, original, &place, mirror).inspect_err(|_| {
            let _ = fs::remove_dir(&place); // where nothing has arrived
        })?);
    }
    let made = convert::convert(set, &originals).and_then(|contents| check(set, contents));
    // Whatever they are, these downloads have served: right ones are converted, wrong ones must not come back.
    let _ = fs::remove_dir_all(&place);
    let made = made.with_context(|| {
        format!(
            "data set `{name}` cannot be made from what was downloaded, and nothing of it was kept; run `oo-sim data \
             get {name}` again, and if that does not help, the publisher has changed the files: put a copy of `{}` \
             into {}",
            set.file,
            folder.display(),
            name = set.name,
        )
    })?;
    for (file, content) in set.files().iter().zip(made) {
        write(&folder.join(file.path), &content).with_context(|| unwritable(folder))?;
    }
    Ok(Got::Made)
}

/// Whether every file of the set is in the folder, and right.
fn present(set: &Dataset, folder: &Path) -> Result<bool> {
    let mut all = true;
    for file in set.files() {
        let path = folder.join(file.path);
        if path.exists() {
            cache::verify_file(set, file, &path)?;
        } else {
            all = false;
        }
    }
    Ok(all)
}

/// One process downloads at a time: two would write into the same part.
fn lock(downloads: &Path) -> io::Result<File> {
    let file = File::create(downloads.join("lock"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let _ = writeln!(
                io::stderr(),
                "waiting for another download into {}",
                downloads.display()
            );
            file.lock()?;
        }
        // Some network file systems know no locks; the checksums still hold.
        Err(TryLockError::Error(_)) => {}
    }
    Ok(file)
}

fn original_file(set: &Dataset, original: &Original, place: &Path, mirror: Option<&str>) -> Result<Vec<u8>> {
    let name = original.file_name();
    let url = mirror.map_or_else(
        || original.url.clone(),
        |base| format!("{}/{}/{name}", base.trim_end_matches('/'), set.name),
    );
    let part = place.join(format!("{name}.part"));
    let bar = progress::bar(None, "{msg} {bytes} of {total_bytes}, {bytes_per_sec}, {elapsed}");
    bar.set_message(format!("{}: {name}", set.name));
    let set_name = set.name.clone();
    let stopped =
        interrupt::tell(move || format!("what has arrived is kept; `oo-sim data get {set_name}` goes on from there"));
    let done = download::fetch(&url, &part, &bar);
    bar.finish_and_clear();
    drop(stopped);
    done.with_context(|| {
        format!(
            "data set `{name}`: run `oo-sim data get {name}` again to go on from what has arrived, or name a mirror of \
             the original files with --from",
            name = set.name
        )
    })?;
    let bytes = fs::read(&part).with_context(|| format!("cannot read {}", part.display()))?;
    if let Some(expected) = &original.sha256 {
        let got = cache::digest(&bytes[..])?;
        if got != *expected {
            download::discard(&part);
            bail!(
                "{url} is not the original of data set `{}`: expected SHA-256 {expected}, got {got}; the download was \
                 removed, run the command again or name another mirror with --from",
                set.name
            );
        }
    }
    Ok(bytes)
}

fn check(set: &Dataset, contents: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
    for (
        SetFile {
            path, content_sha256, ..
        },
        content,
    ) in set.files().into_iter().zip(&contents)
    {
        let got = cache::digest(&content[..])?;
        ensure!(
            got == content_sha256,
            "`{path}` came out wrong: expected content with SHA-256 {content_sha256}, got {got}"
        );
    }
    Ok(contents)
}

/// Writes a file of a set, compressed.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    store::write_once(path, |file| {
        // The encoder writes neither name nor time: the same content gives the same file.
        let mut gz = GzEncoder::new(file, Compression::best());
        gz.write_all(content)?;
        let file = gz.finish()?;
        file.flush()?;
        Ok(file.get_ref().sync_all()?)
    })
}

fn unwritable(folder: &Path) -> String {
    format!(
        "cannot write to the data folder {}; set OO_DATA_DIR to a folder that you can write to",
        folder.display()
    )
}
