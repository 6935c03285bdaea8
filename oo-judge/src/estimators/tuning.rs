//! The parameter of a weight-changing estimator, chosen from the log: by an estimated mean squared error, or by SLOPE.
//!
//! Both go over a grid λ₁ … λₘ with estimates θᵢ. Nothing in the log shows the bias of a changed weight ŵ, but the
//! estimator that changes no weight is unbiased, and the rows show what differs: (w − ŵ)·(r − q̂).
//!
//! - [`Rule::Mse`] takes the least variance + (bias bound)², where the bound is
//!   |mean (w − ŵ)(r − q̂)| + √(2·mean w²·L/n) + 2·max w·L/(3n), L = ln(2/δ): Bernstein's inequality for rewards in
//!   [−1, 1]. Su, Dimakopoulou, Krishnamurthy, Dudík (2020), arXiv:1907.09623.
//! - [`Rule::Slope`] needs no bound of the bias. With half-widths cᵢ sorted from the widest, it goes on while
//!   |θᵢ − θⱼ| ≤ cᵢ + (√6 − 1)·cⱼ for all j before i, and takes the last: narrower is better until the bias shows.
//!   Tucker, Lee (2021), which sharpens Su, Srinath, Krishnamurthy (2020), arXiv:2002.07729.
//! - [`Rule::SlopeIntervals`] is the latter: it goes on while the intervals θⱼ ± 2cⱼ have a point in common.
//!
//! The half-width is Student's: t(n − 1, 1 − δ)·√(variance/(n − 1)), the variance with divisor n.

use super::{Entry, Estimator, Sums, Terms, Weighted};
use crate::{Error, Result};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// How to choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The least estimated mean squared error.
    Mse,
    /// Lepski's principle in pairs (SLOPE++).
    Slope,
    /// Lepski's principle by common points of intervals (SLOPE).
    SlopeIntervals,
}

/// The grid that is searched when none is given.
pub const GRID: [f64; 7] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1000.0];

/// What a rule chose.
#[derive(Clone, PartialEq, Debug)]
pub struct Choice {
    /// The parameter.
    pub parameter: f64,
    /// The sums of the estimator with it.
    pub sums: Sums,
    /// The grid, from the parameter that changes least, with what the rule compared: the estimated mean squared error,
    /// or the half-width.
    pub scores: Vec<(f64, f64)>,
}

/// Sums over rows for every parameter of a grid, from one pass.
pub struct Tuning {
    grid: Vec<f64>,
    estimators: Vec<Box<dyn Estimator>>,
    /// The estimator that changes no weight.
    parent: Box<dyn Estimator>,
    sums: Vec<Sums>,
    /// Σ (w − ŵ)(r − q̂).
    gaps: Vec<f64>,
    weight_squares: f64,
    max_weight: f64,
    terms: Terms,
    parent_terms: Terms,
}

impl Tuning {
    /// Prepares the grid, in any order.
    ///
    /// # Errors
    /// [`Error::Parameter`] for an estimator without a parameter, an empty grid, or a value out of range.
    pub fn new(entry: &Entry, grid: &[f64]) -> Result<Tuning> {
        let wrong = |expected: &str, got: &str| Error::Parameter {
            owner: entry.name,
            parameter: "grid",
            expected: expected.into(),
            got: got.into(),
        };
        let Some(parameter) = entry.parameter else {
            return Err(wrong("an estimator with a parameter", "one without"));
        };
        if grid.is_empty() {
            return Err(wrong("at least one value", "none"));
        }
        let estimators = grid
            .iter()
            .map(|&value| entry.build(Some(value)))
            .collect::<Result<Vec<_>>>()?;
        // From the least change to the most, so that of equal scores the gentler parameter wins.
        let mut order: Vec<usize> = (0..grid.len()).collect();
        let large_is_gentle = parameter.unchanged > parameter.low;
        order.sort_by(|&a, &b| {
            let upwards = grid[a].total_cmp(&grid[b]);
            if large_is_gentle { upwards.reverse() } else { upwards }
        });
        let mut estimators: Vec<Option<Box<dyn Estimator>>> = estimators.into_iter().map(Some).collect();
        Ok(Tuning {
            grid: order.iter().map(|&i| grid[i]).collect(),
            estimators: order.iter().filter_map(|&i| estimators[i].take()).collect(),
            parent: (entry.make)(parameter.unchanged),
            sums: vec![Sums::new(); grid.len()],
            gaps: vec![0.0; grid.len()],
            weight_squares: 0.0,
            max_weight: 0.0,
            terms: Terms::default(),
            parent_terms: Terms::default(),
        })
    }

