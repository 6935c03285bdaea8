//! R1 and R2 of the serving facts: the server is killed under load, again and again, and at every step of its writing.
//! Nothing that was acknowledged is lost, nothing is applied twice, and the model is what a replay of the journal gives.
//!
//! The full sizes: `cargo test --release -p oo-serve --test kill -- --ignored --nocapture`, with `OO_SEED` and `OO_KILLS`
//! for another run or a longer one.

mod common;

use common::child::{Line, Load, check, ready, serve_if_child, spawn, spawn_small};
use oo_core::Key;
use oo_serve::inspect;
use oo_serve::journal::fail::POINTS;
use std::ops::Range;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
fn child() {
    serve_if_child();
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|t| t.parse().ok()).unwrap_or(default)
}

fn fingerprint(dir: &Path) -> String {
    let mut line = Line::open(dir).unwrap();
    let answer = line.ask("fingerprint").unwrap();
    answer
        .strip_prefix("ok ")
        .unwrap_or_else(|| panic!("{answer}"))
        .to_string()
}

/// Kills until there were `kills` of them and `feedbacks` were acknowledged.
fn torture(policy: &str, seed: u64, kills: u64, feedbacks: u64) {
    println!("R1: policy {policy}, seed {seed}, {kills} kills, at least {feedbacks} feedbacks");
    let dir = tempfile::tempdir().unwrap();
    let key = Key::root(seed).name("kill");
    let load = Load::start(dir.path(), 16, seed);
    let mut killed = 0;
    loop {
        let mut child = spawn(dir.path(), None, policy);
        assert!(ready(dir.path(), &mut child), "the server does not come back");
        let acked = load.acked.load(Ordering::Relaxed);
        if killed >= kills && acked >= feedbacks {
            break finish(dir.path(), child, load, killed);
        }
        let wait = 20 + key.fold(killed).bits() % 480;
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
    }
}

fn finish(dir: &Path, mut child: std::process::Child, load: Load, killed: u64) {
    let acked = load.finish();
    let live = fingerprint(dir);
    child.kill().unwrap();
    child.wait().unwrap();
    check(dir, &acked, &live);
    println!(
        "{killed} kills, {} acknowledged, 0 lost, 0 twice, state {live}",
        acked.len()
    );
}

#[test]
fn nothing_acknowledged_is_lost_or_counted_twice() {
    torture("lin-ucb", number("OO_SEED", 1), 5, 500);
}

#[test]
#[ignore = "about ten minutes; figures in docs/reliability.md"]
fn two_hundred_kills() {
    torture("lin-ucb", number("OO_SEED", 2), number("OO_KILLS", 200), 200_000);
}

#[test]
#[ignore = "minutes; figures in docs/reliability.md"]
fn fifty_kills_with_a_model_a_user() {
    torture("lin-ts+per-user", number("OO_SEED", 3), 50, 20_000);
}

/// Dies at the n-th passing of a point, under load with snapshots and compactions, and comes back.
fn die_at(point: &str, n: u64, run: u64) {
    let dir = tempfile::tempdir().unwrap();
    let load = Load::start(dir.path(), 4, run);
    if point.starts_with("truncate") {
        // Only a start that finds a torn tail passes here.
        let mut child = spawn(dir.path(), None, "lin-ucb");
        assert!(ready(dir.path(), &mut child));
        std::thread::sleep(Duration::from_millis(100));
        child.kill().unwrap();
        child.wait().unwrap();
        tear(dir.path());
    }
    let mut child = spawn(dir.path(), Some(&format!("{point}:{n}")), "lin-ucb");
    ready(dir.path(), &mut child);
    let mut tidy = Line::open(dir.path());
    for _ in 0..1500 {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        if point.starts_with("compact") || point.starts_with("snapshot") || point.starts_with("rotate") {
            // Somebody to forget, so that there is something to blank.
            for command in ["forget nobody", "snapshot", "compact"] {
                tidy.as_mut().and_then(|l| l.ask(command));
            }
        }
        std::thread::sleep(Duration::from_millis(4));
    }
    let died = child.try_wait().unwrap().is_some();
    child.kill().ok();
    child.wait().unwrap();
    assert!(died, "{point}:{n} was never passed");
    let mut child = spawn(dir.path(), None, "lin-ucb");
    assert!(ready(dir.path(), &mut child), "it does not come back after {point}:{n}");
    std::thread::sleep(Duration::from_millis(50));
    finish(dir.path(), child, load, 1);
}

