//! First-order regression: one gradient step a row, O(d) in time and memory, for all actions or for each.
//!
//! A step is adaptive (each coordinate is divided by the root of its summed squared gradients), normalised (the
//! scale of a feature does not matter: each is measured in units of the largest magnitude it has shown) and aware of
//! importance weights (a row of weight h moves the prediction as h little steps would, and never beyond its target):
//!
//! - s ← max(s, |x|), θ shrinking by the ratio where s grows; N ← N + h Σ (x/s)²; t ← t + h; G ← G + h (y − p)² x²;
//! - θ ← θ + δ x / (s √G), with X = Σ x² / (s √G), η = `rate` · m · √(t/N) and
//!   δ = (y − p) (1 − e^(−hηX)) / X for squared loss; for logistic loss δ solves δ = hη (y − σ(z + δX)).
//!
//! m is the largest |y| so far (1 for logistic loss), so that the units of the reward do not matter either.
//! The width of an estimate is that of a ridge regression with a diagonal Gram matrix: Σ x² / (λs² + Σ h x²), for
//! logistic loss with p(1 − p) beside h.
//!
//! Ross, Mineiro, Langford (2013), arXiv:1305.6646, Algorithm 2, for the normalised adaptive step; Karampatziakis,
//! Langford (2011), arXiv:1011.1576, for squared loss with importance weights; Kulis, Bartlett (2010) for the implicit
//! step of logistic loss. Departs from them by the factor m.

use super::linear::Model;
use super::symmetric::{dot, padded};
use crate::state::{Reader, Writer};
use oo_core::features::Columns;
use oo_core::key::hash_name;
use oo_core::{ActionId, Error, Result, Round, Shape};
use std::collections::BTreeMap;

/// What a prediction is and how far it is off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// p = θᵀx, ½(y − p)².
    Squared,
    /// p = σ(θᵀx), cross-entropy; y in [0, 1].
    Logistic,
}

/// 1 / (1 + e^−z).
pub fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-z))
}

/// What the steps and widths depend on.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// `rate` of the options.
    pub rate: f64,
    /// The penalty behind the widths.
    pub lambda: f64,
}

/// Where scales and sums of squares begin: small enough to be nothing, large enough to divide by their product.
const TINY: f64 = 1e-150;

/// The weights of one arm with what their steps depend on.
#[derive(Clone, Debug)]
struct Arm {
    /// Σ h, Σ h Σ (x/s)², and the largest |y|.
    sums: [f64; 3],
    /// θ, G, Σ h x² and 1/s, one padded vector after the other.
    vectors: Vec<f64>,
}

impl Arm {
    fn blank(len: usize) -> Self {
        let mut vectors = vec![0.0; 4 * len];
        vectors[len..2 * len].fill(TINY * TINY);
        vectors[3 * len..].fill(1.0 / TINY);
        Arm {
            sums: [0.0; 3],
            vectors,
        }
    }

    fn theta(&self) -> &[f64] {
        &self.vectors[..self.vectors.len() / 4]
    }

    fn variance(&self, x: &[f64], lambda: f64) -> f64 {
        let len = x.len();
        let (curvature, inverse_scale) = (&self.vectors[2 * len..3 * len], &self.vectors[3 * len..]);
        let mut sum = 0.0;
        for ((&x, &c), &r) in x.iter().zip(curvature).zip(inverse_scale) {
            // A value larger than any before is its own scale.
            let scale = (1.0 / r).max(x.abs());
            sum += x * x / (c + lambda * scale * scale);
        }
        sum
    }

