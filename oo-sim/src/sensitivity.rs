//! Does the ranking of policies survive another reward spec? Reactions and dwell of a run are scored again.
//!
//! Every policy learned under the run's own spec: another score says what its behaviour was worth under that spec, not
//! what it would have learned from it.

use crate::experiment::{Named, Plan};
use crate::sheet::{self, Table};
use crate::store::Store;
use crate::summary::{LEVEL, interval};
use crate::tally::{Measure, Tally};
use anyhow::{Result, ensure};
use oo_core::tips::RewardSpec;
use oo_judge::stats::{Cluster, difference, holm, mean_interval};
use serde::Serialize;
use std::fmt::Write;

/// What is decided after Holm at this level.
const ALPHA: f64 = 0.05;

/// The answer for all environments of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Sensitivity {
    /// The spec that the policies learned from.
    pub learned_under: String,
    /// The specs that the run was scored under.
    pub specs: Vec<String>,
    /// One an environment.
    pub environments: Vec<Section>,
    /// What this cannot say.
    pub note: String,
}

/// One environment.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The environment.
    pub env: String,
    /// Whether the ranking survives: `yes`, `no`, or `not decided`.
    pub survives: &'static str,
    /// The same in words.
    pub verdict: Vec<String>,
    /// One line a policy and spec.
    pub means: Vec<MeanLine>,
    /// One line a pair and spec.
    pub pairs: Vec<PairLine>,
    /// Kendall's tau of the rankings by mean, for each two specs.
    pub rankings: Vec<Ranking>,
}

/// The mean of a policy under a spec.
#[derive(Clone, Debug, Serialize)]
pub struct MeanLine {
    /// The policy.
    pub policy: String,
    /// The spec.
    pub spec: String,
    /// Mean reward a decision.
    pub mean: Option<f64>,
    /// Its 95 % interval.
    pub ci: Option<[f64; 2]>,
    /// 1 for the best.
    pub rank: usize,
}

/// Two policies under a spec.
#[derive(Clone, Debug, Serialize)]
pub struct PairLine {
    /// The first policy.
    pub a: String,
    /// The second.
    pub b: String,
    /// The spec.
    pub spec: String,
    /// Mean of `a` less mean of `b`.
    pub diff: Option<f64>,
    /// Its 95 % interval.
    pub ci: Option<[f64; 2]>,
    /// p after Holm over all pairs and specs of the environment.
    pub p_adjusted: Option<f64>,
}

impl PairLine {
    /// 1 or −1 where the difference is decided.
    fn decided(&self) -> Option<f64> {
        self.diff
            .filter(|_| self.p_adjusted.is_some_and(|p| p < ALPHA))
            .map(f64::signum)
    }
}

/// How well two rankings agree.
#[derive(Clone, Debug, Serialize)]
pub struct Ranking {
    /// One spec.
    pub a: String,
    /// Another.
    pub b: String,
    /// Pairs in the same order less pairs in the other, over all pairs: 1 is the same ranking, −1 the reverse. `None`
    /// with one policy.
    pub tau: Option<f64>,
    /// Pairs in the same order.
    pub same: usize,
    /// All pairs.
    pub pairs: usize,
}

/// Scores the run under every spec.
///
/// # Errors
/// A cell that cannot be read; an environment without reactions.
pub fn sensitivity(plan: &Plan, store: &Store, specs: &[RewardSpec]) -> Result<Sensitivity> {
    let environments = plan.envs.iter().map(|env| section(plan, store, env, specs));
    Ok(Sensitivity {
        learned_under: plan.reward.name.clone(),
        specs: specs.iter().map(|s| s.name.clone()).collect(),
        environments: environments.collect::<Result<_>>()?,
        note: format!(
            "Every policy learned from rewards under {}. The other columns score the same behaviour; a policy that had \
             learned under another spec might have behaved otherwise. To know, run `oo-sim compare --reward`.",
            plan.reward.name
        ),
    })
}

