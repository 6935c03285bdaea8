//! How a policy comes into charge without a leap: shadow, then an experiment on some users, then launch, and back again
//! if need be.
//!
//! - A **shadow** decides along on the same traffic, unheard; its probabilities go into the journal.
//! - An **experiment** lets a challenger decide for a share of the users, assigned by hash. The gate's rule judges it at
//!   every look ([`oo_judge::gate`]): `promote` allows the launch, `keep` ends the experiment and everybody is served by the
//!   champion again, without anybody's doing.
//! - A **launch** makes the challenger the policy in charge, if the gate says so; **roll back** undoes the last change.
//! - In the modes **apprentice** and **log-only** the caller decides, and the journal has beside it how likely the policy was
//!   to choose each candidate.

mod rule;
mod verdict;

pub use rule::RuleGiven;

use crate::config::Mode;
use crate::drift::{self, Drift, Summary};
use crate::engine::event::Outcome;
use crate::engine::experiment::ARMS;
use crate::engine::{Answer, Artefact, Ask, Choice, Engine, Explained, Plan, Reason, Standing};
use crate::http::problem::Problem;
use crate::http::{App, rounds};
use crate::metrics::Text;
use crate::registry;
use oo_judge::gate::{self, Rule};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use verdict::{Told, judge, reasons, word};

/// Shadows at once: each is a thread and a queue.
const MAX_SHADOWS: usize = 16;
/// How long a shadow may take to say what it has learned.
const PATIENCE: Duration = Duration::from_secs(5);

/// A decision with what is said about it.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The decision.
    pub answer: Answer,
    /// What each feature adds to the score of the chosen candidate; empty where nobody can say.
    pub contributions: Vec<(usize, f64)>,
    arm: Option<u8>,
}

impl Decided {
    /// The name of the arm, where an experiment runs.
    pub fn arm(&self) -> Option<&'static str> {
        self.arm.map(|i| ARMS[usize::from(i)])
    }
}

impl From<Explained> for Decided {
    fn from(explained: Explained) -> Decided {
        Decided {
            answer: explained.answer,
            contributions: explained.contributions,
            arm: explained.arm,
        }
    }
}

/// See the module.
pub struct Rollout {
    engine: Arc<Engine>,
    /// The registry of models, where one is named.
    mlflow: Option<String>,
    /// One change at a time.
    changing: Mutex<()>,
    drift: Arc<Drift>,
    seen: AtomicU64,
    fallbacks: AtomicU64,
    compact: AtomicBool,
}

fn refuse(field: &str, detail: impl Into<String>) -> Problem {
    Problem::field(field, detail)
}

impl Rollout {
    /// Starts the shadows that do not run yet. What the folder has running goes on by itself. `mlflow` is the address of the
    /// registry in which `models:/…` are looked up.
    ///
    /// # Errors
    /// A shadow that does not fit.
    pub fn open(
        engine: Arc<Engine>,
        shadows: &[String],
        summary: Option<Summary>,
        mlflow: Option<String>,
    ) -> Result<Rollout, Problem> {
        let shape = engine.settings().shape.clone();
        let drift = Arc::new(Drift::new(shape.context.iter().chain(&shape.candidate), summary));
        let watch = drift.clone();
        engine.listen(move |reward| watch.reward(reward));
        // A process may end between the record of a forgotten user and the compaction.
        let owed = engine.owes_blanks();
        let rollout = Rollout {
            drift,
            engine,
            mlflow,
            changing: Mutex::default(),
            seen: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            compact: AtomicBool::new(owed),
        };
        let known: Vec<String> = rollout.engine.shadows().into_iter().map(|s| s.name).collect();
        let new = shadows.iter().filter(|s| !known.contains(s));
        // All or none: they outlast this process.
        let (n, all) = (known.len(), known.len() + new.clone().count());
        if all > MAX_SHADOWS.max(n) {
            let detail = format!("expected at most {MAX_SHADOWS} shadows, got {all}, of which the folder has {n}");
            return Err(refuse("name", detail));
        }
        for spec in new {
            rollout.add_shadow(spec, spec)?;
        }
        // Until format 2 an experiment was a file beside the journal, and its counts were nowhere.
        let old = rollout.engine.dir().join("experiment.json");
        if old.exists() {
            tracing::warn!("an experiment of an older version ended with it; begin it again");
            let _ = std::fs::remove_file(old);
            let _ = std::fs::remove_file(rollout.engine.dir().join("challenger.safetensors"));
        }
        Ok(rollout)
    }

