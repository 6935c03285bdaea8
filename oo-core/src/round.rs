//! What a policy sees: one round, its context, and the candidates it may choose from.

/// A stable identity of an action. It means the same action in every round, whatever its position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ActionId(pub u64);

/// A stable identity of a person (0 where there is only one).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UserId(pub u64);

/// The actions of one round, with their features.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// `n` identities, all different.
    pub ids: &'a [ActionId],
    /// `n × dim`, row-major.
    pub features: &'a [f32],
    /// Features a candidate; 0 where only the context is described.
    pub dim: usize,
}

impl<'a> Candidates<'a> {
    /// The number of candidates.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True when there is nothing to choose from.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The features of candidate `i`, `dim` of them.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.features[i * self.dim..(i + 1) * self.dim]
    }
}

/// One occasion to choose.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// Counts from 0 within a run.
    pub index: u64,
    /// For whom.
    pub user: UserId,
    /// Features that are the same for every candidate.
    pub context: &'a [f32],
    /// What may be chosen.
    pub candidates: Candidates<'a>,
}

/// What all rounds of an environment have in common. Policies are built for a shape.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Names of the context features.
    pub context: Vec<String>,
    /// Names of the candidate features.
    pub candidate: Vec<String>,
    /// The number of actions where the set is fixed (ids `0..n`), `None` where actions come and go.
    pub actions: Option<usize>,
}

impl Shape {
    /// The name of feature `i` of context (first) and candidate (second) taken together.
    pub fn feature(&self, i: usize) -> &str {
        self.context
            .iter()
            .chain(&self.candidate)
            .nth(i)
            .map_or("?", String::as_str)
    }
}
