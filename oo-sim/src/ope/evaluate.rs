//! The passes over a log.
//!
//! A log is read once for the estimates; before that once where a reward model is fitted, and afterwards once more where
//! tuned estimators go by user. Sums are added in the order of the rows, so threads move no bit. What is held in memory
//! does not grow with the log, but for the methods that need all weights at once.

use super::answer::{Answer, Diagnostics, Line, Parameter, Tuned};
use super::asked::{self, Asked, Whole};
use super::intervals::Method;
use super::pass::Pass;
use super::reward_model::{self, Choice, Plan};
use super::running::{Lane, Running, Users};
use super::target::Learn;
use super::warnings::{unsupported, warnings};
use crate::logs::{self, About, Block};
use anyhow::{Context, Result, anyhow, bail, ensure};
use oo_core::{Key, normal};
use oo_judge::estimators::bootstrap::Bootstrap;
use oo_judge::estimators::clusters::Positions;
use oo_judge::estimators::diagnostics::Diagnostics as Gathered;
use oo_judge::estimators::tuning::{GRID, Tuning};
use oo_judge::estimators::{BLOCK, Entry, Sums, Terms, Weighted};
use oo_judge::models::{CrossFitted, Inputs, Weighting};
use oo_judge::stats::intervals::{cressie_read, weighted_clopper_pearson};
use oo_judge::stats::{Bet, Interval, ValueSequence};
use statrs::distribution::{ContinuousCDF, StudentsT};
use std::path::PathBuf;

/// Of a log with more rows, `all` leaves out what needs all weights at once.
const MOST_KEPT: usize = 5_000_000;

/// The weight from which rows count as clipped: the default of the clipped estimators.
const CLIP: f64 = 20.0;

/// Relative to its ends, an interval narrower than this is rounding.
const FLAT: f64 = 1e-12;

/// Confidence of the rules that choose parameters.
const TUNING_DELTA: f64 = 0.1;

/// What is to be done for one policy.
pub struct Job {
    /// The log.
    pub log: PathBuf,
    /// Its format, or `auto`.
    pub format: String,
    /// The target policy; without one, what the log says of it.
    pub policy: Option<String>,
    /// What the policy learns, and from what.
    pub learn: Learn,
    /// What is asked for.
    pub estimators: Vec<Asked>,
    /// Whether that is everything there is, so that what this log cannot give is left out.
    pub all: bool,
    /// The reward model.
    pub model: Choice,
    /// Folds of cross-fitting.
    pub folds: usize,
    /// How intervals are found.
    pub method: Method,
    /// Their level, in (0, 1).
    pub level: f64,
    /// Resamples of the bootstrap.
    pub resamples: usize,
    /// The range of rewards, for methods that need one.
    pub range: Interval,
    /// The seed of everything that is drawn.
    pub seed: u64,
}

/// Evaluates one policy.
///
/// # Errors
/// Whatever is wrong with the log, the policy or the model; every message names the row where there is one.
pub fn evaluate(job: &Job) -> Result<Answer> {
    evaluate_log(job).with_context(|| format!("log {}", job.log.display()))
}

