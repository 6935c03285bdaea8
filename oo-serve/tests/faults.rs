//! R3, R4 and R10 of the serving facts: damaged files, power cuts, disks that are full or broken.

mod common;

use common::recorder::{Recorder, Recording, Trouble};
use common::{Request, copy, done, settings};
use oo_core::Key;
use oo_serve::engine::ask::MAX_NOTE;
use oo_serve::engine::clock::ManualClock;
use oo_serve::engine::event::Event;
use oo_serve::engine::{Artefact, Ask, Durability, Reason, Status};
use oo_serve::journal::{Journal, Location, Options, Position, Segments};
use oo_serve::{Engine, Settings, inspect};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn small() -> Settings {
    let mut settings = settings("lin-ucb");
    settings.segment_bytes = 40_000;
    settings.snapshot_every = 0;
    settings
}

/// `n` decisions with their feedback.
fn fill(engine: &Engine, from: u64, n: u64) {
    let mut last = None;
    for i in from..from + n {
        let answer = Request::new(i, 7).ask(None, |ask| engine.decide(ask)).unwrap();
        let feedback = done(&answer.decision_id, Some(&format!("f{i}")), i * 7919 % 700_000);
        last = Some(engine.feedback(&feedback).unwrap());
    }
    last.map(|p| p.wait().unwrap());
}

/// Every record's segment, offset, size and number.
fn places(dir: &Path) -> Vec<(u32, u64, u64, u64)> {
    let segments = Segments::new(&dir.join("journal"));
    let mut found = Vec::new();
    for segment in segments.list().unwrap() {
        let each = |r: oo_serve::journal::Record<'_>| {
            found.push((segment, u64::from(r.at.offset), r.size() as u64, r.seq));
            Ok(())
        };
        segments.scan(segment, each).unwrap();
    }
    found
}

/// Damages copies of a folder at random places and opens them. `snapshot`: the number of the snapshot in it, or 0.
fn damage(times: u64, seed: u64, snapshot: bool) {
    let home = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(home.path(), small()).unwrap();
    fill(&engine, 0, 60);
    let known = if snapshot { engine.snapshot().unwrap() } else { 0 };
    fill(&engine, 60, 40);
    drop(engine);
    let all = places(home.path());
    let segments: Vec<u32> = all.iter().map(|p| p.0).collect::<BTreeSet<_>>().into_iter().collect();
    assert!(segments.len() >= 3, "the journal is too short for this test");
    let last_seq = all.last().unwrap().3;
    for i in 0..2 * times {
        let mut draws = Key::root(seed).fold(i).draws();
        let dir = tempfile::tempdir().unwrap();
        copy(home.path(), dir.path());
        let segment = segments[draws.below(segments.len())];
        let path = dir.path().join(format!("journal/{segment:08}.log"));
        let mut bytes = std::fs::read(&path).unwrap();
        let at = draws.below(bytes.len());
        let cut = i % 2 == 0;
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << draws.below(8);
        }
        std::fs::write(&path, &bytes).unwrap();
        let damaged = bytes;
        // The last record before the damage. A head of 32 bytes carries its whole file; its last 4 bytes say nothing.
        let sound = all.iter().filter(|(s, offset, size, _)| match *s == segment {
            true => at as u64 >= offset + size && (at >= 32 || !cut) || !cut && (28..32).contains(&at),
            false => *s < segment || !cut && (28..32).contains(&at),
        });
        let expected = sound.map(|p| p.3).max().unwrap_or(0);
        let (engine, recovery) = Engine::open(dir.path(), small()).unwrap();
        let condition = engine.condition();
        // A journal that lost its beginning begins anew, with its rules and its policy.
        let least = expected.max(known);
        let last = if least < 2 {
            condition.journal.last - 2
        } else {
            condition.journal.last
        };
        // A snapshot covers damage before it, and then nothing after the damage is lost.
        let covered = known > 0 && expected < known;
        let held =
            all.iter().any(|p| p.0 == segment && p.3 == known) || all.iter().any(|p| p.0 > segment && p.3 == known);
        match covered && held && !cut {
            true => assert!(last == last_seq || last == known, "{i}: {last} of {last_seq}"),
            false => assert!(
                last == least || covered && last == last_seq,
                "{i}: {last}, expected {least}; {recovery:?}"
            ),
        }
        if last < last_seq && !(cut && expected + 1 > last_seq) {
            // A file that ends with a whole record, or with its head, looks like one that was never longer.
            let ends = all.iter().filter(|p| p.0 == segment).map(|p| p.1 + p.2);
            let whole = cut && ends.chain([32]).any(|end| end == at as u64);
            assert!(
                !recovery.losses.is_empty() || whole,
                "{i}: a loss that is not reported: {recovery:?}"
            );
        }
        let beyond = all.iter().any(|p| p.0 == segment && p.1 > at as u64);
        if !cut && beyond && recovery.lost_bytes > 0 {
            let kept = std::fs::read(path.with_extension("log.lost")).unwrap();
            assert_eq!(kept, damaged, "{i}: sound records after the damage are gone");
        }
        // It goes on, and what it then is, a replay of its files is.
        fill(&engine, 1000, 3);
        let live = engine.fingerprint().unwrap();
        drop(engine);
        let report = inspect::inspect(dir.path(), None).unwrap();
        if let Some(replay) = report.replay.filter(|_| !covered) {
            assert_eq!(replay.digest, live, "{i}");
        }
        let (engine, recovery) = Engine::open(dir.path(), small()).unwrap();
        assert_eq!(recovery.lost_bytes, 0, "{i}: {recovery:?}");
        assert_eq!(engine.fingerprint().unwrap(), live, "{i}");
    }
}

