//! Spans of requests, as a collector on loopback receives them.

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_without_it_says_so() {
    let output = crate::client::command()
        .args(["--otlp", "http://127.0.0.1:4318"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(text.contains("--features otlp"), "{text}");
}

#[cfg(feature = "otlp")]
mod with {
    use crate::client::Server;
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    /// A protobuf message: its fields by number, in order; numbers as their bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let n = match key & 7 {
                0 => {
                    found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, bytes[..n].to_vec()));
            bytes = &bytes[n..];
        }
        found
    }

    fn all(bytes: &[u8], number: u64) -> Vec<Vec<u8>> {
        let hits = fields(bytes).into_iter().filter(|(n, _)| *n == number);
        hits.map(|(_, value)| value).collect()
    }

    fn one(bytes: &[u8], number: u64) -> Vec<u8> {
        all(bytes, number).into_iter().next().unwrap_or_default()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Attributes (`KeyValue`: key 1, value 2; `AnyValue`: text 1, whole number 3).
    fn attributes(all: Vec<Vec<u8>>) -> BTreeMap<String, String> {
        let value = |any: &[u8]| match fields(any).remove(0) {
            (1, value) => text(&value),
            (3, value) => u64::from_le_bytes(value.try_into().unwrap()).to_string(),
            other => panic!("{other:?}"),
        };
        all.iter().map(|a| (text(&one(a, 1)), value(&one(a, 2)))).collect()
    }

    #[derive(Debug)]
    struct Span {
        trace: String,
        id: Vec<u8>,
        parent: String,
        name: String,
        kind: u64,
        nanos: [u64; 2],
        attributes: BTreeMap<String, String>,
        service: String,
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// ExportTraceServiceRequest → ResourceSpans 1 → resource 1, ScopeSpans 2 → Span 2.
    fn spans(body: &[u8]) -> Vec<Span> {
        let number = |bytes: Vec<u8>| u64::from_le_bytes(bytes.try_into().unwrap());
        let mut found = Vec::new();
        for resource in all(body, 1) {
            let service = attributes(all(&one(&resource, 1), 1))["service.name"].clone();
            for span in all(&resource, 2).iter().flat_map(|scope| all(scope, 2)) {
                found.push(Span {
                    trace: hex(&one(&span, 1)),
                    id: one(&span, 2),
                    parent: hex(&one(&span, 4)),
                    name: text(&one(&span, 5)),
                    kind: number(one(&span, 6)),
                    nanos: [number(one(&span, 7)), number(one(&span, 8))],
                    attributes: attributes(all(&span, 9)),
                    service: service.clone(),
                });
            }
        }
        found
    }

    /// A collector: head and body of every request that it takes.
    fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (send, receive) = channel();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let send = send.clone();
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    loop {
                        let mut head = String::new();
                        while !head.ends_with("\r\n\r\n") {
                            if stream.read_line(&mut head).unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        let head = head.to_lowercase();
                        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
                        let mut body = vec![0; length.parse().unwrap()];
                        stream.read_exact(&mut body).unwrap();
                        stream
                            .get_mut()
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                            .unwrap();
                        send.send((head, body)).unwrap();
                    }
                });
            }
        });
        (address, receive)
    }

    #[test]
    fn a_collector_hears_of_requests() {
        let (address, heard) = collector();
        let mut server = Server::start(&["--otlp", &address]);
        let traced =
            |flags: &str| format!("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}\r\n");
        let body = r#"{"user_id":"anna@example","candidates":[{"id":"a"},{"id":"b"}]}"#;
        let mut client = server.connect();
        assert_eq!(
            client.ask("POST", "/recommend", &traced("01"), body).unwrap().status,
            200
        );
        // Not recorded by its caller, so not told.
        assert_eq!(client.ask("POST", "/score", &traced("00"), body).unwrap().status, 200);
        let refused = server.get("/stats/nobody@example");
        assert_eq!(refused.status, 404);
        server.signal("-TERM");
        assert_eq!(server.wait().0, Some(0));
        let mut found = Vec::new();
        while let Ok((head, body)) = heard.recv_timeout(Duration::from_millis(200)) {
            assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
            assert!(head.contains("content-type: application/x-protobuf"), "{head}");
            assert!(!body.windows(8).any(|w| w == b"@example"), "users stay at home");
            found.extend(spans(&body));
        }
        assert_eq!(found.len(), 2, "{found:?}");
        let of = |name: &str| found.iter().find(|s| s.name == name).unwrap();
        let decided = of("POST recommend");
        assert_eq!(decided.trace, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((decided.parent.as_str(), decided.kind), ("00f067aa0ba902b7", 2));
        assert_eq!((decided.id.len(), decided.service.as_str()), (8, "oo-serve"));
        assert!(decided.nanos[0] < decided.nanos[1] && decided.nanos[1] - decided.nanos[0] < 30_000_000_000);
        assert_eq!(decided.attributes["http.response.status_code"], "200");
        assert_eq!(decided.attributes["http.request.method"], "POST");
        let unknown = of("GET stats");
        assert_eq!(
            (
                unknown.parent.as_str(),
                unknown.attributes["http.response.status_code"].as_str()
            ),
            ("", "404")
        );
        // The problem document names the same trace.
        assert_eq!(refused.json()["instance"], format!("urn:trace:{}", unknown.trace));
    }

    /// A collector that is not there costs nobody anything.
    #[test]
    fn no_collector_no_matter() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut server = Server::start(&["--otlp", &format!("http://{gone}")]);
        for _ in 0..50 {
            assert_eq!(server.get("/livez").status, 200);
        }
        server.signal("-TERM");
        let (code, took) = server.wait();
        assert_eq!(code, Some(0));
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}
