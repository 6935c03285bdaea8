//! `oo-sim fit`: one policy learns from its own choices in a world, from another policy's, or from a log, and is saved.

use super::world::World;
use super::{BadInput, say};
use crate::ope::target;
use crate::{interrupt, runner, store};
use anyhow::{Context, Result};
use oo_core::{Batch, Key, Method, Policy, Proposal, Round, UserId};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Shown under `fit --help`.
pub(super) fn after_help() -> String {
    format!(
        "Examples:\n  oo-sim fit --policy lin-ts --env tips --users 200 --seed 1000 --out lin-ts.oo\n  oo-sim fit --policy \
         lin-ucb --log decisions.parquet --out lin-ucb.oo\n\nThe same command writes the same bytes. `compare --policies 'POLICY+warm{{from=FILE}}'` starts from the file; \
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
    #[command(flatten)]
    world: World,
    /// The world's seed
    #[arg(long, required_unless_present = "log")]
    seed: Option<u64>,
    /// Learn from this log instead of a world
    #[arg(long, conflicts_with_all = ["World", "behaviour", "seed"])]
    log: Option<PathBuf>,
    /// Format of the log
    #[arg(long, default_value = "auto", requires = "log")]
    log_format: String,
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

/// Runs the command.
///
/// # Errors
/// [`BadInput`] before any work, and for whatever is wrong with the log; anything else while running.
pub fn run(args: Args) -> Result<()> {
    store::folder_of(&args.out)?;
    let out = args.out.display().to_string();
    let _stopped = interrupt::tell(move || format!("{out} was not written"));
    let (state, from) = match (&args.log, args.seed) {
        (Some(log), _) => from_log(&args, log).map_err(BadInput)?,
        (None, seed) => from_world(&args, seed.unwrap_or_default())?,
    };
    store::write_bytes(&args.out, &state)?;
    say(&format!("{} learned {from}: {}\n", args.policy, args.out.display()))
}

/// What was learned, and from whom.
fn from_log(args: &Args, log: &Path) -> Result<(Vec<u8>, String)> {
    let name = log.display();
    let about = || -> Result<_> { target::study_whole(&args.policy, (log, &args.log_format)) };
    let (policy, rows) = about().with_context(|| format!("log {name}"))?;
    Ok((policy.save(), format!("{rows} rows from the log {name}")))
}

/// What was learned, and from whom.
fn from_world(args: &Args, seed: u64) -> Result<(Vec<u8>, String)> {
    let mut policies = vec![args.policy.clone()];
    policies.extend(args.behaviour.clone().filter(|b| *b != args.policy));
    let plan = args.world.experiment(policies, seed).plan().map_err(BadInput)?;
    let (world, policy) = (&plan.envs[0], &plan.policies[0]);
    let behaviour = plan.policies.get(1);
    let mut env = plan.environment(world, seed)?;
    let shape = env.shape().clone();
    let mut pupil = Pupil {
        policy: plan.policy(policy, &shape)?,
        behaviour: behaviour.map(|b| plan.policy(b, &shape)).transpose()?,
        rows: 0,
        people: BTreeSet::new(),
    };
    let acts = behaviour.unwrap_or(policy);
    let key = Key::root(seed).name("policy").name(&acts.canonical);
    runner::simulate(env.as_mut(), &mut pupil, key)?;
    let from = format!(
        "{} rows of {} people from {} in {}, seed {seed}",
        pupil.rows,
        pupil.people.len(),
        behaviour.map_or("its own choices", |b| &b.name),
        world.name,
    );
    Ok((pupil.save(), from))
}