fn evaluate_log(job: &Job) -> Result<Answer> {
    let about = logs::open(&job.log, &job.format)?.about().clone();
    let mut plan = reward_model::plan(&job.model, &about)?;
    let mut asked = possible(job, &plan)?;
    let mut no_model = None;
    let models = match fit(job, &plan, &asked) {
        // Nobody asked for a model, so a log that is too small for one goes without.
        Err(e) if job.model == Choice::Auto && e.is::<oo_judge::Error>() => {
            (no_model, plan) = (Some(e), Plan::Without);
            asked = possible(job, &plan)?;
            [None, None]
        }
        fitted => fitted?,
    };
    if models[0].is_none() && matches!(plan, Plan::Fitted(..)) {
        plan = Plan::Without;
    }
    let mut work = Work::new(job, &asked)?;
    let mut pass = Pass::new(job, "estimating")?;
    let learned_from = pass.skip;
    while pass.next()? {
        work.add(job, &about, &plan, &models, &mut pass.block)?;
    }
    ensure!(
        work.rows > 0,
        "the log is empty: expected at least one row with a reward, got none ({} without)",
        pass.unanswered
    );
    work.choose(job.all)?;
    if work.users.count().is_some() && !work.chosen.is_empty() && job.method != Method::None {
        work.rerun_chosen(job, &plan, &models)?;
    }
    let report = work.diagnostics.report();
    let mut warnings = warnings(&report);
    if pass.unanswered > 0 {
        warnings.push(format!(
            "{} rows have no reward yet and are left out: if late rewards differ from early ones, so does the answer",
            pass.unanswered
        ));
    }
    if let Some(e) = no_model {
        warnings.push(format!("no reward model could be fitted: {e}"));
    }
    if work.kept_too_much {
        warnings.push(format!(
            "mle and cressie-read are left out, since they hold all weights in memory and the log has more than {MOST_KEPT} \
             rows; ask for them by name"
        ));
    }
    let estimates = work.lines(job)?;
    if matches!(job.method, Method::Normal | Method::Bootstrap) {
        let without = estimates.iter().filter(|l| l.value.is_some() && l.ci.is_none());
        let mut names: Vec<&str> = without.map(|l| l.estimator).collect();
        names.retain(|name| asked::estimators().any(|entry| entry.name == *name));
        names.dedup();
        if !names.is_empty() {
            warnings.push(format!(
                "no interval for {}: the rows that they use show no spread{}, and one of no width would claim that nothing \
                 else can be; --interval cressie-read or cs goes by --reward-range instead",
                names.join(", "),
                if work.rewards_differ { "" } else { " (all rewards are equal)" }
            ));
        }
    }
    Ok(Answer {
        estimates,
        diagnostics: Diagnostics {
            policy: match (&job.policy, &job.learn) {
                (None, _) => "the log's target policy".into(),
                (Some(policy), Learn::No) => policy.clone(),
                (Some(policy), Learn::Log) => format!("{policy}, learning from the log as it goes along"),
                (Some(policy), Learn::Share(share)) => {
                    format!("{policy}, learned from the first {share} of the log and judged on the rest")
                }
                (Some(policy), Learn::File(path)) => format!("{policy}, learned from {}", path.display()),
            },
            model: plan.describe(job.folds),
            level: job.level,
            logged_mean: work.rewards / work.rows as f64,
            users: work.users.count(),
            unanswered: pass.unanswered,
            learned_from,
            rows: report.rows,
            effective_rows: report.effective_rows,
            mean_weight: report.mean_weight,
            // Weights that are all 1 leave no spread to test with, and nothing to test.
            mean_weight_p: report
                .checks
                .first()
                .map(|check| check.p)
                .filter(|p| !p.is_nan())
                .unwrap_or(1.0),
            sd_weight: report.sd_weight,
            max_weight: report.max_weight,
            weight_quantiles: report.quantiles.to_vec(),
            tail_index: report.tail_index,
            zero_share: report.zero_share,
            clip: CLIP,
            clipped_share: report.clipped_share,
            unsupported: unsupported(&report),
            floor: report.floor,
            checks: report.checks.len(),
            failed: report.alarms().into_iter().cloned().collect(),
            tuned: work.tuned.clone(),
            warnings,
        },
    })
}

/// What this log can give of what was asked for.
fn possible(job: &Job, plan: &Plan) -> Result<Vec<Asked>> {
    let mut possible = Vec::new();
    for asked in &job.estimators {
        let trouble = if asked.needs_model() && *plan == Plan::Without {
            Some("needs a reward model: columns `q_hat_0`, …, or --model linear, logistic or neural")
        } else if asked.needs_own_model() && !matches!(plan, Plan::Fitted(..)) {
            Some("fits a reward model of its own kind: say which with --model linear, logistic or neural")
        } else {
            None
        };
        match trouble {
            None => possible.push(*asked),
            Some(_) if job.all => {}
            Some(trouble) => bail!("estimator `{}` {trouble}", asked.name()),
        }
    }
    Ok(possible)
}

/// The models of both lanes; none where nothing is fitted.
type Models = [Option<CrossFitted>; 2];

fn fit(job: &Job, plan: &Plan, asked: &[Asked]) -> Result<Models> {
    let Plan::Fitted(spec, shape) = plan else {
        return Ok([None, None]);
    };
    if !asked.iter().any(Asked::needs_model) {
        return Ok([None, None]);
    }
    let blank = |weighting| reward_model::blank(spec, *shape, job.folds, weighting, job.seed);
    let mut models = vec![blank(Weighting::Equal)?];
    if asked.iter().any(Asked::needs_own_model) {
        models.push(blank(Weighting::Mrdr)?);
    }
    let mut pass = Pass::new(job, "fitting the reward model")?;
    let mut inputs = Inputs::default();
    while pass.next()? {
        reward_model::inputs(&pass.block, shape, &mut inputs)?;
        for model in &mut models {
            model.add(&pass.block.logged, &inputs)?;
        }
    }
    let mut fitted = models.into_iter().map(|m| m.finish().map(Some));
    let first = fitted.next().transpose()?.flatten();
    let own = fitted.next().transpose()?.flatten();
    Ok([first, own])
}

