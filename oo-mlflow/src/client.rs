//! One request at a time, with limits on every wait.

use crate::address::Address;
use crate::error::{Error, Result};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// Where MLflow's interface begins.
const API: &str = "/api/2.0/mlflow/";
/// An answer in JSON is smaller than this, or it is none of MLflow's.
const LARGEST_ANSWER: u64 = 64 << 20;
/// Of what a server says that is repeated to people.
const LONGEST_MESSAGE: usize = 300;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For an answer to begin once the request is sent, and between two pieces of its body.
    pub answer: Duration,
    /// Tries of one call, where the failure may pass.
    pub tries: u32,
    /// Before the second try; doubled each time.
    pub first_wait: Duration,
    /// Between tries at most, whatever the server asks for.
    pub longest_wait: Duration,
}

impl Patience {
    /// For a thread that has time and will come again.
    pub const BACKGROUND: Patience = Patience {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(30),
        tries: 2,
        first_wait: Duration::from_millis(200),
        longest_wait: Duration::from_secs(5),
    };
    /// For a person who waits.
    pub const FOREGROUND: Patience = Patience {
        tries: 5,
        ..Patience::BACKGROUND
    };
}

/// A connection to a server.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    address: Address,
    patience: Patience,
    answers: Arc<AtomicU64>,
}

