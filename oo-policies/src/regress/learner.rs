//! One interface over the regressors, so that an explorer need not know which one it stands on.
//!
//! `learner=ridge` is second order ([`Linear`], O(d²) a row), `learner=sgd` first order with squared loss and
//! `learner=logistic` first order with logistic loss ([`FirstOrder`], O(d) a row).

use super::first_order::{self, FirstOrder, Loss, Rates};
use super::linear::{self, Linear};
use crate::state::{Reader, Writer};
use oo_core::registry::{OptionHelp, join};
use oo_core::spec::require;
use oo_core::{Batch, Error, Result, Round, Shape};
use serde::{Deserialize, Serialize};

/// Which regressor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Ridge regression.
    #[default]
    Ridge,
    /// First order, squared loss.
    Sgd,
    /// First order, logistic loss.
    Logistic,
}

/// The options of every policy on a regressor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // said in `OPTIONS`
pub struct Options {
    pub learner: Kind,
    pub rate: f64,
    pub start: f64,
    pub low: f64,
    pub high: f64,
    #[serde(flatten)]
    pub linear: linear::Options,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            learner: Kind::Ridge,
            rate: 0.5,
            start: 0.0,
            low: 0.0,
            high: 1.0,
            linear: linear::Options::default(),
        }
    }
}

const OWN: &[OptionHelp] = &[
    (
        "learner",
        "ridge (second order), sgd (first order) or logistic (first order, logistic loss)",
    ),
    ("rate", "learner=sgd, logistic: size of the steps; positive"),
    (
        "start",
        "ridge, sgd: estimate of what was never tried; at the top of the rewards it is optimistic; any number",
    ),
    (
        "low",
        "the lowest reward: 0 for learner=logistic, and for explorers that assume a range; below `high`",
    ),
    ("high", "the highest reward, likewise; logistic clips what is outside"),
];

/// Their help.
pub const OPTIONS: &[OptionHelp] = &join::<{ OWN.len() + linear::OPTIONS.len() }>(OWN, linear::OPTIONS);

#[derive(Clone, Debug)]
enum Inner {
    Ridge(Box<Linear>),
    FirstOrder(Box<FirstOrder>),
}

/// A regressor.
#[derive(Clone, Debug)]
pub struct Learner {
    inner: Inner,
    start: f64,
    /// Of the rewards, where the loss is logistic.
    range: (f64, f64),
    layout: String,
}

#[derive(Clone, Copy, Debug)]
enum InnerEstimate<'a> {
    Ridge(linear::Estimate<'a>),
    FirstOrder(first_order::Estimate<'a>),
}

/// The estimate of one candidate: its parts are computed when asked for.
#[derive(Clone, Copy, Debug)]
pub struct Estimate<'a> {
    inner: InnerEstimate<'a>,
    /// The reward is offset + scale · response.
    offset: f64,
    scale: f64,
}

impl Estimate<'_> {
    /// The expected reward.
    pub fn mean(&self) -> f64 {
        match &self.inner {
            InnerEstimate::Ridge(e) => self.offset + e.mean(),
            InnerEstimate::FirstOrder(e) => self.offset + self.scale * e.mean(),
        }
    }

    /// The expected reward at `width` standard deviations of θᵀx below and above. The standard deviation is in units
    /// of the noise's: √(xᵀA⁻¹x), with the diagonal of A alone in a first-order model.
    pub fn bounds(&self, width: f64) -> (f64, f64) {
        let (low, high) = match &self.inner {
            InnerEstimate::Ridge(e) => {
                let (mean, width) = (e.mean(), width * e.variance().sqrt());
                (mean - width, mean + width)
            }
            InnerEstimate::FirstOrder(e) => e.bounds(width),
        };
        (self.offset + self.scale * low, self.offset + self.scale * high)
    }
}

impl Learner {
    /// What each feature adds to the mean of candidate `i`; see [`Policy::contributions`](oo_core::Policy).
    pub fn contributions(&self, round: &Round<'_>, i: usize, out: &mut Vec<(usize, f64)>) -> bool {
        match &self.inner {
            Inner::Ridge(linear) => linear.contributions(round, i, out),
            Inner::FirstOrder(_) => false,
        }
    }

    /// See [`Policy::shares_weights`](oo_core::Policy).
    pub fn shares_weights(&self) -> bool {
        matches!(&self.inner, Inner::Ridge(linear) if linear.shares_weights())
    }

