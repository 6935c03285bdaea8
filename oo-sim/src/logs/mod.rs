//! Logs of decisions, read block by block: a log may be larger than memory.
//!
//! Four formats, one file each; a format is one line in [`FORMATS`]. Whatever is wrong with a log is an error with the
//! row's number, counted from 1 below any header, and nothing comes of a log that has such a row. The schemas are in
//! `docs/logs.md`.

pub mod columns;
pub mod dsjson;
pub mod open_bandit;
pub mod own;
pub mod parquet;
pub mod plain;
pub mod text;
pub mod write;

use anyhow::{Context, Result, anyhow, ensure};
use oo_core::registry;
use oo_core::spec::Part;
use oo_core::{Log, Shape};
use oo_judge::estimators::{Logged, Sizes};
use std::io::BufRead;
use std::path::Path;

/// Some rows of a log.
#[derive(Debug)]
pub struct Block {
    /// The rows by column. `target` is empty where the log does not say what the target policy would do, and `model`
    /// where it predicts no reward.
    pub logged: Logged,
    /// The same rows as rounds that a policy can be asked about; empty where the log describes no rounds.
    pub rounds: Log,
    /// When each of them was decided; empty where the log does not say.
    pub time: Vec<u64>,
    /// Rows left out because their reward had not arrived when the log was written.
    pub unanswered: u64,
}

impl Default for Block {
    fn default() -> Self {
        Block {
            logged: Logged {
                action: Vec::new(),
                reward: Vec::new(),
                propensity: Vec::new(),
                candidates: Sizes::Fixed(0),
                target: Vec::new(),
                model: Vec::new(),
                cluster: Vec::new(),
                first_row: 1,
            },
            rounds: Log::new(),
            time: Vec::new(),
            unanswered: 0,
        }
    }
}

impl Block {
    /// Forgets the rows and keeps the memory.
    fn clear(&mut self, first_row: u64) {
        let logged = &mut self.logged;
        logged.action.clear();
        for column in [
            &mut logged.reward,
            &mut logged.propensity,
            &mut logged.target,
            &mut logged.model,
        ] {
            column.clear();
        }
        logged.cluster.clear();
        logged.first_row = first_row;
        self.rounds.clear();
        self.time.clear();
        self.unanswered = 0;
    }
}

/// What a log has.
#[derive(Clone, PartialEq, Debug)]
pub struct About {
    /// The name of the format.
    pub format: &'static str,
    /// The number of rows, where the file says it.
    pub rows: Option<u64>,
    /// What the rounds look like, where the log describes rounds.
    pub shape: Option<Shape>,
    /// Whether the log says what the target policy would do.
    pub target: bool,
    /// Whether the log predicts rewards.
    pub model: bool,
    /// Whether the logging policy's probability of every candidate is known, not only of the logged one.
    pub behaviour: bool,
}

/// A log that is read from its beginning to its end.
pub trait Source: Send {
    /// What the log has.
    fn about(&self) -> &About;

    /// Asks for rounds in every block, where they can be made of a log that describes them by a number of actions only.
    fn want_rounds(&mut self) {}

    /// Replaces what `block` holds by the next rows, possibly none of them with a reward; false at the end.
    ///
    /// # Errors
    /// A file that cannot be read, or a row that breaks a rule of its format. Rules of all logs (see
    /// [`Logged::check`]) are left to whoever completes the block.
    fn next(&mut self, block: &mut Block) -> Result<bool>;
}

/// What the first look at a file shows.
pub struct Look {
    /// The names of its columns; none for lines of JSON.
    names: Vec<String>,
    /// Whether it is Parquet with our note in it.
    own: bool,
    /// Whether it is lines of JSON.
    json: bool,
}

impl Look {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }
}

/// One format in the table.
pub struct Format {
    /// The name on the command line.
    pub name: &'static str,
    /// One line of help.
    pub summary: &'static str,
    /// Whether a file looks like one of these.
    fits: fn(&Look) -> bool,
    open: fn(&Path) -> Result<Box<dyn Source>>,
}

/// All formats; the first that fits is taken.
pub const FORMATS: &[Format] = &[own::FORMAT, dsjson::FORMAT, open_bandit::FORMAT, plain::FORMAT];

/// Opens a log in the format of this name, or with `auto` in the first that fits.
///
/// # Errors
/// A file that cannot be read, an unknown format, a format that the file does not have. Whoever asked names the file.
pub fn open(path: &Path, format: &str) -> Result<Box<dyn Source>> {
    let format = if format == "auto" {
        let look = look(path)?;
        let found = FORMATS.iter().find(|f| (f.fits)(&look));
        found.with_context(|| unknown(&look))?
    } else {
        let part = Part {
            name: format.into(),
            options: Default::default(),
        };
        registry::find(FORMATS, |f| f.name, &part, "log format", &["auto"])?
    };
    (format.open)(path)
}

fn look(path: &Path) -> Result<Look> {
    let mut text = text::open(path)?;
    let head = text.fill_buf()?;
    ensure!(!head.is_empty(), "the log is empty: expected at least one row");
    if head.starts_with(b"PAR1") {
        let file = parquet::Parquet::open(path)?;
        return Ok(Look {
            own: file.note(oo_core::log::schema::NOTE).is_some(),
            names: file.names(),
            json: false,
        });
    }
    let first = head.iter().find(|b| !b.is_ascii_whitespace());
    if first == Some(&b'{') {
        return Ok(Look {
            names: Vec::new(),
            own: false,
            json: true,
        });
    }
    drop(text);
    Ok(Look {
        names: columns::Columns::open(path)?.names().to_vec(),
        own: false,
        json: false,
    })
}

fn unknown(look: &Look) -> String {
    let columns = match look.names.len() {
        0..=12 => look.names.join(", "),
        n => format!("{}, … ({n} in all)", look.names[..12].join(", ")),
    };
    let formats: Vec<String> = FORMATS.iter().map(|f| format!("{}: {}", f.name, f.summary)).collect();
    format!(
        "the columns are those of no known format. There are: {columns}. Formats are:\n  {}",
        formats.join("\n  ")
    )
}

/// The error of a row.
pub(crate) fn bad_row(row: u64, column: &str, expected: &str, got: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("row {row}, column `{column}`: expected {expected}, got {got}")
}

/// How many rows make a block when a row has so many values: a few dozen megabytes at most, and whole multiples of what
/// estimators work on together.
pub(crate) fn block_rows(values: usize) -> usize {
    let rows = (1 << 22) / values.max(1);
    (rows / oo_judge::estimators::BLOCK).clamp(1, 128) * oo_judge::estimators::BLOCK
}

/// A number that must be a whole one, such as an action.
pub(crate) fn whole(x: f64, row: u64, column: &str) -> Result<u64> {
    if x >= 0.0 && x.fract() == 0.0 && x < 9e15 {
        return Ok(x as u64);
    }
    Err(bad_row(row, column, "a whole number of at least 0", x))
}
