//! The sets the workbench knows: one TOML file each, compiled in.

use super::convert::Rule;
use oo_core::Error;
use serde::Deserialize;
use std::path::Path;
use std::sync::LazyLock;

/// What is known about one data set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// The name on the command line.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// `classification`, or `logged_bandit` for a log of another policy's choices.
    pub task: String,
    /// The file, relative to the data folder.
    pub file: String,
    /// SHA-256 of one compressed file with the right content, in hex.
    pub sha256: String,
    /// SHA-256 of the content: the bytes of a gzip file differ between compressors.
    pub content_sha256: String,
    /// Size of that compressed file.
    pub bytes: u64,
    /// Rows without the header.
    pub rows: usize,
    /// Columns without the label.
    pub features: usize,
    /// Classes, or actions of a log.
    pub classes: usize,
    /// True where the order of the rows is that of time.
    pub time_ordered: bool,
    /// The licence of the data.
    pub licence: String,
    /// How to cite it.
    pub citation: String,
    /// The page of the original.
    pub original_url: String,
    /// Its number at OpenML, where it has one.
    pub openml_id: Option<u64>,
    /// How our file came from the original, in one sentence.
    pub conversion: String,
    /// The columns of a log; only where `task` is `logged_bandit`.
    pub log: Option<LogColumns>,
    /// The files of the original.
    pub original: Vec<Original>,
    /// How our files are made from them.
    pub convert: Rule,
}

/// A file as its publisher offers it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Original {
    /// Where it is.
    pub url: String,
    /// SHA-256, where it was seen; otherwise the content of the result decides.
    pub sha256: Option<String>,
    /// The members of a zip archive that are wanted, in this order; none where it is no archive.
    #[serde(default)]
    pub members: Vec<String>,
}

impl Original {
    /// The last part of the address.
    pub fn file_name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }
}

/// A file of ours and what it must be.
#[derive(Clone, Copy, Debug)]
pub struct SetFile<'a> {
    /// Relative to the data folder.
    pub path: &'a str,
    /// SHA-256 of one compressed file with the right content.
    pub sha256: &'a str,
    /// SHA-256 of the content.
    pub content_sha256: &'a str,
}

impl Dataset {
    /// Whether all its files are in a data folder; what is in them is checked when they are read.
    pub fn is_in(&self, folder: &Path) -> bool {
        self.files().iter().all(|f| folder.join(f.path).is_file())
    }

    /// The files of the set: the table or log, then the items of a log.
    pub fn files(&self) -> Vec<SetFile<'_>> {
        let table = SetFile {
            path: &self.file,
            sha256: &self.sha256,
            content_sha256: &self.content_sha256,
        };
        let items = self.log.as_ref().map(|log| SetFile {
            path: &log.item_file,
            sha256: &log.item_sha256,
            content_sha256: &log.item_content_sha256,
        });
        std::iter::once(table).chain(items).collect()
    }
}

/// What the columns of a logged bandit file mean.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogColumns {
    /// The action that was taken.
    pub action: String,
    /// What came of it.
    pub reward: String,
    /// The probability with which the logging policy took it.
    pub propensity: String,
    /// The place on the page.
    pub position: String,
    /// The time of the row.
    pub time: String,
    /// The table of the items, relative to the data folder.
    pub item_file: String,
    /// SHA-256 of one compressed file of that table.
    pub item_sha256: String,
    /// SHA-256 of its content.
    pub item_content_sha256: String,
}

/// In the order in which they are listed.
static SOURCES: [(&str, &str); 13] = [
    ("mushroom", include_str!("../../../datasets/mushroom.toml")),
    ("shuttle", include_str!("../../../datasets/shuttle.toml")),
    ("covertype", include_str!("../../../datasets/covertype.toml")),
    ("adult", include_str!("../../../datasets/adult.toml")),
    ("letter", include_str!("../../../datasets/letter.toml")),
    ("pendigits", include_str!("../../../datasets/pendigits.toml")),
    ("vowel", include_str!("../../../datasets/vowel.toml")),
    ("mnist10k", include_str!("../../../datasets/mnist10k.toml")),
    ("electricity", include_str!("../../../datasets/electricity.toml")),
    ("obd_random_men", include_str!("../../../datasets/obd_random_men.toml")),
    (
        "obd_random_women",
        include_str!("../../../datasets/obd_random_women.toml"),
    ),
    ("obd_bts_men", include_str!("../../../datasets/obd_bts_men.toml")),
    ("obd_bts_women", include_str!("../../../datasets/obd_bts_women.toml")),
];

static SETS: LazyLock<Vec<Dataset>> = LazyLock::new(|| {
    SOURCES
        .iter()
        .map(|(name, text)| toml::from_str(text).unwrap_or_else(|e| panic!("datasets/{name}.toml: {e}"))) // compiled in, and tested
        .collect()
});

/// All sets.
pub fn sets() -> &'static [Dataset] {
    &SETS
}

/// The set of this name.
pub fn find(name: &str) -> Option<&'static Dataset> {
    SETS.iter().find(|s| s.name == name)
}

/// The set of this name.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn named(name: &str) -> Result<&'static Dataset, Error> {
    find(name).ok_or_else(|| Error::Unknown {
        kind: "data set".into(),
        name: name.into(),
        known: sets().iter().map(|s| s.name.clone()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_parses_under_its_own_name() {
        assert_eq!(sets().len(), SOURCES.len());
        for (set, (name, _)) in sets().iter().zip(&SOURCES) {
            assert_eq!(set.name, *name);
            for file in set.files() {
                assert_eq!((file.sha256.len(), file.content_sha256.len()), (64, 64), "{name}");
            }
            assert!(!set.original.is_empty(), "{name}");
            for (i, original) in set.original.iter().enumerate() {
                assert!(original.url.starts_with("https://"), "{}", original.url);
                // Downloads of a set lie side by side.
                let same = |other: &Original| other.file_name() == original.file_name();
                assert_eq!(set.original.iter().position(same), Some(i), "{name}");
            }
            assert_eq!(set.log.is_some(), set.task == "logged_bandit", "{name}");
        }
    }
}
