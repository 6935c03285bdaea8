//! Ten thousand models, a million decisions and updates from several threads: the end is what a serial order gives.

use oo_core::{ActionId, Batch, Candidates, Decision, Key, Log, Method, Policy, Round, Shape, Spec, UserId};
use oo_policies::concurrent::Concurrent;
use std::sync::atomic::{AtomicU64, Ordering};

const USERS: u64 = 10_000;
const OPERATIONS: u64 = 1_000_000;
const THREADS: u64 = 4;

fn shape() -> Shape {
    Shape {
        context: vec!["bias".into(), "x".into()],
        candidate: vec!["a".into()],
        actions: None,
    }
}

fn blank() -> oo_core::Result<Box<dyn Policy>> {
    oo_policies::build(&Spec::parse("egreedy{epsilon=0.1,schedule=decay}")?, &shape())
}

/// What operation `i` is about; the same numbers whoever asks.
struct Case {
    user: UserId,
    context: [f32; 2],
    features: [f32; 3],
}

const IDS: [ActionId; 3] = [ActionId(1), ActionId(2), ActionId(3)];

impl Case {
    fn new(i: u64) -> Case {
        let mut draws = Key::root(31).fold(i).draws();
        // A few users get much of the traffic, so that threads do meet.
        let user = match draws.below(4) {
            0 => draws.below(8) as u64,
            _ => draws.below(USERS as usize) as u64,
        };
        Case {
            user: UserId(user),
            context: [1.0, draws.uniform() as f32],
            features: [0; 3].map(|_| draws.uniform() as f32),
        }
    }

    fn round(&self, index: u64) -> Round<'_> {
        Round {
            index,
            user: self.user,
            context: &self.context,
            candidates: Candidates {
                ids: &IDS,
                features: &self.features,
                dim: 1,
            },
        }
    }

    /// A row that was logged with this choice.
    fn logged(&self, index: u64) -> Log {
        let mut log = Log::new();
        let chosen = index as usize % 3;
        log.push_parts(&self.round(index), &[1.0 / 3.0; 3], chosen, Method::Exact);
        log.settle(0, f64::from(self.features[chosen]), None);
        log
    }
}

#[test]
fn a_million_operations_end_where_a_serial_order_ends() {
    let models = Concurrent::new(blank).unwrap();
    let clock = AtomicU64::new(0);
    let work = |thread: u64| {
        let mut decision = Decision::new();
        let mut order = Vec::new();
        for i in (thread..OPERATIONS).step_by(THREADS as usize) {
            let case = Case::new(i);
            if i % 2 == 0 {
                models
                    .decide(&case.round(i), Key::root(1).fold(i), &mut decision)
                    .unwrap();
                assert!((decision.probs().iter().sum::<f64>() - 1.0).abs() < 1e-9);
            } else {
                let log = case.logged(i);
                let at = models.alone(case.user, |model| {
                    model.update(&Batch::new(&log, &[0]))?;
                    Ok(clock.fetch_add(1, Ordering::Relaxed))
                });
                order.push((at.unwrap(), i));
            }
        }
        order
    };
    let mut order: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|t| {
                scope.spawn({
                    let work = &work;
                    move || work(t)
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    order.sort_unstable();
    // The same updates, one after another in the order in which they got their turn.
    let serial = Concurrent::new(blank).unwrap();
    for (_, i) in order {
        let case = Case::new(i);
        let log = case.logged(i);
        serial.update(case.user, &Batch::new(&log, &[0])).unwrap();
    }
    assert_eq!(models.users(), serial.users());
    assert!(models.users() > 9_900, "{}", models.users());
    for user in (0..USERS).map(UserId) {
        assert_eq!(models.save(user), serial.save(user), "{user:?}");
    }
}
