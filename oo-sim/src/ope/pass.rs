//! A pass over a log: blocks that are complete and checked, with a bar that says how far it has come.

use super::evaluate::Job;
use super::target::{Target, drop_first};
use crate::logs::{self, Block, Source};
use crate::progress;
use anyhow::{Result, bail};
use indicatif::ProgressBar;

/// The rows of a log one block after another, with the target filled in.
pub(super) struct Pass {
    source: Box<dyn Source>,
    target: Option<Target>,
    /// The rows at hand.
    pub(super) block: Block,
    /// Rows to pass over.
    pub(super) skip: u64,
    /// Rows left out so far because their reward had not arrived.
    pub(super) unanswered: u64,
    bar: ProgressBar,
}

impl Pass {
    /// Begins; `what` is said beside the bar.
    pub(super) fn new(job: &Job, what: &str) -> Result<Self> {
        let mut source = logs::open(&job.log, &job.format)?;
        if job.policy.is_some() {
            source.want_rounds();
        }
        let target = match &job.policy {
            Some(spec) => {
                let log = (job.log.as_path(), job.format.as_str());
                Some(Target::new(spec, &job.learn, log, source.about(), job.seed)?)
            }
            None if source.about().target => None,
            None => bail!(
                "the log does not say what the target policy would do; expected columns `pi_e_0`, `pi_e_1`, …, or a \
                 policy to ask with --policy"
            ),
        };
        let skip = target.as_ref().map_or(0, |t| t.skip);
        let template = match source.about().rows {
            Some(_) => "{msg} {bar:32} {human_pos} of {human_len} rows, about {eta} left",
            None => "{msg} {human_pos} rows, {elapsed} so far",
        };
        let bar = progress::bar(source.about().rows, template);
        bar.set_message(what.to_string());
        Ok(Pass {
            source,
            target,
            block: Block::default(),
            skip,
            unanswered: 0,
            bar,
        })
    }

    /// The next block that has rows, complete and checked but for a reward model; false at the end.
    pub(super) fn next(&mut self) -> Result<bool> {
        loop {
            if !self.source.next(&mut self.block)? {
                self.bar.finish_and_clear();
                return Ok(false);
            }
            self.unanswered += self.block.unanswered;
            let rows = self.block.logged.len() as u64;
            self.bar.inc(rows + self.block.unanswered);
            let skipped = self.skip.min(rows);
            self.skip -= skipped;
            drop_first(&mut self.block, skipped as usize);
            if self.block.logged.is_empty() {
                continue;
            }
            if let Some(target) = &mut self.target {
                target.fill(&mut self.block)?;
            }
            self.block.logged.check().map_err(as_in_files)?;
            return Ok(true);
        }
    }
}

/// Columns have other names in files.
fn as_in_files(mut error: oo_judge::Error) -> oo_judge::Error {
    if let oo_judge::Error::Row { column, .. } = &mut error {
        *column = match *column {
            "target" => "pi_e_…",
            "model" => "q_hat_…",
            other => other,
        };
    }
    error
}
