//! An experiment: a challenger decides for a share of the users, assigned by hash, and the gate's rule judges the two arms.
//!
//! It is part of the state: its beginning and its end are records, what it counts is counted as records are applied, and
//! the challenger is taught with the policy in charge, so all of it comes back with a replay, bit for bit.
//!
//! **What each policy learns.** Both learn from every decision of both arms, each row with the probabilities of the one who
//! decided, in the order of the journal: early, default and late-found rewards alike. So a challenger that is launched knows
//! everybody, and the policy in charge has lost nothing if it is not. The price: what is compared is two policies that share
//! their data, not two that live alone, so a policy that explores better is judged by its choices and not by what the other
//! learns from them.
//!
//! **What is counted**, by user, in each arm: rewards of the decisions of this experiment; decisions that fell back, and
//! slow ones; where the rule asks for them, reactions, and rewards under other specs. The evidence is differences of means
//! over users ([`Seen::unpaired`]), judged at any number of looks.

use super::ask::Arm;
use super::event::{Begun, Ended, Event, Outcome, Swapped, kind};
use super::guard::Guard;
use super::recover::{install, keep};
use super::shards::Shards;
use super::state::Serving;
use super::{Artefact, Engine};
use crate::assignment::{self, assign};
use crate::{Error, Result};
use oo_core::tips::{Feedback, Reaction, RewardSpec};
use oo_judge::gate::{Diagnostic, Evidence, Operation, Rule, Seen, Source};
use oo_judge::stats::{self, Cluster, sample_ratio};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The arms' names, in the order of everything below.
pub const ARMS: [&str; 2] = ["control", "challenger"];

/// What is asked for.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Plan {
    /// Its name: the salt of the assignment.
    pub salt: String,
    /// Share of users that the challenger gets, above 0 and below 1.
    pub share: f64,
    /// What judges it.
    pub rule: Rule,
}

impl Plan {
    /// Checks it: the rule must be one that a live experiment can answer.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field.
    pub fn check(&self) -> Result<()> {
        let refuse = |field, expected: &str, got: String| Err(Error::invalid(field, expected, got));
        if self.salt.is_empty() || self.salt.len() > super::ask::MAX_ID {
            return refuse("salt", "a name of 1 to 512 bytes", format!("{} bytes", self.salt.len()));
        }
        if !(self.share > 0.0 && self.share < 1.0) {
            return refuse("share", "above 0 and below 1", self.share.to_string());
        }
        let rule = &self.rule;
        if let Err(e) = rule.check() {
            return refuse("rule", "a rule as oo-sim gate takes it", e.to_string());
        }
        if let oo_judge::gate::Looks::Planned(n) = rule.looks {
            let expected = "\"any\", since the server looks all the time";
            return refuse("rule.looks", expected, n.to_string());
        }
        if rule.guards.group_loss.is_some() || !rule.guards.groups.is_empty() {
            let expected = "no guard of groups, since the server knows none; leave out group_loss and groups";
            return refuse("rule.guards", expected, "one".into());
        }
        for name in rule.rewards.keys() {
            if let Err(e) = RewardSpec::named(name) {
                return refuse("rule.rewards", "reward specs", e.to_string());
            }
        }
        Ok(())
    }

    /// The arm of a user, for as long as the experiment runs.
    pub fn arm(&self, user: &str) -> usize {
        let arms = [0, 1].map(|i| assignment::Arm {
            name: ARMS[i],
            weight: self.weights()[i],
        });
        assign(&self.salt, user, "", &arms).unwrap_or(0)
    }

    fn weights(&self) -> [f64; 2] {
        [1.0 - self.share, self.share]
    }
}

/// What is counted of a decision, by position in a user's numbers. Reactions and reward specs follow, as the rule names
/// them.
const REWARD: usize = 0;
const FALLBACK: usize = 1;
const SLOW: usize = 2;
const FIXED: usize = 3;

/// A user's numbers.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Person {
    pub arm: u8,
    pub numbers: Box<[Cluster]>,
}

/// The experiment as the state has it.
#[derive(Clone)]
pub(crate) struct Trial {
    /// The number of the record that began it.
    pub number: u64,
    pub plan: Arc<Plan>,
    /// The rule as it was recorded.
    pub rule: String,
    pub challenger: Arc<RwLock<Serving>>,
    reactions: Vec<Reaction>,
    specs: Vec<RewardSpec>,
    /// Control and challenger, a number each.
    pub arms: [Vec<stats::Arm>; 2],
    pub users: Shards<Person>,
}

