//! What a reward model reads of a log, and how a candidate becomes a vector of numbers.
//!
//! Where candidates have features, a candidate is (1, context, features). Where they have none, it is which arm it is
//! and (1, context): every arm has weights of its own, which is the regression on the one-hot action and its products
//! with the context, without the zeros.

use crate::estimators::Logged;
use crate::{Error, Result};

/// The sizes of a log's rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InputShape {
    /// Context features a row.
    pub context: usize,
    /// Features a candidate; 0 where candidates are only told apart.
    pub candidate: usize,
    /// The number of arms; read only where candidates have no features.
    pub arms: usize,
}

impl InputShape {
    /// The number of separate weight vectors.
    pub fn blocks(&self) -> usize {
        if self.candidate > 0 { 1 } else { self.arms }
    }

    /// Numbers a candidate, the constant 1 included.
    pub fn dim(&self) -> usize {
        1 + self.context + self.candidate
    }
}

/// The features of a block of a log, by column; the rows and candidates of a [`Logged`].
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `rows × context`, row-major.
    pub context: Vec<f32>,
    /// `candidates × candidate`, row-major, row after row.
    pub candidate: Vec<f32>,
    /// Which arm each candidate is, from 0; empty: candidate `i` of a row is arm `i`. Read only where candidates have
    /// no features.
    pub arm: Vec<u32>,
}

/// The candidates of one row.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    context: &'a [f32],
    candidate: &'a [f32],
    arm: &'a [u32],
    count: usize,
    dim: usize,
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
        self.dim == 0
    }

    /// The block of candidate `i`.
    pub fn block(&self, i: usize) -> usize {
        match (self.dim, self.arm.get(i)) {
            (0, Some(&arm)) => arm as usize,
            (0, None) => i,
            _ => 0,
        }
    }

    /// Writes the numbers of candidate `i`.
    pub fn write(&self, i: usize, z: &mut Vec<f32>) {
        z.clear();
        z.push(1.0);
        z.extend_from_slice(self.context);
        z.extend_from_slice(&self.candidate[i * self.dim..(i + 1) * self.dim]);
    }
}

impl Inputs {
    /// The candidates of row `row`, which are `span` among all candidates of the block.
    pub fn offer(&self, shape: &InputShape, row: usize, span: std::ops::Range<usize>) -> Offer<'_> {
        let d = shape.candidate;
        Offer {
            context: &self.context[row * shape.context..(row + 1) * shape.context],
            candidate: &self.candidate[span.start * d..span.end * d],
            arm: self.arm.get(span.clone()).unwrap_or(&[]),
            count: span.len(),
            dim: d,
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
        if shape.candidate > 0 {
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