    /// For rounds of `shape`; `owner` is named in errors.
    ///
    /// # Errors
    /// An option out of range, or a model that does not fit the features.
    pub fn new(owner: &str, shape: &Shape, options: &Options) -> Result<Self> {
        let o = options;
        require(
            o.rate > 0.0 && o.rate.is_finite(),
            owner,
            "rate",
            "a positive number",
            o.rate,
        )?;
        require(o.start.is_finite(), owner, "start", "a finite number", o.start)?;
        let range = o.low < o.high && o.low.is_finite() && o.high.is_finite();
        require(range, owner, "low", "a number below `high`", o.low)?;
        let linear = &o.linear;
        let first_order = |loss| {
            let (lambda, positive) = (linear.lambda, linear.lambda > 0.0 && linear.lambda.is_finite());
            require(positive, owner, "lambda", "a positive number", lambda)?;
            if linear.discount != 1.0 || linear.window != 0 {
                return Err(Error::Unfit {
                    owner: owner.into(),
                    why: "only learner=ridge forgets; leave discount and window out".into(),
                });
            }
            let rates = Rates { rate: o.rate, lambda };
            FirstOrder::new(owner, shape, loss, rates, linear.model, &linear.features)
        };
        let inner = match o.learner {
            Kind::Ridge => Inner::Ridge(Box::new(Linear::new(owner, shape, linear)?)),
            Kind::Sgd => Inner::FirstOrder(Box::new(first_order(Loss::Squared)?)),
            Kind::Logistic => Inner::FirstOrder(Box::new(first_order(Loss::Logistic)?)),
        };
        let (start, range) = match o.learner {
            Kind::Logistic => (0.0, (o.low, o.high)),
            _ => (o.start, (0.0, 1.0)),
        };
        let base = match &inner {
            Inner::Ridge(linear) => linear.layout(),
            Inner::FirstOrder(model) => model.layout(),
        };
        let mut layout = base.to_string();
        if start != 0.0 {
            layout += &format!(", start {start}");
        }
        if range != (0.0, 1.0) {
            layout += &format!(", rewards {} to {}", range.0, range.1);
        }
        Ok(Learner {
            inner,
            start,
            range,
            layout,
        })
    }

    /// Numbers of scratch that [`evaluate`](Learner::evaluate) needs.
    pub fn row_len(&self) -> usize {
        match &self.inner {
            Inner::Ridge(linear) => linear.row_len(),
            Inner::FirstOrder(model) => model.row_len(),
        }
    }

