//! `oo-sim log`: simulate one policy and write the log of its decisions.

use super::world::World;
use super::{BadInput, print};
use crate::logs::write::Writer;
use crate::runner::{self, Witness};
use crate::{interrupt, progress, store};
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use oo_core::log::schema::{Header, VERSION};
use oo_core::{Key, Outcome, Row};
use std::io::Write;
use std::path::PathBuf;

/// Shown under `log --help`.
pub(super) fn after_help() -> String {
    format!(
        "Examples:\n  oo-sim log --env tips --policy lin-ucb --users 50 --days 30 --out tips.parquet\n  oo-sim log --env \
         linear{{d=10}} --policy egreedy --rounds 100000 --seed 7 --out linear.parquet\n  oo-sim ope tips.parquet --policy \
         uniform\n\nThe decisions are those of `oo-sim compare` with the same seed. docs/logs.md has the schema.\n\n{}",
        super::exit_codes()
    )
}

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy that decides
    #[arg(long)]
    policy: String,
    #[command(flatten)]
    world: World,
    /// The world's seed
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The log to write
    #[arg(long)]
    out: PathBuf,
    /// Also write what the policy has learned in the end, for `oo-sim ope --learn`
    #[arg(long)]
    save: Option<PathBuf>,
}

/// Writes, and shows how far it has come.
struct Watched<W: Write> {
    log: Writer<W>,
    bar: ProgressBar,
}

impl<W: Write> Witness for Watched<W> {
    fn answered(&mut self, now: u64, row: Row<'_>, outcome: &Outcome) -> oo_core::Result<()> {
        self.bar.inc(1);
        self.log.answered(now, row, outcome)
    }
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] before any work; anything else while running or writing.
pub fn run(args: Args) -> Result<()> {
    let experiment = args.world.experiment(vec![args.policy.clone()], args.seed);
    let plan = experiment.plan().map_err(BadInput)?;
    let (env, policy) = (&plan.envs[0], &plan.policies[0]);
    let mut world = plan.environment(env, args.seed)?;
    let mut learner = plan.policy(policy, world.shape())?;
    let header = Header {
        version: VERSION,
        shape: world.shape().clone(),
        policy: policy.canonical.clone(),
        origin: env.canonical.clone(),
        seed: Some(args.seed),
        reward: env.spec.base().name.eq("tips").then(|| plan.reward.name.clone()),
        actions: Vec::new(),
    };
    let key = Key::root(args.seed).name("policy").name(&policy.canonical);
    let bar = progress::bar(args.world.rounds, "{human_pos} rounds, {elapsed} so far");
    let out = args.out.display().to_string();
    let stopped = interrupt::tell(move || format!("{out} was not written"));
    let rows = store::write_once(&args.out, |file| {
        let mut watched = Watched {
            log: Writer::new(file, &header)?,
            bar: bar.clone(),
        };
        runner::simulate_before(world.as_mut(), learner.as_mut(), key, &mut watched)?;
        watched.log.finish()
    });
    bar.finish_and_clear();
    drop(stopped);
    let rows = rows.with_context(|| format!("cannot write {}", args.out.display()))?;
    if let Some(path) = &args.save {
        store::write_once(path, |file| Ok(file.write_all(&learner.save())?))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&format!("{}: {rows} rows\n", args.out.display()))
}