/// What a request carries.
#[derive(Clone, Copy)]
enum Payload<'a> {
    Nothing,
    Json(&'a str),
    Bytes(&'a [u8]),
    File(&'a File),
}

impl Client {
    /// Nothing is sent yet.
    pub fn new(address: Address, patience: Patience) -> Client {
        let agent = Agent::config_builder()
            .https_only(address.base().starts_with("https://")) // also after a redirect
            .http_status_as_error(false)
            .user_agent(concat!("oo/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.answer))
            .timeout_per_read(Some(patience.answer))
            .timeout_per_write(Some(patience.answer))
            .build()
            .into();
        Client {
            agent,
            address,
            patience,
            answers: Arc::default(),
        }
    }

    /// Counts the answers that have arrived: shows that it goes on.
    pub(crate) fn answers(&self) -> Arc<AtomicU64> {
        self.answers.clone()
    }

    /// The server's address, without secrets.
    pub fn server(&self) -> &str {
        self.address.base()
    }

    /// `GET` with a query.
    ///
    /// # Errors
    /// No answer, a refusal, or an answer that is no JSON.
    pub fn get(&self, call: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.json("GET", call, query, None)
    }

    /// `POST` with JSON, tried again where the failure may pass: the call must be one that may be repeated.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&self, call: &str, body: &Value) -> Result<Value> {
        self.json("POST", call, &[], Some(body))
    }

    /// `POST` with JSON, tried once: for calls that make something new each time.
    ///
    /// # Errors
    /// As [`get`](Self::get). After [`Error::Unreachable`] it is open whether the server did it.
    pub fn post_once(&self, call: &str, body: &Value) -> Result<Value> {
        self.once("POST", call, &[], Some(body))
    }

    fn json(&self, method: &str, call: &str, query: &[(&str, &str)], body: Option<&Value>) -> Result<Value> {
        self.patiently(|| self.once(method, call, query, body))
    }

    fn once(&self, method: &str, call: &str, query: &[(&str, &str)], body: Option<&Value>) -> Result<Value> {
        let mut url = format!("{}{API}{call}", self.server());
        for (i, (name, value)) in query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(&crate::address::percent_encoded(value, ""));
        }
        let text = body.map(Value::to_string);
        let payload = text.as_deref().map_or(Payload::Nothing, Payload::Json);
        let answer = self.send(method, &url, call, payload).map_err(|e| match e {
            // MLflow gives every refusal a code; this call is not there at all.
            Error::Refused { status: 404, code, .. } if code.is_empty() => {
                self.unexpected(call, "error code, but status 404")
            }
            other => other,
        })?;
        let bytes = self.read(answer, LARGEST_ANSWER)?;
        serde_json::from_slice(&bytes).map_err(|_| self.unexpected(call, "JSON"))
    }

    /// Puts bytes behind `/api/2.0/mlflow-artifacts/artifacts/`.
    pub(crate) fn put_bytes(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.patiently(|| self.put(path, Payload::Bytes(bytes)))
    }

    /// The same from a file, which is opened for each try.
    pub(crate) fn put_file(&self, path: &str, open: impl Fn() -> Result<File>) -> Result<()> {
        self.patiently(|| self.put(path, Payload::File(&open()?)))
    }

    fn put(&self, path: &str, payload: Payload<'_>) -> Result<()> {
        let answer = self.send("PUT", &self.artefact_url(path), "an artefact", payload)?;
        // Read to its end, so that the connection can be used again.
        self.read(answer, LARGEST_ANSWER).map(drop)
    }

    /// The bytes behind `/api/2.0/mlflow-artifacts/artifacts/`, at most `limit` of them.
    pub(crate) fn fetch(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        self.patiently(|| {
            let answer = self.send("GET", &self.artefact_url(path), "an artefact", Payload::Nothing)?;
            self.read(answer, limit)
        })
    }

    fn artefact_url(&self, path: &str) -> String {
        let path = crate::address::percent_encoded(path, "/");
        format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", self.server())
    }

    fn patiently<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        let (mut tries, mut wait) = (1, self.patience.first_wait);
        loop {
            match attempt() {
                Err(e) if e.may_pass() && tries < self.patience.tries => {
                    std::thread::sleep(wait.min(self.patience.longest_wait));
                    wait *= 2;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn send(&self, method: &str, url: &str, call: &str, payload: Payload<'_>) -> Result<Response<Body>> {
        let authorization = self.address.credentials().map(|c| c.header());
        let sent = match (method, payload) {
            ("GET", _) => {
                let request = self.agent.get(url);
                match authorization {
                    Some(value) => request.header("authorization", value).call(),
                    None => request.call(),
                }
            }
            (method, payload) => {
                let request = match method {
                    "PUT" => self.agent.put(url),
                    _ => self.agent.post(url),
                };
                let request = match authorization {
                    Some(value) => request.header("authorization", value),
                    None => request,
                };
                match payload {
                    Payload::Nothing => request.send_empty(),
                    Payload::Json(text) => request.header("content-type", "application/json").send(text),
                    Payload::Bytes(bytes) => request.header("content-type", "application/octet-stream").send(bytes),
                    Payload::File(file) => request.header("content-type", "application/octet-stream").send(file),
                }
            }
        };
        let answer = sent.map_err(|e| self.silent(e))?;
        self.answers.fetch_add(1, Ordering::Relaxed);
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        Err(self.refusal(call, answer))
    }

    fn refusal(&self, call: &str, answer: Response<Body>) -> Error {
        let status = answer.status().as_u16();
        let body = self.read(answer, 1 << 16).unwrap_or_default();
        let mut body = String::from_utf8_lossy(&body).into_owned();
        if let Some(credentials) = self.address.credentials() {
            body = credentials.hidden_in(&body);
        }
        let told: Value = serde_json::from_str(&body).unwrap_or_default();
        let text = |key: &str| told.get(key).and_then(Value::as_str).unwrap_or("").to_string();
        let message: String = match text("message") {
            none if none.is_empty() => body.chars().take(LONGEST_MESSAGE).collect(),
            said => said.chars().take(LONGEST_MESSAGE).collect(),
        };
        if matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504) {
            return Error::Unreachable {
                server: self.server().into(),
                why: format!("{call}: {status} {message}"),
            };
        }
        Error::Refused {
            server: self.server().into(),
            call: call.into(),
            status,
            code: text("error_code"),
            message,
        }
    }

    fn read(&self, answer: Response<Body>, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut reader = answer.into_body().into_reader().take(limit + 1);
        reader.read_to_end(&mut bytes).map_err(|e| Error::Unreachable {
            server: self.server().into(),
            why: e.to_string(),
        })?;
        if bytes.len() as u64 > limit {
            return Err(self.unexpected("a call", &format!("end within {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Failures before there is an answer. All of them may pass: a name that does not resolve now may do so later.
    fn silent(&self, error: ureq::Error) -> Error {
        Error::Unreachable {
            server: self.server().into(),
            why: error.to_string(),
        }
    }

    pub(crate) fn unexpected(&self, call: &str, missing: &str) -> Error {
        Error::Answer {
            server: self.server().into(),
            call: call.into(),
            missing: missing.into(),
        }
    }

    /// A text somewhere in an answer.
    pub(crate) fn text(&self, call: &str, answer: &Value, pointer: &str) -> Result<String> {
        let found = answer.pointer(pointer).and_then(Value::as_str).map(String::from);
        found.ok_or_else(|| self.unexpected(call, pointer))
    }
}

/// A whole number, which the server writes as a number or as a text.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
