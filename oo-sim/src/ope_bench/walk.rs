//! A world with its target policy and its loggers, and the logs that they write.
//!
//! A world with hidden numbers of its own (`linear`, `wheel`, …) is one long walk, and each log is a stretch of it: all
//! logs are about the same world. A data set is short, so each log is a shuffle of its own, of which it takes the
//! beginning. In the tips world each log is about other people, since people remember.

use super::Setup;
use crate::environments::{self, Horizon, World};
use anyhow::{Context, Result, bail, ensure};
use oo_core::judge::Judge;
use oo_core::tips::RewardSpec;
use oo_core::{Batch, Decision, Environment, Key, Log, Policy, Round, Shape, Spec};
use oo_judge::estimators::{Logged, Sizes};
use oo_judge::models::{InputShape, Inputs};
use std::sync::Arc;

/// How the world of a spec comes about.
struct Ground {
    spec: Spec,
    key: Key,
    judge: Arc<dyn Judge>,
    reward: RewardSpec,
}

impl Ground {
    fn new(spec: Spec, seed: u64) -> Result<Ground> {
        Ok(Ground {
            key: Key::root(seed).name("ope-bench").name(&spec.to_string()),
            judge: Arc::from(oo_judge::reactions::judge("rule")?),
            reward: RewardSpec::named("r2")?,
            spec,
        })
    }

    fn is_data(&self) -> bool {
        self.spec.base().name.starts_with("data:")
    }

    fn has_people(&self) -> bool {
        self.spec.base().name == "tips"
    }

    /// Whether every log is a world of its own.
    fn apart(&self) -> bool {
        self.is_data() || self.has_people()
    }

    /// World number `log` where logs are worlds of their own, else the one world; `rounds` rounds at most.
    fn world(&self, log: u64, rounds: u64) -> Result<Box<dyn Environment>> {
        let key = self.key.name("world");
        environments::build(
            &self.spec,
            &World {
                key: if self.apart() { key.fold(log) } else { key },
                reward: self.reward.clone(),
                judge: self.judge.clone(),
                horizon: Horizon {
                    users: None,
                    days: None,
                    rounds: Some(rounds),
                },
            },
        )
    }

    /// The one world, from round `from` on.
    fn walk(&self, from: u64, rounds: u64) -> Result<Box<dyn Environment>> {
        let mut env = self.world(0, from.saturating_add(rounds))?;
        for _ in 0..from {
            ensure!(env.advance()?, "{} ends before round {from}", self.spec);
            let first = vec![0; env.open()];
            env.respond(&first, &mut Vec::new())?;
        }
        Ok(env)
    }
}

/// A policy that logs.
enum Logger {
    /// Learned before, and learns no more.
    Frozen(Box<dyn Policy>),
    /// Begins blank with every log and learns from every row: what it chooses depends on what came before.
    Learning(Spec),
}

/// A logger at work on one log.
enum Hand<'a> {
    Frozen(&'a dyn Policy),
    Learning(Box<dyn Policy>),
}

impl Hand<'_> {
    fn policy(&self) -> &dyn Policy {
        match self {
            Hand::Frozen(policy) => *policy,
            Hand::Learning(policy) => policy.as_ref(),
        }
    }
}

/// What the target policy is worth.
#[derive(Clone, Copy, Debug)]
pub enum Truth {
    /// The mean over a walk of the world, with the standard error that the walk leaves; 0 where it is the whole set.
    World {
        /// The value.
        value: f64,
        /// Its standard error.
        std_error: f64,
    },
    /// The mean over the contexts of each log, exactly.
    Contexts,
}

/// A world, ready to be logged.
pub struct Scene {
    ground: Ground,
    train: u64,
    shape: Shape,
    target: Box<dyn Policy>,
    loggers: Vec<Logger>,
    /// The value of the target policy.
    pub truth: Truth,
}

/// One log.
pub struct Written {
    /// Without predictions.
    pub log: Logged,
    /// What reward models read of it.
    pub inputs: Inputs,
    /// The target's value on its contexts.
    pub value: f64,
}

