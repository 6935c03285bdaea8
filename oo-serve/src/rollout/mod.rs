//! How a policy comes into charge without a leap: shadow, then an experiment on some users, then launch, and back again
//! if need be.
//!
//! - A **shadow** decides along on the same traffic, unheard; its probabilities go into the journal.
//! - An **experiment** lets a challenger decide for a share of the users, assigned by hash. When the challenger is
//!   clearly worse it is stopped without anybody's doing.
//! - A **launch** makes the challenger the policy in charge, if the numbers allow it; **roll back** undoes the last change.
//! - In the modes **apprentice** and **log-only** the caller decides. Of the policy only the mean probability that it gives
//!   to the caller's choices is kept, as a metric of this process; its probabilities do not go into the journal.

pub mod challenger;
pub mod experiment;

use crate::artefact::Winner;
use crate::config::Mode;
use crate::drift::{self, Drift, Summary};
use crate::engine::ask::{action_id, identity, user_id};
use crate::engine::{Answer, Artefact, Ask, Choice, Engine, Reason, Receipt, Status};
use crate::http::problem::Problem;
use crate::http::{App, trace};
use crate::metrics::Text;
use challenger::Challenger;
use experiment::{ARMS, Conclusion, ENOUGH, Experiment, Plan};
use hyper::StatusCode;
use oo_core::key::hash_name;
use oo_core::{Decision, Key};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// Shadows at once: each is a thread and a queue.
const MAX_SHADOWS: usize = 16;
/// How long a shadow may take to say what it has learned.
const PATIENCE: Duration = Duration::from_secs(5);
/// Changes that can be undone.
const MAX_UNDO: usize = 8;
/// Seconds between two copies of the challenger on disk.
const SAVE_EVERY: u64 = 60;

/// A decision with what is said about it.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The decision.
    pub answer: Answer,
    /// What each feature adds to the score of the chosen candidate; empty where nobody can say.
    pub contributions: Vec<(usize, f64)>,
    arm: Option<usize>,
}

impl Decided {
    fn plain(answer: Answer, arm: Option<usize>) -> Decided {
        Decided {
            answer,
            contributions: Vec::new(),
            arm,
        }
    }

    /// The name of the arm, where an experiment runs.
    pub fn arm(&self) -> Option<&'static str> {
        self.arm.map(|i| ARMS[i])
    }
}

struct Running {
    experiment: Arc<Experiment>,
    challenger: Arc<Challenger>,
}

/// See the module.
pub struct Rollout {
    engine: Arc<Engine>,
    running: RwLock<Option<Arc<Running>>>,
    /// What was in charge before, the latest last.
    before: Mutex<Vec<Artefact>>,
    /// One change at a time.
    changing: Mutex<()>,
    drift: Drift,
    seen: AtomicU64,
    fallbacks: AtomicU64,
    guarded: AtomicU64,
    compact: AtomicBool,
    agreement: Mutex<(f64, u64)>,
}

fn refuse(field: &str, detail: impl Into<String>) -> Problem {
    Problem::field(field, detail)
}

/// A spec, or a folder with a trained policy.
fn artefact(text: &str, shape: &oo_core::Shape) -> Result<Artefact, String> {
    if !Path::new(text).is_dir() {
        let blank = Artefact::blank(text).map_err(|e| format!("{e}; nor is it a folder"))?;
        oo_policies::build(&blank.spec, shape).map_err(|e| e.to_string())?;
        return Ok(blank);
    }
    let winner = Winner::read(Path::new(text))?;
    if winner.policy.shape != *shape {
        return Err(format!(
            "{text}: it was trained for rounds of another shape than those that are served here"
        ));
    }
    Ok(Artefact {
        spec: oo_core::Spec::parse(&winner.policy.spec).map_err(|e| e.to_string())?,
        state: Some(winner.state),
    })
}

