//! The people, what is known of each, and what they have in common.
//!
//! Σ and σ² are re-estimated by expectation–maximisation. With θ̂ᵤ and Vᵤ the posterior mean and covariance of a person,
//! U people, N rows and inverse-Wishart-like priors of `people` people at Σ₀ = spread · I and σ₀²,
//!
//! - Σ ← (Σᵤ (Vᵤ + (θ̂ᵤ − μ̂)(θ̂ᵤ − μ̂)ᵀ) + people · Σ₀) / (U + people);
//! - σ² ← (Σᵤ (Σ r² − 2 θ̂ᵤᵀbᵤ + θ̂ᵤᵀAᵤθ̂ᵤ + tr AᵤVᵤ) + people · σ₀²) / (N + people).
//!
//! A population that starts from other people has their sums in both (see [`start`](super::start)).

use super::crowd::Crowd;
use super::person::{self, Posterior, Shared, Step};
use super::recent::Recent;
use super::start::Start;
use crate::regress::symmetric::{Symmetric, dot, padded};
use crate::regress::{Ridge, Sums};
use crate::state::{Reader, Writer};
use oo_core::{Error, Result, UserId};
use std::sync::Arc;

/// The first re-estimation comes after so many rows.
const FIRST: u64 = 64;
/// Steps of expectation–maximisation a time, at most; it goes on from where it stopped.
const STEPS: usize = 10;
/// It stops when no variance moved by more than this share.
const SETTLED: f64 = 0.03;

/// What is believed before any data.
#[derive(Clone, Copy, Debug)]
pub struct Prior {
    /// Precision of the population's weights.
    pub lambda: f64,
    /// Variance of a weight between people.
    pub spread: f64,
    /// The people's worth of evidence behind `spread` and `noise`.
    pub people: f64,
    /// Variance of a reward's noise.
    pub noise: f64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Population {
    prior: Prior,
    start: Start,
    rows: u64,
    /// The number of rows at which Σ and σ² are estimated next.
    next: u64,
    shared: Shared,
    /// The regression of μ.
    common: Ridge,
    people: Crowd,
    recent: Recent,
    work: Vec<f64>,
}

impl Population {
    /// Nobody yet.
    pub fn new(dim: usize, prior: Prior) -> Self {
        Population {
            prior,
            start: Start::nobody(dim),
            rows: 0,
            next: FIRST,
            shared: Shared {
                spread: Symmetric::diagonal(dim, prior.spread),
                precision: Symmetric::diagonal(dim, 1.0 / prior.spread),
                noise: prior.noise,
            },
            common: Ridge::new(dim, prior.lambda),
            people: Crowd::default(),
            recent: Recent::new(dim),
            work: vec![0.0; 2 * padded(dim)],
        }
    }

    /// Nobody yet, after what others taught.
    ///
    /// # Errors
    /// [`Error::Singular`] when a matrix cannot be inverted.
    pub fn started(start: Start, prior: Prior) -> Result<Self> {
        let mut new = Population::new(start.between.dim(), prior);
        new.start = start;
        new.maximise(&mut Estimate::default())?;
        new.recompute(&mut Estimate::default())?;
        Ok(new)
    }

    /// What its people say to others.
    ///
    /// # Errors
    /// [`Error::Singular`] when a person's matrix cannot be inverted.
    pub fn start_for_others(&self) -> Result<Start> {
        let mut start = self.start.clone();
        start.common.rows += self.rows;
        start.common.gram.clone_from(self.common.gram());
        start.common.gram.add_diagonal(-self.common.penalty());
        start.common.moment.copy_from_slice(self.common.moment());
        let mut estimate = Estimate::default();
        (start.between, start.within) = self.differences(start.between, start.within, &mut estimate)?;
        start.people += self.people.len() as f64;
        start.rows += self.rows as f64;
        Ok(start)
    }

