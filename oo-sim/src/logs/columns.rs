//! Tables of named columns, from CSV, CSV.gz or Parquet, a block of rows at a time.

use super::parquet::Parquet;
use super::{bad_row, text};
use anyhow::{Context, Result, bail, ensure};
use polars_core::prelude::{DataType, Series};
use std::io::BufRead;
use std::path::Path;

/// What is wanted of a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A number in every row.
    Number,
    /// Any text.
    Text,
}

/// A column of a block.
#[derive(Clone, PartialEq, Debug)]
pub enum Values {
    /// One number a row; NaN and infinities pass.
    Numbers(Vec<f64>),
    /// One text a row.
    Texts(Vec<String>),
}

impl Values {
    /// The numbers; none of a column of texts.
    pub fn numbers(&self) -> &[f64] {
        match self {
            Values::Numbers(x) => x,
            Values::Texts(_) => &[],
        }
    }

    /// The texts; none of a column of numbers.
    pub fn texts(&self) -> &[String] {
        match self {
            Values::Texts(x) => x,
            Values::Numbers(_) => &[],
        }
    }
}

enum Reader {
    Csv(Box<csv::Reader<Box<dyn BufRead + Send>>>),
    Parquet(Box<Parquet>),
}

/// A table that is read from its beginning to its end.
pub struct Columns {
    names: Vec<String>,
    reader: Reader,
    selected: Vec<(usize, Kind)>,
    /// Rows that were given out.
    given: u64,
}

impl Columns {
    /// Opens a table; Parquet is recognised by its first bytes, everything else is CSV.
    ///
    /// # Errors
    /// A file that cannot be read, a name that two columns have.
    pub fn open(path: &Path) -> Result<Self> {
        let mut input = text::open(path)?;
        let (names, reader) = if input.fill_buf()?.starts_with(b"PAR1") {
            let file = Parquet::open(path)?;
            (file.names(), Reader::Parquet(Box::new(file)))
        } else {
            let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
            let header = reader.headers().map_err(|e| explain(e, 0))?;
            let names = header.iter().map(str::to_string).collect();
            (names, Reader::Csv(Box::new(reader)))
        };
        if let Some((_, name)) = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)) {
            bail!("two columns are named `{name}`; expected different names");
        }
        Ok(Columns {
            names,
            reader,
            selected: Vec::new(),
            given: 0,
        })
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of rows, where the file says it.
    pub fn rows(&self) -> Option<u64> {
        match &self.reader {
            Reader::Csv(_) => None,
            Reader::Parquet(file) => Some(file.rows()),
        }
    }

    /// The position of the first of these columns that there is.
    ///
    /// # Errors
    /// None of them, with what there is.
    pub fn find(&self, names: &[&str]) -> Result<usize> {
        let found = names.iter().find_map(|name| self.names.iter().position(|n| n == name));
        found.with_context(|| {
            format!(
                "there is no column `{}`; there are: {}",
                names.join("` or `"),
                self.names.join(", ")
            )
        })
    }

    /// The positions of `prefix0`, `prefix1`, …, without a gap; empty where there is none.
    ///
    /// # Errors
    /// A gap in the numbers.
    pub fn series(&self, prefix: &str) -> Result<Vec<usize>> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for (at, name) in self.names.iter().enumerate() {
            if let Some(number) = name.strip_prefix(prefix).and_then(|n| n.parse().ok()) {
                found.push((number, at));
            }
        }
        found.sort_unstable();
        for (i, (number, _)) in found.iter().enumerate() {
            ensure!(
                *number == i,
                "there is a column `{prefix}{number}` and no `{prefix}{i}`; expected numbers from 0 without a gap"
            );
        }
        Ok(found.into_iter().map(|(_, at)| at).collect())
    }

    /// Chooses what [`next`](Self::next) gives; to be called before the first block.
    ///
    /// # Errors
    /// A column of another type.
    pub fn select(&mut self, columns: Vec<(usize, Kind)>) -> Result<()> {
        if let Reader::Parquet(file) = &mut self.reader {
            file.select(&columns.iter().map(|c| c.0).collect::<Vec<_>>())?;
        }
        self.selected = columns;
        Ok(())
    }

    /// The row number of the next block's first row, from 1.
    pub fn next_row(&self) -> u64 {
        self.given + 1
    }

    /// The next rows, at most `most`, one entry a selected column; `None` at the end.
    ///
    /// # Errors
    /// A file that cannot be read, a cell that is missing or no number.
    pub fn next(&mut self, most: usize) -> Result<Option<Vec<Values>>> {
        let first = self.next_row();
        let values = match &mut self.reader {
            Reader::Parquet(file) => {
                let Some(block) = file.next(most)? else {
                    return Ok(None);
                };
                let cast = |(series, &(_, kind)): (&Series, &(usize, Kind))| from_series(series, kind, first);
                let values: Vec<Values> = block.iter().zip(&self.selected).map(cast).collect::<Result<_>>()?;
                self.given += block.first().map_or(0, |s| s.len() as u64);
                values
            }
            Reader::Csv(reader) => {
                let (values, rows) = records(reader, &self.names, &self.selected, most, first)?;
                if rows == 0 {
                    return Ok(None);
                }
                self.given += rows;
                values
            }
        };
        Ok(Some(values))
    }
}

