//! Which features of a round make a policy's row.

use super::FeatureSpec;
use crate::{Error, Result, Round, Shape};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Context(usize),
    Candidate(usize),
}

/// A choice of features, by name. Environments offer all they know; a policy takes what its spec names.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    names: Vec<String>,
    sources: Vec<Source>,
    /// The number of context features when everything is taken, context first.
    all: Option<usize>,
}

impl Columns {
    /// `selection` is `all`, or the name of a [`FeatureSpec`]; `owner` is named in errors.
    ///
    /// # Errors
    /// [`Error::MissingFeature`] when the shape lacks a feature of the spec, [`Error::Unknown`] for another spec.
    pub fn new(owner: &str, shape: &Shape, selection: &str) -> Result<Columns> {
        let context = shape.context.iter().enumerate().map(|(i, n)| (n, Source::Context(i)));
        let candidate = shape
            .candidate
            .iter()
            .enumerate()
            .map(|(i, n)| (n, Source::Candidate(i)));
        let offered: Vec<(&String, Source)> = context.chain(candidate).collect();
        if selection == "all" {
            return Ok(Columns {
                names: offered.iter().map(|(n, _)| n.to_string()).collect(),
                sources: offered.iter().map(|(_, s)| *s).collect(),
                all: Some(shape.context.len()),
            });
        }
        let names = FeatureSpec::named(selection)?.names;
        let sources = names
            .iter()
            .map(|name| {
                offered
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, s)| *s)
                    .ok_or_else(|| Error::MissingFeature {
                        owner: owner.into(),
                        feature: name.clone(),
                        known: offered.iter().map(|(n, _)| n.to_string()).collect(),
                    })
            })
            .collect::<Result<_>>()?;
        Ok(Columns {
            names,
            sources,
            all: None,
        })
    }

    /// Those of them that all candidates share.
    #[must_use]
    pub fn context(&self) -> Columns {
        let kept = |s: &&Source| matches!(s, Source::Context(_));
        let (sources, names) = (self.sources.iter(), self.names.iter());
        Columns {
            names: names
                .zip(&self.sources)
                .filter(|(_, s)| kept(s))
                .map(|(n, _)| n.clone())
                .collect(),
            sources: sources.filter(kept).copied().collect(),
            all: None,
        }
    }

    /// Features a row.
    pub fn dim(&self) -> usize {
        self.names.len()
    }

    /// The features' names, in the order of the row.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The places of the row's entries among context features (first) and candidate features of `round`, as
    /// [`Shape::feature`] counts.
    pub fn places(&self, round: &Round<'_>) -> impl Iterator<Item = usize> {
        let context = round.context.len();
        self.sources.iter().map(move |source| match *source {
            Source::Context(j) => j,
            Source::Candidate(j) => context + j,
        })
    }

    /// True when rows of one round can differ: some feature belongs to the candidates.
    pub fn varies(&self) -> bool {
        self.sources.iter().any(|s| matches!(s, Source::Candidate(_)))
    }

    /// Writes the row of candidate `i` into `out`, which has `dim` entries.
    #[inline]
    pub fn gather(&self, round: &Round<'_>, i: usize, out: &mut [f64]) {
        let candidate = round.candidates.row(i);
        if let Some(context) = self.all {
            let (head, tail) = out.split_at_mut(context);
            head.iter_mut().zip(round.context).for_each(|(o, &v)| *o = f64::from(v));
            tail.iter_mut().zip(candidate).for_each(|(o, &v)| *o = f64::from(v));
            return;
        }
        for (o, source) in out.iter_mut().zip(&self.sources) {
            *o = f64::from(match *source {
                Source::Context(j) => round.context[j],
                Source::Candidate(j) => candidate[j],
            });
        }
    }
}
