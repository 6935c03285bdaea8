//! Our files turned back into originals, and converted again.

use super::super::{cache, manifest};
use super::{Rule, convert, lzw, text};
use crate::datasets::Dataset;
use std::io::{Cursor, Read, Write};

/// The content of the set's files, where this machine has them.
fn contents(set: &Dataset) -> Option<Vec<Vec<u8>>> {
    let folder = cache::folder().unwrap();
    if let Err(e) = cache::locate_in(&folder, set) {
        assert!(std::env::var("OO_REQUIRE_DATA").as_deref() != Ok("1"), "{e}");
        // Straight to stderr: the test harness swallows `eprintln!` of a test that passes.
        writeln!(
            std::io::stderr(),
            "NOT TESTED, DATA SET {} IS MISSING: {e}",
            set.name.to_uppercase()
        )
        .unwrap();
        return None;
    }
    let files = set.files();
    Some(
        files
            .iter()
            .map(|file| unpacked(&std::fs::read(folder.join(file.path)).unwrap()))
            .collect(),
    )
}

fn unpacked(gz: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(gz).read_to_end(&mut out).unwrap();
    out
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

fn zipped(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        zip.start_file(name.as_str(), zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The table as IDX files of images and of labels.
fn idx(csv: &[u8]) -> [Vec<u8>; 2] {
    let rows: Vec<Vec<u8>> = std::str::from_utf8(csv)
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| line.split(',').map(|x| x.parse().unwrap()).collect())
        .collect();
    let count = (rows.len() as u32).to_be_bytes();
    let mut images = [&[0, 0, 8, 3], &count[..], &[0, 0, 0, 28, 0, 0, 0, 28]].concat();
    let mut labels = [&[0, 0, 8, 1], &count[..]].concat();
    for row in &rows {
        images.extend(&row[..784]);
        labels.push(row[784]);
    }
    [images, labels]
}

/// The files of the original, as the publisher packs them.
fn originals(set: &Dataset, contents: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let layout = match &set.convert {
        Rule::Text(layout) => layout,
        Rule::Idx => return idx(&contents[0]).iter().map(|file| gzipped(file)).collect(),
        Rule::Unchanged => return contents.to_vec(),
    };
    let members = &set.original[0].members;
    let mut parts = text::tests::undo(layout, std::str::from_utf8(&contents[0]).unwrap(), members.len().max(1));
    if members.is_empty() {
        return vec![gzipped(parts[0].as_bytes())];
    }
    let mut held: Vec<_> = members
        .iter()
        .cloned()
        .zip(parts.drain(..).map(String::into_bytes))
        .collect();
    if set.name == "shuttle" {
        held[0] = (
            format!("shuttle/{}.Z", held[0].0),
            lzw::tests::compress(&held[0].1, 16, 0),
        );
    }
    held.insert(0, ("Index".into(), b"nothing of use".to_vec()));
    vec![zipped(&held)]
}

#[test]
fn every_conversion_gives_our_files() {
    for set in manifest::sets() {
        let Some(contents) = contents(set) else { continue };
        let made = convert(set, &originals(set, &contents)).unwrap_or_else(|e| panic!("{}: {e:#}", set.name));
        for (file, content) in set.files().iter().zip(&made) {
            assert_eq!(
                cache::digest(&content[..]).unwrap(),
                file.content_sha256,
                "{}",
                file.path
            );
        }
    }
}

#[test]
fn what_is_no_original_is_an_error() {
    let says = |name: &str, bytes: &[u8], expected: &str| {
        let e = format!(
            "{:#}",
            convert(manifest::find(name).unwrap(), &[bytes.to_vec()]).unwrap_err()
        );
        assert!(e.contains(expected), "{e}");
    };
    says("adult", b"<html>not found</html>", "`adult.zip`: not a zip archive");
    says(
        "adult",
        &zipped(&[("other.data".into(), vec![])]),
        "holds no `adult.data`; there are: other.data",
    );
    says("letter", b"", "expected a line `@data`");
    says("letter", &[0x1f, 0x8b, 1, 2, 3], "damaged gzip file");
    says("mnist10k", b"", "expected 2 files of the original of `mnist10k`, got 1");
}
