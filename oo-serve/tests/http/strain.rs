//! Slow clients, too many, floods, and a stop in the middle of it all.

use crate::client::{Client, Server};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ASK: &str = r#"{"user_id":"u","candidates":[{"id":1,"features":[1,0]},{"id":2,"features":[0,1]}]}"#;
const SMALL: [&str; 4] = ["--candidate", "2", "--policy", "lin-ucb"];

fn with(more: &[&'static str]) -> Vec<&'static str> {
    SMALL.iter().chain(more).copied().collect()
}

/// Waits until the peer closes; true when it does in time.
fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let begun = Instant::now();
    stream.set_read_timeout(Some(within)).unwrap();
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) if begun.elapsed() < within => {}
            Err(e) => return e.kind() == std::io::ErrorKind::ConnectionReset,
            Ok(_) => return false,
        }
    }
}

fn dawdlers(silent: usize, half_head: usize, half_body: usize) {
    let server = Server::start(&with(&["--header-timeout", "3", "--body-timeout", "3"]));
    let open = |sent: &str| {
        let mut stream = TcpStream::connect(server.addr).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        stream
    };
    let begun = Instant::now();
    let mut slow: Vec<TcpStream> = (0..silent).map(|_| open("")).collect();
    slow.extend((0..half_head).map(|_| open("POST /recommend HTTP/1.1\r\nhost: lo")));
    let half =
        "POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{";
    slow.extend((0..half_body).map(|_| open(half)));
    // Meanwhile others are served.
    let mut client = server.connect();
    let (opened, mut served) = (Instant::now(), 0);
    while opened.elapsed() < Duration::from_millis(1500) {
        assert_eq!(client.post("/recommend", ASK).status, 200);
        served += 1;
    }
    for (i, stream) in slow.iter_mut().enumerate() {
        assert!(closes(stream, Duration::from_secs(8)), "dawdler {i} is still there");
    }
    println!(
        "{served} requests served meanwhile; all closed after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    assert!(server.metric("oo_connections_dawdled_total") >= (half_head + half_body) as f64);
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn dawdlers_are_closed_and_others_served() {
    dawdlers(60, 60, 20);
}

#[test]
#[ignore = "opens 2,100 connections"]
fn thousands_of_dawdlers() {
    dawdlers(1000, 1000, 100);
}

#[test]
fn a_body_that_does_not_come_is_told_so() {
    let server = Server::start(&with(&["--body-timeout", "1"]));
    let mut client = server.connect();
    let head =
        "POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{";
    client.stream().write_all(head.as_bytes()).unwrap();
    let reply = client.read().unwrap();
    assert_eq!(
        (reply.status, reply.json()["type"].as_str()),
        (408, Some("urn:oo:problem:timeout"))
    );
}

#[test]
fn excess_is_told_to_come_back_and_the_rest_is_served() {
    // One at a time, each waiting for the disk: of 32 clients most find the place taken.
    let server = Server::start(&with(&["--concurrency", "1"]));
    let (good, shed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for c in 0..32 {
            let (server, good, shed) = (&server, &good, &shed);
            scope.spawn(move || {
                let mut client = server.connect();
                for i in 0..40 {
                    let body = format!(r#"{{"decision_id":"{c}-{i}","reaction":"done","early":true}}"#);
                    let reply = client.post("/feedback", &body);
                    match reply.status {
                        200 => good.fetch_add(1, Ordering::Relaxed),
                        429 => {
                            assert_eq!(reply.header("retry-after"), Some("1"));
                            shed.fetch_add(1, Ordering::Relaxed)
                        }
                        other => panic!("{other}: {}", reply.text()),
                    };
                }
            });
        }
    });
    let (good, shed) = (good.into_inner(), shed.into_inner());
    assert!(good > 0 && shed > 0, "{good} served, {shed} sent away");
    assert_eq!(server.metric("oo_requests_shed_total"), shed as f64);
    // What was accepted is there; what was sent away is not.
    assert_eq!(server.metric("oo_feedbacks_total"), good as f64);
    // Probes have a place of their own.
    assert_eq!(server.get("/readyz").status, 200);
}

fn flood(connections: usize, limit: &'static str) {
    let server = Server::start(&with(&["--connections", limit, "--header-timeout", "30"]));
    let mut open: Vec<TcpStream> = Vec::new();
    let mut turned_away = 0;
    for _ in 0..connections {
        // The queue of the kernel may be full for a moment.
        match TcpStream::connect_timeout(&server.addr, Duration::from_secs(5)) {
            Ok(stream) => open.push(stream),
            Err(_) => turned_away += 1,
        }
        if open.len() > 2 * limit.parse::<usize>().unwrap() {
            open.drain(..1);
        }
    }
    drop(open);
    let begun = Instant::now();
    let works = || {
        Client::connect(server.addr)
            .and_then(|mut c| c.ask("GET", "/livez", "", ""))
            .is_ok_and(|r| r.status == 200)
    };
    while !works() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "nobody is let in after the flood"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let refused = server.metric("oo_connections_refused_total");
    println!("{connections} connections, limit {limit}: {refused} turned away, {turned_away} not even heard");
    assert!(refused > 0.0);
}

#[test]
fn a_flood_of_connections_passes() {
    flood(600, "64");
}

#[test]
#[ignore = "ten thousand connections"]
fn ten_thousand_connections_pass() {
    flood(10_000, "1024");
}

/// Requests from `clients` until the server is gone. Returns how many were answered, and how many broke on a connection
/// that had answered before: such a connection must end with an answer that says so.
fn load_until_the_end(server: &mut Server, clients: usize) -> (u64, u64, Duration) {
    let (answered, broken, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let addr = server.addr;
    let mut took = Duration::ZERO;
    std::thread::scope(|scope| {
        for c in 0..clients {
            let (answered, broken, stop) = (&answered, &broken, &stop);
            scope.spawn(move || {
                'connect: while let Ok(mut client) = Client::connect(addr) {
                    let mut first = true;
                    for i in 0u64.. {
                        let body = format!(r#"{{"decision_id":"{c}-{i}","reaction":"done","early":true}}"#);
                        let (path, body) = if i % 2 == 0 {
                            ("/recommend", ASK)
                        } else {
                            ("/feedback", body.as_str())
                        };
                        match client.ask("POST", path, "", body) {
                            Ok(reply) => {
                                assert_eq!(reply.status, 200, "{}", reply.text());
                                answered.fetch_add(1, Ordering::Relaxed);
                                first = false;
                                if reply.header("connection") == Some("close") {
                                    continue 'connect;
                                }
                            }
                            // Not accepted any more.
                            Err(_) if first && stop.load(Ordering::Acquire) => return,
                            Err(e) => {
                                println!("client {c}, request {i}: {e}");
                                broken.fetch_add(1, Ordering::Relaxed);
                                return;
                            }
                        }
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let mut probe = server.connect();
        assert_eq!(probe.ask("GET", "/readyz", "", "").unwrap().status, 200);
        stop.store(true, Ordering::Release);
        server.signal("-TERM");
        std::thread::sleep(Duration::from_millis(150));
        // Still served, and no longer ready.
        let ready = server.connect().ask("GET", "/readyz", "", "").unwrap();
        assert_eq!((ready.status, ready.header("connection")), (503, Some("close")));
        let (code, time) = server.wait();
        assert_eq!(code, Some(0));
        took = time;
    });
    (answered.into_inner(), broken.into_inner(), took)
}

#[test]
fn a_stop_under_load_answers_what_it_accepted() {
    let mut server = Server::start(&SMALL);
    let (answered, broken, took) = load_until_the_end(&mut server, 8);
    assert!(answered > 0);
    assert_eq!(broken, 0, "of {answered}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
#[ignore = "a hundred stops"]
fn a_hundred_stops_under_load() {
    let mut all = 0;
    for _ in 0..100 {
        let mut server = Server::start(&SMALL);
        let (answered, broken, took) = load_until_the_end(&mut server, 8);
        assert!(
            broken == 0 && took < Duration::from_secs(5),
            "{broken} of {answered}, {took:?}"
        );
        all += answered;
    }
    println!("100 stops, {all} requests answered, none broken");
}

#[test]
#[ignore = "runs for OO_SOAK_SECONDS, two hours by default"]
fn a_long_run_grows_nothing() {
    let seconds = std::env::var("OO_SOAK_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(7200u64);
    let server = Server::start(&with(&["--wait", "60"]));
    let begun = Instant::now();
    let mut samples = Vec::new();
    let mut client = server.connect();
    let mut i = 0u64;
    while begun.elapsed().as_secs() < seconds {
        for _ in 0..200 {
            i += 1;
            let body = ASK.replace("\"u\"", &format!("\"u{}\"", i % 1000));
            let answer = client.post("/recommend", &body).json();
            let id = answer["decision_id"].as_str().unwrap();
            let told = client.post("/feedback", &format!(r#"{{"decision_id":"{id}","reaction":"done"}}"#));
            assert_eq!(told.status, 200);
        }
        let (rss, files) = (
            server.metric("process_resident_memory_bytes"),
            server.metric("process_open_fds"),
        );
        samples.push((begun.elapsed().as_secs_f64() / 3600.0, rss / 1e6, files));
    }
    // The slope by least squares over the last half.
    let half = &samples[samples.len() / 2..];
    let n = half.len() as f64;
    let (mx, my) = (
        half.iter().map(|s| s.0).sum::<f64>() / n,
        half.iter().map(|s| s.1).sum::<f64>() / n,
    );
    let slope = half.iter().map(|s| (s.0 - mx) * (s.1 - my)).sum::<f64>()
        / half.iter().map(|s| (s.0 - mx).powi(2)).sum::<f64>();
    let files = (half[0].2, half[half.len() - 1].2);
    println!("{i} pairs in {seconds} s: memory {my:.1} MB, slope {slope:+.2} MB an hour, files {files:?}");
    assert!((files.0 - files.1).abs() < 8.0);
}
