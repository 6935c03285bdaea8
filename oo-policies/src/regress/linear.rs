//! Ridge regression for all actions, for each, or both at once: what the linear policies have in common.

use super::Ridge;
use super::cross::Cross;
use super::fourier::Fourier;
use super::symmetric::{dot, padded};
use super::window::Window;

pub use super::options::{Model, OPTIONS, Options};
use crate::state::{Reader, Writer};
use oo_core::features::Columns;
use oo_core::key::hash_name;
use oo_core::spec::require;
use oo_core::{ActionId, Batch, Error, Result, Round, Shape};
use std::collections::BTreeMap;

/// Ridge regressions behind one interface.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Never `Auto`.
    model: Model,
    /// The row of an arm's own regression.
    columns: Columns,
    fourier: Option<Fourier>,
    /// True for a fixed action set: arm `i` is action `i`.
    fixed: bool,
    /// The slot of an action, where the set is not fixed.
    slots: BTreeMap<ActionId, usize>,
    arms: Vec<Ridge>,
    blank: Ridge,
    row: Vec<f64>,
    /// In a hybrid model only.
    common: Option<Common>,
    discount: f64,
    /// Rows learned, which is the time that rows fade by.
    clock: u64,
    /// The clock when an arm faded last.
    faded: Vec<u64>,
    window: Option<Window>,
    layout: String,
}

/// What a hybrid model has besides its arms.
#[derive(Clone, Debug)]
struct Common {
    columns: Columns,
    ridge: Ridge,
    /// One an arm.
    crosses: Vec<Cross>,
    blank: Cross,
    z: Vec<f64>,
    w: Vec<f64>,
}

/// The estimate of one candidate: mean and variance are computed when asked for.
#[derive(Clone, Copy, Debug)]
pub struct Estimate<'a> {
    own: (&'a Ridge, &'a [f64]),
    /// What is left of the arm's rows since it faded last.
    kept: f64,
    common: Option<(&'a Ridge, &'a [f64])>,
}

impl<'a> Estimate<'a> {
    /// The expected reward.
    pub fn mean(&self) -> f64 {
        self.own.0.predict(self.own.1) + self.common.map_or(0.0, |(ridge, w)| ridge.predict(w))
    }

    /// Mean and variance at once, for those who want both: the same bits, at a lower price.
    #[inline]
    pub fn both(&self) -> (f64, f64) {
        match self.common {
            None if self.kept >= 1.0 => self.own.0.estimate(self.own.1),
            _ => (self.mean(), self.variance()),
        }
    }

    /// The variance of the estimate, in units of the noise's.
    pub fn variance(&self) -> f64 {
        self.own_variance() + self.common.map_or(0.0, |(ridge, w)| ridge.variance(w))
    }

    fn own_variance(&self) -> f64 {
        let (ridge, x) = self.own;
        match ridge.variance(x) {
            v if self.kept >= 1.0 => v,
            // However long ago: no more than before the first row.
            v => (v / self.kept).min(dot(x, x) / ridge.lambda()),
        }
    }

    /// The row by which this candidate moves with the others, for [`Linear::joint`], and the variance of what is
    /// its own. Not for disjoint models, where nothing is joint.
    pub fn parts(&self) -> (&'a [f64], f64) {
        match self.common {
            Some((_, w)) => (w, self.own_variance()),
            None => (self.own.1, 0.0),
        }
    }
}

impl Linear {
    /// For rounds of `shape`; `owner` is named in errors.
    ///
    /// # Errors
    /// A penalty that is not positive, features that do not exist, a model that the features cannot carry.
    pub fn new(owner: &str, shape: &Shape, options: &Options) -> Result<Self> {
        if shape.context.is_empty() && shape.candidate.is_empty() {
            let why = "it learns from features and this environment has none; use ucb1, kl-ucb or beta-ts".into();
            return Err(Error::Unfit {
                owner: owner.into(),
                why,
            });
        }
        Self::with_constant(owner, shape, options)
    }

