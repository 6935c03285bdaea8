//! oO's own log: a Parquet file, one row a decision, with everything that a later question needs.
//!
//! Columns and header are those of [`oo_core::log::schema`]; the header stands as JSON in the file's metadata under
//! [`NOTE`]. [`write`](super::write) writes it; an [`oo_core::Log`] goes through a file and back bit for bit.

use super::parquet::Parquet;
use super::{About, Block, Format, Source, bad_row};
use anyhow::{Context, Result, anyhow, ensure};
use oo_core::log::schema::{COLUMNS, Cells, Header, NOTE, VERSION};
use oo_core::tips::{Feedback, Reaction};
use oo_core::{ActionId, Candidates, Log, Method, Round, UserId};
use oo_judge::estimators::Sizes;
use polars_core::prelude::{DataType, Series};
use std::path::Path;

/// The row of the table.
pub(super) const FORMAT: Format = Format {
    name: "oo",
    summary: "Parquet as `oo-sim log` writes it: rounds with features, all probabilities and what came of them",
    fits: |look| look.own,
    open: |path| Ok(Box::new(Own::open(path)?)),
};

/// Rows of a group are read together, in slices of this many.
const SLICE: usize = 8192;

/// Reads a log from its beginning to its end, rows without a reward included.
pub struct Reader {
    file: Parquet,
    /// What all rows have in common.
    pub header: Header,
    row: u64,
}

impl Reader {
    /// Opens a log.
    ///
    /// # Errors
    /// A file that is no log of this program, or of a version that it does not know.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = Parquet::open(path)?;
        let note = file.note(NOTE).with_context(|| {
            format!("expected a Parquet file with the note `{NOTE}` in its metadata, as `oo-sim log` writes it")
        })?;
        let header: Header = serde_json::from_str(note).with_context(|| format!("the note `{NOTE}`"))?;
        ensure!(
            header.version == VERSION,
            "the log has version {}; expected {VERSION}, the only one that this program reads",
            header.version
        );
        let names = file.names();
        let place = |name: &str| {
            let found = names.iter().position(|n| n == name);
            found.with_context(|| format!("there is no column `{name}`; there are: {}", names.join(", ")))
        };
        let columns: Vec<usize> = COLUMNS.iter().map(|c| place(c.name)).collect::<Result<_>>()?;
        file.select(&columns)?;
        Ok(Reader { file, header, row: 0 })
    }

    /// Appends the next rows and their times; false at the end.
    ///
    /// # Errors
    /// A damaged file, a row that breaks a rule.
    pub fn next(&mut self, log: &mut Log, time: &mut Vec<u64>) -> Result<bool> {
        let Some(series) = self.file.next(SLICE)? else {
            return Ok(false);
        };
        let rows = series.first().map_or(0, |s| s.len());
        let first = self.row + 1;
        self.append(&series, first, log, time)?;
        self.row += rows as u64;
        Ok(true)
    }

    fn append(&self, series: &[Series], first: u64, log: &mut Log, time: &mut Vec<u64>) -> Result<()> {
        for (series, column) in series.iter().zip(&COLUMNS) {
            of_type(series, &dtype(&column.cells))?;
        }
        let index = numbers(&series[0], first, Series::u64)?;
        let user = numbers(&series[1], first, Series::u64)?;
        time.extend(numbers(&series[2], first, Series::u64)?);
        let (context, context_ends) = lists(&series[3], first, Series::f32)?;
        let (ids, ids_ends) = lists(&series[4], first, Series::u64)?;
        let (features, features_ends) = lists(&series[5], first, Series::f32)?;
        let (probs, probs_ends) = lists(&series[6], first, Series::f64)?;
        let chosen = numbers(&series[7], first, Series::u32)?;
        let propensity = numbers(&series[8], first, Series::f64)?;
        let method = strings(&series[9])?;
        let draws = optional(&series[10], Series::u32)?;
        let reward = optional(&series[11], Series::f64)?;
        let reaction = strings(&series[12])?;
        let dwell = optional(&series[13], Series::u64)?;
        let ids: Vec<ActionId> = ids.into_iter().map(ActionId).collect();
        let shape = &self.header.shape;
        for i in 0..index.len() {
            let row = first + i as u64;
            let ids = part(&ids, &ids_ends, i);
            let probs = part(&probs, &probs_ends, i);
            let context = part(&context, &context_ends, i);
            let features = part(&features, &features_ends, i);
            let (n, dim) = (ids.len(), shape.candidate.len());
            let size = |column: &str, expected: usize, got: usize| {
                if expected == got {
                    return Ok(());
                }
                Err(bad_row(row, column, &format!("{expected} values"), got))
            };
            if n == 0 {
                return Err(bad_row(row, "candidates", "at least one", "none"));
            }
            size("probs", n, probs.len())?;
            size("context", shape.context.len(), context.len())?;
            size("features", n * dim, features.len())?;
            match shape.actions {
                Some(fixed) if n != fixed || (0..n).any(|k| ids[k].0 != k as u64) => {
                    let expected = format!("0 to {} in this order, as the header says", fixed.saturating_sub(1));
                    let got: Vec<u64> = ids.iter().map(|id| id.0).collect();
                    return Err(bad_row(row, "candidates", &expected, format!("{got:?}")));
                }
                None if (1..n).any(|k| ids[..k].contains(&ids[k])) => {
                    return Err(bad_row(row, "candidates", "different identities", "one twice"));
                }
                _ => {}
            }
            let at = chosen[i] as usize;
            if at >= n {
                let expected = format!("a position below the row's {n} candidates");
                return Err(bad_row(row, "chosen", &expected, at));
            }
            check_probs(probs, at, propensity[i], row)?;
            if let Some(reward) = reward[i].filter(|r| !r.is_finite()) {
                return Err(bad_row(row, "reward", "a finite number or nothing", reward));
            }
            let round = Round {
                index: index[i],
                user: UserId(user[i]),
                context,
                candidates: Candidates { ids, features, dim },
            };
            let method = read_method(method[i], draws[i]).map_err(|e| anyhow!("row {row}, column `method`: {e}"))?;
            let logged = log.push_parts(&round, probs, at, method);
            if let Some(reward) = reward[i] {
                let feedback = read_feedback(reaction[i], dwell[i]);
                let feedback = feedback.map_err(|e| anyhow!("row {row}, column `reaction`: {e}"))?;
                log.settle(logged, reward, feedback);
            }
        }
        Ok(())
    }
}

