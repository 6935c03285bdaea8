//! What is kept of a person, and the posterior that follows from it.
//!
//! A person with at most d rows is these rows (see [`rows`](super::rows)), where two d × d matrices would be 8·d² bytes and
//! more. Posteriors are computed from them when they are needed, by the very operations, in the very order, by which they
//! would have been kept up to date; so nothing depends on when that happens. When one more row comes, the d become sums;
//! a posterior is kept only beside sums that are newer than the last estimate of Σ and σ².

use super::crowd::Crowd;
use super::rows::Rows;
use crate::regress::symmetric::{Symmetric, dot, packed, padded};
use crate::state::{Reader, Writer};
use oo_core::{Error, Result, UserId};

/// What all people share while Σ and σ² stay: Σ, its inverse and σ².
#[derive(Clone, Debug)]
pub struct Shared {
    /// Σ.
    pub spread: Symmetric,
    /// Σ⁻¹.
    pub precision: Symmetric,
    /// σ².
    pub noise: f64,
}

/// Vᵤ and Vᵤbᵤ/σ².
#[derive(Clone, Debug)]
pub struct Posterior {
    /// Vᵤ.
    pub covariance: Symmetric,
    /// Vᵤbᵤ/σ², padded.
    pub own: Vec<f64>,
}

impl Posterior {
    /// Before the first row.
    pub fn blank(shared: &Shared) -> Self {
        Posterior {
            covariance: shared.spread.clone(),
            own: vec![0.0; padded(shared.spread.dim())],
        }
    }

    /// Learns a row, given Vx, the reward beyond xᵀ`own` and the variance σ² + xᵀVx.
    pub fn learn(&mut self, vx: &[f64], rest: f64, variance: f64) {
        self.covariance.rank_one(-1.0 / variance, vx);
        for (own, vx) in self.own.iter_mut().zip(vx) {
            *own += rest / variance * vx;
        }
    }
}

/// Σ xxᵀ, Σ r x and Σ r².
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Σ xxᵀ.
    pub gram: Symmetric,
    /// Σ r x, padded.
    pub moment: Vec<f64>,
    /// Σ r².
    pub squares: f64,
}

impl Evidence {
    fn nothing(dim: usize) -> Self {
        Evidence {
            gram: Symmetric::diagonal(dim, 0.0),
            moment: vec![0.0; padded(dim)],
            squares: 0.0,
        }
    }

    fn add(&mut self, x: &[f64], reward: f64) {
        self.gram.rank_one(1.0, x);
        for (m, x) in self.moment.iter_mut().zip(x) {
            *m += reward * x;
        }
        self.squares += reward * reward;
    }

    /// The posterior under the present Σ and σ². `work` is any.
    fn posterior(&self, shared: &Shared, work: &mut Vec<f64>) -> Result<Posterior> {
        let mut precision = shared.precision.clone();
        precision.add(1.0 / shared.noise, &self.gram);
        let mut posterior = Posterior::blank(shared);
        let Posterior { covariance, own } = &mut posterior;
        precision.inverse_into(covariance, work).ok_or(Error::Singular {
            what: "a person's precision",
            condition: f64::INFINITY,
        })?;
        covariance.times(&self.moment, own);
        own.iter_mut().for_each(|v| *v /= shared.noise);
        Ok(posterior)
    }
}

/// Sums of rows that are not kept any more, packed: Gram matrix, moment, and, where they are newer than the last estimate,
/// covariance and `own`.
#[derive(Clone, Debug)]
struct Sums {
    squares: f64,
    numbers: Vec<f64>,
}

impl Sums {
    const fn len(dim: usize, packed: usize) -> usize {
        packed + dim
    }

    fn new(evidence: &Evidence, posterior: Option<&Posterior>) -> Self {
        let dim = evidence.gram.dim();
        let parts = 1 + usize::from(posterior.is_some());
        let mut numbers = Vec::with_capacity(parts * Sums::len(dim, packed(dim)));
        evidence.gram.pack(&mut numbers);
        numbers.extend_from_slice(&evidence.moment[..dim]);
        if let Some(posterior) = posterior {
            posterior.covariance.pack(&mut numbers);
            numbers.extend_from_slice(&posterior.own[..dim]);
        }
        Sums {
            squares: evidence.squares,
            numbers,
        }
    }

    fn part(&self, dim: usize, which: usize) -> Option<(Symmetric, Vec<f64>)> {
        let (size, matrix) = (Sums::len(dim, packed(dim)), packed(dim));
        let numbers = self.numbers.get(which * size..(which + 1) * size)?;
        let (mut m, mut v) = (Symmetric::diagonal(dim, 0.0), vec![0.0; padded(dim)]);
        m.unpack(&numbers[..matrix]);
        v[..dim].copy_from_slice(&numbers[matrix..]);
        Some((m, v))
    }