#[test]
fn damaged_journals_open_with_their_longest_sound_prefix() {
    damage(50, 1, false);
    damage(50, 2, true);
}

#[test]
#[ignore = "minutes; figures in docs/reliability.md"]
fn two_thousand_damaged_journals() {
    damage(1000, 3, false);
    damage(1000, 4, true);
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::default());
    let mut settings = small();
    settings.disk = Arc::new(Recording(Arc::clone(&recorder)));
    let (engine, _) = Engine::open(home.path(), settings).unwrap();
    // An acknowledgement, and how much had happened to the disk by then.
    let acked = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (engine, acked, recorder) = (&engine, &acked, &recorder);
            scope.spawn(move || {
                for i in 0..60 {
                    let i = thread * 1000 + i;
                    let answer = Request::new(i, 7).ask(None, |ask| engine.decide(ask)).unwrap();
                    let id = format!("f{i}");
                    engine
                        .feedback(&done(&answer.decision_id, Some(&id), 0))
                        .unwrap()
                        .wait()
                        .unwrap();
                    acked.lock().unwrap().push((recorder.len(), id));
                    if i == 20 || i == 2040 {
                        engine.snapshot().unwrap();
                    }
                    if i == 3030 {
                        engine.compact().unwrap();
                    }
                }
            });
        }
    });
    drop(engine);
    let acked = acked.into_inner().unwrap();
    for run in 0..50 {
        let key = Key::root(10).fold(run);
        let n = 1 + key.bits() as usize % recorder.len();
        let dir = tempfile::tempdir().unwrap();
        recorder.after_power_cut(n, home.path(), dir.path(), key);
        let (engine, _) = Engine::open(dir.path(), small()).unwrap();
        let live = engine.fingerprint().unwrap();
        drop(engine);
        let found: BTreeSet<String> = inspect::feedbacks(dir.path())
            .unwrap()
            .into_iter()
            .map(|f| f.0)
            .collect();
        let lost: Vec<_> = acked
            .iter()
            .filter(|(at, id)| *at <= n && !found.contains(id))
            .collect();
        assert!(lost.is_empty(), "run {run}, after {n} operations: {lost:?}");
        let report = inspect::inspect(dir.path(), None).unwrap();
        assert!(report.defects.is_empty(), "run {run}: {:?}", report.defects);
        assert_eq!(report.replay.unwrap().digest, live, "run {run}");
    }
}

