//! The gate: may the challenger replace the champion?
//!
//! A [`Rule`] is written before anybody looks; [`decide`] holds it against the [`Evidence`] and answers `promote`, `keep`
//! or `undecided`, with every check that led there.
//!
//! A check on a difference δ asks whether δ lies above a limit (or below one). It passes when the bound of error rate α on
//! the near side has cleared the limit, and fails when the bound on the far side has not reached it.
//!
//! - *Promotion* needs every check to pass. If one requirement is not met in truth, its check passes with probability at
//!   most α, so the whole does too: an intersection–union test, which needs no correction however many checks there are
//!   (Berger 1982, Technometrics 24).
//! - *Keep* needs one check to fail. So that a challenger that meets everything is sent away with probability at most α,
//!   each of the m checks on differences fails at α/m (Bonferroni).
//!
//! Both hold however often one looks, when the rule says `looks = "any"`; see [`bounds`].

pub mod bounds;
pub mod evidence;
pub mod rule;
#[cfg(test)]
mod tests;

pub use bounds::Looking;
pub use evidence::{Diagnostic, Evidence, Operation, Seen, Source};
pub use rule::{Guards, LiveRule, LogRule, Looks, Rule, RunRule};

use serde::{Deserialize, Serialize};

/// What the gate says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The challenger replaces the champion.
    Promote,
    /// The champion stays.
    Keep,
    /// The evidence does not say.
    Undecided,
}

/// How one check came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The requirement is shown to be met.
    Pass,
    /// It is shown not to be met.
    Fail,
    /// Neither.
    Undecided,
}

/// One requirement and what became of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Check {
    /// What is looked at.
    pub name: String,
    /// `run`, `log`, `live` or `rule`.
    pub source: &'static str,
    /// In words.
    pub required: String,
    /// What was seen, where it is a number.
    pub seen: Option<f64>,
    /// The bounds of what was seen, on either side; `None` where the evidence gives none.
    pub low: Option<f64>,
    /// Likewise.
    pub high: Option<f64>,
    /// How it came out.
    pub outcome: Outcome,
    /// About so many more decisions of each policy would settle it, judged by what was seen so far: as likely as not.
    pub more_decisions: Option<u64>,
}

/// What went before this look.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct History {
    /// Looks at other evidence of this pair before this one.
    pub looks_before: u32,
    /// What speaks against the rule having been there before the first look.
    pub objection: Option<String>,
}

/// The answer with everything it rests on.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Verdict {
    /// Promote, keep or undecided.
    pub answer: Answer,
    /// Where undecided: about so many more decisions of each policy would settle what is open. `None` where no number
    /// would.
    pub more_decisions: Option<u64>,
    /// Every check.
    pub checks: Vec<Check>,
}

/// Holds the rule against the evidence.
///
/// `rule` must have passed [`Rule::check`].
pub fn decide(rule: &Rule, evidence: &[Evidence], history: &History) -> Verdict {
    let mut checks = vec![registered(history)];
    checks.extend(looks(rule, history));
    let alpha = 1.0 - rule.confidence;
    let asked: Vec<Vec<Question<'_>>> = evidence.iter().map(|e| questions(rule, e)).collect();
    let many = asked.iter().map(Vec::len).sum::<usize>().max(1) as f64;
    for (e, questions) in evidence.iter().zip(&asked) {
        let mut sound = enough(rule, e, &mut checks);
        for d in &e.diagnostics {
            sound &= d.holds;
            checks.push(diagnostic(e, d));
        }
        for q in questions {
            let mut check = q.answer(rule, e, alpha, alpha / many);
            let breach = q.operation && check.outcome == Outcome::Fail;
            if !sound && !breach && check.outcome != Outcome::Undecided {
                // A source that does not meet its conditions speaks for nobody; what it lacks is in the rows above.
                check.outcome = Outcome::Undecided;
                check.more_decisions = Some(0);
            }
            checks.push(check);
        }
    }
    checks.extend(not_measured(rule, evidence));
    let all = |outcome| checks.iter().all(|c| c.outcome == outcome);
    let mut answer = if checks.iter().any(|c| c.outcome == Outcome::Fail) {
        Answer::Keep
    } else if all(Outcome::Pass) && !evidence.is_empty() {
        Answer::Promote
    } else {
        Answer::Undecided
    };
    let decisions = evidence.iter().map(|e| e.decisions).min().unwrap_or(0);
    if let Some(max) = rule
        .max_decisions
        .filter(|max| answer == Answer::Undecided && decisions >= *max)
    {
        answer = Answer::Keep;
        checks.push(Check {
            name: "decisions at most".into(),
            required: format!("an answer before {max} decisions"),
            seen: Some(decisions as f64),
            ..rule_check(Outcome::Fail)
        });
    }
    let open = checks.iter().filter(|c| c.outcome == Outcome::Undecided);
    let more = open.map(|c| c.more_decisions).reduce(|a, b| Some(a?.max(b?)));
    Verdict {
        answer,
        more_decisions: more.flatten().filter(|_| answer == Answer::Undecided),
        checks,
    }
}

