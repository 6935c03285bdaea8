//! The sets the workbench knows: one TOML file each, compiled in.

use serde::Deserialize;
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
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Size of the file.
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
    /// The original file.
    pub download_url: String,
    /// Its number at OpenML, where it has one.
    pub openml_id: Option<u64>,
    /// How our file came from the original, in one sentence.
    pub conversion: String,
    /// The columns of a log; only where `task` is `logged_bandit`.
    pub log: Option<LogColumns>,
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
    /// SHA-256 of that table.
    pub item_sha256: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_parses_under_its_own_name() {
        assert_eq!(sets().len(), SOURCES.len());
        for (set, (name, _)) in sets().iter().zip(&SOURCES) {
            assert_eq!(set.name, *name);
            assert_eq!(set.sha256.len(), 64, "{name}");
            assert_eq!(set.log.is_some(), set.task == "logged_bandit", "{name}");
        }
    }
}
