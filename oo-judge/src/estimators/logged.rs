//! A log by column, its rules, and what estimators need of a row.
//!
//! Of the k candidates of a row an estimator needs four numbers: the importance weight w = π(a)/p of the logged
//! action, its reward r, the model's reward q̂(a), and the model's value v = Σₐ π(a)·q̂(a) of the target policy.
//! [`Logged::weigh_rows`] reads every probability and every prediction once.

use crate::{Error, Result};
use std::ops::Range;

/// Rows that are worked on together: their weights and terms stay in the nearest cache.
pub const BLOCK: usize = 512;

/// The largest reward, so that squares of weighted rewards can be added up.
const LARGEST: f64 = 1e100;

/// How many candidates each row has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sizes {
    /// As many in every row.
    Fixed(usize),
    /// The running ends: row i has the candidates from `ends[i - 1]` (or 0) up to `ends[i]`.
    Ends(Vec<usize>),
}

impl Sizes {
    /// Where the candidates of row `row` lie in a row-major column.
    pub fn of(&self, row: usize) -> Range<usize> {
        match self {
            Sizes::Fixed(k) => row * k..(row + 1) * k,
            Sizes::Ends(ends) => row.checked_sub(1).map_or(0, |before| ends[before])..ends[row],
        }
    }

    /// Candidates of the first `rows` rows.
    pub fn total(&self, rows: usize) -> usize {
        match self {
            Sizes::Fixed(k) => rows * k,
            Sizes::Ends(_) => rows.checked_sub(1).map_or(0, |last| self.of(last).end),
        }
    }
}

/// A log, or one block of a log that is larger than memory, by column. n rows; K candidates over all rows.
#[derive(Clone, PartialEq, Debug)]
pub struct Logged {
    /// n: position of the logged action among its row's candidates.
    pub action: Vec<u32>,
    /// n: what came of it; at most 1e100 in size.
    pub reward: Vec<f64>,
    /// n: the logged action's probability under the policy that logged it, in (0, 1].
    pub propensity: Vec<f64>,
    /// How many candidates each row has.
    pub candidates: Sizes,
    /// K, row-major: the target policy's probability of each candidate; a row sums to 1.
    pub target: Vec<f64>,
    /// K, row-major: expected reward of each candidate; empty without a reward model, which counts as q̂ = 0.
    pub model: Vec<f64>,
    /// n: the person of each row; empty when every row is its own cluster.
    pub cluster: Vec<u64>,
    /// The number of the first row in the whole log, from 1: for messages, and for keys of draws.
    pub first_row: u64,
}

/// What estimators need of each row.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Weighted {
    /// w = target probability over propensity, of the logged action.
    pub weight: Vec<f64>,
    /// Target probability of the logged action.
    pub target: Vec<f64>,
    /// Propensity of the logged action.
    pub propensity: Vec<f64>,
    /// Reward.
    pub reward: Vec<f64>,
    /// The model's reward of the logged action; 0 without a model.
    pub logged_q: Vec<f64>,
    /// The model's value of the target policy, Σ target · model over the row's candidates; 0 without a model.
    pub value: Vec<f64>,
    /// How much each row counts, with several loggers ([`Loggers`](super::loggers::Loggers)); empty otherwise.
    pub share: Vec<f64>,
    /// The number of the first row in the whole log, from 1.
    pub first_row: u64,
}

impl Weighted {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.weight.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.weight.is_empty()
    }

    fn clear(&mut self) {
        for column in [
            &mut self.weight,
            &mut self.target,
            &mut self.propensity,
            &mut self.reward,
            &mut self.logged_q,
            &mut self.value,
            &mut self.share,
        ] {
            column.clear();
        }
    }
}

