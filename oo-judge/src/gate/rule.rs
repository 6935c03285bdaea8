//! The rule of promotion, written down before anybody looks.

use super::bounds::Looking;
use super::evidence::Operation;
use crate::estimators::{Bias, Weights};
use crate::{Error, Result};
use oo_core::tips::Reaction;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// A rule as it stands in a file. What is left out has its default; a key that does not exist is an error.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// For people.
    pub name: String,
    /// The difference in mean reward a decision, challenger less champion, that must be shown to be exceeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_effect: Option<f64>,
    /// Instead: show that the challenger is not worse by as much as this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub non_inferiority_margin: Option<f64>,
    /// 1 less the probability of promoting a challenger that does not meet the rule; in [0.5, 1).
    pub confidence: f64,
    /// How often the evidence may be looked at: `"any"`, or a number planned beforehand.
    pub looks: Looks,
    /// After so many decisions of each policy without a promotion, keep the champion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_decisions: Option<u64>,
    /// What a run must have.
    pub run: RunRule,
    /// What a log must have.
    pub log: LogRule,
    /// What a live experiment must have. Left out of the text where it is the default, so that rules from before it keep
    /// their digests.
    #[serde(skip_serializing_if = "LiveRule::is_default")]
    pub live: LiveRule,
    /// What no part of the people and no reaction may suffer.
    pub guards: Guards,
    /// By reward spec: the difference in mean reward that must be exceeded when the evidence is scored by it.
    #[serde(deserialize_with = "once_each")]
    pub rewards: BTreeMap<String, f64>,
}

/// Numbers by name. A name that stands there twice is an error: nobody knows which number is meant.
fn once_each<'de, D, K>(from: D) -> std::result::Result<BTreeMap<K, f64>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
{
    struct Reader<K>(PhantomData<K>);
    impl<'de, K: Deserialize<'de> + Ord> Visitor<'de> for Reader<K> {
        type Value = BTreeMap<K, f64>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("names and numbers")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some((name, number)) = map.next_entry()? {
                if all.insert(name, number).is_some() {
                    return Err(de::Error::custom("a name stands there twice, expected each once"));
                }
            }
            Ok(all)
        }
    }
    from.deserialize_map(Reader(PhantomData))
}

/// How often one may look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"any\" or a whole number of looks")]
pub enum Looks {
    /// As often as one likes.
    Any(Any),
    /// So many times at most.
    Planned(u32),
}

/// The word `any`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Any {
    /// As often as one likes.
    Any,
}

/// What a run must have before it is answered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunRule {
    /// Decisions of each policy.
    pub min_decisions: u64,
    /// Clusters: seeds, or users of the one seed.
    pub min_clusters: u64,
    /// The number of clusters at which bounds are tightest; `min_clusters` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharpest_at: Option<f64>,
}

/// What a log must have before it is answered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogRule {
    /// Rows.
    pub min_decisions: u64,
    /// Clusters: users where the log has them, rows otherwise.
    pub min_clusters: u64,
    /// The number of clusters at which bounds are tightest; by default `min_clusters` for users, `min_decisions` for rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharpest_at: Option<f64>,
    /// Each of them must show the effect.
    pub estimators: Vec<String>,
    /// Effective sample size, (Σw)²/Σw², of either policy's weights.
    pub min_ess: f64,
    /// The largest share of a policy's choices that the log cannot speak of.
    pub max_unsupported: f64,
    /// The smallest p of all tests of the propensities, adjusted for their number: below it they are taken to be wrong.
    pub min_propensity_p: f64,
    /// Hill's index of either policy's largest weights: above ½ their variance is in doubt.
    pub max_tail_index: f64,
}

/// What a live experiment must have before it is answered, and what ends it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveRule {
    /// Decisions of each arm whose outcome is known.
    pub min_decisions: u64,
    /// Users of each arm.
    pub min_clusters: u64,
    /// The number of such decisions at which bounds are tightest; `min_decisions` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharpest_at: Option<f64>,
    /// The smallest p of the arms' sizes, at any number of looks: below it the assignment is taken to be broken, and the
    /// experiment ends.
    pub min_ratio_p: f64,
    /// The share of decisions that fall back to a uniform draw may not rise by as much as this.
    pub max_fallbacks: f64,
    /// Nor that of decisions slower than `slow_ms`.
    pub max_slow: f64,
    /// Milliseconds.
    pub slow_ms: f64,
}

