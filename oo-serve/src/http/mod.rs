//! The server's outside: routes, limits, keys, problem documents.
//!
//! Every route goes through [`Endpoint::answer`]: who may, how large, how long, how many at once; then the handler; then
//! the counts. A handler sees a body that is there as a whole and gives an answer or a [`Problem`].

pub mod auth;
mod body;
pub mod contract;
pub mod moment;
pub mod problem;
pub mod server;
pub mod trace;

mod assignments;
mod feedback;
mod health;
mod openapi;
mod people;
mod policies;
mod recommend;
pub(crate) mod rounds;
mod routes;

pub use feedback::MAX_REWARD;
pub use rounds::is_tips;
pub use routes::router;

use crate::config::{Limits, Mode};
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::rollout::Rollout;
use crate::signals::SignalSource;
use auth::{Keys, Role, Verdict};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Request, StatusCode, Uri};
use oo_core::Key;
use problem::Problem;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use trace::Trace;

/// Places for larger bodies, so that memory is bounded by connections × small + places × limit.
const LARGE_BODIES: usize = 32;

/// What all requests share.
pub struct App {
    /// Policy and journal.
    pub engine: Arc<Engine>,
    /// Where candidates come from when a request has none.
    pub signals: Option<Box<dyn SignalSource>>,
    /// Who may.
    pub keys: RwLock<Arc<Keys>>,
    /// What requests may cost.
    pub limits: Limits,
    /// Who decides.
    pub mode: Mode,
    /// The key of the simulator's cell, where its run is replayed.
    pub replay: Option<Key>,
    /// The running experiment and the shadows.
    pub rollout: Rollout,
    /// Name and version of the reward spec.
    pub reward: String,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// True once the server has been asked to stop.
    pub draining: AtomicBool,
    /// Counters.
    pub metrics: Metrics,
    /// Requests at once.
    pub permits: Semaphore,
    /// Where requests are told of.
    #[cfg(feature = "otlp")]
    pub spans: Option<crate::otlp::Spans>,
    large: Semaphore,
    started: Instant,
}

