//! The Parquet log of a journal: read back with polars, and, where the `oo-sim` binary is at hand, by `oo-sim ope`.

mod common;

use common::{Request, done, settings};
use oo_serve::engine::Artefact;
use oo_serve::engine::clock::ManualClock;
use oo_serve::{Engine, export};
use polars_io::SerReader;
use polars_io::parquet::read::ParquetReader;
use std::fs::File;
use std::time::Duration;

#[test]
fn the_log_says_what_happened() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(1_700_000_000_000));
    let mut settings = settings("softmax");
    settings.clock = clock.clone();
    settings.rules.default_reward = Some(-0.5);
    settings.segment_bytes = 20_000;
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    let mut answers = Vec::new();
    for i in 0..60 {
        let answer = Request::new(i, 6).ask(None, |ask| engine.decide(ask)).unwrap();
        if i % 3 == 0 {
            engine.feedback(&done(&answer.decision_id, None, i * 20_000)).unwrap();
        }
        answers.push(answer);
        if i == 29 {
            clock.advance(Duration::from_secs(7200));
        }
    }
    engine.flush().unwrap();
    let path = dir.path().join("log.parquet");
    let exported = export::export(dir.path(), &path).unwrap();
    // A third of all has its own reward, the rest of the first half the default one.
    assert_eq!((exported.rows, exported.rewarded), (60, 40));
    let frame = ParquetReader::new(File::open(&path).unwrap()).finish().unwrap();
    assert_eq!((frame.height(), frame.width()), (60, 15));
    let column = |name: &str| frame.column(name).unwrap().as_materialized_series().clone();
    let (propensity, chosen) = (column("propensity"), column("chosen"));
    let (reward, reaction) = (column("reward"), column("reaction"));
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(propensity.f64().unwrap().get(i), Some(answer.propensity()));
        assert_eq!(chosen.u32().unwrap().get(i), Some(answer.chosen as u32));
        let (expected, by) = match (i % 3, i < 30) {
            (0, _) => (Some(()), Some("done")),
            (_, true) => (Some(()), None),
            _ => (None, None),
        };
        assert_eq!(reward.f64().unwrap().get(i).map(|_| ()), expected, "{i}");
        assert_eq!(reaction.str().unwrap().get(i), by, "{i}");
    }
    assert_eq!(reward.f64().unwrap().get(1), Some(-0.5));
    // What it says with the journal's beginning gone is the same.
    engine.compact().unwrap();
    assert_eq!(export::export(dir.path(), &path).unwrap(), exported);
    if let Some(program) = std::env::var_os("OO_SIM") {
        let output = std::process::Command::new(program)
            .args(["ope", path.to_str().unwrap(), "--policy", "uniform"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn the_log_has_what_shadows_would_have_given() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), settings("softmax")).unwrap();
    for name in ["uniform", "egreedy"] {
        engine.add_shadow(name, &Artefact::blank(name).unwrap()).unwrap();
    }
    // Whoever answers has been through what came before.
    let log = |shadow: &str| {
        engine.shadow(shadow, Duration::from_secs(20)).unwrap();
        engine.log_shadows().unwrap();
    };
    (0..20).for_each(|i| drop(Request::new(i, 5).ask(None, |ask| engine.decide(ask)).unwrap()));
    ["uniform", "egreedy"].into_iter().for_each(log);
    engine.remove_shadow("egreedy").unwrap();
    Request::new(20, 5).ask(None, |ask| engine.decide(ask)).unwrap();
    log("uniform");
    engine.flush().unwrap();
    let path = dir.path().join("log.parquet");
    assert_eq!(export::export(dir.path(), &path).unwrap().rows, 21);
    let frame = ParquetReader::new(File::open(&path).unwrap()).finish().unwrap();
    assert_eq!(frame.width(), 17);
    for i in 0..21 {
        let probs = |name: &str| -> Vec<f64> {
            let list = frame.column(name).unwrap().list().unwrap().get_as_series(i).unwrap();
            list.f64().unwrap().into_no_null_iter().collect()
        };
        assert_eq!(probs("shadow:uniform"), [0.1; 10]);
        assert!(probs("own").is_empty());
        let (greedy, n) = (probs("shadow:egreedy"), if i < 20 { 10 } else { 0 });
        assert_eq!(greedy.len(), n, "{i}");
        assert!(n == 0 || (greedy.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{greedy:?}");
    }
}