    /// Learns a row; `step` is working memory. Returns y − p.
    fn learn(&mut self, x: &[f64], y: f64, weight: f64, loss: Loss, rate: f64, step: &mut [f64]) -> f64 {
        let len = x.len();
        let (theta, rest) = self.vectors.split_at_mut(len);
        let (gradient, rest) = rest.split_at_mut(len);
        let (curvature, inverse_scale) = rest.split_at_mut(len);
        rescale(x, theta, inverse_scale);
        let z = dot(theta, x);
        let (p, slope) = match loss {
            Loss::Squared => (z, 1.0),
            Loss::Logistic => {
                let p = sigmoid(z);
                (p, p * (1.0 - p))
            }
        };
        let residual = y - p;
        let squares = weight * residual * residual;
        let (power, spread) = kernel(x, weight * slope, squares, [gradient, curvature], inverse_scale, step);
        let [rows, spreads, largest] = &mut self.sums;
        *rows += weight;
        *spreads += weight * spread;
        *largest = match loss {
            Loss::Squared => largest.max(y.abs()),
            Loss::Logistic => 1.0,
        };
        if residual == 0.0 || power <= 0.0 {
            return residual;
        }
        let eta = weight * rate * *largest * (*rows / *spreads).sqrt();
        let delta = match loss {
            Loss::Squared => residual * -libm::expm1(-eta * power) / power,
            Loss::Logistic => implicit(y, z, eta, power),
        };
        for (t, s) in theta.iter_mut().zip(step.iter()) {
            *t += delta * s;
        }
        residual
    }
}

/// Lets the scale of a feature grow to |x|, and its weight shrink as much.
fn rescale(x: &[f64], theta: &mut [f64], inverse_scale: &mut [f64]) {
    // Rare once warm, so only asked here.
    let mut grown = false;
    for (x, r) in x.iter().zip(inverse_scale.iter()) {
        grown |= x.abs() * r > 1.0;
    }
    if !grown {
        return;
    }
    for ((x, t), r) in x.iter().zip(theta).zip(inverse_scale) {
        let ratio = x.abs() * *r;
        if ratio > 1.0 {
            *t /= ratio;
            *r = 1.0 / x.abs();
        }
    }
}

const LANES: usize = 8;

/// Adds a row to the sums and fills `step` with x / (s √G). Returns Σ step · x and Σ (x/s)².
fn kernel(
    x: &[f64],
    curve: f64,
    squares: f64,
    [gradient, curvature]: [&mut [f64]; 2],
    inverse_scale: &[f64],
    step: &mut [f64],
) -> (f64, f64) {
    let (mut power, mut spread) = ([0.0; LANES], [0.0; LANES]);
    let blocks = x
        .chunks_exact(LANES)
        .zip(gradient.chunks_exact_mut(LANES))
        .zip(curvature.chunks_exact_mut(LANES))
        .zip(inverse_scale.chunks_exact(LANES))
        .zip(step.chunks_exact_mut(LANES));
    for ((((x, g), c), r), s) in blocks {
        for l in 0..LANES {
            let square = x[l] * x[l];
            g[l] += squares * square;
            c[l] += curve * square;
            let unit = x[l] * r[l];
            s[l] = unit / g[l].sqrt();
            power[l] += s[l] * x[l];
            spread[l] += unit * unit;
        }
    }
    let fold = |a: [f64; LANES]| ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
    (fold(power), fold(spread))
}

/// The δ with δ = η (y − σ(z + δX)): Newton's method inside the bracket that the right side's monotony gives.
pub fn implicit(y: f64, z: f64, eta: f64, power: f64) -> f64 {
    let at = |delta: f64| {
        let p = sigmoid(z + delta * power);
        (delta - eta * (y - p), 1.0 + eta * power * p * (1.0 - p))
    };
    let end = eta * (y - sigmoid(z));
    let (mut low, mut high) = (end.min(0.0), end.max(0.0));
    let mut delta = end / (1.0 + 0.25 * eta * power);
    for _ in 0..60 {
        let (value, slope) = at(delta);
        if value > 0.0 {
            high = delta
        } else {
            low = delta
        }
        let next = delta - value / slope;
        let next = if next > low && next < high {
            next
        } else {
            0.5 * (low + high)
        };
        if (next - delta).abs() <= 1e-14 * next.abs() {
            return next;
        }
        delta = next;
    }
    delta
}