fn records(
    reader: &mut csv::Reader<Box<dyn BufRead + Send>>,
    names: &[String],
    selected: &[(usize, Kind)],
    most: usize,
    first: u64,
) -> Result<(Vec<Values>, u64)> {
    let mut out: Vec<Values> = selected
        .iter()
        .map(|(_, kind)| match kind {
            Kind::Number => Values::Numbers(Vec::new()),
            Kind::Text => Values::Texts(Vec::new()),
        })
        .collect();
    let mut record = csv::StringRecord::new();
    let mut rows = 0;
    while rows < most as u64 {
        let row = first + rows;
        if !reader.read_record(&mut record).map_err(|e| explain(e, row))? {
            break;
        }
        for (values, &(column, _)) in out.iter_mut().zip(selected) {
            let cell = record.get(column).unwrap_or_default();
            match values {
                Values::Texts(texts) => texts.push(cell.into()),
                Values::Numbers(numbers) => match cell.parse() {
                    Ok(x) => numbers.push(x),
                    Err(_) if cell.is_empty() => return Err(bad_row(row, &names[column], "a number", "nothing")),
                    Err(_) => return Err(bad_row(row, &names[column], "a number", format!("`{cell}`"))),
                },
            }
        }
        rows += 1;
    }
    Ok((out, rows))
}

/// The error with the number of its row.
fn explain(error: csv::Error, row: u64) -> anyhow::Error {
    let place = if row == 0 {
        "the header".into()
    } else {
        format!("row {row}")
    };
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            anyhow::anyhow!("{place}: expected {expected_len} cells, got {len}")
        }
        csv::ErrorKind::Utf8 { .. } => anyhow::anyhow!("{place}: expected text in UTF-8"),
        csv::ErrorKind::Io(e) => anyhow::anyhow!("{place}: the file cannot be read on: {e}"),
        _ => anyhow::anyhow!("{place}: {error}"),
    }
}

/// A column of Parquet as what is wanted of it.
fn from_series(series: &Series, kind: Kind, first: u64) -> Result<Values> {
    let name = series.name().as_str();
    let dtype = series.dtype();
    let missing = |i: usize, what: &str| bad_row(first + i as u64, name, what, "nothing");
    match kind {
        Kind::Number => {
            ensure!(
                dtype.is_primitive_numeric() || dtype.is_bool(),
                "column `{name}`: expected numbers, got {dtype}"
            );
            let cast = series.cast(&DataType::Float64)?;
            let numbers = cast.f64()?;
            let cell = |(i, x): (usize, Option<f64>)| x.ok_or_else(|| missing(i, "a number"));
            Ok(Values::Numbers(
                numbers.iter().enumerate().map(cell).collect::<Result<_>>()?,
            ))
        }
        Kind::Text => {
            ensure!(!dtype.is_nested(), "column `{name}`: expected texts, got {dtype}");
            let cast = series.cast(&DataType::String)?;
            let cell = |(i, x): (usize, Option<&str>)| x.map(str::to_string).ok_or_else(|| missing(i, "a text"));
            Ok(Values::Texts(
                cast.str()?.iter().enumerate().map(cell).collect::<Result<_>>()?,
            ))
        }
    }
}
