//! What is kept of a person, and the posterior that follows from it.
//!
//! A person with few rows is these rows: 4·d + 8 bytes each, where two d × d matrices would be 8·d² and more. Posteriors
//! are computed from them when they are needed, by the very operations, in the very order, by which they would have been
//! kept up to date; so nothing depends on when that happens. Once more than d rows have come since Σ and σ² were
//! estimated last, rows become sums; a posterior is kept only beside sums that are newer than that estimate.

use super::crowd::Crowd;
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

/// What is kept of a person. See the module.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// Rows learned.
    rows: u64,
    sums: Option<Box<Sums>>,
    /// The rows that are not in `sums`, one after another, and their rewards.
    features: Vec<f32>,
    rewards: Vec<f64>,
    /// How many of them there were when Σ and σ² were estimated last.
    settled: u32,
}

impl Person {
    /// Rows learned.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn add_rows(&self, dim: usize, which: std::ops::Range<usize>, mut each: impl FnMut(&[f64], f64)) {
        let mut x = vec![0.0; padded(dim)];
        for (row, &reward) in self
            .features
            .chunks_exact(dim)
            .zip(&self.rewards)
            .take(which.end)
            .skip(which.start)
        {
            x.iter_mut().zip(row).for_each(|(x, &v)| *x = f64::from(v));
            each(&x, reward);
        }
    }

    fn evidence_of(&self, dim: usize, kept: usize) -> Evidence {
        let mut evidence = Evidence::nothing(dim);
        if let Some((gram, moment)) = self.sums.as_ref().and_then(|sums| sums.part(dim, 0)) {
            let squares = self.sums.as_ref().map_or(0.0, |sums| sums.squares);
            evidence = Evidence { gram, moment, squares };
        }
        self.add_rows(dim, 0..kept, |x, reward| evidence.add(x, reward));
        evidence
    }

    /// The sums over all rows.
    pub fn evidence(&self, dim: usize) -> Evidence {
        self.evidence_of(dim, self.rewards.len())
    }

    /// The posterior. `work` is any.
    ///
    /// # Errors
    /// [`Error::Singular`] when the precision cannot be inverted.
    pub fn posterior(&self, shared: &Shared, work: &mut Vec<f64>) -> Result<Posterior> {
        let dim = shared.spread.dim();
        let settled = self.settled as usize;
        let mut posterior = match &self.sums {
            Some(sums) if sums.newer(dim) => sums.posterior(dim).unwrap_or_else(|| Posterior::blank(shared)),
            None if settled == 0 => Posterior::blank(shared),
            _ => self.evidence_of(dim, settled).posterior(shared, work)?,
        };
        let mut vx = vec![0.0; padded(dim)];
        self.add_rows(dim, settled..self.rewards.len(), |x, reward| {
            posterior.covariance.times(x, &mut vx);
            let variance = shared.noise + dot(x, &vx);
            let rest = reward - dot(&posterior.own, x);
            posterior.learn(&vx, rest, variance);
        });
        Ok(posterior)
    }

    /// Keeps a row of f32 numbers; `before` is the posterior without it.
    pub fn keep(&mut self, x: &[f64], reward: f64, before: &Posterior) {
        let dim = before.covariance.dim();
        if self.rewards.len() >= dim {
            // Rows that were there at the last estimate go first; where there are none, all, with the posterior.
            let going = match self.settled {
                0 => self.rewards.len(),
                settled => settled as usize,
            };
            let newer = self.settled == 0;
            let evidence = self.evidence_of(dim, going);
            self.sums = Some(Box::new(Sums::new(&evidence, newer.then_some(before))));
            self.features.drain(..going * dim);
            self.rewards.drain(..going);
            self.settled = 0;
        }
        self.features.reserve_exact(dim);
        self.features.extend(x[..dim].iter().map(|&v| v as f32));
        self.rewards.reserve_exact(1);
        self.rewards.push(reward);
        self.rows += 1;
    }

    /// Σ and σ² are about to be estimated anew: all rows are older than that.
    pub fn settle(&mut self, dim: usize) {
        if self.sums.is_none() {
            self.settled = self.rewards.len() as u32;
            return;
        }
        if self.rewards.is_empty() && self.sums.as_ref().is_some_and(|sums| !sums.newer(dim)) {
            return;
        }
        let evidence = self.evidence(dim);
        self.sums = Some(Box::new(Sums::new(&evidence, None)));
        (self.features, self.rewards, self.settled) = (Vec::new(), Vec::new(), 0);
    }
}

