//! The journal as the Parquet log that `oo-sim ope` reads: production is the next experiment. The format is `oo` of
//! docs/logs.md, version 1.
//!
//! A decision has the reward that it taught: that of its feedback, or the default one. Late and extra feedback is in the
//! journal and not in the log. Observed decisions are left out, since nobody saw what they chose, and so are those of
//! forgotten users. Where the caller chose, the column `own` has the probabilities that the policy would have given.

use crate::engine::event::Event;
use crate::engine::settings::BuildPolicy;
use crate::inspect;
use crate::journal::Segments;
use crate::{Error, Result, engine::recover};
use oo_core::tips::Feedback;
use oo_core::{ActionId, Candidates, Log, Method, Round, Row, Shape, UserId};
use polars_core::prelude::{
    Column, DataFrame, DataType, Field, Float32Type, Float64Type, ListBuilderTrait, ListPrimitiveChunkedBuilder,
    PolarsNumericType, Schema, UInt64Type,
};
use polars_core::series::IntoSeries;
use polars_io::parquet::write::{BatchedWriter, KeyValueMetadata, ParquetWriter};
use serde_json::json;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// A row group has at most this many rows.
const GROUP_ROWS: usize = 1 << 16;
/// And about this many bytes.
const GROUP_BYTES: usize = 16 << 20;

/// What a decision taught, by the number of its record.
pub(crate) type Taught = HashMap<u64, (f64, Option<Feedback>)>;

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Exported {
    /// Decisions.
    pub rows: u64,
    /// Of these, with a reward.
    pub rewarded: u64,
}

