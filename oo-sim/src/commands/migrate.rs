//! `oo-sim migrate`: a saved policy over other features, with a list of what was kept and what was not.

use super::{BadInput, say};
use crate::experiment::{Experiment, Plan};
use crate::store;
use anyhow::{Context, Result, ensure};
use oo_policies::transfer;
use std::fmt::Write;
use std::path::PathBuf;

/// Shown under `migrate --help`.
pub(super) fn after_help() -> String {
    format!(
        "Examples:\n  oo-sim fit --policy 'lin-ts{{features=v1}}' --seed 1000 --out v1.oo\n  oo-sim migrate v1.oo --policy \
         'lin-ts{{features=v2}}' --out v2.oo\n\nWhat both policies read by name keeps its sums exactly; what is new starts from the prior. Only the features \
         may differ.\n\n{}",
        super::exit_codes()
    )
}

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File of the saved policy
    from: PathBuf,
    /// The policy that is to start from it, such as lin-ts{features=v3}
    #[arg(long)]
    policy: String,
    /// Features that both read and that mean something else now, with commas: they start anew
    #[arg(long, value_delimiter = ',')]
    renew: Vec<String>,
    /// The environment whose features the policy reads
    #[arg(long, default_value = "tips")]
    env: String,
    /// File of the migrated policy
    #[arg(long)]
    out: PathBuf,
}

fn plan(args: &Args) -> Result<Plan> {
    let experiment = Experiment {
        name: "migrate".into(),
        env: vec![args.env.clone()],
        policies: vec![args.policy.clone()],
        seeds: 1,
        ..Experiment::default()
    };
    experiment.plan()
}

fn migrated(args: &Args) -> Result<(Vec<u8>, transfer::Moved)> {
    let plan = plan(args)?;
    let bytes = std::fs::read(&args.from).with_context(|| format!("cannot read {}", args.from.display()))?;
    let env = plan.environment(&plan.envs[0], plan.experiment.seed)?;
    let policy = &plan.policies[0];
    ensure!(
        policy.spec.wrappers().is_empty(),
        "--policy {}: expected a policy without wrappers; they go around it when it is used",
        policy.name
    );
    let blank = plan.policy(policy, env.shape())?.save();
    let (new, moved) =
        transfer::migrated(&bytes, &blank, &args.renew).with_context(|| format!("{}", args.from.display()))?;
    // What the policy would refuse later is refused now.
    plan.policy(policy, env.shape())?.load(&new)?;
    Ok((new, moved))
}

/// Runs the command.
///
/// # Errors
/// [`BadInput`] for a file that is no saved policy and a migration that is impossible; a file that cannot be written.
pub fn run(args: Args) -> Result<()> {
    let (bytes, moved) = migrated(&args).map_err(BadInput)?;
    store::folder_of(&args.out)?;
    store::write_bytes(&args.out, &bytes)?;
    let mut out = String::new();
    for (what, names) in [
        ("kept", &moved.kept),
        ("dropped", &moved.dropped),
        ("renewed", &moved.renewed),
        ("new, from the prior", &moved.new),
    ] {
        if !names.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{what}: {}", names.join(", "));
        }
    }
    say(&format!("{out}saved in {}\n", args.out.display()))
}
