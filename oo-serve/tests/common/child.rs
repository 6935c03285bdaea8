//! An engine in a process of its own, so that it can be killed: the test binary runs itself again with `OO_CHILD` set, and
//! talks to that process over a socket, a line a request.

use super::{Request, done, settings};
use oo_core::Key;
use oo_serve::engine::{Artefact, Status};
use oo_serve::{Engine, inspect};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const USERS: u64 = 50;

/// To be called by a test named `child` in every file that uses this: serves when it is the child.
pub fn serve_if_child() {
    let Some(dir) = std::env::var_os("OO_CHILD") else {
        return;
    };
    let dir = PathBuf::from(dir);
    let mut settings = settings(&std::env::var("OO_POLICY").unwrap_or("lin-ucb".into()));
    // Small, so that every run meets every kind of write.
    settings.segment_bytes = 256 * 1024;
    settings.snapshot_every = 2_000;
    settings.hot_users = 8;
    if let Some(bytes) = std::env::var_os("OO_SEGMENT") {
        settings.segment_bytes = bytes.to_str().unwrap().parse().unwrap();
    }
    if std::env::var_os("OO_SHORT").is_some() {
        // Nothing is kept longer than compaction needs.
        settings.retention = Some(Duration::ZERO);
        (settings.rules.wait_ms, settings.rules.remember_ms) = (1, 1);
    }
    let (engine, recovery) = Engine::open(&dir, settings).unwrap();
    if !recovery.losses.is_empty() {
        eprintln!("recovered: {recovery:?}");
    }
    let engine = Arc::new(engine);
    let socket = dir.join("socket");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn({
        let engine = Arc::clone(&engine);
        move || {
            loop {
                std::thread::sleep(Duration::from_millis(20));
                let _ = engine.tick();
            }
        }
    });
    for stream in listener.incoming() {
        let (engine, stream) = (Arc::clone(&engine), stream.unwrap());
        std::thread::spawn(move || serve(&engine, stream));
    }
}

fn serve(engine: &Engine, mut stream: UnixStream) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["d", id, i] => Request::new(i.parse().unwrap(), USERS)
                .ask(Some(id), |ask| engine.decide(ask))
                .map(|a| a.chosen.to_string()),
            ["f", id, decision, dwell] => engine
                .feedback(&done(decision, Some(id), dwell.parse().unwrap()))
                .and_then(|p| p.wait())
                .map(|r| format!("{:?} {}", r.status, r.reward)),
            ["snapshot"] => engine.snapshot().map(|seq| seq.to_string()),
            ["forget", user] => engine.forget(user).map(|()| "done".into()),
            ["swap", spec] => Artefact::blank(spec)
                .and_then(|next| engine.swap(&next))
                .map(|n| n.to_string()),
            ["again"] => engine
                .in_charge()
                .and_then(|next| engine.swap(&next))
                .map(|n| n.to_string()),
            ["back"] => engine.roll_back().map(|n| n.to_string()),
            ["policy"] => {
                let condition = engine.condition();
                Ok(format!("{} {}", condition.policy, condition.updates))
            }
            ["compact"] => engine.compact().map(|c| format!("{c:?}")),
            ["fingerprint"] => engine.flush().and_then(|()| engine.fingerprint()),
            _ => Ok(format!("unknown: {line}")),
        };
        let text = match answer {
            Ok(text) => format!("ok {text}\n"),
            Err(e) => format!("no {} {e}\n", e.status()),
        };
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// Starts the child; it may die at once when a fail point says so.
pub fn spawn(dir: &Path, failpoint: Option<&str>, policy: &str) -> Child {
    command(dir, failpoint, policy).spawn().unwrap()
}

/// A model a user, and files that hold few records; `short`: old ones go with every compaction.
pub fn spawn_small(dir: &Path, failpoint: Option<&str>, short: bool) -> Child {
    let mut command = command(dir, failpoint, "lin-ts+per-user");
    command.env("OO_SEGMENT", "30000");
    if short {
        command.env("OO_SHORT", "1");
    }
    command.spawn().unwrap()
}

fn command(dir: &Path, failpoint: Option<&str>, policy: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", "--exact", "--nocapture", "--test-threads=1"]);
    command
        .env("OO_CHILD", dir)
        .env("OO_POLICY", policy)
        .stdout(Stdio::null());
    match failpoint {
        Some(text) => command.env("OO_FAILPOINT", text),
        None => command.env_remove("OO_FAILPOINT"),
    };
    command
}

