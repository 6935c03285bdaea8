//! What callers choose themselves, and what is in charge.

use super::ask::{Ask, Reason};
use super::{Artefact, Engine, state};
use crate::{Error, Result};
use oo_core::{Method, Spec};

/// A choice that somebody else made.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Position of the chosen candidate.
    pub chosen: usize,
    /// Probability a candidate.
    pub probs: &'a [f64],
    /// Score a candidate.
    pub scores: &'a [f64],
    /// How the probabilities were found.
    pub method: Method,
    /// Who chose.
    pub policy: &'a str,
    /// Why.
    pub reason: Reason,
}

impl Choice<'_> {
    pub(super) fn check(&self, ask: &Ask<'_>) -> Result<()> {
        let n = ask.ids.len();
        let sum: f64 = self.probs.iter().sum();
        let fits = self.probs.len() == n && self.scores.len() == n && self.chosen < n;
        if fits && (sum - 1.0).abs() <= 1e-9 && self.probs.iter().all(|p| *p >= 0.0) && self.probs[self.chosen] > 0.0 {
            return Ok(());
        }
        let expected = format!("{n} probabilities that sum to 1, that of the choice above 0");
        Err(Error::invalid(
            "choice",
            expected,
            format!("{} that sum to {sum}", self.probs.len()),
        ))
    }
}

impl Engine {
    /// The policy in charge with what it has learned, to be kept or put in charge again.
    ///
    /// # Errors
    /// A packed model that cannot be read.
    pub fn in_charge(&self) -> Result<Artefact> {
        let (spec, frozen) = {
            let _state = self.settled();
            let serving = state::read(&self.serving);
            (serving.spec.clone(), serving.models.freeze())
        };
        Ok(Artefact {
            spec: Spec::parse(&spec)?,
            state: Some(frozen.state()?),
        })
    }
}
