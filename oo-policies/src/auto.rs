//! The default, without anything to tune: several models learn from every row, and those that predict best decide.
//!
//! **Models.** Each is a Bayesian linear regression (see [`Linear`]) on a representation of its own: the features as
//! they are, and twice the features with random Fourier features beside them, which is a kernel regression, once with
//! little and once with much freedom to bend. Which one is right is found from the data: a model's weight is the posterior probability that it predicts best *from now on*,
//! by its predictive density of each reward before the row was learned, with a share of [`AFRESH`]/(t + 1) of all weight
//! dealt out afresh each row. So a simple model can lead at the beginning and hand over to a richer one without having to
//! be outlived first (Herbster, Warmuth 1998; van Erven, Grünwald, de Rooij 2012, "catching up faster").
//!
//! **Exploration.** A model proposes the candidate with the highest mean + c·σ̂·√(xᵀA⁻¹x). σ̂² is its own estimate of the
//! noise, from the errors of its predictions; of each action's where weights are an action's, since a quiet action
//! would else make a noisy one look certain. Where rewards are nearly certain, widths shrink by themselves; after some
//! tens of rows the scale of the rewards matters no more. A choice is made by one model and one level c of [`LEVELS`], drawn by weight;
//! so the propensity of a candidate is the weight of all that propose it, exactly. Levels are not chosen by the
//! rewards they bring: all learn from all rows, so what a wide level finds out pays for the narrow ones, and judging
//! it by its own rewards would always end in the narrowest.
//!
//! **Why not regret balancing?** It keeps a model's rows apart to hold each to its own promise, and pays with a factor
//! in data. Here the models only predict, so all of them can learn from every row whoever chose it.
//!
//! A round costs Σ K·D²/2 multiply-adds over the models that carry at least a hundredth of the highest weight, an update
//! Σ 3·D²/2, for D = d and D = d + [`FOURIER`].

use crate::greedy::argmax;
use crate::regress::Linear;
use crate::regress::linear::{self, Model};
use crate::state::{Reader, Writer};
use oo_core::registry::OptionHelp;
use oo_core::{ActionId, Batch, Build, Key, Method, Policy, Proposal, Result, Round, Shape};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Random Fourier features of the kernel models: for weights an action, and for weights that all candidates share,
/// where every candidate has a row of its own to pay for.
pub const FOURIER: [usize; 2] = [512, 256];

/// Kernel widths and ridge penalties of the models; no width means the features as they are.
/// The penalties of the kernel models say how much may bend: much pays where classes are separable, little where rewards
/// are mostly noise, and neither is known beforehand. The smaller one grows with the features beyond [`MANY`]: what is
/// believed of a reward before any data varies with their number, and so would exploration.
const MODELS: [(Option<f64>, f64); 3] = [(None, 1.0), (Some(0.5), 1.0), (Some(0.5), 0.3)];

/// So many features leave the smallest penalty as it is.
pub const MANY: f64 = 50.0;

/// Widths of the exploration, in posterior standard deviations; equally likely.
pub const LEVELS: [f64; 3] = [0.3, 0.6, 1.0];

/// The noise that is believed before any data, and the rows' worth of evidence for it: half a unit of reward.
const NOISE: (f64, f64) = (0.25, 10.0);

/// The share of all weight that is dealt out afresh at a row, times the number of rows: small, since rows on which all
/// models agree should not wear down what others have shown.
pub const AFRESH: f64 = 0.1;

/// Models below this share of the highest weight are not asked.
const ASKED: f64 = 0.01;

/// Options: none that tunes anything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    features: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { features: "all".into() }
    }
}

/// A model and how well it has predicted.
#[derive(Clone, Debug)]
struct Member {
    linear: Linear,
    weight: f64,
    /// Of all rows where candidates share weights, else of each action's.
    noise: BTreeMap<ActionId, Noise>,
}

/// The errors of predictions made before their rows were learned.
#[derive(Clone, Copy, Debug, Default)]
struct Noise {
    rows: f64,
    /// Σ e²/(1 + xᵀA⁻¹x).
    squares: f64,
}