impl Rollout {
    /// Starts the shadows, and goes on with the experiment that ran when the folder was closed.
    ///
    /// # Errors
    /// A shadow that does not fit.
    pub fn open(engine: Arc<Engine>, shadows: &[String], summary: Option<Summary>) -> anyhow::Result<Rollout> {
        let shape = engine.settings().shape.clone();
        let rollout = Rollout {
            drift: Drift::new(shape.context.iter().chain(&shape.candidate), summary),
            engine,
            running: RwLock::default(),
            before: Mutex::default(),
            changing: Mutex::default(),
            seen: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            guarded: AtomicU64::new(0),
            compact: AtomicBool::new(false),
            agreement: Mutex::default(),
        };
        for spec in shadows {
            rollout.add_shadow(spec, spec).map_err(|p| anyhow::anyhow!(p.detail))?;
        }
        if let Ok(text) = std::fs::read(rollout.plan_file()) {
            match serde_json::from_slice::<Plan>(&text) {
                Ok(plan) => {
                    let state = std::fs::read(rollout.state_file()).ok();
                    if let Err(p) = rollout.begin(plan, state) {
                        tracing::error!(why = p.detail, "the experiment does not go on");
                    }
                }
                Err(e) => tracing::error!(error = %e, "the experiment's file cannot be read; it does not go on"),
            }
        }
        Ok(rollout)
    }

    fn plan_file(&self) -> PathBuf {
        self.engine.dir().join("experiment.json")
    }

    fn state_file(&self) -> PathBuf {
        self.engine.dir().join("challenger.safetensors")
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Decides as the mode and the experiment say, and lets the others decide along.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn decide(&self, app: &App, ask: &Ask<'_>) -> Result<Decided, Problem> {
        let decided = match app.mode {
            Mode::Serve => self.serve(ask)?,
            mode => Decided::plain(self.baseline(ask, mode == Mode::LogOnly)?, None),
        };
        if matches!(decided.answer.reason, Reason::FallbackError | Reason::FallbackTimeout) {
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        Ok(decided)
    }

    fn serve(&self, ask: &Ask<'_>) -> Result<Decided, Problem> {
        let running = self.running();
        let arm = running.as_ref().map(|r| r.experiment.arm(ask.user));
        let decided = match (&running, arm) {
            (Some(running), Some(1)) => Decided::plain(self.challenge(&running.challenger, ask)?, arm),
            _ => {
                let (answer, contributions) = self.engine.decide_explained(ask)?;
                Decided {
                    answer,
                    contributions,
                    arm,
                }
            }
        };
        if let (Some(running), Some(arm), false) = (&running, arm, decided.answer.repeated) {
            running.experiment.decided(arm, identity(ask.user));
        }
        Ok(decided)
    }

    fn challenge(&self, challenger: &Challenger, ask: &Ask<'_>) -> Result<Answer, Problem> {
        let made = format!("{:032x}", trace::fresh());
        let ask = Ask {
            decision_id: Some(ask.decision_id.unwrap_or(&made)),
            ..*ask
        };
        let id = ask.decision_id.unwrap_or_default();
        let ids: Vec<_> = ask.ids.iter().map(|id| action_id(id)).collect();
        let round = oo_core::Round {
            index: 0,
            user: user_id(ask.user),
            context: ask.context,
            candidates: oo_core::Candidates {
                ids: &ids,
                features: ask.features,
                dim: self.engine.settings().shape.candidate.len(),
            },
        };
        let mut decision = Decision::new();
        let seed = self.engine.settings().seed;
        let key = Key::root(seed)
            .name("challenger")
            .fold(round.user.0)
            .fold(hash_name(id));
        let choice = match challenger.decide(&round, key, &mut decision) {
            Ok(()) => Choice {
                chosen: decision.chosen(),
                probs: decision.probs(),
                scores: decision.scores(),
                method: decision.method(),
                policy: &challenger.name,
                reason: Reason::Policy,
            },
            // The policy in charge knows better than a coin.
            Err(_) => return Ok(self.engine.decide(&ask)?),
        };
        Ok(self.engine.record(&ask, &choice)?)
    }

    /// The caller's first candidate. How likely the policy was to choose it goes into a metric, and nowhere else.
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
        let answer = self.engine.record(&ask, &choice)?;
        if !answer.repeated {
            let would = self.engine.propose(&ask)?;
            let mut agreement = self.agreement.lock().unwrap_or_else(PoisonError::into_inner);
            agreement.0 += would.probs[0];
            agreement.1 += 1;
        }
        Ok(answer)
    }

    /// Looks at a decision now and then, for drift.
    pub fn watch(&self, answer: &Answer, context: &[f32], row: &[f32]) {
        if self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(drift::EVERY) {
            let features = context.iter().chain(row).copied();
            self.drift.decision(features, answer.scores[answer.chosen]);
        }
    }

    /// A reward was learned: the others hear of it.
    pub fn learned(&self, receipt: &Receipt) {
        if receipt.repeated || receipt.status != Status::Learned {
            return;
        }
        self.drift.reward(receipt.reward);
        if let Some(running) = self.running() {
            running.challenger.learn(&receipt.decision_id, receipt.reward);
        }
    }

    /// Adds a shadow.
    ///
    /// # Errors
    /// A name that is taken, a policy that does not fit.
    pub fn add_shadow(&self, name: &str, policy: &str) -> Result<(), Problem> {
        let shape = &self.engine.settings().shape;
        let artefact = artefact(policy, shape).map_err(|why| refuse("policy", why))?;
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
        let next = match (name, policy) {
            (Some(name), None) => self.engine.shadow(name, PATIENCE)?,
            (None, Some(policy)) => {
                artefact(policy, &self.engine.settings().shape).map_err(|why| refuse("policy", why))?
            }
            _ => return Err(refuse("policy", "expected `name` of a shadow, or `policy`")),
        };
        self.put_in_charge(next)
    }

    fn put_in_charge(&self, next: Artefact) -> Result<(), Problem> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.engine.in_charge()?;
        self.engine.swap(&next)?;
        let mut list = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(before);
        if list.len() > MAX_UNDO {
            list.remove(0);
        }
        tracing::info!(policy = self.engine.condition().policy, "another policy is in charge");
        Ok(())
    }

