//! Ids by their hashes: where the record of each lies.

use super::shards::Shards;
use crate::journal::Location;
use oo_core::key::hash_name;
use std::collections::BTreeMap;

/// Where the records of ids are. A hash and a place each; whether it is the right one, the record says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids {
    places: Shards<Location>,
    /// Others with the same hash.
    more: BTreeMap<u64, Vec<Location>>,
}

/// The hash of a decision's id.
pub(crate) fn decision_hash(id: &str) -> u64 {
    hash_name(id)
}

/// The hash of a feedback's id; never that of a decision of the same name but by chance.
pub(crate) fn feedback_hash(id: &str) -> u64 {
    hash_name(id).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}

impl Ids {
    pub fn insert(&mut self, hash: u64, at: Location) {
        match self.places.contains_key(&hash) {
            false => {
                self.places.insert(hash, at);
            }
            true => self.more.entry(hash).or_default().push(at),
        }
    }

    /// Every place with this hash, the latest first.
    pub fn places(&self, hash: u64) -> impl Iterator<Item = Location> + '_ {
        let more = self.more.get(&hash).into_iter().flat_map(|m| m.iter().rev());
        more.chain(self.places.get(&hash)).copied()
    }

    pub fn len(&self) -> usize {
        self.places.len() + self.more.values().map(Vec::len).sum::<usize>()
    }

    /// Steps of [`drop_before`](Ids::drop_before).
    pub fn parts(&self) -> usize {
        self.places.parts() + 1
    }

    /// Drops what lies in segments before `segment`, a step at a time.
    pub fn drop_before(&mut self, segment: u32, part: usize) {
        if part < self.places.parts() {
            return self.places.retain_in(part, |_, at| at.segment >= segment);
        }
        self.more.retain(|_, all| {
            all.retain(|at| at.segment >= segment);
            !all.is_empty()
        });
    }

    /// What lies in segments from `segment` on, in a fixed order.
    pub fn sorted(&self, segment: u32) -> Vec<(u64, Location)> {
        let more = self
            .more
            .iter()
            .flat_map(|(h, all)| all.iter().map(move |at| (*h, *at)));
        let all = self.places.iter().map(|(h, at)| (h, *at)).chain(more);
        let mut all: Vec<_> = all.filter(|(_, at)| at.segment >= segment).collect();
        all.sort_unstable();
        all
    }
}