impl Noise {
    /// σ̂².
    fn variance(self) -> f64 {
        let (noise, evidence) = NOISE;
        (noise * evidence + self.squares) / (evidence + self.rows)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Auto {
    members: Vec<Member>,
    rows: u64,
    layout: String,
}

impl Build for Auto {
    const NAME: &'static str = "auto";
    const SUMMARY: &'static str =
        "The default: linear and kernel models side by side, weighted by how well they predict";
    const PAPER: &'static str = "Li et al. (2010); Rahimi, Recht (2007); van Erven, Grünwald, de Rooij (2012)";
    const OPTIONS: &'static [OptionHelp] = &[("features", "all, or a feature spec of the tips world: v0, v1, v2, v3")];
    type Config = Config;
    fn build(c: Config, shape: &Shape) -> Result<Self> {
        let none = shape.context.is_empty() && shape.candidate.is_empty();
        let many = ((shape.context.len() + shape.candidate.len()) as f64 / MANY).max(1.0);
        let shared = usize::from(!shape.candidate.is_empty());
        let mut members = Vec::new();
        for (kernel, lambda) in MODELS {
            let options = linear::Options {
                lambda: if lambda < 1.0 { lambda * many } else { lambda },
                model: Model::Auto,
                features: c.features.clone(),
                fourier: kernel.map_or(0, |_| FOURIER[shared]),
                kernel_width: kernel.unwrap_or(1.0),
                ..linear::Options::default()
            };
            // Without features there is nothing to bend.
            if none && kernel.is_some() {
                continue;
            }
            members.push(Member {
                linear: Linear::with_constant(Self::NAME, shape, &options)?,
                weight: 1.0,
                noise: BTreeMap::new(),
            });
        }
        let share = 1.0 / members.len() as f64;
        members.iter_mut().for_each(|m| m.weight = share);
        let layouts: Vec<&str> = members.iter().map(|m| m.linear.layout()).collect();
        Ok(Auto {
            rows: 0,
            layout: layouts.join("; "),
            members,
        })
    }
}

impl Auto {
    /// The weights of the models, in the order of the module's text; they sum to 1.
    pub fn weights(&self) -> impl Iterator<Item = f64> {
        self.members.iter().map(|m| m.weight)
    }
}

impl Member {
    /// Whose noise an action's errors belong to.
    fn source(&self, id: ActionId) -> ActionId {
        if self.linear.joint().is_some() { ActionId(0) } else { id }
    }

    fn noise(&self, id: ActionId) -> f64 {
        self.noise.get(&self.source(id)).copied().unwrap_or_default().variance()
    }
}

impl Policy for Auto {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let n = round.candidates.len();
        let high = self.weights().fold(0.0, f64::max);
        let asked = |m: &&Member| m.weight >= ASKED * high;
        let total: f64 = self.members.iter().filter(asked).map(|m| m.weight).sum();
        let room = self.members.iter().map(|m| m.linear.row_len()).max().unwrap_or(0);
        out.scratch.clear();
        out.scratch.resize(room + 3 * n, 0.0);
        let (row, rest) = out.scratch.split_at_mut(room);
        let (means, rest) = rest.split_at_mut(n);
        let (widths, index) = rest.split_at_mut(n);
        for member in self.members.iter().filter(asked) {
            let weight = member.weight / total;
            let ids = round.candidates.ids;
            let row = &mut row[..member.linear.row_len()];
            member.linear.evaluate(round, row, |i, estimate| {
                let (mean, variance) = estimate.both();
                means[i] = mean;
                widths[i] = (member.noise(ids[i]) * variance).sqrt();
            });
            for (score, mean) in out.scores.iter_mut().zip(&*means) {
                *score += weight * mean;
            }
            for level in LEVELS {
                for ((index, mean), width) in index.iter_mut().zip(&*means).zip(&*widths) {
                    *index = mean + level * width;
                }
                out.probs[argmax(index)] += weight / LEVELS.len() as f64;
            }
        }
        let sum: f64 = out.probs.iter().sum();
        out.probs.iter_mut().for_each(|p| *p /= sum);
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        for (row, reward) in batch.iter() {
            // Weights are multiplied by predictive densities over the best of them: no underflow.
            let mut best = f64::NEG_INFINITY;
            let mut logs = [0.0; MODELS.len()];
            for (member, log) in self.members.iter_mut().zip(&mut logs) {
                let noise = member.noise(row.action());
                let (error, leverage) = member.linear.learn_all(&row.round, row.chosen, reward, 1.0)?;
                let variance = noise * (1.0 + leverage);
                *log = -0.5 * (libm::log(variance) + error * error / variance);
                best = best.max(*log);
                let source = member.source(row.action());
                let noise = member.noise.entry(source).or_default();
                noise.rows += 1.0;
                noise.squares += error * error / (1.0 + leverage);
            }
            self.rows += 1;
            for (member, log) in self.members.iter_mut().zip(logs) {
                member.weight *= libm::exp(log - best);
            }
            let sum: f64 = self.weights().sum();
            let afresh = AFRESH / (self.rows as f64 + 1.0);
            let share = afresh / self.members.len() as f64;
            for member in &mut self.members {
                member.weight = (1.0 - afresh) * member.weight / sum + share;
            }
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.layout.as_str());
        w.u64s("rows", [self.rows]);
        w.f64s("weights", self.members.iter().map(|m| &m.weight));
        for (i, member) in self.members.iter().enumerate() {
            let mut model = Writer::new(Self::NAME, member.linear.layout());
            member.linear.write(&mut model);
            model.u64s("noise.actions", member.noise.keys().map(|id| id.0));
            model.f64s("noise.rows", member.noise.values().map(|n| &n.rows));
            model.f64s("noise.squares", member.noise.values().map(|n| &n.squares));
            w.state(&format!("model {i}"), model.finish());
        }
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, &self.layout, bytes)?;
        let rows = r.count("rows")?;
        let mut weights = [0.0; MODELS.len()];
        r.fill("weights", &mut weights[..self.members.len()])?;
        let mut members = Vec::new();
        for (i, member) in self.members.iter().enumerate() {
            let mut model = Reader::new(Self::NAME, member.linear.layout(), r.state(&format!("model {i}"))?)?;
            let linear = member.linear.read(&mut model)?;
            let ids = model.u64s("noise.actions")?;
            let (rows, squares) = (model.f64s("noise.rows")?, model.f64s("noise.squares")?);
            if rows.len() != ids.len() || squares.len() != ids.len() {
                return Err(model.refuse("its noise does not match its actions"));
            }
            model.finish()?;
            let noise = rows
                .into_iter()
                .zip(squares)
                .map(|(rows, squares)| Noise { rows, squares });
            members.push(Member {
                linear,
                weight: weights[i],
                noise: ids.into_iter().map(ActionId).zip(noise).collect(),
            });
        }
        r.finish()?;
        (self.members, self.rows) = (members, rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::{Candidates, Decision, Log, Spec, UserId};

    /// Plays `rounds` of one feature and a constant with two actions; action 1 pays `pays(x)`, action 0 pays 0.5.
    fn play(rounds: u64, pays: impl Fn(f64) -> f64) -> (Auto, f64) {
        let shape = Shape {
            context: vec!["x".into(), "bias".into()],
            candidate: vec![],
            actions: Some(2),
        };
        let mut policy = Auto::build(Config::default(), &shape).unwrap();
        let ids = [ActionId(0), ActionId(1)];
        let (mut decision, mut log, mut late) = (Decision::new(), Log::new(), 0.0);
        for t in 0..rounds {
            let x = Key::root(9).fold(t).normal() as f32;
            let round = Round {
                index: t,
                user: UserId(0),
                context: &[x, 1.0],
                candidates: Candidates {
                    ids: &ids,
                    features: &[],
                    dim: 0,
                },
            };
            (&policy as &dyn Policy)
                .decide(&round, Key::root(1).fold(t), &mut decision)
                .unwrap();
            let means = [0.5, pays(f64::from(x))];
            let reward = means[decision.chosen()] + 0.1 * Key::root(2).fold(t).normal();
            if t >= rounds / 2 {
                late += (means[0].max(means[1]) - means[decision.chosen()]) / (rounds / 2) as f64;
            }
            log.clear();
            let row = log.push(&round, &decision);
            log.settle(row, reward, None);
            policy.update(&Batch::new(&log, &[row])).unwrap();
        }
        (policy, late)
    }

    #[test]
    fn the_model_that_fits_takes_over() {
        // The kernel model holds the linear one, so a straight line decides nothing between them.
        let (_, regret) = play(600, |x| 0.5 + 0.3 * x);
        // Always choosing one action loses 0.12 here.
        assert!(regret < 0.03, "{regret}");
        let (bent, regret) = play(600, |x| if x.abs() < 0.7 { 1.0 } else { 0.0 });
        assert!(
            bent.weights().skip(1).sum::<f64>() > 0.9,
            "{:?}",
            bent.weights().collect::<Vec<_>>()
        );
        let shape = Shape {
            context: vec!["x".into(), "bias".into()],
            candidate: vec![],
            actions: Some(2),
        };
        let mut twin = Auto::build(Config::default(), &shape).unwrap();
        twin.load(&bent.save()).unwrap();
        assert_eq!(twin.save(), bent.save());
        // Always choosing one action loses at least 0.24 here.
        assert!(regret < 0.06, "{regret}");
    }

    #[test]
    fn works_without_features() {
        let shape = Shape {
            context: vec![],
            candidate: vec![],
            actions: None,
        };
        assert!(crate::build(&Spec::parse("auto").unwrap(), &shape).is_ok());
    }
}
