//! The answer in words: who is better, by how much, how sure, and what would settle the rest.

use super::axis::{number, signed};
use crate::pairs::PairLine;
use crate::summary::PolicyLine;
use crate::table;
use serde::Serialize;

/// More pairs than these are left to the matrix.
const MOST: usize = 12;

/// What an environment's section begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// One sentence.
    pub headline: String,
    /// Differences that are decided.
    pub decided: Vec<String>,
    /// Differences that are not, and what would decide them.
    pub undecided: Vec<String>,
    /// What is left out here.
    pub rest: String,
}

fn p_value(pair: &PairLine) -> String {
    match pair.p_adjusted {
        None => String::new(),
        Some(p) if p < 0.001 => ", adjusted p < 0.001".into(),
        Some(p) => format!(", adjusted p = {p:.3}"),
    }
}

/// `one` against the other, whichever way round the pair stands. The headline may have named it: then it goes
/// without saying.
fn compared(pair: &PairLine, one: &str, named: bool) -> String {
    let flip = pair.b == one;
    let other = if flip { &pair.a } else { &pair.b };
    let Some(diff) = pair.diff else {
        return format!("{one} and {other}: no rounds to compare");
    };
    let diff = if flip { -diff } else { diff };
    let ci = pair.ci.map_or_else(String::new, |[low, high]| {
        let (low, high) = if flip { (-high, -low) } else { (low, high) };
        format!(", 95 % interval {} to {}", signed(low, 4), signed(high, 4))
    });
    let than = match (pair.better(), diff > 0.0) {
        (Some(_), true) => format!("better than {other}"),
        (Some(_), false) => format!("worse than {other}"),
        (None, _) if pair.is_decided() => format!("{} as {other}", pair.verdict.replacen("same", "the same", 1)),
        (None, _) => format!("against {other}"),
    };
    let than = match (named, pair.is_decided()) {
        (true, _) => than,
        (false, true) => format!("{one} is {than}"),
        (false, false) => format!("{one} {than}"),
    };
    format!("{than}: {} a decision{ci}{}", signed(diff, 4), p_value(pair))
}