/// A check on the rule itself, without numbers.
fn rule_check(outcome: Outcome) -> Check {
    Check {
        name: String::new(),
        source: "rule",
        required: String::new(),
        seen: None,
        low: None,
        high: None,
        outcome,
        more_decisions: None,
    }
}

fn registered(history: &History) -> Check {
    let (required, outcome) = match &history.objection {
        None => ("the rule of the first look at this evidence".into(), Outcome::Pass),
        Some(objection) => (objection.clone(), Outcome::Undecided),
    };
    Check {
        name: "written before the first look".into(),
        required,
        ..rule_check(outcome)
    }
}

fn looks(rule: &Rule, history: &History) -> Option<Check> {
    let Looks::Planned(planned) = rule.looks else {
        return None;
    };
    let this = history.looks_before + 1;
    Some(Check {
        name: "looks".into(),
        required: format!("at most {planned}"),
        seen: Some(f64::from(this)),
        ..rule_check(if this <= planned { Outcome::Pass } else { Outcome::Fail })
    })
}

/// The checks that there is enough of a source; whether there is.
fn enough(rule: &Rule, e: &Evidence, checks: &mut Vec<Check>) -> bool {
    let (min_decisions, min_clusters) = match e.source {
        Source::Run => (rule.run.min_decisions, rule.run.min_clusters),
        Source::Log => (rule.log.min_decisions, rule.log.min_clusters),
        Source::Live => (rule.live.min_decisions, rule.live.min_clusters),
    };
    let mut least = |name: String, got: u64, least: u64, decisions_each: f64| {
        let ok = got >= least;
        checks.push(Check {
            name,
            source: e.source.name(),
            required: format!("at least {least}"),
            seen: Some(got as f64),
            more_decisions: (!ok).then(|| libm::ceil((least - got) as f64 * decisions_each) as u64),
            ..rule_check(if ok { Outcome::Pass } else { Outcome::Undecided })
        });
        ok
    };
    let decisions = least("decisions of each policy".into(), e.decisions, min_decisions, 1.0);
    let each = e.decisions as f64 / e.clusters.max(1) as f64;
    let clusters = least(
        format!("clusters ({})", e.unit),
        e.clusters as u64,
        min_clusters,
        each.max(1.0),
    );
    decisions && clusters
}

fn diagnostic(e: &Evidence, d: &Diagnostic) -> Check {
    let more = d
        .times
        .map(|times| libm::ceil(e.decisions as f64 * (times - 1.0).max(0.0)).min(1e15) as u64);
    Check {
        name: d.name.clone(),
        source: e.source.name(),
        required: d.required.clone(),
        seen: Some(d.seen),
        more_decisions: more.filter(|_| !d.holds),
        ..rule_check(match (d.holds, d.ends) {
            (true, _) => Outcome::Pass,
            (_, true) => Outcome::Fail,
            _ => Outcome::Undecided,
        })
    }
}

/// One question about a difference.
struct Question<'e> {
    name: String,
    seen: &'e Seen,
    limit: Limit,
    /// About how the policy runs: what has failed for sure need not wait for the minima.
    operation: bool,
}

enum Limit {
    Above(f64),
    Below(f64),
}

