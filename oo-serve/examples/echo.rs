//! The floor that `benches/serve` measures against: axum's router on hyper, nothing else. `POST /raw` returns the body as
//! it came; `POST /json` parses it into numbers and texts and writes them out again; `POST /tasks` does so with the fields of
//! tasks.
//!
//! `cargo run --release -p oo-serve --example echo -- 127.0.0.1:8009`

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tower_service::Service;

#[derive(Deserialize, Serialize)]
struct Body<'a, C> {
    user_id: &'a str,
    candidates: Vec<C>,
}

#[derive(Deserialize, Serialize)]
struct Candidate<'a> {
    id: &'a str,
    features: Vec<f64>,
}

#[derive(Deserialize, Serialize)]
struct Task<'a> {
    id: &'a str,
    content: &'a str,
    priority: u8,
    created: &'a str,
    due: &'a str,
    effort_minutes: f64,
}

fn echo<'a, C: Deserialize<'a> + Serialize>(body: &'a [u8]) -> Result<Vec<u8>, hyper::StatusCode> {
    let bad = |_| hyper::StatusCode::BAD_REQUEST;
    let parsed: Body<'_, C> = serde_json::from_slice(body).map_err(bad)?;
    serde_json::to_vec(&parsed).map_err(bad)
}

async fn json(body: Bytes) -> Result<Vec<u8>, hyper::StatusCode> {
    echo::<Candidate<'_>>(&body)
}

async fn tasks(body: Bytes) -> Result<Vec<u8>, hyper::StatusCode> {
    echo::<Task<'_>>(&body)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8009".into());
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let router: Router = Router::new()
                .route("/raw", post(|body: Bytes| async { body }))
                .route("/json", post(json))
                .route("/tasks", post(tasks));
            let listener = tokio::net::TcpListener::bind(listen).await?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let router = router.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| router.clone().call(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        })
}
