//! One file over HTTP: resumed where it broke off, tried again after a passing failure.
//!
//! The bytes go into `FILE.part`. `FILE.part.tag` keeps the address and what the server called this version: its
//! strong ETag, or the time of its last change. A resumed download asks for the rest on condition that the version is
//! the same; a server that knows no ranges, or has another version by now, sends the whole, and the file starts anew.
//!
//! RFC 9110, sections 13.1.5 (If-Range) and 14.2 (Range).

use anyhow::{Context, Error, anyhow};
use indicatif::ProgressBar;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{HeaderMap, header};
use ureq::{Agent, Body};

/// Tries in a row that bring nothing new.
const TRIES: u32 = 5;
/// The same where no server answers at all: most often there is no network, and waiting helps nobody.
const TRIES_WITHOUT_ANSWER: u32 = 3;
/// Before the second try; it doubles from try to try.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// No longer than this, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// For a connection, and for each silence while reading.
const PATIENCE: Duration = Duration::from_secs(30);
/// Larger than every original: an endless answer must not fill the disk.
const LARGEST: u64 = 1 << 30;

struct Failure {
    error: Error,
    /// How many of this kind in a row are too many; 1 where another try cannot help.
    tries: u32,
    /// How long the server wants us to wait.
    wait: Duration,
}

fn passing(error: Error) -> Failure {
    Failure {
        error,
        tries: TRIES,
        wait: Duration::ZERO,
    }
}

fn lasting(error: Error) -> Failure {
    Failure {
        tries: 1,
        ..passing(error)
    }
}

/// Downloads into `part`, which on success holds the whole file.
///
/// # Errors
/// The last failure, where another try does not help or several brought nothing new. What has arrived stays for the
/// next call.
pub(super) fn fetch(url: &str, part: &Path, bar: &ProgressBar) -> anyhow::Result<()> {
    let agent = agent(url);
    let (mut failures, mut most, mut wait) = (0, length(part), FIRST_WAIT);
    loop {
        let Err(failure) = attempt(&agent, url, part, bar) else {
            return Ok(());
        };
        let arrived = length(part);
        if arrived > most {
            (failures, most, wait) = (0, arrived, FIRST_WAIT);
        }
        failures += 1;
        if failures >= failure.tries {
            return Err(failure.error.context(format!("cannot download {url}")));
        }
        let pause = wait.max(failure.wait).min(LONGEST_WAIT);
        bar.suspend(|| {
            // A closed stderr is no reason to stop.
            let _ = writeln!(
                io::stderr(),
                "{url}: {:#}; trying again in {:.1} s",
                failure.error,
                pause.as_secs_f64()
            );
        });
        std::thread::sleep(pause);
        wait *= 2;
    }
}

/// Removes what [`fetch`] has written.
pub(super) fn discard(part: &Path) {
    for path in [part, &tag_path(part)] {
        // What is not there need not be removed; what cannot be removed is found to be wrong again next time.
        let _ = fs::remove_file(path);
    }
}

fn agent(url: &str) -> Agent {
    Agent::config_builder()
        .https_only(url.starts_with("https://")) // also after a redirect
        .http_status_as_error(false)
        .user_agent(concat!("oo-sim/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity") // a range counts the bytes that are sent
        .timeout_resolve(Some(PATIENCE))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .build()
        .into()
}

fn attempt(agent: &Agent, url: &str, part: &Path, bar: &ProgressBar) -> Result<(), Failure> {
    let tag = known_tag(url, part);
    let have = if tag.is_some() { length(part) } else { 0 };
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header(header::RANGE, format!("bytes={have}-"));
        if let Some(version) = tag.filter(|t| !t.is_empty()) {
            request = request.header(header::IF_RANGE, version);
        }
    }
    let response = request.call().map_err(refused)?;
    let (head, body) = response.into_parts();
    match head.status.as_u16() {
        200 => {
            let total = number(&head.headers, header::CONTENT_LENGTH);
            let file = start(url, part, &head.headers).map_err(lasting)?;
            receive(body, file, 0, total, part, bar)
        }
        206 => match content_range(&head.headers) {
            Some((Some(first), total)) if first == have => {
                let file = OpenOptions::new().append(true).open(part);
                let file = file.with_context(|| unwritable(part)).map_err(lasting)?;
                receive(body, file, have, total, part, bar)
            }
            _ => {
                discard(part);
                Err(passing(anyhow!(
                    "the server sent another range than bytes {have} to the end"
                )))
            }
        },
        // The last call got everything and could not say so.
        416 if have > 0 && content_range(&head.headers) == Some((None, Some(have))) => Ok(()),
        416 => {
            discard(part);
            Err(passing(anyhow!("the server's file ends before byte {have}")))
        }
        code @ (408 | 425 | 429 | 500 | 502 | 503 | 504) => Err(Failure {
            wait: Duration::from_secs(number(&head.headers, header::RETRY_AFTER).unwrap_or(0)),
            ..passing(anyhow!("the server answered {code}"))
        }),
        code => Err(lasting(anyhow!("the server answered {code}, expected 200"))),
    }
}

