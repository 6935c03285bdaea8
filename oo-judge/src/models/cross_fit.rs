//! Cross-fitting: every row is predicted by a model that has not seen its fold.

use super::{Fitted, InputShape, Inputs, Model, Plan, Row, Rows, Weighting, build};
use crate::estimators::Logged;
use crate::{Error, Result};
use oo_core::Key;
use rayon::prelude::*;

/// Rows that are encoded together on the way to a model, and predicted together by one thread.
const CHUNK: usize = 1024;

/// The fold of a person or of a row: a hash, so that neither order nor threads matter.
fn fold(key: Key, folds: usize, log: &Logged, row: usize) -> usize {
    let number = log.first_row + row as u64;
    let unit = match log.cluster.get(row) {
        Some(&person) => key.name("person").fold(person),
        None => key.name("row").fold(number),
    };
    (unit.bits() % folds as u64) as usize
}

/// The first pass over a log: collects what the models learn from.
pub struct CrossFit {
    plan: Plan,
    weighting: Weighting,
    model: Option<Box<dyn Model>>,
    rows: Rows,
    scratch: Vec<f32>,
}

impl CrossFit {
    /// A blank model for every fold. `folds` = 1 fits one model to all rows, which then predicts what it has seen.
    ///
    /// # Errors
    /// A spec that names no model, an option out of range, no folds.
    pub fn new(spec: &str, shape: InputShape, folds: usize, weighting: Weighting, key: Key) -> Result<Self> {
        if folds == 0 {
            return Err(Error::Parameter {
                owner: "cross-fitting",
                parameter: "folds",
                expected: "at least 1".into(),
                got: "0".into(),
            });
        }
        let plan = Plan {
            shape,
            folds,
            key: key.name("reward-model"),
        };
        Ok(CrossFit {
            model: build(spec, &plan)?,
            rows: Rows::new(shape.dim()),
            scratch: Vec::new(),
            weighting,
            plan,
        })
    }

    /// Takes in the next block of the log.
    ///
    /// # Errors
    /// A block that breaks a rule of logs, features that do not fit it, a reward that the model cannot hold.
    pub fn add(&mut self, log: &Logged, inputs: &Inputs) -> Result<()> {
        let Some(model) = &mut self.model else { return Ok(()) };
        log.check()?;
        inputs.check(&self.plan.shape, log)?;
        for row in 0..log.len() {
            let of = log.candidates.of(row);
            let chosen = log.action[row] as usize;
            let weight = self.weighting.of(log.target[of.start + chosen], log.propensity[row]);
            if weight > 0.0 {
                let offer = inputs.offer(&self.plan.shape, row, of);
                offer.write(chosen, &mut self.scratch);
                self.rows.push(Row {
                    number: log.first_row + row as u64,
                    fold: fold(self.plan.key, self.plan.folds, log, row),
                    block: offer.block(chosen),
                    weight,
                    reward: log.reward[row],
                    z: &self.scratch,
                });
            }
            if self.rows.len() == CHUNK || row + 1 == log.len() {
                model.add(&self.rows)?;
                self.rows.clear();
            }
        }
        Ok(())
    }

    /// Fits the models.
    ///
    /// # Errors
    /// A fold that leaves nothing to learn from, arithmetic that fails.
    pub fn finish(self) -> Result<CrossFitted> {
        let folds = self.plan.folds;
        let models = match &self.model {
            None => vec![],
            Some(model) if folds == 1 => vec![model.fit(None)?],
            Some(model) => (0..folds)
                .into_par_iter()
                .map(|held_out| model.fit(Some(held_out)))
                .collect::<Result<Vec<_>>>()?,
        };
        Ok(CrossFitted {
            plan: self.plan,
            models,
        })
    }
}

/// Fitted models, one a fold, for the second pass over the log.
pub struct CrossFitted {
    plan: Plan,
    /// Empty for `none`.
    models: Vec<Box<dyn Fitted>>,
}

impl CrossFitted {
    /// Fills [`Logged::model`] with the expected reward of every candidate; leaves it empty for the model `none`.
    ///
    /// # Errors
    /// As [`CrossFit::add`]; a prediction that is not finite.
    pub fn fill(&self, log: &mut Logged, inputs: &Inputs) -> Result<()> {
        log.model.clear();
        if self.models.is_empty() {
            return Ok(());
        }
        log.check()?;
        let Plan { shape, folds, key } = self.plan;
        inputs.check(&shape, log)?;
        let mut predicted = vec![0.0; log.candidates.total(log.len())];
        let mut parts = Vec::new();
        let mut rest = predicted.as_mut_slice();
        for start in (0..log.len()).step_by(CHUNK) {
            let end = log.len().min(start + CHUNK);
            let candidates = log.candidates.of(end - 1).end - log.candidates.of(start).start;
            let (part, after) = rest.split_at_mut(candidates);
            parts.push((start..end, part));
            rest = after;
        }
        let block: &Logged = log;
        parts.into_par_iter().try_for_each(|(rows, part)| -> Result<()> {
            let (mut scratch, begin) = (Vec::new(), block.candidates.of(rows.start).start);
            for row in rows {
                let of = block.candidates.of(row);
                let out = &mut part[of.start - begin..of.end - begin];
                let offer = inputs.offer(&shape, row, of);
                self.models[fold(key, folds, block, row)].predict(&offer, &mut scratch, out)?;
                if let Some(q) = out.iter().find(|q| !q.is_finite()) {
                    return Err(Error::Row {
                        row: block.first_row + row as u64,
                        column: "model",
                        expected: "a finite prediction; are features or rewards very large?".into(),
                        got: q.to_string(),
                    });
                }
            }
            Ok(())
        })?;
        log.model = predicted;
        Ok(())
    }
}
