//! What a fuzzer calls: the real routes without a socket, and the real journal reader, on bytes from anywhere. The
//! targets are in `fuzz/`; the tests below run the same functions on a few bytes of each kind.

use crate::config::Limits;
use crate::engine::{Artefact, Durability, Engine, Settings, event::Event};
use crate::http::{App, auth::Keys, problem::Problem, router};
use crate::journal::{Location, Record, Segments, record};
use crate::rollout::Rollout;
use crate::{Error, Result, inspect};
use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use oo_core::features;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Runtime;
use tower_service::Service;

/// A server without a socket.
pub struct Routes {
    app: Arc<App>,
    router: Router,
    runtime: Runtime,
}

fn settings() -> Result<Settings> {
    let mut settings = Settings::new(Artefact::blank("lin-ts{draws=4,features=v1}")?, features::shape());
    // Nothing here waits for a disk, and a machine that is busy is no reason for the uniform draw.
    settings.durability = Durability::Process;
    settings.policy_timeout = Duration::from_secs(3600);
    Ok(settings)
}

impl Routes {
    /// A fresh server in a folder, with one decision named `known`.
    ///
    /// # Errors
    /// A folder that cannot be used.
    pub fn open(dir: &Path) -> Result<Routes> {
        let engine = Arc::new(Engine::open(dir, settings()?)?.0);
        let listen = crate::config::LISTEN;
        let limits = Limits {
            connections: 1,
            concurrency: 1,
            candidates: 1000,
            body: 1 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
        };
        let start = |e: Problem| Error::invalid("server", "one that starts", e.detail);
        let rollout = Rollout::open(Arc::clone(&engine), &[], None, None).map_err(start)?;
        let mode = crate::config::Mode::Serve;
        let app = Arc::new(App::new(
            engine,
            None,
            Keys::default(),
            limits,
            mode,
            None,
            rollout,
            listen,
        ));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let routes = Routes {
            router: router(app.clone()),
            runtime: runtime.map_err(Error::io("start a runtime for", dir))?,
            app,
        };
        let known = br#"{"user_id":"u","decision_id":"known","candidates":[{"id":"a"},{"id":"b"}]}"#;
        assert_eq!(routes.post("/recommend", known), 200, "the first decision");
        Ok(routes)
    }

    /// Posts a body; returns the status of the answer.
    ///
    /// # Panics
    /// When a handler panicked: the server would have gone on, a fuzzer must not.
    pub fn post(&self, path: &str, body: &[u8]) -> u16 {
        let mut request = Request::new(Body::from(body.to_vec()));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = path.parse().expect("a path of ours");
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("localhost"));
        let answer = self.runtime.block_on(self.router.clone().call(request));
        let panics = self.app.metrics.panics.load(Ordering::Relaxed);
        assert_eq!(panics, 0, "a handler panicked on {path}");
        answer.map_or(0, |a| a.status().as_u16())
    }

    /// Bytes of the journal so far.
    pub fn written(&self) -> u64 {
        self.app.engine.condition().journal.last
    }
}

/// Bytes as a journal's records: kind, version, length (two bytes) and payload, one after the other. They get the heads
/// and sums that the reader checks first, so that what lies behind those checks is reached.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut out = record::segment_head(1).to_vec();
    let (mut rest, mut seq) = (bytes, 1);
    while let [kind, version, low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let time = 1_700_000_000_000 + seq * 1000;
        record::write(&mut out, seq, time, (*kind, *version), &tail[..length]);
        (rest, seq) = (&tail[length..], seq + 1);
    }
    out
}

/// Reads bytes as a segment in memory, as the journal does; returns how many records it understood.
pub fn read(bytes: &[u8]) -> usize {
    let mut understood = 0;
    let _ = record::read_segment_head(bytes);
    let mut offset = record::SEGMENT_HEAD.min(bytes.len());
    while let record::Found::Record(found) = record::read(&bytes[offset..], place(offset)) {
        offset += found.size();
        understood += usize::from(Event::decode(&found).is_ok());
    }
    // And as if every sum were right.
    let loose = Record {
        at: place(0),
        seq: 1,
        time: 1,
        kind: bytes.first().copied().unwrap_or(0) % 16,
        version: 1,
        payload: bytes.get(1..).unwrap_or_default(),
    };
    understood + usize::from(Event::decode(&loose).is_ok())
}

fn place(offset: usize) -> Location {
    Location {
        segment: 1,
        offset: offset as u32,
    }
}

/// Opens a folder whose only segment has these bytes. Whatever they are: it opens or says why not; once it is open, what
/// it is equals its replay.
///
/// # Panics
/// When it does not.
pub fn folder(dir: &Path, segment: &[u8]) {
    let journal = dir.join("journal");
    for made in [&journal, &dir.join("policies")] {
        std::fs::create_dir_all(made).expect("a folder for the test");
    }
    let segments = Segments::new(&journal);
    std::fs::write(segments.path(1), segment).expect("a file for the test");
    let mut settings = settings().expect("a spec of ours");
    settings.snapshot_every = 0;
    let Ok((engine, _)) = Engine::open(dir, settings) else {
        return;
    };
    engine.flush().expect("the disk takes it");
    let live = engine.fingerprint().expect("it is all in memory");
    drop(engine);
    let report = inspect::inspect(dir, None).expect("what opens can be inspected");
    if let Some(replay) = report.replay {
        assert_eq!(replay.digest, live, "what is live is not what a replay gives");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    #[test]
    fn the_routes_answer_without_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let routes = Routes::open(dir.path()).unwrap();
        for (path, body, status) in [
            ("/recommend", &br#"{"user_id":1,"candidates":[{"id":1}]}"#[..], 200),
            ("/recommend", b"{", 400),
            ("/score", br#"{"user_id":1,"candidates":[{"id":1}]}"#, 200),
            ("/feedback", br#"{"decision_id":"known","reaction":"done"}"#, 200),
            ("/feedback", br#"{"decision_id":"other","reaction":"done"}"#, 404),
            ("/policies", br#"{"action":"shadow","policy":"uniform"}"#, 200),
            ("/policies", br#"{"action":"launch"}"#, 409),
        ] {
            assert_eq!(routes.post(path, body), status, "{path}");
        }
        assert!(routes.written() > 4);
    }

    #[test]
    fn any_bytes_are_a_folder_or_a_reason() {
        let home = tempfile::tempdir().unwrap();
        let routes = Routes::open(home.path()).unwrap();
        routes.post("/feedback", br#"{"decision_id":"known","reaction":"done"}"#);
        drop(routes);
        let sound = std::fs::read(home.path().join("journal/00000001.log")).unwrap();
        assert_eq!(read(&sound), 4);
        // The same records, as the fuzzer would write them.
        let mut loose = Vec::new();
        let mut offset = record::SEGMENT_HEAD;
        while let record::Found::Record(r) = record::read(&sound[offset..], place(offset)) {
            offset += r.size();
            loose.extend([r.kind, r.version]);
            loose.extend((r.payload.len() as u16).to_le_bytes());
            loose.extend(r.payload);
        }
        assert_eq!(read(&framed(&loose)), 4);
        for i in 0..60u64 {
            let mut draws = Key::root(4).fold(i).draws();
            let mut bytes = if i % 2 == 0 { loose.clone() } else { sound.clone() };
            for _ in 0..draws.below(4) {
                let at = draws.below(bytes.len());
                bytes[at] ^= 1 << draws.below(8);
            }
            let segment = if i % 2 == 0 { framed(&bytes) } else { bytes };
            let dir = tempfile::tempdir().unwrap();
            folder(dir.path(), &segment);
        }
    }
}
