//! Hierarchical linear Thompson sampling: one population, and a person who leaves it only as fast as the data allow.
//!
//! r = xᵀθᵤ + noise of variance σ², with θᵤ ~ N(μ, Σ) for every person u, and μ ~ N(0, I/λ). Given Σ and σ² the posterior
//! is normal and kept by rank-one updates. With Aᵤ = Σ xxᵀ and bᵤ = Σ r x over the person's rows,
//!
//! - Vᵤ = (Σ⁻¹ + Aᵤ/σ²)⁻¹ is the person's own uncertainty, Σ before the first row;
//! - w = Σ⁻¹Vᵤx is what x still takes from the population, x itself before the first row;
//! - the estimate is xᵀVᵤbᵤ/σ² + wᵀμ̂, with variance xᵀVᵤx + wᵀCx, where C is the covariance of μ̂;
//! - a row tells μ what a row w with the response r − xᵀVᵤbᵤ/σ² and the noise σ² + xᵀVᵤx tells it.
//!
//! A new person is the population; many rows make the population fade, direction by direction. Candidates are chosen
//! with the probability that their score is the largest (see [`best_joint`]).
//!
//! Σ and σ² come from the data, by expectation–maximisation over all people with a prior on both (empirical Bayes), each
//! time the number of rows has grown by a quarter (see [`population`]). Between two such times a round costs 3·d² a
//! candidate and an update 4·d²; a time costs about 8·d² a row and step, and at most 5·d³ a person. Memory is a person's
//! rows, 4 bytes a feature that is not 0 and d/8 + 8 each, while they are at most d, and at most about 12·d² bytes whatever
//! their number (see [`person`]).
//!
//! Raudenbush, Bryk (2002), Hierarchical Linear Models, §3 and §13; Hong, Kveton, Zaheer, Ghavamzadeh (2022),
//! Hierarchical Bayesian Bandits, arXiv:2111.06929, for the sampling; Laird, Ware (1982) for the estimation. Departs from
//! them: propensities are computed instead of drawing once, and the M step takes μ̂ for μ.

pub mod crowd;
pub mod person;
pub mod population;
mod recent;
pub mod rows;
pub mod start;

use crate::best_joint;
use crate::regress::symmetric::{dot, padded};
use crate::state::{Reader, Writer};
use oo_core::features::Columns;
use oo_core::key::hash_name;
use oo_core::registry::OptionHelp;
use oo_core::{Batch, Build, Error, Key, Method, Policy, Proposal, Result, Round, Shape, UserId, spec::require};
use population::{Population, Prior};
use serde::{Deserialize, Serialize};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    scale: f64,
    features: String,
    lambda: f64,
    spread: f64,
    people: f64,
    noise: f64,
    draws: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            scale: 0.1,
            features: "all".into(),
            lambda: 30.0,
            spread: 0.05,
            people: 3.0,
            noise: 0.5,
            draws: 64,
        }
    }
}

impl Config {
    fn prior(&self) -> Prior {
        Prior {
            lambda: self.lambda,
            spread: self.spread,
            people: self.people,
            noise: self.noise,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Hierarchical {
    scale: f64,
    draws: u32,
    columns: Columns,
    population: Population,
    layout: String,
    x: Vec<f64>,
}

impl Build for Hierarchical {
    const NAME: &'static str = "hierarchical";
    const SUMMARY: &'static str = "Thompson sampling with a population prior and a posterior a person, for few rewards";
    const PAPER: &'static str = "Hong, Kveton, Zaheer, Ghavamzadeh (2022), arXiv:2111.06929";
    const OPTIONS: &'static [OptionHelp] = &[
        (
            "scale",
            "posterior standard deviations that a draw spreads by, 1 is Thompson's; positive",
        ),
        ("features", "all, or a feature spec of the tips world: v0, v1, v2, v3"),
        (
            "lambda",
            "precision of the population's weights before any data; positive",
        ),
        (
            "spread",
            "variance of a weight between people before any data; positive",
        ),
        (
            "people",
            "how many people's worth of evidence the prior on spread has; positive",
        ),
        ("noise", "variance of a reward's noise before any data; positive"),
        ("draws", "posterior draws behind the probabilities; 1 to 1000000"),
    ];
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        for (option, value) in [
            ("scale", c.scale),
            ("lambda", c.lambda),
            ("spread", c.spread),
            ("people", c.people),
            ("noise", c.noise),
        ] {
            let positive = value > 0.0 && value.is_finite();
            require(positive, Self::NAME, option, "a positive number", value)?;
        }
        let draws = (1..=1_000_000).contains(&c.draws);
        require(draws, Self::NAME, "draws", "1 to 1000000", c.draws)?;
        let columns = Columns::new(Self::NAME, shape, &c.features)?;
        if !columns.varies() {
            return Err(Error::Unfit {
                owner: Self::NAME.into(),
                why: "its weights are over candidate features and this environment has none; use lin-ts".into(),
            });
        }
        let prior = c.prior();
        Ok(Hierarchical {
            scale: c.scale,
            draws: c.draws,
            layout: format!(
                "{} features (spec {:016x})",
                columns.dim(),
                hash_name(&columns.names().join(","))
            ),
            population: Population::new(columns.dim(), prior),
            x: vec![0.0; padded(columns.dim())],
            columns,
        })
    }
}

impl Hierarchical {
    /// The population, for those who want to look at it.
    pub fn population(&self) -> &Population {
        &self.population
    }