#[test]
fn a_full_or_broken_disk_is_survived() {
    for trouble in [Trouble::Full, Trouble::NoFlush] {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Arc::new(Recorder::default());
        let mut settings = small();
        settings.disk = Arc::new(Recording(Arc::clone(&recorder)));
        let (engine, _) = Engine::open(dir.path(), settings).unwrap();
        fill(&engine, 0, 20);
        recorder.set(trouble);
        let asked = Request::new(100, 7).ask(None, |ask| engine.decide(ask)).unwrap();
        let feedback = done(&asked.decision_id, Some("in trouble"), 0);
        let refused = engine.feedback(&feedback).and_then(|p| p.wait()).unwrap_err();
        assert_eq!(refused.status(), if trouble == Trouble::Full { 507 } else { 503 });
        // Not ready, and decides all the same.
        assert!(engine.condition().journal.failure.is_some());
        for i in 200..300 {
            let answer = Request::new(i, 7).ask(None, |ask| engine.decide(ask)).unwrap();
            assert_eq!(answer.reason, Reason::Policy);
        }
        assert!(engine.feedback(&done(&asked.decision_id, Some("another"), 0)).is_err());
        recorder.set(Trouble::None);
        let begun = Instant::now();
        while engine.condition().journal.failure.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it does not recover");
            std::thread::sleep(Duration::from_millis(10));
        }
        // What was refused is sent again and counts once.
        let receipt = engine.feedback(&feedback).unwrap().wait().unwrap();
        assert_eq!(receipt.status, Status::Learned);
        fill(&engine, 300, 20);
        let live = engine.fingerprint().unwrap();
        drop(engine);
        let report = inspect::inspect(dir.path(), None).unwrap();
        assert!(report.defects.is_empty(), "{:?}", report.defects);
        assert_eq!(
            (report.feedback_ids, report.feedback_ids_twice, report.decisions),
            (41, 0, 141)
        );
        assert_eq!(report.replay.unwrap().digest, live);
    }
}

/// An empty journal on a disk that fails when it is told to.
fn on_a_recorder(segment_bytes: u64) -> (TempDir, Arc<Recorder>, Journal) {
    let (dir, recorder) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let options = Options {
        durability: Durability::Process,
        segment_bytes,
        disk: Arc::new(Recording(recorder.clone())),
    };
    let from = Position {
        at: Location { segment: 0, offset: 0 },
        next_seq: 1,
    };
    let journal = Journal::open(dir.path(), from, options).unwrap();
    (dir, recorder, journal)
}

/// What was written and not flushed is written again when the disk has failed: over what was blanked meanwhile, were a
/// compaction to begin before it is flushed.
#[test]
fn what_is_settled_is_not_written_again() {
    let (_dir, recorder, journal) = on_a_recorder(1 << 20);
    // With nothing to flush, and by two at once.
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(|| journal.settle().unwrap()))));
    let begun = Instant::now();
    let wait_for = |what: &dyn Fn() -> bool| {
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let text = b"what somebody did";
    let (seq, _) = journal.append(1, (1, 1), text).unwrap();
    // Written, and nobody waits for more.
    wait_for(&|| journal.health().committed == seq);
    journal.settle().unwrap();
    let path = journal.segments().path(1);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(text.len()).position(|w| w == text).unwrap();
    bytes[at..at + text.len()].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    recorder.set(Trouble::Full);
    journal.append(2, (1, 1), b"more").unwrap();
    wait_for(&|| journal.health().failure.is_some());
    assert_eq!(journal.settle().unwrap_err().status(), 507);
    recorder.set(Trouble::None);
    wait_for(&|| journal.health().failure.is_none());
    drop(journal);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[at..at + text.len()], [0; 17]);
    assert!(bytes.ends_with(b"more"));
}

/// What waits for a disk that does not come back has a bound; nothing that was taken is lost.
#[test]
fn a_disk_that_hangs_fills_no_memory() {
    let (dir, recorder, journal) = on_a_recorder(1 << 30);
    recorder.set(Trouble::Hangs);
    let payload = vec![7; 1 << 20];
    let append = || journal.append(1, (1, 1), &payload);
    let taken = (0..200).take_while(|_| append().is_ok()).count();
    assert!((60..70).contains(&taken), "{taken} MiB");
    let refused = append().unwrap_err();
    assert_eq!(refused.status(), 503);
    assert!(refused.to_string().contains("64 MiB"), "{refused}");
    assert!(journal.health().failure.is_some());
    recorder.set(Trouble::None);
    let begun = Instant::now();
    // Also where nobody asks meanwhile.
    while journal.health().failure.is_some() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(1));
    }
    append().unwrap();
    drop(journal);
    let end = Segments::new(dir.path()).scan(1, |_| Ok(())).unwrap();
    assert_eq!((end.records, end.defect), (taken as u64 + 1, None));
}

