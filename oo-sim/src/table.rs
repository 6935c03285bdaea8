//! The summary for people.

use crate::across::Across;
use crate::commands::compare::By;
use crate::pairs::PairLine;
use crate::sheet::{Table, table};
use crate::summary::{PolicyLine, Summary, Timings};
use std::fmt::Write;

/// Lays the summary out; slices on request.
pub(crate) fn render(summary: &Summary, timings: &Timings, by: Option<By>) -> String {
    let mut out = String::new();
    let mut envs: Vec<&str> = Vec::new();
    for line in &summary.policies {
        if !envs.contains(&line.env.as_str()) {
            envs.push(&line.env);
        }
    }
    for env in envs {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{env}\n{}\n", policies(summary, timings, env));
        if summary.pairs.iter().any(|p| p.env == env) {
            let pairs = pairs(summary, env).to_string();
            let note = if pairs.contains(" needed") { NEEDED } else { "" };
            let _ = writeln!(out, "{pairs}\n{note}");
        }
        match by {
            None => {}
            Some(By::Persona) => {
                let _ = writeln!(out, "{}\n", groups(summary, env));
            }
            Some(By::Week) => {
                let _ = writeln!(out, "{}\n", weeks(summary, env));
                if summary.week_pairs.iter().any(|p| p.env == env) {
                    let note = "Difference by week; * marks p < 0.05 after Holm over all pairs and weeks.";
                    let _ = writeln!(out, "{}\n{note}\n", week_pairs(summary, env));
                }
            }
        }
    }
    if let Some(across) = &summary.across {
        let heading = format!("over {} environments", across.environments);
        let _ = writeln!(out, "{heading}\n{}\n{TALLIES}\n{}\n", ranking(across), apart(across));
    }
    let _ = writeln!(out, "{}", summary.method);
    out
}

/// What the number is, in the column of verdicts.
const NEEDED: &str = "Needed: decisions a policy that would find a difference of this size, 4 times out of 5.\n";

fn number(x: Option<f64>) -> String {
    x.map_or_else(|| "–".into(), |x| format!("{x:.4}"))
}

fn policies(summary: &Summary, timings: &Timings, env: &str) -> Table {
    let lines: Vec<&PolicyLine> = summary.policies.iter().filter(|p| p.env == env).collect();
    let bins = lines.iter().flat_map(|l| l.curve.iter().flatten().copied());
    let range = bins.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)));
    let mut t = table(
        [
            "policy",
            "mean reward",
            "best %",
            "regret",
            "done %",
            "snooze %",
            "dismiss %",
            "reward over time",
            "µs a round",
        ],
        &[1, 2, 3, 4, 5, 6, 7, 8],
    );
    for line in lines {
        let half = line
            .ci
            .map(|[low, high]| format!(" ± {:.4}", (high - low) / 2.0))
            .unwrap_or_default();
        let share = |x: fn(&crate::summary::Shares) -> f64| {
            line.reactions
                .as_ref()
                .map_or_else(|| "–".into(), |r| format!("{:.1}", 100.0 * x(r)))
        };
        let time = timings
            .policies
            .iter()
            .find(|t| t.env == env && t.policy == line.policy);
        let best = summary.probability_of_best(env, &line.policy);
        t.add_row(vec![
            line.policy.clone(),
            format!("{}{half}", number(line.mean_reward)),
            best.map_or_else(|| "–".into(), |p| format!("{:.0}", 100.0 * p)),
            number(line.mean_regret),
            share(|r| r.done),
            share(|r| r.snooze),
            share(|r| r.dismiss),
            sparkline(&line.curve, range),
            time.map_or_else(|| "–".into(), |t| format!("{:.1}", t.cpu_us_per_round)),
        ]);
    }
    t
}

/// One block a bin, all policies of an environment on one scale.
fn sparkline(curve: &[Option<f64>], (low, high): (f64, f64)) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let block = |x: f64| {
        let at = if high > low { (x - low) / (high - low) } else { 0.5 };
        BLOCKS[((at * 7.0).round().max(0.0) as usize).min(7)]
    };
    curve.iter().map(|x| x.map_or(' ', block)).collect()
}

fn pairs(summary: &Summary, env: &str) -> Table {
    let mut t = table(
        [
            "pair",
            "difference",
            if summary.stopping.is_some() {
                "95 % at all times"
            } else {
                "95 % interval"
            },
            "p (Holm)",
            "verdict",
        ],
        &[1, 2, 3],
    );
    let seen = |pair: &PairLine| {
        summary
            .policies
            .iter()
            .filter(|p| p.env == env && (p.policy == pair.a || p.policy == pair.b))
            .map(|p| p.rounds)
            .max()
    };
    for pair in summary.pairs.iter().filter(|p| p.env == env) {
        t.add_row(vec![
            format!("{} − {}", pair.a, pair.b),
            pair.diff.map_or_else(|| "–".into(), |d| format!("{d:+.4}")),
            pair.ci
                .map_or_else(|| "–".into(), |[low, high]| format!("{low:+.4} … {high:+.4}")),
            pair.p_adjusted.map_or_else(
                || "–".into(),
                |p| if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") },
            ),
            verdict(pair, seen(pair), "needed"),
        ]);
    }
    t
}

