//! Parsing what requests to the server bring.

use super::{Case, Work};
use oo_core::Key;
use oo_serve::http::contract::{FeedbackRequest, RecommendRequest};
use oo_serve::http::problem::parse;
use std::hint::black_box;

const TIMES: usize = 16;
const CANDIDATES: usize = 10;

/// Two bodies of `/recommend`, by features and by the fields of a task, and one of `/feedback`.
pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("parse", "recommend features", || recommend(by_features())),
        Case::new("parse", "recommend tasks", || recommend(by_tasks())),
        Case::new("parse", "feedback", feedback),
    ]
}

fn recommend(body: String) -> Work {
    Box::new(move || {
        for _ in 0..TIMES {
            let request = parse::<RecommendRequest<'_>>(black_box(body.as_bytes()));
            let request = request.unwrap_or_else(|problem| panic!("{}", problem.detail));
            black_box(&request);
        }
    })
}

fn feedback() -> Work {
    let body = r#"{"decision_id":"0mzk3v8e2b7qd4x1","reaction":"done","dwell_ms":5400,"feedback_id":"f-1"}"#;
    Box::new(move || {
        for _ in 0..TIMES {
            let request = parse::<FeedbackRequest<'_>>(black_box(body.as_bytes()));
            let request = request.unwrap_or_else(|problem| panic!("{}", problem.detail));
            black_box(&request);
        }
    })
}

fn by_features() -> String {
    let mut draws = Key::root(1).name("body").draws();
    let candidate = |i: usize| {
        let numbers: Vec<String> = (0..12).map(|_| format!("{:.6}", draws.uniform())).collect();
        format!(r#"{{"id":"tip-{i}","features":[{}]}}"#, numbers.join(","))
    };
    let candidates: Vec<String> = (0..CANDIDATES).map(candidate).collect();
    format!(
        r#"{{"user_id":"user-17","context":[1.0],"candidates":[{}]}}"#,
        candidates.join(",")
    )
}

fn by_tasks() -> String {
    let candidate = |i: usize| {
        let (priority, effort) = (1 + i % 4, 5 + 13 * i);
        format!(
            r#"{{"id":"t{i}","content":"Write part {i} of the report","priority":{priority},"created":"2026-11-0{}","due":"2026-11-24T09:30:00","effort_minutes":{effort}}}"#,
            1 + i % 9
        )
    };
    let candidates: Vec<String> = (0..CANDIDATES).map(candidate).collect();
    format!(
        r#"{{"user_id":"user-17","context":{{"now":"2026-11-23T08:15:00"}},"candidates":[{}]}}"#,
        candidates.join(",")
    )
}
