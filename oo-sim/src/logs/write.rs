//! Writes oO's own log, see [`own`](super::own) for what it is.
//!
//! Rows keep their order. A row is held back until its reward has arrived, so that it can be written once; whoever
//! waits when the log ends is written without a reward.

use super::own::dtype;
use crate::runner::Witness;
use anyhow::{Context, Result};
use oo_core::log::schema::{self, COLUMNS, Cells, Header, NOTE};
use oo_core::{Arrival, Error, Log, Outcome, Row};
use polars_core::prelude::{
    Column, DataFrame, DataType, Field, Float32Type, Float64Type, ListBuilderTrait, ListPrimitiveChunkedBuilder,
    NamedFrom, PolarsNumericType, Schema, Series, UInt64Type,
};
use polars_core::series::IntoSeries;
use polars_io::parquet::write::{BatchedWriter, KeyValueMetadata, ParquetWriter};
use std::io::Write;

/// A row group is written when it has about this many bytes, so that reading one takes little memory.
const GROUP_BYTES: usize = 16 << 20;

/// The same as a number of rows.
const GROUP_ROWS: usize = 1 << 16;

/// A log that is being written.
pub struct Writer<W: Write> {
    file: BatchedWriter<W>,
    log: Log,
    time: Vec<u64>,
    /// The times at which rewards arrive; `None` for those that never do.
    due: Vec<Option<u64>>,
    rewards: Vec<Outcome>,
    /// So many rows from the beginning are known to be complete.
    complete: usize,
    bytes: usize,
    now: u64,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a log.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn new(file: W, header: &Header) -> Result<Self> {
        let note = KeyValueMetadata::from_static(vec![(NOTE.into(), serde_json::to_string(header)?)]);
        let writer = ParquetWriter::new(file).with_key_value_metadata(Some(note));
        Ok(Writer {
            file: writer.batched(&schema())?,
            log: Log::new(),
            time: Vec::new(),
            due: Vec::new(),
            rewards: Vec::new(),
            complete: 0,
            bytes: 0,
            now: 0,
            written: 0,
        })
    }

    /// Adds a decision of time `now`, with what comes of it and when.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn push(&mut self, now: u64, row: Row<'_>, outcome: &Outcome) -> Result<()> {
        self.now = now;
        self.log.push_parts(&row.round, row.probs, row.chosen, row.method);
        self.time.push(now);
        self.due.push(match outcome.arrival {
            Arrival::Now => Some(now),
            Arrival::After(delay) => Some(now.saturating_add(delay)),
            Arrival::Never => None,
        });
        self.rewards.push(*outcome);
        let candidates = row.round.candidates;
        self.bytes += 64 + 4 * (row.round.context.len() + candidates.features.len()) + 16 * candidates.len();
        while let Some(due) = self.due.get(self.complete)
            && due.is_none_or(|due| due <= now)
        {
            self.complete += 1;
        }
        let share = self.complete as f64 / self.time.len() as f64;
        if self.complete >= GROUP_ROWS || self.bytes as f64 * share >= GROUP_BYTES as f64 {
            self.flush(self.complete)?;
        }
        Ok(())
    }

    /// Writes what is left and the end of the file. Returns the number of rows.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn finish(mut self) -> Result<u64> {
        self.flush(self.time.len())?;
        self.file.finish()?;
        Ok(self.written)
    }

    /// Writes the first rows as a row group and forgets them.
    fn flush(&mut self, rows: usize) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        for i in 0..rows {
            if self.due[i].is_some_and(|due| due <= self.now) {
                self.log.settle(i, self.rewards[i].reward, self.rewards[i].feedback);
            }
        }
        let frame = frame(&self.log, &self.time, rows)?;
        self.file.write_batch(&frame).context("cannot write the log")?;
        let mut rest = Log::new();
        for i in rows..self.log.len() {
            let row = self.log.row(i);
            rest.push_parts(&row.round, row.probs, row.chosen, row.method);
        }
        self.bytes = (self.bytes as f64 * rest.len() as f64 / self.log.len() as f64) as usize;
        self.log = rest;
        self.time.drain(..rows);
        self.due.drain(..rows);
        self.rewards.drain(..rows);
        self.complete -= rows.min(self.complete);
        self.written += rows as u64;
        Ok(())
    }
}

impl<W: Write> Witness for Writer<W> {
    fn answered(&mut self, now: u64, row: Row<'_>, outcome: &Outcome) -> oo_core::Result<()> {
        self.push(now, row, outcome)
            .map_err(|e| Error::Failed(format!("{e:#}")))
    }
}

fn schema() -> Schema {
    Schema::from_iter(COLUMNS.iter().map(|c| Field::new(c.name.into(), dtype(&c.cells))))
}

/// The first rows of a log as a frame of the columns [`COLUMNS`].
fn frame(log: &Log, time: &[u64], rows: usize) -> Result<DataFrame> {
    let columns = COLUMNS.iter().map(|c| column(c, log, &time[..rows])).collect();
    Ok(DataFrame::new(rows, columns)?)
}

fn column(column: &schema::Column, log: &Log, time: &[u64]) -> Column {
    fn single<T>(log: &Log, time: &[u64], of: fn(&Row<'_>, u64) -> Option<T>) -> Vec<Option<T>> {
        time.iter()
            .enumerate()
            .map(|(i, time)| of(&log.row(i), *time))
            .collect()
    }
    let name = column.name;
    let series = match column.cells {
        Cells::U64(of) => Series::new(name.into(), single(log, time, of)),
        Cells::U32(of) => Series::new(name.into(), single(log, time, of)),
        Cells::F64(of) => Series::new(name.into(), single(log, time, of)),
        Cells::Text(of) => Series::new(name.into(), single(log, time, of)),
        Cells::F32s(of) => lists::<Float32Type>(name, DataType::Float32, time.len(), |i, out| {
            out.extend_from_slice(of(&log.row(i)));
        }),
        Cells::F64s(of) => lists::<Float64Type>(name, DataType::Float64, time.len(), |i, out| {
            out.extend_from_slice(of(&log.row(i)));
        }),
        Cells::Ids(of) => lists::<UInt64Type>(name, DataType::UInt64, time.len(), |i, out| {
            out.extend(of(&log.row(i)).iter().map(|id| id.0));
        }),
    };
    series.into()
}

fn lists<T: PolarsNumericType>(
    name: &str,
    inner: DataType,
    rows: usize,
    fill: impl Fn(usize, &mut Vec<T::Native>),
) -> Series {
    let mut builder = ListPrimitiveChunkedBuilder::<T>::new(name.into(), rows, 0, inner);
    let mut values = Vec::new();
    for i in 0..rows {
        values.clear();
        fill(i, &mut values);
        builder.append_slice(&values);
    }
    builder.finish().into_series()
}