    fn posterior(&self, dim: usize) -> Option<Posterior> {
        self.part(dim, 1).map(|(covariance, own)| Posterior { covariance, own })
    }

    fn newer(&self, dim: usize) -> bool {
        self.numbers.len() > Sums::len(dim, packed(dim))
    }
}

/// What a person's posterior is made of, one after another.
#[derive(Debug)]
pub enum Step<'a> {
    /// The posterior of rows that are sums.
    Sums(&'a Posterior),
    /// A row, by what [`Posterior::learn`] takes.
    Row {
        /// Vx, padded.
        vx: &'a [f64],
        /// The reward beyond what was expected of the person alone.
        rest: f64,
        /// σ² + xᵀVx.
        variance: f64,
    },
}

/// What is kept of a person. See the module.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// Rows learned.
    rows: u64,
    sums: Option<Box<Sums>>,
    /// The rows that are not in `sums`.
    kept: Rows,
}

impl Person {
    /// Rows learned.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn summed(&self, dim: usize) -> Option<Evidence> {
        let sums = self.sums.as_ref()?;
        let (gram, moment) = sums.part(dim, 0)?;
        let squares = sums.squares;
        Some(Evidence { gram, moment, squares })
    }

    /// The sums over all rows.
    pub fn evidence(&self, dim: usize) -> Evidence {
        let mut evidence = self.summed(dim).unwrap_or_else(|| Evidence::nothing(dim));
        self.kept.each(dim, |x, reward| evidence.add(x, reward));
        evidence
    }

    /// The posterior. `work` is any.
    ///
    /// # Errors
    /// [`Error::Singular`] when the precision cannot be inverted.
    pub fn posterior(&self, shared: &Shared, work: &mut Vec<f64>) -> Result<Posterior> {
        self.posterior_by_steps(shared, work, |_| {})
    }

    /// The posterior, and every step to it.
    ///
    /// # Errors
    /// As [`posterior`](Person::posterior).
    pub fn posterior_by_steps(
        &self,
        shared: &Shared,
        work: &mut Vec<f64>,
        mut step: impl FnMut(Step<'_>),
    ) -> Result<Posterior> {
        let dim = shared.spread.dim();
        let summed = match self.sums.as_ref().and_then(|sums| sums.posterior(dim)) {
            Some(posterior) => Some(posterior),
            None => match self.summed(dim) {
                Some(evidence) => Some(evidence.posterior(shared, work)?),
                None => None,
            },
        };
        summed.iter().for_each(|posterior| step(Step::Sums(posterior)));
        let mut posterior = summed.unwrap_or_else(|| Posterior::blank(shared));
        let mut vx = vec![0.0; padded(dim)];
        self.kept.each(dim, |x, reward| {
            posterior.covariance.times(x, &mut vx);
            let variance = shared.noise + dot(x, &vx);
            let rest = reward - dot(&posterior.own, x);
            step(Step::Row {
                vx: &vx,
                rest,
                variance,
            });
            posterior.learn(&vx, rest, variance);
        });
        Ok(posterior)
    }

    /// E Σ (r − θᵀx)² over all rows, for θ of this mean, padded, and covariance.
    pub fn expected_squares(&self, theta: &[f64], covariance: &Symmetric) -> f64 {
        let summed = self.summed(covariance.dim()).map_or(0.0, |evidence| {
            let Evidence { gram, moment, squares } = evidence;
            squares - 2.0 * dot(theta, &moment) + gram.quadratic(theta) + gram.inner(covariance)
        });
        // Rounding may leave a little less than nothing.
        let mut squares = summed.max(0.0);
        self.kept.each(covariance.dim(), |x, reward| {
            let (mean, variance) = covariance.with_product(theta, x);
            squares += (reward - mean) * (reward - mean) + variance;
        });
        squares
    }

    /// Keeps a row of f32 numbers; `before` is the posterior without it.
    pub fn keep(&mut self, x: &[f64], reward: f64, before: &Posterior) {
        let dim = before.covariance.dim();
        if self.kept.len() >= dim {
            let evidence = self.evidence(dim);
            self.sums = Some(Box::new(Sums::new(&evidence, Some(before))));
            self.kept = Rows::default();
        }
        self.kept.push(x[..dim].iter().map(|&v| v as f32), reward);
        self.rows += 1;
    }

    /// True where there are sums, and something that an estimate of Σ and σ² puts an end to.
    pub fn unsettled(&self, dim: usize) -> bool {
        let sums = self.sums.as_ref();
        sums.is_some_and(|sums| sums.newer(dim) || !self.kept.is_empty())
    }

    /// Σ and σ² are about to be estimated anew: of somebody with sums all rows become sums, and no posterior is kept.
    pub fn settle(&mut self, dim: usize) {
        let evidence = self.evidence(dim);
        self.sums = Some(Box::new(Sums::new(&evidence, None)));
        self.kept = Rows::default();
    }
}