fn questions<'e>(rule: &Rule, e: &'e Evidence) -> Vec<Question<'e>> {
    let mut all = Vec::new();
    for (operation, seen) in &e.operations {
        let (name, most) = rule.live.limit(*operation);
        all.push(Question {
            name,
            seen,
            limit: Limit::Below(most),
            operation: true,
        });
    }
    let mut ask = |name: String, seen: &'e Seen, limit: Limit| {
        all.push(Question {
            name,
            seen,
            limit,
            operation: false,
        });
    };
    for (method, seen) in &e.effect {
        ask(format!("difference in {method}"), seen, Limit::Above(rule.least()));
    }
    for (spec, least) in &rule.rewards {
        if let Some(seen) = e.rewards.get(spec) {
            ask(format!("difference under reward {spec}"), seen, Limit::Above(*least));
        }
    }
    for (group, seen) in &e.groups {
        if let Some(loss) = rule.group_limit(group) {
            ask(format!("difference for {group}"), seen, Limit::Above(-loss));
        }
    }
    for (reaction, seen) in &e.reactions {
        if let Some(rise) = rule.guards.rise.get(reaction) {
            ask(format!("share of {}, rise", reaction.name()), seen, Limit::Below(*rise));
        }
        if let Some(fall) = rule.guards.fall.get(reaction) {
            ask(format!("share of {}, fall", reaction.name()), seen, Limit::Above(-fall));
        }
    }
    all
}

impl Question<'_> {
    fn answer(&self, rule: &Rule, e: &Evidence, pass: f64, fail: f64) -> Check {
        let looking = match e.source {
            Source::Run => rule.looking_at_run(),
            Source::Log => rule.looking_at_log(e.unit == "rows"),
            Source::Live if self.operation => rule.looking_at_operations(),
            Source::Live => rule.looking_at_live(),
        };
        let diff = self.seen.diff;
        let (limit, low, high, passed, failed, required);
        match self.limit {
            Limit::Above(least) => {
                (low, high) = self.seen.bounds(looking, pass, fail);
                (limit, passed, failed) = (least, low > least, high <= least);
                required = format!("above {least:+}");
            }
            Limit::Below(most) => {
                (low, high) = self.seen.bounds(looking, fail, pass);
                (limit, passed, failed) = (most, high < most, low >= most);
                required = format!("below {most:+}");
            }
        }
        let outcome = match (passed, failed) {
            (true, _) => Outcome::Pass,
            (_, true) => Outcome::Fail,
            _ => Outcome::Undecided,
        };
        let right_side = matches!(self.limit, Limit::Above(_)) == (diff > limit);
        let rate = if right_side { pass } else { fail };
        let times = self.seen.std_error.and_then(|se| {
            let gap = bounds::median_size(diff - limit, se);
            looking.growth_needed(gap, se, self.seen.size(), rate, 0.5)
        });
        // One cluster more at least: what is open stays open without any.
        let each = e.decisions as f64 / self.seen.clusters.max(1) as f64;
        let more = match self.seen.std_error {
            Some(_) => times.map(|times| libm::ceil(((times - 1.0) * e.decisions as f64).max(each))),
            None => Some(libm::ceil(each.max(1.0))),
        };
        let finite = |x: f64| Some(x).filter(|x| x.is_finite());
        Check {
            name: self.name.clone(),
            source: e.source.name(),
            required,
            seen: finite(diff),
            low: finite(low),
            high: finite(high),
            outcome,
            more_decisions: more
                .filter(|n| outcome == Outcome::Undecided && *n < 1e15)
                .map(|n| n as u64),
        }
    }
}

/// What the rule asks for and no source shows: a check that cannot be made never passes.
fn not_measured(rule: &Rule, evidence: &[Evidence]) -> Vec<Check> {
    let any = |has: &dyn Fn(&Evidence) -> bool| evidence.iter().any(has);
    let mut missing = Vec::new();
    if rule.guards.group_loss.is_some() && !any(&|e| !e.groups.is_empty()) {
        missing.push("difference for groups".to_string());
    }
    for group in rule
        .guards
        .groups
        .keys()
        .filter(|g| !any(&|e| e.groups.contains_key(*g)))
    {
        missing.push(format!("difference for {group}"));
    }
    for spec in rule.rewards.keys().filter(|s| !any(&|e| e.rewards.contains_key(*s))) {
        missing.push(format!("difference under reward {spec}"));
    }
    for (guard, kind) in [(&rule.guards.rise, "rise"), (&rule.guards.fall, "fall")] {
        for reaction in guard.keys().filter(|r| !any(&|e| e.reactions.contains_key(r))) {
            missing.push(format!("share of {}, {kind}", reaction.name()));
        }
    }
    let row = |name| Check {
        name,
        required: "to be measured; nothing here measures it".into(),
        ..rule_check(Outcome::Undecided)
    };
    missing.into_iter().map(row).collect()
}
