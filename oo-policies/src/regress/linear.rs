//! One ridge regression for all actions, or one for each: what the linear policies have in common.

use super::{Ridge, symmetric::padded};
use crate::state::{Reader, Writer};
use oo_core::features::Columns;
use oo_core::{ActionId, Batch, Error, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who shares weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Shared where candidates have features of their own, disjoint where they have none.
    #[default]
    Auto,
    /// One weight vector over candidate features.
    Shared,
    /// One weight vector an action.
    Disjoint,
}

/// Ridge regressions behind one interface.
#[derive(Clone, Debug)]
pub struct Linear {
    columns: Columns,
    disjoint: bool,
    /// True for a fixed action set: arm `i` is action `i`.
    fixed: bool,
    /// The slot of an action, where the set is not fixed.
    slots: BTreeMap<ActionId, usize>,
    arms: Vec<Ridge>,
    blank: Ridge,
    row: Vec<f64>,
}

impl Linear {
    /// For rounds of `shape`; `owner` is named in errors.
    pub fn new(owner: &str, shape: &Shape, model: Model, features: &str, lambda: f64) -> Result<Self> {
        require(
            lambda > 0.0 && lambda.is_finite(),
            owner,
            "lambda",
            "a positive number",
            lambda,
        )?;
        let columns = Columns::new(owner, shape, features)?;
        let disjoint = match model {
            Model::Auto => !columns.varies(),
            Model::Disjoint => true,
            Model::Shared => false,
        };
        if columns.dim() == 0 {
            let why = "it learns from features and this environment has none; use ucb1, kl-ucb or beta-ts".into();
            return Err(Error::Unfit {
                owner: owner.into(),
                why,
            });
        }
        if !disjoint && !columns.varies() {
            let why = "its shared weights cannot tell candidates without features apart; use model=disjoint".into();
            return Err(Error::Unfit {
                owner: owner.into(),
                why,
            });
        }
        let blank = Ridge::new(columns.dim(), lambda);
        let fixed = disjoint && shape.actions.is_some();
        let arms = match (disjoint, shape.actions) {
            (false, _) => vec![blank.clone()],
            (true, Some(n)) => vec![blank.clone(); n],
            (true, None) => Vec::new(),
        };
        let row = vec![0.0; padded(columns.dim())];
        Ok(Linear {
            columns,
            disjoint,
            fixed,
            slots: BTreeMap::new(),
            arms,
            blank,
            row,
        })
    }

    /// True when each action has weights of its own.
    pub fn is_disjoint(&self) -> bool {
        self.disjoint
    }

    /// Features a row.
    pub fn dim(&self) -> usize {
        self.columns.dim()
    }

    /// Numbers of scratch that [`evaluate`](Linear::evaluate) needs.
    pub fn row_len(&self) -> usize {
        self.row.len()
    }

    /// The regression behind an action.
    pub fn arm(&self, id: ActionId) -> &Ridge {
        let slot = if !self.disjoint {
            Some(0)
        } else if self.fixed {
            Some(id.0 as usize)
        } else {
            self.slots.get(&id).copied()
        };
        slot.and_then(|s| self.arms.get(s)).unwrap_or(&self.blank)
    }

    /// The padded row of candidate `i`, into `x`.
    pub fn gather(&self, round: &Round<'_>, i: usize, x: &mut [f64]) {
        self.columns.gather(round, i, &mut x[..self.columns.dim()]);
    }

    /// Calls `each(position, regression, row)` for every candidate. `x` holds `row_len` numbers.
    pub fn evaluate(&self, round: &Round<'_>, x: &mut [f64], mut each: impl FnMut(usize, &Ridge, &[f64])) {
        x.fill(0.0);
        let varies = self.columns.varies();
        for (i, &id) in round.candidates.ids.iter().enumerate() {
            if varies || i == 0 {
                self.gather(round, i, x);
            }
            each(i, self.arm(id), x);
        }
    }

    /// Learns the rows of a batch; `error` hears each prediction error before it is learned.
    pub fn update(&mut self, batch: &Batch<'_>, mut error: impl FnMut(f64)) -> Result<()> {
        for (row, reward) in batch.iter() {
            let mut x = std::mem::take(&mut self.row);
            self.columns
                .gather(&row.round, row.chosen, &mut x[..self.columns.dim()]);
            let slot = if !self.disjoint {
                0
            } else if self.fixed && (row.action().0 as usize) < self.arms.len() {
                row.action().0 as usize
            } else {
                let next = self.arms.len();
                let slot = *self.slots.entry(row.action()).or_insert(next);
                if slot == next {
                    self.arms.push(self.blank.clone());
                }
                slot
            };
            let arm = &mut self.arms[slot];
            error(reward - arm.predict(&x));
            let learned = arm.update(&x, reward);
            self.row = x;
            learned?;
        }
        Ok(())
    }

    /// Begins a saved state.
    pub fn writer(&self, policy: &str) -> Writer {
        let mut w = Writer::new(policy, &[self.dim() as u64, u64::from(self.disjoint)]);
        w.u64(self.slots.len() as u64);
        for (id, &slot) in &self.slots {
            w.u64(id.0);
            w.u64(slot as u64);
        }
        w.u64(self.arms.len() as u64);
        self.arms.iter().for_each(|arm| arm.write(&mut w));
        w
    }

    /// Reads what [`writer`](Linear::writer) wrote; the caller reads the rest and then assigns.
    pub fn read<'a>(&self, policy: &'a str, bytes: &'a [u8]) -> Result<(Linear, Reader<'a>)> {
        let mut r = Reader::new(policy, &[self.dim() as u64, u64::from(self.disjoint)], bytes)?;
        let mut new = Linear {
            slots: BTreeMap::new(),
            arms: Vec::new(),
            ..self.clone()
        };
        for _ in 0..r.u64()? {
            let id = ActionId(r.u64()?);
            new.slots.insert(id, r.u64()? as usize);
        }
        for _ in 0..r.u64()? {
            let mut arm = self.blank.clone();
            arm.read(&mut r)?;
            new.arms.push(arm);
        }
        Ok((new, r))
    }
}
