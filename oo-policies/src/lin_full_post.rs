//! Thompson sampling on linear posteriors with unknown noise, and the probabilities instead of one draw.
//!
//! An action has weights and a noise variance of its own, with the conjugate prior σ² ~ IG(a₀, b₀), θ | σ² ~
//! N(0, σ²I/λ). After n rows, A = λI + Σ xxᵀ, θ̂ = A⁻¹ Σ r x, a = a₀ + n/2 and b = b₀ + ½ Σ e²/(1 + xᵀA⁻¹x), e being
//! the error of each prediction before its row was learned, and A⁻¹ likewise. The reward xᵀθ of a posterior draw is
//! then Student's t with 2a degrees of freedom around θ̂ᵀx, scaled by √(b/a · xᵀA⁻¹x). A candidate is chosen with the
//! probability that its draw is the largest, by quadrature (see [`best_arm`](crate::best_arm)).
//!
//! Candidates whose action was chosen fewer than `pulls` times come first, at equal probabilities. A round costs
//! n·d²/2 multiply-adds and the quadrature, an update 3·d²/2.
//!
//! Riquelme, Tucker, Snoek (2018), arXiv:1802.09127, "LinFullPost", whose a₀ = b₀ = 6 and λ = 0.25 are the defaults.

use crate::best_arm::{Arms, Student, probabilities};
use crate::regress::Ridge;
use crate::regress::symmetric::padded;
use crate::state::{Reader, Writer};
use oo_core::features::Columns;
use oo_core::key::hash_name;
use oo_core::registry::OptionHelp;
use oo_core::{ActionId, Batch, Build, Error, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    a0: f64,
    b0: f64,
    lambda: f64,
    pulls: u64,
    features: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            a0: 6.0,
            b0: 6.0,
            lambda: 0.25,
            pulls: 2,
            features: "all".into(),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct LinFullPost {
    config: Config,
    columns: Columns,
    slots: BTreeMap<ActionId, usize>,
    arms: Vec<Ridge>,
    /// The b of each arm.
    noise: Vec<f64>,
    blank: Ridge,
    row: Vec<f64>,
    layout: String,
}

impl Build for LinFullPost {
    const NAME: &'static str = "lin-full-post";
    const SUMMARY: &'static str = "Thompson sampling on linear posteriors with unknown noise, computed propensities";
    const PAPER: &'static str = "Riquelme, Tucker, Snoek (2018), arXiv:1802.09127";
    const OPTIONS: &'static [OptionHelp] = &[
        ("a0", "prior of the noise variance, its shape; at least 1"),
        ("b0", "prior of the noise variance, its scale; positive"),
        (
            "lambda",
            "prior precision of the weights in units of the noise's; positive",
        ),
        (
            "pulls",
            "so often each action is tried before its posterior counts; at least 0",
        ),
        ("features", "all, or a feature spec of the tips world: v0, v1, v2, v3"),
    ];
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let shaped = c.a0 >= 1.0 && c.a0.is_finite();
        require(shaped, Self::NAME, "a0", "a number of at least 1", c.a0)?;
        require(positive(c.b0), Self::NAME, "b0", "a positive number", c.b0)?;
        require(positive(c.lambda), Self::NAME, "lambda", "a positive number", c.lambda)?;
        let columns = Columns::new(Self::NAME, shape, &c.features)?;
        let dim = columns.dim();
        if dim == 0 {
            return Err(Error::Unfit {
                owner: Self::NAME.into(),
                why: "it learns from features and this environment has none; use beta-ts".into(),
            });
        }
        Ok(LinFullPost {
            blank: Ridge::new(dim, c.lambda),
            row: vec![0.0; padded(dim)],
            slots: BTreeMap::new(),
            arms: Vec::new(),
            noise: Vec::new(),
            layout: format!(
                "posteriors over {dim} features (spec {:016x}), prior a0 {}, b0 {}",
                hash_name(&columns.names().join(",")),
                c.a0,
                c.b0
            ),
            columns,
            config: c,
        })
    }
}

impl LinFullPost {
    fn arm(&self, id: ActionId) -> (&Ridge, f64) {
        match self.slots.get(&id) {
            Some(&slot) => (&self.arms[slot], self.noise[slot]),
            None => (&self.blank, self.config.b0),
        }
    }

    /// The marginal posterior of xᵀθ.
    fn marginal(&self, id: ActionId, x: &[f64]) -> Student {
        let (ridge, b) = self.arm(id);
        let a = self.config.a0 + 0.5 * ridge.rows() as f64;
        Student::new(ridge.predict(x), (b / a * ridge.variance(x)).sqrt(), 2.0 * a)
    }

    fn learn(&mut self, id: ActionId, reward: f64) -> Result<()> {
        let slot = *self.slots.entry(id).or_insert_with(|| {
            self.arms.push(self.blank.clone());
            self.noise.push(self.config.b0);
            self.arms.len() - 1
        });
        let ridge = &mut self.arms[slot];
        let error = reward - ridge.predict(&self.row);
        let step = ridge.update(&self.row, reward)?;
        self.noise[slot] += 0.5 * error * error / (1.0 + step.leverage.max(0.0));
        Ok(())
    }
}