/// Ends a disk's trouble.
struct Heals<'a>(&'a Recorder);

impl Drop for Heals<'_> {
    fn drop(&mut self) {
        self.0.set(Trouble::None);
    }
}

/// What a shadow found waits for a journal that takes nothing, in its order.
#[test]
fn what_shadows_found_waits_for_the_disk() {
    let (dir, recorder) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut settings = settings("lin-ucb");
    settings.durability = Durability::Process;
    settings.disk = Arc::new(Recording(recorder.clone()));
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    engine
        .add_shadow("beside", &Artefact::blank("lin-ts{draws=16}").unwrap())
        .unwrap();
    let decide = |i: u64, note: &[u8]| Request::new(i, 7).ask(None, |ask| engine.decide(&Ask { note, ..*ask }));
    let begun = Instant::now();
    let wait_for = |what: &dyn Fn() -> bool| {
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", engine.shadows());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    // An engine waits for its disk when it is dropped, also where this test fails.
    let _heals = Heals(&recorder);
    let mut made = 0;
    while made < 100 {
        decide(made, b"").unwrap();
        made += 1;
    }
    recorder.set(Trouble::Hangs);
    // Until there is no room for a few findings.
    for size in [MAX_NOTE, 4096] {
        let note = vec![7; size];
        while decide(made, &note).is_ok() {
            made += 1;
        }
    }
    let found = || {
        let report = engine.shadows().remove(0);
        // One that the machine held up counts as failed.
        report.proposed + report.failed
    };
    wait_for(&|| found() == made);
    assert_eq!(engine.tick().unwrap_err().status(), 503);
    recorder.set(Trouble::None);
    wait_for(&|| engine.condition().journal.failure.is_none());
    engine.tick().unwrap();
    engine.flush().unwrap();
    drop(engine);
    let (mut decided, mut found) = (Vec::new(), Vec::new());
    let segments = Segments::new(&dir.path().join("journal"));
    for segment in segments.list().unwrap() {
        let each = |r: oo_serve::journal::Record<'_>| {
            match Event::decode(&r).unwrap() {
                Event::Decided(_) => decided.push(r.seq),
                Event::Shadow(s) => found.push(s.decision),
                _ => {}
            }
            Ok(())
        };
        segments.scan(segment, each).unwrap();
    }
    assert_eq!(decided.len() as u64, made);
    assert_eq!(decided, found);
}

/// A disk that cannot be read for a while: what is due meanwhile is learned afterwards, in the same order; what would be
/// acknowledged and not learned is refused. A replay comes to the same.
#[test]
fn a_disk_that_cannot_be_read_for_a_while_changes_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(1_700_000_000_000));
    let recorder = Arc::new(Recorder::default());
    let mut settings = settings("lin-ts+per-user");
    settings.disk = Arc::new(Recording(Arc::clone(&recorder)));
    settings.clock = clock.clone();
    settings.snapshot_every = 0;
    // Most models lie packed on the disk, and a decision nobody answers teaches when its window ends.
    settings.hot_users = 2;
    (settings.rules.wait_ms, settings.rules.default_reward) = (60_000, Some(-0.5));
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    fill(&engine, 0, 40);
    let decide = |i| Request::new(i, 7).ask(None, |ask| engine.decide(ask)).unwrap();
    let unanswered: Vec<_> = (100..120).map(decide).collect();
    engine.flush().unwrap();
    // Not only flushed: let go of by the memory in front of the file.
    std::thread::sleep(Duration::from_millis(50));
    let before = engine.condition();
    recorder.set(Trouble::Unreadable);
    // About a decision in the file, of a user whose model is packed: refused, and nothing changes.
    for answer in &unanswered[..7] {
        let refused = engine.feedback(&done(&answer.decision_id, Some("now"), 0)).map(|_| ());
        assert_eq!(refused.unwrap_err().status(), 503);
    }
    assert_eq!(engine.condition().journal.last, before.journal.last);
    assert_eq!(engine.decision(&unanswered[0].decision_id).unwrap_err().status(), 503);
    // The windows end. Decisions go on, what is due waits, and whoever needs it hears so.
    clock.advance(Duration::from_secs(61));
    for i in 200..203 {
        assert_eq!(decide(i).probs.len(), 10);
    }
    let meanwhile = engine.condition();
    assert_eq!((meanwhile.owed, meanwhile.updates), (20, before.updates));
    assert_eq!((meanwhile.counts.expired, meanwhile.counts.defaults), (20, 0));
    for refused in [
        engine.tick(),
        engine.snapshot().map(|_| ()),
        engine.fingerprint().map(|_| ()),
        engine.reset("user-1"),
        engine.forget("user-2"),
    ] {
        assert_eq!(refused.unwrap_err().status(), 503);
    }
    // A start would rather not start than forget.
    drop(engine);
    assert!(Engine::open(dir.path(), settings.clone()).is_err());
    recorder.set(Trouble::None);
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    assert_eq!((engine.condition().owed, engine.condition().counts.defaults), (0, 20));
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let replay = inspect::inspect(dir.path(), None).unwrap().replay.unwrap();
    assert_eq!(replay.digest, live);
}

