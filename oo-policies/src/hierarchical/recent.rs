//! Posteriors that were needed lately. They follow from what is kept of people, so nothing depends on which are here:
//! remembering them saves the time to compute them.

use super::person::Posterior;
use crate::regress::symmetric::padded;
use oo_core::UserId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that posteriors may take.
const ROOM: usize = 8 << 20;

/// See the module. A copy remembers nothing.
#[derive(Debug)]
pub struct Recent {
    limit: usize,
    generations: Mutex<[Generation; 2]>,
}

/// When the first of two is full, the second is dropped and they change places: half at least are the latest.
type Generation = HashMap<UserId, Arc<Posterior>>;

impl Recent {
    /// For posteriors over `dim` features.
    pub fn new(dim: usize) -> Self {
        let each = 8 * padded(dim) * (padded(dim) / 2 + 6) + 128;
        Recent {
            limit: ROOM / each,
            generations: Mutex::default(),
        }
    }

    /// How many are remembered at least.
    pub fn limit(&self) -> usize {
        self.limit / 2
    }

    fn generations(&self) -> MutexGuard<'_, [Generation; 2]> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A posterior that is remembered.
    pub fn get(&self, user: UserId) -> Option<Arc<Posterior>> {
        let mut generations = self.generations();
        if let Some(posterior) = generations[0].get(&user) {
            return Some(Arc::clone(posterior));
        }
        let posterior = generations[1].remove(&user)?;
        self.insert(&mut generations, user, Arc::clone(&posterior));
        Some(posterior)
    }

    /// Remembers one.
    pub fn put(&self, user: UserId, posterior: Arc<Posterior>) {
        self.insert(&mut self.generations(), user, posterior);
    }

    fn insert(&self, generations: &mut [Generation; 2], user: UserId, posterior: Arc<Posterior>) {
        if generations[0].len() >= self.limit / 2 {
            generations.swap(0, 1);
            generations[0].clear();
        }
        generations[0].insert(user, posterior);
    }

    /// A posterior that is remembered, and now forgotten.
    pub fn take(&self, user: UserId) -> Option<Arc<Posterior>> {
        let mut generations = self.generations();
        let old = generations[1].remove(&user);
        generations[0].remove(&user).or(old)
    }

    /// Forgets all.
    pub fn clear(&self) {
        *self.generations() = Default::default();
    }
}

impl Clone for Recent {
    fn clone(&self) -> Self {
        Recent {
            limit: self.limit,
            generations: Mutex::default(),
        }
    }
}
