//! Compactions that something else happens to: changes meanwhile, a disk that fails in the middle.

use crate::common::{Request, done};
use crate::timed::{SECOND, START, decide, give, timed};
use oo_serve::engine::clock::ManualClock;
use oo_serve::engine::{Artefact, Compaction};
use oo_serve::journal::Segments;
use oo_serve::journal::disk::{Disk, RealDisk, Sink};
use oo_serve::{Engine, Settings, inspect};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

type Call = Box<dyn FnMut() -> io::Result<()> + Send>;

/// A disk that calls somebody when a file of the journal is about to be replaced, as a compaction does.
#[derive(Default)]
struct Watched(Mutex<Option<Call>>);

impl Watched {
    fn set(&self, call: impl FnMut() -> io::Result<()> + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(call));
    }
}

impl Disk for Watched {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        RealDisk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        RealDisk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.parent().is_some_and(|folder| folder.ends_with("journal"))
            && let Some(call) = &mut *self.0.lock().unwrap()
        {
            call()?;
        }
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
}

/// Compacts, and does something else before the first file is replaced; the compaction waits for that.
fn meanwhile(engine: &Engine, disk: &Watched, act: impl FnOnce()) -> Compaction {
    let ((reached, waits), (go, halted)) = (mpsc::channel(), mpsc::channel::<()>());
    disk.set(move || {
        let _ = reached.send(());
        // Ends when it is told to, or when whoever would tell is gone; at once from the second time on.
        let _ = halted.recv();
        Ok(())
    });
    std::thread::scope(move |scope| {
        let compaction = scope.spawn(|| engine.compact());
        waits.recv_timeout(Duration::from_secs(20)).unwrap();
        act();
        drop(go);
        compaction.join().unwrap().unwrap()
    })
}

fn watched(policy: Artefact, clock: &Arc<ManualClock>) -> (Arc<Watched>, Settings) {
    let disk = Arc::new(Watched::default());
    let mut settings = timed(clock);
    settings.policy = policy;
    settings.disk = disk.clone();
    (disk, settings)
}

fn teach(engine: &Engine, rounds: std::ops::Range<u64>) {
    rounds.for_each(|i| drop(give(engine, &decide(engine, i, None), &format!("f{i}"))));
}

/// The state comes back as it was, and is what its files say.
fn comes_back(dir: &Path, engine: Engine, settings: &Settings) -> Engine {
    engine.flush().unwrap();
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let report = inspect::inspect(dir, None).unwrap();
    assert!(report.defects.is_empty(), "{report:?}");
    assert_eq!(report.replay.map(|r| r.digest), Some(live.clone()));
    assert!(report.snapshots.iter().all(|s| s.equals_replay != Some(false)));
    let (engine, recovery) = Engine::open(dir, settings.clone()).unwrap();
    assert_eq!((engine.fingerprint().unwrap(), recovery.losses), (live, vec![]));
    engine
}

#[test]
fn nobody_waits_while_files_are_written_again() {
    // Of what was put in charge meanwhile: left at once, and kept.
    for leaves in [true, false] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
        let (disk, settings) = watched(Artefact::blank("lin-ts+per-user").unwrap(), &clock);
        let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
        teach(&engine, 0..40);
        let [first, second] = [7, 8].map(|i| Request::new(i, 10).user);
        engine.forget(&first).unwrap();
        // Who comes back is known again, and that stays.
        give(&engine, &decide(&engine, 47, None), "again");
        let taught = engine.in_charge().unwrap();
        let compaction = meanwhile(&engine, &disk, || {
            // What would wait for the compaction would wait for ever.
            engine.forget(&second).unwrap();
            engine.swap(&taught).unwrap();
            if leaves {
                engine.swap(&Artefact::blank("uniform").unwrap()).unwrap();
            }
            engine.add_shadow("beside", &taught).unwrap();
            engine.snapshot().unwrap();
            teach(&engine, 48..49);
        });
        assert_eq!(compaction.rewritten, 1);
        let engine = comes_back(dir.path(), engine, &settings);
        // Whoever was forgotten since goes the next time.
        assert!(engine.owes_blanks());
        assert!(engine.compact().unwrap().blanked > 0 && !engine.owes_blanks());
        comes_back(dir.path(), engine, &settings);
    }
}