impl Trial {
    /// Begins. `None` for a rule that this program cannot read.
    pub fn new(number: u64, begun: &Begun, challenger: Serving) -> Option<Trial> {
        let (rule, reactions, specs) = asked(begun)?;
        let width = FIXED + reactions.len() + specs.len();
        Some(Trial {
            number,
            plan: Arc::new(Plan {
                salt: begun.salt.clone(),
                share: begun.share,
                rule,
            }),
            rule: begun.rule.clone(),
            challenger: Arc::new(RwLock::new(challenger)),
            reactions,
            specs,
            arms: [vec![stats::Arm::default(); width], vec![stats::Arm::default(); width]],
            users: Shards::default(),
        })
    }

    /// Numbers a user.
    pub fn width(&self) -> usize {
        self.arms[0].len()
    }

    fn count(&mut self, arm: u8, user: u64, position: usize, value: f64) {
        let width = self.width();
        let person = self.users.or_insert_with(user, || Person {
            arm,
            numbers: vec![Cluster::default(); width].into(),
        });
        let before = person.numbers[position];
        let after = Cluster {
            sum: before.sum + value,
            count: before.count + 1.0,
        };
        person.numbers[position] = after;
        self.arms[usize::from(person.arm)][position].change(before, after);
    }

    /// Counts a decision.
    pub fn decided(&mut self, arm: Arm, user: u64, fell_back: bool, took_us: u32) {
        if arm.experiment == self.number {
            let slow = f64::from(took_us) > self.plan.rule.live.slow_ms * 1e3;
            self.count(arm.position, user, FALLBACK, f64::from(u8::from(fell_back)));
            self.count(arm.position, user, SLOW, f64::from(u8::from(slow)));
        }
    }

    /// Counts what came of a decision.
    pub fn rewarded(&mut self, arm: Arm, user: u64, reward: f64, feedback: Option<&Feedback>) {
        if arm.experiment != self.number {
            return;
        }
        self.count(arm.position, user, REWARD, reward);
        let Some(feedback) = feedback else { return };
        for i in 0..self.reactions.len() {
            let met = f64::from(u8::from(self.reactions[i] == feedback.reaction));
            self.count(arm.position, user, FIXED + i, met);
        }
        for i in 0..self.specs.len() {
            let reward = self.specs[i].reward(feedback);
            self.count(arm.position, user, FIXED + self.reactions.len() + i, reward);
        }
    }

    /// Leaves out a user who is forgotten.
    pub fn forget(&mut self, user: u64) {
        if let Some(person) = self.users.remove(&user) {
            let arm = &mut self.arms[usize::from(person.arm)];
            for (arm, numbers) in arm.iter_mut().zip(&person.numbers) {
                arm.change(*numbers, Cluster::default());
            }
        }
    }

    fn seen(&self, position: usize) -> Seen {
        Seen::unpaired(&self.arms[0][position], &self.arms[1][position])
    }

    /// What it shows.
    pub fn evidence(&self) -> Evidence {
        let effect = self.seen(REWARD);
        let reacted = self.arms.iter().any(|a| a[FIXED..].iter().any(|n| n.count() > 0.0));
        let sizes = [0, 1].map(|i| self.arms[i][FALLBACK].clusters() as u64);
        let p = sample_ratio(&sizes, &self.plan.weights()).unwrap_or(1.0);
        let least = self.plan.rule.live.min_ratio_p;
        let reactions = self.reactions.iter().enumerate();
        let specs = self.specs.iter().enumerate();
        Evidence {
            source: Source::Live,
            decisions: effect.time as u64,
            clusters: effect.clusters,
            unit: "users of each arm",
            effect: vec![("reward".into(), effect)],
            rewards: specs
                .filter(|_| reacted)
                .map(|(i, s)| (s.name.clone(), self.seen(FIXED + self.reactions.len() + i)))
                .collect(),
            groups: BTreeMap::new(),
            reactions: reactions
                .filter(|_| reacted)
                .map(|(i, r)| (*r, self.seen(FIXED + i)))
                .collect(),
            operations: [
                (Operation::Fallbacks, self.seen(FALLBACK)),
                (Operation::Slow, self.seen(SLOW)),
            ]
            .into(),
            diagnostics: vec![Diagnostic {
                name: format!("sample ratio ({} and {} users)", sizes[0], sizes[1]),
                required: format!("p of at least {least}, at any number of looks"),
                seen: p,
                holds: p >= least,
                times: None,
                ends: true,
            }],
        }
    }

