//! What a run says of two of its policies.

use super::report::Source;
use super::{Party, not_in_run};
use crate::commands::report::finished;
use crate::experiment::{Named, Plan};
use crate::folder::Location;
use crate::runner::Cell;
use crate::store::Store;
use crate::tally::{Measure, Tally};
use anyhow::{Result, bail, ensure};
use oo_core::tips::{Reaction, RewardSpec};
use oo_core::{Error, Spec};
use oo_judge::gate::{Evidence, Rule, Seen, evidence};
use oo_judge::stats::Cluster;

/// A finished run, and the two policies in it.
pub struct Run {
    pub plan: Plan,
    pub store: Store,
    pub env: Named,
    pub champion: Named,
    pub challenger: Named,
    folder: Location,
}

impl Run {
    /// Checks that the run is finished, has the environment, and has both policies.
    ///
    /// # Errors
    /// What is missing, with the nearest name there is.
    pub fn open(folder: &Location, env: Option<&str>, champion: &Party, challenger: &Party) -> Result<Run> {
        let (plan, store) = finished(folder)?;
        let env = match (env, plan.envs.as_slice()) {
            (None, [one]) => one.clone(),
            (None, many) => bail!(
                "the run has {} environments; choose one with --env: {}",
                many.len(),
                many.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(" or ")
            ),
            (Some(text), all) => {
                let canonical = Spec::parse(text)?.to_string();
                let found = all.iter().find(|e| e.canonical == canonical);
                let known = || all.iter().map(|e| e.name.clone()).collect();
                found.cloned().ok_or_else(|| Error::Unknown {
                    kind: "environment of this run (--env)".into(),
                    name: text.into(),
                    known: known(),
                })?
            }
        };
        let known = || plan.policies.iter().map(|p| p.name.clone()).collect();
        let of_run = |flag, party: &Party| {
            let found = plan.policies.iter().find(|p| p.canonical == party.canonical);
            found.cloned().ok_or_else(|| not_in_run(flag, party, known()))
        };
        let (champion, challenger) = (of_run("--champion", champion)?, of_run("--challenger", challenger)?);
        Ok(Run {
            plan,
            store,
            env,
            champion,
            challenger,
            folder: folder.clone(),
        })
    }

    fn tally(&self, specs: &[RewardSpec]) -> Result<Tally> {
        let policies = [&self.champion, &self.challenger];
        Tally::read(&self.plan, &self.store, &self.env, &policies, specs)
    }

    /// The rule where nobody wrote one.
    ///
    /// # Errors
    /// A cell that cannot be read.
    pub fn usual_rule(&self) -> Result<Rule> {
        let tally = self.tally(&[])?;
        Ok(Rule::usual(!tally.groups().is_empty(), tally.reacted))
    }

    /// Everything that the rule may ask about.
    ///
    /// # Errors
    /// A cell that cannot be read.
    pub fn evidence(&self, rule: &Rule) -> Result<Evidence> {
        let specs = rule.rewards.keys().map(|name| RewardSpec::named(name));
        let specs = specs.collect::<oo_core::Result<Vec<_>>>()?;
        let tally = self.tally(&specs)?;
        let seen = |m: Measure<'_>| Seen::paired(&tally.clusters(0, m), &tally.clusters(1, m));
        let decisions = |p| {
            tally
                .clusters(p, Measure::Reward)
                .iter()
                .map(|c: &Cluster| c.count)
                .sum::<f64>() as u64
        };
        let effect = seen(Measure::Reward);
        let scored = specs.iter().enumerate().filter(|_| tally.reacted);
        // A reaction that neither policy ever met has nothing to rise or fall.
        let reactions = Reaction::ALL.into_iter().filter(|_| tally.reacted);
        Ok(Evidence {
            source: evidence::Source::Run,
            decisions: decisions(0).min(decisions(1)),
            clusters: effect.clusters,
            unit: tally.unit(),
            effect: vec![("reward".into(), effect)],
            rewards: scored.map(|(i, s)| (s.name.clone(), seen(Measure::Spec(i)))).collect(),
            groups: tally
                .groups()
                .iter()
                .map(|g| (g.to_string(), seen(Measure::Group(g))))
                .collect(),
            reactions: reactions.map(|r| (r, seen(Measure::Share(r)))).collect(),
            operations: Default::default(),
            diagnostics: vec![],
        })
    }

    /// What the evidence is made of.
    ///
    /// # Errors
    /// A cell's note that cannot be read.
    pub fn source(&self) -> Result<Source> {
        let mut digests = Vec::new();
        for policy in [&self.champion, &self.challenger] {
            for seed in self.plan.seeds() {
                let cell = Cell {
                    env: &self.env,
                    policy,
                    seed,
                };
                digests.push(self.store.info(&self.plan, cell)?.sha256);
            }
        }
        ensure!(!digests.is_empty(), "the run has no seeds");
        let seeds = self.plan.seeds();
        let (first, last) = (seeds.start, seeds.end - 1);
        let seeds = match self.plan.experiment.seeds {
            1 => format!("seed {first}"),
            _ => format!("seeds {first} to {last}"),
        };
        Ok(Source {
            kind: "run",
            what: self.folder.to_string(),
            detail: format!("{}, reward {}, {seeds}", self.env.name, self.plan.reward.name),
            digest: crate::store::sha256(digests.concat().as_bytes()),
        })
    }
}
