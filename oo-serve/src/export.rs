//! The journal as the Parquet log that `oo-sim ope` reads: production is the next experiment. The format is `oo` of
//! docs/logs.md, by the one table of columns that both programs have.
//!
//! A decision has the reward that it taught: that of its feedback, or the default one. Late and extra feedback is in the
//! journal and not in the log. Observed decisions are left out, since nobody saw what they chose, and so are those of
//! forgotten users. Where the caller chose, the column `own` has the probabilities that the policy would have given; a column
//! `shadow:NAME` has those that a shadow would have.

use crate::engine::event::{Event, kind};
use crate::engine::settings::BuildPolicy;
use crate::inspect;
use crate::journal::Segments;
use crate::{Error, Result, engine::recover};
use oo_core::log::schema::{self, COLUMNS, Cells, Header, NOTE, VERSION};
use oo_core::tips::Feedback;
use oo_core::{ActionId, Candidates, Log, Round, Row, Shape, UserId};
use polars_core::prelude::{
    Column, DataFrame, DataType, Field, Float32Type, Float64Type, ListBuilderTrait, ListPrimitiveChunkedBuilder,
    NamedFrom, PolarsNumericType, Schema, Series, UInt64Type,
};
use polars_core::series::IntoSeries;
use polars_io::parquet::write::{BatchedWriter, KeyValueMetadata, ParquetWriter};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// A row group has at most this many rows.
const GROUP_ROWS: usize = 1 << 16;
/// And about this many bytes.
const GROUP_BYTES: usize = 16 << 20;

/// What a decision taught, by the number of its record.
pub(crate) type Taught = HashMap<u64, (f64, Option<Feedback>)>;

/// What shadows would have given: by their names, by the number of the decision's record.
type Shadows = BTreeMap<String, HashMap<u64, Vec<f64>>>;

/// A column of the server's own, a row a decision.
struct Beside {
    name: String,
    rows: Vec<Vec<f64>>,
}

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
    let header = Header {
        version: VERSION,
        shape: shape.clone(),
        policy: policy.into(),
        origin: "oo-serve".into(),
        seed: None,
        reward: None,
        actions: Vec::new(),
    };
    let header = serde_json::to_string(&header).expect("a header is plain data");
    let note = KeyValueMetadata::from_static(vec![(NOTE.into(), header)]);
    let file = File::create(to).map_err(Error::io("create", to))?;
    let polars = |e: polars_core::error::PolarsError| Error::Damaged {
        path: to.into(),
        why: e.to_string(),
    };
    let writer = ParquetWriter::new(file).with_key_value_metadata(Some(note));
    let segments = Segments::new(&recover::journal_dir(dir));
    let shadows = shadows(&segments)?;
    let names = std::iter::once(OWN.into()).chain(shadows.keys().map(|name| format!("shadow:{name}")));
    let mut beside: Vec<Beside> = names.map(|name| Beside { name, rows: Vec::new() }).collect();
    let own = beside
        .iter()
        .map(|b| Field::new(b.name.as_str().into(), DataType::List(Box::new(DataType::Float64))));
    let columns = COLUMNS.iter().map(|c| Field::new(c.name.into(), dtype(&c.cells)));
    let mut file: BatchedWriter<File> = writer.batched(&Schema::from_iter(columns.chain(own))).map_err(polars)?;
    let (mut log, mut times, mut bytes) = (Log::new(), Vec::new(), 0);
    let mut done = Exported::default();
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
            let of_shadows = shadows.values().map(|s| s.get(&r.seq).cloned().unwrap_or_default());
            let row = std::iter::once(l.own.clone()).chain(of_shadows);
            beside
                .iter_mut()
                .zip(row)
                .for_each(|(column, probs)| column.rows.push(probs));
            done.rows += 1;
            bytes += r.size();
            if times.len() >= GROUP_ROWS || bytes >= GROUP_BYTES {
                file.write_batch(&frame(&log, &times, &beside).map_err(polars)?)
                    .map_err(polars)?;
                log.clear();
                times.clear();
                beside.iter_mut().for_each(|column| column.rows.clear());
                bytes = 0;
            }
            Ok(())
        })?;
    }
    if !times.is_empty() {
        file.write_batch(&frame(&log, &times, &beside).map_err(polars)?)
            .map_err(polars)?;
    }
    file.finish().map_err(polars)?;
    Ok(done)
}

