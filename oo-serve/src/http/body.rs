//! Bodies: read as a whole, or heard out when nobody wants them.

use super::problem::Problem;
use super::{App, shed};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// Bodies up to this size are read without asking; larger ones one of a few places.
const SMALL_BODY: usize = 64 * 1024;
/// Of a body that nobody wants, so much is taken, for so long: whoever was slow with the head is gone within ten seconds.
const HEARD: usize = 64 << 20;
const HEARING: Duration = Duration::from_secs(1);

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "The body is too large",
        format!("expected at most {limit} bytes"),
    )
}

/// The whole of a body.
///
/// # Errors
/// 413 beyond the limit, 408 when it does not come in time, 429 when too many large ones are read, 400 when it breaks off.
pub(super) async fn read(app: &App, headers: &HeaderMap, body: &mut Body) -> Result<Bytes, Problem> {
    let limit = app.limits.body;
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|n| n > limit) {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(app.limits.body_timeout, collect(app, body, limit)).await {
        Ok(read) => read,
        Err(_) => {
            app.metrics.dawdled.fetch_add(1, Ordering::Relaxed);
            Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "The body did not come in time",
                format!("expected the whole body within {} s", app.limits.body_timeout.as_secs()),
            ))
        }
    }
}

async fn collect(app: &App, body: &mut Body, limit: usize) -> Result<Bytes, Problem> {
    let gone = |e: axum::Error| Problem::syntax(format!("the body broke off: {e}"));
    let mut first = Bytes::new();
    let mut whole: Option<BytesMut> = None;
    let mut place = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(gone)?.into_data() else {
            continue;
        };
        let length = first.len() + whole.as_ref().map_or(0, BytesMut::len) + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        if length > SMALL_BODY && place.is_none() {
            place = Some(app.large.try_acquire().map_err(|_| shed(app))?);
        }
        // Most bodies come in one piece and are never copied.
        if first.is_empty() && whole.is_none() {
            first = data;
        } else {
            let all = whole.get_or_insert_with(|| BytesMut::from(std::mem::take(&mut first).as_ref()));
            all.extend_from_slice(&data);
        }
    }
    Ok(whole.map_or(first, BytesMut::freeze))
}

/// Takes what is left of a body, and drops it: a client that still sends would never see its answer if the connection
/// closed under it (RFC 9112, 9.6). The answer waits for nothing but what has come already, which costs no task of its own.
pub(super) async fn hear_out(mut body: Body) {
    use hyper::body::Body as _;
    let mut left = HEARD;
    // The first look asks the connection for what it has, the second takes it.
    for look in 0..2 {
        loop {
            if body.is_end_stream() {
                return;
            }
            match poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await {
                Poll::Ready(Some(Ok(frame))) => left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len)),
                Poll::Ready(_) => return,
                Poll::Pending => break,
            }
        }
        let mut looked = look > 0;
        poll_fn(|cx| {
            if std::mem::replace(&mut looked, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
    tokio::spawn(tokio::time::timeout(HEARING, async move {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }));
}
