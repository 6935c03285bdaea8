//! One model a user for many threads at once: decisions read, updates write, and users do not wait for each other.
//!
//! Users are spread over shards by their identity; a shard is a map behind one lock. An update holds its user's shard
//! alone, so all updates of a user happen one after another, and the state is what that order gives. A decision sees
//! the state between two updates, never half of one.

use oo_core::{Batch, Decision, Key, Policy, Result, Round, UserId};
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// Shards; a power of two well above the number of cores.
const SHARDS: usize = 256;

type Shard = RwLock<BTreeMap<UserId, Box<dyn Policy>>>;

/// Models by user. See the module.
///
/// ```
/// use oo_core::{Shape, Spec, UserId};
/// use oo_policies::concurrent::Concurrent;
/// let shape = Shape { context: vec!["bias".into()], candidate: vec![], actions: Some(3) };
/// let models = Concurrent::new(move || oo_policies::build(&Spec::parse("lin-ucb")?, &shape))?;
/// assert!(models.save(UserId(7)).is_none());
/// # Ok::<(), oo_core::Error>(())
/// ```
pub struct Concurrent {
    make: Box<dyn Fn() -> Result<Box<dyn Policy>> + Send + Sync>,
    blank: Box<dyn Policy>,
    shards: Vec<Shard>,
}

impl Concurrent {
    /// Nobody yet; `make` gives a blank model.
    ///
    /// # Errors
    /// What `make` refuses.
    pub fn new(make: impl Fn() -> Result<Box<dyn Policy>> + Send + Sync + 'static) -> Result<Self> {
        Ok(Concurrent {
            blank: make()?,
            make: Box::new(make),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        })
    }

    fn shard(&self, user: UserId) -> &Shard {
        // Folded, since identities may come in steps.
        &self.shards[Key::root(user.0).bits() as usize % SHARDS]
    }

    /// Decides with the model of the round's user, the blank one where there is none yet.
    ///
    /// # Errors
    /// As [`decide`](trait@Policy).
    pub fn decide(&self, round: &Round<'_>, key: Key, out: &mut Decision) -> Result<()> {
        // A thread that panicked in an update left a whole model behind or none: updates of policies do not panic.
        let shard = self.shard(round.user).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&round.user).unwrap_or(&self.blank).decide(round, key, out)
    }

    /// Teaches the model of one user rows of that user.
    ///
    /// # Errors
    /// What the model refuses.
    pub fn update(&self, user: UserId, batch: &Batch<'_>) -> Result<()> {
        self.alone(user, |model| model.update(batch))
    }

    /// Does something to the model of one user while nobody else can.
    ///
    /// # Errors
    /// What `act` or the making of a blank model refuses.
    pub fn alone<T>(&self, user: UserId, act: impl FnOnce(&mut dyn Policy) -> Result<T>) -> Result<T> {
        let mut shard = self.shard(user).write().unwrap_or_else(PoisonError::into_inner);
        match shard.entry(user) {
            std::collections::btree_map::Entry::Occupied(mut model) => act(model.get_mut().as_mut()),
            std::collections::btree_map::Entry::Vacant(place) => act(place.insert((self.make)()?).as_mut()),
        }
    }

    /// The saved state of a user's model; `None` where there is none.
    pub fn save(&self, user: UserId) -> Option<Vec<u8>> {
        let shard = self.shard(user).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&user).map(|model| model.save())
    }

    /// Forgets a user.
    pub fn forget(&self, user: UserId) {
        let mut shard = self.shard(user).write().unwrap_or_else(PoisonError::into_inner);
        shard.remove(&user);
    }

    /// The number of users with a model.
    pub fn users(&self) -> usize {
        let count = |shard: &Shard| shard.read().unwrap_or_else(PoisonError::into_inner).len();
        self.shards.iter().map(count).sum()
    }
}
