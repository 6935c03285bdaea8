//! Refusals as RFC 9457 problem documents: what was wrong, with which field, and what to do.

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;

/// The body of every answer that is no success (RFC 9457), of type `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:oo:problem:NAME`; the names are listed in docs/serve.md.
    #[serde(rename = "type", serialize_with = "urn")]
    #[schema(example = "urn:oo:problem:invalid-field")]
    pub kind: &'static str,
    /// What the type means, in a few words; the same every time.
    pub title: &'static str,
    /// The HTTP status.
    #[serde(serialize_with = "code")]
    #[schema(value_type = u16, example = 422)]
    pub status: StatusCode,
    /// What was expected and what came.
    pub detail: String,
    /// The field that is to blame, as a path: `candidates[3].features.priority`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// `urn:trace:ID`: the request's W3C trace id, as in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Seconds after which to try again; also the header `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<u32>,
}

/// What a route that writes answers while the journal takes no records.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code)] // This is what the document says.
pub enum Unwritten {
    /// The disk does not take or give records now; the header Retry-After says when to ask again
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
    /// The disk is full
    #[response(status = 507, content_type = "application/problem+json")]
    Full(Problem),
}

fn urn<S: serde::Serializer>(kind: &&'static str, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&format_args!("urn:oo:problem:{kind}"))
}

fn code<S: serde::Serializer>(status: &StatusCode, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of one of the kinds below.
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Problem {
            kind,
            title,
            status,
            detail: detail.into(),
            field: None,
            instance: None,
            retry_after: None,
        }
    }

    /// The body is no JSON.
    pub fn syntax(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "not-json",
            "The body is not valid JSON",
            detail,
        )
    }

    /// A field has the wrong type or a value out of range.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-field",
            "A field of the request cannot be used",
            detail,
        );
        problem.about(field)
    }

    /// What the request names does not exist.
    pub fn missing(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "What the request names does not exist",
            detail,
        )
        .about(field)
    }

    /// The request contradicts an earlier one.
    pub fn conflict(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "conflict",
            "The request contradicts an earlier one",
            detail,
        )
        .about(field)
    }

    /// The server cannot do this now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "The server cannot do this now",
            detail,
        );
        problem.retry(1)
    }

    /// More requests at once than the limit.
    pub fn overload() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "overload",
            "More requests at once than the server takes",
            "the limit on requests in flight is reached; try again after the time in Retry-After",
        )
        .retry(1)
    }

    /// The server's state does not allow this.
    pub fn not_now(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "not-now",
            "The server's state does not allow this",
            detail,
        )
    }

    /// Names the field that is to blame. Its name may be the caller's, and long.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Self {
        self.field = Some(shorten(&field.into()));
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(hyper::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Reads a JSON body. The fast parser goes first; only a body that it refuses is read again to find the field.
///
/// # Errors
/// 400 for what is no JSON, 422 with the field for what is JSON of another kind.
pub fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    // A list of the fields' values would be taken for the object as well.
    match body.trim_ascii_start().first() {
        Some(b'[') => Err(refusal::<serde_json::Value>(body)),
        _ => serde_json::from_slice(body).map_err(|_| refusal::<T>(body)),
    }
}

/// What a JSON value is, for messages.
fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "true or false",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a text",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

#[cold]
fn refusal<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Problem {
    if body.is_empty() {
        return Problem::syntax("the body is empty; expected a JSON object");
    }
    if !body.trim_ascii_start().starts_with(b"{")
        && let Ok(other) = serde_json::from_slice(body)
    {
        return Problem::field("body", format!("expected a JSON object, got {}", kind(&other)));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let error = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(e) => e,
        // The value is fine, so something follows it.
        Ok(_) => return Problem::syntax("something follows the JSON object"),
    };
    let path = error.path().to_string();
    let inner = error.into_inner();
    // The text after ` at line` is a position, which people want, and never a secret.
    let detail = shorten(&inner.to_string());
    let deep = detail.starts_with("recursion limit");
    let huge = detail.starts_with("number out of range");
    match inner.classify() {
        serde_json::error::Category::Data => Problem::field(blame(&path, &detail), detail),
        _ if huge => Problem::field(path, format!("{detail}; expected a finite number")),
        _ if deep => Problem::field(path, "the value is nested too deeply; expected at most 128 levels"),
        _ => Problem::syntax(detail),
    }
}

/// A missing field is reported at its parent: the name stands in the message.
fn blame(path: &str, detail: &str) -> String {
    let named = ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| detail.strip_prefix(start))
        .and_then(|rest| rest.split('`').next());
    match named {
        Some(name) if path == "." => name.to_string(),
        Some(name) if !path.ends_with(name) => format!("{path}.{name}"),
        _ => path.to_string(),
    }
}

/// At most 300 characters: a message quotes what came, and that may be long.
fn shorten(text: &str) -> String {
    let mut cut: Cow<'_, str> = text.into();
    if let Some((end, _)) = text.char_indices().nth(300) {
        cut = format!("{}…", &text[..end]).into();
    }
    cut.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code)]
    struct Outer {
        name: String,
        rows: Vec<Row>,
    }
    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code)]
    struct Row {
        x: f64,
    }

    fn refused(body: &str) -> (u16, Option<String>, String) {
        let p = parse::<Outer>(body.as_bytes()).unwrap_err();
        (p.status.as_u16(), p.field, p.detail)
    }

    #[test]
    fn names_the_field() {
        let at = |body: &str| {
            let (status, field, _) = refused(body);
            (status, field.unwrap_or_default())
        };
        assert_eq!(
            at(r#"{"name":"a","rows":[{"x":1},{"x":"b"}]}"#),
            (422, "rows[1].x".into())
        );
        assert_eq!(at(r#"{"name":"a","rows":[{"x":1e400}]}"#), (422, "rows[0].x".into()));
        assert_eq!(at(r#"{"rows":[]}"#), (422, "name".into()));
        assert_eq!(at(r#"{"name":"a","rows":[{}]}"#), (422, "rows[0].x".into()));
        assert_eq!(at(r#"{"name":"a","rows":[],"more":1}"#), (422, "more".into()));
        assert_eq!(at(r#"{"name":"a","name":"b","rows":[]}"#), (422, "name".into()));
        assert_eq!(at(r#"{"name":"a","rows":[{"x":NaN}]}"#), (400, String::new()));
        assert_eq!(at(r#"{"name":"a","rows":[]} x"#), (400, String::new()));
        assert_eq!(at(""), (400, String::new()));
        for other in [r#"["a",[]]"#, "[]", "null", "7", r#""a""#] {
            let (status, field, detail) = refused(other);
            assert_eq!((status, field.as_deref()), (422, Some("body")), "{other}");
            assert!(detail.starts_with("expected a JSON object, got "), "{detail}");
        }
        assert_eq!(at("[1"), (400, String::new()));
        let deep = format!(r#"{{"name":{}"#, "[".repeat(10_000));
        assert_eq!(at(&deep), (422, "name".into()));
        let long = format!(r#"{{"name":"a","rows":"{}"}}"#, "é".repeat(100_000));
        assert!(refused(&long).2.len() < 1000, "a message is short whatever came");
    }

    #[test]
    fn is_a_problem_document() {
        let problem = Problem::overload().about("x");
        let text = serde_json::to_value(&problem).unwrap();
        assert_eq!(
            (&text["type"], &text["status"]),
            (&"urn:oo:problem:overload".into(), &429.into())
        );
        let response = problem.into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }
}
