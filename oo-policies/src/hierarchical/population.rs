//! The people, what is known of each, and what they have in common.
//!
//! Σ and σ² are re-estimated by expectation–maximisation. With θ̂ᵤ and Vᵤ the posterior mean and covariance of a person,
//! U people, N rows and inverse-Wishart-like priors of `people` people at Σ₀ = spread · I and σ₀²,
//!
//! - Σ ← (Σᵤ (Vᵤ + (θ̂ᵤ − μ̂)(θ̂ᵤ − μ̂)ᵀ) + people · Σ₀) / (U + people);
//! - σ² ← (Σᵤ (Σ r² − 2 θ̂ᵤᵀbᵤ + θ̂ᵤᵀAᵤθ̂ᵤ + tr AᵤVᵤ) + people · σ₀²) / (N + people).
//!
//! A population that starts from other people has their sums in both (see [`start`](super::start)).

use super::start::Start;
use crate::regress::symmetric::{Symmetric, dot, padded};
use crate::regress::{Ridge, Sums};
use crate::state::{Reader, Writer};
use oo_core::{Error, Result, UserId};
use std::collections::BTreeMap;

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

/// What is known of a person.
#[derive(Clone, Debug)]
pub struct Person {
    rows: u64,
    /// Σ xxᵀ, Σ r x, Σ r².
    gram: Symmetric,
    moment: Vec<f64>,
    squares: f64,
    /// Vᵤ and Vᵤbᵤ/σ².
    covariance: Symmetric,
    own: Vec<f64>,
}