/// Everything that shadows would have given; nothing where they failed.
fn shadows(segments: &Segments) -> Result<Shadows> {
    let mut found = Shadows::new();
    for segment in segments.list()? {
        segments.scan(segment, |r| {
            if r.kind == kind::SHADOW
                && let Ok(Event::Shadow(s)) = Event::decode(&r)
            {
                found.entry(s.name).or_default().insert(s.decision, s.probs);
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// A column of the server's own, behind those of the schema: what the policy in charge would have given, where the caller
/// chose; else an empty list.
const OWN: &str = "own";

/// The type of a column in a file.
fn dtype(cells: &Cells) -> DataType {
    let list = |inner: DataType| DataType::List(Box::new(inner));
    match cells {
        Cells::U64(_) => DataType::UInt64,
        Cells::U32(_) => DataType::UInt32,
        Cells::F64(_) => DataType::Float64,
        Cells::Text(_) => DataType::String,
        Cells::F32s(_) => list(DataType::Float32),
        Cells::F64s(_) => list(DataType::Float64),
        Cells::Ids(_) => list(DataType::UInt64),
    }
}

fn frame(log: &Log, times: &[u64], beside: &[Beside]) -> polars_core::error::PolarsResult<DataFrame> {
    let own = beside.iter().map(|b| {
        let name = b.name.as_str().into();
        let mut list = ListPrimitiveChunkedBuilder::<Float64Type>::new(name, b.rows.len(), 0, DataType::Float64);
        b.rows.iter().for_each(|probs| list.append_slice(probs));
        Column::from(list.finish().into_series())
    });
    let columns = COLUMNS.iter().map(|c| column(c, log, times)).chain(own).collect();
    DataFrame::new(log.len(), columns)
}

fn column(column: &schema::Column, log: &Log, times: &[u64]) -> Column {
    fn single<T>(log: &Log, times: &[u64], of: fn(&Row<'_>, u64) -> Option<T>) -> Vec<Option<T>> {
        times
            .iter()
            .enumerate()
            .map(|(i, time)| of(&log.row(i), *time))
            .collect()
    }
    fn lists<'l, T: PolarsNumericType>(
        (name, inner): (&str, DataType),
        log: &'l Log,
        fill: impl Fn(Row<'l>, &mut Vec<T::Native>),
    ) -> Series {
        let mut builder = ListPrimitiveChunkedBuilder::<T>::new(name.into(), log.len(), log.len() * 16, inner);
        let mut values = Vec::new();
        for i in 0..log.len() {
            values.clear();
            fill(log.row(i), &mut values);
            builder.append_slice(&values);
        }
        builder.finish().into_series()
    }
    let name = column.name;
    let series = match column.cells {
        Cells::U64(of) => Series::new(name.into(), single(log, times, of)),
        Cells::U32(of) => Series::new(name.into(), single(log, times, of)),
        Cells::F64(of) => Series::new(name.into(), single(log, times, of)),
        Cells::Text(of) => Series::new(name.into(), single(log, times, of)),
        Cells::F32s(of) => lists::<Float32Type>((name, DataType::Float32), log, |r, out| out.extend_from_slice(of(&r))),
        Cells::F64s(of) => lists::<Float64Type>((name, DataType::Float64), log, |r, out| out.extend_from_slice(of(&r))),
        Cells::Ids(of) => lists::<UInt64Type>((name, DataType::UInt64), log, |r, out| {
            out.extend(of(&r).iter().map(|id| id.0));
        }),
    };
    series.into()
}

/// The builder of every policy that the library has.
pub(crate) fn library() -> BuildPolicy {
    Arc::new(oo_policies::build)
}
