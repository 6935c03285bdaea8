//! Puts a digest of the workspace's code into the program. Results on disk are kept under it, so that a program that
//! computes something else never takes them for its own, and two builds of the same code share them.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn main() {
    // Outside its workspace the crate stands alone; then its own code and the version have to do.
    let mut files = Vec::new();
    for folder in ["src", "../oo-core/src", "../oo-policies/src", "../oo-judge/src"] {
        println!("cargo::rerun-if-changed={folder}");
        sources(Path::new(folder), &mut files);
    }
    let lock = PathBuf::from("../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    files.push(lock);
    files.sort();
    // FNV-1a, 64 bits.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut take = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for file in &files {
        take(file.to_string_lossy().as_bytes());
        take(&std::fs::read(file).unwrap_or_default());
    }
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=OO_CODE={version}-{hash:016x}");
}