    fn reports(&self) -> Vec<ArmReport> {
        let report = |i: usize| {
            let (decisions, rewards) = (&self.arms[i][FALLBACK], &self.arms[i][REWARD]);
            let share = |a: &stats::Arm| (a.count() > 0.0).then(|| a.mean());
            ArmReport {
                arm: ARMS[i],
                weight: self.plan.weights()[i],
                users: decisions.clusters() as u64,
                decisions: decisions.count() as u64,
                rewards: rewards.count() as u64,
                mean_reward: share(rewards),
                fallbacks: share(decisions),
                slow: share(&self.arms[i][SLOW]),
            }
        };
        vec![report(0), report(1)]
    }
}

/// The rule, the reactions and the reward specs that it asks for.
fn asked(begun: &Begun) -> Option<(Rule, Vec<Reaction>, Vec<RewardSpec>)> {
    let rule: Rule = serde_json::from_str(&begun.rule).ok()?;
    let guarded = |r: &Reaction| rule.guards.rise.contains_key(r) || rule.guards.fall.contains_key(r);
    let reactions = Reaction::ALL.into_iter().filter(guarded).collect();
    let specs = rule.rewards.keys().map(|name| RewardSpec::named(name).ok());
    let specs = specs.collect::<Option<_>>()?;
    Some((rule, reactions, specs))
}

/// Numbers a user under the rule of an experiment.
pub(super) fn width(begun: &Begun) -> Option<usize> {
    asked(begun).map(|(_, reactions, specs)| FIXED + reactions.len() + specs.len())
}

/// What is reported of an arm.
#[derive(Clone, PartialEq, Debug, Serialize)]
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
    /// Share of decisions that fell back.
    pub fallbacks: Option<f64>,
    /// Share of decisions slower than the rule's `slow_ms`.
    pub slow: Option<f64>,
}

/// How an experiment stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    /// The number of the record that began it.
    pub number: u64,
    /// What was asked for.
    pub plan: Arc<Plan>,
    /// The challenger's spec.
    pub challenger: String,
    /// Its generation.
    pub generation: u64,
    /// Rewards that it learned.
    pub updates: u64,
    /// Rewards that it refused.
    pub refused: u64,
    /// Control and challenger.
    pub arms: Vec<ArmReport>,
    /// What the gate is shown.
    pub evidence: Evidence,
}

/// What decisions need of a running experiment, without the state's lock.
pub(crate) struct Lane {
    pub number: u64,
    pub plan: Arc<Plan>,
    pub serving: Arc<RwLock<Serving>>,
    pub guard: Guard,
}

impl Engine {
    /// Begins an experiment. The challenger starts as its artefact has it. Returns its number.
    ///
    /// # Errors
    /// [`Error::Invalid`] where one runs already, and as [`Plan::check`]; a policy that does not fit;
    /// [`Error::Unavailable`] when the disk fails.
    pub fn begin_experiment(&self, plan: &Plan, artefact: &Artefact) -> Result<u64> {
        plan.check()?;
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.journal.writable()?;
        let generation = self.no_experiment()? + 1;
        let challenger = keep(&self.dir, &self.settings, &*self.without_pending(artefact)?, generation)?;
        let begun = Begun {
            salt: plan.salt.clone(),
            share: plan.share,
            rule: serde_json::to_string(&plan.rule).expect("a rule is plain data"),
            challenger,
        };
        let serving = install(self.settings.home(&self.dir), &begun.challenger)?;
        let mut trial = Trial::new(0, &begun, serving)
            .ok_or_else(|| Error::invalid("rule", "one that can be written down", "one that cannot"))?;
        let guard = Guard::default();
        let limit = self.settings.policy_timeout;
        guard.set(Guard::trial(&trial.challenger, limit, &self.settings.shape));
        let mark = {
            let mut state = self.settled();
            let mark = self.put(&mut state, &Event::Begun(Box::new(begun)))?;
            trial.number = mark.seq;
            self.show_lane(Some(Lane {
                number: mark.seq,
                plan: trial.plan.clone(),
                serving: trial.challenger.clone(),
                guard,
            }));
            state.trial = Some(trial);
            mark
        };
        self.journal.commit(mark.seq).wait()?;
        Ok(mark.seq)
    }

