//! An experiment between the policy in charge (control) and a challenger: users are assigned by hash, rewards are
//! counted by arm, and a rule says whether the challenger may be launched or must go.
//!
//! With the means and variances of both arms' rewards, z = (m₁ − m₀)/√(v₁/n₁ + v₀/n₀). The challenger may be launched
//! when z > 1.96 and must go when z < −3, each with enough rewards in both arms and a sample ratio that fits. Rewards are
//! looked at again and again, so 1.96 is no 5 % error: it is the evidence that a launch asks for, and the numbers are
//! reported.

use crate::assignment::{self, sample_ratio};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The arms' names, in the order of everything below.
pub const ARMS: [&str; 2] = ["control", "challenger"];

/// Rewards that each arm needs before anything is concluded, unless told otherwise.
pub const ENOUGH: u64 = 200;

/// What is asked for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Its name: the salt of the assignment.
    pub salt: String,
    /// Spec or folder of the challenger.
    pub policy: String,
    /// Share of users that the challenger gets, above 0 and below 1.
    pub share: f64,
    /// Rewards that each arm needs before anything is concluded.
    pub enough: u64,
}

/// An arm's numbers.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Decisions.
    pub decisions: u64,
    /// Rewards.
    pub rewards: u64,
    sum: f64,
    squares: f64,
}

impl Tally {
    fn mean(&self) -> f64 {
        self.sum / self.rewards.max(1) as f64
    }

    /// Variance of the mean.
    fn variance(&self) -> f64 {
        let n = self.rewards as f64;
        ((self.squares - self.sum * self.sum / n) / (n - 1.0)).max(0.0) / n
    }
}

/// What the numbers say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Not enough, or no difference.
    NotYet,
    /// The challenger is better.
    Launch,
    /// The challenger is worse.
    RollBack,
    /// The arms' sizes do not fit their weights: look for the fault first.
    Mismatch,
}

/// What is reported of an arm.
#[derive(Clone, Debug, Serialize)]
pub struct ArmReport {
    /// Its name.
    pub arm: &'static str,
    /// Its share.
    pub weight: f64,
    /// Users seen.
    pub users: u64,
    /// Decisions made.
    pub decisions: u64,
    /// Rewards heard.
    pub rewards: u64,
    /// Their mean; `null` before the first.
    pub mean_reward: Option<f64>,
}

/// See the module.
#[derive(Debug)]
pub struct Experiment {
    /// What was asked for.
    pub plan: Plan,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tallies: [Tally; 2],
    users: [HashSet<u64>; 2],
}

impl Experiment {
    /// Begins.
    pub fn new(plan: Plan) -> Experiment {
        Experiment {
            plan,
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weights(&self) -> [f64; 2] {
        [1.0 - self.plan.share, self.plan.share]
    }

    /// The arm of a user, for as long as the experiment runs.
    pub fn arm(&self, user: &str) -> usize {
        let [control, challenger] = self.weights();
        let arms = [
            assignment::Arm {
                name: ARMS[0],
                weight: control,
            },
            assignment::Arm {
                name: ARMS[1],
                weight: challenger,
            },
        ];
        assignment::assign(&self.plan.salt, user, "", &arms).unwrap_or(0)
    }

    /// Counts a decision.
    pub fn decided(&self, arm: usize, user: u64) {
        let mut inner = self.inner();
        inner.tallies[arm].decisions += 1;
        inner.users[arm].insert(user);
    }

    /// Counts a reward.
    pub fn rewarded(&self, arm: usize, reward: f64) {
        let tally = &mut self.inner().tallies[arm];
        tally.rewards += 1;
        tally.sum += reward;
        tally.squares += reward * reward;
    }

    /// The standardised difference of means; `None` before two rewards in each arm.
    pub fn z(&self) -> Option<f64> {
        let [a, b] = self.inner().tallies;
        let se = (a.variance() + b.variance()).sqrt();
        (a.rewards > 1 && b.rewards > 1 && se > 0.0).then(|| (b.mean() - a.mean()) / se)
    }

    /// The probability of the arms' sizes, were the assignment right.
    pub fn sample_ratio_p(&self) -> Option<f64> {
        let inner = self.inner();
        sample_ratio(
            &[inner.users[0].len() as u64, inner.users[1].len() as u64],
            &self.weights(),
        )
    }

    /// What the numbers say.
    pub fn conclusion(&self) -> Conclusion {
        let enough = self.inner().tallies.iter().all(|t| t.rewards >= self.plan.enough);
        let ratio = self.sample_ratio_p();
        match self.z() {
            Some(z) if enough && z < -3.0 => Conclusion::RollBack,
            _ if ratio.is_some_and(|p| p < 0.001) => Conclusion::Mismatch,
            Some(z) if enough && z > 1.96 => Conclusion::Launch,
            _ => Conclusion::NotYet,
        }
    }

    /// Both arms.
    pub fn arms(&self) -> Vec<ArmReport> {
        let inner = self.inner();
        let weights = self.weights();
        (0..2)
            .map(|i| {
                let t = inner.tallies[i];
                ArmReport {
                    arm: ARMS[i],
                    weight: weights[i],
                    users: inner.users[i].len() as u64,
                    decisions: t.decisions,
                    rewards: t.rewards,
                    mean_reward: (t.rewards > 0).then(|| t.mean()),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::Key;

    fn played(difference: f64) -> Experiment {
        let experiment = Experiment::new(Plan {
            salt: "t".into(),
            policy: "uniform".into(),
            share: 0.5,
            enough: ENOUGH,
        });
        let mut draws = Key::root(3).draws();
        for u in 0..2000u64 {
            let arm = experiment.arm(&u.to_string());
            experiment.decided(arm, u);
            experiment.rewarded(arm, draws.normal() + difference * arm as f64);
        }
        experiment
    }

    #[test]
    fn concludes_what_the_numbers_say() {
        // z is the difference over 0.045: ±0.3 is 6.7 standard errors from nothing, 0 passes 1.96 once in 40 seeds.
        assert_eq!(played(0.3).conclusion(), Conclusion::Launch);
        assert_eq!(played(-0.3).conclusion(), Conclusion::RollBack);
        assert_eq!(played(0.0).conclusion(), Conclusion::NotYet);
        assert!(played(0.0).sample_ratio_p().unwrap() > 0.001);
    }

    #[test]
    fn a_broken_assignment_is_no_launch() {
        let experiment = played(0.3);
        (10_000..10_500).for_each(|u| experiment.decided(1, u));
        assert_eq!(experiment.conclusion(), Conclusion::Mismatch);
    }
}
