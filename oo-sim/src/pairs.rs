//! Two policies in an environment: by how much they differ, how sure that is, and what would settle it.

use crate::experiment::{Named, Plan};
use crate::summary::{ALPHA, LEVEL, interval};
use oo_core::Key;
use oo_judge::stats::equivalence::{equivalence, non_inferiority, within};
use oo_judge::stats::intervals::bootstrap_difference;
use oo_judge::stats::{
    Cluster, Difference, Interval, anytime_difference, benjamini_hochberg, difference, holm, probability_of_best,
    units_for_power,
};
use serde::Serialize;

const POWER: f64 = 0.8;
const RESAMPLES: u64 = 2000;
/// With more clusters than these no bootstrap is needed, and it would take long.
const BOOTSTRAPPED: usize = 2000;

/// Two policies in an environment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PairLine {
    /// The environment.
    pub env: String,
    /// The first policy.
    pub a: String,
    /// The second policy; the baseline where there is one.
    pub b: String,
    /// Mean reward of `a` minus that of `b`.
    pub diff: Option<f64>,
    /// Its 95 % interval, not adjusted for the number of pairs. Where seeds are added until all is decided, one that
    /// holds at all times.
    pub ci: Option<[f64; 2]>,
    /// The same by the BCa bootstrap over clusters; from 10 to 2,000 clusters, when their number was fixed.
    pub ci_bootstrap: Option<[f64; 2]>,
    /// The difference in standard deviations of the clusters' differences.
    pub effect_size: Option<f64>,
    /// p value after Holm over the pairs of the environment; one that holds at all times as `ci` does.
    pub p_adjusted: Option<f64>,
    /// The same after Benjamini and Hochberg instead: for looking through long lists, not for verdicts.
    pub p_false_discovery: Option<f64>,
    /// With a margin: p of "they differ by the margin or more", after Holm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_same: Option<f64>,
    /// With a margin: p of "`a` is worse than `b` by the margin or more", after Holm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_not_worse: Option<f64>,
    /// `<policy> is better`, `same within <margin>` or `not decided`.
    pub verdict: String,
    /// Decisions a policy needs to find a difference of this size with probability 0.8; `None` when unbounded.
    pub decisions_for_80_percent_power: Option<u64>,
}

impl PairLine {
    /// True when a verdict has been reached.
    pub fn is_decided(&self) -> bool {
        self.verdict != "not decided"
    }

    /// The better policy, where one is.
    pub fn better(&self) -> Option<&str> {
        self.verdict.strip_suffix(" is better")
    }
}

/// How likely it is that a policy is the best of those compared in an environment.
#[derive(Clone, Debug, Serialize)]
pub struct BestLine {
    /// The environment.
    pub env: String,
    /// The policy.
    pub policy: String,
    /// By bootstrap over clusters; over the policies of an environment they sum to 1.
    pub probability: f64,
}