impl Default for LiveRule {
    fn default() -> Self {
        LiveRule {
            min_decisions: 1000,
            min_clusters: 100,
            sharpest_at: None,
            min_ratio_p: 0.001,
            max_fallbacks: 0.01,
            max_slow: 0.01,
            slow_ms: 10.0,
        }
    }
}

impl LiveRule {
    fn is_default(&self) -> bool {
        *self == LiveRule::default()
    }

    /// What an operation is called, and what it may not rise by.
    pub(super) fn limit(&self, operation: Operation) -> (String, f64) {
        match operation {
            Operation::Fallbacks => ("share of fallbacks, rise".into(), self.max_fallbacks),
            Operation::Slow => (format!("share slower than {} ms, rise", self.slow_ms), self.max_slow),
        }
    }
}

/// What must not happen to anybody. All figures are at least 0.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guards {
    /// No group of people may lose as much reward a decision as this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_loss: Option<f64>,
    /// The same for single groups, by name; it wins over `group_loss`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "once_each")]
    pub groups: BTreeMap<String, f64>,
    /// By reaction: its share among all reactions may not rise by as much as this.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "once_each")]
    pub rise: BTreeMap<Reaction, f64>,
    /// By reaction: its share may not fall by as much as this.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "once_each")]
    pub fall: BTreeMap<Reaction, f64>,
}

impl Default for Rule {
    fn default() -> Self {
        Rule {
            name: "default".into(),
            min_effect: None,
            non_inferiority_margin: None,
            confidence: 0.95,
            looks: Looks::Any(Any::Any),
            max_decisions: None,
            run: RunRule::default(),
            log: LogRule::default(),
            live: LiveRule::default(),
            guards: Guards::default(),
            rewards: BTreeMap::new(),
        }
    }
}

impl Default for RunRule {
    fn default() -> Self {
        RunRule {
            min_decisions: 1000,
            min_clusters: 20,
            sharpest_at: None,
        }
    }
}

impl Default for LogRule {
    fn default() -> Self {
        LogRule {
            min_decisions: 10_000,
            min_clusters: 100,
            sharpest_at: None,
            estimators: vec!["dr".into(), "snips".into()],
            min_ess: 1000.0,
            max_unsupported: 0.01,
            min_propensity_p: 0.001,
            max_tail_index: 0.5,
        }
    }
}