fn section(plan: &Plan, store: &Store, env: &Named, specs: &[RewardSpec]) -> Result<Section> {
    let policies: Vec<&Named> = plan.policies.iter().collect();
    let tally = Tally::read(plan, store, env, &policies, specs)?;
    ensure!(
        tally.reacted,
        "environment {}: its rounds have no reactions, so there is nothing to score again",
        env.name
    );
    // By spec, then policy.
    let clusters: Vec<Vec<Vec<Cluster>>> = (0..specs.len())
        .map(|s| {
            (0..policies.len())
                .map(|p| tally.clusters(p, Measure::Spec(s)))
                .collect()
        })
        .collect();
    let mut means = Vec::new();
    for (spec, of_spec) in specs.iter().zip(&clusters) {
        let estimates: Vec<_> = of_spec.iter().map(|c| mean_interval(c, LEVEL)).collect();
        for (policy, e) in policies.iter().zip(&estimates) {
            means.push(MeanLine {
                policy: policy.name.clone(),
                spec: spec.name.clone(),
                mean: Some(e.value).filter(|m| m.is_finite()),
                ci: interval(e.low, e.high),
                rank: 1 + estimates.iter().filter(|o| o.value > e.value).count(),
            });
        }
    }
    let n = policies.len();
    let two: Vec<(usize, usize)> = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect();
    let mut pairs = Vec::new();
    for &(a, b) in &two {
        for (spec, of_spec) in specs.iter().zip(&clusters) {
            let d = difference(&of_spec[a], &of_spec[b], LEVEL);
            pairs.push(PairLine {
                a: policies[a].name.clone(),
                b: policies[b].name.clone(),
                spec: spec.name.clone(),
                diff: Some(d.diff).filter(|x| x.is_finite()),
                ci: interval(d.low, d.high),
                p_adjusted: d.p.filter(|p| p.is_finite()),
            });
        }
    }
    let adjusted = holm(
        &pairs
            .iter()
            .map(|p| p.p_adjusted.unwrap_or(f64::NAN))
            .collect::<Vec<_>>(),
    );
    for (pair, p) in pairs.iter_mut().zip(adjusted) {
        pair.p_adjusted = pair.p_adjusted.map(|_| p);
    }
    let (survives, verdict) = words(&pairs, specs.len());
    Ok(Section {
        env: env.name.clone(),
        survives,
        verdict,
        rankings: rankings(&pairs, specs),
        means,
        pairs,
    })
}