    /// What a new person's weights are believed to be, as sums of rows with noise of variance 1: σ²(Σ + C)⁻¹, where C
    /// is the covariance of μ̂, and its product with μ̂.
    ///
    /// # Errors
    /// [`Error::Singular`] when the covariance cannot be inverted.
    pub fn stranger(&self) -> Result<Sums> {
        let mut covariance = self.shared.spread.clone();
        covariance.add(1.0, self.common.inverse());
        let (mut gram, _) = covariance.inverse().ok_or(Error::Singular {
            what: "the covariance of a new person",
            condition: f64::INFINITY,
        })?;
        gram.scale(self.shared.noise);
        let mut sums = Sums::new(self.shared.spread.dim());
        gram.times(self.common.theta(), &mut sums.moment);
        sums.gram = gram;
        Ok(sums)
    }

    /// What is kept of everybody.
    pub fn people(&self) -> &Crowd {
        &self.people
    }

    /// A person's posterior; `None` before the first row.
    ///
    /// # Errors
    /// [`Error::Singular`] when a matrix cannot be inverted.
    pub fn posterior(&self, user: UserId) -> Result<Option<Arc<Posterior>>> {
        let Some(person) = self.people.get(user) else {
            return Ok(None);
        };
        if let Some(posterior) = self.recent.get(user) {
            return Ok(Some(posterior));
        }
        let posterior = Arc::new(person.posterior(&self.shared, &mut Vec::new())?);
        self.recent.put(user, Arc::clone(&posterior));
        Ok(Some(posterior))
    }

    /// Σ, the covariance of weights between people.
    pub fn spread(&self) -> &Symmetric {
        &self.shared.spread
    }

    /// σ², the variance of a reward's noise.
    pub fn noise(&self) -> f64 {
        self.shared.noise
    }

    /// The regression of μ, the population's weights.
    pub fn common(&self) -> &Ridge {
        &self.common
    }

    /// Forgets a person.
    pub fn forget(&mut self, user: UserId) {
        self.people.remove(user);
        self.recent.take(user);
    }

    /// The estimate for row `x` of somebody with this posterior, leaving Vx and w behind. All are padded.
    pub fn read(&self, posterior: Option<&Posterior>, x: &[f64], vx: &mut [f64], w: &mut [f64]) -> f64 {
        match posterior {
            Some(posterior) => {
                posterior.covariance.times(x, vx);
                self.shared.precision.times(vx, w);
                dot(&posterior.own, x) + self.common.predict(w)
            }
            None => {
                self.shared.spread.times(x, vx);
                w.copy_from_slice(x);
                self.common.predict(w)
            }
        }
    }

    /// The weights by which a person's estimate is a sum over features, padded: the estimate is xᵀ(own + VᵤΣ⁻¹μ̂).
    ///
    /// # Errors
    /// [`Error::Singular`] when a matrix cannot be inverted.
    pub fn weights(&self, user: UserId) -> Result<Vec<f64>> {
        let common = self.common.theta();
        let Some(posterior) = self.posterior(user)? else {
            return Ok(common.to_vec());
        };
        let (mut turned, mut theta) = (vec![0.0; common.len()], vec![0.0; common.len()]);
        self.shared.precision.times(common, &mut turned);
        posterior.covariance.times(&turned, &mut theta);
        theta.iter_mut().zip(&posterior.own).for_each(|(t, own)| *t += own);
        Ok(theta)
    }

    /// Learns a row of f32 numbers, and estimates Σ and σ² when they are due; `x` is padded.
    ///
    /// # Errors
    /// [`Error::Singular`] when a matrix can no longer be inverted.
    pub fn learn(&mut self, user: UserId, x: &[f64], reward: f64) -> Result<()> {
        self.learn_row(user, x, reward)?;
        match self.is_due() {
            true => self.estimate(),
            false => Ok(()),
        }
    }

