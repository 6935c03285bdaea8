//! Writes oO's own log, see [`own`](super::own) for what it is.
//!
//! Rows keep their order. A row is held back until its reward has arrived, so that it can be written once; whoever
//! waits when the log ends is written without a reward.

use super::own::{COLUMNS, Header, NOTE};
use crate::runner::Witness;
use anyhow::{Context, Result};
use oo_core::{Arrival, Error, Log, Outcome, Row};
use polars_core::prelude::{
    Column, DataFrame, DataType, Field, Float32Type, Float64Type, ListBuilderTrait, ListPrimitiveChunkedBuilder,
    PolarsNumericType, Schema, UInt64Type,
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
    let list = |inner: DataType| DataType::List(Box::new(inner));
    let types = [
        DataType::UInt64,
        DataType::UInt64,
        DataType::UInt64,
        list(DataType::Float32),
        list(DataType::UInt64),
        list(DataType::Float32),
        list(DataType::Float64),
        DataType::UInt32,
        DataType::Float64,
        DataType::String,
        DataType::UInt32,
        DataType::Float64,
        DataType::String,
        DataType::UInt64,
    ];
    Schema::from_iter(
        COLUMNS
            .iter()
            .zip(types)
            .map(|(name, dtype)| Field::new((*name).into(), dtype)),
    )
}

/// The first rows of a log as a frame of the columns [`COLUMNS`].
fn frame(log: &Log, time: &[u64], rows: usize) -> Result<DataFrame> {
    let all = || (0..rows).map(|i| log.row(i));
    let feedback = || all().map(|r| r.feedback);
    let [
        index,
        user,
        time_name,
        context,
        candidates,
        features,
        probs,
        chosen,
        propensity,
        method,
        draws,
        reward,
        reaction,
        dwell,
    ] = COLUMNS;
    let columns = vec![
        Column::new(index.into(), all().map(|r| r.round.index).collect::<Vec<_>>()),
        Column::new(user.into(), all().map(|r| r.round.user.0).collect::<Vec<_>>()),
        Column::new(time_name.into(), &time[..rows]),
        lists::<Float32Type, _>(context, DataType::Float32, all(), |r, out| {
            out.extend_from_slice(r.round.context)
        }),
        lists::<UInt64Type, _>(candidates, DataType::UInt64, all(), |r, out| {
            out.extend(r.round.candidates.ids.iter().map(|id| id.0));
        }),
        lists::<Float32Type, _>(features, DataType::Float32, all(), |r, out| {
            out.extend_from_slice(r.round.candidates.features);
        }),
        lists::<Float64Type, _>(probs, DataType::Float64, all(), |r, out| out.extend_from_slice(r.probs)),
        Column::new(chosen.into(), all().map(|r| r.chosen as u32).collect::<Vec<_>>()),
        Column::new(propensity.into(), all().map(|r| r.propensity()).collect::<Vec<_>>()),
        Column::new(method.into(), all().map(|r| r.method.name()).collect::<Vec<_>>()),
        Column::new(draws.into(), all().map(|r| draws_of(r.method)).collect::<Vec<_>>()),
        Column::new(reward.into(), all().map(|r| r.reward).collect::<Vec<_>>()),
        Column::new(
            reaction.into(),
            feedback().map(|f| f.map(|f| f.reaction.name())).collect::<Vec<_>>(),
        ),
        Column::new(dwell.into(), feedback().map(|f| f?.dwell_ms).collect::<Vec<_>>()),
    ];
    Ok(DataFrame::new(rows, columns)?)
}

fn draws_of(method: oo_core::Method) -> Option<u32> {
    match method {
        oo_core::Method::MonteCarlo { draws } => Some(draws),
        _ => None,
    }
}

fn lists<'a, T: PolarsNumericType, F: Fn(Row<'a>, &mut Vec<T::Native>)>(
    name: &str,
    inner: DataType,
    rows: impl Iterator<Item = Row<'a>>,
    fill: F,
) -> Column {
    let mut builder = ListPrimitiveChunkedBuilder::<T>::new(name.into(), 0, 0, inner);
    let mut values = Vec::new();
    for row in rows {
        values.clear();
        fill(row, &mut values);
        builder.append_slice(&values);
    }
    builder.finish().into_series().into()
}