/// `pairs` has the specs of a pair side by side.
fn words(pairs: &[PairLine], specs: usize) -> (&'static str, Vec<String>) {
    let all: Vec<&[PairLine]> = pairs.chunks(specs.max(1)).collect();
    if all.is_empty() {
        return ("yes", vec!["One policy: there is no ranking.".into()]);
    }
    let (mut reversed, mut open, mut alike) = (Vec::new(), Vec::new(), 0);
    for of_pair in &all {
        let under = |sign: f64| {
            let hits = of_pair.iter().filter(|p| p.decided() == Some(sign));
            hits.map(|p| p.spec.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (first, second) = (under(1.0), under(-1.0));
        let (a, b) = (&of_pair[0].a, &of_pair[0].b);
        let undecided = of_pair.iter().filter(|p| p.decided().is_none());
        let undecided = undecided.map(|p| p.spec.as_str()).collect::<Vec<_>>().join(", ");
        match (first.is_empty(), second.is_empty()) {
            (false, false) => {
                reversed.push(format!(
                    "{a} is better than {b} under {first}, and worse under {second}"
                ));
            }
            _ if undecided.is_empty() => alike += 1,
            (false, true) => open.push(format!(
                "{a} is better than {b} under {first}; not decided under {undecided}"
            )),
            (true, false) => open.push(format!(
                "{b} is better than {a} under {second}; not decided under {undecided}"
            )),
            (true, true) => open.push(format!("{a} and {b}: not decided under any")),
        }
    }
    let count = |n: usize| if n == 1 { "1 pair".into() } else { format!("{n} pairs") };
    let mut verdict = Vec::new();
    let survives = if !reversed.is_empty() {
        verdict.push("The ranking does not survive: what is better depends on the reward spec.".into());
        "no"
    } else if open.is_empty() {
        verdict.push(format!(
            "The ranking survives: every difference is decided, and the same way under every spec ({}).",
            count(all.len())
        ));
        "yes"
    } else if alike == 0 && open.iter().all(|line| line.ends_with("under any")) {
        verdict.push("Not decided: no difference is decided under any spec, so there is no ranking to survive.".into());
        "not decided"
    } else {
        verdict.push(format!(
            "Nothing decided is reversed, but not everything is decided: {} alike under every spec, {} open.",
            count(alike),
            count(open.len())
        ));
        "not decided"
    };
    verdict.extend(reversed);
    verdict.extend(open);
    (survives, verdict)
}

fn rankings(pairs: &[PairLine], specs: &[RewardSpec]) -> Vec<Ranking> {
    let mut all = Vec::new();
    for (i, a) in specs.iter().enumerate() {
        for (j, b) in specs.iter().enumerate().skip(i + 1) {
            let signs = pairs.chunks(specs.len()).map(|of_pair| {
                let sign = |k: usize| {
                    of_pair[k]
                        .diff
                        .map_or(0.0, |d: f64| if d == 0.0 { 0.0 } else { d.signum() })
                };
                sign(i) * sign(j)
            });
            let signs: Vec<f64> = signs.collect();
            all.push(Ranking {
                a: a.name.clone(),
                b: b.name.clone(),
                tau: (!signs.is_empty()).then(|| signs.iter().sum::<f64>() / signs.len() as f64),
                same: signs.iter().filter(|s| **s > 0.0).count(),
                pairs: signs.len(),
            });
        }
    }
    all
}

/// For people.
pub fn text(s: &Sensitivity) -> String {
    let mut out = String::new();
    for section in &s.environments {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}\n{}\n", section.env, means(s, section));
        for line in &section.rankings {
            let tau = line.tau.map_or_else(|| "–".into(), |t| format!("{t:+.2}"));
            let _ = writeln!(
                out,
                "Ranking under {} and {}: {} of {} pairs in the same order, Kendall's tau {tau}.",
                line.a, line.b, line.same, line.pairs
            );
        }
        let _ = writeln!(out);
        for line in &section.verdict {
            let _ = writeln!(out, "{line}");
        }
        let _ = writeln!(out);
    }
    let _ = writeln!(
        out,
        "95 % intervals over clusters; decided means p < 0.05 after Holm over all pairs and specs.\n{}",
        s.note
    );
    out
}

fn means(s: &Sensitivity, section: &Section) -> Table {
    let mut header = vec!["policy".to_string()];
    for spec in &s.specs {
        let own = if *spec == s.learned_under { " (learned)" } else { "" };
        header.extend([format!("{spec}{own}"), "rank".into()]);
    }
    let right: Vec<usize> = (1..header.len()).collect();
    let mut table = sheet::table(header, &right);
    let mut policies: Vec<&str> = section.means.iter().map(|m| m.policy.as_str()).collect();
    policies.truncate(section.means.len() / s.specs.len().max(1));
    for policy in policies {
        let mut row = vec![policy.to_string()];
        for line in section.means.iter().filter(|m| m.policy == policy) {
            let mean = line.mean.map_or_else(|| "–".into(), |m| format!("{m:.4}"));
            let half = line
                .ci
                .map_or_else(String::new, |[low, high]| format!(" ± {:.4}", (high - low) / 2.0));
            row.extend([mean + &half, line.rank.to_string()]);
        }
        table.add_row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(spec: &str, diff: f64, p: f64) -> PairLine {
        PairLine {
            a: "x".into(),
            b: "y".into(),
            spec: spec.into(),
            diff: Some(diff),
            ci: None,
            p_adjusted: Some(p),
        }
    }

    #[test]
    fn words_follow_what_is_decided() {
        let say = |lines: [(f64, f64); 2]| {
            let pairs = [pair("r0", lines[0].0, lines[0].1), pair("r2", lines[1].0, lines[1].1)];
            words(&pairs, 2)
        };
        let (survives, text) = say([(0.1, 0.001), (-0.1, 0.001)]);
        assert_eq!(
            (survives, text[1].as_str()),
            ("no", "x is better than y under r0, and worse under r2")
        );
        assert_eq!(say([(0.1, 0.001), (0.2, 0.001)]).0, "yes");
        let (survives, text) = say([(0.1, 0.5), (-0.2, 0.001)]);
        assert_eq!(
            (survives, text[1].as_str()),
            ("not decided", "y is better than x under r2; not decided under r0")
        );
        assert!(say([(0.1, 0.5), (-0.2, 0.5)]).1[0].starts_with("Not decided"));
        assert_eq!(words(&[], 3).0, "yes");
    }

    #[test]
    fn tau_by_hand() {
        let specs = ["r0", "r2"].map(|n| RewardSpec::named(n).unwrap());
        // Three pairs: two in the same order, one reversed.
        let pairs: Vec<PairLine> = [(0.1, 0.2), (-0.1, -0.3), (0.1, -0.1)]
            .iter()
            .flat_map(|&(a, b)| [pair("r0", a, 1.0), pair("r2", b, 1.0)])
            .collect();
        let r = &rankings(&pairs, &specs)[0];
        assert!((r.tau.unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((r.same, r.pairs), (2, 3));
    }
}