impl Logged {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.action.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.action.is_empty()
    }

    /// Checks every rule of a log.
    ///
    /// # Errors
    /// [`Error::Empty`]; [`Error::Size`] when columns disagree; [`Error::Row`] for the first row with an action
    /// outside its candidates, a propensity outside (0, 1], a reward or prediction that is not finite, or target
    /// probabilities that are negative, not finite, or do not sum to 1 within 10⁻⁶ a candidate (six decimals do).
    pub fn check(&self) -> Result<()> {
        self.check_sizes()?;
        self.check_rows(0..self.len())
    }

    /// Checks that the columns agree in length, which [`check_rows`](Logged::check_rows) and
    /// [`weigh_rows`](Logged::weigh_rows) rely on.
    ///
    /// # Errors
    /// [`Error::Empty`] and [`Error::Size`].
    pub fn check_sizes(&self) -> Result<()> {
        let rows = self.len();
        if rows == 0 {
            return Err(Error::Empty { what: "the log" });
        }
        let agree = |what, expected, got| {
            if expected == got {
                Ok(())
            } else {
                Err(Error::Size { what, expected, got })
            }
        };
        agree("rows of `reward`", rows, self.reward.len())?;
        agree("rows of `propensity`", rows, self.propensity.len())?;
        if !self.cluster.is_empty() {
            agree("rows of `cluster`", rows, self.cluster.len())?;
        }
        if let Sizes::Ends(ends) = &self.candidates {
            agree("rows of `candidates`", rows, ends.len())?;
            if let Some(row) = (1..rows).find(|&i| ends[i] < ends[i - 1]) {
                return Err(self.broken(row, "candidates", "ends that do not fall", ends[row]));
            }
        }
        agree("length of `target`", self.candidates.total(rows), self.target.len())?;
        if !self.model.is_empty() {
            agree("length of `model`", self.candidates.total(rows), self.model.len())?;
        }
        Ok(())
    }

    /// Checks the contents of some rows; [`check_sizes`](Logged::check_sizes) comes first.
    ///
    /// # Errors
    /// [`Error::Row`], for the first row that breaks a rule.
    pub fn check_rows(&self, rows: Range<usize>) -> Result<()> {
        for row in rows {
            let of = self.candidates.of(row);
            if self.action[row] as usize >= of.len() {
                let expected = format!("a position below the row's {} candidates", of.len());
                return Err(self.broken(row, "action", &expected, self.action[row]));
            }
            let p = self.propensity[row];
            // A subnormal one would make a weight that overflows.
            if !(f64::MIN_POSITIVE..=1.0).contains(&p) {
                return Err(self.broken(row, "propensity", "a probability in (0, 1]", p));
            }
            if !self.reward[row].is_finite() {
                return Err(self.broken(row, "reward", "a finite number", self.reward[row]));
            }
            if self.reward[row].abs() > LARGEST {
                let expected = format!("a number between -{LARGEST:e} and {LARGEST:e}");
                return Err(self.broken(row, "reward", &expected, format!("{:e}", self.reward[row])));
            }
            let target = &self.target[of.clone()];
            let (mut sum, mut least) = (0.0, 0.0f64);
            for &p in target {
                sum += p;
                least = least.min(p);
            }
            // The negation catches NaN and infinities, which reach the sum.
            if !(least >= 0.0 && (sum - 1.0f64).abs() <= 1e-6 * of.len() as f64) {
                return Err(match target.iter().find(|p| !(p.is_finite() && **p >= 0.0)) {
                    Some(p) => self.broken(row, "target", "probabilities of at least 0", *p),
                    None => self.broken(
                        row,
                        "target",
                        "probabilities that sum to 1 within 1e-6 a candidate",
                        sum,
                    ),
                });
            }
            if !self.model.is_empty() {
                // A sum is finite only if each of its terms is; a finite row may overflow, so look again.
                let model = &self.model[of];
                if !model.iter().sum::<f64>().is_finite()
                    && let Some(q) = model.iter().find(|q| !q.is_finite())
                {
                    return Err(self.broken(row, "model", "a finite number", *q));
                }
            }
        }
        Ok(())
    }

    fn broken(&self, row: usize, column: &'static str, expected: &str, got: impl ToString) -> Error {
        Error::Row {
            row: self.first_row + row as u64,
            column,
            expected: expected.into(),
            got: got.to_string(),
        }
    }

    /// Weighs all rows. Call [`check`](Logged::check) before.
    pub fn weigh(&self, out: &mut Weighted) {
        self.weigh_rows(0..self.len(), out);
    }

    /// Weighs the rows `rows`, replacing what `out` holds.
    ///
    /// # Panics
    /// On columns that [`check_sizes`](Logged::check_sizes) refuses, and on an action outside its candidates.
    pub fn weigh_rows(&self, rows: Range<usize>, out: &mut Weighted) {
        out.clear();
        out.first_row = self.first_row + rows.start as u64;
        out.propensity.extend_from_slice(&self.propensity[rows.clone()]);
        out.reward.extend_from_slice(&self.reward[rows.clone()]);
        let chosen = |row: usize| self.candidates.of(row).start + self.action[row] as usize;
        out.target.extend(rows.clone().map(|row| self.target[chosen(row)]));
        out.weight
            .extend(out.target.iter().zip(&out.propensity).map(|(target, p)| target / p));
        if self.model.is_empty() {
            out.logged_q.resize(rows.len(), 0.0);
            out.value.resize(rows.len(), 0.0);
        } else {
            out.logged_q.extend(rows.clone().map(|row| self.model[chosen(row)]));
            out.value.extend(rows.map(|row| {
                let of = self.candidates.of(row);
                dot(&self.target[of.clone()], &self.model[of])
            }));
        }
    }
}

/// In two halves of the pairs, which processors add side by side.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<2>(), b.as_chunks::<2>());
    let mut sum = [0.0; 2];
    for (a, b) in a.iter().zip(b) {
        sum[0] += a[0] * b[0];
        sum[1] += a[1] * b[1];
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sum[0] + sum[1] + rest
}