impl Policy for LinFullPost {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let dim = self.columns.dim();
        out.scratch.clear();
        out.scratch.resize(padded(dim), 0.0);
        let ids = round.candidates.ids;
        let mut untried = 0;
        let mut arms = Arms::default();
        for (i, &id) in ids.iter().enumerate() {
            if self.columns.varies() || i == 0 {
                self.columns.gather(round, i, &mut out.scratch[..dim]);
            }
            let arm = self.marginal(id, out.scratch);
            out.scores[i] = arm.mean();
            untried += u64::from(self.arm(id).0.rows() < self.config.pulls);
            arms.push(arm);
        }
        if untried > 0 {
            for (p, &id) in out.probs.iter_mut().zip(ids) {
                *p = f64::from(u8::from(self.arm(id).0.rows() < self.config.pulls)) / untried as f64;
            }
            return Ok(Method::Exact);
        }
        probabilities(arms.as_slice(), out.probs, out.scratch);
        Ok(Method::Quadrature)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        for (row, reward) in batch.iter() {
            let dim = self.columns.dim();
            self.columns.gather(&row.round, row.chosen, &mut self.row[..dim]);
            self.learn(row.action(), reward)?;
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, &*self.layout);
        w.features(self.columns.names());
        w.u64s("actions", self.slots.keys().map(|id| id.0));
        w.u64s("slots", self.slots.values().map(|&slot| slot as u64));
        Ridge::write_all(&self.arms, "arms", &mut w);
        w.f64s("noise", &self.noise);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, &self.layout, bytes)?;
        let (actions, slots) = (r.u64s("actions")?, r.u64s("slots")?);
        let arms = self.blank.read_all("arms", &mut r)?;
        let noise = r.f64s("noise")?;
        let within = |slot: &u64| (*slot as usize) < arms.len();
        if actions.len() != arms.len()
            || noise.len() != arms.len()
            || slots.len() != arms.len()
            || !slots.iter().all(within)
        {
            return Err(r.refuse("its arms do not match its actions"));
        }
        r.finish()?;
        let slots = slots.into_iter().map(|s| s as usize);
        self.slots = actions.into_iter().map(ActionId).zip(slots).collect();
        (self.arms, self.noise) = (arms, noise);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_is_the_textbook_formula() {
        let shape = Shape {
            context: ["x", "y", "bias"].map(String::from).to_vec(),
            candidate: vec![],
            actions: Some(1),
        };
        let mut policy = LinFullPost::build(Config::default(), &shape).unwrap();
        let mut draws = Key::root(2).draws();
        let (mut squares, mut moment) = (0.0, [0.0; 8]);
        for _ in 0..200 {
            let (x, y) = (draws.normal(), draws.normal());
            let r = 50.0 + x - 2.0 * y + 0.3 * draws.normal();
            policy.row[..3].copy_from_slice(&[x, y, 1.0]);
            moment.iter_mut().zip(&policy.row).for_each(|(m, x)| *m += r * x);
            squares += r * r;
            policy.learn(ActionId(0), r).unwrap();
        }
        // b₀ + ½ (Σ r² − θ̂ᵀ A θ̂), and A θ̂ = Σ r x.
        let explained: f64 = policy.arms[0].theta().iter().zip(moment).map(|(t, m)| t * m).sum();
        let exact = 6.0 + 0.5 * (squares - explained);
        assert!(
            (policy.noise[0] - exact).abs() < 1e-9 * squares,
            "{} {exact}",
            policy.noise[0]
        );
    }

    #[test]
    fn draws_from_the_posterior_win_as_often_as_computed() {
        let shape = Shape {
            context: ["x", "bias"].map(String::from).to_vec(),
            candidate: vec![],
            actions: Some(3),
        };
        let mut policy = LinFullPost::build(Config::default(), &shape).unwrap();
        // Even counts, so that a is whole and a gamma variable is a sum of exponential ones.
        for (arm, rewards) in [[1.0, 0.2, 0.7, 1.5], [0.9, 1.1, 0.8, 1.0], [3.0, -2.0, 0.0, 1.0]]
            .iter()
            .enumerate()
        {
            for (t, &r) in rewards.iter().enumerate() {
                policy.row[..2].copy_from_slice(&[t as f64 - 1.0, 1.0]);
                policy.learn(ActionId(arm as u64), r).unwrap();
            }
        }
        let mut x = [0.0; 8];
        x[..2].copy_from_slice(&[0.5, 1.0]);
        let arms: Vec<Student> = (0..3).map(|a| policy.marginal(ActionId(a), &x)).collect();
        let mut probs = [0.0; 3];
        probabilities(&arms, &mut probs, &mut Vec::new());
        let (n, mut wins, mut draws) = (200_000, [0.0; 3], Key::root(4).draws());
        for _ in 0..n {
            let drawn: Vec<f64> = (0..3)
                .map(|arm| {
                    let (ridge, b) = policy.arm(ActionId(arm));
                    let gamma: f64 = (0..8).map(|_| draws.exponential()).sum();
                    ridge.predict(&x) + (b / gamma * ridge.variance(&x)).sqrt() * draws.normal()
                })
                .collect();
            wins[crate::greedy::argmax(&drawn)] += 1.0 / f64::from(n);
        }
        for (w, p) in wins.iter().zip(probs) {
            // Five standard deviations: false alarm 2e-6 over the three.
            let sd = (p * (1.0 - p) / f64::from(n)).sqrt();
            assert!((w - p).abs() < 5.0 * sd, "{wins:?} {probs:?}");
        }
    }

    #[test]
    fn before_any_row_the_marginal_is_the_prior() {
        let shape = Shape {
            context: vec!["x".into()],
            candidate: vec![],
            actions: Some(2),
        };
        let policy = LinFullPost::build(Config::default(), &shape).unwrap();
        let mut x = [0.0; 8];
        x[0] = 3.0;
        let (mean, scale, df) = policy.marginal(ActionId(0), &x).parts();
        // b₀/a₀ = 1, so the scale is |x|/√λ.
        assert_eq!((mean, scale, df), (0.0, 6.0, 12.0));
    }
}