fn check_probs(probs: &[f64], chosen: usize, propensity: f64, row: u64) -> Result<()> {
    let sum: f64 = probs.iter().sum();
    // The negation catches NaN.
    if !(probs.iter().all(|p| *p >= 0.0) && (sum - 1.0).abs() <= 1e-6) {
        return Err(bad_row(row, "probs", "probabilities that sum to 1, none below 0", sum));
    }
    if !(propensity > 0.0 && propensity <= 1.0) {
        return Err(bad_row(row, "propensity", "a probability in (0, 1]", propensity));
    }
    if propensity != probs[chosen] {
        let expected = format!("{}, as in `probs`", probs[chosen]);
        return Err(bad_row(row, "propensity", &expected, propensity));
    }
    Ok(())
}

fn read_method(name: Option<&str>, draws: Option<u32>) -> Result<Method> {
    match (name, draws) {
        (Some("exact"), _) => Ok(Method::Exact),
        (Some("quadrature"), _) => Ok(Method::Quadrature),
        (Some("monte-carlo"), Some(draws)) => Ok(Method::MonteCarlo { draws }),
        (got, _) => Err(anyhow!(
            "expected exact, quadrature, or monte-carlo with `draws`, got {}",
            got.unwrap_or("nothing")
        )),
    }
}

fn read_feedback(name: Option<&str>, dwell_ms: Option<u64>) -> Result<Option<Feedback>> {
    let Some(name) = name else { return Ok(None) };
    let found = Reaction::ALL.into_iter().find(|r| r.name() == name);
    let reaction = found.with_context(|| {
        let known = Reaction::ALL.map(Reaction::name).join(", ");
        format!("expected one of {known}, got `{name}`")
    })?;
    Ok(Some(Feedback { reaction, dwell_ms }))
}

/// Row `i` of a column of lists.
fn part<'a, T>(values: &'a [T], ends: &[usize], i: usize) -> &'a [T] {
    let start = if i == 0 { 0 } else { ends[i - 1] };
    &values[start..ends[i]]
}

/// The typed view of a series, as polars gives it.
type View<T> = fn(&Series) -> polars_core::prelude::PolarsResult<&polars_core::prelude::ChunkedArray<T>>;

fn of_type(series: &Series, expected: &DataType) -> Result<()> {
    ensure!(
        series.dtype() == expected,
        "column `{}`: expected type {expected}, got {}",
        series.name(),
        series.dtype()
    );
    Ok(())
}

