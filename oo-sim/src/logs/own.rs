//! oO's own log: a Parquet file, one row a decision, with everything that a later question needs.
//!
//! What all rows have in common (names of the features, the policy that logged) stands as JSON in the file's metadata
//! under [`NOTE`]. [`write`](super::write) writes it; an [`oo_core::Log`] goes through a file and back bit for bit.

use super::parquet::Parquet;
use super::{About, Block, Format, Source, bad_row};
use anyhow::{Context, Result, anyhow, ensure};
use oo_core::tips::{Feedback, Reaction};
use oo_core::{ActionId, Candidates, Log, Method, Round, Shape, UserId};
use oo_judge::estimators::Sizes;
use polars_core::prelude::{DataType, Series};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The row of the table.
pub(super) const FORMAT: Format = Format {
    name: "oo",
    summary: "Parquet as `oo-sim log` writes it: rounds with features, all probabilities and what came of them",
    fits: |look| look.own,
    open: |path| Ok(Box::new(Own::open(path)?)),
};

/// The key of our note in the file's metadata.
pub const NOTE: &str = "oo-log";

/// The version of the schema that this program writes, and the only one there is.
pub const VERSION: u32 = 1;

/// What all rows of a log have in common.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The version of the schema.
    pub version: u32,
    /// Names of the features, and the number of actions where it is fixed.
    pub shape: Shape,
    /// The policy that logged, as a spec.
    pub policy: String,
    /// Where the rounds come from: an environment as a spec, or the name of a service.
    pub origin: String,
    /// The seed of a simulated log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The reward table (tips).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<String>,
    /// Names of actions by id, where they have names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
}

/// The columns and their types, in the order of the file.
pub const COLUMNS: [&str; 14] = [
    "index",
    "user",
    "time",
    "context",
    "candidates",
    "features",
    "probs",
    "chosen",
    "propensity",
    "method",
    "draws",
    "reward",
    "reaction",
    "dwell_ms",
];

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
        let place = |name: &&str| {
            let found = names.iter().position(|n| n == name);
            found.with_context(|| format!("there is no column `{name}`; there are: {}", names.join(", ")))
        };
        let columns: Vec<usize> = COLUMNS.iter().map(place).collect::<Result<_>>()?;
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
        let index = numbers(&series[0], first, &DataType::UInt64, Series::u64)?;
        let user = numbers(&series[1], first, &DataType::UInt64, Series::u64)?;
        time.extend(numbers(&series[2], first, &DataType::UInt64, Series::u64)?);
        let (context, context_ends) = lists(&series[3], first, &DataType::Float32, Series::f32)?;
        let (ids, ids_ends) = lists(&series[4], first, &DataType::UInt64, Series::u64)?;
        let (features, features_ends) = lists(&series[5], first, &DataType::Float32, Series::f32)?;
        let (probs, probs_ends) = lists(&series[6], first, &DataType::Float64, Series::f64)?;
        let chosen = numbers(&series[7], first, &DataType::UInt32, Series::u32)?;
        let propensity = numbers(&series[8], first, &DataType::Float64, Series::f64)?;
        let method = strings(&series[9])?;
        let draws = optional(&series[10], &DataType::UInt32, Series::u32)?;
        let reward = optional(&series[11], &DataType::Float64, Series::f64)?;
        let reaction = strings(&series[12])?;
        let dwell = optional(&series[13], &DataType::UInt64, Series::u64)?;
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
            if (1..n).any(|k| ids[..k].contains(&ids[k])) {
                return Err(bad_row(row, "candidates", "different identities", "one twice"));
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

fn optional<T: polars_core::prelude::PolarsNumericType>(
    series: &Series,
    dtype: &DataType,
    view: View<T>,
) -> Result<Vec<Option<T::Native>>> {
    of_type(series, dtype)?;
    Ok(view(series)?.iter().collect())
}

fn numbers<T: polars_core::prelude::PolarsNumericType>(
    series: &Series,
    first: u64,
    dtype: &DataType,
    view: View<T>,
) -> Result<Vec<T::Native>> {
    let cells = optional(series, dtype, view)?.into_iter().enumerate();
    cells
        .map(|(i, x)| x.ok_or_else(|| bad_row(first + i as u64, series.name(), "a number", "nothing")))
        .collect()
}

fn strings(series: &Series) -> Result<Vec<Option<&str>>> {
    of_type(series, &DataType::String)?;
    Ok(series.str()?.iter().collect())
}

/// All values of a column of lists, and where each row's end.
fn lists<T: polars_core::prelude::PolarsNumericType>(
    series: &Series,
    first: u64,
    inner: &DataType,
    view: View<T>,
) -> Result<(Vec<T::Native>, Vec<usize>)> {
    of_type(series, &DataType::List(Box::new(inner.clone())))?;
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
            log: Log::new(),
            time: Vec::new(),
        })
    }
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
            block.logged.action.push(row.chosen as u32);
            block.logged.reward.push(reward);
            block.logged.propensity.push(row.propensity());
            block.logged.cluster.push(row.round.user.0);
            ends.push(ends.last().copied().unwrap_or(0) + row.round.candidates.len());
        }
        block.logged.candidates = Sizes::Ends(ends);
        Ok(true)
    }
}
