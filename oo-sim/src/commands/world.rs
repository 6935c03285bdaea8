//! Flags of the commands that run one world once.

use crate::experiment::Experiment;

/// The world and its size.
#[derive(Debug, clap::Args)]
pub(super) struct World {
    /// Environment, such as tips or linear{d=10}+delay{rounds=50}
    #[arg(long, default_value = "tips")]
    pub env: String,
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
    pub rounds: Option<u64>,
}

impl World {
    /// The experiment of one seed.
    pub fn experiment(&self, policies: Vec<String>, seed: u64) -> Experiment {
        Experiment {
            env: vec![self.env.clone()],
            policies,
            judge: self.judge.clone(),
            reward: self.reward.clone(),
            users: self.users,
            days: self.days,
            rounds: self.rounds,
            seeds: 1,
            seed,
            ..Experiment::default()
        }
    }
}