    /// A spec, a folder with a trained policy, or one in the registry.
    fn artefact(&self, text: &str) -> Result<Artefact, Problem> {
        let (settings, server) = (self.engine.settings(), self.mlflow.as_deref());
        let taken = registry::take(text, server, self.engine.dir(), &settings.shape, &settings.build);
        let (artefact, warning) = taken.map_err(|why| refuse("policy", why))?;
        if let Some(why) = warning {
            tracing::warn!(why, "the registry of models does not answer");
        }
        Ok(artefact)
    }

    /// Decides as the mode and the experiment say, and lets the others decide along.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn decide(&self, app: &App, ask: &Ask<'_>) -> Result<Decided, Problem> {
        let decided: Decided = match app.mode {
            Mode::Serve => self.engine.decide_explained(ask)?.into(),
            mode => Decided {
                answer: self.baseline(ask, mode == Mode::LogOnly)?,
                contributions: Vec::new(),
                arm: None,
            },
        };
        if matches!(decided.answer.reason, Reason::FallbackError | Reason::FallbackTimeout) {
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        Ok(decided)
    }

    /// The caller's first candidate.
    fn baseline(&self, ask: &Ask<'_>, observe: bool) -> Result<Answer, Problem> {
        let ask = Ask { observe, ..*ask };
        let n = ask.ids.len();
        let (mut probs, scores) = (vec![0.0; n], vec![0.0; n]);
        if let Some(first) = probs.first_mut() {
            *first = 1.0;
        }
        let choice = Choice {
            chosen: 0,
            probs: &probs,
            scores: &scores,
            method: oo_core::Method::Exact,
            policy: "baseline",
            reason: Reason::Given,
        };
        Ok(self.engine.record(&ask, &choice)?)
    }

    /// Looks at a decision now and then, for drift.
    pub fn watch(&self, answer: &Answer, context: &[f32], row: &[f32]) {
        if self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(drift::EVERY) {
            let features = context.iter().chain(row).copied();
            self.drift.decision(features, answer.scores[answer.chosen]);
        }
    }

    /// Adds a shadow.
    ///
    /// # Errors
    /// A name that is taken, a policy that does not fit.
    pub fn add_shadow(&self, name: &str, policy: &str) -> Result<(), Problem> {
        let artefact = self.artefact(policy)?;
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.engine.shadows().len() >= MAX_SHADOWS {
            return Err(refuse("name", format!("expected at most {MAX_SHADOWS} shadows")));
        }
        Ok(self.engine.add_shadow(name, &artefact)?)
    }

    /// Ends a shadow.
    ///
    /// # Errors
    /// A name that no shadow has.
    pub fn remove_shadow(&self, name: &str) -> Result<(), Problem> {
        Ok(self.engine.remove_shadow(name)?)
    }