    /// Adds rows.
    pub fn add(&mut self, rounds: &Weighted) {
        self.weight_squares += rounds.weight.iter().map(|w| w * w).sum::<f64>();
        self.max_weight = rounds.weight.iter().fold(self.max_weight, |max, w| max.max(*w));
        self.parent.terms(rounds, &mut self.parent_terms);
        for (i, estimator) in self.estimators.iter().enumerate() {
            estimator.terms(rounds, &mut self.terms);
            self.sums[i].add(&self.terms);
            let parent = self.parent_terms.num.iter();
            self.gaps[i] += parent.zip(&self.terms.num).map(|(all, own)| all - own).sum::<f64>();
        }
    }

    /// Chooses with confidence 1 − `delta`, which must lie in (0, 1). The other library's default is 0.1.
    ///
    /// # Errors
    /// [`Error::Empty`] when fewer than two rows were added, [`Error::Parameter`] for a `delta` out of range.
    pub fn choose(&self, rule: Rule, delta: f64) -> Result<Choice> {
        if self.sums[0].count() < 2 {
            return Err(Error::Empty {
                what: "the log to tune on (it needs two rows)",
            });
        }
        if !(delta > 0.0 && delta < 1.0) {
            return Err(Error::Parameter {
                owner: "tuning",
                parameter: "delta",
                expected: "a probability in (0, 1)".into(),
                got: delta.to_string(),
            });
        }
        let (chosen, scores) = match rule {
            Rule::Mse => self.least_error(delta),
            Rule::Slope | Rule::SlopeIntervals => self.slope(rule, delta),
        };
        Ok(Choice {
            parameter: self.grid[chosen],
            sums: self.sums[chosen],
            scores: self.grid.iter().copied().zip(scores).collect(),
        })
    }

    fn least_error(&self, delta: f64) -> (usize, Vec<f64>) {
        let n = self.sums[0].count() as f64;
        let log = (2.0 / delta).ln();
        let deviation = (2.0 * self.weight_squares / n * log / n).sqrt() + 2.0 * self.max_weight * log / (3.0 * n);
        let scores: Vec<f64> = self
            .sums
            .iter()
            .zip(&self.gaps)
            .map(|(sums, gap)| {
                // The variance with divisor n, over n.
                let variance = sums.variance() * (n - 1.0) / (n * n);
                let bias = (gap / n).abs() + deviation;
                variance + bias * bias
            })
            .collect();
        let least = (0..scores.len()).reduce(|best, i| if scores[i] < scores[best] { i } else { best });
        (least.unwrap_or(0), scores)
    }

    fn slope(&self, rule: Rule, delta: f64) -> (usize, Vec<f64>) {
        let n = self.sums[0].count() as f64;
        let t = StudentsT::new(0.0, 1.0, n - 1.0).map_or(f64::NAN, |t| t.inverse_cdf(1.0 - delta));
        let widths: Vec<f64> = self.sums.iter().map(|sums| t * sums.std_error()).collect();
        let mut order: Vec<usize> = (0..widths.len()).collect();
        // The widest first; of equal ones the later in the grid, as the golden values have it.
        order.sort_by(|&a, &b| widths[b].total_cmp(&widths[a]).then(b.cmp(&a)));
        let value = |i: usize| self.sums[i].value();
        let mut chosen = order[0];
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        for (at, &i) in order.iter().enumerate() {
            let agrees = match rule {
                Rule::SlopeIntervals => {
                    low = low.max(value(i) - 2.0 * widths[i]);
                    high = high.min(value(i) + 2.0 * widths[i]);
                    low <= high
                }
                _ => order[..at]
                    .iter()
                    .all(|&j| (value(i) - value(j)).abs() <= widths[i] + (6f64.sqrt() - 1.0) * widths[j]),
            };
            if !agrees {
                break;
            }
            chosen = i;
        }
        (chosen, widths)
    }
}