/// A line to the child and its answer; `None` when it is not there (any more).
pub struct Line(BufReader<UnixStream>);

impl Line {
    pub fn open(dir: &Path) -> Option<Line> {
        let stream = UnixStream::connect(dir.join("socket")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        Some(Line(BufReader::new(stream)))
    }

    pub fn ask(&mut self, request: &str) -> Option<String> {
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        self.0.read_line(&mut answer).ok()?;
        answer.ends_with('\n').then(|| answer.trim_end().to_string())
    }
}

/// Waits for the child to listen; false when it died before.
pub fn ready(dir: &Path, child: &mut Child) -> bool {
    let begun = Instant::now();
    loop {
        if let Some(mut line) = Line::open(dir)
            && line.ask("hello").is_some()
        {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the child does not start");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Clients that decide and give feedback until told to stop, through any number of deaths of the server: what was not
/// acknowledged is sent again with the same ids.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub acked: Arc<AtomicU64>,
    clients: Vec<std::thread::JoinHandle<Vec<(String, f64)>>>,
}

impl Load {
    pub fn start(dir: &Path, clients: u64, run: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicU64::new(0));
        let client = |c: u64| {
            let (dir, stop, acked) = (dir.to_path_buf(), Arc::clone(&stop), Arc::clone(&acked));
            std::thread::spawn(move || client(&dir, run << 16 | c, &stop, &acked))
        };
        let clients = (0..clients).map(client).collect();
        Load { stop, acked, clients }
    }

    /// Everything that was acknowledged: feedback id and reward.
    pub fn finish(self) -> Vec<(String, f64)> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().flat_map(|c| c.join().unwrap()).collect()
    }
}

fn client(dir: &Path, c: u64, stop: &AtomicBool, acked: &AtomicU64) -> Vec<(String, f64)> {
    let mut line: Option<Line> = None;
    let mut got = Vec::new();
    for n in 0u64.. {
        let dwell = Key::root(c).fold(n).bits() % 700_000;
        let requests = [
            format!("d d{c}-{n} {}", c * 31 + n),
            format!("f f{c}-{n} d{c}-{n} {dwell}"),
        ];
        let mut step = 0;
        while step < 2 {
            if stop.load(Ordering::Relaxed) {
                return got;
            }
            if line.is_none() {
                line = Line::open(dir);
            }
            let answer = line.as_mut().and_then(|l| l.ask(&requests[step]));
            match answer.as_deref().map(|a| a.split(' ').collect::<Vec<_>>()) {
                Some(words) if words[0] == "ok" && step == 0 => step = 1,
                Some(words) if words[0] == "ok" => {
                    assert_eq!(words[1], "Learned", "{}", requests[1]);
                    got.push((format!("f{c}-{n}"), words[2].parse().unwrap()));
                    acked.fetch_add(1, Ordering::Relaxed);
                    step = 2;
                }
                // The decision was still in memory when the server died.
                Some(words) if words[..2] == ["no", "404"] => step = 0,
                Some(words) if words[..2] == ["no", "503"] => std::thread::sleep(Duration::from_millis(20)),
                Some(words) => panic!("{}: {words:?}", requests[step]),
                None => {
                    line = None;
                    std::thread::sleep(Duration::from_millis(3));
                }
            }
        }
    }
    got
}

/// What the folder says against what the clients were told. `live` is the digest that the running engine gave.
pub fn check(dir: &Path, acked: &[(String, f64)], live: &str) {
    let report = inspect::inspect(dir, None).unwrap();
    let mut found: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    for (id, status, reward) in inspect::feedbacks(dir).unwrap() {
        assert_eq!(status, Status::Learned, "{id}");
        let entry = found.entry(id).or_insert((0, reward));
        entry.0 += 1;
    }
    let lost = acked
        .iter()
        .filter(|(id, reward)| found.get(id).is_none_or(|(_, r)| r != reward));
    assert_eq!(lost.count(), 0, "acknowledged and lost");
    assert_eq!(found.values().filter(|(n, _)| *n != 1).count(), 0, "applied twice");
    assert!(report.defects.is_empty(), "{:?}", report.defects);
    let replay = report.replay.as_ref().expect("the journal can be replayed");
    assert_eq!((replay.from, replay.updates), (0, report.learned));
    assert_eq!(replay.digest, live, "the live state is not what a replay gives");
    for s in &report.snapshots {
        assert_eq!(
            (s.defect.as_ref(), s.equals_replay),
            (None, Some(true)),
            "snapshot {}",
            s.seq
        );
    }
}