    /// The same, but Σ and σ² stay what they are.
    ///
    /// # Errors
    /// As [`learn`](Population::learn).
    pub fn learn_row(&mut self, user: UserId, x: &[f64], reward: f64) -> Result<()> {
        debug_assert!(x.iter().all(|&v| f64::from(v as f32) == v));
        let posterior = match (self.recent.take(user), self.people.get(user)) {
            (Some(posterior), Some(_)) => posterior,
            (_, Some(person)) => Arc::new(person.posterior(&self.shared, &mut Vec::new())?),
            (_, None) => Arc::new(Posterior::blank(&self.shared)),
        };
        let (vx, w) = self.work.split_at_mut(x.len());
        posterior.covariance.times(x, vx);
        self.shared.precision.times(vx, w);
        let variance = self.shared.noise + dot(x, vx);
        let rest = reward - dot(&posterior.own, x);
        // To μ: a row with this variance counts as one of variance 1 that is shorter by the root of it.
        let shorter = 1.0 / variance.sqrt();
        w.iter_mut().for_each(|w| *w *= shorter);
        self.common.update(w, rest * shorter)?;
        // To the person.
        self.people.or_default(user).keep(x, reward, &posterior);
        self.rows += 1;
        let mut posterior = Arc::unwrap_or_clone(posterior);
        posterior.learn(vx, rest, variance);
        self.recent.put(user, Arc::new(posterior));
        Ok(())
    }

    /// True when Σ and σ² are to be estimated anew.
    pub fn is_due(&self) -> bool {
        self.rows >= self.next
    }

    /// Σ and σ² from everybody's rows.
    ///
    /// # Errors
    /// [`Error::Singular`] when a matrix cannot be inverted.
    pub fn estimate(&mut self) -> Result<()> {
        self.next = self.rows + self.rows / 4;
        self.recent.clear();
        let dim = self.shared.spread.dim();
        self.people
            .change(|person| person.unsettled(dim), |person| person.settle(dim));
        let mut estimate = Estimate::default();
        for _ in 0..STEPS {
            self.recompute(&mut estimate)?;
            if self.maximise(&mut estimate)? < SETTLED {
                break;
            }
        }
        self.recompute(&mut estimate)?;
        for (user, posterior) in self.people.users().zip(estimate.posteriors) {
            self.recent.put(user, Arc::new(posterior));
        }
        Ok(())
    }

    /// The regression of μ from every posterior under the present Σ and σ². A row tells it what it tells when it is learned;
    /// rows that are sums add Σ⁻¹ − Σ⁻¹VᵤΣ⁻¹ to its precision and Σ⁻¹Vᵤbᵤ/σ² to the product with its mean.
    fn recompute(&mut self, estimate: &mut Estimate) -> Result<()> {
        let Shared { spread, precision, .. } = &self.shared;
        let d = spread.dim();
        let len = padded(d);
        let mut gram = self.start.common.gram.clone();
        gram.add_diagonal(self.prior.lambda);
        let mut moment = self.start.common.moment.clone();
        let (mut column, mut turned, mut back) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
        let mut learn = |step: Step<'_>| match step {
            Step::Row { vx, rest, variance } => {
                precision.times(vx, &mut turned);
                gram.rank_one(1.0 / variance, &turned);
                moment
                    .iter_mut()
                    .zip(&turned)
                    .for_each(|(m, w)| *m += rest / variance * w);
            }
            Step::Sums(Posterior { covariance, own }) => {
                precision.times(own, &mut turned);
                moment.iter_mut().zip(&turned).for_each(|(m, t)| *m += t);
                for j in 0..d {
                    (0..d).for_each(|i| column[i] = precision.get(i, j));
                    covariance.times(&column, &mut turned);
                    precision.times(&turned, &mut back);
                    (j..d).for_each(|i| gram.set(i, j, gram.get(i, j) + column[i] - back[i]));
                }
            }
        };
        estimate.posteriors.clear();
        for person in self.people.values() {
            let posterior = person.posterior_by_steps(&self.shared, &mut estimate.work, &mut learn)?;
            if estimate.posteriors.len() < self.recent.limit() {
                estimate.posteriors.push(posterior);
            }
        }
        self.common = Ridge::from_sums(self.prior.lambda, gram, &moment)?;
        Ok(())
    }

