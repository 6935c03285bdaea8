//! Marginalised IPS over action embeddings: weights of what the action looks like, not of the action itself.
//!
//! With an embedding e drawn from p(e | a), w(x, e) = Σₐ π(a)·p(e | a) / Σₐ b(a)·p(e | a). Where the reward depends on
//! the action through e alone, mean w(x, e)·r is unbiased, needs support only in e, and never has more variance than
//! IPS. Where it does not, the direct effect of the action is a bias.
//!
//! An embedding of several dimensions is categorical in each and independent given the action.

use super::{Bias, Entry, Logged, Sizes, Weighted, Weights, ips};
use crate::{Error, Result};
use std::ops::Range;

/// One line in the table.
pub const ENTRY: Entry = Entry {
    name: "mips",
    summary: "IPS with weights marginalised over action embeddings",
    formula: "mean w(x, e)·r",
    paper: "Saito, Joachims (2022), arXiv:2202.06317",
    weights: Weights::Marginal,
    bias: Bias::Embedding,
    ..ips::ENTRY
};

/// One categorical dimension of an embedding.
#[derive(Clone, PartialEq, Debug)]
pub struct Dimension {
    /// c: the number of categories.
    pub categories: usize,
    /// k × c, row-major: p(category | action); rows sum to 1.
    pub probability: Vec<f64>,
    /// n: the category of each row's logged action, as it was drawn.
    pub observed: Vec<u32>,
}

impl Dimension {
    /// A dimension in which each action has one category: `of_action` has k of them, all below `categories`.
    ///
    /// # Errors
    /// [`Error::Size`] for a category out of range, [`Error::Row`] for an action of the log outside `of_action`.
    pub fn deterministic(of_action: &[u32], categories: usize, log: &Logged) -> Result<Dimension> {
        let mut probability = vec![0.0; of_action.len() * categories];
        for (action, &category) in of_action.iter().enumerate() {
            if category as usize >= categories {
                return Err(Error::Size {
                    what: "category of an action (one less than their number at most)",
                    expected: categories,
                    got: category as usize,
                });
            }
            probability[action * categories + category as usize] = 1.0;
        }
        let category = |(row, action): (usize, &u32)| {
            of_action.get(*action as usize).copied().ok_or_else(|| Error::Row {
                row: log.first_row + row as u64,
                column: "action",
                expected: format!("one of the {} actions with a category", of_action.len()),
                got: action.to_string(),
            })
        };
        Ok(Dimension {
            categories,
            probability,
            observed: log.action.iter().enumerate().map(category).collect::<Result<_>>()?,
        })
    }
}

/// What marginalised weights need beyond the log, whose rows all have the same k candidates.
#[derive(Clone, PartialEq, Debug)]
pub struct Embedding {
    /// At least one.
    pub dimensions: Vec<Dimension>,
    /// n × k, row-major: the logging policy's probability of every candidate.
    pub behaviour: Vec<f64>,
}

impl Embedding {
    /// Checks that everything fits a log that has passed its own check.
    ///
    /// # Errors
    /// [`Error::Size`] for candidates that vary or lengths that disagree; [`Error::Row`] for a category out of range,
    /// for behaviour probabilities that are negative or do not sum to 1, and where the logging policy cannot have
    /// produced the observed embedding.
    pub fn check(&self, log: &Logged) -> Result<()> {
        let agree = |what, expected, got| {
            if expected == got {
                Ok(())
            } else {
                Err(Error::Size { what, expected, got })
            }
        };
        let Sizes::Fixed(k) = log.candidates else {
            return Err(Error::Size {
                what: "candidate sets of different sizes (marginalised weights need one set)",
                expected: 1,
                got: 2,
            });
        };
        if self.dimensions.is_empty() {
            return Err(Error::Empty { what: "the embedding" });
        }
        agree("length of `behaviour`", log.len() * k, self.behaviour.len())?;
        for dimension in &self.dimensions {
            agree("rows of an embedding", log.len(), dimension.observed.len())?;
            agree(
                "length of p(e | a)",
                k * dimension.categories,
                dimension.probability.len(),
            )?;
            for row in dimension.probability.chunks_exact(dimension.categories.max(1)) {
                if !is_pmf(row) {
                    return Err(Error::Parameter {
                        owner: "mips",
                        parameter: "p(e | a)",
                        expected: "probabilities of at least 0 that sum to 1 within 1e-6 for each action".into(),
                        got: format!("{row:?}"),
                    });
                }
            }
        }
        let broken = |row: usize, column, expected: &str, got: String| Error::Row {
            row: log.first_row + row as u64,
            column,
            expected: expected.into(),
            got,
        };
        for row in 0..log.len() {
            for dimension in &self.dimensions {
                let category = dimension.observed[row];
                if category as usize >= dimension.categories {
                    let expected = format!("a category below {}", dimension.categories);
                    return Err(broken(row, "embedding", &expected, category.to_string()));
                }
            }
            let behaviour = &self.behaviour[row * k..(row + 1) * k];
            if !is_pmf(behaviour) {
                let expected = "probabilities of at least 0 that sum to 1 within 1e-6";
                return Err(broken(row, "behaviour", expected, format!("{behaviour:?}")));
            }
            if self.marginal(row, behaviour) <= 0.0 {
                let expected = "an embedding that the logging policy can produce";
                return Err(broken(row, "embedding", expected, "one of probability 0".into()));
            }
        }
        Ok(())
    }

    /// Weighs the rows `rows` of a log by their embeddings, replacing what `out` holds. `target` and `propensity` there
    /// are the probabilities of the observed embedding. Call [`check`](Embedding::check) before.
    pub fn weigh_rows(&self, log: &Logged, rows: Range<usize>, out: &mut Weighted) {
        log.weigh_rows(rows.clone(), out);
        for (i, row) in rows.enumerate() {
            let of = log.candidates.of(row);
            out.target[i] = self.marginal(row, &log.target[of.clone()]);
            out.propensity[i] = self.marginal(row, &self.behaviour[of]);
            out.weight[i] = out.target[i] / out.propensity[i];
        }
    }

    /// The probability of a row's embedding when its action has the probabilities `policy`.
    fn marginal(&self, row: usize, policy: &[f64]) -> f64 {
        let of_embedding = |action: usize| {
            self.dimensions
                .iter()
                .map(|d| d.probability[action * d.categories + d.observed[row] as usize])
                .product::<f64>()
        };
        policy
            .iter()
            .enumerate()
            .map(|(action, p)| p * of_embedding(action))
            .sum()
    }
}

fn is_pmf(row: &[f64]) -> bool {
    row.iter().all(|p| *p >= 0.0) && (row.iter().sum::<f64>() - 1.0).abs() <= 1e-6
}
