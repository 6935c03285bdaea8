//! Where the reward model's predictions come from: the log's own columns, or a model fitted to the log.

use crate::logs::{About, Block};
use anyhow::{Result, bail};
use oo_core::Key;
use oo_judge::models::{CrossFit, InputShape, Inputs, Weighting};

/// Beyond so many numbers a candidate, no model is fitted that nobody asked for.
const MOST_NUMBERS: usize = 256;

/// A reward model as it is asked for.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Choice {
    /// The log's predictions, else a linear model where that is cheap, else none.
    #[default]
    Auto,
    /// The spec of a model, or `none`.
    Spec(String),
}

/// What was decided for a log.
#[derive(Clone, PartialEq, Debug)]
pub enum Plan {
    /// Without a model.
    Without,
    /// The log's predictions.
    Given,
    /// A model that is fitted to the log, from this spec.
    Fitted(String, InputShape),
}

impl Plan {
    /// In words, for answers.
    pub fn describe(&self, folds: usize) -> String {
        match self {
            Plan::Without => "none".into(),
            Plan::Given => "the log's q_hat".into(),
            Plan::Fitted(spec, _) => format!("{spec}, cross-fitted in {folds} folds"),
        }
    }
}

/// Decides where predictions for a log come from.
///
/// # Errors
/// A log that does not say enough for the model that was asked for.
pub fn plan(choice: &Choice, about: &About) -> Result<Plan> {
    let shape = about.shape.as_ref().map(|shape| InputShape {
        context: shape.context.len(),
        candidate: shape.candidate.len(),
        arms: shape.actions.unwrap_or(0),
    });
    let usable = shape.filter(|s| s.candidate > 0 || s.arms > 0);
    match choice {
        Choice::Auto if about.model => Ok(Plan::Given),
        Choice::Auto => Ok(match usable.filter(|s| s.dim() <= MOST_NUMBERS) {
            Some(shape) => Plan::Fitted("linear".into(), shape),
            None => Plan::Without,
        }),
        Choice::Spec(spec) if spec == "none" => Ok(Plan::Without),
        Choice::Spec(spec) => match usable {
            Some(shape) => Ok(Plan::Fitted(spec.clone(), shape)),
            None => bail!(
                "--model {spec}: expected a log whose candidates have features or whose actions are fixed; this one tells \
                 neither"
            ),
        },
    }
}

/// Checks a model that is asked for, whether or not anything will need it.
///
/// # Errors
/// An unknown model, an option out of range.
pub fn check(spec: &str, folds: usize) -> Result<()> {
    // Of any shape.
    let shape = InputShape {
        context: 1,
        candidate: 1,
        arms: 0,
    };
    match spec {
        "none" => Ok(()),
        _ => blank(spec, shape, folds, Weighting::Equal, 0).map(drop),
    }
}

/// Blank models of a plan.
///
/// # Errors
/// An unknown model, an option out of range.
pub fn blank(spec: &str, shape: InputShape, folds: usize, weighting: Weighting, seed: u64) -> Result<CrossFit> {
    Ok(CrossFit::new(
        spec,
        shape,
        folds,
        weighting,
        Key::root(seed).name("ope"),
    )?)
}

/// The features of a block, as models read them.
///
/// # Errors
/// An action whose identity is beyond the fixed number of actions.
pub fn inputs(block: &Block, shape: &InputShape, out: &mut Inputs) -> Result<()> {
    out.context.clear();
    out.candidate.clear();
    out.arm.clear();
    for i in 0..block.rounds.len() {
        let round = block.rounds.row(i).round;
        out.context.extend_from_slice(round.context);
        out.candidate.extend_from_slice(round.candidates.features);
        if shape.reads_arms() {
            for id in round.candidates.ids {
                match u32::try_from(id.0) {
                    Ok(arm) if (arm as usize) < shape.arms => out.arm.push(arm),
                    _ => bail!(
                        "row {}: action {} is none of the {} that there are",
                        i + 1,
                        id.0,
                        shape.arms
                    ),
                }
            }
        }
    }
    Ok(())
}