    /// Puts back what was in charge before the last change, as it was then.
    ///
    /// # Errors
    /// When there was no change since the start.
    pub fn roll_back(&self) -> Result<(), Problem> {
        let last = self.before.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(before) = last else {
            return Err(not_now(
                "no policy was changed since this process began; promote one by `policy` instead",
            ));
        };
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.engine.swap(&before)?;
        tracing::warn!(policy = self.engine.condition().policy, "rolled back");
        Ok(())
    }

    /// Starts an experiment.
    ///
    /// # Errors
    /// Another one runs, a share outside (0, 1), a policy that does not fit.
    pub fn experiment(&self, plan: Plan) -> Result<(), Problem> {
        self.begin(plan.clone(), None)?;
        let text = serde_json::to_vec_pretty(&plan).unwrap_or_default();
        write(&self.plan_file(), &text).map_err(|e| Problem::unavailable(format!("the experiment is not saved: {e}")))
    }

    fn begin(&self, plan: Plan, state: Option<Vec<u8>>) -> Result<(), Problem> {
        if !(plan.share > 0.0 && plan.share < 1.0) {
            return Err(refuse(
                "share",
                format!("expected above 0 and below 1, got {}", plan.share),
            ));
        }
        let shape = &self.engine.settings().shape;
        let mut artefact = artefact(&plan.policy, shape).map_err(|why| refuse("policy", why))?;
        artefact.state = state.or(artefact.state);
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.running().is_some() {
            return Err(not_now("an experiment runs already; stop or launch it first"));
        }
        let experiment = Arc::new(Experiment::new(plan));
        let challenger = Challenger::start(&artefact, shape, self.engine.clone(), experiment.clone())
            .map_err(|e| refuse("policy", e.to_string()))?;
        let running = Arc::new(Running { experiment, challenger });
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(())
    }

    /// Ends the experiment; everybody is control.
    ///
    /// # Errors
    /// When none runs.
    pub fn stop(&self) -> Result<(), Problem> {
        let running = self.running.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else {
            return Err(not_now("no experiment runs"));
        };
        running.challenger.stop();
        let _ = std::fs::remove_file(self.plan_file());
        let _ = std::fs::remove_file(self.state_file());
        Ok(())
    }