impl App {
    /// Everything but the router.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a thing of its own, and there is one caller"
    )]
    pub fn new(
        engine: Arc<Engine>,
        signals: Option<Box<dyn SignalSource>>,
        keys: Keys,
        limits: Limits,
        mode: Mode,
        replay: Option<Key>,
        rollout: Rollout,
        listen: SocketAddr,
    ) -> App {
        let reward = &engine.settings().rules.reward;
        App {
            reward: format!("{}.{}", reward.name, reward.version),
            engine,
            signals,
            keys: RwLock::new(Arc::new(keys)),
            permits: Semaphore::new(limits.concurrency),
            #[cfg(feature = "otlp")]
            spans: None,
            large: Semaphore::new(LARGE_BODIES),
            limits,
            mode,
            replay,
            rollout,
            listen,
            draining: AtomicBool::new(false),
            metrics: Metrics::new(routes::NAMES),
            started: Instant::now(),
        }
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the keys; requests under way keep what they were let in with.
    pub fn set_keys(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

/// One request, its body read.
pub struct Call {
    /// What all requests share.
    pub app: Arc<App>,
    /// The address.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The values of `{…}` in the route, in order.
    pub path: Option<String>,
}

impl Call {
    /// The name in the route's `{…}`, decoded.
    pub fn name(&self) -> &str {
        self.path.as_deref().unwrap_or_default()
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

/// The name in the route's `{…}`, where it has one.
pub type Named = Result<Option<String>, Problem>;

/// What a handler gives.
pub type Answer = Result<Response, Problem>;

/// What is fixed of a route.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Position among the names of `routes`.
    pub id: usize,
    /// Who may; `None` for everybody.
    pub role: Option<Role>,
    /// Counts against the limit on requests at once. Probes do not: they must answer under load.
    pub limited: bool,
}

/// A request that is being answered; also one whose caller goes away meanwhile is counted off.
struct Underway<'a>(&'a App);

impl<'a> Underway<'a> {
    fn new(app: &'a App) -> Self {
        app.metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        Underway(app)
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint {
    /// See the module.
    pub async fn answer<F, A>(self, app: Arc<App>, path: Named, request: Request<Body>, act: F) -> Response
    where
        F: FnOnce(Call) -> A,
        A: Future<Output = Answer>,
    {
        let started = Instant::now();
        let header = request.headers().get("traceparent").map(HeaderValue::as_bytes);
        let trace = Trace::of(header);
        #[cfg(feature = "otlp")]
        let method = request.method().clone();
        let underway = Underway::new(&app);
        let answered = self.guarded(&app, path, request, act).await;
        drop(underway);
        let response = answered.unwrap_or_else(|mut problem| {
            problem.instance = Some(format!("urn:trace:{trace}"));
            if problem.status.is_server_error() {
                tracing::warn!(%trace, route = routes::NAMES[self.id], status = problem.status.as_u16(), detail = problem.detail, "failed");
            } else {
                tracing::debug!(%trace, route = routes::NAMES[self.id], status = problem.status.as_u16(), detail = problem.detail, "refused");
            }
            problem.into_response()
        });
        let (status, took) = (response.status().as_u16(), started.elapsed());
        app.metrics.route(self.id).count(status, took);
        if status == 429 {
            app.metrics.shed_times.count(took);
        }
        #[cfg(feature = "otlp")]
        if let Some(spans) = &app.spans {
            spans.tell(crate::otlp::Told {
                trace: &trace,
                method: &method,
                route: routes::NAMES[self.id],
                status,
                took,
            });
        }
        // What the caller records is recorded here; the rest on request.
        if trace.sampled {
            tracing::info!(%trace, parent = trace.parent, route = routes::NAMES[self.id], status, micros = took.as_micros() as u64, "request");
        } else {
            tracing::debug!(%trace, parent = trace.parent, route = routes::NAMES[self.id], status, micros = took.as_micros() as u64, "request");
        }
        response
    }

    async fn guarded<F, A>(self, app: &Arc<App>, path: Named, request: Request<Body>, act: F) -> Answer
    where
        F: FnOnce(Call) -> A,
        A: Future<Output = Answer>,
    {
        let (parts, mut body) = request.into_parts();
        let read = match self.admit(app, &parts, &body) {
            Ok(true) => body::read(app, &parts.headers, &mut body).await,
            Ok(false) => Ok(Bytes::new()),
            Err(problem) => Err(problem),
        };
        // Whoever is slow has had the time there is, and who asked first need not begin.
        let slow = matches!(&read, Err(p) if p.status == StatusCode::REQUEST_TIMEOUT);
        if !slow && !parts.headers.contains_key(EXPECT) {
            body::hear_out(body).await;
        }
        let (body, path) = (read?, path?);
        let _permit = match self.limited {
            false => None,
            true => match app.permits.try_acquire() {
                Ok(permit) => Some(permit),
                // Others came while the body did.
                Err(_) => return Err(shed(app)),
            },
        };
        let call = Call {
            app: app.clone(),
            uri: parts.uri,
            headers: parts.headers,
            body,
            path,
        };
        match unwound(act(call)).await {
            Some(answer) => answer,
            None => {
                app.metrics.panics.fetch_add(1, Ordering::Relaxed);
                Err(Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "The server made a mistake",
                    "the request was given up; the log has the reason under the trace id",
                ))
            }
        }
    }

    /// Whether a request is let in, before its body is read; true where there is one to read.
    fn admit(self, app: &App, parts: &hyper::http::request::Parts, body: &Body) -> Result<bool, Problem> {
        let keys = app.keys();
        check_host(parts)?;
        check_origin(app, &keys, &parts.headers)?;
        if let Some(role) = self.role {
            check_key(&keys, &parts.headers, role)?;
        }
        drop(keys);
        // Whoever asks for something by a query must not believe to have got it. Probes and scrapers have their own.
        if let Some(query) = parts.uri.query().filter(|q| self.limited && !q.is_empty()) {
            let name: String = query
                .split(['=', '&'])
                .next()
                .unwrap_or_default()
                .chars()
                .take(100)
                .collect();
            return Err(Problem::field(
                "query",
                format!("expected no query in the address, got `{name}`"),
            ));
        }
        // What no route wants is not read: it would take the place of what one does.
        let posts = parts.method == hyper::Method::POST && self.role.is_some();
        // A form or a plain text may come from any page that the user looks at; JSON may not.
        // Without a body there is nothing to declare, and whose page asks is known by then.
        let declares = parts.headers.contains_key(CONTENT_TYPE);
        if posts && !is_json(&parts.headers) && (declares || !hyper::body::Body::is_end_stream(body)) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not-json",
                "The body is not declared as JSON",
                "expected the header `content-type: application/json`",
            ));
        }
        // Before anything waits, for the body or a lock.
        if self.limited && app.permits.available_permits() == 0 {
            return Err(shed(app));
        }
        Ok(posts)
    }
}