/// Everything that is gathered in the pass for estimates.
struct Work<'a> {
    asked: &'a [Asked],
    /// The estimators on the common reward model, and those on one of their own.
    lanes: [Lane; 2],
    /// One pass serves every rule of an estimator.
    tunings: Vec<(&'static Entry, Tuning)>,
    sequence: Option<ValueSequence>,
    /// Weights and rewards, for what needs all at once.
    weights: Option<(Vec<f64>, Vec<f64>)>,
    kept_too_much: bool,
    keep_rows: bool,
    users: Users,
    diagnostics: Gathered,
    rows: u64,
    rewards: f64,
    first_reward: Option<f64>,
    rewards_differ: bool,
    /// Tuned estimators with their parameters.
    chosen: Vec<Running>,
    tuned: Vec<Tuned>,
    rounds: Weighted,
    terms: Terms,
    inputs: Inputs,
}

impl<'a> Work<'a> {
    fn new(job: &Job, asked: &'a [Asked]) -> Result<Self> {
        let mut lanes = [Lane::default(), Lane::default()];
        let mut tunings = Vec::new();
        for (i, what) in asked.iter().enumerate() {
            match what {
                Asked::Fixed(entry, parameter) => {
                    let lane = usize::from(what.needs_own_model());
                    lanes[lane].running.push(Running::new(i, entry, *parameter)?);
                }
                Asked::Tuned(entry, ..) => {
                    if !tunings.iter().any(|(known, _): &(&Entry, _)| known.name == entry.name) {
                        tunings.push((*entry, Tuning::new(entry, &GRID)?));
                    }
                }
                Asked::Whole(_) => {}
            }
        }
        let needs_all = matches!(job.method, Method::ClopperPearson | Method::CressieRead);
        let whole = asked.iter().any(|a| matches!(a, Asked::Whole(_)));
        Ok(Work {
            asked,
            lanes,
            tunings,
            sequence: (job.method == Method::Sequence).then(|| ValueSequence::new(Bet::Mixture, job.range, job.level)),
            weights: (needs_all || whole).then(Default::default),
            kept_too_much: false,
            keep_rows: job.method == Method::Bootstrap,
            users: Users::default(),
            diagnostics: Gathered::new(CLIP),
            rows: 0,
            rewards: 0.0,
            first_reward: None,
            rewards_differ: false,
            chosen: Vec::new(),
            tuned: Vec::new(),
            rounds: Weighted::default(),
            terms: Terms::default(),
            inputs: Inputs::default(),
        })
    }

    fn add(&mut self, job: &Job, about: &About, plan: &Plan, models: &Models, block: &mut Block) -> Result<()> {
        predict(plan, &models[0], block, &mut self.inputs)?;
        self.rows += block.logged.len() as u64;
        self.rewards += block.logged.reward.iter().sum::<f64>();
        self.first_reward = self.first_reward.or(block.logged.reward.first().copied());
        self.rewards_differ |= block.logged.reward.iter().any(|r| Some(*r) != self.first_reward);
        let mut positions = Vec::new();
        if !block.logged.cluster.is_empty() {
            self.users.positions.find(&block.logged.cluster, &mut positions);
        }
        if self.users.count().is_some() {
            // The bootstrap then draws users, whose totals are enough.
            self.keep_rows = false;
            self.lanes.iter_mut().for_each(|lane| lane.kept = Weighted::default());
        }
        self.users.of_rows = positions;
        if job.method.is_of_value()
            && let Some(i) = block.logged.reward.iter().position(|r| !job.range.contains(*r))
        {
            bail!(
                "row {}, column `reward`: expected a reward from {} to {}, as --reward-range says and `{}` needs, got {}",
                block.logged.first_row + i as u64,
                job.range.low,
                job.range.high,
                job.method.name(),
                block.logged.reward[i]
            );
        }
        self.weigh(job, about, block)?;
        if !self.lanes[1].running.is_empty() {
            predict(plan, &models[1], block, &mut self.inputs)?;
            for start in (0..block.logged.len()).step_by(BLOCK) {
                let end = block.logged.len().min(start + BLOCK);
                block.logged.weigh_rows(start..end, &mut self.rounds);
                self.lanes[1].add(
                    &self.rounds,
                    self.users.part(start, end),
                    self.keep_rows,
                    &mut self.terms,
                );
            }
        }
        Ok(())
    }

