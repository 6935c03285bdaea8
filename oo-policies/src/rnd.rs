//! Random network distillation as an exploration width on a regression.
//!
//! `targets` fixed random linear functions of the features are learned beside the reward, from the same rows and by
//! the same kind of regressor. Where they are not yet learned, the data say little about the reward either: the
//! candidate with the highest estimate + `width` · √(mean squared error of the targets) is chosen, exact ties in equal
//! parts. With ridge regression the mean square is an estimate of λ·xᵀA⁻²x, with first-order learners it needs no
//! matrix at all. A round costs 1 + `targets` times the estimates.
//!
//! Burda, Edwards, Storkey, Klimov (2019), arXiv:1810.12894. Departs from it: the targets are linear, so that the
//! regressors can reach them, and have coefficients N(0, 1/λ), so that the width begins at ridge regression's.

use crate::greedy::share;
use crate::regress::learner::Kind;
use crate::regress::{Learner, learner};
use crate::state::{Reader, Writer};
use oo_core::features::Columns;
use oo_core::registry::{OptionHelp, join};
use oo_core::{Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape, spec::require};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    width: f64,
    targets: usize,
    #[serde(flatten)]
    learner: learner::Options,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            width: 0.25,
            targets: 4,
            learner: learner::Options::default(),
        }
    }
}

const OWN: &[OptionHelp] = &[
    ("width", "weight of the bonus; at least 0"),
    (
        "targets",
        "random functions to learn; more make the bonus less random; 1 to 1000",
    ),
];

/// See the module.
#[derive(Clone, Debug)]
pub struct Rnd {
    config: Config,
    columns: Columns,
    learner: Learner,
    predictors: Vec<Learner>,
    /// The coefficients, one target after the other.
    targets: Vec<f64>,
    row: Vec<f64>,
}

impl Build for Rnd {
    const NAME: &'static str = "rnd";
    const SUMMARY: &'static str = "Bonus where random functions of the features are not yet learned";
    const PAPER: &'static str = "Burda, Edwards, Storkey, Klimov (2019), arXiv:1810.12894";
    const OPTIONS: &'static [OptionHelp] = &join::<{ OWN.len() + learner::OPTIONS.len() }>(OWN, learner::OPTIONS);
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let sound = c.width >= 0.0 && c.width.is_finite();
        require(sound, Self::NAME, "width", "a number of at least 0", c.width)?;
        let some = (1..=1000).contains(&c.targets);
        require(some, Self::NAME, "targets", "1 to 1000", c.targets)?;
        let learner = Learner::new(Self::NAME, shape, &c.learner)?;
        let options = learner::Options {
            start: 0.0,
            // A target is no chance.
            learner: match c.learner.learner {
                Kind::Logistic => Kind::Sgd,
                kind => kind,
            },
            ..c.learner.clone()
        };
        let predictor = Learner::new(Self::NAME, shape, &options)?;
        let columns = Columns::new(Self::NAME, shape, &c.learner.linear.features)?;
        const ROOT: Key = Key::root(0).name("rnd");
        let scale = 1.0 / c.learner.linear.lambda.sqrt();
        let targets = (0..c.targets as u64)
            .flat_map(|k| {
                columns
                    .names()
                    .iter()
                    .map(move |name| scale * ROOT.fold(k).name(name).normal())
            })
            .collect();
        Ok(Rnd {
            predictors: vec![predictor; c.targets],
            row: vec![0.0; columns.dim()],
            config: c,
            columns,
            learner,
            targets,
        })
    }
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Rnd {
    /// Fills `squares` with the mean squared error of the targets.
    fn novelty(&self, round: &Round<'_>, scratch: &mut [f64], x: &mut [f64], squares: &mut [f64]) {
        let weight = 1.0 / self.predictors.len() as f64;
        squares.fill(0.0);
        for (predictor, target) in self.predictors.iter().zip(self.targets.chunks_exact(x.len())) {
            predictor.evaluate(round, scratch, |i, estimate| {
                if self.columns.varies() || i == 0 {
                    self.columns.gather(round, i, x);
                }
                let error = estimate.mean() - product(target, x);
                squares[i] += weight * error * error;
            });
        }
    }

    fn layout(&self) -> String {
        format!("{} targets beside: {}", self.predictors.len(), self.learner.layout())
    }
}