    /// Puts a shadow, with what it has learned, or another policy in charge.
    ///
    /// # Errors
    /// A name that no shadow has, a policy that does not fit.
    pub fn promote(&self, name: Option<&str>, policy: Option<&str>) -> Result<(), Problem> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        match (name, policy) {
            (Some(name), None) => {
                self.none_runs()?;
                self.engine.promote(name, PATIENCE)?;
            }
            (None, Some(policy)) => {
                let next = self.artefact(policy)?;
                self.none_runs()?;
                self.engine.swap(&next)?;
            }
            (name, _) => {
                let got = if name.is_some() { "both" } else { "neither" };
                return Err(refuse(
                    "policy",
                    format!("expected `name` of a shadow or `policy`, got {got}"),
                ));
            }
        }
        self.changed();
        Ok(())
    }

    fn none_runs(&self) -> Result<(), Problem> {
        match self.engine.experiment() {
            None => Ok(()),
            Some(s) => Err(Problem::not_now(format!(
                "the experiment `{}` runs; stop or launch it first",
                s.plan.salt
            ))),
        }
    }

    fn changed(&self) {
        tracing::info!(policy = self.engine.condition().policy, "another policy is in charge");
    }

    /// Puts back what was in charge before the last change, as it was then.
    ///
    /// # Errors
    /// When there is no change that can be undone.
    pub fn roll_back(&self) -> Result<(), Problem> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.none_runs()?;
        if self.engine.formers().is_empty() {
            return Err(Problem::not_now(
                "no change is left that could be undone; promote a policy by `policy` instead",
            ));
        }
        self.engine.roll_back()?;
        tracing::warn!(policy = self.engine.condition().policy, "rolled back");
        Ok(())
    }

    /// Starts an experiment.
    ///
    /// # Errors
    /// Another one runs; a share or a rule that cannot be used; a policy that does not fit.
    pub fn experiment(&self, request: &Asked<'_>) -> Result<(), Problem> {
        let needed = |field: &str, what: &str| refuse(field, format!("missing; expected {what}"));
        let salt = request.salt.ok_or_else(|| needed("salt", "the experiment's name"))?;
        let policy = request.policy.ok_or_else(|| needed("policy", "a spec or a folder"))?;
        let plan = Plan {
            salt: salt.into(),
            share: request.share.unwrap_or(0.5),
            rule: self.rule(request.rule)?,
        };
        let artefact = self.artefact(policy)?;
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.none_runs()?;
        if let Some(number) = self.engine.salt_used(salt)? {
            let why = format!(
                "the experiment {number} had the salt `{salt}`, and the same users would be in the same arms again; take \
                 another, such as `{salt}-again`"
            );
            return Err(Problem::not_now(why).about("salt"));
        }
        let number = self.engine.begin_experiment(&plan, &artefact)?;
        tracing::info!(number, salt, policy, "an experiment begins");
        Ok(())
    }

    /// The rule of a request, or the usual one.
    fn rule(&self, given: Option<&RuleGiven>) -> Result<Rule, Problem> {
        match given {
            Some(given) => given.read(),
            None => Ok(Rule::usual(false, rounds::is_tips(&self.engine.settings().shape))),
        }
    }

    /// Ends the experiment; everybody is control.
    ///
    /// # Errors
    /// When none runs.
    pub fn stop(&self) -> Result<(), Problem> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = self.standing()?;
        Ok(self
            .engine
            .end_experiment(standing.number, Outcome::Stopped, "as asked")?)
    }

    fn standing(&self) -> Result<Standing, Problem> {
        self.engine
            .experiment()
            .ok_or_else(|| Problem::not_now("no experiment runs"))
    }

    /// Puts the challenger in charge, if the gate says `promote`, or with `force`.
    ///
    /// # Errors
    /// When none runs, or the gate does not say so.
    pub fn launch(&self, force: bool) -> Result<(), Problem> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = self.standing()?;
        let verdict = judge(&standing);
        let why = match (verdict.answer, force) {
            (gate::Answer::Promote, _) => "every check of the rule passed".to_string(),
            (_, true) => format!("forced, although the gate did not say promote: {}", reasons(&verdict)),
            (answer, false) => {
                return Err(Problem::not_now(format!(
                    "the gate says {}: {} (`force` launches all the same)",
                    word(answer),
                    reasons(&verdict)
                )));
            }
        };
        self.engine.end_experiment(standing.number, Outcome::Launched, &why)?;
        self.changed();
        Ok(())
    }

    /// Policies in all their places.
    pub fn policies(&self) -> Value {
        let condition = self.engine.condition();
        json!({
            "active": {
                "policy": condition.policy,
                "model_version": condition.generation,
                "updates": condition.updates,
                "updates_refused": condition.refused,
            },
            "shadows": self.engine.shadows(),
            "experiment": self.engine.experiment().map(|s| json!({
                "number": s.number,
                "plan": *s.plan,
                "challenger": s.challenger,
                "model_version": s.generation,
                "updates": s.updates,
                "updates_refused": s.refused,
            })),
            "last_experiment": self.engine.last_experiment(),
            "can_roll_back_to": self.engine.formers(),
        })
    }

    /// How the experiment stands, and what the gate says of it now.
    pub fn report(&self) -> Value {
        let last = self.engine.last_experiment();
        match self.engine.experiment() {
            None => json!({"experiment": null, "last_experiment": last}),
            Some(s) => {
                let verdict = judge(&s);
                let effect = verdict.checks.iter().find(|c| c.name == "difference in reward");
                json!({
                    "experiment": *s.plan,
                    "number": s.number,
                    "challenger": s.challenger,
                    "arms": s.arms,
                    "gate": Told {
                        answer: verdict.answer,
                        more_decisions: verdict.more_decisions,
                        difference: effect.and_then(|c| c.seen),
                        low: effect.and_then(|c| c.low),
                        high: effect.and_then(|c| c.high),
                        checks: &verdict.checks,
                    },
                    "last_experiment": last,
                })
            }
        }
    }

    /// Appends the metrics.
    pub fn write(&self, out: &mut Text) {
        let fallbacks = self.fallbacks.load(Ordering::Relaxed) as f64;
        out.counter(
            "oo_fallbacks_total",
            "Decisions drawn uniformly because the policy failed or was slow.",
            fallbacks,
        );
        let condition = self.engine.condition();
        out.family(
            "oo_experiments_ended_total",
            "counter",
            "Experiments that ended, by outcome.",
        );
        for (outcome, n) in ["stopped", "launched", "rolled_back"].iter().zip(condition.ends) {
            out.sample("oo_experiments_ended_total", &[("outcome", outcome)], n as f64);
        }
        if condition.agreement.count > 0 {
            let help =
                "Mean probability that the policy gives the caller's choice, in the modes apprentice and log-only.";
            let agreement = condition.agreement;
            out.gauge("oo_baseline_agreement", help, agreement.sum / agreement.count as f64);
        }
        if let Some(standing) = self.engine.experiment() {
            let (verdict, mean) = (judge(&standing), |x: Option<f64>| x.unwrap_or(f64::NAN));
            let code = match verdict.answer {
                gate::Answer::Keep => -1.0,
                gate::Answer::Undecided => 0.0,
                gate::Answer::Promote => 1.0,
            };
            out.gauge(
                "oo_experiment_gate",
                "What the gate says: 1 promote, 0 undecided, -1 keep.",
                code,
            );
            out.family("oo_experiment_mean_reward", "gauge", "Mean reward a decision, by arm.");
            for arm in &standing.arms {
                out.sample("oo_experiment_mean_reward", &[("arm", arm.arm)], mean(arm.mean_reward));
            }
        }
        out.family(
            "oo_shadow_decisions_total",
            "counter",
            "Decisions of shadows, by outcome.",
        );
        for shadow in self.engine.shadows() {
            for (outcome, n) in [
                ("proposed", shadow.proposed),
                ("failed", shadow.failed),
                ("dropped", shadow.dropped),
            ] {
                out.sample(
                    "oo_shadow_decisions_total",
                    &[("name", &shadow.name), ("outcome", outcome)],
                    n as f64,
                );
            }
        }
        self.drift.write(out);
    }

    /// A compaction is begun within a second, or after the rest that the last one takes, see [`keep`].
    pub fn compact_soon(&self) {
        self.compact.store(true, Ordering::Release);
    }

    /// May take minutes.
    fn compact(&self) {
        if let Err(e) = self.engine.compact() {
            tracing::warn!(error = %e, "the journal is not compacted; it will be tried again");
            self.compact_soon();
        }
    }

    /// Ends the experiment when the gate says that the champion stays: the challenger is worse, or a guard is breached.
    fn guard(&self) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(standing) = self.engine.experiment() else {
            return;
        };
        let verdict = judge(&standing);
        if verdict.answer != gate::Answer::Keep {
            return;
        }
        let why = reasons(&verdict);
        tracing::warn!(
            salt = standing.plan.salt,
            why,
            "the gate keeps the champion: the experiment is rolled back"
        );
        if let Err(e) = self.engine.end_experiment(standing.number, Outcome::RolledBack, &why) {
            tracing::error!(error = %e, "the experiment is not ended; it will be tried again");
        }
    }

    /// What is to be done every second. May block.
    fn housekeep(&self) {
        if let Err(e) = self.engine.tick() {
            tracing::warn!(error = %e, "time does not pass for the journal");
        }
        self.guard();
    }
}