/// Adds people to a saved state.
pub fn write(people: &Crowd, out: &mut Writer) {
    let all = || people.values();
    out.u64s("users", people.users().map(|u| u.0));
    out.u64s("users.rows", all().map(|p| p.rows));
    out.u64s("users.kept", all().map(|p| p.kept.len() as u64));
    let rows: Vec<&[u8]> = all().map(|p| p.kept.bytes()).collect();
    out.state("kept.rows", rows.concat());
    let sums = || all().filter_map(|p| p.sums.as_deref());
    out.u64s(
        "users.sums",
        all().map(|p| p.sums.as_ref().map_or(0, |s| s.numbers.len() as u64)),
    );
    out.f64s("sums.squares", sums().map(|s| &s.squares));
    out.f64s("sums.numbers", sums().flat_map(|s| &s.numbers));
}

/// Reads what `write` writes for `dim` features, or wrote once: rows with their zeros, and before that two matrices a person.
///
/// # Errors
/// People who do not hold together.
pub fn read(dim: usize, from: &mut Reader<'_>) -> Result<Crowd> {
    let users = from.u64s("users")?;
    let rows = from.u64s("users.rows")?;
    let refused = |from: &Reader<'_>| from.refuse("its people do not hold together");
    if rows.len() != users.len() {
        return Err(refused(from));
    }
    let mut people = Crowd::default();
    if from.has("users.gram") {
        let blank = Symmetric::diagonal(dim, 0.0);
        let (block, len) = (blank.data().as_flattened().len(), padded(dim));
        let squares = from.f64s("users.squares")?;
        let [gram, moment, covariance, own] =
            ["gram", "moment", "covariance", "own"].map(|name| from.f64s(&format!("users.{name}")));
        let (gram, moment, covariance, own) = (gram?, moment?, covariance?, own?);
        let n = users.len();
        if [gram.len(), covariance.len()] != [n * block; 2]
            || [moment.len(), own.len()] != [n * len; 2]
            || squares.len() != n
        {
            return Err(refused(from));
        }
        let matrix = |values: &[f64], i: usize| {
            let mut m = blank.clone();
            m.data_mut()
                .as_flattened_mut()
                .copy_from_slice(&values[i * block..(i + 1) * block]);
            m
        };
        for (i, &user) in users.iter().enumerate() {
            let evidence = Evidence {
                gram: matrix(&gram, i),
                moment: moment[i * len..(i + 1) * len].to_vec(),
                squares: squares[i],
            };
            let posterior = Posterior {
                covariance: matrix(&covariance, i),
                own: own[i * len..(i + 1) * len].to_vec(),
            };
            let person = Person {
                rows: rows[i],
                sums: Some(Box::new(Sums::new(&evidence, Some(&posterior)))),
                ..Person::default()
            };
            *people.or_default(UserId(user)) = person;
        }
        return Ok(people);
    }
    let kept = read_rows(dim, from)?;
    let sums = from.u64s("users.sums")?;
    let (squares, numbers) = (from.f64s("sums.squares")?, from.f64s("sums.numbers")?);
    if [kept.len(), sums.len()] != [users.len(); 2] {
        return Err(refused(from));
    }
    let part = Sums::len(dim, packed(dim));
    let (mut squares, mut numbers) = (&squares[..], &numbers[..]);
    for (i, (&user, kept)) in users.iter().zip(kept).enumerate() {
        let size = sums[i] as usize;
        let some = usize::from(size > 0);
        if ![0, part, 2 * part].contains(&size) || numbers.len() < size || squares.len() < some {
            return Err(refused(from));
        }
        let person = Person {
            rows: rows[i],
            sums: (size > 0).then(|| {
                Box::new(Sums {
                    squares: squares[0],
                    numbers: numbers[..size].to_vec(),
                })
            }),
            kept,
        };
        (squares, numbers) = (&squares[some..], &numbers[size..]);
        *people.or_default(UserId(user)) = person;
    }
    if !(squares.is_empty() && numbers.is_empty()) {
        return Err(refused(from));
    }
    Ok(people)
}

