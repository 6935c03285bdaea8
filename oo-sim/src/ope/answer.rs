//! The answer: estimates and diagnostics of each policy, as JSON and as text.

use crate::sheet::table;
use crate::table::thousands;
use oo_judge::estimators::diagnostics::{Check, Floor};
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
    /// Rows that were judged on.
    pub rows: u64,
    /// Kish's effective sample size.
    pub effective_rows: f64,
    /// Mean weight; should be 1.
    pub mean_weight: f64,
    /// Chance of a mean so far from 1 if the propensities are right.
    pub mean_weight_p: f64,
    /// Standard deviation of the weights.
    pub sd_weight: f64,
    /// Largest weight.
    pub max_weight: f64,
    /// (q, weight): the weights' quantiles, within 1.6 %.
    pub weight_quantiles: Vec<(f64, f64)>,
    /// Hill's index of the largest weights; none with too few rows.
    pub tail_index: Option<f64>,
    /// Share of rows of weight 0: what was logged, the policy never does.
    pub zero_share: f64,
    /// The weight above which clipped estimators clip by default.
    pub clip: f64,
    /// Share of rows above it.
    pub clipped_share: f64,
    /// Share of what the policy would do that the log cannot show.
    pub unsupported: f64,
    /// The smallest propensity, and whether it is a floor.
    pub floor: Floor,
    /// How many identities of right propensities were checked.
    pub checks: usize,
    /// Those that fail.
    pub failed: Vec<Check>,
    /// Parameters that rules chose.
    pub tuned: Vec<Tuned>,
    /// What all of that means, in words.
    pub warnings: Vec<String>,
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
    let mut t = table(["estimator", "parameter", "value", "interval"], &[1, 2]);
    for line in &answer.estimates {
        let parameter = match &line.parameter {
            Parameter::None => String::new(),
            Parameter::Number(x) => x.to_string(),
            Parameter::Rule(rule) => {
                let chosen = d
                    .tuned
                    .iter()
                    .find(|t| t.estimator == line.estimator && t.rule == *rule);
                chosen.map_or_else(String::new, |t| format!("{} by {rule}", t.parameter))
            }
        };
        let interval = match line.ci {
            Some([low, high]) => format!("{low:.6} to {high:.6}"),
            None => "–".into(),
        };
        let value = line.value.map_or_else(|| "–".into(), |v| format!("{v:.6}"));
        t.add_row([line.estimator.into(), parameter, value, interval]);
    }
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}\n\n{t}\n", d.policy);
    if let Some(method) = answer.estimates.iter().find_map(|l| l.method) {
        let by = d
            .users
            .map_or_else(String::new, |n| format!(", by user ({} users)", thousands(n)));
        let _ = writeln!(
            out,
            "Intervals: {method} at {}{by}. Reward model: {}.",
            d.level, d.model
        );
    } else {
        let _ = writeln!(out, "Reward model: {}.", d.model);
    }
    let _ = writeln!(
        out,
        "Rows: {}, worth {:.0} of weight 1; logged mean reward {:.6}.",
        thousands(d.rows),
        d.effective_rows,
        d.logged_mean
    );
    let _ = writeln!(
        out,
        "Weights: mean {:.4} (should be 1, p = {:.2}), largest {:.1}{}; {:.2} % of rows above {}, {:.2} % at 0.",
        d.mean_weight,
        d.mean_weight_p,
        d.max_weight,
        d.tail_index
            .map_or_else(String::new, |k| format!(", tail index {k:.2}")),
        100.0 * d.clipped_share,
        d.clip,
        100.0 * d.zero_share
    );
    let _ = writeln!(
        out,
        "Support: {:.2} % of what the policy would do is missing. Propensities: smallest {}, {} of {} checks fail.",
        100.0 * d.unsupported,
        d.floor.propensity,
        d.failed.len(),
        d.checks
    );
    for warning in &d.warnings {
        let _ = writeln!(out, "Warning: {warning}.");
    }
    out
}