    /// Puts the challenger in charge, if the numbers allow it or with `force`.
    ///
    /// # Errors
    /// When none runs, or the numbers do not allow it.
    pub fn launch(&self, force: bool) -> Result<(), Problem> {
        let Some(running) = self.running() else {
            return Err(not_now("no experiment runs"));
        };
        let conclusion = running.experiment.conclusion();
        if conclusion != Conclusion::Launch && !force {
            let z = running.experiment.z().map_or("unknown".into(), |z| format!("{z:.2}"));
            let enough = running.experiment.plan.enough;
            return Err(not_now(format!(
                "the numbers do not allow it: {}, z is {z}; expected above 1.96, {enough} rewards in each arm and a \
                 sample ratio that fits (`force` launches all the same)",
                json!(conclusion)
            )));
        }
        self.put_in_charge(running.challenger.artefact())?;
        self.stop()
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
            "experiment": self.running().map(|r| json!({
                "plan": r.experiment.plan,
                "challenger": r.challenger.name,
                "learned": r.challenger.learned.load(Ordering::Relaxed),
                "missed": r.challenger.missed.load(Ordering::Relaxed),
            })),
            "can_roll_back_to": self.before.lock().unwrap_or_else(PoisonError::into_inner)
                .iter().rev().map(|a| a.spec.to_string()).collect::<Vec<_>>(),
        })
    }

    /// How the experiment stands.
    pub fn report(&self) -> Value {
        match self.running() {
            None => json!({"experiment": null}),
            Some(r) => json!({
                "experiment": r.experiment.plan,
                "arms": r.experiment.arms(),
                "sample_ratio_p": r.experiment.sample_ratio_p(),
                "z": r.experiment.z(),
                "conclusion": r.experiment.conclusion(),
            }),
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
        let guarded = self.guarded.load(Ordering::Relaxed) as f64;
        out.counter(
            "oo_experiments_stopped_total",
            "Experiments that the guard stopped.",
            guarded,
        );
        let (sum, n) = *self.agreement.lock().unwrap_or_else(PoisonError::into_inner);
        if n > 0 {
            let help =
                "Mean probability that the policy gives the caller's choice, in the modes apprentice and log-only.";
            out.gauge("oo_baseline_agreement", help, sum / n as f64);
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

    /// The next housekeeping compacts.
    pub fn compact_soon(&self) {
        self.compact.store(true, Ordering::Release);
    }

    /// Ends the challenger's thread and keeps what the challenger has learned.
    pub fn close(&self) {
        self.save();
        if let Some(running) = self.running() {
            running.challenger.stop();
        }
    }

    fn save(&self) {
        if let Some(running) = self.running()
            && let Err(e) = write(&self.state_file(), &running.challenger.save())
        {
            tracing::warn!(error = %e, "what the challenger has learned is not saved");
        }
    }

    /// What is to be done every second. May block.
    fn housekeep(&self, second: u64) {
        if let Err(e) = self.engine.tick() {
            tracing::warn!(error = %e, "time does not pass for the journal");
        }
        if let Some(running) = self.running()
            && running.experiment.conclusion() == Conclusion::RollBack
        {
            tracing::warn!(
                z = running.experiment.z(),
                "the challenger is worse: the experiment is stopped"
            );
            self.guarded.fetch_add(1, Ordering::Relaxed);
            let _ = self.stop();
        }
        if second.is_multiple_of(SAVE_EVERY) {
            self.save();
        }
        let old = self.engine.settings().retention.is_some() && second.is_multiple_of(3600);
        if (self.compact.swap(false, Ordering::AcqRel) || old)
            && let Err(e) = self.engine.compact()
        {
            tracing::warn!(error = %e, "the journal is not compacted");
        }
    }
}

fn not_now(detail: impl Into<String>) -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "not-now",
        "The server's state does not allow this",
        detail,
    )
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let under = path.with_extension("partial");
    std::fs::write(&under, bytes)?;
    std::fs::rename(under, path)
}

/// Housekeeping, until it is aborted.
pub fn keep(app: Arc<App>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        for second in 1u64.. {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let app = app.clone();
            let _ = tokio::task::spawn_blocking(move || app.rollout.housekeep(second)).await;
        }
    })
}

/// A plan from a request.
///
/// # Errors
/// Fields that are missing.
pub fn plan(
    salt: Option<&str>,
    policy: Option<&str>,
    share: Option<f64>,
    enough: Option<u64>,
) -> Result<Plan, Problem> {
    Ok(Plan {
        salt: salt
            .ok_or_else(|| refuse("salt", "missing; expected the experiment's name"))?
            .into(),
        policy: policy
            .ok_or_else(|| refuse("policy", "missing; expected a spec or a folder"))?
            .into(),
        share: share.unwrap_or(0.5),
        enough: enough.unwrap_or(ENOUGH).max(2),
    })
}