/// Who is compared with whom.
pub(crate) fn pairs(plan: &Plan) -> Vec<(usize, usize)> {
    let n = plan.policies.len();
    match plan.baseline {
        Some(b) => (0..n).filter(|&a| a != b).map(|a| (a, b)).collect(),
        None => (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect(),
    }
}

/// The correction over what could be tested.
fn adjusted(correction: fn(&[f64]) -> Vec<f64>, p: &[Option<f64>]) -> Vec<Option<f64>> {
    let tested: Vec<f64> = p.iter().flatten().copied().filter(|p| p.is_finite()).collect();
    let mut all = correction(&tested).into_iter();
    p.iter()
        .map(|p| p.filter(|p| p.is_finite()).and_then(|_| all.next()))
        .collect()
}

/// What a pair's line says of its difference, before p values are adjusted.
struct Test {
    difference: Difference,
    ci: Option<[f64; 2]>,
    p: Option<f64>,
    p_same: Option<f64>,
    p_not_worse: Option<f64>,
    /// With a margin and at all times: within it, after Bonferroni over the pairs.
    same: bool,
}

fn test(plan: &Plan, a: &[Cluster], b: &[Cluster], pairs: usize) -> Test {
    let d = difference(a, b, LEVEL);
    let margin = plan.experiment.margin;
    if plan.experiment.max_seeds.is_some() {
        let always = anytime_difference(a, b, LEVEL);
        let stricter = anytime_difference(a, b, 1.0 - ALPHA / pairs as f64);
        return Test {
            ci: interval(Some(always.low), Some(always.high)),
            p: d.p.map(|_| always.p),
            p_same: None,
            p_not_worse: None,
            same: margin.is_some_and(|m| within(Interval::new(stricter.low, stricter.high), m)),
            difference: d,
        };
    }
    Test {
        ci: interval(d.low, d.high),
        p: d.p,
        p_same: margin.and_then(|m| equivalence(&d, m)),
        p_not_worse: margin.and_then(|m| non_inferiority(&d, m)),
        same: false,
        difference: d,
    }
}

/// The pairs of one environment; `clusters` are those of each policy. Holm runs over the pairs.
pub(crate) fn compare(plan: &Plan, env: &Named, clusters: &[Vec<Cluster>]) -> Vec<PairLine> {
    let pairs = pairs(plan);
    let tests: Vec<Test> = pairs
        .iter()
        .map(|&(a, b)| test(plan, &clusters[a], &clusters[b], pairs.len()))
        .collect();
    let of = |p: fn(&Test) -> Option<f64>| adjusted(holm, &tests.iter().map(p).collect::<Vec<_>>());
    let discovery = adjusted(benjamini_hochberg, &tests.iter().map(|t| t.p).collect::<Vec<_>>());
    let (p, same, not_worse) = (of(|t| t.p), of(|t| t.p_same), of(|t| t.p_not_worse));
    let line = |(i, &(a, b)): (usize, &(usize, usize))| {
        let (t, d) = (&tests[i], &tests[i].difference);
        let (name_a, name_b) = (&plan.policies[a].name, &plan.policies[b].name);
        let units = clusters[a].len() as f64;
        let spread = d.std_error.map(|se| se * units.sqrt());
        let decisions: f64 = clusters[a].iter().chain(&clusters[b]).map(|c| c.count).sum::<f64>() / (2.0 * units);
        let needed = spread.and_then(|sd| {
            let needed = (units_for_power(d.diff, sd, ALPHA / pairs.len() as f64, POWER)? * decisions).ceil();
            (needed < 1e15).then_some(needed as u64)
        });
        let is_small = |p: Option<f64>| p.is_some_and(|p| p < ALPHA);
        let verdict = match plan.experiment.margin {
            _ if is_small(p[i]) => format!("{} is better", if d.diff > 0.0 { name_a } else { name_b }),
            Some(margin) if t.same || is_small(same[i]) => format!("same within {margin}"),
            _ => "not decided".into(),
        };
        PairLine {
            env: env.name.clone(),
            a: name_a.clone(),
            b: name_b.clone(),
            diff: Some(d.diff).filter(|x| x.is_finite()),
            ci: t.ci,
            ci_bootstrap: None,
            effect_size: spread.map(|sd| d.diff / sd).filter(|x| x.is_finite()),
            p_adjusted: p[i],
            p_false_discovery: discovery[i],
            p_same: same[i],
            p_not_worse: not_worse[i],
            verdict,
            decisions_for_80_percent_power: needed,
        }
    };
    pairs.iter().enumerate().map(line).collect()
}

/// Adds the bootstrap intervals, which no verdict rests on.
pub(crate) fn bootstrap(plan: &Plan, env: &Named, clusters: &[Vec<Cluster>], lines: &mut [PairLine]) {
    if plan.experiment.max_seeds.is_some() {
        return;
    }
    for (line, (a, b)) in lines.iter_mut().zip(pairs(plan)) {
        let (a, b) = (&clusters[a], &clusters[b]);
        if (10..=BOOTSTRAPPED).contains(&a.len()) {
            // The same samples for every pair, so a pair's interval does not hang on who else is compared.
            let ci = bootstrap_difference(a, b, LEVEL, RESAMPLES, key(plan, env));
            line.ci_bootstrap = ci.map(|ci| [ci.low, ci.high]);
        }
    }
}

/// One line a policy, where there are several and five clusters or more: from fewer a bootstrap is too sure.
pub(crate) fn best(plan: &Plan, env: &Named, clusters: &[Vec<Cluster>]) -> Vec<BestLine> {
    let units = clusters.first().map_or(0, Vec::len);
    if clusters.len() < 2 || units < 5 {
        return Vec::new();
    }
    let resamples = (4_000_000 / units as u64).clamp(200, RESAMPLES);
    let shares = probability_of_best(clusters, resamples, key(plan, env));
    let lines = plan.policies.iter().zip(shares.into_iter().flatten());
    lines
        .map(|(policy, probability)| BestLine {
            env: env.name.clone(),
            policy: policy.name.clone(),
            probability,
        })
        .collect()
}

fn key(plan: &Plan, env: &Named) -> Key {
    Key::root(plan.experiment.seed).name("bootstrap").name(&env.canonical)
}
