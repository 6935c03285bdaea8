//! The policy trait, and the one place where a choice is drawn.

use crate::registry::OptionHelp;
use crate::{Batch, Decision, Key, Method, Proposal, Result, Round, Shape, UserId};
use serde::{Serialize, de::DeserializeOwned};

/// A way of choosing one candidate.
pub trait Policy: Send + Sync {
    /// Fills in a score and a probability for every candidate. Draws no choice; `key` is for policies whose
    /// probabilities are themselves estimated by simulation.
    fn propose(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> Result<Method>;

    /// Learns from logged rows; one row is the online case.
    fn update(&mut self, batch: &Batch<'_>) -> Result<()>;

    /// Learns as [`update`](Policy::update) does, but for work that takes long and can wait; true where such work is left for
    /// [`catch_up`](Policy::catch_up). For one row, both together are `update`, bit for bit. Until it has caught up the
    /// policy answers, and learns, from what it has. A policy that leaves work can be copied.
    fn update_quickly(&mut self, batch: &Batch<'_>) -> Result<bool> {
        self.update(batch).map(|()| false)
    }

    /// Does what [`update_quickly`](Policy::update_quickly) left.
    fn catch_up(&mut self) -> Result<()> {
        Ok(())
    }

    /// What each feature adds to the expected reward of candidate `i`, appended as (feature, amount) and numbered as
    /// [`Shape::feature`] counts. False, and nothing appended, where the expectation is no sum over features.
    fn contributions(&self, round: &Round<'_>, i: usize, out: &mut Vec<(usize, f64)>) -> bool {
        let _ = (round, i, out);
        false
    }

    /// True where the same weights score every candidate, whatever its id: what
    /// [`contributions`](Policy::contributions) says of features of 1 are then these weights.
    fn shares_weights(&self) -> bool {
        false
    }

    /// Everything learned, as bytes that [`load`](Policy::load) takes back bit for bit.
    fn save(&self) -> Vec<u8>;

    /// Replaces what was learned. A foreign or damaged file is an error and changes nothing.
    fn load(&mut self, bytes: &[u8]) -> Result<()>;

    /// A copy that goes its own way, where making one is cheap: whatever is large is shared until one of them changes it.
    fn copy(&self) -> Option<Box<dyn Policy>> {
        None
    }

    /// Forgets what is kept of one user alone. What a shared model learned from the user stays.
    fn forget(&mut self, _user: UserId) {}
}

impl dyn Policy + '_ {
    /// Asks the policy for probabilities, checks them, and draws. The only place that draws.
    ///
    /// # Errors
    /// No candidates, a feature that is not finite, or probabilities that are no distribution.
    pub fn decide(&self, round: &Round<'_>, key: Key, out: &mut Decision) -> Result<()> {
        const PROPOSE: u64 = crate::key::hash_name("propose");
        out.fill(round, key, |proposal| self.propose(round, key.fold(PROPOSE), proposal))
    }
}

/// How a policy comes from its options: the file's one promise to the registry.
pub trait Build: Policy + Sized + 'static {
    /// The name on the command line.
    const NAME: &'static str;
    /// One line of help.
    const SUMMARY: &'static str;
    /// Where it was published.
    const PAPER: &'static str;
    /// Name and one line of help an option; every field of `Config` has one (tested).
    const OPTIONS: &'static [OptionHelp];
    /// The options with their defaults.
    type Config: Default + Serialize + DeserializeOwned;
    /// Makes a blank policy for rounds of this shape.
    fn build(config: Self::Config, shape: &Shape) -> Result<Self>;
}
