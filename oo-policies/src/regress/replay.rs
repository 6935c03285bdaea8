//! The rows that a network is trained on again and again: the last so many.
//!
//! Which rows make a batch is drawn from a key folded with the number of the step, so a policy that was saved and
//! loaded trains on the same batches as one that was not.

use crate::state::{Reader, Writer};
use oo_core::{Key, Result};

/// A ring of rows with what was paid for them.
#[derive(Clone, Debug)]
pub struct Replay {
    dim: usize,
    capacity: usize,
    rows: Vec<f32>,
    rewards: Vec<f32>,
    slots: Vec<u32>,
    seen: u64,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The features.
    pub x: &'a [f32],
    /// What was paid.
    pub reward: f32,
    /// The slot of the action.
    pub slot: usize,
    /// The row's number since the beginning, which names it for good.
    pub number: u64,
}

impl Replay {
    /// Empty; grows up to `capacity` rows of `dim` features.
    pub fn new(dim: usize, capacity: usize) -> Self {
        Replay {
            dim,
            capacity,
            rows: Vec::new(),
            rewards: Vec::new(),
            slots: Vec::new(),
            seen: 0,
        }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// True before the first row.
    pub fn is_empty(&self) -> bool {
        self.rewards.is_empty()
    }

    /// Rows seen, those included that are no longer held.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Adds a row in place of the oldest.
    pub fn push(&mut self, x: &[f32], reward: f32, slot: usize) {
        debug_assert_eq!(x.len(), self.dim);
        if self.len() < self.capacity {
            self.rows.extend_from_slice(x);
            self.rewards.push(reward);
            self.slots.push(slot as u32);
        } else {
            let at = (self.seen % self.capacity as u64) as usize;
            self.rows[at * self.dim..(at + 1) * self.dim].copy_from_slice(x);
            self.rewards[at] = reward;
            self.slots[at] = slot as u32;
        }
        self.seen += 1;
    }

    /// The row at position `i`.
    pub fn get(&self, i: usize) -> Kept<'_> {
        let (capacity, i64) = (self.capacity as u64, i as u64);
        // The last number that is `i` modulo the capacity.
        let number = match self.seen <= capacity {
            true => i64,
            false => self.seen - 1 - (self.seen - 1 - i64) % capacity,
        };
        Kept {
            x: &self.rows[i * self.dim..(i + 1) * self.dim],
            reward: self.rewards[i],
            slot: self.slots[i] as usize,
            number,
        }
    }

    /// All rows held.
    pub fn iter(&self) -> impl Iterator<Item = Kept<'_>> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// `batch` rows for training step `step`, with replacement. Not for an empty buffer.
    pub fn sample(&self, key: Key, step: u64, batch: usize) -> impl Iterator<Item = Kept<'_>> {
        let mut draws = key.fold(step).draws();
        (0..batch).map(move |_| self.get(draws.below(self.len())))
    }

    /// Adds the rows to a saved state.
    pub fn write(&self, out: &mut Writer) {
        out.f32s("replay.rows", &self.rows);
        out.f32s("replay.rewards", &self.rewards);
        out.u64s("replay.slots", self.slots.iter().map(|&s| u64::from(s)));
        out.u64s("replay.seen", [self.seen]);
    }

    /// Reads what [`write`](Replay::write) wrote; actions are below `slots`.
    ///
    /// # Errors
    /// Columns of different lengths, or more rows than this one holds.
    pub fn read(&self, slots: usize, from: &mut Reader<'_>) -> Result<Self> {
        let rows = from.f32s("replay.rows")?;
        let rewards = from.f32s("replay.rewards")?;
        let read = from.u64s("replay.slots")?;
        let seen = from.count("replay.seen")?;
        if rewards.len() as u64 != seen.min(self.capacity as u64)
            || read.len() != rewards.len()
            || rows.len() != rewards.len() * self.dim
            || read.iter().any(|&s| s >= slots as u64)
        {
            return Err(from.refuse("its replay buffer does not hold together"));
        }
        Ok(Replay {
            rows,
            rewards,
            slots: read.into_iter().map(|s| s as u32).collect(),
            seen,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_row_makes_room_and_numbers_stay() {
        let mut replay = Replay::new(1, 4);
        for t in 0..11u64 {
            replay.push(&[t as f32], t as f32, 0);
            assert!(replay.iter().all(|k| k.number as f32 == k.x[0] && k.reward == k.x[0]));
        }
        let mut held: Vec<u64> = replay.iter().map(|k| k.number).collect();
        held.sort_unstable();
        assert_eq!(held, [7, 8, 9, 10]);
    }

    #[test]
    fn a_step_names_its_batch() {
        let mut replay = Replay::new(1, 100);
        (0..50).for_each(|t| replay.push(&[t as f32], 0.0, 0));
        let batch = |step| {
            replay
                .sample(Key::root(1), step, 8)
                .map(|k| k.number)
                .collect::<Vec<_>>()
        };
        assert_eq!(batch(3), batch(3));
        assert_ne!(batch(3), batch(4));
    }
}