impl Rule {
    /// The rule where nobody wrote one. Guards stand where there is something to guard: people in `groups`, people who
    /// react.
    pub fn usual(groups: bool, reactions: bool) -> Rule {
        let mut rule = Rule {
            min_effect: Some(0.0),
            ..Rule::default()
        };
        rule.guards.group_loss = groups.then_some(0.1);
        if reactions {
            rule.guards.rise.insert(Reaction::Dismiss, 0.05);
            rule.rewards = ["r0", "r1", "r2"].map(|name| (name.into(), 0.0)).into();
        }
        rule
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Parameter`] names the key, its range, and what came.
    pub fn check(&self) -> Result<()> {
        let refuse = |parameter, expected: &str, got: String| {
            Err(Error::Parameter {
                owner: "the rule",
                parameter,
                expected: expected.into(),
                got,
            })
        };
        if let (Some(effect), Some(_)) = (self.min_effect, self.non_inferiority_margin) {
            let expected = "either this or `non_inferiority_margin`, not both";
            return refuse("min_effect", expected, effect.to_string());
        }
        if !(0.5..1.0).contains(&self.confidence) {
            return refuse("confidence", "from 0.5 to below 1", self.confidence.to_string());
        }
        if self.looks == Looks::Planned(0) {
            return refuse("looks", "\"any\" or at least 1", "0".into());
        }
        if self.max_decisions == Some(0) {
            return refuse("max_decisions", "at least 1", "0".into());
        }
        for (parameter, clusters) in [
            ("run.min_clusters", self.run.min_clusters),
            ("log.min_clusters", self.log.min_clusters),
            ("live.min_clusters", self.live.min_clusters),
        ] {
            if clusters < 2 {
                return refuse(parameter, "at least 2, since one has no spread", clusters.to_string());
            }
        }
        for (parameter, at) in [
            ("run.sharpest_at", self.run.sharpest_at),
            ("log.sharpest_at", self.log.sharpest_at),
            ("live.sharpest_at", self.live.sharpest_at),
        ] {
            if let Some(at) = at.filter(|at| !(*at >= 2.0 && at.is_finite())) {
                return refuse(parameter, "a number of at least 2", at.to_string());
            }
        }
        if self.log.estimators.is_empty() {
            return refuse("log.estimators", "at least one estimator", "none".into());
        }
        for name in &self.log.estimators {
            let entry = crate::estimators::find(name)?;
            let bounded = !matches!(entry.bias, Bias::Model | Bias::Logging | Bias::Embedding);
            // MRDR's model is fitted for its target, so two policies would be judged by two models.
            if !bounded || entry.weights != Weights::Importance || entry.name == "mrdr" {
                let expected = "estimators that find the truth on an ordinary log, whatever the reward model, such as dr or \
                                snips";
                return refuse("log.estimators", expected, format!("`{name}`"));
            }
        }
        let guards = &self.guards;
        let limits = [
            ("non_inferiority_margin", self.non_inferiority_margin),
            ("guards.group_loss", guards.group_loss),
            ("log.min_ess", Some(self.log.min_ess)),
            ("log.max_tail_index", Some(self.log.max_tail_index)),
            ("live.slow_ms", Some(self.live.slow_ms)),
        ];
        let tables = [("guards.rise", &guards.rise), ("guards.fall", &guards.fall)];
        let named = tables.iter().flat_map(|(key, t)| t.values().map(|x| (*key, Some(*x))));
        let groups = guards.groups.values().map(|x| ("guards.groups", Some(*x)));
        for (parameter, limit) in limits.into_iter().chain(named).chain(groups) {
            if let Some(limit) = limit.filter(|x| !(*x >= 0.0 && x.is_finite())) {
                return refuse(parameter, "a number of at least 0", limit.to_string());
            }
        }
        for (parameter, share) in [
            ("log.max_unsupported", self.log.max_unsupported),
            ("log.min_propensity_p", self.log.min_propensity_p),
            ("live.min_ratio_p", self.live.min_ratio_p),
            ("live.max_fallbacks", self.live.max_fallbacks),
            ("live.max_slow", self.live.max_slow),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return refuse(parameter, "from 0 to 1", share.to_string());
            }
        }
        if let Some(effect) = self.min_effect.filter(|x| *x < 0.0) {
            let expected = "a number of at least 0; to accept a loss, give it as `non_inferiority_margin`";
            return refuse("min_effect", expected, effect.to_string());
        }
        let differences = self.rewards.values().map(|x| ("rewards", *x));
        for (parameter, x) in differences.chain(self.min_effect.map(|x| ("min_effect", x))) {
            if !x.is_finite() {
                return refuse(parameter, "a finite number", x.to_string());
            }
        }
        Ok(())
    }

    /// The difference that must be exceeded: the minimum effect, or the margin with its sign turned.
    pub fn least(&self) -> f64 {
        self.non_inferiority_margin
            .map_or(self.min_effect.unwrap_or(0.0), |margin| -margin)
    }

    /// The loss that a group may not reach, where the rule guards it.
    pub fn group_limit(&self, group: &str) -> Option<f64> {
        self.guards.groups.get(group).copied().or(self.guards.group_loss)
    }

    /// How bounds are made for a run.
    pub fn looking_at_run(&self) -> Looking {
        self.looking(self.run.sharpest_at.unwrap_or(self.run.min_clusters as f64))
    }

    /// How bounds are made for a log whose clusters are its rows, or users.
    pub fn looking_at_log(&self, by_row: bool) -> Looking {
        let usual = if by_row {
            self.log.min_decisions
        } else {
            self.log.min_clusters
        };
        self.looking(self.log.sharpest_at.unwrap_or(usual.max(2) as f64))
    }

    /// How bounds are made for a live experiment.
    pub fn looking_at_live(&self) -> Looking {
        self.looking(self.live.sharpest_at.unwrap_or(self.live.min_decisions.max(2) as f64))
    }

    /// The same for how the policies run: what fails from the first decision on must be seen within a few users.
    pub fn looking_at_operations(&self) -> Looking {
        self.looking(20.0)
    }

    fn looking(&self, sharpest_at: f64) -> Looking {
        match self.looks {
            Looks::Any(_) => Looking::Anytime { sharpest_at },
            Looks::Planned(looks) => Looking::Planned(looks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Rule)) -> String {
        let mut rule = Rule::usual(true, true);
        change(&mut rule);
        rule.check().unwrap_err().to_string()
    }

    #[test]
    fn the_usual_rule_is_in_range() {
        for (groups, reactions) in [(true, true), (false, false)] {
            Rule::usual(groups, reactions).check().unwrap();
        }
        assert!(Rule::usual(false, false).rewards.is_empty());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let e = refused(|r| r.non_inferiority_margin = Some(0.1));
        assert!(e.contains("min_effect") && e.contains("not both"), "{e}");
        for (key, e) in [
            ("confidence", refused(|r| r.confidence = 1.0)),
            ("confidence", refused(|r| r.confidence = f64::NAN)),
            ("looks", refused(|r| r.looks = Looks::Planned(0))),
            ("max_decisions", refused(|r| r.max_decisions = Some(0))),
            ("run.min_clusters", refused(|r| r.run.min_clusters = 1)),
            ("log.min_clusters", refused(|r| r.log.min_clusters = 0)),
            ("run.sharpest_at", refused(|r| r.run.sharpest_at = Some(1.0))),
            ("log.sharpest_at", refused(|r| r.log.sharpest_at = Some(f64::INFINITY))),
            ("log.estimators", refused(|r| r.log.estimators.clear())),
            ("log.estimators", refused(|r| r.log.estimators = vec!["mrdr".into()])),
            (
                "log.estimators",
                refused(|r| r.log.estimators = vec!["dr".into(), "dm".into()]),
            ),
            ("log.estimators", refused(|r| r.log.estimators = vec!["mips".into()])),
            ("guards.group_loss", refused(|r| r.guards.group_loss = Some(-0.1))),
            (
                "guards.groups",
                refused(|r| _ = r.guards.groups.insert("a".into(), f64::NAN)),
            ),
            (
                "guards.rise",
                refused(|r| _ = r.guards.rise.insert(Reaction::Dismiss, -1.0)),
            ),
            (
                "guards.fall",
                refused(|r| _ = r.guards.fall.insert(Reaction::Done, -1.0)),
            ),
            ("log.min_ess", refused(|r| r.log.min_ess = -1.0)),
            ("log.max_tail_index", refused(|r| r.log.max_tail_index = f64::NAN)),
            ("log.max_unsupported", refused(|r| r.log.max_unsupported = 1.5)),
            ("log.min_propensity_p", refused(|r| r.log.min_propensity_p = -0.5)),
            ("rewards", refused(|r| _ = r.rewards.insert("r0".into(), f64::INFINITY))),
            ("min_effect", refused(|r| r.min_effect = Some(f64::NAN))),
            ("min_effect", refused(|r| r.min_effect = Some(-0.01))),
            ("live.min_clusters", refused(|r| r.live.min_clusters = 1)),
            ("live.sharpest_at", refused(|r| r.live.sharpest_at = Some(1.0))),
            ("live.min_ratio_p", refused(|r| r.live.min_ratio_p = 2.0)),
            ("live.max_fallbacks", refused(|r| r.live.max_fallbacks = -0.1)),
            ("live.max_slow", refused(|r| r.live.max_slow = f64::NAN)),
            ("live.slow_ms", refused(|r| r.live.slow_ms = -1.0)),
        ] {
            assert!(e.contains(&format!("`{key}` of the rule")), "{key}: {e}");
        }
    }

    #[test]
    fn single_groups_win_over_all() {
        let mut rule = Rule::usual(true, true);
        rule.guards.groups.insert("night owl".into(), 0.02);
        assert_eq!(
            (rule.group_limit("night owl"), rule.group_limit("planner")),
            (Some(0.02), Some(0.1))
        );
        rule.min_effect = None;
        rule.non_inferiority_margin = Some(0.03);
        assert_eq!(rule.least(), -0.03);
    }
}