/// `seen` decisions were made by each of the two; `needed` follows the number that would decide.
pub(crate) fn verdict(pair: &PairLine, seen: Option<u64>, needed: &str) -> String {
    match (pair.verdict.as_str(), pair.decisions_for_80_percent_power) {
        // The calculation takes the spread as known, which with two or three clusters it is not.
        ("not decided", Some(n)) if seen.is_some_and(|seen| n <= seen) => {
            "not decided: too few seeds or users to be sure of the spread".into()
        }
        ("not decided", Some(n)) => {
            format!("not decided: about {} {needed}", thousands(rounded(n)))
        }
        ("not decided", None) if pair.ci.is_none() => "not decided: needs more seeds or users".into(),
        ("not decided", None) => "not decided: no difference seen".into(),
        (decided, _) => decided.into(),
    }
}

/// Up to three leading digits: more would claim a precision that a power calculation has not.
pub(crate) fn rounded(n: u64) -> u64 {
    let mut unit = 1;
    while n / unit >= 1000 {
        unit *= 10;
    }
    n.div_ceil(unit) * unit
}

/// Digits in groups of three.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Better, worse and neither against each policy, and the mean rank.
fn ranking(across: &Across) -> Table {
    let numbers: Vec<String> = (1..=across.policies.len()).map(|i| format!("against {i}")).collect();
    let header: Vec<String> = ["policy", "mean rank"]
        .map(String::from)
        .into_iter()
        .chain(numbers)
        .collect();
    let right: Vec<usize> = (1..header.len()).collect();
    let mut t = table(header, &right);
    for (i, name) in across.policies.iter().enumerate() {
        let tallies = across.tallies[i]
            .iter()
            .map(|tally| tally.map_or_else(|| "–".into(), |t| format!("{} / {} / {}", t.better, t.worse, t.neither)));
        let first = [format!("{} {name}", i + 1), format!("{:.2}", across.mean_ranks[i])];
        t.add_row(first.into_iter().chain(tallies));
    }
    t
}

/// Whom the ranks tell apart.
pub(crate) fn apart(across: &Across) -> String {
    let groups: Vec<String> = across.cliques.iter().map(|group| group.join(", ")).collect();
    let together = if groups.is_empty() {
        "all of them do".into()
    } else {
        format!("not told apart: {}", groups.join("; "))
    };
    let p = if across.ranks_p < 0.001 {
        "< 0.001".into()
    } else {
        format!("= {:.3}", across.ranks_p)
    };
    format!(
        "Mean ranks further apart than {:.2} differ (Nemenyi, 5 %; Friedman p {p}): {together}.",
        across.critical_difference
    )
}

/// What the numbers of the tallies are.
pub(crate) const TALLIES: &str = "Environments in which the policy is better / worse / neither.";

fn groups(summary: &Summary, env: &str) -> Table {
    let mut t = table(["persona", "policy", "mean reward", "rounds"], &[2, 3]);
    let mut lines: Vec<_> = summary.groups.iter().filter(|g| g.env == env).collect();
    lines.sort_by(|a, b| a.group.cmp(&b.group)); // stable: policies stay in their order
    for line in lines {
        t.add_row(vec![
            line.group.clone(),
            line.policy.clone(),
            number(Some(line.mean_reward)),
            thousands(line.rounds),
        ]);
    }
    t
}

/// One row a name, one column a week; `cells` come row by row.
fn by_week<'s>(first: &str, cells: impl Iterator<Item = (String, usize, String)> + 's) -> Table {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for (name, week, text) in cells {
        if rows.last().is_none_or(|(last, _)| *last != name) {
            rows.push((name, Vec::new()));
        }
        if let Some((_, row)) = rows.last_mut() {
            row.resize(week, "–".into());
            row[week - 1] = text;
        }
    }
    let weeks = rows.iter().map(|(_, row)| row.len()).max().unwrap_or(0);
    let header: Vec<String> = std::iter::once(first.into())
        .chain((1..=weeks).map(|w| format!("week {w}")))
        .collect();
    let right: Vec<usize> = (1..=weeks).collect();
    let mut t = table(header, &right);
    for (name, row) in rows {
        t.add_row(std::iter::once(name).chain(row));
    }
    t
}

fn weeks(summary: &Summary, env: &str) -> Table {
    let lines = summary.weeks.iter().filter(|w| w.env == env);
    by_week(
        "policy",
        lines.map(|w| (w.policy.clone(), w.week, number(w.mean_reward))),
    )
}

fn week_pairs(summary: &Summary, env: &str) -> Table {
    let lines = summary.week_pairs.iter().filter(|w| w.env == env);
    by_week(
        "pair",
        lines.map(|w| {
            let mark = if w.p_adjusted.is_some_and(|p| p < 0.05) {
                "*"
            } else {
                " "
            };
            let diff = w.diff.map_or_else(|| "–".into(), |d| format!("{d:+.4}{mark}"));
            (format!("{} − {}", w.a, w.b), w.week, diff)
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [thousands(7), thousands(1234), thousands(1_234_567)],
            ["7", "1,234", "1,234,567"]
        );
        assert_eq!([rounded(999), rounded(12_301), rounded(0)], [999, 12_400, 0]);
        assert_eq!(sparkline(&[Some(0.0), None, Some(1.0)], (0.0, 1.0)), "▁ █");
        assert_eq!(sparkline(&[Some(2.0)], (2.0, 2.0)), "▅");
    }
}