/// The type of a column in a file.
pub(super) fn dtype(cells: &Cells) -> DataType {
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

fn optional<T: polars_core::prelude::PolarsNumericType>(
    series: &Series,
    view: View<T>,
) -> Result<Vec<Option<T::Native>>> {
    Ok(view(series)?.iter().collect())
}

fn numbers<T: polars_core::prelude::PolarsNumericType>(
    series: &Series,
    first: u64,
    view: View<T>,
) -> Result<Vec<T::Native>> {
    let cells = optional(series, view)?.into_iter().enumerate();
    cells
        .map(|(i, x)| x.ok_or_else(|| bad_row(first + i as u64, series.name(), "a number", "nothing")))
        .collect()
}

fn strings(series: &Series) -> Result<Vec<Option<&str>>> {
    Ok(series.str()?.iter().collect())
}

/// All values of a column of lists, and where each row's end.
fn lists<T: polars_core::prelude::PolarsNumericType>(
    series: &Series,
    first: u64,
    view: View<T>,
) -> Result<(Vec<T::Native>, Vec<usize>)> {
    let series = series.rechunk();
    let lists = series.list()?;
    let name = series.name();
    if lists.null_count() > 0 {
        let gap = (0..lists.len()).find(|&i| lists.get_as_series(i).is_none());
        return Err(bad_row(first + gap.unwrap_or(0) as u64, name, "a list", "nothing"));
    }
    let (mut values, mut ends) = (Vec::new(), Vec::new());
    for array in lists.downcast_iter() {
        let offsets = array.offsets().as_slice();
        let all = lists.get_inner();
        ensure!(all.null_count() == 0, "column `{name}`: expected lists without gaps");
        let (from, to) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
        let slice = all.slice(from as i64, to - from);
        values.extend(view(&slice)?.iter().flatten());
        ends.extend(offsets[1..].iter().map(|o| *o as usize - from));
    }
    Ok((values, ends))
}

struct Own {
    about: About,
    reader: Reader,
    /// Whether the log is of more than one person; rows of a single one are not clustered.
    users: bool,
    /// Working memory: what was read, rows without a reward included.
    log: Log,
    time: Vec<u64>,
}

impl Own {
    fn open(path: &Path) -> Result<Self> {
        let reader = Reader::open(path)?;
        let about = About {
            format: FORMAT.name,
            rows: Some(reader.file.rows()),
            shape: Some(reader.header.shape.clone()),
            target: false,
            model: false,
            behaviour: true,
        };
        Ok(Own {
            about,
            reader,
            users: has_users(path)?,
            log: Log::new(),
            time: Vec::new(),
        })
    }
}

/// Whether the log names two different people; reads no more than it takes to see that.
fn has_users(path: &Path) -> Result<bool> {
    let mut file = Parquet::open(path)?;
    let names = file.names();
    let Some(column) = names.iter().position(|n| n == COLUMNS[1].name) else {
        return Ok(false);
    };
    file.select(&[column])?;
    let mut first = None;
    while let Some(block) = file.next(SLICE)? {
        of_type(&block[0], &DataType::UInt64)?;
        for user in block[0].u64()?.iter().flatten() {
            if user != *first.get_or_insert(user) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

impl Source for Own {
    fn about(&self) -> &About {
        &self.about
    }

    fn next(&mut self, block: &mut Block) -> Result<bool> {
        self.log.clear();
        self.time.clear();
        let first = self.reader.row + 1;
        if !self.reader.next(&mut self.log, &mut self.time)? {
            return Ok(false);
        }
        block.clear(first);
        let mut ends = Vec::new();
        for i in 0..self.log.len() {
            let row = self.log.row(i);
            let Some(reward) = row.reward else {
                block.unanswered += 1;
                continue;
            };
            let kept = block.rounds.push_parts(&row.round, row.probs, row.chosen, row.method);
            block.rounds.settle(kept, reward, row.feedback);
            block.time.push(self.time[i]);
            block.logged.action.push(row.chosen as u32);
            block.logged.reward.push(reward);
            block.logged.propensity.push(row.propensity());
            if self.users {
                block.logged.cluster.push(row.round.user.0);
            }
            ends.push(ends.last().copied().unwrap_or(0) + row.round.candidates.len());
        }
        block.logged.candidates = match self.reader.header.shape.actions {
            Some(fixed) => Sizes::Fixed(fixed),
            None => Sizes::Ends(ends),
        };
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::Writer;
    use super::*;
    use oo_core::{Arrival, Key, Outcome, Row, Shape};

    fn header() -> Header {
        Header {
            version: VERSION,
            shape: Shape {
                context: vec!["a".into(), "b".into()],
                candidate: vec!["x".into()],
                actions: None,
            },
            policy: "softmax{temperature=1}".into(),
            origin: "test".into(),
            seed: Some(7),
            reward: None,
            actions: vec![],
        }
    }

    /// Rows of all kinds: 1 to 4 candidates, every method and reaction, numbers at the edges of their type.
    fn log() -> (Log, Vec<u64>, Vec<Outcome>) {
        let (mut log, mut time, mut outcomes) = (Log::new(), Vec::new(), Vec::new());
        let odd = [-0.0f32, f32::MIN_POSITIVE / 8.0, f32::MAX, 0.1, -1e-30];
        for i in 0..500u64 {
            let mut draws = Key::root(3).fold(i).draws();
            let n = 1 + (i % 4) as usize;
            let ids: Vec<ActionId> = (0..n).map(|k| ActionId(u64::MAX - i - 7 * k as u64)).collect();
            let weights: Vec<f64> = (0..n).map(|_| draws.exponential() + 1e-12).collect();
            let sum: f64 = weights.iter().sum();
            let probs: Vec<f64> = weights.iter().map(|w| w / sum).collect();
            let features: Vec<f32> = (0..n).map(|k| odd[(i as usize + k) % 5]).collect();
            let round = Round {
                index: i,
                user: UserId(u64::MAX - i % 3),
                context: &[odd[i as usize % 5], i as f32 / 3.0],
                candidates: Candidates {
                    ids: &ids,
                    features: &features,
                    dim: 1,
                },
            };
            let method = [
                Method::Exact,
                Method::Quadrature,
                Method::MonteCarlo { draws: 1000 + i as u32 },
            ][i as usize % 3];
            log.push_parts(&round, &probs, draws.below(n), method);
            time.push(1_700_000_000_000 + i);
            let reaction = Reaction::ALL[i as usize % 5];
            let feedback = (i % 2 == 0).then_some(Feedback {
                reaction,
                dwell_ms: (i % 4 == 0).then_some(i * 1000),
            });
            let arrival = match i % 5 {
                4 => Arrival::Never,
                3 => Arrival::After(60),
                _ => Arrival::Now,
            };
            outcomes.push(Outcome {
                reward: draws.normal() * 1e-3,
                feedback,
                arrival,
            });
        }
        (log, time, outcomes)
    }

    fn bits(row: &Row<'_>) -> impl PartialEq + std::fmt::Debug + use<> {
        let floats = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let c = row.round.candidates;
        (
            (
                row.round.index,
                row.round.user,
                floats(row.round.context),
                c.ids.to_vec(),
                floats(c.features),
                c.dim,
            ),
            row.probs.iter().map(|p| p.to_bits()).collect::<Vec<_>>(),
            (row.chosen, row.method, row.reward.map(f64::to_bits), row.feedback),
        )
    }

    #[test]
    fn a_log_goes_through_a_file_and_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.parquet");
        let (mut log, time, outcomes) = log();
        let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), &header()).unwrap();
        for i in 0..log.len() {
            writer.push(time[i], log.row(i), &outcomes[i]).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 500);
        let last = time[499];
        for (i, outcome) in outcomes.iter().enumerate() {
            let arrived = match outcome.arrival {
                Arrival::Now => true,
                Arrival::After(delay) => time[i] + delay <= last,
                Arrival::Never => false,
            };
            if arrived {
                log.settle(i, outcome.reward, outcome.feedback);
            }
        }
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.header, header());
        let (mut read, mut times) = (Log::new(), Vec::new());
        while reader.next(&mut read, &mut times).unwrap() {}
        assert_eq!(times, time);
        assert_eq!(read.len(), 500);
        for i in 0..500 {
            assert_eq!(bits(&read.row(i)), bits(&log.row(i)), "row {i}");
        }
        assert!(
            (0..500).any(|i| read.row(i).reward.is_none()),
            "nobody waits, so nothing is tested"
        );
    }

    #[test]
    fn rows_that_break_a_rule_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.parquet");
        let (log, time, outcomes) = log();
        // Row 4 has four candidates.
        type Spoil = fn(&mut Vec<f64>, &mut Vec<ActionId>);
        let cases: [(Spoil, &str); 3] = [
            (
                |probs, _| probs[0] += 0.01,
                "row 4, column `probs`: expected probabilities that sum to 1",
            ),
            (
                |probs, _| (probs[0], probs[1]) = (-0.5, probs[0] + probs[1] + 0.5),
                "row 4, column `probs`",
            ),
            (
                |_, ids| ids[1] = ids[0],
                "row 4, column `candidates`: expected different identities",
            ),
        ];
        for (spoil, expected) in cases {
            let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), &header()).unwrap();
            for i in 0..8 {
                let mut row = log.row(i);
                let (mut probs, mut ids) = (row.probs.to_vec(), row.round.candidates.ids.to_vec());
                if i == 3 {
                    spoil(&mut probs, &mut ids);
                }
                row.probs = &probs;
                row.round.candidates.ids = &ids;
                writer.push(time[i], row, &outcomes[i]).unwrap();
            }
            writer.finish().unwrap();
            let mut reader = Reader::open(&path).unwrap();
            let e = reader.next(&mut Log::new(), &mut Vec::new()).unwrap_err().to_string();
            assert!(e.contains(expected), "{e}");
        }
    }
}