    /// Calls `each(position, estimate)` for every candidate. `scratch` holds `row_len` numbers.
    #[inline]
    pub fn evaluate(&self, round: &Round<'_>, scratch: &mut [f64], mut each: impl FnMut(usize, Estimate<'_>)) {
        match &self.inner {
            Inner::Ridge(linear) => linear.evaluate(round, scratch, |i, e| {
                let inner = InnerEstimate::Ridge(e);
                each(
                    i,
                    Estimate {
                        inner,
                        offset: self.start,
                        scale: 1.0,
                    },
                );
            }),
            Inner::FirstOrder(model) => model.evaluate(round, scratch, |i, e| {
                let inner = InnerEstimate::FirstOrder(e);
                each(
                    i,
                    Estimate {
                        inner,
                        offset: self.start + self.range.0,
                        scale: self.range.1 - self.range.0,
                    },
                );
            }),
        }
    }

    /// Fills `scores` with the expected rewards; `scratch` grows to `row_len` numbers.
    pub fn means(&self, round: &Round<'_>, scores: &mut [f64], scratch: &mut Vec<f64>) {
        scratch.clear();
        scratch.resize(self.row_len(), 0.0);
        self.evaluate(round, scratch, |i, estimate| scores[i] = estimate.mean());
    }

    /// Learns the rows of a batch; `error` hears the error of each prediction made before the row was learned.
    ///
    /// # Errors
    /// Arithmetic that can no longer be trusted.
    pub fn update(&mut self, batch: &Batch<'_>, mut error: impl FnMut(f64)) -> Result<()> {
        for (row, reward) in batch.iter() {
            error(self.learn(&row.round, row.chosen, reward, 1.0)?);
        }
        Ok(())
    }

    /// Learns that candidate `i` is worth `reward`, as if the row had come `weight` times; returns the error of the
    /// prediction made before.
    ///
    /// # Errors
    /// As [`update`](Learner::update).
    pub fn learn(&mut self, round: &Round<'_>, i: usize, reward: f64, weight: f64) -> Result<f64> {
        match &mut self.inner {
            Inner::Ridge(linear) => linear.learn(round, i, reward - self.start, weight),
            Inner::FirstOrder(model) => {
                let (low, scale) = (self.range.0, self.range.1 - self.range.0);
                let mut response = (reward - self.start - low) / scale;
                if model.loss() == Loss::Logistic {
                    response = response.clamp(0.0, 1.0);
                }
                Ok(scale * model.learn(round, i, response, weight)?)
            }
        }
    }

    /// What a saved state must agree with.
    pub fn layout(&self) -> &str {
        &self.layout
    }

    /// Adds the model to a saved state.
    pub fn write(&self, out: &mut Writer) {
        match &self.inner {
            Inner::Ridge(linear) => linear.write(out),
            Inner::FirstOrder(model) => model.write("", out),
        }
    }

    /// Reads what [`write`](Learner::write) wrote; the caller reads the rest and then assigns.
    ///
    /// # Errors
    /// A state that does not hold together.
    pub fn read(&self, from: &mut Reader<'_>) -> Result<Learner> {
        let inner = match &self.inner {
            Inner::Ridge(linear) => Inner::Ridge(Box::new(linear.read(from)?)),
            Inner::FirstOrder(model) => Inner::FirstOrder(Box::new(model.read("", from)?)),
        };
        Ok(Learner { inner, ..self.clone() })
    }

    /// The model alone as a state, for policies that keep several.
    pub fn save(&self, owner: &str) -> Vec<u8> {
        let mut w = Writer::new(owner, self.layout());
        self.write(&mut w);
        w.finish()
    }

    /// Reads what [`save`](Learner::save) gave.
    ///
    /// # Errors
    /// As [`read`](Learner::read).
    pub fn restored(&self, owner: &str, bytes: &[u8]) -> Result<Learner> {
        let mut r = Reader::new(owner, self.layout(), bytes)?;
        let learner = self.read(&mut r)?;
        r.finish()?;
        Ok(learner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::{ActionId, Candidates, Key, UserId};

    const IDS: [ActionId; 2] = [ActionId(0), ActionId(1)];

    fn learner(options: &str) -> Learner {
        let shape = Shape {
            context: ["a", "b"].map(String::from).to_vec(),
            candidate: vec![],
            actions: Some(2),
        };
        let spec = oo_core::Spec::parse(&format!("x{options}")).unwrap();
        let options = oo_core::spec::configure("x", &spec.base().options).unwrap();
        Learner::new("x", &shape, &options).unwrap()
    }

    fn with_round<T>(context: [f32; 2], then: impl FnOnce(&Round<'_>) -> T) -> T {
        then(&Round {
            index: 0,
            user: UserId(0),
            context: &context,
            candidates: Candidates {
                ids: &IDS,
                features: &[],
                dim: 0,
            },
        })
    }

    fn bounds(learner: &Learner, context: [f32; 2]) -> [(f64, f64); 2] {
        let mut out = [(0.0, 0.0); 2];
        with_round(context, |round| {
            learner.evaluate(round, &mut vec![0.0; learner.row_len()], |i, e| out[i] = e.bounds(1.0));
        });
        out
    }

    #[test]
    fn a_row_of_weight_two_is_two_rows_and_of_weight_zero_none() {
        let (mut heavy, mut twice) = (learner(""), learner(""));
        let mut draws = Key::root(6).draws();
        for t in 0..50 {
            let (context, reward) = ([draws.normal() as f32, 1.0], draws.normal());
            with_round(context, |round| {
                heavy.learn(round, t % 2, reward, 2.0).unwrap();
                heavy.learn(round, t % 2, 9.0, 0.0).unwrap();
                twice.learn(round, t % 2, reward, 1.0).unwrap();
                twice.learn(round, t % 2, reward, 1.0).unwrap();
            });
        }
        for (a, b) in bounds(&heavy, [0.4, 1.0]).iter().zip(bounds(&twice, [0.4, 1.0])) {
            assert!((a.0 - b.0).abs() < 1e-12 && (a.1 - b.1).abs() < 1e-12, "{a:?} {b:?}");
        }
    }

    #[test]
    fn what_was_never_tried_is_rated_at_the_start() {
        for kind in ["ridge", "sgd"] {
            let mut model = learner(&format!("{{learner={kind},start=3}}"));
            for _ in 0..200 {
                with_round([0.5, 1.0], |round| model.learn(round, 0, 1.0, 1.0).unwrap());
            }
            let middle = |(low, high): (f64, f64)| 0.5 * (low + high);
            let [known, new] = bounds(&model, [0.5, 1.0]).map(middle);
            assert!(
                (known - 1.0).abs() < 0.05 && (new - 3.0).abs() < 1e-12,
                "{kind}: {known} {new}"
            );
        }
    }

    #[test]
    fn chances_stay_in_their_range() {
        let mut model = learner("{learner=logistic,low=-1,high=3,rate=5}");
        let [(low, high), _] = bounds(&model, [1.0, 1.0]);
        assert!((low + high - 2.0).abs() < 1e-12, "it starts in the middle");
        for _ in 0..100 {
            with_round([1.0, 1.0], |round| model.learn(round, 0, 70.0, 1.0).unwrap());
        }
        let [(low, high), _] = bounds(&model, [1.0, 1.0]);
        assert!(2.5 < low && low <= high && high <= 3.0, "{low} {high}");
    }
}