/// Too many at once.
fn shed(app: &App) -> Problem {
    app.metrics.shed.fetch_add(1, Ordering::Relaxed);
    Problem::overload()
}

/// The future's value; `None` when it panicked. A fault in one request must not end a connection that others share.
async fn unwound<A: Future>(future: A) -> Option<A::Output> {
    let mut future = std::pin::pin!(future);
    poll_fn(
        |cx| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}

fn check_key(keys: &Keys, headers: &HeaderMap, role: Role) -> Result<(), Problem> {
    match keys.check(headers.get(AUTHORIZATION).map(HeaderValue::as_bytes), role) {
        Verdict::Allowed => Ok(()),
        Verdict::Unknown => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "A valid key is needed",
            "expected the header `authorization: Bearer KEY` with a key that is valid here",
        )),
        Verdict::Forbidden => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "The key does not allow this",
            format!("expected a key with the role {}", role.name()),
        )),
    }
}

/// RFC 9112, 3.2: a request of HTTP/1.1 has one Host.
fn check_host(parts: &hyper::http::request::Parts) -> Result<(), Problem> {
    let hosts = parts.headers.get_all(HOST).iter().count();
    if hosts == 1 || hosts == 0 && parts.version < hyper::Version::HTTP_11 {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::BAD_REQUEST,
        "host",
        "The request does not say whom it is for",
        format!("expected one `host` header, got {hosts}"),
    ))
}

/// Without keys, pages in the user's browser are the strangers: they are known by their Origin, and by a Host that some
/// other name was made to lead here.
fn check_origin(app: &App, keys: &Keys, headers: &HeaderMap) -> Result<(), Problem> {
    if !keys.is_empty() {
        return Ok(());
    }
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let host = text(HOST).unwrap_or_default();
    let refuse = |detail: String| {
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "A stranger's page",
            detail,
        ))
    };
    if app.listen.ip().is_loopback() && !host.is_empty() && !is_local(host) {
        return refuse("without keys, expected a Host of this machine: localhost or a loopback address".into());
    }
    match text(ORIGIN) {
        Some(origin) if origin.split_once("://").is_none_or(|(_, o)| o != host) => {
            refuse("without keys, expected no Origin but the server's own".into())
        }
        _ => Ok(()),
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/json")
}

/// A JSON answer.
pub fn json<T: serde::Serialize>(value: &T) -> Answer {
    let mut body = Vec::with_capacity(2048);
    if let Err(e) = serde_json::to_writer(&mut body, value) {
        return Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server made a mistake",
            format!("the answer is no JSON: {e}"),
        ));
    }
    Ok(with_type(body, "application/json"))
}

/// An answer of a type.
pub fn with_type(body: impl Into<Body>, kind: &'static str) -> Response {
    let mut response = Response::new(body.into());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

impl From<crate::Error> for Problem {
    fn from(error: crate::Error) -> Problem {
        let (status, field) = (error.status(), error.field());
        let detail = error.to_string();
        let problem = match &error {
            crate::Error::Conflict { field, .. } => Problem::conflict(*field, detail),
            crate::Error::NotFound { field, .. } => Problem::missing(*field, detail),
            crate::Error::Invalid { field, .. } => Problem::field(*field, detail),
            crate::Error::Silent { .. } => Problem::not_now(detail),
            crate::Error::Unavailable { full, retry_after, .. } => {
                let mut problem = Problem::unavailable(detail);
                if *full {
                    problem.status = StatusCode::INSUFFICIENT_STORAGE;
                }
                problem.retry(u32::try_from(retry_after.as_secs()).unwrap_or(60).max(1))
            }
            _ => Problem::new(
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                "internal",
                "The server cannot go on with this",
                detail,
            ),
        };
        match field {
            Some(field) => problem.about(field),
            None => problem,
        }
    }
}

/// How long the server has run.
pub fn uptime(app: &App) -> Duration {
    app.started.elapsed()
}