/// Its record may have been dropped for its age: the snapshot alone says who was in charge.
#[test]
fn a_policy_that_leaves_meanwhile_is_there_for_the_next_start() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let taught = {
        let (dir, settings) = (
            tempfile::tempdir().unwrap(),
            watched(Artefact::blank("lin-ts").unwrap(), &clock).1,
        );
        let (engine, _) = Engine::open(dir.path(), settings).unwrap();
        teach(&engine, 0..20);
        engine.in_charge().unwrap()
    };
    let (disk, mut settings) = watched(taught, &clock);
    settings.segment_bytes = 20_000;
    settings.retention = Some(Duration::from_secs(7 * 86_400));
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    for i in 0..100 {
        teach(&engine, i..i + 1);
        clock.advance(6 * 3600 * SECOND);
    }
    assert!(engine.compact().unwrap().dropped >= 3);
    engine.forget(&Request::new(7, 10).user).unwrap();
    meanwhile(&engine, &disk, || {
        engine.swap(&Artefact::blank("uniform").unwrap()).unwrap();
    });
    engine.flush().unwrap();
    let live = engine.fingerprint().unwrap();
    drop(engine);
    let (engine, recovery) = Engine::open(dir.path(), settings).unwrap();
    assert_eq!((engine.fingerprint().unwrap(), recovery.losses), (live, vec![]));
}

/// A compaction takes the forgotten out of files; so what comes from outside before it comes without them.
#[test]
fn nobody_returns_with_a_policy_from_outside() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let (_, settings) = watched(Artefact::blank("lin-ts+per-user").unwrap(), &clock);
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    teach(&engine, 0..40);
    let [user, other] = [7, 8].map(|i| Request::new(i, 10).user);
    let outside = engine.in_charge().unwrap();
    engine.forget(&user).unwrap();
    engine.swap(&outside).unwrap();
    engine.add_shadow("beside", &outside).unwrap();
    engine.compact().unwrap();
    engine.snapshot().unwrap();
    let number = oo_serve::engine::ask::identity(&user).to_string();
    let shadow = engine.shadow("beside", Duration::from_secs(20)).unwrap();
    for state in [engine.in_charge().unwrap(), shadow].map(|artefact| artefact.state.unwrap()) {
        let holds = |text: &str| state.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(!holds(&number));
        assert!(holds(&oo_serve::engine::ask::identity(&other).to_string()));
    }
    comes_back(dir.path(), engine, &settings);
}

/// True where a file of the journal holds this text.
fn holds(dir: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(dir.join("journal")).unwrap().flatten();
    let mut all = files.map(|file| std::fs::read(file.path()).unwrap());
    all.any(|bytes| bytes.windows(text.len()).any(|w| w == text.as_bytes()))
}