fn refused(error: ureq::Error) -> Failure {
    use ureq::Error as E;
    let may_pass = matches!(
        error,
        E::Io(_) | E::Timeout(_) | E::ConnectionFailed | E::Protocol(_) | E::BodyStalled
    );
    Failure {
        tries: if may_pass { TRIES_WITHOUT_ANSWER } else { 1 },
        ..passing(error.into())
    }
}

/// An empty part, with its tag: first the tag, so that no part ever lies beside another version's tag.
fn start(url: &str, part: &Path, headers: &HeaderMap) -> anyhow::Result<File> {
    discard(part);
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    // A weak tag does not promise the same bytes.
    let version = text(header::ETAG)
        .filter(|tag| !tag.starts_with("W/"))
        .or_else(|| text(header::LAST_MODIFIED))
        .unwrap_or("");
    fs::write(tag_path(part), format!("{url}\n{version}\n"))
        .and_then(|()| File::create(part))
        .with_context(|| unwritable(part))
}

fn receive(
    body: Body,
    mut file: File,
    have: u64,
    total: Option<u64>,
    part: &Path,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    if let Some(total) = total {
        bar.set_length(total);
    }
    bar.set_position(have);
    let mut arrived = have;
    let mut reader = body.into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = reader
            .read(&mut buffer)
            .with_context(|| format!("the connection broke after {arrived} bytes"))
            .map_err(passing)?;
        if n == 0 {
            break;
        }
        arrived += n as u64;
        if arrived > LARGEST {
            discard(part);
            return Err(lasting(anyhow!("expected at most {LARGEST} bytes, more arrived")));
        }
        file.write_all(&buffer[..n])
            .with_context(|| unwritable(part))
            .map_err(lasting)?;
        bar.set_position(arrived);
    }
    match total {
        Some(total) if arrived > total => {
            discard(part);
            Err(passing(anyhow!("expected {total} bytes, {arrived} arrived")))
        }
        Some(total) if arrived < total => Err(passing(anyhow!("expected {total} bytes, {arrived} arrived"))),
        _ => Ok(()),
    }
}

fn unwritable(part: &Path) -> String {
    format!("cannot write {}; is the disk full?", part.display())
}

fn tag_path(part: &Path) -> PathBuf {
    let mut name = OsString::from(part);
    name.push(".tag");
    name.into()
}

/// The version of the part, empty where the server named none; nothing where the part came from another address.
fn known_tag(url: &str, part: &Path) -> Option<String> {
    let text = fs::read_to_string(tag_path(part)).ok()?;
    let mut lines = text.lines();
    (lines.next() == Some(url)).then(|| lines.next().unwrap_or("").to_string())
}

fn length(part: &Path) -> u64 {
    fs::metadata(part).map_or(0, |about| about.len())
}

fn number(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// First byte and total of `bytes 5-9/10` or `bytes */10`; an unknown total is `*`.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-').and_then(|(first, _)| first.parse().ok());
    Some((first, total.parse().ok()))
}
