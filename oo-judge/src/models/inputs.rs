//! What a reward model reads of a log, and how a candidate becomes a vector of numbers.
//!
//! Where candidates have features, a candidate is (1, context, features, one-hot arm); the last part is left out where
//! arms come and go, or are so many that features must tell them apart. Where they have none, it is which arm it is and
//! (1, context): every arm has weights of its own, which is the regression on the one-hot arm and its products with the
//! context, without the zeros.

use crate::estimators::Logged;
use crate::{Error, Result};

/// The sizes of a log's rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InputShape {
    /// Context features a row.
    pub context: usize,
    /// Features a candidate; 0 where candidates are only told apart.
    pub candidate: usize,
    /// The number of arms; 0 where they come and go.
    pub arms: usize,
}

/// Arms beyond this number get no column of their own beside features: a regression costs the square of its columns.
const MOST_COLUMNS: usize = 256;

impl InputShape {
    /// The number of separate weight vectors.
    pub fn blocks(&self) -> usize {
        if self.candidate > 0 { 1 } else { self.arms }
    }

    /// Numbers a candidate, the constant 1 included.
    pub fn dim(&self) -> usize {
        1 + self.context + self.candidate + self.columns()
    }

    /// Columns of the one-hot arm.
    fn columns(&self) -> usize {
        if self.candidate > 0 && self.arms <= MOST_COLUMNS {
            self.arms
        } else {
            0
        }
    }

    /// Whether a model reads which arm a candidate is.
    pub fn reads_arms(&self) -> bool {
        self.candidate == 0 || self.columns() > 0
    }
}

/// The features of a block of a log, by column; the rows and candidates of a [`Logged`].
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `rows × context`, row-major.
    pub context: Vec<f32>,
    /// `candidates × candidate`, row-major, row after row.
    pub candidate: Vec<f32>,
    /// Which arm each candidate is, from 0; empty: candidate `i` of a row is arm `i`. Ignored where the model does not
    /// read it ([`InputShape::reads_arms`]).
    pub arm: Vec<u32>,
}

/// The candidates of one row.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    context: &'a [f32],
    candidate: &'a [f32],
    arm: &'a [u32],
    count: usize,
    shape: &'a InputShape,
}

impl Offer<'_> {
    /// The number of candidates.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when nothing is on offer.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True where all candidates share one vector and differ by their block.
    pub fn is_shared(&self) -> bool {
        self.shape.candidate == 0
    }

    fn arm(&self, i: usize) -> usize {
        self.arm.get(i).map_or(i, |&arm| arm as usize)
    }

    /// The block of candidate `i`.
    pub fn block(&self, i: usize) -> usize {
        if self.is_shared() { self.arm(i) } else { 0 }
    }

    /// Writes the numbers of candidate `i`.
    pub fn write(&self, i: usize, z: &mut Vec<f32>) {
        z.clear();
        z.push(1.0);
        z.extend_from_slice(self.context);
        let d = self.shape.candidate;
        z.extend_from_slice(&self.candidate[i * d..(i + 1) * d]);
        let columns = self.shape.columns();
        if columns > 0 {
            let from = z.len();
            z.resize(from + columns, 0.0);
            z[from + self.arm(i)] = 1.0;
        }
    }
}

impl Inputs {
    /// The candidates of row `row`, which are `span` among all candidates of the block.
    pub fn offer<'a>(&'a self, shape: &'a InputShape, row: usize, span: std::ops::Range<usize>) -> Offer<'a> {
        let d = shape.candidate;
        Offer {
            context: &self.context[row * shape.context..(row + 1) * shape.context],
            candidate: &self.candidate[span.start * d..span.end * d],
            arm: self.arm.get(span.clone()).unwrap_or(&[]),
            count: span.len(),
            shape,
        }
    }

    /// Compares the columns with the block of the log that they belong to.
    ///
    /// # Errors
    /// [`Error::Size`] for a column of another length or more arms than the shape has; [`Error::Row`] for a number
    /// that is not finite.
    pub fn check(&self, shape: &InputShape, log: &Logged) -> Result<()> {
        let (rows, candidates) = (log.len(), log.candidates.total(log.len()));
        let length = |what, got, expected| match got == expected {
            true => Ok(()),
            false => Err(Error::Size { what, expected, got }),
        };
        length("length of `context`", self.context.len(), rows * shape.context)?;
        length(
            "length of `candidate`",
            self.candidate.len(),
            candidates * shape.candidate,
        )?;
        for row in 0..rows {
            let of = log.candidates.of(row);
            for (column, numbers) in [
                ("context", &self.context[row * shape.context..(row + 1) * shape.context]),
                (
                    "candidate",
                    &self.candidate[of.start * shape.candidate..of.end * shape.candidate],
                ),
            ] {
                if let Some(x) = numbers.iter().find(|x| !x.is_finite()) {
                    return Err(Error::Row {
                        row: log.first_row + row as u64,
                        column,
                        expected: "finite features".into(),
                        got: x.to_string(),
                    });
                }
            }
        }
        if !shape.reads_arms() {
            return Ok(());
        }
        let named = match self.arm.is_empty() {
            true => (0..rows).map(|row| log.candidates.of(row).len()).max().unwrap_or(0),
            false => {
                length("length of `arm`", self.arm.len(), candidates)?;
                self.arm.iter().max().map_or(0, |&arm| arm as usize + 1)
            }
        };
        match named <= shape.arms {
            true => Ok(()),
            false => Err(Error::Size {
                what: "arms of the reward model",
                expected: named,
                got: shape.arms,
            }),
        }
    }
}
