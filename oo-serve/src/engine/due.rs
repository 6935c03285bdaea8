//! What ends by itself, and when.

use super::shards::Queue;
use super::state::{Early, Open, State};
use crate::journal::Location;

/// Things with their deadlines: the next one first, and of two at once the one that came first. As cheap to copy as a
/// [`Queue`].
#[derive(Clone, Debug)]
pub(crate) struct Deadlines<T> {
    /// Each in order, none empty. There is more than one only where a window was made shorter: what begins after that ends
    /// before what began earlier.
    queues: Vec<Queue<(u64, T)>>,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Deadlines { queues: Vec::new() }
    }
}

impl<T: Copy> Deadlines<T> {
    pub fn push(&mut self, deadline: u64, item: T) {
        match self.queues.last_mut() {
            Some(last) if last.back().is_some_and(|(latest, _)| *latest <= deadline) => {
                last.push_back((deadline, item))
            }
            _ => {
                let mut queue = Queue::default();
                queue.push_back((deadline, item));
                self.queues.push(queue);
            }
        }
    }

    /// True where something has ended by this time.
    pub fn any_by(&self, time: u64) -> bool {
        self.queues
            .iter()
            .filter_map(Queue::front)
            .any(|(deadline, _)| *deadline <= time)
    }

    /// Takes the next one that has ended by this time.
    pub fn pop_by(&mut self, time: u64) -> Option<T> {
        let fronts = self.queues.iter().enumerate();
        let (deadline, i) = fronts.filter_map(|(i, queue)| Some((queue.front()?.0, i))).min()?;
        if deadline > time {
            return None;
        }
        let popped = self.queues[i].pop_front();
        if self.queues[i].front().is_none() {
            self.queues.remove(i);
        }
        popped.map(|(_, item)| item)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        let mut rests: Vec<_> = self.queues.iter().map(|queue| queue.iter().peekable()).collect();
        std::iter::from_fn(move || {
            let fronts = rests.iter_mut().enumerate();
            let (_, i) = fronts.filter_map(|(i, rest)| Some((rest.peek()?.0, i))).min()?;
            rests[i].next().map(|(_, item)| *item)
        })
    }
}

impl State {
    /// True when a record of this time would find something to do before its own business.
    pub fn is_due(&self, time: u64) -> bool {
        self.due.any_by(time) || self.early_due.any_by(time)
    }

    /// The open decision of this place: it may have been forgotten since, and another have its id.
    pub fn is_open(&self, (hash, at): (u64, Location)) -> Option<Open> {
        self.open.get(&hash).copied().filter(|open| open.at == at)
    }

    /// Until when each that came early is held: for as long as the rules say now.
    pub fn early_until(&self) -> Vec<(u64, u64)> {
        let until = |e: &Early| e.time.saturating_add(self.rules.early_ms);
        let held = self.early.iter();
        let mut all: Vec<_> = held
            .flat_map(|(hash, held)| held.iter().map(|e| (until(e), *hash)))
            .collect();
        all.sort_by_key(|(until, _)| *until);
        all
    }

    pub fn time_early(&mut self) {
        self.early_due = Deadlines::default();
        for (until, hash) in self.early_until() {
            self.early_due.push(until, hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn the_order_is_that_of_the_deadlines_whatever_the_windows() {
        let mut draws = Key::root(1).draws();
        let (mut due, mut plain) = (Deadlines::default(), Vec::new());
        let (mut time, mut window) = (0, 0);
        for hash in 0..20_000 {
            time += draws.below(3) as u64;
            if hash % 1000 == 0 {
                window = draws.below(2000) as u64;
            }
            due.push(time + window, hash);
            plain.push((time + window, hash));
            plain.sort_unstable();
            if draws.below(100) == 0 {
                assert!(due.iter().eq(plain.iter().map(|(_, hash)| *hash)));
            }
            assert_eq!(due.any_by(time), plain[0].0 <= time);
            while let Some(next) = due.pop_by(time) {
                assert_eq!(next, plain.remove(0).1);
            }
            assert!(plain.first().is_none_or(|(deadline, _)| *deadline > time));
        }
    }
}
