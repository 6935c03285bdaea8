//! The one error type of the traits. Messages say what was expected, what came, and the remedy where there is one.

use thiserror::Error;

/// What can go wrong between the parts of the workbench.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that no table holds.
    #[error("unknown {kind} `{name}`{}; there are: {}", nearest(.name, .known), .known.join(", "))]
    Unknown {
        /// What was looked up: policy, environment, option of …
        kind: String,
        /// The name as it came.
        name: String,
        /// Everything the table holds.
        known: Vec<String>,
    },
    /// An option of the right name with a value of the wrong type or out of range.
    #[error("option `{option}` of {owner}: expected {expected}, got {got}")]
    Option {
        /// The policy, environment or wrapper.
        owner: String,
        /// The option's name.
        option: String,
        /// Type or range.
        expected: String,
        /// The value as it came.
        got: String,
    },
    /// A specification such as `lin-ucb{alpha=0.5}` that does not parse.
    #[error("cannot read `{text}` at character {at}: expected {expected}")]
    Syntax {
        /// The whole text.
        text: String,
        /// 1-based character.
        at: usize,
        /// What should stand there.
        expected: String,
    },
    /// Two sizes that should agree do not.
    #[error("{what}: expected {expected}, got {got}")]
    Dimension {
        /// Which size.
        what: &'static str,
        /// What came.
        got: usize,
        /// What the receiver was built for.
        expected: usize,
    },
    /// NaN or an infinity among the features.
    #[error("feature `{feature}` is {value} in round {round}; features must be finite")]
    NotFinite {
        /// The feature's name, or its index where no name is known.
        feature: String,
        /// The value as it came.
        value: f32,
        /// The round's index.
        round: u64,
    },
    /// A policy wants a feature that the environment does not give.
    #[error("{owner} reads feature `{feature}`, which is not among: {}", .known.join(", "))]
    MissingFeature {
        /// Who asked.
        owner: String,
        /// The feature it asked for.
        feature: String,
        /// The features that exist.
        known: Vec<String>,
    },
    /// A policy and an environment that do not fit.
    #[error("{owner} does not fit here: {why}")]
    Unfit {
        /// The policy or wrapper.
        owner: String,
        /// The reason and the remedy.
        why: String,
    },
    /// A round without candidates reached a policy.
    #[error("round {round} offers no candidate")]
    NoCandidates {
        /// The round's index.
        round: u64,
    },
    /// A policy's probabilities are not a distribution.
    #[error("the proposed probabilities sum to {sum} (smallest {min}); expected 1 and none below 0")]
    Probabilities {
        /// Their sum.
        sum: f64,
        /// The smallest of them.
        min: f64,
    },
    /// Arithmetic that can no longer be trusted.
    #[error("{what} is numerically singular (condition about {condition:.1e}); raise lambda or scale the features")]
    Singular {
        /// The matrix.
        what: &'static str,
        /// Estimated condition number.
        condition: f64,
    },
    /// Saved state that is foreign, damaged or of another version.
    #[error("cannot load the state of {policy}: {why}")]
    State {
        /// The policy that was asked to load.
        policy: String,
        /// Why it refused.
        why: String,
    },
    /// A judge or an environment failed for a reason of its own.
    #[error("{0}")]
    Failed(String),
}

/// The nearest known name, as ` (did you mean …?)`, or nothing when none is near.
fn nearest(name: &str, known: &[String]) -> String {
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .min()
        .filter(|(distance, k)| *distance <= 1.max(k.len().min(name.len()) / 2))
        .map(|(_, k)| format!(" (did you mean `{k}`?)"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_the_nearest_and_lists_all() {
        let known = vec!["lin-ucb".to_string(), "uniform".to_string()];
        let e = Error::Unknown {
            kind: "policy".into(),
            name: "linucb".into(),
            known,
        };
        assert_eq!(
            e.to_string(),
            "unknown policy `linucb` (did you mean `lin-ucb`?); there are: lin-ucb, uniform"
        );
        // Two of three letters are another word.
        let known = ["all".to_string(), "ips".to_string()];
        assert_eq!(
            [nearest("axe", &known), nearest("isp", &known)],
            ["", " (did you mean `ips`?)"]
        );
    }
}