    /// The rows of a block for everything that shares the common reward model.
    fn weigh(&mut self, job: &Job, about: &About, block: &Block) -> Result<()> {
        // All candidates' probabilities under the logging policy, where the log has them.
        let behaviour: Option<Vec<f64>> = about.behaviour.then(|| {
            let rows = 0..block.rounds.len();
            rows.flat_map(|i| block.rounds.row(i).probs.iter().copied()).collect()
        });
        for start in (0..block.logged.len()).step_by(BLOCK) {
            let end = block.logged.len().min(start + BLOCK);
            block.logged.weigh_rows(start..end, &mut self.rounds);
            self.lanes[0].add(
                &self.rounds,
                self.users.part(start, end),
                self.keep_rows,
                &mut self.terms,
            );
            for (_, tuning) in &mut self.tunings {
                tuning.add(&self.rounds);
            }
            self.diagnostics
                .add(&block.logged, start..end, &self.rounds, behaviour.as_deref());
            if let Some(sequence) = &mut self.sequence {
                for (&w, &r) in self.rounds.weight.iter().zip(&self.rounds.reward) {
                    ensure!(
                        sequence.push(w, r),
                        "a weight of {w} is too large for a confidence sequence"
                    );
                }
            }
            if let Some((weights, rewards)) = &mut self.weights {
                weights.extend_from_slice(&self.rounds.weight);
                rewards.extend_from_slice(&self.rounds.reward);
            }
        }
        let kept = self.weights.as_ref().map_or(0, |w| w.0.len());
        let needed = matches!(job.method, Method::ClopperPearson | Method::CressieRead);
        if kept > MOST_KEPT && job.all && !needed {
            (self.weights, self.kept_too_much) = (None, true);
        }
        Ok(())
    }

    /// Lets every rule choose its parameter.
    fn choose(&mut self, all: bool) -> Result<()> {
        for (i, asked) in self.asked.iter().enumerate() {
            let Asked::Tuned(entry, rule_name, rule) = *asked else {
                continue;
            };
            let Some((_, tuning)) = self.tunings.iter().find(|(known, _)| known.name == entry.name) else {
                continue;
            };
            if self.rows < 2 && all {
                continue;
            }
            let choice = tuning.choose(rule, TUNING_DELTA)?;
            let mut running = Running::new(i, entry, Some(choice.parameter))?;
            running.sums = choice.sums;
            self.chosen.push(running);
            self.tuned.push(Tuned {
                estimator: entry.name,
                rule: rule_name,
                parameter: choice.parameter,
            });
        }
        Ok(())
    }

    /// Another pass, for the totals by user of the estimators that were tuned in the first.
    fn rerun_chosen(&mut self, job: &Job, plan: &Plan, models: &Models) -> Result<()> {
        let mut pass = Pass::new(job, "intervals of tuned estimators")?;
        let mut positions = Positions::default();
        let mut sums: Vec<Sums> = self.chosen.iter().map(|c| c.sums).collect();
        while pass.next()? {
            predict(plan, &models[0], &mut pass.block, &mut self.inputs)?;
            let logged = &pass.block.logged;
            positions.find(&logged.cluster, &mut self.users.of_rows);
            for start in (0..logged.len()).step_by(BLOCK) {
                let end = logged.len().min(start + BLOCK);
                logged.weigh_rows(start..end, &mut self.rounds);
                for running in &mut self.chosen {
                    running.add(&self.rounds, self.users.part(start, end), &mut self.terms);
                }
            }
        }
        self.chosen
            .iter_mut()
            .zip(&mut sums)
            .for_each(|(c, sums)| c.sums = *sums);
        Ok(())
    }

