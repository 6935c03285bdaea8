//! The accept loop. `axum::serve` waits for ever for a request's head and for a body, so this one is our own: hyper
//! with a time-out for heads (which also ends idle connections), a guard against readers that do not read, a cap on
//! connections, and a stop that answers what it has accepted.
//!
//! A stop goes in steps. Readiness says no and every answer asks to close, while new connections are still served; then
//! the listener closes, after what the kernel had already accepted; then idle connections are closed; then, at the
//! latest, all others.

use super::problem::Problem;
use super::trace::Trace;
use crate::http::App;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tower_service::Service;

/// How a stop is spread over time; the whole stays below 5 s.
const DRAIN: Duration = Duration::from_millis(1000);
const FRESH: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_millis(2500);

/// What a connection hears of a stop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Serve,
    CloseIdle,
    CloseAll,
}

/// Serves until `stop` resolves, then stops in steps.
pub async fn serve(listener: TcpListener, app: Arc<App>, router: Router, stop: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(app.limits.connections));
    let (say, hear) = watch::channel(Phase::Serve);
    let accept = Accept {
        listener,
        app: app.clone(),
        router,
        slots: slots.clone(),
        hear,
    };
    {
        let mut stop = pin!(stop);
        let mut accepting = pin!(accept.forever());
        std::future::poll_fn(|cx| match stop.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => accepting.as_mut().poll(cx).map(|()| ()),
        })
        .await;
        app.draining.store(true, Ordering::Release);
        tracing::info!(
            open = app.metrics.connections.load(Ordering::Relaxed),
            "stopping: no longer ready"
        );
        let _ = tokio::time::timeout(DRAIN, accepting).await;
    }
    let waiting = accept.take_waiting();
    drop(accept.listener);
    tracing::info!(waiting, "stopping: no new connections");
    drop(accept.hear);
    let everybody = app.limits.connections as u32;
    let _ = tokio::time::timeout(FRESH, slots.acquire_many(everybody)).await;
    let _ = say.send(Phase::CloseIdle);
    if tokio::time::timeout(LAST, slots.acquire_many(everybody)).await.is_err() {
        let _ = say.send(Phase::CloseAll);
        tokio::task::yield_now().await;
    }
}

struct Accept {
    listener: TcpListener,
    app: Arc<App>,
    router: Router,
    slots: Arc<Semaphore>,
    hear: watch::Receiver<Phase>,
}

impl Accept {
    async fn forever(&self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => self.begin(stream, peer),
                // The peer gave up before we came: the next one may not have.
                Err(e) if is_the_peers(&e) => {}
                // Out of files or memory: connections end, and there will be more.
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept; trying again");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// What the kernel has accepted for us already; nobody is turned away who had come in.
    fn take_waiting(&self) -> usize {
        let mut taken = 0;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Ok((stream, peer))) = self.listener.poll_accept(&mut cx) {
            self.begin(stream, peer);
            taken += 1;
        }
        taken
    }

    fn begin(&self, stream: TcpStream, _peer: SocketAddr) {
        // Small answers leave at once.
        let _ = stream.set_nodelay(true);
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            self.app.metrics.refused.fetch_add(1, Ordering::Relaxed);
            turn_away(stream);
            return;
        };
        let (app, router, hear) = (self.app.clone(), self.router.clone(), self.hear.clone());
        tokio::spawn(async move {
            app.metrics.connections.fetch_add(1, Ordering::Relaxed);
            connection(stream, &app, router, hear).await;
            app.metrics.connections.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        });
    }
}

fn is_the_peers(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(e.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Beyond the cap: a fixed answer, as far as it goes without waiting.
fn turn_away(stream: TcpStream) {
    let trace = Trace::of(None);
    let mut problem = Problem::unavailable("the limit on connections is reached; try again in a second");
    problem.instance = Some(format!("urn:trace:{trace}"));
    tracing::debug!(%trace, "turned away");
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.try_write(answer.as_bytes());
}

async fn connection(stream: TcpStream, app: &Arc<App>, router: Router, mut hear: watch::Receiver<Phase>) {
    let io = TokioIo::new(Patient::new(stream, app.limits.write_timeout));
    let service = Draining {
        router,
        app: app.clone(),
    };
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(app.limits.header_timeout)
            .max_buf_size(64 * 1024)
            .serve_connection(io, service)
    );
    loop {
        let ended = {
            let mut news = pin!(hear.changed());
            std::future::poll_fn(|cx| match served.as_mut().poll(cx) {
                Poll::Ready(end) => Poll::Ready(Some(end)),
                Poll::Pending => news.as_mut().poll(cx).map(|_| None),
            })
            .await
        };
        if let Some(end) = ended {
            if let Err(e) = end {
                if e.is_timeout() {
                    app.metrics.dawdled.fetch_add(1, Ordering::Relaxed);
                }
                tracing::debug!(error = %e, "connection ended");
            }
            return;
        }
        let phase = *hear.borrow_and_update();
        match phase {
            Phase::Serve => {}
            Phase::CloseIdle => served.as_mut().graceful_shutdown(),
            Phase::CloseAll => return,
        }
    }
}

/// The router, which asks connections to close while the server stops.
struct Draining {
    router: Router,
    app: Arc<App>,
}

impl hyper::service::Service<Request<Incoming>> for Draining {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Answering {
            inner: Box::pin(self.router.clone().call(request)),
            app: self.app.clone(),
        }
    }
}

type Routed = <Router as Service<Request<Incoming>>>::Future;

struct Answering {
    inner: Pin<Box<Routed>>,
    app: Arc<App>,
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ready = self.inner.as_mut().poll(cx);
        if self.app.draining.load(Ordering::Relaxed)
            && let Poll::Ready(Ok(mut response)) = ready
        {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
            return Poll::Ready(Ok(response));
        }
        ready
    }
}

/// A stream that gives up on a peer that does not read.
struct Patient {
    stream: TcpStream,
    timeout: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, timeout: Duration) -> Self {
        Patient {
            stream,
            timeout,
            waiting: None,
        }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = None;
            return poll;
        }
        let deadline = Instant::now() + self.timeout;
        let sleep = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