    /// The same, but without features every action has a constant: its mean reward.
    ///
    /// # Errors
    /// As [`new`](Linear::new), except for that.
    pub fn with_constant(owner: &str, shape: &Shape, options: &Options) -> Result<Self> {
        let &Options {
            lambda,
            model,
            ref features,
            discount,
            window,
            fourier,
            kernel_width,
        } = options;
        let positive = lambda > 0.0 && lambda.is_finite();
        require(positive, owner, "lambda", "a positive number", lambda)?;
        let share = discount > 0.0 && discount <= 1.0;
        require(share, owner, "discount", "above 0, at most 1", discount)?;
        require(window <= 10_000_000, owner, "window", "at most 10000000 rows", window)?;
        require(fourier <= 10_000, owner, "fourier", "at most 10000 features", fourier)?;
        let positive = kernel_width > 0.0 && kernel_width.is_finite();
        require(positive, owner, "kernel_width", "a positive number", kernel_width)?;
        let all = Columns::new(owner, shape, features)?;
        let unfit = |why: &str| {
            Err(Error::Unfit {
                owner: owner.into(),
                why: why.into(),
            })
        };
        let model = match model {
            Model::Auto if all.varies() => Model::Shared,
            Model::Auto => Model::Disjoint,
            named => named,
        };
        if model == Model::Shared && !all.varies() {
            return unfit("its shared weights cannot tell candidates without features apart; use model=disjoint");
        }
        if model == Model::Hybrid && (discount < 1.0 || window > 0) {
            return unfit("a hybrid model forgets nothing; use model=shared or model=disjoint with discount or window");
        }
        if model == Model::Hybrid && fourier > 0 {
            return unfit("a hybrid model takes no Fourier features; use model=shared or model=disjoint");
        }
        let layout = format!(
            "{model:?} weights over {} features (spec {:016x}){}, {}",
            all.dim(),
            hash_name(&all.names().join(",")),
            match fourier {
                0 => String::new(),
                n => format!(" and {n} Fourier features of width {kernel_width}"),
            },
            match window {
                0 => format!("discount {discount}"),
                n => format!("discount {discount}, window {n}"),
            }
        );
        let columns = if model == Model::Hybrid {
            all.context()
        } else {
            all.clone()
        };
        // Without context an action still has a level of its own: the constant.
        let fourier = (fourier > 0).then(|| Fourier::new(columns.dim().max(1), fourier, kernel_width));
        let dim = fourier.as_ref().map_or(columns.dim().max(1), Fourier::dim);
        let blank = Ridge::new(dim, lambda);
        let arms = match (model, shape.actions) {
            (Model::Shared, _) => 1,
            (_, Some(n)) => n,
            (_, None) => 0,
        };
        let common = (model == Model::Hybrid).then(|| {
            let blank = Cross::new(dim, all.dim());
            Common {
                ridge: Ridge::new(all.dim(), lambda),
                crosses: vec![blank.clone(); arms],
                blank,
                z: vec![0.0; padded(all.dim())],
                w: vec![0.0; padded(all.dim())],
                columns: all,
            }
        });
        Ok(Linear {
            model,
            fixed: model != Model::Shared && shape.actions.is_some(),
            slots: BTreeMap::new(),
            arms: vec![blank.clone(); arms],
            row: vec![0.0; padded(dim)],
            columns,
            fourier,
            blank,
            common,
            discount,
            clock: 0,
            faded: vec![0; arms],
            window: (window > 0).then(|| Window::new(window, padded(dim))),
            layout,
        })
    }

    /// The regression by which candidates move together; `None` when each action has weights of its own.
    pub fn joint(&self) -> Option<&Ridge> {
        match self.model {
            Model::Shared => self.arms.first(),
            _ => self.common.as_ref().map(|c| &c.ridge),
        }
    }

    /// Numbers of scratch that [`evaluate`](Linear::evaluate) needs.
    pub fn row_len(&self) -> usize {
        self.row.len() + self.common.as_ref().map_or(0, |c| c.w.len())
    }

    /// The regression of an action, by its slot; `None` before it was learned.
    fn slot(&self, id: ActionId) -> Option<usize> {
        if self.model == Model::Shared {
            Some(0)
        } else if self.fixed && (id.0 as usize) < self.arms.len() {
            Some(id.0 as usize)
        } else {
            self.slots.get(&id).copied()
        }
    }

    /// The padded row of candidate `i` for its arm, into `x`.
    fn gather(&self, round: &Round<'_>, i: usize, x: &mut [f64]) {
        gather(&self.columns, round, i, x);
        if let Some(fourier) = &self.fourier {
            fourier.extend(x);
        }
    }