    /// The number of the experiment that used this salt, as far back as the journal reaches. It reads the whole of it.
    ///
    /// # Errors
    /// A journal that cannot be read.
    pub fn salt_used(&self, salt: &str) -> Result<Option<u64>> {
        let (segments, mut found) = (self.journal.segments(), None);
        for segment in segments.list()? {
            segments.scan(segment, |r| {
                if r.kind == kind::BEGUN
                    && let Ok(Event::Begun(begun)) = Event::decode(&r)
                    && begun.salt == salt
                {
                    found = Some(r.seq);
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// The latest generation, where no experiment runs.
    pub(super) fn no_experiment(&self) -> Result<u64> {
        let state = self.state();
        match &state.trial {
            None => Ok(state.generations),
            Some(trial) => Err(Error::invalid(
                "policy",
                "no experiment under way; stop or launch it first",
                format!("`{}`", trial.plan.salt),
            )),
        }
    }

    /// Ends the experiment of this number: launched, its challenger takes charge with what it has learned.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it does not run; [`Error::Unavailable`] when the disk fails.
    pub fn end_experiment(&self, number: u64, outcome: Outcome, why: &str) -> Result<()> {
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.journal.writable()?;
        let gives_way = outcome == Outcome::Launched;
        if gives_way {
            self.keep_former()?;
        }
        let (mark, former) = {
            let mut state = self.settled();
            let Some(trial) = state.trial.as_ref().filter(|t| t.number == number) else {
                return Err(Error::NotFound {
                    field: "action",
                    what: "experiment",
                    id: number.to_string(),
                });
            };
            let ended = Ended {
                experiment: number,
                salt: trial.plan.salt.clone(),
                outcome,
                why: why.into(),
            };
            let former = gives_way.then(|| self.former(&mut state)).transpose()?;
            let mark = self.put(&mut state, &Event::Ended(Box::new(ended)))?;
            if let Some(lane) = self.show_lane(None).filter(|_| gives_way) {
                self.guard.set(lane.guard.is_guarded());
            }
            (mark, former)
        };
        self.keep_last(former);
        let _ = self.tidy_formers();
        self.journal.commit(mark.seq).wait()
    }

    /// How the experiment stands; `None` where none runs.
    pub fn experiment(&self) -> Option<Standing> {
        let state = self.state();
        let trial = state.trial.as_ref()?;
        let serving = super::state::read(&trial.challenger);
        Some(Standing {
            number: trial.number,
            plan: trial.plan.clone(),
            challenger: serving.spec.to_string(),
            generation: serving.swapped.generation,
            updates: serving.updates,
            refused: serving.refused,
            arms: trial.reports(),
            evidence: trial.evidence(),
        })
    }

    /// The experiment that ended last.
    pub fn last_experiment(&self) -> Option<Ended> {
        self.state().ended.clone()
    }

    /// Returns what was shown before.
    pub(super) fn show_lane(&self, lane: Option<Lane>) -> Option<Arc<Lane>> {
        self.any_lane
            .store(lane.is_some(), std::sync::atomic::Ordering::Release);
        let mut shown = self.lane.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut shown, lane.map(Arc::new))
    }

    /// The running experiment, and the user's arm in it.
    pub(super) fn lane(&self, user: &str) -> Option<(Arc<Lane>, Arm)> {
        // The usual case takes no lock.
        if !self.any_lane.load(std::sync::atomic::Ordering::Acquire) {
            return None;
        }
        let lane = self.lane.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let arm = Arm {
            experiment: lane.number,
            position: lane.plan.arm(user) as u8,
        };
        Some((lane, arm))
    }
}

/// What a recovered state has running.
pub(super) fn lane_of(trial: &Trial) -> Lane {
    Lane {
        number: trial.number,
        plan: trial.plan.clone(),
        serving: trial.challenger.clone(),
        guard: Guard::default(),
    }
}

/// The two policies change places: the challenger takes charge.
pub(super) fn launch(champion: &RwLock<Serving>, challenger: &RwLock<Serving>) {
    std::mem::swap(
        &mut *super::state::write(champion),
        &mut *super::state::write(challenger),
    );
}

/// The record that begins an experiment, as a snapshot holds it.
pub(super) fn begun(trial: &Trial, challenger: &Swapped) -> Begun {
    Begun {
        salt: trial.plan.salt.clone(),
        share: trial.plan.share,
        rule: trial.rule.clone(),
        challenger: challenger.clone(),
    }
}
