//! The policy that decides for an experiment's second arm. It learns from all feedback, its own and the control's, on a
//! thread of its own, so that it may be a little behind; a panic is an error like others.

use super::experiment::Experiment;
use crate::engine::ask::{action_id, user_id};
use crate::engine::{Artefact, Engine};
use oo_core::{ActionId, Batch, Candidates, Decision, Key, Log, Policy, Round, Shape, Spec};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};

/// Rewards that may wait.
const QUEUE: usize = 65_536;

/// See the module.
pub struct Challenger {
    /// Name and options.
    pub spec: Spec,
    /// The spec as text.
    pub name: String,
    model: RwLock<Box<dyn Policy>>,
    queue: SyncSender<Option<(String, f64)>>,
    /// Rewards learned.
    pub learned: AtomicU64,
    /// Rewards that it did not learn: the queue was full, or it failed.
    pub missed: AtomicU64,
}

impl Challenger {
    /// Starts its thread.
    ///
    /// # Errors
    /// A spec that does not fit the shape, a state that does not fit the spec.
    pub fn start(
        artefact: &Artefact,
        shape: &Shape,
        engine: Arc<Engine>,
        experiment: Arc<Experiment>,
    ) -> oo_core::Result<Arc<Challenger>> {
        let mut model = oo_policies::build(&artefact.spec, shape)?;
        if let Some(state) = &artefact.state {
            model.load(state)?;
        }
        let (queue, jobs) = sync_channel(QUEUE);
        let challenger = Arc::new(Challenger {
            spec: artefact.spec.clone(),
            name: artefact.spec.to_string(),
            model: RwLock::new(model),
            queue,
            learned: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        });
        let worker = challenger.clone();
        let run = move || worker.work(&jobs, &engine, &experiment);
        std::thread::Builder::new()
            .name("challenger".into())
            .spawn(run)
            .map_err(|e| oo_core::Error::Failed(format!("no thread for the challenger: {e}")))?;
        Ok(challenger)
    }

    /// Decides.
    ///
    /// # Errors
    /// What the policy refuses.
    pub fn decide(&self, round: &Round<'_>, key: Key, out: &mut Decision) -> oo_core::Result<()> {
        let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
        catch_unwind(AssertUnwindSafe(|| model.decide(round, key, out)))
            .unwrap_or_else(|_| Err(oo_core::Error::Failed("the policy panicked".into())))
    }

    /// Tells it the reward of a decision.
    pub fn learn(&self, decision_id: &str, reward: f64) {
        if self.queue.try_send(Some((decision_id.into(), reward))).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends its thread once it has learned what waits.
    pub fn stop(&self) {
        let _ = self.queue.try_send(None);
    }

    /// What it has learned.
    pub fn save(&self) -> Vec<u8> {
        self.model.read().unwrap_or_else(PoisonError::into_inner).save()
    }

    /// As it is, to be put in charge.
    pub fn artefact(&self) -> Artefact {
        Artefact {
            spec: self.spec.clone(),
            state: Some(self.save()),
        }
    }

    fn work(&self, jobs: &Receiver<Option<(String, f64)>>, engine: &Engine, experiment: &Experiment) {
        let mut log = Log::new();
        while let Ok(Some((id, reward))) = jobs.recv() {
            let done = self.update(engine, experiment, &mut log, &id, reward);
            let counter = if done.is_some() { &self.learned } else { &self.missed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn update(&self, engine: &Engine, experiment: &Experiment, log: &mut Log, id: &str, reward: f64) -> Option<()> {
        let logged = engine.decision(id).ok()?;
        experiment.rewarded(experiment.arm(&logged.user), reward);
        let ids: Vec<ActionId> = logged.ids.iter().map(|id| action_id(id)).collect();
        let round = Round {
            index: logged.index,
            user: user_id(&logged.user),
            context: &logged.context,
            candidates: Candidates {
                ids: &ids,
                features: &logged.features,
                dim: logged.dim(),
            },
        };
        log.clear();
        let row = log.push_parts(&round, &logged.answer.probs, logged.answer.chosen, logged.answer.method);
        log.settle(row, reward, None);
        let mut model = self.model.write().unwrap_or_else(PoisonError::into_inner);
        let learned = catch_unwind(AssertUnwindSafe(|| model.update(&Batch::new(log, &[row]))));
        learned.ok()?.ok()
    }
}