    /// Calls `each(position, estimate)` for every candidate. `scratch` holds `row_len` numbers.
    pub fn evaluate(&self, round: &Round<'_>, scratch: &mut [f64], mut each: impl FnMut(usize, Estimate<'_>)) {
        let (x, w) = scratch.split_at_mut(self.row.len());
        x.fill(0.0);
        let varies = self.columns.varies();
        let plain = self.common.is_none() && self.discount >= 1.0;
        for (i, &id) in round.candidates.ids.iter().enumerate() {
            if varies || i == 0 {
                self.gather(round, i, x);
            }
            let slot = self.slot(id);
            let own = (slot.and_then(|s| self.arms.get(s)).unwrap_or(&self.blank), &*x);
            if plain {
                // Apart from the rest, so that the compiler sees two constants: this is the hottest loop there is.
                each(
                    i,
                    Estimate {
                        own,
                        kept: 1.0,
                        common: None,
                    },
                );
                continue;
            }
            let common = self.common.as_ref().map(|common| {
                w.fill(0.0);
                gather(&common.columns, round, i, w);
                if let Some(cross) = slot.and_then(|s| common.crosses.get(s)) {
                    cross.reduce(x, &mut w[..common.columns.dim()]);
                }
                (&common.ridge, &*w)
            });
            let kept = match slot.and_then(|s| self.faded.get(s)) {
                Some(since) if self.discount < 1.0 => libm::pow(self.discount, (self.clock - since) as f64),
                _ => 1.0,
            };
            each(i, Estimate { own, kept, common });
        }
    }

    /// What each feature adds to the mean of candidate `i`; see [`Policy::contributions`](oo_core::Policy). Not for
    /// hybrid models and Fourier features, whose weights belong to no single feature.
    pub fn contributions(&self, round: &Round<'_>, i: usize, out: &mut Vec<(usize, f64)>) -> bool {
        if self.common.is_some() || self.fourier.is_some() || self.columns.dim() == 0 {
            return false;
        }
        let slot = self.slot(round.candidates.ids[i]);
        let ridge = slot.and_then(|s| self.arms.get(s)).unwrap_or(&self.blank);
        let mut x = vec![0.0; self.row.len()];
        gather(&self.columns, round, i, &mut x);
        let amounts = x.iter().zip(ridge.theta()).map(|(x, theta)| x * theta);
        out.extend(self.columns.places(round).zip(amounts));
        true
    }

    /// See [`Policy::shares_weights`](oo_core::Policy).
    pub fn shares_weights(&self) -> bool {
        self.model == Model::Shared
    }

    /// The slot of an action, made where there is none yet.
    fn slot_for(&mut self, id: ActionId) -> usize {
        if let Some(slot) = self.slot(id) {
            return slot;
        }
        let slot = self.arms.len();
        self.slots.insert(id, slot);
        self.arms.push(self.blank.clone());
        self.faded.push(self.clock);
        if let Some(common) = &mut self.common {
            common.crosses.push(common.blank.clone());
        }
        slot
    }

    /// Learns the rows of a batch; `error` hears the error of each prediction made before the row was learned.
    ///
    /// # Errors
    /// [`Error::Singular`] when a matrix can no longer be inverted.
    pub fn update(&mut self, batch: &Batch<'_>, mut error: impl FnMut(f64)) -> Result<()> {
        for (row, reward) in batch.iter() {
            error(self.learn(&row.round, row.chosen, reward, 1.0)?);
        }
        Ok(())
    }

    /// Learns that candidate `i` is worth `reward`, as if the row had come `weight` times; returns the error of the
    /// prediction made before. With weight 0 there was no row, and none ages.
    ///
    /// # Errors
    /// [`Error::Singular`] when a matrix can no longer be inverted.
    pub fn learn(&mut self, round: &Round<'_>, i: usize, reward: f64, weight: f64) -> Result<f64> {
        Ok(self.learn_all(round, i, reward, weight)?.0)
    }

    /// [`learn`](Linear::learn), which also returns the variance of the prediction, in units of the noise's.
    ///
    /// # Errors
    /// As [`learn`](Linear::learn).
    pub fn learn_all(&mut self, round: &Round<'_>, i: usize, reward: f64, weight: f64) -> Result<(f64, f64)> {
        if weight <= 0.0 {
            return Ok((0.0, 0.0));
        }
        let root = weight.sqrt();
        let reward = root * reward;
        let slot = self.slot_for(round.candidates.ids[i]);
        self.forget(slot)?;
        let arm = &mut self.arms[slot];
        gather(&self.columns, round, i, &mut self.row);
        if let Some(fourier) = &self.fourier {
            fourier.extend(&mut self.row);
        }
        stretch(&mut self.row, root);
        let x = &self.row;
        let Some(common) = &mut self.common else {
            let error = reward - arm.predict(x);
            let step = arm.update(x, reward)?;
            if let Some(window) = &mut self.window {
                window.push(slot, x, reward);
            }
            return Ok((error / root, step.leverage / weight));
        };
        let Common { z, w, ridge, .. } = common;
        gather(&common.columns, round, i, z);
        stretch(z, root);
        let cross = &mut common.crosses[slot];
        w.copy_from_slice(z);
        cross.reduce(x, &mut w[..common.columns.dim()]);
        let rest = reward - arm.predict(x);
        let error = rest - ridge.predict(w);
        let step = arm.update(x, reward)?;
        cross.follow(arm, step, x, &z[..common.columns.dim()], w);
        // A row with noise 1 + leverage counts as a row with noise 1 that is shorter by the root of it.
        let shorter = 1.0 / (1.0 + step.leverage).sqrt();
        w.iter_mut().for_each(|w| *w *= shorter);
        let common_step = ridge.update(w, rest * shorter)?;
        let variance = step.leverage + common_step.leverage * (1.0 + step.leverage);
        Ok((error / root, variance / weight))
    }

    /// One row passes: arm `slot`, which is about to learn, fades to the present, and the window drops its oldest.
    fn forget(&mut self, slot: usize) -> Result<()> {
        self.clock += 1;
        if self.discount < 1.0 {
            let since = std::mem::replace(&mut self.faded[slot], self.clock);
            self.arms[slot].fade(libm::pow(self.discount, (self.clock - since) as f64))?;
        }
        let Some(window) = &mut self.window else { return Ok(()) };
        if let Some((slot, row, mut reward)) = window.oldest() {
            // In a fading arm an old row is lighter by now than when it was learned.
            if self.discount < 1.0 {
                let age = (row.age as u64).saturating_sub(self.clock - self.faded[slot]);
                let root = libm::pow(self.discount, 0.5 * age as f64);
                row.x.iter_mut().for_each(|x| *x *= root);
                reward *= root;
            }
            self.arms[slot].remove(row.x, reward)?;
        }
        Ok(())
    }

    /// What a saved state must agree with.
    pub fn layout(&self) -> &str {
        &self.layout
    }

    /// Adds the model to a saved state.
    pub fn write(&self, out: &mut Writer) {
        out.features(self.common.as_ref().map_or(&self.columns, |c| &c.columns).names());
        // What a hybrid model has in common, and what a window still holds, is no sum over rows.
        if self.common.is_none() && self.window.is_none() {
            out.sums("arms", self.blank.dim());
        }
        out.u64s("actions", self.slots.keys().map(|id| id.0));
        out.u64s("slots", self.slots.values().map(|&slot| slot as u64));
        Ridge::write_all(&self.arms, "arms", out);
        out.u64s("clock", [self.clock]);
        out.u64s("faded", self.faded.iter().copied());
        if let Some(window) = &self.window {
            window.write(out);
        }
        if let Some(common) = &self.common {
            Ridge::write_all(std::slice::from_ref(&common.ridge), "common", out);
            for (i, name) in ["common.moments", "common.gains"].into_iter().enumerate() {
                out.f64s(name, common.crosses.iter().flat_map(|c| c.parts()[i]));
            }
        }
    }

    /// Reads what [`write`](Linear::write) wrote; the caller reads the rest and then assigns.
    ///
    /// # Errors
    /// A state that does not hold together.
    pub fn read(&self, from: &mut Reader<'_>) -> Result<Linear> {
        let (actions, slots) = (from.u64s("actions")?, from.u64s("slots")?);
        let arms = self.blank.read_all("arms", from)?;
        let clock = from.count("clock")?;
        let faded = from.u64s("faded")?;
        let within = |slot: &u64| (*slot as usize) < arms.len();
        if actions.len() != slots.len()
            || faded.len() != arms.len()
            || (actions.is_empty() && arms.len() != self.arms_at_first())
            || !slots.iter().all(within)
            || faded.iter().any(|&since| since > clock)
        {
            return Err(from.refuse("its arms do not match its actions"));
        }
        let window = match &self.window {
            None => None,
            Some(own) => Some(own.read(arms.len(), from)?),
        };
        let common = match &self.common {
            None => None,
            Some(own) => {
                let mut common = own.clone();
                common.crosses = vec![common.blank.clone(); arms.len()];
                let ridges = own.ridge.read_all("common", from)?;
                let [ridge] = <[Ridge; 1]>::try_from(ridges)
                    .map_err(|_| from.refuse("it holds more than one common regression"))?;
                common.ridge = ridge;
                for (i, name) in ["common.moments", "common.gains"].into_iter().enumerate() {
                    let values = from.f64s(name)?;
                    let size = common.blank.parts()[i].len();
                    if values.len() != size * arms.len() {
                        return Err(from.refuse(format!("`{name}` holds {} numbers", values.len())));
                    }
                    for (cross, own) in common.crosses.iter_mut().zip(values.chunks_exact(size)) {
                        cross.parts_mut()[i].copy_from_slice(own);
                    }
                }
                Some(common)
            }
        };
        Ok(Linear {
            slots: actions
                .into_iter()
                .map(ActionId)
                .zip(slots.into_iter().map(|s| s as usize))
                .collect(),
            arms,
            clock,
            faded,
            window,
            common,
            ..self.clone()
        })
    }

    /// The number of arms before anything was learned.
    fn arms_at_first(&self) -> usize {
        self.arms.len() - self.slots.len()
    }
}

