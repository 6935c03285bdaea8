//! The answer: estimates and diagnostics of each policy, as JSON and as text.

use crate::table::{table, thousands};
use oo_judge::diagnostics::{CLIP, Findings};
use serde::{Serialize, Serializer};
use std::fmt::Write;

/// A parameter: a number, or the rule that chose it.
#[derive(Clone, PartialEq, Debug)]
pub enum Parameter {
    /// The estimator takes none.
    None,
    /// So much; infinity is written as `null`, like no parameter at all.
    Number(f64),
    /// Chosen from the log by this rule.
    Rule(&'static str),
}

impl Serialize for Parameter {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self {
            Parameter::None => out.serialize_none(),
            Parameter::Number(x) => out.serialize_f64(*x),
            Parameter::Rule(name) => out.serialize_str(name),
        }
    }
}

/// One estimate.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Line {
    /// The estimator's name.
    pub estimator: &'static str,
    /// Its parameter.
    pub parameter: Parameter,
    /// The policy's estimated value; none where no row says anything.
    pub value: Option<f64>,
    /// The interval's ends.
    pub ci: Option<[f64; 2]>,
    /// How the interval was found; none without one.
    pub method: Option<&'static str>,
}

/// What a rule chose.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Tuned {
    /// The estimator's name.
    pub estimator: &'static str,
    /// The rule.
    pub rule: &'static str,
    /// The parameter that it chose.
    pub parameter: f64,
}

/// What stands beside the estimates.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Diagnostics {
    /// The policy that was evaluated.
    pub policy: String,
    /// The reward model.
    pub model: String,
    /// The level of the intervals.
    pub level: f64,
    /// Mean reward of the rows as they were logged.
    pub logged_mean: f64,
    /// Users, where the log names at least two; intervals then go by user.
    pub users: Option<u64>,
    /// Rows left out because their reward had not arrived.
    pub unanswered: u64,
    /// Rows that only served to learn from.
    pub learned_from: u64,
    /// What weights and propensities show.
    #[serde(flatten)]
    pub findings: Findings,
    /// Parameters that rules chose.
    pub tuned: Vec<Tuned>,
}

/// Everything about one policy.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Answer {
    /// One entry an estimate, in the order asked for.
    pub estimates: Vec<Line>,
    /// What stands beside them.
    pub diagnostics: Diagnostics,
}

/// Several policies on one log.
#[derive(Serialize)]
struct Several<'a> {
    policies: &'a [Answer],
}

/// The answers as JSON: one as it is, several as a list under `policies`.
///
/// # Errors
/// None in practice: every number is finite or `null`.
pub fn json(answers: &[Answer]) -> anyhow::Result<String> {
    let text = match answers {
        [one] => serde_json::to_string_pretty(one)?,
        several => serde_json::to_string_pretty(&Several { policies: several })?,
    };
    Ok(text + "\n")
}

/// The answers for people.
pub fn text(answers: &[Answer]) -> String {
    let parts: Vec<String> = answers.iter().map(text_of).collect();
    parts.join("\n")
}

fn text_of(answer: &Answer) -> String {
    let d = &answer.diagnostics;
    let mut t = table(&["estimator", "parameter", "value", "interval"], &[1, 2]);
    for line in &answer.estimates {
        let parameter = match &line.parameter {
            Parameter::None => String::new(),
            Parameter::Number(x) => x.to_string(),
            Parameter::Rule(rule) => {
                let chosen = d.tuned.iter().find(|t| t.estimator == line.estimator && t.rule == *rule);
                chosen.map_or_else(String::new, |t| format!("{} by {rule}", t.parameter))
            }
        };
        let interval = match line.ci {
            Some([low, high]) => format!("{low:.6} to {high:.6}"),
            None => "–".into(),
        };
        let value = line.value.map_or_else(|| "–".into(), |v| format!("{v:.6}"));
        t.add_row(vec![line.estimator.into(), parameter, value, interval]);
    }
    let f = &d.findings;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}\n\n{t}\n", d.policy);
    if let Some(method) = answer.estimates.iter().find_map(|l| l.method) {
        let by = d.users.map_or_else(String::new, |n| format!(", by user ({} users)", thousands(n)));
        let _ = writeln!(out, "Intervals: {method} at {}{by}. Reward model: {}.", d.level, d.model);
    } else {
        let _ = writeln!(out, "Reward model: {}.", d.model);
    }
    let _ = writeln!(
        out,
        "Rows: {}, worth {:.0} of weight 1; logged mean reward {:.6}.",
        thousands(f.rows),
        f.effective_rows,
        d.logged_mean
    );
    let _ = writeln!(
        out,
        "Weights: mean {:.4} (expected {:.4}, p = {:.2}), largest {:.1} with {:.2} % of all weight{}.",
        f.weight_mean,
        f.weight_mean_expected,
        f.weight_mean_p,
        f.weight_max,
        100.0 * f.weight_max_share,
        f.tail_index.map_or_else(String::new, |k| format!(", tail index {k:.2}")),
    );
    let _ = writeln!(
        out,
        "Clipping at {CLIP}: {:.2} % of rows, {:.2} % of weight. Never done by this policy: {:.2} % of what was logged.",
        100.0 * f.clipped_rows,
        100.0 * f.clipped_weight,
        100.0 * f.idle
    );
    let _ = writeln!(
        out,
        "Support: {:.2} % of what it would do is missing in the log. Propensities: smallest {:e}{}.",
        100.0 * f.unsupported,
        f.propensity_min,
        f.calibration_p.map_or_else(String::new, |p| format!(", calibration p = {p:.2}")),
    );
    for warning in &f.warnings {
        let _ = writeln!(out, "Warning: {warning}.");
    }
    out
}