    /// Σ and σ² that make the rows likeliest, given the present posteriors and the prior; returns the largest relative
    /// change of a variance.
    fn maximise(&mut self, estimate: &mut Estimate) -> Result<f64> {
        let d = self.shared.spread.dim();
        let Prior {
            people, spread, noise, ..
        } = self.prior;
        let mut between = Symmetric::diagonal(d, people * spread);
        between.add(1.0, &self.start.between);
        let (mut between, within) = self.differences(between, people * noise + self.start.within, estimate)?;
        between.scale(1.0 / (self.people.len() as f64 + people + self.start.people));
        let (precision, condition) = between
            .inverse()
            .unwrap_or((Symmetric::diagonal(0, 0.0), f64::INFINITY));
        if condition > 1e15 {
            return Err(Error::Singular {
                what: "the covariance between people",
                condition,
            });
        }
        let noise = within / (self.rows as f64 + people + self.start.rows);
        let moved = |old: f64, new: f64| (new / old - 1.0).abs();
        let change = (0..d).fold(moved(self.shared.noise, noise), |most, i| {
            most.max(moved(self.shared.spread.get(i, i), between.get(i, i)))
        });
        self.shared = Shared {
            spread: between,
            precision,
            noise,
        };
        Ok(change)
    }

    /// Adds Σᵤ (Vᵤ + (θ̂ᵤ − μ̂)(θ̂ᵤ − μ̂)ᵀ) and the expected squares of the noise under the present posteriors.
    fn differences(
        &self,
        mut between: Symmetric,
        mut within: f64,
        estimate: &mut Estimate,
    ) -> Result<(Symmetric, f64)> {
        let d = self.shared.spread.dim();
        let len = padded(d);
        let (mut theta, mut turned, mut apart) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
        self.shared.precision.times(self.common.theta(), &mut turned);
        for (i, person) in self.people.values().enumerate() {
            let made;
            let Posterior { covariance, own } = match estimate.posteriors.get(i) {
                Some(posterior) => posterior,
                None => {
                    made = person.posterior(&self.shared, &mut estimate.work)?;
                    &made
                }
            };
            // θ̂ = own + VΣ⁻¹μ̂.
            covariance.times(&turned, &mut theta);
            theta.iter_mut().zip(own).for_each(|(t, o)| *t += o);
            for ((a, t), m) in apart.iter_mut().zip(&theta).zip(self.common.theta()) {
                *a = t - m;
            }
            between.add(1.0, covariance);
            between.rank_one(1.0, &apart);
            within += person.expected_squares(&theta, covariance);
        }
        Ok((between, within))
    }

    /// Adds the population to a saved state.
    pub fn write(&self, out: &mut Writer) {
        self.write_without_people(out);
        person::write(&self.people, out);
    }

    pub(super) fn write_without_people(&self, out: &mut Writer) {
        self.start.write(out);
        out.u64s("rows", [self.rows, self.next]);
        out.f64s("noise", [&self.shared.noise]);
        out.f64s("spread", self.shared.spread.data().as_flattened());
        out.f64s("precision", self.shared.precision.data().as_flattened());
        Ridge::write_all(std::slice::from_ref(&self.common), "common", out);
    }

    /// Reads what [`write`](Population::write) wrote, for a population like this one; or a bare [`Start`].
    ///
    /// # Errors
    /// A state that does not hold together.
    pub fn from_state(&self, from: &mut Reader<'_>) -> Result<Population> {
        let dim = self.shared.spread.dim();
        let start = Start::read(dim, from)?;
        if !from.has("rows") {
            return Population::started(start, self.prior);
        }
        let mut new = Population::new(dim, self.prior);
        new.start = start;
        let counts = from.u64s("rows")?;
        let &[rows, next] = &counts[..] else {
            return Err(from.refuse(format!("`rows` holds {} numbers, expected 2", counts.len())));
        };
        (new.rows, new.next) = (rows, next);
        [new.shared.noise] = from.few("noise")?;
        from.fill("spread", new.shared.spread.data_mut().as_flattened_mut())?;
        from.fill("precision", new.shared.precision.data_mut().as_flattened_mut())?;
        let common = self.common.read_all("common", from)?;
        [new.common] =
            <[Ridge; 1]>::try_from(common).map_err(|_| from.refuse("it holds more than one common regression"))?;
        new.people = person::read(dim, from)?;
        Ok(new)
    }
}