impl Policy for Rnd {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let (n, dim) = (out.scores.len(), self.row.len());
        let row_len = self.learner.row_len().max(self.predictors[0].row_len());
        out.scratch.clear();
        out.scratch.resize(row_len + dim + n, 0.0);
        let (scratch, rest) = out.scratch.split_at_mut(row_len);
        let (x, squares) = rest.split_at_mut(dim);
        self.novelty(round, &mut scratch[..self.predictors[0].row_len()], x, squares);
        self.learner
            .evaluate(round, &mut scratch[..self.learner.row_len()], |i, estimate| {
                out.scores[i] = estimate.mean() + self.config.width * squares[i].sqrt();
            });
        share(out.scores, 1.0, out.probs);
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        for (row, reward) in batch.iter() {
            self.learner.learn(&row.round, row.chosen, reward, 1.0)?;
            self.columns.gather(&row.round, row.chosen, &mut self.row);
            let targets = self.targets.chunks_exact(self.row.len());
            for (predictor, target) in self.predictors.iter_mut().zip(targets) {
                predictor.learn(&row.round, row.chosen, product(target, &self.row), 1.0)?;
            }
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.layout());
        // The targets read them too, so the predictors cannot move to others.
        w.features(self.columns.names());
        w.state("learner", self.learner.save(Self::NAME));
        for (k, predictor) in self.predictors.iter().enumerate() {
            w.state(&k.to_string(), predictor.save(Self::NAME));
        }
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let layout = self.layout();
        let mut r = Reader::new(Self::NAME, &layout, bytes)?;
        let learner = self.learner.restored(Self::NAME, r.state("learner")?)?;
        let predictors = self.predictors.iter().enumerate();
        let predictors = predictors
            .map(|(k, predictor)| predictor.restored(Self::NAME, r.state(&k.to_string())?))
            .collect::<Result<_>>()?;
        r.finish()?;
        (self.learner, self.predictors) = (learner, predictors);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regress::Ridge;
    use oo_core::{ActionId, Candidates, Log, UserId};

    #[test]
    fn on_ridge_the_bonus_estimates_a_closed_form() {
        // E (ĝ(x) − g(x))² = λ xᵀA⁻²x over targets with coefficients N(0, 1/λ).
        let shape = Shape {
            context: ["a", "b", "c"].map(String::from).to_vec(),
            candidate: vec![],
            actions: Some(1),
        };
        let mut config = Config {
            targets: 1000,
            ..Config::default()
        };
        config.learner.linear.lambda = 2.0;
        let mut policy = Rnd::build(config, &shape).unwrap();
        let mut ridge = Ridge::new(3, 2.0);
        let mut draws = Key::root(5).draws();
        let mut context = [0.0f32; 3];
        for t in 0..6 {
            context.fill_with(|| draws.normal() as f32);
            let round = Round {
                index: t,
                user: UserId(0),
                context: &context,
                candidates: Candidates {
                    ids: &[ActionId(0)],
                    features: &[],
                    dim: 0,
                },
            };
            let mut x = [0.0; 8];
            x.iter_mut().zip(&context).for_each(|(x, &c)| *x = f64::from(c));
            let (mut row, mut squares) = ([0.0; 3], [0.0]);
            policy.novelty(
                &round,
                &mut vec![0.0; policy.predictors[0].row_len()],
                &mut row,
                &mut squares,
            );
            let mut turned = [0.0; 8];
            ridge.inverse().times(&x, &mut turned);
            let exact = 2.0 * product(&turned, &turned);
            // A mean of 1,000 squares of normals has the relative sd √(2/1000) = 0.045; five of them over six
            // checks: false alarm 4e-6.
            assert!((squares[0] / exact - 1.0).abs() < 0.224, "{t}: {} {exact}", squares[0]);
            let mut log = Log::new();
            log.push_parts(&round, &[1.0], 0, Method::Exact);
            log.settle(0, 1.0, None);
            policy.update(&Batch::new(&log, &[0])).unwrap();
            ridge.update(&x, 1.0).unwrap();
        }
    }
}