impl Scene {
    /// Builds the world, lets the target and the frozen loggers learn, and finds the truth.
    ///
    /// # Errors
    /// Unknown names, options out of range, a world that knows no expectations, a policy that does not fit it.
    pub fn new(setup: &Setup, world: &str) -> Result<Scene> {
        let ground = Ground::new(Spec::parse(world)?, setup.seed)?;
        let mut env = ground.world(0, setup.train)?;
        let shape = env.shape().clone();
        let fit = |text: &String| -> Result<(Spec, Box<dyn Policy>)> {
            let spec = Spec::parse(text)?;
            let policy = oo_policies::build(&spec, &shape);
            Ok((spec, policy.with_context(|| format!("policy `{text}` in {world}"))?))
        };
        let (_, target) = fit(&setup.target)?;
        let mut loggers = Vec::new();
        for text in &setup.loggers {
            loggers.push(Logger::Frozen(fit(text)?.1));
        }
        for text in &setup.learners {
            loggers.push(Logger::Learning(fit(text)?.0));
        }
        let mut scene = Scene {
            train: setup.train,
            truth: Truth::Contexts,
            ground,
            shape,
            target,
            loggers,
        };
        scene.learn(env.as_mut())?;
        if !scene.ground.has_people() {
            scene.truth = scene.walked(setup.truth)?;
        }
        Ok(scene)
    }