/// What the steps of an estimation pass on.
#[derive(Default)]
struct Estimate {
    /// Of the first people, as many as would be remembered anyway; those of others are computed again.
    posteriors: Vec<Posterior>,
    work: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    const PRIOR: Prior = Prior {
        lambda: 2.0,
        spread: 0.3,
        people: 5.0,
        noise: 0.5,
    };

    fn row(dim: usize, draws: &mut oo_core::key::Draws) -> Vec<f64> {
        let mut x = vec![0.0; padded(dim)];
        x[..dim].fill_with(|| f64::from(draws.normal() as f32));
        x
    }

    /// Estimate and variance of what the population says of `x`.
    fn read(population: &Population, user: u64, x: &[f64]) -> (f64, f64) {
        let (mut vx, mut w) = (x.to_vec(), x.to_vec());
        let posterior = population.posterior(UserId(user)).unwrap();
        let mean = population.read(posterior.as_deref(), x, &mut vx, &mut w);
        (mean, dot(x, &vx) + population.common().variance(&w))
    }

    /// θᵤ = μ + δᵤ is one regression on (x, x in the block of the person), with a penalty for each part.
    #[test]
    fn agrees_with_the_big_regression() {
        let (dim, people) = (3, 4);
        let mut population = Population::new(dim, PRIOR);
        // Rows are scaled so that one penalty of 1 and a noise of 1 serve both parts.
        let (a, b) = ((1.0 / PRIOR.lambda).sqrt(), PRIOR.spread.sqrt());
        let big_row = |x: &[f64], user: usize, scale: f64| {
            let mut row = vec![0.0; padded(dim * (people + 1))];
            for j in 0..dim {
                row[j] = a * x[j] * scale;
                row[dim * (user + 1) + j] = b * x[j] * scale;
            }
            row
        };
        let mut big = Ridge::new(dim * (people + 1), 1.0);
        let mut draws = Key::root(21).draws();
        let scale = 1.0 / PRIOR.noise.sqrt();
        for t in 0..FIRST as usize - 1 {
            let x = row(dim, &mut draws);
            // The last person stays unknown.
            let (user, reward) = (t % (people - 1), draws.normal());
            population.learn(UserId(user as u64), &x, reward).unwrap();
            big.update(&big_row(&x, user, scale), reward * scale).unwrap();
        }
        let check = |population: &Population| {
            for user in 0..people {
                let x = row(dim, &mut Key::root(22).fold(user as u64).draws());
                let (mean, variance) = read(population, user as u64, &x);
                let wide = big_row(&x, user, 1.0);
                assert!(
                    (mean - big.predict(&wide)).abs() < 1e-9,
                    "{user}: {mean} {}",
                    big.predict(&wide)
                );
                assert!((variance - big.variance(&wide)).abs() < 1e-9, "{user}: {variance}");
            }
        };
        check(&population);
        // Computing everything afresh changes nothing while Σ and σ² stay.
        population.recent.clear();
        population.recompute(&mut Estimate::default()).unwrap();
        check(&population);
    }

    #[test]
    fn finds_what_people_differ_by() {
        let (dim, people, rows) = (3, 300, 30);
        let truth = [0.5f64, 0.01, 0.1];
        let prior = Prior { people: 1.0, ..PRIOR };
        let mut population = Population::new(dim, prior);
        let key = Key::root(23);
        for t in 0..rows {
            for user in 0..people {
                let mut draws = key.fold(user).fold(t).draws();
                let x = row(dim, &mut draws);
                let theta = |j: usize| 1.0 + truth[j].sqrt() * key.name("theta").fold(user).fold(j as u64).normal();
                let reward = (0..dim).map(|j| theta(j) * x[j]).sum::<f64>() + 0.7 * draws.normal();
                population.learn(UserId(user), &x, reward).unwrap();
            }
        }
        // A variance from 300 people has a relative sd of 0.08, and rather more where it is small against the noise.
        for (j, truth) in truth.into_iter().enumerate() {
            let found = population.spread().get(j, j);
            assert!(
                (found - truth).abs() < 0.25 * truth + 0.01,
                "{j}: {found}, expected {truth}"
            );
        }
        assert!((population.noise() - 0.49).abs() < 0.03, "{}", population.noise());
        assert!(
            population.common().theta()[..dim]
                .iter()
                .all(|m| (m - 1.0).abs() < 0.15)
        );
    }