/// The rows that are not in sums, person by person. They were written whole once, with what nobody needs any more: how many
/// of them were there at the last estimate.
fn read_rows(dim: usize, from: &mut Reader<'_>) -> Result<Vec<Rows>> {
    let kept: Vec<usize> = from.u64s("users.kept")?.into_iter().map(|n| n as usize).collect();
    let refused = |from: &Reader<'_>| from.refuse("its rows do not hold together");
    if kept.iter().any(|n| *n > dim) {
        return Err(refused(from));
    }
    if from.has("kept.rows") {
        let mut bytes = from.state("kept.rows")?;
        let rows: Option<_> = kept.iter().map(|&n| Rows::take(n, dim, &mut bytes)).collect();
        return rows.filter(|_| bytes.is_empty()).ok_or_else(|| refused(from));
    }
    let settled = from.u64s("users.settled")?;
    if settled.len() != kept.len() || settled.iter().zip(&kept).any(|(s, n)| *s > *n as u64) {
        return Err(refused(from));
    }
    let (features, rewards) = (from.f32s("kept.features")?, from.f64s("kept.rewards")?);
    let all: usize = kept.iter().sum();
    if (rewards.len(), features.len()) != (all, all * dim) {
        return Err(refused(from));
    }
    let mut plain = features.chunks_exact(dim).zip(rewards);
    let one = |n: usize| {
        let mut rows = Rows::default();
        plain
            .by_ref()
            .take(n)
            .for_each(|(x, reward)| rows.push(x.iter().copied(), reward));
        rows
    };
    Ok(kept.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::super::population::{Population, Prior};
    use super::*;
    use oo_core::Key;

    const PRIOR: Prior = Prior {
        lambda: 2.0,
        spread: 0.3,
        people: 5.0,
        noise: 0.5,
    };
    const DIM: usize = 3;
    const PEOPLE: u64 = 7;

    fn row(t: u64) -> (UserId, Vec<f64>, f64) {
        let mut draws = Key::root(31).fold(t).draws();
        let mut x = vec![0.0; padded(DIM)];
        x[..DIM].fill_with(|| f64::from(draws.normal() as f32));
        // Half of all rows are one person's; the last person has hardly any.
        let user = if t.is_multiple_of(2) {
            0
        } else {
            (t * t) % (PEOPLE - 1) + u64::from(t.is_multiple_of(97))
        };
        (UserId(user), x, draws.normal())
    }

    fn bits(population: &Population) -> Vec<u64> {
        numbers(population).into_iter().map(f64::to_bits).collect()
    }

    fn numbers(population: &Population) -> Vec<f64> {
        let (_, x, _) = row(1_000_000);
        let (mut vx, mut w) = (x.clone(), x.clone());
        let mut all = Vec::new();
        for user in 0..PEOPLE + 1 {
            let posterior = population.posterior(UserId(user)).unwrap();
            let mean = population.read(posterior.as_deref(), &x, &mut vx, &mut w);
            all.extend([mean, dot(&x, &vx), population.common().variance(&w)]);
        }
        all
    }

    fn saved(population: &Population) -> Vec<u8> {
        let mut w = Writer::new("people", "");
        population.write(&mut w);
        w.finish()
    }

    fn loaded(bytes: &[u8]) -> Population {
        let mut r = Reader::new("people", "", bytes).unwrap();
        let population = Population::new(DIM, PRIOR).from_state(&mut r).unwrap();
        r.finish().unwrap();
        population
    }

    /// As states were written while rows were kept with their zeros.
    fn saved_with_zeros(population: &Population, people: &Crowd) -> Vec<u8> {
        let mut w = Writer::new("people", "");
        population.write_without_people(&mut w);
        let (mut features, mut rewards) = (Vec::new(), Vec::new());
        for person in people.values() {
            person.kept.each(DIM, |x, reward| {
                features.extend(x[..DIM].iter().map(|v| *v as f32));
                rewards.push(reward);
            });
        }
        w.u64s("users", people.users().map(|u| u.0));
        w.u64s("users.rows", people.values().map(|p| p.rows));
        w.u64s("users.settled", people.values().map(|p| p.kept.len() as u64 / 2));
        w.u64s("users.kept", people.values().map(|p| p.kept.len() as u64));
        w.f32s("kept.features", &features);
        w.f64s("kept.rewards", &rewards);
        let sums = || people.values().map(|p| p.sums.as_deref());
        w.u64s("users.sums", sums().map(|s| s.map_or(0, |s| s.numbers.len() as u64)));
        w.f64s("sums.squares", sums().flatten().map(|s| &s.squares));
        w.f64s("sums.numbers", sums().flatten().flat_map(|s| &s.numbers));
        w.finish()
    }

    /// As states were written before people were kept as rows.
    fn saved_as_matrices(population: &Population, people: &Crowd) -> Vec<u8> {
        let mut w = Writer::new("people", "");
        population.write_without_people(&mut w);
        let evidence: Vec<Evidence> = people.values().map(|p| p.evidence(DIM)).collect();
        let posteriors = || people.users().map(|u| population.posterior(u).unwrap().unwrap());
        let posteriors: Vec<_> = posteriors().collect();
        w.u64s("users", people.users().map(|u| u.0));
        w.u64s("users.rows", people.values().map(|p| p.rows));
        w.f64s("users.squares", evidence.iter().map(|e| &e.squares));
        w.f64s("users.gram", evidence.iter().flat_map(|e| e.gram.data().as_flattened()));
        w.f64s("users.moment", evidence.iter().flat_map(|e| &e.moment));
        let covariances = posteriors.iter().flat_map(|p| p.covariance.data().as_flattened());
        w.f64s("users.covariance", covariances);
        w.f64s("users.own", posteriors.iter().flat_map(|p| &p.own));
        w.finish()
    }

    #[test]
    fn posteriors_made_again_and_states_are_the_same_bits() {
        let mut kept = Population::new(DIM, PRIOR);
        let mut again = kept.clone();
        for t in 0..600 {
            let (user, x, reward) = row(t);
            kept.learn(user, &x, reward).unwrap();
            // A copy remembers no posterior.
            again = again.clone();
            again.learn(user, &x, reward).unwrap();
            if t % 7 == 0 {
                assert_eq!(bits(&kept), bits(&again), "{t}");
                assert_eq!(saved(&kept), saved(&again), "{t}");
                assert_eq!(bits(&kept), bits(&loaded(&saved(&kept))), "{t}");
                let before = loaded(&saved_with_zeros(&kept, kept.people()));
                assert_eq!(saved(&kept), saved(&before), "{t}");
            }
        }
        // Some are rows, some are sums, and some have a posterior beside the sums.
        let people = || kept.people().values();
        assert!(people().any(|p| p.sums.is_none() && p.rows > 0));
        assert!(people().any(|p| p.sums.as_ref().is_some_and(|s| s.newer(DIM))));
        assert!(people().any(|p| p.sums.as_ref().is_some_and(|s| !s.newer(DIM))));
    }

    /// Whoever was two matrices has sums from the first row on: the same numbers, but for rounding.
    #[test]
    fn states_of_matrices_go_on() {
        for from in [50, 250] {
            let (mut kept, mut old) = (Population::new(DIM, PRIOR), None);
            for t in 0..600 {
                let (user, x, reward) = row(t);
                kept.learn(user, &x, reward).unwrap();
                let Some(old) = &mut old else {
                    if t == from {
                        let loaded = loaded(&saved_as_matrices(&kept, kept.people()));
                        assert_eq!(bits(&kept), bits(&loaded));
                        old = Some(loaded);
                    }
                    continue;
                };
                old.learn(user, &x, reward).unwrap();
                let far = numbers(&kept).into_iter().zip(numbers(old)).map(|(a, b)| (a - b).abs());
                assert!(far.fold(0.0, f64::max) < 1e-9, "{t}");
            }
        }
    }

    /// A start from rows under another Σ and σ² says what a start from their sums says.
    #[test]
    fn rows_and_their_sums_say_the_same() {
        let shared = Shared {
            spread: Symmetric::diagonal(DIM, 0.4),
            precision: Symmetric::diagonal(DIM, 2.5),
            noise: 0.3,
        };
        let mut person = Person::default();
        for t in 0..DIM as u64 {
            let (_, x, reward) = row(t);
            let before = person.posterior(&shared, &mut Vec::new()).unwrap();
            person.keep(&x, reward, &before);
        }
        let from_rows = person.posterior(&shared, &mut Vec::new()).unwrap();
        let evidence = person.evidence(DIM);
        let from_sums = evidence.posterior(&shared, &mut Vec::new()).unwrap();
        let summed = Person {
            sums: Some(Box::new(Sums::new(&evidence, None))),
            ..Person::default()
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        for i in 0..DIM {
            close(from_rows.own[i], from_sums.own[i]);
            (0..DIM).for_each(|j| close(from_rows.covariance.get(i, j), from_sums.covariance.get(i, j)));
        }
        let squares = |person: &Person| person.expected_squares(&from_rows.own, &from_rows.covariance);
        close(squares(&person), squares(&summed));
    }
}