    /// The population of a saved state over `dim` features. Of a prior, the defaults', it needs nothing but where the
    /// state is a bare start.
    ///
    /// # Errors
    /// A state that does not hold together.
    pub(crate) fn population_of(dim: usize, from: &mut Reader<'_>) -> Result<Population> {
        Population::new(dim, Config::default().prior()).from_state(from)
    }
}

impl Policy for Hierarchical {
    fn propose(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method> {
        let (n, d) = (round.candidates.len(), self.columns.dim());
        let len = padded(d);
        let few = n <= 2 * d;
        let (more, drawing) = match few {
            true => (0, best_joint::covariance_work(n)),
            false => (2 * d * d + 2 * n * d, best_joint::factor_work(n, 2 * d)),
        };
        out.scratch.clear();
        out.scratch.resize(4 * n * len + more + drawing, 0.0);
        // For every candidate: x, Vx, w and Cw.
        let (x, rest) = out.scratch.split_at_mut(n * len);
        let (vx, rest) = rest.split_at_mut(n * len);
        let (w, rest) = rest.split_at_mut(n * len);
        let (cw, rest) = rest.split_at_mut(n * len);
        let (more, work) = rest.split_at_mut(more);
        let at = |i: usize| i * len..(i + 1) * len;
        let posterior = self.population.posterior(round.user)?;
        let posterior = posterior.as_deref();
        for i in 0..n {
            self.columns.gather(round, i, &mut x[i * len..i * len + d]);
            out.scores[i] = self
                .population
                .read(posterior, &x[at(i)], &mut vx[at(i)], &mut w[at(i)]);
            self.population.common().inverse().times(&w[at(i)], &mut cw[at(i)]);
        }
        let square = self.scale * self.scale;
        if few {
            let k = |i: usize, j: usize| square * (dot(&x[at(i)], &vx[at(j)]) + dot(&w[at(i)], &cw[at(j)]));
            let ids = round.candidates.ids;
            return Ok(best_joint::by_covariance(
                ids, out.scores, k, self.draws, key, out.probs, work,
            ));
        }
        let (roots, factor) = more.split_at_mut(2 * d * d);
        let (own, common) = roots.split_at_mut(d * d);
        let singular = || Error::Singular {
            what: "the posterior covariance",
            condition: f64::INFINITY,
        };
        let covariance = posterior.map_or(self.population.spread(), |p| &p.covariance);
        covariance.cholesky_into(own).ok_or_else(singular)?;
        self.population
            .common()
            .inverse()
            .cholesky_into(common)
            .ok_or_else(singular)?;
        for (i, row) in factor.chunks_exact_mut(2 * d).enumerate() {
            let (x, w) = (&x[at(i)], &w[at(i)]);
            for j in 0..d {
                row[j] = self.scale * (j..d).map(|k| x[k] * own[k * d + j]).sum::<f64>();
                row[d + j] = self.scale * (j..d).map(|k| w[k] * common[k * d + j]).sum::<f64>();
            }
        }
        Ok(best_joint::by_factor(
            out.scores,
            (factor, 2 * d),
            &[],
            self.draws,
            key,
            out.probs,
            work,
        ))
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        for i in 0..batch.rows().len() {
            self.update_quickly(&Batch::new(batch.log(), &batch.rows()[i..=i]))?;
            self.catch_up()?;
        }
        Ok(())
    }

    fn update_quickly(&mut self, batch: &Batch<'_>) -> Result<bool> {
        for (row, reward) in batch.iter() {
            self.columns
                .gather(&row.round, row.chosen, &mut self.x[..self.columns.dim()]);
            self.population.learn_row(row.round.user, &self.x, reward)?;
        }
        Ok(self.population.is_due())
    }

    /// Estimates Σ and σ² anew when it is time for that.
    fn catch_up(&mut self) -> Result<()> {
        match self.population.is_due() {
            true => self.population.estimate(),
            false => Ok(()),
        }
    }

    fn contributions(&self, round: &Round<'_>, i: usize, out: &mut Vec<(usize, f64)>) -> bool {
        let mut x = vec![0.0; self.x.len()];
        self.columns.gather(round, i, &mut x[..self.columns.dim()]);
        let Ok(theta) = self.population.weights(round.user) else {
            return false;
        };
        let amounts = x.iter().zip(&theta).map(|(x, theta)| x * theta);
        out.extend(self.columns.places(round).zip(amounts));
        true
    }

    fn shares_weights(&self) -> bool {
        true
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.layout.as_str());
        w.features(self.columns.names());
        self.population.write(&mut w);
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, &self.layout, bytes)?;
        let population = self.population.from_state(&mut r)?;
        r.finish()?;
        self.population = population;
        Ok(())
    }

    fn copy(&self) -> Option<Box<dyn Policy>> {
        Some(Box::new(self.clone()))
    }

    /// What the population learned from a person stays until it is estimated next.
    fn forget(&mut self, user: UserId) {
        self.population.forget(user);
    }
}