impl Person {
    /// Rows learned.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Vᵤ.
    pub fn covariance(&self) -> &Symmetric {
        &self.covariance
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Population {
    prior: Prior,
    start: Start,
    rows: u64,
    /// The number of rows at which Σ and σ² are estimated next.
    next: u64,
    /// Σ and its inverse.
    spread: Symmetric,
    precision: Symmetric,
    /// σ².
    noise: f64,
    /// The regression of μ.
    common: Ridge,
    people: BTreeMap<UserId, Person>,
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
            spread: Symmetric::diagonal(dim, prior.spread),
            precision: Symmetric::diagonal(dim, 1.0 / prior.spread),
            noise: prior.noise,
            common: Ridge::new(dim, prior.lambda),
            people: BTreeMap::new(),
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
        new.maximise()?;
        new.recompute()?;
        Ok(new)
    }

    /// What its people say to others.
    pub fn start_for_others(&self) -> Start {
        let mut start = self.start.clone();
        start.common.rows += self.rows;
        start.common.gram.clone_from(self.common.gram());
        start.common.gram.add_diagonal(-self.common.penalty());
        start.common.moment.copy_from_slice(self.common.moment());
        (start.between, start.within) = self.differences(start.between, start.within);
        start.people += self.people.len() as f64;
        start.rows += self.rows as f64;
        start
    }

    /// What a new person's weights are believed to be, as sums of rows with noise of variance 1: σ²(Σ + C)⁻¹, where C
    /// is the covariance of μ̂, and its product with μ̂.
    ///
    /// # Errors
    /// [`Error::Singular`] when the covariance cannot be inverted.
    pub fn stranger(&self) -> Result<Sums> {
        let mut covariance = self.spread.clone();
        covariance.add(1.0, self.common.inverse());
        let (mut gram, _) = covariance.inverse().ok_or(Error::Singular {
            what: "the covariance of a new person",
            condition: f64::INFINITY,
        })?;
        gram.scale(self.noise);
        let mut sums = Sums::new(self.spread.dim());
        gram.times(self.common.theta(), &mut sums.moment);
        sums.gram = gram;
        Ok(sums)
    }

    /// What is known of a person; `None` before the first row.
    pub fn person(&self, user: UserId) -> Option<&Person> {
        self.people.get(&user)
    }

    /// Σ, the covariance of weights between people.
    pub fn spread(&self) -> &Symmetric {
        &self.spread
    }

    /// σ², the variance of a reward's noise.
    pub fn noise(&self) -> f64 {
        self.noise
    }

    /// The regression of μ, the population's weights.
    pub fn common(&self) -> &Ridge {
        &self.common
    }

    /// Forgets a person.
    pub fn forget(&mut self, user: UserId) {
        self.people.remove(&user);
    }

    /// The estimate for row `x`, leaving Vx and w behind. All are padded.
    pub fn read(&self, person: Option<&Person>, x: &[f64], vx: &mut [f64], w: &mut [f64]) -> f64 {
        match person {
            Some(person) => {
                person.covariance.times(x, vx);
                self.precision.times(vx, w);
                dot(&person.own, x) + self.common.predict(w)
            }
            None => {
                self.spread.times(x, vx);
                w.copy_from_slice(x);
                self.common.predict(w)
            }
        }
    }

    /// The weights by which a person's estimate is a sum over features, padded: the estimate is xᵀ(own + VᵤΣ⁻¹μ̂).
    pub fn weights(&self, user: UserId) -> Vec<f64> {
        let common = self.common.theta();
        let Some(person) = self.people.get(&user) else {
            return common.to_vec();
        };
        let (mut turned, mut theta) = (vec![0.0; common.len()], vec![0.0; common.len()]);
        self.precision.times(common, &mut turned);
        person.covariance.times(&turned, &mut theta);
        theta.iter_mut().zip(&person.own).for_each(|(t, own)| *t += own);
        theta
    }

    /// Learns a row; `x` is padded.
    ///
    /// # Errors
    /// [`Error::Singular`] when a matrix can no longer be inverted.
    pub fn learn(&mut self, user: UserId, x: &[f64], reward: f64) -> Result<()> {
        let len = x.len();
        if !self.people.contains_key(&user) {
            let blank = Person {
                rows: 0,
                gram: Symmetric::diagonal(self.spread.dim(), 0.0),
                moment: vec![0.0; len],
                squares: 0.0,
                covariance: self.spread.clone(),
                own: vec![0.0; len],
            };
            self.people.insert(user, blank);
        }
        let Some(person) = self.people.get_mut(&user) else {
            return Err(Error::Failed("a person who was just added is gone".into()));
        };
        let (vx, w) = self.work.split_at_mut(len);
        person.covariance.times(x, vx);
        self.precision.times(vx, w);
        let variance = self.noise + dot(x, vx);
        let rest = reward - dot(&person.own, x);
        // To μ: a row with this variance counts as one of variance 1 that is shorter by the root of it.
        let shorter = 1.0 / variance.sqrt();
        w.iter_mut().for_each(|w| *w *= shorter);
        self.common.update(w, rest * shorter)?;
        // To the person.
        person.covariance.rank_one(-1.0 / variance, vx);
        for (own, vx) in person.own.iter_mut().zip(&*vx) {
            *own += rest / variance * vx;
        }
        person.gram.rank_one(1.0, x);
        for (m, x) in person.moment.iter_mut().zip(x) {
            *m += reward * x;
        }
        person.squares += reward * reward;
        person.rows += 1;
        self.rows += 1;
        if self.rows >= self.next {
            self.next = self.rows + self.rows / 4;
            self.estimate()?;
        }
        Ok(())
    }

    /// Σ and σ² from everybody's rows.
    fn estimate(&mut self) -> Result<()> {
        for _ in 0..STEPS {
            self.recompute()?;
            if self.maximise()? < SETTLED {
                break;
            }
        }
        self.recompute()
    }

    /// Every posterior under the present Σ and σ².
    fn recompute(&mut self) -> Result<()> {
        let d = self.spread.dim();
        let len = padded(d);
        let singular = |condition| Error::Singular {
            what: "a person's precision",
            condition,
        };
        let mut gram = self.start.common.gram.clone();
        gram.add_diagonal(self.prior.lambda);
        let mut moment = self.start.common.moment.clone();
        let mut precision = Symmetric::diagonal(d, 0.0);
        let (mut work, mut column, mut turned, mut back) = (Vec::new(), vec![0.0; len], vec![0.0; len], vec![0.0; len]);
        for person in self.people.values_mut() {
            precision.clone_from(&self.precision);
            precision.add(1.0 / self.noise, &person.gram);
            precision
                .inverse_into(&mut person.covariance, &mut work)
                .ok_or_else(|| singular(f64::INFINITY))?;
            person.covariance.times(&person.moment, &mut person.own);
            person.own.iter_mut().for_each(|v| *v /= self.noise);
            self.precision.times(&person.own, &mut turned);
            moment.iter_mut().zip(&turned).for_each(|(m, t)| *m += t);
            // Σ⁻¹ − Σ⁻¹VΣ⁻¹, column by column.
            for j in 0..d {
                (0..d).for_each(|i| column[i] = self.precision.get(i, j));
                person.covariance.times(&column, &mut turned);
                self.precision.times(&turned, &mut back);
                for i in j..d {
                    gram.set(i, j, gram.get(i, j) + column[i] - back[i]);
                }
            }
        }
        self.common = Ridge::from_sums(self.prior.lambda, gram, &moment)?;
        Ok(())
    }

    /// Σ and σ² that make the rows likeliest, given the present posteriors and the prior; returns the largest relative
    /// change of a variance.
    fn maximise(&mut self) -> Result<f64> {
        let d = self.spread.dim();
        let Prior {
            people, spread, noise, ..
        } = self.prior;
        let mut between = Symmetric::diagonal(d, people * spread);
        between.add(1.0, &self.start.between);
        let (mut between, within) = self.differences(between, people * noise + self.start.within);
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
        let change = (0..d).fold(moved(self.noise, noise), |most, i| {
            most.max(moved(self.spread.get(i, i), between.get(i, i)))
        });
        (self.spread, self.precision, self.noise) = (between, precision, noise);
        Ok(change)
    }

    /// Adds Σᵤ (Vᵤ + (θ̂ᵤ − μ̂)(θ̂ᵤ − μ̂)ᵀ) and the expected squares of the noise under the present posteriors.
    fn differences(&self, mut between: Symmetric, mut within: f64) -> (Symmetric, f64) {
        let len = padded(self.spread.dim());
        let (mut theta, mut turned, mut apart) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
        self.precision.times(self.common.theta(), &mut turned);
        for person in self.people.values() {
            // θ̂ = own + VΣ⁻¹μ̂.
            person.covariance.times(&turned, &mut theta);
            theta.iter_mut().zip(&person.own).for_each(|(t, o)| *t += o);
            for ((a, t), m) in apart.iter_mut().zip(&theta).zip(self.common.theta()) {
                *a = t - m;
            }
            between.add(1.0, &person.covariance);
            between.rank_one(1.0, &apart);
            let trace: f64 = person.gram.inner(&person.covariance);
            let squares = person.squares - 2.0 * dot(&theta, &person.moment) + person.gram.quadratic(&theta) + trace;
            within += squares.max(0.0);
        }
        (between, within)
    }

    /// Adds the population to a saved state.
    pub fn write(&self, out: &mut Writer) {
        self.start.write(out);
        out.u64s("rows", [self.rows, self.next]);
        out.f64s("noise", [&self.noise]);
        out.f64s("spread", self.spread.data().as_flattened());
        out.f64s("precision", self.precision.data().as_flattened());
        Ridge::write_all(std::slice::from_ref(&self.common), "common", out);
        out.u64s("users", self.people.keys().map(|u| u.0));
        out.u64s("users.rows", self.people.values().map(|p| p.rows));
        out.f64s("users.squares", self.people.values().map(|p| &p.squares));
        let people = || self.people.values();
        out.f64s("users.gram", people().flat_map(|p| p.gram.data().as_flattened()));
        out.f64s(
            "users.covariance",
            people().flat_map(|p| p.covariance.data().as_flattened()),
        );
        out.f64s("users.moment", people().flat_map(|p| &p.moment));
        out.f64s("users.own", people().flat_map(|p| &p.own));
    }

    /// Reads what [`write`](Population::write) wrote, for a population like this one; or a bare [`Start`].
    ///
    /// # Errors
    /// A state that does not hold together.
    pub fn from_state(&self, from: &mut Reader<'_>) -> Result<Population> {
        let start = Start::read(self.spread.dim(), from)?;
        if !from.has("rows") {
            return Population::started(start, self.prior);
        }
        let mut new = Population::new(self.spread.dim(), self.prior);
        new.start = start;
        let len = padded(self.spread.dim());
        let counts = from.u64s("rows")?;
        let &[rows, next] = &counts[..] else {
            return Err(from.refuse(format!("`rows` holds {} numbers, expected 2", counts.len())));
        };
        (new.rows, new.next) = (rows, next);
        [new.noise] = from.few("noise")?;
        from.fill("spread", new.spread.data_mut().as_flattened_mut())?;
        from.fill("precision", new.precision.data_mut().as_flattened_mut())?;
        let common = self.common.read_all("common", from)?;
        [new.common] =
            <[Ridge; 1]>::try_from(common).map_err(|_| from.refuse("it holds more than one common regression"))?;
        let users = from.u64s("users")?;
        let rows = from.u64s("users.rows")?;
        let squares = from.f64s("users.squares")?;
        let block = self.spread.data().as_flattened().len();
        let mut parts = [("gram", block), ("covariance", block), ("moment", len), ("own", len)].map(|(name, size)| {
            let values = from.f64s(&format!("users.{name}"));
            (values, size)
        });
        let whole =
            |(values, size): &(Result<Vec<f64>>, usize)| values.as_ref().is_ok_and(|v| v.len() == users.len() * size);
        if rows.len() != users.len() || squares.len() != users.len() || !parts.iter().all(whole) {
            return Err(from.refuse("its people do not hold together"));
        }
        let [gram, covariance, moment, own] = parts
            .each_mut()
            .map(|(values, _)| std::mem::replace(values, Ok(vec![])));
        let (gram, covariance, moment, own) = (gram?, covariance?, moment?, own?);
        for (i, user) in users.iter().enumerate() {
            let matrix = |values: &[f64]| {
                let mut m = Symmetric::diagonal(self.spread.dim(), 0.0);
                m.data_mut()
                    .as_flattened_mut()
                    .copy_from_slice(&values[i * block..(i + 1) * block]);
                m
            };
            let person = Person {
                rows: rows[i],
                gram: matrix(&gram),
                moment: moment[i * len..(i + 1) * len].to_vec(),
                squares: squares[i],
                covariance: matrix(&covariance),
                own: own[i * len..(i + 1) * len].to_vec(),
            };
            new.people.insert(UserId(*user), person);
        }
        Ok(new)
    }
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
        x[..dim].fill_with(|| draws.normal());
        x
    }

