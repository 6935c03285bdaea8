//! From scores to a choice. A policy fills in a probability for every candidate; [`decide`](crate::policy)
//! alone draws, so the propensity in a log cannot disagree with what happened.

use crate::{Error, Key, Result, Round};

/// How the probabilities of a decision were found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Method {
    /// Closed form.
    #[default]
    Exact,
    /// Numerical integration; absolute error below 1e-8.
    Quadrature,
    /// Relative frequencies of so many posterior draws, mixed with a floor. The choice is drawn from these very
    /// numbers, so as propensities they are true; as estimates of the ideal policy they carry Monte Carlo error.
    MonteCarlo {
        /// The number of posterior draws.
        draws: u32,
    },
}

impl Method {
    /// A short name for logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Method::Exact => "exact",
            Method::Quadrature => "quadrature",
            Method::MonteCarlo { .. } => "monte-carlo",
        }
    }
}

/// What a policy fills in. `scores` and `probs` have one entry a candidate and start at 0.
#[derive(Debug)]
pub struct Proposal<'a> {
    /// The policy's estimate or index a candidate; any scale, for people and shadows.
    pub scores: &'a mut [f64],
    /// The probability a candidate; must sum to 1.
    pub probs: &'a mut [f64],
    /// Working memory that lives as long as the decision, so that a round allocates nothing.
    pub scratch: &'a mut Vec<f64>,
}

/// A choice, with everything a log needs to answer later questions. Made for reuse.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    scores: Vec<f64>,
    probs: Vec<f64>,
    scratch: Vec<f64>,
    chosen: usize,
    method: Method,
}

impl Decision {
    /// An empty decision, to be filled again and again.
    pub fn new() -> Self {
        Self::default()
    }

    /// Score a candidate.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// Probability a candidate; sums to 1 within 1e-9.
    pub fn probs(&self) -> &[f64] {
        &self.probs
    }

    /// Position of the chosen candidate.
    pub fn chosen(&self) -> usize {
        self.chosen
    }

    /// The probability with which it was chosen.
    pub fn propensity(&self) -> f64 {
        self.probs[self.chosen]
    }

    /// How the probabilities were found.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Lets `propose` fill in the numbers, checks them, and draws.
    pub(crate) fn fill(
        &mut self,
        round: &Round<'_>,
        key: Key,
        propose: impl FnOnce(Proposal<'_>) -> Result<Method>,
    ) -> Result<()> {
        let n = round.candidates.len();
        if n == 0 {
            return Err(Error::NoCandidates { round: round.index });
        }
        check_finite(round)?;
        self.scores.clear();
        self.scores.resize(n, 0.0);
        self.probs.clear();
        self.probs.resize(n, 0.0);
        self.method = propose(Proposal {
            scores: &mut self.scores,
            probs: &mut self.probs,
            scratch: &mut self.scratch,
        })?;
        let (mut sum, mut min) = (0.0, f64::INFINITY);
        for &p in &self.probs {
            sum += p;
            min = f64::min(min, p);
        }
        // A NaN makes both comparisons false.
        if !((sum - 1.0).abs() <= 1e-9 && min >= 0.0) {
            return Err(Error::Probabilities { sum, min });
        }
        const DRAW: u64 = crate::key::hash_name("draw");
        self.chosen = sample(&self.probs, key.fold(DRAW).uniform() * sum);
        Ok(())
    }
}

/// The first position whose cumulative probability exceeds `u`; never one of probability 0.
fn sample(probs: &[f64], u: f64) -> usize {
    let mut cumulative = 0.0;
    let mut last = 0;
    for (i, &p) in probs.iter().enumerate() {
        if p > 0.0 {
            cumulative += p;
            last = i;
            if u < cumulative {
                break;
            }
        }
    }
    last
}

fn check_finite(round: &Round<'_>) -> Result<()> {
    let bad = |values: &[f32]| values.iter().any(|v| !v.is_finite());
    if bad(round.context) || bad(round.candidates.features) {
        let (i, value) = first_bad(round);
        return Err(Error::NotFinite {
            feature: format!("#{i}"),
            value,
            round: round.index,
        });
    }
    Ok(())
}

#[cold]
fn first_bad(round: &Round<'_>) -> (usize, f32) {
    if let Some(i) = round.context.iter().position(|v| !v.is_finite()) {
        return (i, round.context[i]);
    }
    let c = round.candidates;
    let i = c.features.iter().position(|v| !v.is_finite()).unwrap_or(0);
    (round.context.len() + i % c.dim.max(1), c.features[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_draws_what_has_no_probability() {
        assert_eq!(sample(&[0.0, 1.0, 0.0], 0.0), 1);
        assert_eq!(sample(&[0.0, 1.0, 0.0], 1.0), 1);
        assert_eq!(sample(&[0.5, 0.5, 0.0], 0.999_999_999_999), 1);
    }
}