/// What a request says of an experiment.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its name.
    pub salt: Option<&'a str>,
    /// Spec or folder of the challenger.
    pub policy: Option<&'a str>,
    /// The challenger's share of users; ½ by default.
    pub share: Option<f64>,
    /// The rule.
    pub rule: Option<&'a RuleGiven>,
}

const SECOND: Duration = Duration::from_secs(1);

/// Housekeeping and compactions, until they are aborted.
pub fn keep(app: Arc<App>) -> [tokio::task::JoinHandle<()>; 2] {
    [tokio::spawn(every_second(app.clone())), tokio::spawn(compactions(app))]
}

/// At once, too: a server that never lives for a second must take snapshots, or each start replays more than the last.
async fn every_second(app: Arc<App>) {
    loop {
        let app = app.clone();
        let _ = tokio::task::spawn_blocking(move || app.rollout.housekeep()).await;
        tokio::time::sleep(SECOND).await;
    }
}

/// When somebody was forgotten, and every hour where records are dropped for their age. A compaction reads and writes as much
/// as the journal has; after one that takes long comes a rest nine times as long, so that a tenth of the time goes to it
/// however often people are forgotten.
async fn compactions(app: Arc<App>) {
    let mut aged = Instant::now();
    loop {
        let begun = Instant::now();
        let old = app.engine.settings().retention.is_some() && aged.elapsed() >= 3600 * SECOND;
        if old {
            aged = begun;
        }
        if app.rollout.compact.swap(false, Ordering::AcqRel) || old {
            let app = app.clone();
            let _ = tokio::task::spawn_blocking(move || app.rollout.compact()).await;
        }
        let took = begun.elapsed();
        let rest = if took > SECOND { took * 9 } else { SECOND };
        tokio::time::sleep(rest).await;
    }
}