/// Puts the pairs of one environment into words. `baseline` is the policy that the others were compared with.
pub fn verdict(policies: &[&PolicyLine], pairs: &[&PairLine], baseline: Option<&str>) -> Verdict {
    let earned = |p: &PolicyLine| {
        let half = p.ci.map(|[low, high]| format!(" ± {}", number((high - low) / 2.0, 4)));
        let mean = p.mean_reward.map_or_else(|| "nothing".into(), |m| number(m, 4));
        format!("{mean}{} a decision", half.unwrap_or_default())
    };
    let ranked = policies.iter().filter(|p| p.mean_reward.is_some());
    // The first of equals, so that the answer does not hang on a comparison of equal numbers.
    let best = ranked.reduce(|best, p| if p.mean_reward > best.mean_reward { p } else { best });
    let Some(best) = best else {
        return Verdict {
            headline: "There were no rounds, so nothing can be said.".into(),
            ..Verdict::default()
        };
    };
    if pairs.is_empty() {
        return Verdict {
            headline: format!(
                "{} earned {}. One policy: nothing to compare.",
                best.policy,
                earned(best)
            ),
            ..Verdict::default()
        };
    }
    let one = baseline.unwrap_or(&best.policy);
    let (own, other): (Vec<&PairLine>, Vec<&PairLine>) = pairs.iter().copied().partition(|p| p.a == one || p.b == one);
    let beaten = own.iter().filter(|p| p.better() == Some(one)).count();
    let lost = own.iter().filter(|p| p.better().is_some()).count() - beaten;
    let same = own.iter().filter(|p| p.is_decided()).count() - beaten - lost;
    let open = own.len() - lost - beaten - same;
    let rest = match (same, open) {
        (0, _) => "the rest is not decided".into(),
        (_, 0) => "the rest is the same within the margin".into(),
        _ => format!("{same} the same within the margin, {open} not decided"),
    };
    let headline = if baseline.is_some() {
        let same = if same > 0 {
            format!(" {same} the same,")
        } else {
            String::new()
        };
        format!(
            "Against the baseline {one}: {lost} better, {beaten} worse,{same} {open} not decided. The highest mean reward is \
             {}'s, {}.",
            best.policy,
            earned(best)
        )
    } else if beaten == own.len() {
        let all = match own.len() {
            1 => "the other policy".into(),
            n => format!("all {n} other policies"),
        };
        format!("{one} is better than {all}: it earned {}.", earned(best))
    } else if beaten > 0 {
        format!(
            "{one} earned most, {}, and is better than {beaten} of {} other policies; {rest}.",
            earned(best),
            own.len()
        )
    } else if open == 0 {
        format!("{one} earned most, {}; {rest}.", earned(best))
    } else {
        format!(
            "Not decided: {one} earned most, {}, but the run cannot tell it from the others.",
            earned(best)
        )
    };
    let seen = |pair: &PairLine| {
        let of_pair = policies.iter().filter(|p| p.policy == pair.a || p.policy == pair.b);
        of_pair.map(|p| p.rounds).max()
    };
    let mut verdict = Verdict {
        headline,
        ..Verdict::default()
    };
    for pair in own.iter().take(MOST) {
        // The baseline is what others are measured by; without one the best policy is.
        let other = if pair.a == one { &pair.b } else { &pair.a };
        let text = match baseline {
            Some(_) => compared(pair, other, false),
            None => compared(pair, one, true),
        };
        if pair.is_decided() {
            verdict.decided.push(text);
        } else {
            let settles = table::verdict(pair, seen(pair), "decisions a policy would settle it");
            let settles = settles.strip_prefix("not decided: ").unwrap_or(&settles);
            verdict.undecided.push(format!("{text}; {settles}"));
        }
    }
    let left = own.len().saturating_sub(MOST) + other.len();
    let decided = other
        .iter()
        .chain(own.iter().skip(MOST))
        .filter(|p| p.is_decided())
        .count();
    verdict.rest = match left {
        0 => String::new(),
        1 => format!(
            "The other pair is {}: see the matrix.",
            if decided == 1 { "decided" } else { "not decided" }
        ),
        _ => {
            let are = if decided == 1 { "is" } else { "are" };
            format!("Of the other {left} pairs, {decided} {are} decided: see the matrix.")
        }
    };
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, mean: f64) -> PolicyLine {
        PolicyLine {
            env: "e".into(),
            policy: name.into(),
            mean_reward: Some(mean),
            ci: Some([mean - 0.1, mean + 0.1]),
            rounds: 100,
            ..PolicyLine::default()
        }
    }

    fn pair(a: &str, b: &str, diff: f64, verdict: &str) -> PairLine {
        PairLine {
            env: "e".into(),
            a: a.into(),
            b: b.into(),
            diff: Some(diff),
            ci: Some([diff - 0.1, diff + 0.1]),
            p_adjusted: Some(if verdict == "not decided" { 0.3 } else { 0.0001 }),
            verdict: verdict.into(),
            decisions_for_80_percent_power: Some(12_345),
            ..PairLine::default()
        }
    }

    #[test]
    fn the_best_is_named_with_what_is_not_decided() {
        let policies = [policy("u", 0.1), policy("l", 0.5), policy("t", 0.45)];
        let pairs = [
            pair("u", "l", -0.4, "l is better"),
            pair("u", "t", -0.35, "t is better"),
            pair("l", "t", 0.05, "not decided"),
        ];
        let (policies, pairs): (Vec<_>, Vec<_>) = (policies.iter().collect(), pairs.iter().collect());
        let v = verdict(&policies, &pairs, None);
        assert!(
            v.headline.starts_with("l earned most, 0.5000 ± 0.1000"),
            "{}",
            v.headline
        );
        assert_eq!(
            v.decided,
            ["better than u: +0.4000 a decision, 95 % interval +0.3000 to +0.5000, adjusted p < 0.001"]
        );
        assert!(
            v.undecided[0].ends_with("about 12,400 decisions a policy would settle it"),
            "{v:?}"
        );
        assert_eq!(v.rest, "The other pair is decided: see the matrix.");
        let v = verdict(&policies, &pairs[..2], Some("u"));
        assert!(
            v.headline.starts_with("Against the baseline u: 2 better, 0 worse"),
            "{}",
            v.headline
        );
        assert!(v.decided[0].starts_with("l is better than u: +0.4000"), "{v:?}");
        let alike = pair("l", "t", 0.01, "same within 0.2");
        let v = verdict(&policies, &[pairs[0], pairs[1], &alike], None);
        assert!(
            v.headline
                .ends_with("better than 1 of 2 other policies; the rest is the same within the margin."),
            "{}",
            v.headline
        );
        assert!(
            v.decided[1].starts_with("the same within 0.2 as t: +0.0100 a decision"),
            "{v:?}"
        );
        let v = verdict(&policies[..1], &[], None);
        assert!(v.headline.ends_with("nothing to compare."), "{}", v.headline);
    }
}
