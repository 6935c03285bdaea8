//! The contract as OpenAPI 3.1, made of the types that the handlers read and write, and a page to try it on.

use super::contract::*;
use super::problem::Problem;
use super::recommend::NothingLeft;
use super::{Answer, Call, with_type};
use hyper::StatusCode;
use std::sync::LazyLock;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "oo-serve",
        description = "One tip for one person, right now, and what came of it.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    paths(
        super::recommend::recommend, super::recommend::score, super::feedback::feedback, super::people::decision,
        super::people::features, super::people::stats, super::people::reset, super::people::forget,
        super::policies::list, super::policies::change, super::assignments::counts, super::assignments::assign,
        super::health::live, super::health::ready, super::health::health, super::health::metrics
    ),
    components(schemas(
        RecommendRequest<'static>, Candidate<'static>, RecommendAnswer<'static>, NothingLeft<'static>, FeedbackRequest<'static>, FeedbackAnswer<'static>, AssignmentRequest<'static>,
        AssignmentAnswer<'static>, Problem, ProfileBody
    )),
    modifiers(&Bearer, &Guards),
    tags((name = "decide"), (name = "look"), (name = "change"), (name = "probe"))
)]
struct Document;

/// The one security scheme; whether it is asked for depends on the server's keys.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// What the guards before the handlers answer, wherever they stand.
struct Guards;

impl utoipa::Modify for Guards {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::{Content, Ref, ResponseBuilder};
        let refused = |why: &str| {
            let problem = Content::new(Some(Ref::from_schema_name("Problem")));
            ResponseBuilder::new()
                .description(why)
                .content("application/problem+json", problem)
                .build()
        };
        for item in document.paths.paths.values_mut() {
            let methods = [
                (&mut item.get, false),
                (&mut item.post, true),
                (&mut item.delete, false),
            ];
            let there = methods.into_iter().filter_map(|(o, posts)| Some((o.as_mut()?, posts)));
            for (operation, posts) in there {
                let keyed = operation.security.is_some();
                let limited = operation.tags.iter().flatten().all(|tag| tag != "probe");
                for (applies, status, why) in [
                    (
                        posts,
                        "400",
                        "No JSON, not exactly one header Host, or a name in the address that is no UTF-8",
                    ),
                    (
                        !posts,
                        "400",
                        "Not exactly one header Host, or a name in the address that is no UTF-8",
                    ),
                    (keyed, "401", "No valid key, where keys are needed"),
                    (
                        true,
                        "403",
                        "The key's role does not allow it; without keys, a stranger's page asks",
                    ),
                    (posts, "408", "The body did not come in time"),
                    (posts, "413", "The body is too large"),
                    (posts, "415", "The body is not declared as JSON"),
                    (
                        limited,
                        "429",
                        "Too many at once; the header Retry-After says when to ask again",
                    ),
                    (limited, "422", "A query in the address: none is taken"),
                    (
                        true,
                        "503",
                        "Beyond the limit on connections; the header Retry-After says when to ask again",
                    ),
                    (
                        true,
                        "500",
                        "The server made a mistake; its log has it under the trace id",
                    ),
                ] {
                    if applies {
                        let responses = &mut operation.responses.responses;
                        responses.entry(status.into()).or_insert_with(|| refused(why).into());
                    }
                }
            }
        }
    }
}

/// The document's text.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| Document::openapi().to_pretty_json().unwrap_or_default());
    &TEXT
}

/// `GET /openapi.json`.
pub async fn document(_: Call) -> Answer {
    Ok(with_type(text(), "application/json"))
}

/// `GET /` and `GET /docs`: one file, no other host is asked for anything.
pub async fn page(_: Call) -> Answer {
    let mut response = with_type(include_str!("page.html"), "text/html; charset=utf-8");
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    response.headers_mut().insert(
        "content-security-policy",
        hyper::header::HeaderValue::from_static(policy),
    );
    Ok(response)
}

/// Any other address.
pub async fn unknown(call: Call) -> Answer {
    let shown: String = call.uri.path().chars().take(100).collect();
    Err(Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "What the request names does not exist",
        format!("no route {shown}; GET /openapi.json lists what there is"),
    ))
}

/// A known address with another method.
pub async fn wrong_method(_: Call) -> Answer {
    Err(Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        "The address takes other methods",
        "GET /openapi.json lists what there is",
    ))
}