/// Half a record at the end of the newest file.
fn tear(dir: &Path) {
    let mut files: Vec<_> = std::fs::read_dir(dir.join("journal"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    let last = files.last().unwrap();
    let mut bytes = std::fs::read(last).unwrap();
    bytes.extend([7; 11]);
    std::fs::write(last, bytes).unwrap();
}

/// Files that a death left unfinished.
fn unfinished(dir: &Path) -> Vec<String> {
    let folders = [".", "journal", "snapshots", "policies", "before"].map(|f| std::fs::read_dir(dir.join(f)).unwrap());
    let names = folders.into_iter().flatten().map(|e| e.unwrap().file_name());
    let names = names.map(|n| n.to_string_lossy().into_owned());
    names.filter(|n| n.ends_with(".tmp")).collect()
}

/// How often a short run passes a point at least; 0 where it takes something to be done, as `forgetting` and the others
/// do it.
fn passings(point: &str) -> u64 {
    let is = |names: &[&str]| names.iter().any(|name| point.starts_with(name));
    if is(&["truncate"]) {
        1
    } else if is(&["seal", "scrub", "compact.w", "compact.re"]) {
        0
    } else if is(&["compact", "snapshot", "rotate"]) {
        3
    } else {
        200
    }
}

/// Starts it again after a death: the state is `live`, before a compaction and after it, and nothing is left unfinished.
fn back_as_it_was(dir: &Path, live: &str, point: &str) -> (Child, Line) {
    let mut child = spawn_small(dir, None, false);
    assert!(ready(dir, &mut child), "it does not come back after {point}");
    assert_eq!(unfinished(dir), Vec::<String>::new(), "{point}");
    assert_eq!(fingerprint(dir), live, "{point}");
    let mut line = Line::open(dir).unwrap();
    assert!(line.ask("compact").unwrap().starts_with("ok"));
    assert_eq!(fingerprint(dir), live, "{point}");
    (child, line)
}

/// Decides and gives feedback so many times; what is decided between and how long it took are another matter each run.
/// Returns how many were learned.
fn teach(line: &mut Line, rounds: u64, run: u64) -> u64 {
    let round = |i: u64| {
        let (request, dwell) = (i + 1000 * run, (i + 31 * run) * 999);
        assert!(line.ask(&format!("d d{i} {request}")).unwrap().starts_with("ok"));
        let answer = line.ask(&format!("f f{i} d{i} {dwell}")).unwrap();
        assert!(answer.starts_with("ok"), "{answer}");
        u64::from(answer.starts_with("ok Learned"))
    };
    (0..rounds).map(round).sum()
}

/// Dies while a user's records are blanked, and comes back: the others' are all there, and the user's go the next time.
fn forgetting(run: u64) -> usize {
    let points = [
        "compact.write:1",
        "compact.write:2",
        "compact.rename:1",
        "compact.rename:2",
        "compact.done:1",
    ];
    for point in points {
        let dir = tempfile::tempdir().unwrap();
        let mut child = spawn_small(dir.path(), Some(point), false);
        assert!(ready(dir.path(), &mut child));
        let mut line = Line::open(dir.path()).unwrap();
        assert_eq!(teach(&mut line, 150, run), 150);
        assert_eq!(line.ask("forget user-3").unwrap(), "ok done");
        let live = fingerprint(dir.path());
        assert_eq!(line.ask("compact"), None, "{point} was not passed");
        child.wait().unwrap();
        let (mut child, _) = back_as_it_was(dir.path(), &live, point);
        child.kill().unwrap();
        child.wait().unwrap();
        let report = inspect::inspect(dir.path(), None).unwrap();
        assert!(report.defects.is_empty(), "{point}: {:?}", report.defects);
        let ids: Vec<String> = inspect::feedbacks(dir.path())
            .unwrap()
            .into_iter()
            .map(|f| f.0)
            .collect();
        let kept: Vec<String> = (0..150).filter(|i| i % 50 != 3).map(|i| format!("f{i}")).collect();
        assert_eq!(ids, kept, "{point}");
    }
    points.len()
}

/// Every file of a folder that holds the number of a user as text or as bytes.
fn holding(folder: &Path, user: &str) -> Vec<String> {
    let number = oo_serve::engine::ask::identity(user);
    let (text, bytes) = (number.to_string(), number.to_le_bytes());
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let holds = |path: &std::path::PathBuf| {
        let found = std::fs::read(path).unwrap();
        let has = |what: &[u8]| found.windows(what.len()).any(|w| w == what);
        has(text.as_bytes()) || has(&bytes)
    };
    files.filter(holds).map(|p| p.display().to_string()).collect()
}

/// Dies while a user is taken out of saved states: it comes back as it was, and the user goes the next time.
fn scrubbing(run: u64) -> usize {
    let points = [
        "seal.write:3",
        "seal.rename:3",
        "seal.done:3",
        "scrub.remove:1",
        "seal.write:4",
        "seal.rename:4",
        "seal.done:4",
        "compact.done:1",
    ];
    for point in points {
        let dir = tempfile::tempdir().unwrap();
        let mut child = spawn_small(dir.path(), Some(point), false);
        assert!(ready(dir.path(), &mut child));
        let mut line = Line::open(dir.path()).unwrap();
        assert_eq!(teach(&mut line, 58, run), 58);
        // The same policy once more: what it knows is in `before`, and what the next one began with in `policies`.
        assert!(line.ask("again").unwrap().starts_with("ok"));
        let folders = ["policies", "before"].map(|f| dir.path().join(f));
        for folder in &folders {
            assert_eq!(holding(folder, "user-3").len(), 1);
        }
        assert_eq!(line.ask("forget user-3").unwrap(), "ok done");
        let live = fingerprint(dir.path());
        assert_eq!(line.ask("compact"), None, "{point} was not passed");
        child.wait().unwrap();
        let (mut child, mut line) = back_as_it_was(dir.path(), &live, point);
        for folder in &folders {
            assert_eq!(holding(folder, "user-3"), Vec::<String>::new(), "{point}");
            assert_eq!(holding(folder, "user-5").len(), 1, "{point}: the others are there");
        }
        assert!(line.ask("back").unwrap().starts_with("ok"), "{point}");
        assert_eq!(line.ask("policy").unwrap(), "ok lin-ts+per-user 58", "{point}");
        let live = fingerprint(dir.path());
        child.kill().unwrap();
        child.wait().unwrap();
        let report = inspect::inspect(dir.path(), None).unwrap();
        assert_eq!(report.replay.unwrap().digest, live, "{point}");
    }
    points.len()
}

/// Dies while a policy gives way: it is in charge still, or comes back with what it had learned.
fn giving_way(run: u64) -> usize {
    let points = [
        ("seal.write:1", false),
        ("seal.rename:1", false),
        ("seal.done:1", false),
        ("seal.write:2", true),
        ("seal.rename:2", true),
        ("seal.done:2", true),
    ];
    for (point, written) in points {
        let dir = tempfile::tempdir().unwrap();
        let mut child = spawn_small(dir.path(), Some(point), false);
        assert!(ready(dir.path(), &mut child));
        let mut line = Line::open(dir.path()).unwrap();
        assert_eq!(teach(&mut line, 58, run), 58);
        assert_eq!(line.ask("policy").unwrap(), "ok lin-ts+per-user 58");
        let before = line.ask("fingerprint").unwrap();
        assert_eq!(line.ask("swap uniform"), None, "{point} was not passed");
        child.wait().unwrap();
        let mut child = spawn_small(dir.path(), None, false);
        assert!(ready(dir.path(), &mut child), "it does not come back after {point}");
        assert_eq!(unfinished(dir.path()), Vec::<String>::new(), "{point}");
        let mut line = Line::open(dir.path()).unwrap();
        match line.ask("policy").unwrap().as_str() {
            // Before its record nothing has changed.
            "ok uniform 0" => assert!(written, "{point}"),
            "ok lin-ts+per-user 58" => {
                assert_eq!(line.ask("fingerprint").unwrap(), before, "{point}");
                assert!(line.ask("swap uniform").unwrap().starts_with("ok"));
            }
            other => panic!("{point}: {other}"),
        }
        assert!(line.ask("back").unwrap().starts_with("ok"), "{point}");
        assert_eq!(line.ask("policy").unwrap(), "ok lin-ts+per-user 58", "{point}");
        let live = fingerprint(dir.path());
        child.kill().unwrap();
        child.wait().unwrap();
        let replay = inspect::inspect(dir.path(), None).unwrap().replay.unwrap();
        assert_eq!(replay.digest, live, "{point}");
    }
    points.len()
}

/// Dies between the removals of old files, and comes back with everything that was learned.
fn aging(run: u64) -> usize {
    let points = 1..=3;
    for n in points.clone() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = spawn_small(dir.path(), Some(&format!("compact.remove:{n}")), true);
        assert!(ready(dir.path(), &mut child));
        let mut line = Line::open(dir.path()).unwrap();
        // A window of a millisecond: some come in time.
        let learned = teach(&mut line, 150, run);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(line.ask("compact"), None, "it was not passed");
        child.wait().unwrap();
        let mut child = spawn_small(dir.path(), None, true);
        assert!(ready(dir.path(), &mut child), "it does not come back");
        let mut line = Line::open(dir.path()).unwrap();
        assert!(line.ask("compact").unwrap().starts_with("ok"));
        let live = fingerprint(dir.path());
        child.kill().unwrap();
        child.wait().unwrap();
        let report = inspect::inspect(dir.path(), None).unwrap();
        assert!(
            report.defects.is_empty() && report.first_seq != 1,
            "{:?}",
            report.defects
        );
        let replay = report.replay.clone().unwrap_or_else(|| panic!("{report:#?}"));
        assert_eq!(
            (replay.counts.learned, replay.updates, replay.digest),
            (learned, learned, live)
        );
    }
    points.count()
}

/// Each point in each of these runs; returns how often it died.
fn every_point(runs: Range<u64>) -> u64 {
    let mut deaths = 0;
    for point in POINTS.iter().filter(|point| passings(point) > 0) {
        for run in runs.clone() {
            die_at(point, 1 + Key::root(run).name(point).bits() % passings(point), run);
            deaths += 1;
        }
    }
    deaths
}

#[test]
fn dying_at_any_step_of_writing_loses_nothing() {
    every_point(0..1);
}

#[test]
fn dying_while_forgetting_forgets_nobody_else() {
    forgetting(0);
}

#[test]
fn dying_while_scrubbing_saved_states_scrubs_them_later() {
    scrubbing(0);
}

#[test]
fn dying_while_a_policy_gives_way_loses_neither() {
    giving_way(0);
}

#[test]
fn dying_while_old_records_go_loses_no_state() {
    aging(0);
}

#[test]
#[ignore = "minutes; figures in docs/reliability.md"]
fn dying_at_any_step_twenty_times() {
    let under_load = every_point(1..21);
    let rare = (1..21).map(|run| forgetting(run) + scrubbing(run) + giving_way(run) + aging(run));
    println!(
        "R2: {under_load} deaths under load, {} at points that need something to be done",
        rare.sum::<usize>()
    );
}