/// First-order regressors for all actions, or one for each.
#[derive(Clone, Debug)]
pub struct FirstOrder {
    loss: Loss,
    rates: Rates,
    shared: bool,
    /// True where arm `i` is action `i`.
    fixed: bool,
    columns: Columns,
    slots: BTreeMap<ActionId, usize>,
    arms: Vec<Arm>,
    blank: Arm,
    row: Vec<f64>,
    step: Vec<f64>,
    layout: String,
}

/// The estimate of one candidate.
#[derive(Clone, Copy, Debug)]
pub struct Estimate<'a> {
    arm: &'a Arm,
    x: &'a [f64],
    loss: Loss,
    lambda: f64,
}

impl Estimate<'_> {
    /// The expected response.
    pub fn mean(&self) -> f64 {
        let z = dot(self.arm.theta(), self.x);
        match self.loss {
            Loss::Squared => z,
            Loss::Logistic => sigmoid(z),
        }
    }

    /// The variance of θᵀx, in units of the noise's.
    pub fn variance(&self) -> f64 {
        self.arm.variance(self.x, self.lambda)
    }

    /// The responses at `width` standard deviations of θᵀx below and above.
    pub fn bounds(&self, width: f64) -> (f64, f64) {
        let (z, w) = (dot(self.arm.theta(), self.x), width * self.variance().sqrt());
        match self.loss {
            Loss::Squared => (z - w, z + w),
            Loss::Logistic => (sigmoid(z - w), sigmoid(z + w)),
        }
    }
}

impl FirstOrder {
    /// For rounds of `shape`; `owner` is named in errors.
    ///
    /// # Errors
    /// Features that do not exist, a model that the features cannot carry.
    pub fn new(owner: &str, shape: &Shape, loss: Loss, rates: Rates, model: Model, features: &str) -> Result<Self> {
        let columns = Columns::new(owner, shape, features)?;
        let unfit = |why: &str| {
            Err(Error::Unfit {
                owner: owner.into(),
                why: why.into(),
            })
        };
        if columns.dim() == 0 {
            return unfit("it learns from features and this environment has none; use ucb1, kl-ucb or beta-ts");
        }
        let shared = match model {
            Model::Auto => columns.varies(),
            Model::Shared if !columns.varies() => {
                return unfit("its shared weights cannot tell candidates without features apart; use model=disjoint");
            }
            Model::Shared => true,
            Model::Disjoint => false,
            Model::Hybrid => return unfit("only learner=ridge has a hybrid model; use model=shared or model=disjoint"),
        };
        let len = padded(columns.dim());
        let blank = Arm::blank(len);
        let arms = match (shared, shape.actions) {
            (true, _) => 1,
            (false, n) => n.unwrap_or(0),
        };
        let layout = format!(
            "first-order {loss:?} {} weights over {} features (spec {:016x})",
            if shared { "Shared" } else { "Disjoint" },
            columns.dim(),
            hash_name(&columns.names().join(",")),
        );
        Ok(FirstOrder {
            loss,
            rates,
            shared,
            fixed: !shared && shape.actions.is_some(),
            slots: BTreeMap::new(),
            arms: vec![blank.clone(); arms],
            blank,
            row: vec![0.0; len],
            step: vec![0.0; len],
            columns,
            layout,
        })
    }

    /// The loss.
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// Numbers of scratch that [`evaluate`](FirstOrder::evaluate) needs.
    pub fn row_len(&self) -> usize {
        self.row.len()
    }

    fn slot(&self, id: ActionId) -> Option<usize> {
        if self.shared {
            Some(0)
        } else if self.fixed && (id.0 as usize) < self.arms.len() {
            Some(id.0 as usize)
        } else {
            self.slots.get(&id).copied()
        }
    }

