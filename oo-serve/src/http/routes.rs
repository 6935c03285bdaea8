//! The table of routes.

use super::auth::Role;
use super::problem::Problem;
use super::{Answer, App, Call, Endpoint, Named};
use super::{assignments, feedback, health, openapi, people, policies, recommend};
use axum::Router;
use axum::body::Body;
use axum::extract::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;
use axum::handler::Handler;
use axum::routing::{MethodRouter, any, delete, get, post};
use hyper::{Request, StatusCode};
use std::future::Future;
use std::sync::Arc;

/// The routes' names in metrics and logs.
pub const NAMES: &[&str] = &[
    "recommend",
    "score",
    "feedback",
    "decision",
    "features",
    "stats",
    "reset",
    "forget",
    "policies",
    "policies_change",
    "assignments",
    "assign",
    "livez",
    "readyz",
    "health",
    "metrics",
    "openapi",
    "page",
    "unknown",
];

const fn position(name: &str) -> usize {
    let mut i = 0;
    while i < NAMES.len() {
        if equal(NAMES[i].as_bytes(), name.as_bytes()) {
            return i;
        }
        i += 1;
    }
    panic!("a route that NAMES does not list")
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

fn handler<F, A>(name: &'static str, role: Option<Role>, limited: bool, act: F) -> impl Handler<(), Arc<App>>
where
    F: Fn(Call) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let endpoint = Endpoint {
        id: position(name),
        role,
        limited,
    };
    Adapter { endpoint, act }
}

/// Our handlers as axum's.
#[derive(Clone)]
struct Adapter<F> {
    endpoint: Endpoint,
    act: F,
}

impl<F, A> Handler<(), Arc<App>> for Adapter<F>
where
    F: Fn(Call) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    type Future = std::pin::Pin<Box<dyn Future<Output = axum::response::Response> + Send>>;

    fn call(self, request: Request<Body>, app: Arc<App>) -> Self::Future {
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let path = match parts.uri.path().matches('/').count() {
                0 | 1 => Ok(None),
                _ => first_parameter(&mut parts).await,
            };
            let request = Request::from_parts(parts, body);
            self.endpoint.answer(app, path, request, self.act).await
        })
    }
}

async fn first_parameter(parts: &mut axum::http::request::Parts) -> Named {
    use axum::extract::FromRequestParts;
    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(params) => Ok(params.iter().next().map(|(_, value)| value.to_string())),
        Err(RawPathParamsRejection::InvalidUtf8InPathParam(e)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "not-utf8",
            "The address is not text",
            format!("expected UTF-8 after the percent signs; {e}"),
        )),
        // A route without any.
        Err(_) => Ok(None),
    }
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    use Role::{Admin, Decide, Read};
    let routes: [(&str, MethodRouter<Arc<App>>); 17] = [
        (
            "/recommend",
            post(handler("recommend", Some(Decide), true, recommend::recommend)),
        ),
        ("/score", post(handler("score", Some(Decide), true, recommend::score))),
        (
            "/feedback",
            post(handler("feedback", Some(Decide), true, feedback::feedback)),
        ),
        (
            "/decisions/{id}",
            get(handler("decision", Some(Read), true, people::decision)),
        ),
        (
            "/features/{user}",
            get(handler("features", Some(Read), true, people::features)),
        ),
        ("/stats/{user}", get(handler("stats", Some(Read), true, people::stats))),
        (
            "/reset/{user}",
            post(handler("reset", Some(Admin), true, people::reset)),
        ),
        (
            "/users/{user}",
            delete(handler("forget", Some(Admin), true, people::forget)),
        ),
        (
            "/policies",
            get(handler("policies", Some(Read), true, policies::list)).post(handler(
                "policies_change",
                Some(Admin),
                true,
                policies::change,
            )),
        ),
        (
            "/assignments",
            get(handler("assignments", Some(Read), true, assignments::counts)).post(handler(
                "assign",
                Some(Decide),
                true,
                assignments::assign,
            )),
        ),
        ("/livez", get(handler("livez", None, false, health::live))),
        ("/readyz", get(handler("readyz", None, false, health::ready))),
        ("/health", get(handler("health", Some(Read), false, health::health))),
        ("/metrics", get(handler("metrics", Some(Read), false, health::metrics))),
        ("/openapi.json", get(handler("openapi", None, false, openapi::document))),
        ("/docs", get(handler("page", None, false, openapi::page))),
        ("/", get(handler("page", None, false, openapi::page))),
    ];
    let mut router = Router::new();
    for (path, methods) in routes {
        router = router.route(path, methods);
    }
    router
        .fallback(any(handler("unknown", None, false, openapi::unknown)))
        .method_not_allowed_fallback(handler("unknown", None, false, openapi::wrong_method))
        .with_state(app)
}