    /// The target learns from uniform choices in all rounds of `env`, the frozen loggers from the first quarter: they
    /// are what ran before.
    fn learn(&mut self, env: &mut dyn Environment) -> Result<()> {
        let key = self.ground.key.name("training");
        let uniform = oo_policies::build(&Spec::parse("uniform")?, &self.shape)?;
        let (mut log, mut decision) = (Log::new(), Decision::new());
        let (mut rows, mut chosen, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        while env.advance()? {
            chosen.clear();
            outcomes.clear();
            for i in 0..env.open() {
                let round = env.round(i);
                uniform.decide(&round, key.fold(round.index), &mut decision)?;
                rows.push(log.push(&round, &decision));
                chosen.push(decision.chosen());
            }
            env.respond(&chosen, &mut outcomes)?;
            for (&row, outcome) in rows[rows.len() - chosen.len()..].iter().zip(&outcomes) {
                log.settle(row, outcome.reward, outcome.feedback);
            }
        }
        self.target.update(&Batch::new(&log, &rows))?;
        for logger in &mut self.loggers {
            if let Logger::Frozen(policy) = logger {
                policy.update(&Batch::new(&log, &rows[..rows.len().div_ceil(4)]))?;
            }
        }
        Ok(())
    }

    /// The target's value on open round `i`; `decision` then holds its probabilities.
    fn value(&self, env: &dyn Environment, i: usize, decision: &mut Decision) -> Result<f64> {
        let round = env.round(i);
        let key = self.ground.key.name("target").fold(round.index);
        self.target.decide(&round, key, decision)?;
        let Some(expected) = env.expected(i) else {
            bail!(
                "{} knows no expected rewards, so there is no truth to compare with",
                self.ground.spec
            );
        };
        Ok(expected.iter().zip(decision.probs()).map(|(e, p)| e * p).sum())
    }

    /// The target's value over `rounds` rounds, or over all rows of a data set.
    fn walked(&self, rounds: u64) -> Result<Truth> {
        let mut env = match self.ground.is_data() {
            true => self.ground.world(0, u64::MAX)?,
            false => self.ground.walk(self.train, rounds)?,
        };
        let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
        let mut decision = Decision::new();
        while env.advance()? {
            for i in 0..env.open() {
                let value = self.value(env.as_ref(), i, &mut decision)?;
                n += 1.0;
                sum += value;
                squares += value * value;
            }
            let first = vec![0; env.open()];
            env.respond(&first, &mut Vec::new())?;
        }
        let value = sum / n;
        let variance = (squares / n - value * value).max(0.0);
        Ok(Truth::World {
            value,
            std_error: if self.ground.is_data() {
                0.0
            } else {
                libm::sqrt(variance / n)
            },
        })
    }

    /// What reward models read in this world.
    ///
    /// # Errors
    /// Candidates without features whose set is not fixed.
    pub fn input_shape(&self) -> Result<InputShape> {
        let shape = &self.shape;
        if shape.candidate.is_empty() && shape.actions.is_none() {
            bail!("{}: candidates that come and go need features", self.ground.spec);
        }
        Ok(InputShape {
            context: shape.context.len(),
            candidate: shape.candidate.len(),
            // Candidates with features are drawn anew in every round of these worlds: their number in a row means
            // nothing.
            arms: if shape.candidate.is_empty() {
                shape.actions.unwrap_or(0)
            } else {
                0
            },
        })
    }

    /// Calls `each` with `count` logs of `size` rows, written by logger number `logger`.
    ///
    /// # Errors
    /// A world that ends too early; what world and policies refuse; what `each` gives.
    pub fn logs(
        &self,
        logger: usize,
        size: u64,
        count: u64,
        mut each: impl FnMut(u64, Written) -> Result<()>,
    ) -> Result<()> {
        let key = self.ground.key.name("logger").fold(logger as u64).fold(size);
        let mut walk = match self.ground.apart() {
            true => None,
            false => Some(self.ground.walk(self.train, count * size)?),
        };
        for log in 0..count {
            let key = key.fold(log);
            let written = match &mut walk {
                Some(env) => self.write(env.as_mut(), logger, size, key)?,
                None => self.write(self.ground.world(log + 1, size)?.as_mut(), logger, size, key)?,
            };
            let got = written.log.len() as u64;
            let name = &self.ground.spec;
            ensure!(
                got == size,
                "{name} has {got} rows for a log of {size}; choose smaller --sizes"
            );
            each(log, written)?;
        }
        Ok(())
    }

    /// One log of the next `size` rounds.
    fn write(&self, env: &mut dyn Environment, logger: usize, size: u64, key: Key) -> Result<Written> {
        let mut hand = match &self.loggers[logger] {
            Logger::Frozen(policy) => Hand::Frozen(policy.as_ref()),
            Logger::Learning(spec) => Hand::Learning(oo_policies::build(spec, &self.shape)?),
        };
        let mut writer = Writer::default();
        let (mut log, mut decision, mut aimed) = (Log::new(), Decision::new(), Decision::new());
        let (mut rows, mut chosen, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        while (writer.rows() as u64) < size && env.advance()? {
            log.clear();
            rows.clear();
            chosen.clear();
            outcomes.clear();
            for i in 0..env.open() {
                writer.value += self.value(env, i, &mut aimed)?;
                let round = env.round(i);
                hand.policy().decide(&round, key.fold(round.index), &mut decision)?;
                rows.push(log.push(&round, &decision));
                chosen.push(decision.chosen());
                writer.push(&round, &decision, aimed.probs());
            }
            env.respond(&chosen, &mut outcomes)?;
            for (&row, outcome) in rows.iter().zip(&outcomes) {
                log.settle(row, outcome.reward, outcome.feedback);
                writer.reward.push(outcome.reward);
            }
            if let Hand::Learning(policy) = &mut hand {
                policy.update(&Batch::new(&log, &rows))?;
            }
        }
        Ok(writer.finish(self.ground.has_people()))
    }
}

/// Gathers the columns of a log.
#[derive(Default)]
struct Writer {
    action: Vec<u32>,
    reward: Vec<f64>,
    propensity: Vec<f64>,
    ends: Vec<usize>,
    target: Vec<f64>,
    user: Vec<u64>,
    inputs: Inputs,
    value: f64,
}

impl Writer {
    fn rows(&self) -> usize {
        self.action.len()
    }

    /// A row whose reward is still to come.
    fn push(&mut self, round: &Round<'_>, decision: &Decision, target: &[f64]) {
        self.action.push(decision.chosen() as u32);
        self.propensity.push(decision.propensity());
        self.target.extend_from_slice(target);
        self.ends.push(self.target.len());
        self.user.push(round.user.0);
        self.inputs.context.extend_from_slice(round.context);
        self.inputs.candidate.extend_from_slice(round.candidates.features);
        if round.candidates.dim == 0 {
            self.inputs
                .arm
                .extend(round.candidates.ids.iter().map(|id| id.0 as u32));
        }
    }

    fn finish(self, people: bool) -> Written {
        Written {
            value: self.value / self.rows() as f64,
            log: Logged {
                action: self.action,
                reward: self.reward,
                propensity: self.propensity,
                candidates: Sizes::Ends(self.ends),
                target: self.target,
                model: vec![],
                cluster: if people { self.user } else { vec![] },
                first_row: 1,
            },
            inputs: self.inputs,
        }
    }
}