/// Adds people to a saved state.
pub fn write(people: &Crowd, out: &mut Writer) {
    let all = || people.values();
    out.u64s("users", people.users().map(|u| u.0));
    out.u64s("users.rows", all().map(|p| p.rows));
    out.u64s("users.settled", all().map(|p| u64::from(p.settled)));
    out.u64s("users.kept", all().map(|p| p.rewards.len() as u64));
    out.f32s("kept.features", all().flat_map(|p| &p.features));
    out.f64s("kept.rewards", all().flat_map(|p| &p.rewards));
    let sums = || all().filter_map(|p| p.sums.as_deref());
    out.u64s(
        "users.sums",
        all().map(|p| p.sums.as_ref().map_or(0, |s| s.numbers.len() as u64)),
    );
    out.f64s("sums.squares", sums().map(|s| &s.squares));
    out.f64s("sums.numbers", sums().flat_map(|s| &s.numbers));
}

/// Reads what `write` wrote for `dim` features, or two matrices a person, as it was once.
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
    let [settled, kept, sums] = ["users.settled", "users.kept", "users.sums"].map(|name| from.u64s(name));
    let (settled, kept, sums) = (settled?, kept?, sums?);
    let (features, rewards) = (from.f32s("kept.features")?, from.f64s("kept.rewards")?);
    let (squares, numbers) = (from.f64s("sums.squares")?, from.f64s("sums.numbers")?);
    if [settled.len(), kept.len(), sums.len()] != [users.len(); 3] {
        return Err(refused(from));
    }
    let part = Sums::len(dim, packed(dim));
    let (mut features, mut rewards) = (&features[..], &rewards[..]);
    let (mut squares, mut numbers) = (&squares[..], &numbers[..]);
    for (i, &user) in users.iter().enumerate() {
        let (n, size) = (kept[i] as usize, sums[i] as usize);
        let whole = n <= dim && rewards.len() >= n && features.len() >= n * dim && settled[i] <= kept[i];
        let some = usize::from(size > 0);
        if !whole || ![0, part, 2 * part].contains(&size) || numbers.len() < size || squares.len() < some {
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
            features: features[..n * dim].to_vec(),
            rewards: rewards[..n].to_vec(),
            settled: settled[i] as u32,
        };
        (features, rewards) = (&features[n * dim..], &rewards[n..]);
        (squares, numbers) = (&squares[some..], &numbers[size..]);
        *people.or_default(UserId(user)) = person;
    }
    if !(features.is_empty() && rewards.is_empty() && squares.is_empty() && numbers.is_empty()) {
        return Err(refused(from));
    }
    Ok(people)
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
        let (_, x, _) = row(1_000_000);
        let (mut vx, mut w) = (x.clone(), x.clone());
        let mut all = Vec::new();
        for user in 0..PEOPLE + 1 {
            let posterior = population.posterior(UserId(user)).unwrap();
            let mean = population.read(posterior.as_deref(), &x, &mut vx, &mut w);
            all.extend([mean, dot(&x, &vx), population.common().variance(&w)].map(f64::to_bits));
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
    fn posteriors_made_again_and_states_of_any_age_are_the_same_bits() {
        let mut kept = Population::new(DIM, PRIOR);
        let (mut again, mut old) = (kept.clone(), None);
        for t in 0..600 {
            let (user, x, reward) = row(t);
            kept.learn(user, &x, reward).unwrap();
            // A copy remembers no posterior.
            again = again.clone();
            again.learn(user, &x, reward).unwrap();
            if t == 50 || t == 250 {
                old = Some(loaded(&saved_as_matrices(&kept, kept.people())));
            } else if let Some(old) = &mut old {
                old.learn(user, &x, reward).unwrap();
            }
            if t % 7 == 0 {
                assert_eq!(bits(&kept), bits(&again), "{t}");
                assert_eq!(saved(&kept), saved(&again), "{t}");
                assert_eq!(bits(&kept), bits(&loaded(&saved(&kept))), "{t}");
                old.iter().for_each(|old| assert_eq!(bits(&kept), bits(old), "{t}"));
            }
        }
        // Some are rows, some are sums, and some have a posterior beside the sums.
        let people = || kept.people().values();
        assert!(people().any(|p| p.sums.is_none() && p.rows > 0));
        assert!(people().any(|p| p.sums.as_ref().is_some_and(|s| s.newer(DIM))));
        assert!(people().any(|p| p.sums.as_ref().is_some_and(|s| !s.newer(DIM))));
    }
}