    /// Estimate and variance of what the population says of `x`.
    fn read(population: &Population, user: u64, x: &[f64]) -> (f64, f64) {
        let (mut vx, mut w) = (x.to_vec(), x.to_vec());
        let mean = population.read(population.person(UserId(user)), x, &mut vx, &mut w);
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
        population.recompute().unwrap();
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
        let new = Population::started(old.start_for_others(), PRIOR).unwrap();
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
        let mut little = old.start_for_others();
        little.weigh(1e-6);
        let little = Population::started(little, PRIOR).unwrap();
        close(little.spread().get(1, 1), PRIOR.spread, 1e-3);
        close(read(&little, 0, &x).1, read(&Population::new(3, PRIOR), 0, &x).1, 1e-2);
        // Old and new people together, and passed on once more.
        let mut both = Population::started(old.start_for_others(), PRIOR).unwrap();
        (0..10).for_each(|t| {
            both.learn(UserId(t), &row(3, &mut Key::root(26).fold(t).draws()), 1.0)
                .unwrap()
        });
        let start = both.start_for_others();
        assert_eq!((start.people, start.rows, start.common.rows), (110.0, 2010.0, 2010));
    }

    #[test]
    fn a_new_feature_starts_from_the_prior() {
        let old = known(100).start_for_others();
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
