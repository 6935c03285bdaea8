//! Decisions, feedback and their join: what R5–R8 of the serving facts ask for, with a clock that the test moves.

mod common;

use common::{Request, done, settings};
use oo_serve::Engine;
use oo_serve::engine::{Reason, Status};

#[test]
fn decides_learns_and_remembers_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, recovery) = Engine::open(dir.path(), settings("lin-ts+per-user")).unwrap();
    assert_eq!(recovery.replayed, 0);
    let request = Request::new(1, 10);
    let answer = request.ask(None, |ask| engine.decide(ask)).unwrap();
    assert_eq!((answer.reason, answer.probs.len()), (Reason::Policy, 10));
    let receipt = engine
        .feedback(&done(&answer.decision_id, Some("f1"), 60_000))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!((receipt.status, receipt.reward), (Status::Learned, 1.0));
    let stats = engine.stats(&request.user).unwrap();
    assert_eq!((stats.decisions, stats.pulls, stats.cumulative_reward), (1, 1, 1.0));
    let history = engine.history(&request.user, 100);
    drop(engine);
    let (engine, recovery) = Engine::open(dir.path(), settings("lin-ts+per-user")).unwrap();
    assert_eq!((recovery.replayed, recovery.lost_bytes), (4, 0));
    assert_eq!(engine.stats(&request.user).unwrap(), stats);
    assert_eq!(engine.history(&request.user, 100), history);
    let again = engine
        .feedback(&done(&answer.decision_id, Some("f1"), 60_000))
        .unwrap()
        .wait()
        .unwrap();
    assert!(again.repeated && again.seq == receipt.seq);
}
