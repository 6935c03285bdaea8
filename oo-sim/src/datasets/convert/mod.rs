//! From the files of the original to ours: CSV with a header, numeric columns, and `label` last.
//!
//! What differs from set to set is data and stands in `datasets/NAME.toml`; the code knows only the formats.

mod idx;
mod lzw;
mod selection;
pub mod text;
mod unpack;

use super::manifest::{Dataset, Original};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// How the files of a set are made from its original.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum Rule {
    /// Rows of text with separators; the parts follow each other.
    Text(text::Layout),
    /// An IDX file of images and one of labels.
    Idx,
    /// Each file as it is.
    Unchanged,
}

/// Makes the content of the set's files, in the order of [`Dataset::files`], from those of the original, in the order
/// of [`Dataset::original`].
///
/// # Errors
/// An original that is not what the rule expects; the message says where.
pub fn convert(set: &Dataset, originals: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    ensure!(
        originals.len() == set.original.len(),
        "expected {} files of the original of `{}`, got {}",
        set.original.len(),
        set.name,
        originals.len()
    );
    let mut parts = Vec::new();
    for (original, bytes) in set.original.iter().zip(originals) {
        parts.extend(unpacked(original, bytes).with_context(|| format!("original file `{}`", original.file_name()))?);
    }
    let made = match &set.convert {
        Rule::Text(layout) => vec![text::convert(layout, &parts)?],
        Rule::Idx => {
            ensure!(
                parts.len() == 2,
                "expected images and labels, got {} files",
                parts.len()
            );
            vec![idx::convert(&parts[0], &parts[1])?]
        }
        Rule::Unchanged => parts,
    };
    ensure!(
        made.len() == set.files().len(),
        "expected the content of {} files, got {}",
        set.files().len(),
        made.len()
    );
    Ok(made)
}

fn unpacked(original: &Original, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    if original.members.is_empty() {
        return Ok(vec![unpack::plain(bytes)?]);
    }
    unpack::members(bytes, &original.members)
}

#[cfg(test)]
mod tests;