/// A row that counts for several is one row, longer by the root of their number.
fn stretch(x: &mut [f64], root: f64) {
    if root != 1.0 {
        x.iter_mut().for_each(|x| *x *= root);
    }
}

/// The padded row of candidate `i`, into `x`; the constant where there are no columns.
fn gather(columns: &Columns, round: &Round<'_>, i: usize, x: &mut [f64]) {
    match columns.dim() {
        0 => x[0] = 1.0,
        dim => columns.gather(round, i, &mut x[..dim]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::{Candidates, Key, Log, Method, UserId};

    /// A hybrid model is one big ridge regression with a block for every action beside the common one.
    #[test]
    fn hybrid_agrees_with_the_big_regression() {
        const ARMS: usize = 3;
        for context in [0usize, 2] {
            for lambda in [0.01, 1.0, 100.0] {
                let shape = Shape {
                    context: (0..context).map(|i| format!("c{i}")).collect(),
                    candidate: vec!["a".into(), "b".into()],
                    actions: Some(ARMS),
                };
                let options = Options {
                    lambda,
                    model: Model::Hybrid,
                    ..Options::default()
                };
                let mut model = Linear::new("test", &shape, &options).unwrap();
                let (k, d) = (context + 2, context.max(1));
                let mut big = Ridge::new(k + ARMS * d, lambda);
                let mut row = vec![0.0; padded(k + ARMS * d)];
                let ids: Vec<ActionId> = (0..ARMS as u64).map(ActionId).collect();
                let mut draws = Key::root(3).draws();
                let fill = |row: &mut Vec<f64>, c: &[f32], f: &[f32], arm: usize| {
                    row.fill(0.0);
                    for (to, from) in row.iter_mut().zip(c.iter().chain(&f[2 * arm..2 * arm + 2])) {
                        *to = f64::from(*from);
                    }
                    match context {
                        0 => row[k + arm] = 1.0,
                        _ => (0..d).for_each(|j| row[k + arm * d + j] = f64::from(c[j])),
                    }
                };
                for t in 0..9000 {
                    let c: Vec<f32> = (0..context).map(|_| draws.normal() as f32).collect();
                    let f: Vec<f32> = (0..2 * ARMS).map(|_| draws.normal() as f32).collect();
                    let round = Round {
                        index: t,
                        user: UserId(0),
                        context: &c,
                        candidates: Candidates {
                            ids: &ids,
                            features: &f,
                            dim: 2,
                        },
                    };
                    if t % 500 == 499 {
                        let mut scratch = vec![0.0; model.row_len()];
                        model.evaluate(&round, &mut scratch, |i, e| {
                            fill(&mut row, &c, &f, i);
                            let (mean, variance) = (big.predict(&row), big.variance(&row));
                            assert!((e.mean() - mean).abs() < 1e-9, "{t} {i}: {} {mean}", e.mean());
                            assert!((e.variance() - variance).abs() < 1e-9 * variance.max(1e-3));
                        });
                    }
                    let chosen = t as usize % ARMS;
                    let reward = f64::from(f[2 * chosen]) - 0.3 * chosen as f64 + 0.1 * draws.normal();
                    let mut log = Log::new();
                    let mut probs = [0.0; ARMS];
                    probs[chosen] = 1.0;
                    log.push_parts(&round, &probs, chosen, Method::Exact);
                    log.settle(0, reward, None);
                    model.update(&Batch::new(&log, &[0]), |_| ()).unwrap();
                    fill(&mut row, &c, &f, chosen);
                    big.update(&row, reward).unwrap();
                }
            }
        }
    }
}