/// Writes the decisions of a state folder and what came of them. A server may be running on it.
///
/// # Errors
/// A folder that cannot be read or replayed, a file that cannot be written. A file of that name is then as it was.
pub fn export(dir: &Path, to: &Path) -> Result<Exported> {
    let (taught, shape, policy) = inspect::taught(dir)?;
    let temporary = to.with_extension("parquet.tmp");
    let written = write(dir, &temporary, &taught, &shape, &policy);
    let renamed = written.and_then(|w| fs::rename(&temporary, to).map(|()| w).map_err(Error::io("rename", to)));
    if renamed.is_err() {
        // It may not even have been made.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

fn write(dir: &Path, to: &Path, taught: &Taught, shape: &Shape, policy: &str) -> Result<Exported> {
    let header = json!({
        "version": 1,
        "shape": shape,
        "policy": policy,
        "origin": "oo-serve",
    });
    let note = KeyValueMetadata::from_static(vec![("oo-log".into(), header.to_string())]);
    let file = File::create(to).map_err(Error::io("create", to))?;
    let polars = |e: polars_core::error::PolarsError| Error::Damaged {
        path: to.into(),
        why: e.to_string(),
    };
    let writer = ParquetWriter::new(file).with_key_value_metadata(Some(note));
    let mut file: BatchedWriter<File> = writer.batched(&schema()).map_err(polars)?;
    let (mut log, mut times, mut own, mut bytes) = (Log::new(), Vec::new(), Vec::new(), 0);
    let mut done = Exported::default();
    let segments = Segments::new(&recover::journal_dir(dir));
    for segment in segments.list()? {
        segments.scan(segment, |r| {
            let Ok(Event::Decided(d)) = Event::decode(&r) else {
                return Ok(());
            };
            let l = &d.logged;
            if l.observe {
                return Ok(());
            }
            let ids: Vec<ActionId> = l.ids.iter().map(|id| crate::engine::ask::action_id(id)).collect();
            let round = Round {
                index: l.index,
                user: UserId(crate::engine::ask::identity(&l.user)),
                context: &l.context,
                candidates: Candidates {
                    ids: &ids,
                    features: &l.features,
                    dim: l.dim(),
                },
            };
            let row = log.push_parts(&round, &l.answer.probs, l.answer.chosen, l.answer.method);
            if let Some((reward, feedback)) = taught.get(&r.seq) {
                log.settle(row, *reward, *feedback);
                done.rewarded += 1;
            }
            times.push(r.time);
            own.push(l.own.clone());
            done.rows += 1;
            bytes += r.size();
            if times.len() >= GROUP_ROWS || bytes >= GROUP_BYTES {
                file.write_batch(&frame(&log, &times, &own).map_err(polars)?)
                    .map_err(polars)?;
                log.clear();
                times.clear();
                own.clear();
                bytes = 0;
            }
            Ok(())
        })?;
    }
    if !times.is_empty() {
        file.write_batch(&frame(&log, &times, &own).map_err(polars)?)
            .map_err(polars)?;
    }
    file.finish().map_err(polars)?;
    Ok(done)
}

fn list_of(inner: DataType) -> DataType {
    DataType::List(Box::new(inner))
}

/// The columns, in the order of the file.
fn schema() -> Schema {
    let columns = [
        ("index", DataType::UInt64),
        ("user", DataType::UInt64),
        ("time", DataType::UInt64),
        ("context", list_of(DataType::Float32)),
        ("candidates", list_of(DataType::UInt64)),
        ("features", list_of(DataType::Float32)),
        ("probs", list_of(DataType::Float64)),
        ("chosen", DataType::UInt32),
        ("propensity", DataType::Float64),
        ("method", DataType::String),
        ("draws", DataType::UInt32),
        ("reward", DataType::Float64),
        ("reaction", DataType::String),
        ("dwell_ms", DataType::UInt64),
        ("own", list_of(DataType::Float64)),
    ];
    Schema::from_iter(columns.map(|(name, dtype)| Field::new(name.into(), dtype)))
}

fn frame(log: &Log, times: &[u64], own: &[Vec<f64>]) -> polars_core::error::PolarsResult<DataFrame> {
    fn each<'l, T>(log: &'l Log, of: impl Fn(Row<'l>) -> T) -> Vec<T> {
        (0..log.len()).map(|i| of(log.row(i))).collect()
    }
    fn lists<'l, T: PolarsNumericType>(
        log: &'l Log,
        (name, inner): (&str, DataType),
        of: impl Fn(Row<'l>, &mut Vec<T::Native>),
    ) -> Column {
        let mut builder = ListPrimitiveChunkedBuilder::<T>::new(name.into(), log.len(), log.len() * 16, inner);
        let mut values = Vec::new();
        for i in 0..log.len() {
            values.clear();
            of(log.row(i), &mut values);
            builder.append_slice(&values);
        }
        builder.finish().into_series().into()
    }
    let draws = |method| match method {
        Method::MonteCarlo { draws } => Some(draws),
        _ => None,
    };
    let mut beside = ListPrimitiveChunkedBuilder::<Float64Type>::new("own".into(), own.len(), 0, DataType::Float64);
    own.iter().for_each(|probs| beside.append_slice(probs));
    let columns = vec![
        Column::new("index".into(), each(log, |r| r.round.index)),
        Column::new("user".into(), each(log, |r| r.round.user.0)),
        Column::new("time".into(), times),
        lists::<Float32Type>(log, ("context", DataType::Float32), |r, out| {
            out.extend_from_slice(r.round.context)
        }),
        lists::<UInt64Type>(log, ("candidates", DataType::UInt64), |r, out| {
            out.extend(r.round.candidates.ids.iter().map(|id| id.0))
        }),
        lists::<Float32Type>(log, ("features", DataType::Float32), |r, out| {
            out.extend_from_slice(r.round.candidates.features)
        }),
        lists::<Float64Type>(log, ("probs", DataType::Float64), |r, out| {
            out.extend_from_slice(r.probs)
        }),
        Column::new("chosen".into(), each(log, |r| r.chosen as u32)),
        Column::new("propensity".into(), each(log, |r| r.propensity())),
        Column::new("method".into(), each(log, |r| r.method.name())),
        Column::new("draws".into(), each(log, |r| draws(r.method))),
        Column::new("reward".into(), each(log, |r| r.reward)),
        Column::new("reaction".into(), each(log, |r| r.feedback.map(|f| f.reaction.name()))),
        Column::new("dwell_ms".into(), each(log, |r| r.feedback.and_then(|f| f.dwell_ms))),
        beside.finish().into_series().into(),
    ];
    DataFrame::new(log.len(), columns)
}

/// The builder of every policy that the library has.
pub(crate) fn library() -> BuildPolicy {
    Arc::new(oo_policies::build)
}
