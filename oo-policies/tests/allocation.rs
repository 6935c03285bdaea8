//! No policy of the linear family allocates while it decides and learns, once warm.

// Counting allocations needs a global allocator, and that is an unsafe trait.
#![allow(unsafe_code)]

mod common;

use common::{Sample, build, reward};
use oo_core::{Batch, Decision, Key, Log};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: forwards to the system allocator; the counter is a plain thread-local number.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: likewise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn deciding_and_learning_allocate_nothing() {
    let family = [
        "uniform",
        "egreedy",
        "egreedy-v1",
        "egreedy-v2",
        "softmax",
        "lin-ucb",
        "lin-ucb{model=disjoint}",
        "lin-ts",
        "lin-ts{model=disjoint}",
        "lin-ucb{model=hybrid}",
        "lin-ts{model=hybrid}",
        "lin-ucb{model=disjoint,discount=0.9,window=50}",
        "lin-ucb+per-user",
        "lin-ucb{fourier=20}",
        "egreedy{learner=sgd}",
        "square-cb",
        "square-cb{learner=sgd,weighting=fast}",
        "explore-first",
        "reg-cb",
        "reg-cb{variant=elimination,learner=sgd}",
        "bag",
        "cover{learner=sgd}",
        "lin-full-post",
        "logistic-ts",
        "logistic-ts{model=disjoint}",
        "rnd",
        "egreedy{learner=logistic,model=disjoint}",
    ];
    for spec in family {
        let mut policy = build(spec);
        let samples: Vec<Sample> = (0..300).map(|t| Sample::new(t, 8)).collect();
        let (mut decision, mut log) = (Decision::new(), Log::new());
        let mut step = |sample: &Sample| {
            let round = sample.round();
            policy
                .decide(&round, Key::root(1).fold(round.index), &mut decision)
                .unwrap();
            log.clear();
            let row = log.push(&round, &decision);
            log.settle(row, reward(&round, decision.chosen()), None);
            policy.update(&Batch::new(&log, &[row])).unwrap();
        };
        samples.iter().for_each(&mut step); // arms, users and buffers come into being
        samples.iter().for_each(&mut step);
        let before = COUNT.with(Cell::get);
        samples.iter().for_each(&mut step);
        let allocated = COUNT.with(Cell::get) - before;
        assert_eq!(allocated, 0, "{spec} allocated {allocated} times in 300 rounds");
    }
}
