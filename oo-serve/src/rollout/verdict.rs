//! What the gate says of an experiment, in words and in the answers.

use crate::engine::Standing;
use oo_judge::gate::{self, Check, Verdict};
use serde::Serialize;

/// What the rule says of what was seen so far.
pub(super) fn judge(standing: &Standing) -> Verdict {
    // It was written down with the experiment, so it cannot have changed since the first look.
    let evidence = std::slice::from_ref(&standing.evidence);
    gate::decide(&standing.plan.rule, evidence, &gate::History::default())
}

pub(super) fn word(answer: gate::Answer) -> &'static str {
    match answer {
        gate::Answer::Promote => "promote",
        gate::Answer::Keep => "keep",
        gate::Answer::Undecided => "undecided",
    }
}

/// The checks that failed, or where none did, those that are open, in words.
pub(super) fn reasons(verdict: &Verdict) -> String {
    let of = |outcome| {
        let checks = verdict.checks.iter().filter(|c| c.outcome == outcome);
        checks.map(said).collect::<Vec<_>>().join("; ")
    };
    match verdict.answer {
        gate::Answer::Keep => of(gate::Outcome::Fail),
        _ => {
            let more = verdict.more_decisions.map_or(String::new(), |n| {
                format!("; about {n} more decisions of each arm would settle it, as likely as not")
            });
            of(gate::Outcome::Undecided) + &more
        }
    }
}

fn said(check: &Check) -> String {
    // Counts are whole.
    let number = |x: f64| {
        if x.fract() == 0.0 {
            format!("{x:.0}")
        } else {
            format!("{x:.4}")
        }
    };
    let seen = check.seen.map_or(String::new(), |x| format!(", seen {}", number(x)));
    let bounds = match (check.low, check.high) {
        (None, None) => String::new(),
        (low, high) => {
            let end = |x: Option<f64>, none: &str| x.map_or(none.to_string(), number);
            format!(" in {} … {}", end(low, "−∞"), end(high, "∞"))
        }
    };
    format!("{}: required {}{seen}{bounds}", check.name, check.required)
}

/// What the gate says, for `GET /assignments`.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    pub answer: gate::Answer,
    pub more_decisions: Option<u64>,
    pub difference: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub checks: &'a [Check],
}
