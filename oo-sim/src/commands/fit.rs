//! `oo-sim fit`: one policy learns in one world, from its own choices or from another policy's, and is saved.

use super::{BadInput, print};
use crate::experiment::{Experiment, Plan};
use crate::{runner, store};
use anyhow::Result;
use oo_core::{Batch, Key, Method, Policy, Proposal, Round, UserId};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Shown under `fit --help`.
pub(super) fn after_help() -> String {
    format!(
        "The same command writes the same bytes. `compare --policies 'POLICY+warm{{from=FILE}}'` starts from the file; \
         take another --seed there, so that the people are others.\n\n{}",
        super::exit_codes()
    )
}

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy that learns and is saved, such as lin-ts{features=v2}
    #[arg(long)]
    policy: String,
    /// The policy that chooses, and learns from it as it goes; the policy itself by default
    #[arg(long)]
    behaviour: Option<String>,
    /// The environment, such as tips{preset=sparse}
    #[arg(long, default_value = "tips")]
    env: String,
    /// Judge of reactions
    #[arg(long, default_value = "rule")]
    judge: String,
    /// Reward table: r0, r1 or r2
    #[arg(long, default_value = "r2")]
    reward: String,
    /// People, where the environment has people
    #[arg(long)]
    users: Option<usize>,
    /// Days, where the environment has days
    #[arg(long)]
    days: Option<usize>,
    /// Rounds, where the environment counts rounds
    #[arg(long)]
    rounds: Option<u64>,
    /// The world's seed
    #[arg(long)]
    seed: u64,
    /// File of the saved policy
    #[arg(long)]
    out: PathBuf,
}

/// The policy that learns, and what it hears: of its own choices, or of another policy's, which learns too.
struct Pupil {
    policy: Box<dyn Policy>,
    behaviour: Option<Box<dyn Policy>>,
    rows: u64,
    people: BTreeSet<UserId>,
}

impl Policy for Pupil {
    fn propose(&self, round: &Round<'_>, key: Key, out: Proposal<'_>) -> oo_core::Result<Method> {
        let acts = self.behaviour.as_ref().unwrap_or(&self.policy);
        acts.propose(round, key, out)
    }

    fn update(&mut self, batch: &Batch<'_>) -> oo_core::Result<()> {
        self.rows += batch.iter().count() as u64;
        self.people.extend(batch.iter().map(|(row, _)| row.round.user));
        if let Some(behaviour) = &mut self.behaviour {
            behaviour.update(batch)?;
        }
        self.policy.update(batch)
    }

    fn save(&self) -> Vec<u8> {
        self.policy.save()
    }

    fn load(&mut self, bytes: &[u8]) -> oo_core::Result<()> {
        self.policy.load(bytes)
    }
}

fn plan(args: &Args) -> Result<Plan> {
    let mut policies = vec![args.policy.clone()];
    policies.extend(args.behaviour.clone().filter(|b| *b != args.policy));
    let experiment = Experiment {
        name: "fit".into(),
        env: vec![args.env.clone()],
        policies,
        judge: args.judge.clone(),
        reward: args.reward.clone(),
        users: args.users,
        days: args.days,
        rounds: args.rounds,
        seeds: 1,
        seed: args.seed,
        ..Experiment::default()
    };
    experiment.plan()
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] before any work; anything else while running.
pub fn run(args: Args) -> Result<()> {
    let plan = plan(&args).map_err(BadInput)?;
    let (world, policy) = (&plan.envs[0], &plan.policies[0]);
    let behaviour = plan.policies.get(1);
    let mut env = plan.environment(world, args.seed)?;
    let shape = env.shape().clone();
    let mut pupil = Pupil {
        policy: plan.policy(policy, &shape)?,
        behaviour: behaviour.map(|b| plan.policy(b, &shape)).transpose()?,
        rows: 0,
        people: BTreeSet::new(),
    };
    store::folder_of(&args.out)?;
    let acts = behaviour.unwrap_or(policy);
    let key = Key::root(args.seed).name("policy").name(&acts.canonical);
    runner::simulate(env.as_mut(), &mut pupil, key)?;
    store::write_bytes(&args.out, &pupil.save())?;
    print(&format!(
        "{} learned {} rows of {} people from {} in {}, seed {}: {}\n",
        policy.name,
        pupil.rows,
        pupil.people.len(),
        behaviour.map_or("its own choices", |b| &b.name),
        world.name,
        args.seed,
        args.out.display()
    ))
}
