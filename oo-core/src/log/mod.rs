//! The log: decisions and what came of them, by column. A [`Batch`] is a view of some of its rows.

pub mod schema;

use crate::tips::Feedback;
use crate::{ActionId, Candidates, Decision, Method, Round, UserId};

/// Logged rounds, one row each.
#[derive(Clone, Debug, Default)]
pub struct Log {
    index: Vec<u64>,
    user: Vec<UserId>,
    context: Vec<f32>,
    context_ends: Vec<usize>,
    ids: Vec<ActionId>,
    probs: Vec<f64>,
    ids_ends: Vec<usize>,
    features: Vec<f32>,
    features_ends: Vec<usize>,
    chosen: Vec<usize>,
    method: Vec<Method>,
    reward: Vec<Option<f64>>,
    feedback: Vec<Option<Feedback>>,
}

/// One row of a log.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// What the policy saw.
    pub round: Round<'a>,
    /// Probability a candidate.
    pub probs: &'a [f64],
    /// Position of the chosen candidate.
    pub chosen: usize,
    /// How the probabilities were found.
    pub method: Method,
    /// What came of it; `None` while it is not known.
    pub reward: Option<f64>,
    /// The reaction behind the reward, where there was one.
    pub feedback: Option<Feedback>,
}

impl Row<'_> {
    /// The identity of the chosen action.
    pub fn action(&self) -> ActionId {
        self.round.candidates.ids[self.chosen]
    }

    /// The probability with which it was chosen.
    pub fn propensity(&self) -> f64 {
        self.probs[self.chosen]
    }
}

impl Log {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True when nothing was logged.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Forgets the rows and keeps the memory.
    pub fn clear(&mut self) {
        self.index.clear();
        self.user.clear();
        self.context.clear();
        self.context_ends.clear();
        self.ids.clear();
        self.probs.clear();
        self.ids_ends.clear();
        self.features.clear();
        self.features_ends.clear();
        self.chosen.clear();
        self.method.clear();
        self.reward.clear();
        self.feedback.clear();
    }

    /// Adds a decision whose outcome is not known yet; returns its row.
    pub fn push(&mut self, round: &Round<'_>, decision: &Decision) -> usize {
        self.push_parts(round, decision.probs(), decision.chosen(), decision.method())
    }

    /// The same from its parts, for logs that come from elsewhere. `probs` has one entry a candidate.
    pub fn push_parts(&mut self, round: &Round<'_>, probs: &[f64], chosen: usize, method: Method) -> usize {
        debug_assert_eq!(probs.len(), round.candidates.len());
        self.index.push(round.index);
        self.user.push(round.user);
        self.context.extend_from_slice(round.context);
        self.context_ends.push(self.context.len());
        self.ids.extend_from_slice(round.candidates.ids);
        self.probs.extend_from_slice(probs);
        self.ids_ends.push(self.ids.len());
        self.features.extend_from_slice(round.candidates.features);
        self.features_ends.push(self.features.len());
        self.chosen.push(chosen);
        self.method.push(method);
        self.reward.push(None);
        self.feedback.push(None);
        self.index.len() - 1
    }

    /// Records what came of a decision.
    pub fn settle(&mut self, row: usize, reward: f64, feedback: Option<Feedback>) {
        self.reward[row] = Some(reward);
        self.feedback[row] = feedback;
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> Row<'_> {
        let span = |ends: &[usize]| if i == 0 { 0..ends[0] } else { ends[i - 1]..ends[i] };
        let candidates = span(&self.ids_ends);
        let features = &self.features[span(&self.features_ends)];
        Row {
            round: Round {
                index: self.index[i],
                user: self.user[i],
                context: &self.context[span(&self.context_ends)],
                candidates: Candidates {
                    ids: &self.ids[candidates.clone()],
                    dim: features.len() / candidates.len().max(1),
                    features,
                },
            },
            probs: &self.probs[candidates],
            chosen: self.chosen[i],
            method: self.method[i],
            reward: self.reward[i],
            feedback: self.feedback[i],
        }
    }
}

/// Some rows of a log, in the order in which they are to be learned. Rows without a reward are passed over.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    log: &'a Log,
    rows: &'a [usize],
}

impl<'a> Batch<'a> {
    /// The given rows of `log`.
    pub fn new(log: &'a Log, rows: &'a [usize]) -> Self {
        Batch { log, rows }
    }

    /// The log behind the view.
    pub fn log(&self) -> &'a Log {
        self.log
    }

    /// The rows' numbers in the log.
    pub fn rows(&self) -> &'a [usize] {
        self.rows
    }

    /// Rows with their reward.
    pub fn iter(&self) -> impl Iterator<Item = (Row<'a>, f64)> + use<'a> {
        let log = self.log;
        self.rows.iter().filter_map(move |&i| {
            let row = log.row(i);
            row.reward.map(|reward| (row, reward))
        })
    }
}
