//! What the engine of oo-serve costs: a decision with its record beyond the policy's own work, in CPU time, and durable
//! feedback at 64 waiters where a flush takes 4 ms.

use cpu_time::{ProcessTime, ThreadTime};
use oo_core::tips::Reaction;
use oo_core::{ActionId, Candidates, Decision, Key, Round, Shape, UserId};
use oo_serve::engine::{Artefact, Given, Target};
use oo_serve::journal::disk::{Disk, RealDisk, Sink};
use oo_serve::{Ask, Engine, Feedback, Settings};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CANDIDATES: usize = 10;
const DIM: usize = 12;

/// The file system, with a flush that takes four milliseconds and does nothing.
struct Slow;
struct SlowSink(Box<dyn Sink>);

impl Disk for Slow {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(SlowSink(RealDisk.create(path)?)))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(SlowSink(RealDisk.open(path)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
}

impl Sink for SlowSink {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(4));
        Ok(())
    }
}

fn settings(policy: &str) -> Settings {
    let shape = Shape {
        context: vec!["bias".into()],
        candidate: (0..DIM).map(|i| format!("f{i}")).collect(),
        actions: None,
    };
    let mut settings = Settings::new(Artefact::blank(policy).expect("a valid spec"), shape);
    settings.disk = Arc::new(Slow);
    settings
}

fn main() {
    let names: Vec<String> = (0..CANDIDATES).map(|i| format!("tip-{i}")).collect();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut draws = Key::root(1).draws();
    let features: Vec<f32> = (0..CANDIDATES * DIM).map(|_| draws.uniform() as f32).collect();
    let ask = |user| Ask {
        user,
        context: &[1.0],
        ids: &ids,
        features: &features,
        ..Ask::default()
    };
    let users: Vec<String> = (0..1000).map(|u| format!("user-{u}")).collect();
    println!(
        "decision with its record, {CANDIDATES} candidates × {DIM} features, CPU µs (the thread's, and the process's)"
    );
    for policy in ["uniform", "lin-ucb", "lin-ts", "lin-ucb+per-user", "hierarchical"] {
        let dir = tempfile::tempdir().expect("a folder");
        let (engine, _) = Engine::open(dir.path(), settings(policy)).expect("an engine");
        let n = 50_000;
        let mut best = [f64::INFINITY; 2];
        for _ in 0..3 {
            let (thread, process) = (ThreadTime::now(), ProcessTime::now());
            for i in 0..n {
                engine.decide(&ask(&users[i % users.len()])).expect("a decision");
            }
            let per = |t: Duration| t.as_secs_f64() * 1e6 / n as f64;
            best = [best[0].min(per(thread.elapsed())), best[1].min(per(process.elapsed()))];
        }
        let alone = alone(policy, &features);
        println!(
            "{policy:<20} {:>6.2} {:>6.2}   the policy alone {alone:>6.2}",
            best[0], best[1]
        );
    }
    println!("durable feedback at 64 waiters, a flush takes 4 ms");
    for policy in ["lin-ucb", "lin-ucb+per-user"] {
        let dir = tempfile::tempdir().expect("a folder");
        let (engine, _) = Engine::open(dir.path(), settings(policy)).expect("an engine");
        let (each, begun, cpu) = (500, Instant::now(), ProcessTime::now());
        std::thread::scope(|scope| {
            for w in 0..64 {
                let (engine, ask, users) = (&engine, &ask, &users);
                scope.spawn(move || {
                    for i in 0..each {
                        let id = engine.decide(&ask(&users[w])).expect("a decision").decision_id;
                        let feedback = Feedback {
                            target: Target::Decision(id),
                            feedback_id: Some(format!("{w}-{i}")),
                            given: Given::reaction(Reaction::Done),
                            client_time: None,
                            early: false,
                        };
                        engine.feedback(&feedback).and_then(|p| p.wait()).expect("a receipt");
                    }
                });
            }
        });
        let (n, seconds) = (64 * each, begun.elapsed().as_secs_f64());
        let cpu = cpu.elapsed().as_secs_f64() * 1e6 / f64::from(n);
        let flushes = engine.condition().journal.flushes;
        println!(
            "{policy:<20} {:>8.0} a second, {cpu:.1} µs of CPU with its decision, {flushes} flushes",
            f64::from(n) / seconds
        );
    }
}

/// CPU µs of the policy's own proposal.
fn alone(policy: &str, features: &[f32]) -> f64 {
    let settings = settings(policy);
    let policy = oo_policies::build(&settings.policy.spec, &settings.shape).expect("a policy");
    let ids: Vec<ActionId> = (0..CANDIDATES as u64).map(ActionId).collect();
    let mut decision = Decision::new();
    let n = 20_000;
    let seconds = oo_benches::seconds(|| {
        for i in 0..n {
            let round = Round {
                index: i,
                user: UserId(i % 1000),
                context: &[1.0],
                candidates: Candidates {
                    ids: &ids,
                    features,
                    dim: DIM,
                },
            };
            policy.decide(&round, Key::root(i), &mut decision).expect("a decision");
        }
    });
    seconds * 1e6 / n as f64
}
