//! The last rows that a model learned, so that it can take them back: a ring, oldest first.

use crate::state::{Reader, Writer};
use oo_core::Result;

/// See the module.
#[derive(Clone, Debug)]
pub struct Window {
    size: usize,
    len: usize,
    slots: Vec<u64>,
    rewards: Vec<f64>,
    rows: Vec<f64>,
    /// The oldest row, once the ring is full.
    first: usize,
    row: Vec<f64>,
}

/// A row that leaves the window.
#[derive(Debug)]
pub struct Leaving<'a> {
    /// The padded row; a copy, to be scaled at will.
    pub x: &'a mut [f64],
    /// How many rows came since, the one about to be learned included.
    pub age: usize,
}

impl Window {
    /// For the last `size` rows of `len` numbers.
    pub fn new(size: usize, len: usize) -> Self {
        Window {
            size,
            len,
            slots: Vec::new(),
            rewards: Vec::new(),
            rows: Vec::new(),
            first: 0,
            row: vec![0.0; len],
        }
    }

    /// Arm, row and reward that the next [`push`](Window::push) replaces; `None` while there is room.
    pub fn oldest(&mut self) -> Option<(usize, Leaving<'_>, f64)> {
        let i = self.first;
        (self.slots.len() == self.size).then(|| {
            self.row.copy_from_slice(&self.rows[i * self.len..(i + 1) * self.len]);
            let leaving = Leaving {
                x: &mut self.row,
                age: self.size,
            };
            (self.slots[i] as usize, leaving, self.rewards[i])
        })
    }

    /// Adds a row, in the place of the oldest when full.
    pub fn push(&mut self, slot: usize, x: &[f64], reward: f64) {
        if self.slots.len() < self.size {
            self.slots.push(slot as u64);
            self.rewards.push(reward);
            self.rows.extend_from_slice(x);
            return;
        }
        let i = self.first;
        self.slots[i] = slot as u64;
        self.rewards[i] = reward;
        self.rows[i * self.len..(i + 1) * self.len].copy_from_slice(x);
        self.first = (i + 1) % self.size;
    }

    /// Adds the window to a saved state.
    pub fn write(&self, out: &mut Writer) {
        out.u64s("window.slots", self.slots.iter().copied());
        out.f64s("window.rewards", &self.rewards);
        out.f64s("window.rows", &self.rows);
        out.u64s("window.first", [self.first as u64]);
    }

    /// Reads what [`write`](Window::write) wrote, for a model of `arms` arms.
    ///
    /// # Errors
    /// A state that does not hold together.
    pub fn read(&self, arms: usize, from: &mut Reader<'_>) -> Result<Window> {
        let window = Window {
            slots: from.u64s("window.slots")?,
            rewards: from.f64s("window.rewards")?,
            rows: from.f64s("window.rows")?,
            first: from.count("window.first")? as usize,
            ..Window::new(self.size, self.len)
        };
        let n = window.slots.len();
        let whole = window.rewards.len() == n
            && window.rows.len() == n * self.len
            && n <= self.size
            && window.first < n.max(1)
            && window.slots.iter().all(|&slot| (slot as usize) < arms);
        if whole {
            Ok(window)
        } else {
            Err(from.refuse("its window does not hold together"))
        }
    }
}
