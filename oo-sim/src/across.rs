//! The same policies in several environments: who wins how often, and whose ranks differ.

use crate::pairs::PairLine;
use crate::summary::{ALPHA, PolicyLine};
use oo_judge::stats::ranks;
use serde::Serialize;

/// Counted over the environments of an experiment.
#[derive(Clone, Debug, Serialize)]
pub struct Across {
    /// The number of environments.
    pub environments: usize,
    /// The policies, in the order of everything below.
    pub policies: Vec<String>,
    /// Row against column; `None` where the two were not compared.
    pub tallies: Vec<Vec<Option<Tally>>>,
    /// Mean ranks by mean reward, 1 being best.
    pub mean_ranks: Vec<f64>,
    /// p of "all policies rank alike" (Friedman, Iman and Davenport).
    pub ranks_p: f64,
    /// Mean ranks further apart than this differ at 5 % (Nemenyi).
    pub critical_difference: f64,
    /// Policies that the critical difference does not tell apart, best first.
    pub cliques: Vec<Vec<String>>,
}

/// In how many environments a policy is better than another, worse, and neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Better.
    pub better: usize,
    /// Worse.
    pub worse: usize,
    /// Not decided, or the same within the margin.
    pub neither: usize,
}

/// `None` with one environment or one policy, or where a policy has no mean.
pub(crate) fn across(lines: &[PolicyLine], pairs: &[PairLine]) -> Option<Across> {
    let first = &lines.first()?.env;
    let policies: Vec<String> = lines
        .iter()
        .take_while(|l| l.env == *first)
        .map(|l| l.policy.clone())
        .collect();
    let scores: Option<Vec<Vec<f64>>> = lines
        .chunks(policies.len())
        .map(|env| env.iter().map(|l| l.mean_reward).collect())
        .collect();
    let scores = scores?;
    let ranks = ranks(&scores, ALPHA)?;
    let tally = |row: &String, column: &String| {
        let mut tally = Tally::default();
        for pair in pairs {
            if !(pair.a == *row && pair.b == *column || pair.a == *column && pair.b == *row) {
                continue;
            }
            match pair.better() {
                Some(better) if better == row => tally.better += 1,
                Some(_) => tally.worse += 1,
                None => tally.neither += 1,
            }
        }
        (tally != Tally::default()).then_some(tally)
    };
    let row = |row| policies.iter().map(|column| tally(row, column)).collect();
    let names = |group: Vec<usize>| group.into_iter().map(|i| policies[i].clone()).collect();
    Some(Across {
        environments: scores.len(),
        tallies: policies.iter().map(row).collect(),
        mean_ranks: ranks.mean_ranks,
        ranks_p: ranks.p,
        critical_difference: ranks.critical_difference,
        cliques: ranks.cliques.into_iter().map(names).collect(),
        policies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wins_are_counted_from_either_side() {
        let line = |env: &str, policy: &str, mean: f64| PolicyLine {
            env: env.into(),
            policy: policy.into(),
            mean_reward: Some(mean),
            ..PolicyLine::default()
        };
        let pair = |env: &str, a: &str, b: &str, verdict: &str| PairLine {
            env: env.into(),
            a: a.into(),
            b: b.into(),
            verdict: verdict.into(),
            ..PairLine::default()
        };
        let lines = [
            line("x", "u", 0.1),
            line("x", "l", 0.5),
            line("y", "u", 0.2),
            line("y", "l", 0.2),
        ];
        let pairs = [pair("x", "u", "l", "l is better"), pair("y", "u", "l", "not decided")];
        let across = across(&lines, &pairs).unwrap();
        assert_eq!(across.mean_ranks, [1.75, 1.25]);
        let (tally, turned) = (across.tallies[1][0].unwrap(), across.tallies[0][1].unwrap());
        assert_eq!((tally.better, tally.worse, tally.neither), (1, 0, 1));
        assert_eq!((turned.better, turned.worse, turned.neither), (0, 1, 1));
        assert_eq!(across.tallies[0][0], None);
        assert!(super::across(&lines[..2], &pairs[..1]).is_none());
    }
}
