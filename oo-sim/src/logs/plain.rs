//! A plain table: `action`, `reward`, `propensity` (or `pscore`), the target policy's probability of each action in
//! `pi_e_0`, `pi_e_1`, …, and a given reward model's prediction in `q_hat_0`, …; a person in `user` where rows of one
//! person depend on each other. Features of the context may stand in `x_0`, `x_1`, …; they are for policies and reward
//! models.

use super::columns::{Columns, Kind, Values};
use super::{About, Block, Format, Source, bad_row, block_rows, whole};
use anyhow::{Context, Result, ensure};
use oo_core::{ActionId, Candidates, Method, Round, Shape, UserId};
use oo_judge::estimators::Sizes;
use std::path::Path;

/// The row of the table.
pub(super) const FORMAT: Format = Format {
    name: "table",
    summary: "CSV, CSV.gz or Parquet with action, reward, propensity (or pscore), pi_e_0…, q_hat_0…, x_0…, user",
    fits: |look| look.has("action") && look.has("reward"),
    open: |path| Ok(Box::new(Plain::open(path)?)),
};

struct Plain {
    about: About,
    columns: Columns,
    /// How many actions there are; 0 where no column says it.
    actions: usize,
    features: usize,
    rounds: bool,
    has_user: bool,
    propensity: String,
    /// Working memory: one round's context.
    context: Vec<f32>,
}

impl Plain {
    fn open(path: &Path) -> Result<Self> {
        let mut columns = Columns::open(path)?;
        let propensity = columns.find(&["propensity", "pscore"])?;
        let mut wanted = vec![columns.find(&["action"])?, columns.find(&["reward"])?, propensity];
        let user = columns.find(&["user"]).ok();
        wanted.extend(user);
        let (target, model) = (columns.series("pi_e_")?, columns.series("q_hat_")?);
        let features = columns.series("x_")?;
        ensure!(
            target.is_empty() || model.is_empty() || target.len() == model.len(),
            "there are {} columns `pi_e_…` and {} columns `q_hat_…`; expected as many",
            target.len(),
            model.len()
        );
        let actions = target.len().max(model.len());
        let shape = (actions > 0).then(|| Shape {
            context: (0..features.len()).map(|i| format!("x_{i}")).collect(),
            candidate: Vec::new(),
            actions: Some(actions),
        });
        let about = About {
            format: FORMAT.name,
            rows: columns.rows(),
            shape,
            target: !target.is_empty(),
            model: !model.is_empty(),
            behaviour: false,
        };
        let propensity = columns.names()[propensity].clone();
        let features_count = features.len();
        wanted.extend(target.into_iter().chain(model).chain(features));
        columns.select(wanted.into_iter().map(|at| (at, Kind::Number)).collect())?;
        Ok(Plain {
            about,
            columns,
            actions,
            features: features_count,
            rounds: features_count > 0,
            has_user: user.is_some(),
            propensity,
            context: Vec::new(),
        })
    }
}

impl Source for Plain {
    fn about(&self) -> &About {
        &self.about
    }

    fn want_rounds(&mut self) {
        self.rounds = true;
    }

    fn next(&mut self, block: &mut Block) -> Result<bool> {
        let first = self.columns.next_row();
        let width = 4 + 2 * self.actions + self.features;
        let Some(values) = self.columns.next(block_rows(width))? else {
            return Ok(false);
        };
        block.clear(first);
        let mut values = values.iter().map(Values::numbers);
        let mut column = || values.next().context("a selected column did not come");
        let logged = &mut block.logged;
        for (i, &x) in column()?.iter().enumerate() {
            let row = first + i as u64;
            let action = whole(x, row, "action")?;
            let most = if self.actions == 0 {
                1 << 32
            } else {
                self.actions as u64
            };
            if action >= most {
                return Err(bad_row(
                    row,
                    "action",
                    &format!("a number below {most}, the number of actions"),
                    x,
                ));
            }
            logged.action.push(action as u32);
        }
        let rows = logged.action.len();
        logged.reward.extend_from_slice(column()?);
        logged.propensity.extend_from_slice(column()?);
        // Said here, since the file may call the column otherwise than everybody else does.
        if let Some(i) = logged.propensity.iter().position(|p| !(*p > 0.0 && *p <= 1.0)) {
            let got = logged.propensity[i];
            return Err(bad_row(
                first + i as u64,
                &self.propensity,
                "a probability in (0, 1]",
                got,
            ));
        }
        if let Some(i) = logged.reward.iter().position(|r| !r.is_finite()) {
            return Err(bad_row(first + i as u64, "reward", "a finite number", logged.reward[i]));
        }
        if self.has_user {
            for (i, &x) in column()?.iter().enumerate() {
                logged.cluster.push(whole(x, first + i as u64, "user")?);
            }
        }
        logged.candidates = Sizes::Fixed(self.actions);
        for (has, out) in [
            (self.about.target, &mut logged.target),
            (self.about.model, &mut logged.model),
        ] {
            if has {
                let columns: Vec<&[f64]> = (0..self.actions).map(|_| column()).collect::<Result<_>>()?;
                out.reserve(rows * self.actions);
                for row in 0..rows {
                    out.extend(columns.iter().map(|c| c[row]));
                }
            }
        }
        if self.actions > 0 && self.rounds {
            let features: Vec<&[f64]> = (0..self.features).map(|_| column()).collect::<Result<_>>()?;
            rounds(block, first, self.actions, &features, &mut self.context);
        }
        Ok(true)
    }
}

/// The rows as rounds over the actions `0..actions`.
fn rounds(block: &mut Block, first: u64, actions: usize, features: &[&[f64]], context: &mut Vec<f32>) {
    let ids: Vec<ActionId> = (0..actions as u64).map(ActionId).collect();
    let mut probs = vec![0.0; actions];
    for (row, &action) in block.logged.action.iter().enumerate() {
        context.clear();
        context.extend(features.iter().map(|f| f[row] as f32));
        let user = block.logged.cluster.get(row).copied().unwrap_or(0);
        let round = Round {
            index: first + row as u64 - 1,
            user: UserId(user),
            context,
            candidates: Candidates {
                ids: &ids,
                features: &[],
                dim: 0,
            },
        };
        spread(&mut probs, action as usize, block.logged.propensity[row]);
        block.rounds.push_parts(&round, &probs, action as usize, Method::Exact);
        block.rounds.settle(row, block.logged.reward[row], None);
    }
}

/// The logged action's probability, and the rest spread evenly: a log of one propensity a row does not know better.
pub(super) fn spread(probs: &mut [f64], chosen: usize, propensity: f64) {
    let others = probs.len().saturating_sub(1).max(1) as f64;
    probs.fill((1.0 - propensity) / others);
    if let Some(p) = probs.get_mut(chosen) {
        *p = propensity;
    }
}
