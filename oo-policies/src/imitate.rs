//! Chooses as the log did: the shares of the actions in what it has seen, whatever came of them.
//!
//! p(a) ∝ n(a) + prior over the candidates, with counts n of its own for every value of one categorical context column
//! (features called `COLUMN=VALUE`, of which one is 1). A model of the policy behind a log, for logs that do not say its
//! probabilities or say those of the chosen actions only.
//!
//! Pomerleau (1991); as a propensity model, Hirano, Imbens, Ridder (2003).

use crate::state::{Reader, Writer};
use oo_core::registry::OptionHelp;
use oo_core::spec::require;
use oo_core::{ActionId, Batch, Build, Error, Key, Method, Policy, Proposal, Result, Round, Shape};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    by: String,
    prior: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            by: "none".into(),
            prior: 1.0,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Imitate {
    config: Config,
    /// The context's features called `by=…`.
    values: Vec<usize>,
    /// By value of the column and action.
    counts: BTreeMap<(u64, ActionId), f64>,
}

impl Imitate {
    /// Which value of the column a round has, from 1; 0 for none.
    fn value(&self, round: &Round<'_>) -> u64 {
        let at = self.values.iter().position(|&j| round.context[j] > 0.5);
        at.map_or(0, |at| at as u64 + 1)
    }
}

impl Build for Imitate {
    const NAME: &'static str = "imitate";
    const SUMMARY: &'static str = "Chooses as what it has learned from did, whatever came of it";
    const PAPER: &'static str = "Pomerleau (1991)";
    const OPTIONS: &'static [OptionHelp] = &[
        (
            "by",
            "a context column with features named column=value: shares of its own for each value; or none",
        ),
        ("prior", "what every candidate's count begins with; at least 0"),
    ];
    type Config = Config;

    fn build(config: Config, shape: &Shape) -> Result<Self> {
        let ok = config.prior >= 0.0 && config.prior.is_finite();
        require(ok, Self::NAME, "prior", "a number of at least 0", config.prior)?;
        let prefix = format!("{}=", config.by);
        let named = |(j, name): (usize, &String)| name.starts_with(&prefix).then_some(j);
        let values: Vec<usize> = shape.context.iter().enumerate().filter_map(named).collect();
        if values.is_empty() && config.by != "none" {
            return Err(Error::MissingFeature {
                owner: Self::NAME.into(),
                feature: format!("{prefix}…"),
                known: shape.context.clone(),
            });
        }
        Ok(Imitate {
            config,
            values,
            counts: BTreeMap::new(),
        })
    }
}

impl Policy for Imitate {
    fn propose(&self, round: &Round<'_>, _: Key, out: Proposal<'_>) -> Result<Method> {
        let value = self.value(round);
        let mut sum = 0.0;
        for (score, &id) in out.scores.iter_mut().zip(round.candidates.ids) {
            *score = self.counts.get(&(value, id)).copied().unwrap_or(0.0);
            sum += *score + self.config.prior;
        }
        let n = out.scores.len() as f64;
        for (p, score) in out.probs.iter_mut().zip(out.scores.iter()) {
            // Nothing was ever seen and nothing assumed.
            *p = if sum > 0.0 {
                (score + self.config.prior) / sum
            } else {
                1.0 / n
            };
        }
        Ok(Method::Exact)
    }

    fn update(&mut self, batch: &Batch<'_>) -> Result<()> {
        for (row, _) in batch.iter() {
            *self.counts.entry((self.value(&row.round), row.action())).or_default() += 1.0;
        }
        Ok(())
    }

    fn save(&self) -> Vec<u8> {
        let mut w = Writer::new(Self::NAME, self.layout());
        w.u64s("values", self.counts.keys().map(|(value, _)| *value));
        w.u64s("actions", self.counts.keys().map(|(_, id)| id.0));
        w.f64s("counts", self.counts.values());
        w.finish()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(Self::NAME, &self.layout(), bytes)?;
        let (values, actions, counts) = (r.u64s("values")?, r.u64s("actions")?, r.f64s("counts")?);
        if actions.len() != values.len() || counts.len() != values.len() {
            return Err(r.refuse("its vectors differ in length"));
        }
        r.finish()?;
        let keys = values.into_iter().zip(actions.into_iter().map(ActionId));
        self.counts = keys.zip(counts).collect();
        Ok(())
    }
}

impl Imitate {
    fn layout(&self) -> String {
        format!("shares by {} of {} values", self.config.by, self.values.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_core::{Candidates, Decision, Log, Spec};

    #[test]
    fn shares_by_the_values_of_a_column() {
        let shape = Shape {
            context: ["age", "place=left", "place=right"].map(String::from).to_vec(),
            candidate: vec![],
            actions: Some(3),
        };
        let build = |text: &str| crate::build(&Spec::parse(text).unwrap(), &shape);
        let mut policy = build("imitate{by=place,prior=0}").unwrap();
        let ids = [0, 1, 2].map(ActionId);
        let round = |context: &'static [f32]| Round {
            index: 0,
            user: oo_core::UserId(0),
            context,
            candidates: Candidates {
                ids: &ids,
                features: &[],
                dim: 0,
            },
        };
        let (left, right, nowhere) = (
            round(&[7.0, 1.0, 0.0]),
            round(&[7.0, 0.0, 1.0]),
            round(&[7.0, 0.0, 0.0]),
        );
        let mut log = Log::new();
        for (round, chosen) in [(left, 0), (left, 0), (left, 2), (right, 1)] {
            let row = log.push_parts(&round, &[1.0 / 3.0; 3], chosen, Method::Exact);
            log.settle(row, 0.0, None);
        }
        policy.update(&Batch::new(&log, &[0, 1, 2, 3])).unwrap();
        let mut decision = Decision::new();
        for (round, expected) in [
            (left, [2.0 / 3.0, 0.0, 1.0 / 3.0]),
            (right, [0.0, 1.0, 0.0]),
            (nowhere, [1.0 / 3.0; 3]),
        ] {
            policy.decide(&round, Key::root(1), &mut decision).unwrap();
            assert_eq!(decision.probs(), expected);
        }
        assert!(matches!(build("imitate{by=plaice}"), Err(Error::MissingFeature { .. })));
        assert!(build("imitate{prior=-1}").is_err());
    }
}