    /// Calls `each(position, estimate)` for every candidate. `x` holds `row_len` numbers.
    pub fn evaluate(&self, round: &Round<'_>, x: &mut [f64], mut each: impl FnMut(usize, Estimate<'_>)) {
        let dim = self.columns.dim();
        x[dim..].fill(0.0);
        let varies = self.columns.varies();
        for (i, &id) in round.candidates.ids.iter().enumerate() {
            if varies || i == 0 {
                self.columns.gather(round, i, &mut x[..dim]);
            }
            let arm = self.slot(id).and_then(|s| self.arms.get(s)).unwrap_or(&self.blank);
            each(
                i,
                Estimate {
                    arm,
                    x,
                    loss: self.loss,
                    lambda: self.rates.lambda,
                },
            );
        }
    }

    /// Learns that candidate `i` answers with `y`, `weight` times; returns the error of the prediction made before.
    ///
    /// # Errors
    /// [`Error::Failed`] where a number would overflow.
    pub fn learn(&mut self, round: &Round<'_>, i: usize, y: f64, weight: f64) -> Result<f64> {
        if weight <= 0.0 {
            return Ok(0.0);
        }
        // The squares of all that enters must stay finite.
        if !(y.abs() < 1e100 && weight < 1e100) {
            return Err(Error::Failed(format!(
                "cannot learn from the response {y} with weight {weight}; expected numbers below 1e100"
            )));
        }
        let id = round.candidates.ids[i];
        let slot = match self.slot(id) {
            Some(slot) => slot,
            None => {
                self.slots.insert(id, self.arms.len());
                self.arms.push(self.blank.clone());
                self.arms.len() - 1
            }
        };
        let dim = self.columns.dim();
        self.columns.gather(round, i, &mut self.row[..dim]);
        let arm = &mut self.arms[slot];
        Ok(arm.learn(&self.row, y, weight, self.loss, self.rates.rate, &mut self.step))
    }

    /// What a saved state must agree with.
    pub fn layout(&self) -> &str {
        &self.layout
    }

    /// Adds the model to a saved state, under names that begin with `prefix`.
    pub fn write(&self, prefix: &str, out: &mut Writer) {
        out.features(self.columns.names());
        out.u64s(&format!("{prefix}actions"), self.slots.keys().map(|id| id.0));
        out.u64s(&format!("{prefix}slots"), self.slots.values().map(|&s| s as u64));
        out.f64s(&format!("{prefix}sums"), self.arms.iter().flat_map(|a| &a.sums));
        out.f64s(&format!("{prefix}vectors"), self.arms.iter().flat_map(|a| &a.vectors));
    }

    /// Reads what [`write`](FirstOrder::write) wrote.
    ///
    /// # Errors
    /// A state that does not hold together.
    pub fn read(&self, prefix: &str, from: &mut Reader<'_>) -> Result<FirstOrder> {
        let actions = from.u64s(&format!("{prefix}actions"))?;
        let slots = from.u64s(&format!("{prefix}slots"))?;
        let sums = from.f64s(&format!("{prefix}sums"))?;
        let vectors = from.f64s(&format!("{prefix}vectors"))?;
        let arms = sums.len() / 3;
        if actions.len() != slots.len()
            || sums.len() != 3 * arms
            || vectors.len() != arms * self.blank.vectors.len()
            || arms != self.arms.len() - self.slots.len() + slots.len()
            || slots.iter().any(|&s| s as usize >= arms)
        {
            return Err(from.refuse("its arms do not match its actions"));
        }
        let arms = sums
            .as_chunks::<3>()
            .0
            .iter()
            .zip(vectors.chunks_exact(self.blank.vectors.len()))
            .map(|(sums, vectors)| Arm {
                sums: *sums,
                vectors: vectors.to_vec(),
            })
            .collect();
        let slots = actions
            .into_iter()
            .map(ActionId)
            .zip(slots.into_iter().map(|s| s as usize));
        Ok(FirstOrder {
            slots: slots.collect(),
            arms,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    fn row(draws: &mut oo_core::key::Draws, dim: usize) -> Vec<f64> {
        let mut x = vec![0.0; padded(dim)];
        x[..dim].fill_with(|| draws.normal());
        x
    }

    /// Trains on y = xᵀw + noise; `stretch` multiplies one feature, `units` the response.
    fn trained(stretch: f64, units: f64) -> (Arm, Vec<f64>) {
        let mut arm = Arm::blank(8);
        let mut draws = Key::root(3).draws();
        let mut step = vec![0.0; 8];
        let mut x = vec![];
        for _ in 0..5000 {
            x = row(&mut draws, 4);
            let y = units * (0.8 * x[0] - 0.5 * x[1] + 0.2 * x[3] + 0.05 * draws.normal());
            x[1] *= stretch;
            arm.learn(&x, y, 1.0, Loss::Squared, 0.5, &mut step);
        }
        (arm, x)
    }

    #[test]
    fn finds_the_weights_whatever_the_units() {
        let (plain, x) = trained(1.0, 1.0);
        for (theta, truth) in plain.theta().iter().zip([0.8, -0.5, 0.0, 0.2]) {
            assert!((theta - truth).abs() < 0.03, "{:?}", plain.theta());
        }
        // Powers of two, so that the equality is exact.
        for (stretch, units) in [(1024.0, 1.0), (1.0 / 4096.0, 1.0), (1.0, 64.0), (0.125, 0.25)] {
            let (other, y) = trained(stretch, units);
            let (a, b) = (dot(plain.theta(), &x), dot(other.theta(), &y));
            assert!((a * units - b).abs() < 1e-12 * units, "{a} {b}");
            assert!((plain.variance(&x, 1.0) - other.variance(&y, 1.0)).abs() < 1e-12);
        }
    }

    #[test]
    fn a_heavy_row_reaches_its_target_and_never_passes_it() {
        for loss in [Loss::Squared, Loss::Logistic] {
            for weight in [1e-3, 1.0, 1e3, 1e6] {
                let mut arm = Arm::blank(8);
                let mut draws = Key::root(4).draws();
                let x = row(&mut draws, 5);
                arm.learn(&x, 0.9, weight, loss, 0.5, &mut [0.0; 8]);
                let z = dot(arm.theta(), &x);
                let (p, start) = match loss {
                    Loss::Squared => (z, 0.0),
                    Loss::Logistic => (sigmoid(z), 0.5),
                };
                assert!(p > start && p <= 0.9 + 1e-12, "{loss:?} {weight}: {p}");
                assert!(weight < 1e6 || p > 0.89, "{loss:?}: {p}");
            }
        }
    }

    #[test]
    fn the_implicit_step_solves_its_equation() {
        for (y, z, eta, power) in [
            (1.0, 0.0, 0.5, 3.0),
            (0.0, 4.0, 1e4, 1e3),
            (0.3, -9.0, 1e-6, 1.0),
            (1.0, -30.0, 9.0, 9.0),
        ] {
            let delta = implicit(y, z, eta, power);
            let right = eta * (y - sigmoid(z + delta * power));
            assert!((delta - right).abs() <= 1e-9 * (1.0 + eta), "{delta} {right}");
        }
    }

    #[test]
    fn widths_are_those_of_a_diagonal_ridge() {
        let mut arm = Arm::blank(8);
        let x = [1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert!(
            (arm.variance(&x, 2.0) - 1.0).abs() < 1e-12,
            "each unseen coordinate counts 1/lambda"
        );
        for _ in 0..3 {
            arm.learn(&x, 1.0, 2.0, Loss::Squared, 0.5, &mut [0.0; 8]);
        }
        // Six rows of x: x²/(λx² + 6x²) = 1/8 a coordinate.
        assert!((arm.variance(&x, 2.0) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn absurd_features_give_no_nan() {
        let mut arm = Arm::blank(8);
        let mut x = [0.0; 8];
        for value in [1e-30, 0.0, 3e38, -1e-38, 1.0, 0.0] {
            x[0] = value;
            arm.learn(&x, 1.0, 1.0, Loss::Squared, 2.0, &mut [0.0; 8]);
            arm.learn(&x, 0.0, 1.0, Loss::Squared, 2.0, &mut [0.0; 8]);
            assert!(arm.vectors.iter().chain(&arm.sums).all(|v| v.is_finite()), "{value}");
            assert!(arm.variance(&x, 1.0).is_finite());
        }
    }
}