    /// People whose weights differ by `0.5, 0.01, 0.1` around 1, with 20 rows each.
    fn known(people: u64) -> Population {
        let truth = [0.5f64, 0.01, 0.1];
        let mut population = Population::new(3, PRIOR);
        let key = Key::root(24);
        for (t, user) in (0..20).flat_map(|t| (0..people).map(move |u| (t, u))) {
            let mut draws = key.fold(user).fold(t).draws();
            let x = row(3, &mut draws);
            let theta = |j: usize| 1.0 + truth[j].sqrt() * key.name("theta").fold(user).fold(j as u64).normal();
            let reward = (0..3).map(|j| theta(j) * x[j]).sum::<f64>() + 0.5 * draws.normal();
            population.learn(UserId(user), &x, reward).unwrap();
        }
        population.estimate().unwrap();
        population
    }

    #[test]
    fn others_start_where_people_left_off() {
        let old = known(100);
        let new = Population::started(old.start_for_others().unwrap(), PRIOR).unwrap();
        assert!(new.people.is_empty() && new.rows == 0);
        let close = |a: f64, b: f64, far: f64| assert!((a - b).abs() < far * b.abs(), "{a} {b}");
        // One more step of the same iteration, which stops when no variance moves by more than 3 %.
        (0..3).for_each(|j| close(new.spread().get(j, j), old.spread().get(j, j), SETTLED));
        close(new.noise(), old.noise(), SETTLED);
        let x = row(3, &mut Key::root(25).draws());
        let ((mean, variance), (expected, width)) = (read(&new, 0, &x), read(&old, 1000, &x));
        close(mean, expected, 1e-9);
        close(variance, width, SETTLED);
        // A thousandth of it is nearly nothing: the prior.
        let mut little = old.start_for_others().unwrap();
        little.weigh(1e-6);
        let little = Population::started(little, PRIOR).unwrap();
        close(little.spread().get(1, 1), PRIOR.spread, 1e-3);
        close(read(&little, 0, &x).1, read(&Population::new(3, PRIOR), 0, &x).1, 1e-2);
        // Old and new people together, and passed on once more.
        let mut both = Population::started(old.start_for_others().unwrap(), PRIOR).unwrap();
        (0..10).for_each(|t| {
            both.learn(UserId(t), &row(3, &mut Key::root(26).fold(t).draws()), 1.0)
                .unwrap()
        });
        let start = both.start_for_others().unwrap();
        assert_eq!((start.people, start.rows, start.common.rows), (110.0, 2010.0, 2010));
    }

    #[test]
    fn a_new_feature_starts_from_the_prior() {
        let old = known(100).start_for_others().unwrap();
        let new = Population::started(old.onto(&[Some(2), None, Some(0)], PRIOR.spread), PRIOR).unwrap();
        let whole = Population::started(old, PRIOR).unwrap();
        for (j, before) in [(0, 2), (2, 0)] {
            assert!((new.spread().get(j, j) - whole.spread().get(before, before)).abs() < 1e-12);
        }
        assert!((new.spread().get(1, 1) - PRIOR.spread).abs() < 1e-12);
        assert_eq!((new.spread().get(0, 1), new.common().theta()[1]), (0.0, 0.0));
        assert!((new.common().inverse().get(1, 1) - 1.0 / PRIOR.lambda).abs() < 1e-12);
    }
}
