//! Zip archives and compressed files, told by their first bytes and not by their names.

use super::lzw;
use anyhow::{Context, Result, ensure};
use flate2::read::MultiGzDecoder;
use std::io::{Cursor, Read};

/// More than any original holds; a small file that unpacks to more is damaged or malicious.
const LARGEST: u64 = 1 << 30;

/// The content without gzip or compress; other content as it is.
pub(super) fn plain(bytes: &[u8]) -> Result<Vec<u8>> {
    match bytes {
        [0x1f, 0x8b, ..] => whole(MultiGzDecoder::new(bytes)).context("damaged gzip file"),
        [0x1f, 0x9d, ..] => lzw::decompress(bytes, LARGEST as usize),
        _ => Ok(bytes.to_vec()),
    }
}

/// These members of a zip archive, each also under its name with `.Z` or `.gz`, in any folder.
pub(super) fn members(bytes: &[u8], names: &[String]) -> Result<Vec<Vec<u8>>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).context("not a zip archive, or a damaged one")?;
    // A name that is no text cannot be one that is wanted.
    let held: Vec<String> = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.into_owned()))
        .collect();
    let member = |name: &String| {
        let found = held.iter().find(|path| {
            let last = path.rsplit('/').next().unwrap_or(path);
            ["", ".Z", ".gz"]
                .iter()
                .any(|end| last.strip_suffix(end) == Some(name.as_str()))
        });
        let found = found.with_context(|| format!("the archive holds no `{name}`; there are: {}", held.join(", ")))?;
        let file = archive.by_name(found).with_context(|| format!("member `{found}`"))?;
        plain(&whole(file).with_context(|| format!("member `{found}`"))?)
    };
    names.iter().map(member).collect()
}

fn whole(reader: impl Read) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut out)?;
    ensure!(out.len() as u64 <= LARGEST, "it unpacks to more than {LARGEST} bytes");
    Ok(out)
}