/// Feedback that names nobody is known by its decision, which may lie in a file that is done by then.
#[test]
fn a_disk_that_fails_in_the_middle_keeps_nothing_of_the_forgotten() {
    for fails_at in 1..=3 {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
        let (disk, mut settings) = watched(Artefact::blank("lin-ucb").unwrap(), &clock);
        settings.segment_bytes = 20_000;
        let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
        let decision = decide(&engine, 7, None);
        // Made here, and so long after it that its id is not known.
        clock.advance(Duration::from_secs(49 * 3600));
        teach(&engine, 20..80);
        let late = engine.feedback(&done(&decision, Some("late-and-unowned"), 0)).unwrap();
        late.wait().unwrap();
        teach(&engine, 80..140);
        engine.forget(&Request::new(7, 10).user).unwrap();
        let mut renames = 0;
        disk.set(move || {
            renames += 1;
            match renames == fails_at {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        });
        assert!(engine.compact().is_err() && engine.owes_blanks());
        engine.compact().unwrap();
        assert!(
            !engine.owes_blanks() && !holds(dir.path(), "late-and-unowned"),
            "{fails_at}"
        );
        assert!(!holds(dir.path(), &Request::new(7, 10).user));
        comes_back(dir.path(), engine, &settings);
    }
}

/// A file that a snapshot covers is damaged: nothing tells whose those bytes were, so they go with the forgotten, and what is
/// sound behind them stays.
#[test]
fn what_is_sound_behind_damage_stays() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let mut settings = timed(&clock);
    settings.segment_bytes = 20_000;
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    teach(&engine, 0..100);
    engine.snapshot().unwrap();
    drop(engine);
    let gone = Request::new(7, 10).user;
    let segments = Segments::new(&dir.path().join("journal"));
    let records = || {
        let mut found = Vec::new();
        let all = segments.scan_all(1, |r| {
            let theirs = r.payload.windows(gone.len()).any(|w| w == gone.as_bytes());
            found.push((r.seq, r.at.offset as usize, r.size(), theirs));
            Ok(())
        });
        (all.unwrap(), found)
    };
    let (end, before) = records();
    let theirs = before.iter().filter(|r| r.3);
    assert!(end.defect.is_none() && theirs.clone().count() > 1);
    let damaged = *theirs.clone().next().unwrap();
    let mut bytes = std::fs::read(segments.path(1)).unwrap();
    bytes[damaged.1] ^= 1;
    std::fs::write(segments.path(1), &bytes).unwrap();
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    engine.forget(&gone).unwrap();
    engine.compact().unwrap();
    assert!(!engine.owes_blanks() && !holds(dir.path(), &gone));
    let (end, after) = records();
    assert!(end.defect.is_some() && after.iter().all(|r| !r.3));
    let others = before.iter().filter(|r| r.0 != damaged.0);
    assert!(others.map(|r| &r.0).eq(after.iter().map(|r| &r.0)));
    let bytes = std::fs::read(segments.path(1)).unwrap();
    assert!(bytes[damaged.1..][..damaged.2].iter().all(|b| *b == 0));
    // Nothing is left to be taken out of it for the next who goes.
    let written = || std::fs::metadata(segments.path(1)).unwrap().modified().unwrap();
    let before = written();
    engine.forget("somebody else").unwrap();
    engine.compact().unwrap();
    assert!(!engine.owes_blanks() && written() == before);
    let known = engine.fingerprint().unwrap();
    drop(engine);
    // Nothing in it says how old it is.
    let len = std::fs::metadata(segments.path(2)).unwrap().len() as usize;
    std::fs::write(segments.path(2), vec![0xff; len]).unwrap();
    settings.retention = Some(Duration::from_secs(60 * 3600));
    let (engine, _) = Engine::open(dir.path(), settings).unwrap();
    assert_eq!(engine.fingerprint().unwrap(), known);
    // It grows old as other files do.
    for (hours, there) in [(59, true), (2, false)] {
        clock.advance(Duration::from_secs(hours * 3600));
        engine.tick().unwrap();
        engine.compact().unwrap();
        assert_eq!([1, 2].map(|s| segments.path(s).exists()), [there; 2]);
    }
}

/// What is still to be learned when its window ends is not dropped for its age, though windows are shorter now.
#[test]
fn a_decision_that_is_open_is_not_too_old() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(START));
    let day = 24 * 3600 * SECOND;
    let mut settings = timed(&clock);
    settings.segment_bytes = 20_000;
    settings.rules.wait_ms = 7 * 24 * 3600 * 1000;
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    decide(&engine, 0, None);
    drop(engine);
    settings.rules.wait_ms = 1000;
    settings.retention = Some(day);
    let (engine, _) = Engine::open(dir.path(), settings.clone()).unwrap();
    teach(&engine, 0..100);
    clock.advance(5 * day);
    assert_eq!(engine.compact().unwrap().dropped, 0);
    let before = engine.condition().updates;
    clock.advance(2 * day);
    engine.tick().unwrap();
    assert_eq!(engine.condition().updates, before + 1);
    let engine = comes_back(dir.path(), engine, &settings);
    assert!(engine.compact().unwrap().dropped > 0);
}