    /// The answer's lines, in the order asked for.
    fn lines(&self, job: &Job) -> Result<Vec<Line>> {
        let of_value = self.interval_of_value(job)?;
        let mut lines: Vec<(usize, Line)> = Vec::new();
        for (lane, running) in [
            (0, &self.lanes[0].running),
            (1, &self.lanes[1].running),
            (0, &self.chosen),
        ] {
            for running in running {
                let asked = &self.asked[running.asked];
                let ci = match of_value {
                    Some(interval) if !asked.needs_model() && unchanged(asked) => Some(interval),
                    Some(_) => None,
                    None => self.interval(job, running, &self.lanes[lane].kept),
                };
                let parameter = match asked {
                    Asked::Tuned(_, rule, _) => Parameter::Rule(rule),
                    Asked::Fixed(entry, given) => match given.or(entry.parameter.map(|p| p.default)) {
                        Some(x) => Parameter::Number(x),
                        None => Parameter::None,
                    },
                    Asked::Whole(_) => Parameter::None,
                };
                let value = Some(running.sums.value()).filter(|v| v.is_finite());
                lines.push((running.asked, line(asked.name(), parameter, value, ci, job.method)));
            }
        }
        for (i, asked) in self.asked.iter().enumerate() {
            if let (Asked::Whole(Whole { name, value, .. }), Some((weights, rewards))) = (asked, &self.weights) {
                let any = Interval::new(0.0, f64::INFINITY);
                let value = value(weights, rewards, any).filter(|v| v.is_finite());
                lines.push((i, line(name, Parameter::None, value, of_value, job.method)));
            }
        }
        lines.sort_by_key(|(i, _)| *i);
        Ok(lines.into_iter().map(|(_, line)| line).collect())
    }

    /// The interval for the policy's value, where the method is one for it. Of no width it is none: no distribution over
    /// these rows gives the weights a mean of 1.
    fn interval_of_value(&self, job: &Job) -> Result<Option<Interval>> {
        let none = || {
            anyhow!(
                "`{}` gives no interval for these weights and rewards",
                job.method.name()
            )
        };
        let found = match (job.method, &self.weights) {
            (Method::ClopperPearson, Some((weights, rewards))) => {
                Some(weighted_clopper_pearson(weights, rewards, job.range, job.level).with_context(none)?)
            }
            (Method::CressieRead, Some((weights, rewards))) => {
                let any = Interval::new(0.0, f64::INFINITY);
                Some(cressie_read(weights, rewards, any, job.range, job.level).with_context(none)?)
            }
            _ => self.sequence.clone().map(|mut sequence| sequence.interval()),
        };
        Ok(found.filter(|interval| interval.width() > 0.0))
    }

    /// The interval of one estimator.
    fn interval(&self, job: &Job, running: &Running, kept: &Weighted) -> Option<Interval> {
        let users = self.users.count();
        let found = match job.method {
            Method::Normal => {
                let (error, quantile) = match users {
                    None => (running.sums.std_error(), normal::quantile(0.5 + job.level / 2.0)),
                    Some(n) => {
                        let t = StudentsT::new(0.0, 1.0, n as f64 - 1.0).ok()?;
                        (running.totals.std_error(), t.inverse_cdf(0.5 + job.level / 2.0))
                    }
                };
                let value = running.sums.value();
                Interval::new(value - quantile * error, value + quantile * error)
            }
            Method::Bootstrap => {
                // The same resamples for every estimator.
                let key = Key::root(job.seed).name("ope");
                let resampled = match users {
                    Some(_) => Bootstrap::clusters(&running.totals, job.resamples, key),
                    None => {
                        let mut terms = Terms::default();
                        running.estimator.terms(kept, &mut terms);
                        Bootstrap::rows(&terms, job.resamples, key)
                    }
                };
                let (low, high) = resampled.interval(job.level)?;
                Interval::new(low, high)
            }
            _ => return None,
        };
        // Without spread but for rounding, there is nothing to tell the spread of what was not seen from.
        let flat = FLAT * found.low.abs().max(found.high.abs());
        Some(found).filter(|i| i.low.is_finite() && i.high.is_finite() && i.width() > flat)
    }
}

/// Whether an estimate is of the policy's value with its weights as they are.
fn unchanged(asked: &Asked) -> bool {
    asked.entry().is_some_and(|entry| entry.parameter.is_none())
        && asked.name() != oo_judge::estimators::replay::ENTRY.name
}

fn line(
    estimator: &'static str,
    parameter: Parameter,
    value: Option<f64>,
    ci: Option<Interval>,
    method: Method,
) -> Line {
    let ci = ci.filter(|_| value.is_some());
    Line {
        estimator,
        parameter,
        value,
        ci: ci.map(|i| [i.low, i.high]),
        method: ci.map(|_| method.name()),
    }
}

/// Puts the right predictions into a block.
fn predict(plan: &Plan, model: &Option<CrossFitted>, block: &mut Block, inputs: &mut Inputs) -> Result<()> {
    match (plan, model) {
        (Plan::Given, _) => {}
        (Plan::Fitted(_, shape), Some(model)) => {
            reward_model::inputs(block, shape, inputs)?;
            model.fill(&mut block.logged, inputs)?;
        }
        _ => block.logged.model.clear(),
    }
    Ok(())
}
