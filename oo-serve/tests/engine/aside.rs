//! What takes a policy long is done aside.

use crate::common::{Request, done, settings};
use oo_core::{Batch, Key, Method, Policy, Proposal, Round, Shape, Spec};
use oo_serve::engine::{Artefact, Settings};
use oo_serve::{Engine, Error};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Open, or those who come wait.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn set(&self, open: bool) {
        *self.0.lock().unwrap() = open;
        self.1.notify_all();
    }

    fn pass(&self) {
        let closed = self.1.wait_while(self.0.lock().unwrap(), |open| !*open);
        drop(closed.unwrap());
    }
}

/// Every fourth row leaves work, and the order of rows and work is in the state.
#[derive(Clone)]
struct Thorough {
    rows: u64,
    due: u64,
    state: u64,
    gate: Arc<Gate>,
}

impl Policy for Thorough {
    fn propose(&self, _: &Round<'_>, _: Key, out: Proposal<'_>) -> oo_core::Result<Method> {
        out.probs[0] = 1.0;
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> oo_core::Result<()> {
        self.update_quickly(batch)?;
        self.catch_up()
    }

    fn update_quickly(&mut self, batch: &Batch<'_>) -> oo_core::Result<bool> {
        for (_, reward) in batch.iter() {
            self.rows += 1;
            self.state = self.state.wrapping_mul(31).wrapping_add(reward.to_bits());
        }
        Ok(self.rows >= self.due)
    }

    fn catch_up(&mut self) -> oo_core::Result<()> {
        if self.rows >= self.due {
            self.gate.pass();
            self.due = self.rows + 4;
            self.state = self.state.wrapping_mul(37).wrapping_add(self.rows);
            // It fails once.
            if self.rows == 8 {
                return Err(oo_core::Error::Failed("as the test wants it".into()));
            }
        }
        Ok(())
    }

    fn copy(&self) -> Option<Box<dyn Policy>> {
        Some(Box::new(self.clone()))
    }

    fn save(&self) -> Vec<u8> {
        [self.rows, self.due, self.state]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect()
    }

    fn load(&mut self, bytes: &[u8]) -> oo_core::Result<()> {
        let number = |i: usize| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap());
        (self.rows, self.due, self.state) = (number(0), number(1), number(2));
        Ok(())
    }
}

fn thorough(gate: &Arc<Gate>) -> Settings {
    let mut settings = settings("lin-ucb");
    settings.policy = Artefact::blank("thorough").unwrap();
    let gate = Arc::clone(gate);
    settings.build = Arc::new(move |_: &Spec, _: &Shape| {
        Ok(Box::new(Thorough {
            rows: 0,
            due: 4,
            state: 1,
            gate: Arc::clone(&gate),
        }))
    });
    settings
}

#[test]
fn nobody_waits_for_what_takes_long() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    gate.set(true);
    let (engine, _) = Engine::open(dir.path(), thorough(&gate)).unwrap();
    let engine = Arc::new(engine);
    let decide = |i: u64| Request::new(i, 5).ask(None, |ask| engine.decide(ask)).unwrap();
    let tell = |i: u64| {
        let id = decide(i).decision_id;
        engine.feedback(&done(&id, Some(&format!("f{i}")), i * 7000)).unwrap()
    };
    for i in 0..3 {
        tell(i).wait().unwrap();
    }
    gate.set(false);
    // The fourth leaves work. Everybody goes on, and the next decision knows what was acknowledged.
    for i in 3..9 {
        tell(i).wait().unwrap();
        assert_eq!(decide(i).updates, i + 1);
    }
    // Whoever needs the state as a whole waits for it.
    let whole = std::thread::spawn({
        let engine = Arc::clone(&engine);
        move || engine.fingerprint().unwrap()
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(!whole.is_finished());
    gate.set(true);
    let whole = whole.join().unwrap();
    // The eighth row was learned in the copy, and refused there, as in a replay.
    let condition = engine.condition();
    assert_eq!((condition.updates, condition.refused), (8, 1));
    assert_eq!(engine.fingerprint().unwrap(), whole);
    engine.flush().unwrap();
    drop(Arc::into_inner(engine).unwrap());
    let (engine, _) = Engine::open(dir.path(), thorough(&gate)).unwrap();
    assert_eq!(engine.fingerprint().unwrap(), whole, "a replay is the same bits");
    drop(engine);
    // A start does not wait for it either; nor does one that does all in turn come to anything else.
    gate.set(false);
    let (engine, _) = Engine::open(dir.path(), thorough(&gate)).unwrap();
    assert_eq!(
        Request::new(0, 5).ask(None, |ask| engine.decide(ask)).unwrap().updates,
        9
    );
    gate.set(true);
    assert_eq!(engine.condition().counts.decisions, 16);
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let mut in_turn = thorough(&gate);
    in_turn.aside = false;
    let (engine, _) = Engine::open(dir.path(), in_turn).unwrap();
    assert_eq!(engine.fingerprint().unwrap(), live);
}

/// A swap in the midst of it, and one more piece of work after it.
#[test]
fn changes_wait_for_what_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    gate.set(true);
    let (engine, _) = Engine::open(dir.path(), thorough(&gate)).unwrap();
    let tell = |i: u64| -> Result<_, Error> {
        let id = Request::new(i, 5).ask(None, |ask| engine.decide(ask))?.decision_id;
        engine.feedback(&done(&id, Some(&format!("f{i}")), i * 7000))
    };
    for round in 0..3 {
        gate.set(false);
        let mut left = Vec::new();
        for i in 0..6 {
            left.push(tell(round * 6 + i).unwrap());
        }
        std::thread::scope(|scope| {
            let change = scope.spawn(|| match round {
                0 => engine.reset("user-1").unwrap(),
                1 => drop(engine.swap(&Artefact::blank("thorough").unwrap()).unwrap()),
                _ => engine.forget("user-2").unwrap(),
            });
            std::thread::sleep(Duration::from_millis(20));
            assert!(!change.is_finished(), "round {round}");
            gate.set(true);
        });
        left.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    }
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let (engine, _) = Engine::open(dir.path(), thorough(&gate)).unwrap();
    assert_eq!(engine.fingerprint().unwrap(), live);
}
