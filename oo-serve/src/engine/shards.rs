//! A map and a queue that are copied in no time, whatever their size: a copy shares their parts, and a part is copied when
//! either side first writes to it. So a snapshot keeps nobody waiting. Nor does growth: a part grows at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A tree, since what comes and goes for ever makes a hash table double, late, for the tombstones that it leaves.
type Part<V> = BTreeMap<u64, V>;

/// A map by hash, in two to the power of `BITS` parts: the more, the less is copied at once. See the module.
#[derive(Clone, Debug)]
pub(crate) struct Shards<V, const BITS: u32 = 10> {
    parts: Box<[Arc<Part<V>>]>,
    len: usize,
}

impl<V, const BITS: u32> Default for Shards<V, BITS> {
    fn default() -> Self {
        Shards {
            parts: (0..1 << BITS).map(|_| Arc::default()).collect(),
            len: 0,
        }
    }
}

impl<V: Clone, const BITS: u32> Shards<V, BITS> {
    /// Users' numbers may be small and side by side, so all bits have a say.
    fn part_of(key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BITS)) as usize
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, key: &u64) -> Option<&V> {
        self.parts[Self::part_of(*key)].get(key)
    }

    pub fn contains_key(&self, key: &u64) -> bool {
        self.get(key).is_some()
    }

    pub fn get_mut(&mut self, key: &u64) -> Option<&mut V> {
        let part = &mut self.parts[Self::part_of(*key)];
        // What is not there is no reason to copy a part.
        match Arc::get_mut(part).is_some() || part.contains_key(key) {
            true => Arc::make_mut(part).get_mut(key),
            false => None,
        }
    }

    /// The value of a key, made first where there is none.
    pub fn or_insert_with(&mut self, key: u64, make: impl FnOnce() -> V) -> &mut V {
        let part = Arc::make_mut(&mut self.parts[Self::part_of(key)]);
        part.entry(key).or_insert_with(|| {
            self.len += 1;
            make()
        })
    }

    pub fn insert(&mut self, key: u64, value: V) -> Option<V> {
        let before = Arc::make_mut(&mut self.parts[Self::part_of(key)]).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    pub fn remove(&mut self, key: &u64) -> Option<V> {
        let part = &mut self.parts[Self::part_of(*key)];
        if !part.contains_key(key) {
            return None;
        }
        self.len -= 1;
        Arc::make_mut(part).remove(key)
    }

    /// Keeps what `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(u64, &V) -> bool) {
        (0..self.parts.len()).for_each(|part| self.retain_in(part, &mut keep));
    }

    /// The same in one of [`parts`](Shards::parts).
    pub fn retain_in(&mut self, part: usize, mut keep: impl FnMut(u64, &V) -> bool) {
        let part = &mut self.parts[part];
        if part.iter().all(|(key, value)| keep(*key, value)) {
            return;
        }
        let part = Arc::make_mut(part);
        let before = part.len();
        part.retain(|key, value| keep(*key, value));
        self.len -= before - part.len();
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.parts.iter().flat_map(|part| part.iter().map(|(k, v)| (*k, v)))
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.parts.iter_mut().flat_map(|part| Arc::make_mut(part).values_mut())
    }

    /// All of it by key, rising.
    pub fn sorted(&self) -> Vec<(u64, &V)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }
}

impl<V: Clone, const BITS: u32> FromIterator<(u64, V)> for Shards<V, BITS> {
    fn from_iter<I: IntoIterator<Item = (u64, V)>>(items: I) -> Self {
        let mut new = Shards::default();
        for (key, value) in items {
            new.insert(key, value);
        }
        new
    }
}

/// First in, first out, in parts of `BLOCK` items. See the module.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T, const BLOCK: usize = 4096> {
    /// All but the last are full.
    blocks: VecDeque<Arc<Vec<T>>>,
    /// Items of the first block that are gone.
    gone: usize,
}

impl<T, const BLOCK: usize> Default for Queue<T, BLOCK> {
    fn default() -> Self {
        Queue {
            blocks: VecDeque::new(),
            gone: 0,
        }
    }
}

impl<T: Copy, const BLOCK: usize> Queue<T, BLOCK> {
    pub fn len(&self) -> usize {
        let last = self.blocks.back().map_or(0, |last| last.len());
        (self.blocks.len().saturating_sub(1) * BLOCK + last) - self.gone
    }

    pub fn push_back(&mut self, item: T) {
        match self.blocks.back_mut() {
            Some(last) if last.len() < BLOCK => Arc::make_mut(last).push(item),
            _ => self.blocks.push_back(Arc::new(vec![item])),
        }
    }

    pub fn front(&self) -> Option<&T> {
        self.blocks.front()?.get(self.gone)
    }

    /// The latest item that was put in, or one that is gone where none is left.
    pub fn back(&self) -> Option<&T> {
        self.blocks.back()?.last()
    }

    pub fn pop_front(&mut self) -> Option<T> {
        let item = *self.front()?;
        self.gone += 1;
        if self.gone == BLOCK {
            self.blocks.pop_front();
            self.gone = 0;
        }
        Some(item)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flat_map(|block| block.iter()).skip(self.gone)
    }

    /// The latest item that is so.
    pub fn find_last(&mut self, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        let mut blocks = self.blocks.iter_mut().enumerate().rev();
        blocks.find_map(|(i, block)| {
            let at = block.iter().rposition(&is)?;
            // What is gone is before all that is there.
            (i > 0 || at >= self.gone).then(|| &mut Arc::make_mut(block)[at])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn a_copy_stays_what_it_was() {
        let mut draws = Key::root(1).draws();
        let (mut map, mut plain) = (Shards::<u64>::default(), BTreeMap::new());
        let (mut queue, mut line) = (Queue::<u64>::default(), VecDeque::new());
        let mut copies = Vec::new();
        let listed = |map: &Shards<u64>| map.sorted().into_iter().map(|(k, v)| (k, *v)).collect::<Vec<_>>();
        for step in 0..30_000u64 {
            let key = draws.below(3000) as u64;
            match draws.below(4) {
                0 => assert_eq!(map.remove(&key), plain.remove(&key)),
                1 => assert_eq!(map.insert(key, step), plain.insert(key, step)),
                2 => {
                    *map.or_insert_with(key, || 0) += step;
                    *plain.entry(key).or_insert(0) += step;
                }
                _ => assert_eq!(map.get_mut(&key).copied(), plain.get(&key).copied()),
            }
            queue.push_back(step);
            line.push_back(step);
            if draws.below(3) == 0 {
                assert_eq!(queue.pop_front(), line.pop_front());
            }
            assert_eq!((queue.front(), map.len()), (line.front(), plain.len()));
            assert_eq!(queue.len(), line.len());
            // Some are gone already, some in blocks that copies share.
            let back = draws.below(8000) as u64;
            let (found, wanted) = (
                queue.find_last(|v| *v + back == step),
                line.iter_mut().rev().find(|v| **v + back == step),
            );
            assert_eq!(found, wanted);
            if let (Some(a), Some(b)) = (found, wanted) {
                (*a, *b) = (*a + 1_000_000, *b + 1_000_000);
            }
            if step % 5000 == 0 {
                map.retain(|key, _| key % 7 != 0);
                plain.retain(|key, _| key % 7 != 0);
                copies.push((map.clone(), plain.clone(), queue.clone(), line.clone()));
            }
        }
        copies.push((map, plain, queue, line));
        for (map, plain, queue, line) in copies {
            assert_eq!(listed(&map), plain.into_iter().collect::<Vec<_>>());
            assert!(queue.iter().eq(line.iter()));
        }
    }
}