/// The same without a restart: the server catches up by itself, at the next tick or feedback.
#[test]
fn what_could_not_be_read_is_learned_once_it_can() {
    for by_tick in [true, false] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(1_700_000_000_000));
        let recorder = Arc::new(Recorder::default());
        let mut settings = settings("lin-ts+per-user");
        settings.disk = Arc::new(Recording(Arc::clone(&recorder)));
        settings.clock = clock.clone();
        settings.snapshot_every = 0;
        settings.hot_users = 2;
        (settings.rules.wait_ms, settings.rules.default_reward) = (60_000, Some(-0.5));
        let (engine, _) = Engine::open(dir.path(), settings).unwrap();
        fill(&engine, 0, 40);
        let decide = |i| Request::new(i, 7).ask(None, |ask| engine.decide(ask)).unwrap();
        (100..120).for_each(|i| drop(decide(i)));
        engine.flush().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        recorder.set(Trouble::Unreadable);
        clock.advance(Duration::from_secs(61));
        let asked = decide(200);
        assert_eq!(engine.condition().owed, 20);
        recorder.set(Trouble::None);
        match by_tick {
            true => engine.tick().unwrap(),
            false => {
                let told = engine.feedback(&done(&asked.decision_id, Some("after"), 0)).unwrap();
                assert_eq!(told.wait().unwrap().status, Status::Learned);
            }
        }
        let condition = engine.condition();
        assert_eq!((condition.owed, condition.counts.defaults), (0, 20));
        engine.reset("user-1").unwrap();
        let live = engine.fingerprint().unwrap();
        drop(engine);
        let replay = inspect::inspect(dir.path(), None).unwrap().replay.unwrap();
        assert_eq!(replay.digest, live);
    }
}

/// Whatever a payload holds, the reader says so and goes on: 100,000 damaged ones that their checksum would let pass.
#[test]
fn no_payload_makes_the_reader_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(dir.path(), small()).unwrap();
    fill(&engine, 0, 5);
    engine.reset("user-1").unwrap();
    engine.forget("user-2").unwrap();
    drop(engine);
    let segments = Segments::new(&dir.path().join("journal"));
    let (mut understood, mut refused) = (0, 0);
    segments
        .scan(1, |r| {
            for i in 0..100_000 / 14 {
                let mut draws = Key::root(r.seq).fold(i).draws();
                let mut payload = r.payload.to_vec();
                for _ in 0..draws.below(4) {
                    let at = draws.below(payload.len().max(1));
                    if let Some(byte) = payload.get_mut(at) {
                        *byte = draws.below(256) as u8;
                    }
                }
                payload.truncate(payload.len() - draws.below(3).min(payload.len()));
                let (kind, version) = (draws.below(10) as u8, 1 + draws.below(20) as u8 / 19);
                let kind = if draws.below(4) == 0 { kind } else { r.kind };
                let damaged = oo_serve::journal::Record {
                    kind,
                    version,
                    payload: &payload,
                    ..r
                };
                match oo_serve::engine::event::Event::decode(&damaged) {
                    Ok(_) => understood += 1,
                    Err(why) => {
                        assert!(why.contains(&format!("record {}", r.seq)), "{why}");
                        refused += 1;
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(understood > 10_000 && refused > 10_000, "{understood} {refused}");
}
