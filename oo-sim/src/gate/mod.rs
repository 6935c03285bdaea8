//! `oo-sim gate`: from a run or a log to an answer, with a report, a record of every look, and the winner as a folder
//! that a server loads. The rule and the decision are in [`oo_judge::gate`].

mod from_log;
mod from_run;
mod looks;
mod page;
mod report;
mod winner;

pub use report::Report;

use crate::experiment::parse_toml;
use crate::folder::Location;
use crate::store::sha256;
use anyhow::{Context, Result, bail, ensure};
use from_run::Run;
use looks::{Look, Looks};
use oo_core::tips::RewardSpec;
use oo_core::{Error, Spec};
use oo_judge::gate::{Answer, Evidence, Rule, decide};
use report::{Pair, Source};
use std::path::{Path, PathBuf};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Job {
    /// The policy in charge.
    pub champion: String,
    /// The policy that may replace it.
    pub challenger: String,
    /// Folder of a run in which both took part.
    pub run: Option<Location>,
    /// The run's environment, where it has several.
    pub env: Option<String>,
    /// A log of other decisions.
    pub log: Option<PathBuf>,
    /// Its format, or `auto`.
    pub log_format: String,
    /// What both policies learned before the log judges them, as `oo-sim ope --learn` takes it.
    pub learn: String,
    /// The rule; without one, the usual.
    pub rule: Option<PathBuf>,
    /// The seed of the world in which the winner is trained; the run's first by default.
    pub seed: Option<u64>,
    /// Where the winner goes.
    pub out: Option<Location>,
    /// Where the report goes; the record of looks stays with the evidence.
    pub report: Option<Location>,
}

/// A policy by its name and by everything that it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Party {
    pub name: String,
    pub canonical: String,
}

impl Party {
    fn parse(text: &str) -> Result<Party> {
        let spec = Spec::parse(text)?;
        Ok(Party {
            name: spec.to_string(),
            canonical: oo_policies::expand(&spec)?.to_string(),
        })
    }
}

/// Asks the gate, writes what it says, and gives it back.
///
/// # Errors
/// Whatever is wrong with rule, policies, run or log, before anything is written; files that cannot be written.
pub fn gate(job: &Job) -> Result<Report> {
    let rule = job.rule.as_deref().map(read_rule).transpose()?;
    let (champion, challenger) = (Party::parse(&job.champion)?, Party::parse(&job.challenger)?);
    ensure!(
        champion.canonical != challenger.canonical,
        "--champion and --challenger are the same policy, {}",
        champion.canonical
    );
    let run = match &job.run {
        Some(folder) => Some(Run::open(folder, job.env.as_deref(), &champion, &challenger)?),
        None => None,
    };
    ensure!(
        run.is_some() || job.log.is_some(),
        "nothing to judge by: expected the folder of a run, a log with --log, or both"
    );
    let rule = match (rule, &run) {
        (Some(rule), _) => rule,
        (None, Some(run)) => run.usual_rule()?,
        (None, None) => Rule::usual(false, job.log.as_deref().is_some_and(from_log::has_reactions)),
    };
    rule.check()?;
    let (mut evidence, mut sources): (Vec<Evidence>, Vec<Source>) = (Vec::new(), Vec::new());
    if let Some(run) = &run {
        evidence.push(run.evidence(&rule)?);
        sources.push(run.source()?);
    }
    let judged = match &job.log {
        None => None,
        Some(log) => {
            let judged = from_log::judge(job, log, &rule, &champion, &challenger)?;
            evidence.push(judged.evidence.clone());
            sources.push(judged.source.clone());
            Some(judged)
        }
    };
    if let (Some(e), Some(run)) = (evidence.first(), &run)
        && !e.groups.is_empty()
    {
        // One that nobody belongs to could never pass.
        if let Some(group) = rule.guards.groups.keys().find(|g| !e.groups.contains_key(*g)) {
            return Err(Error::Unknown {
                kind: format!("group of people in {} (guards.groups of the rule)", run.env.name),
                name: group.clone(),
                known: e.groups.keys().cloned().collect(),
            }
            .into());
        }
    }
    let (folder, record) = (report_folder(job)?, record_folder(job)?);
    let pair = Pair {
        champion: champion.canonical.clone(),
        challenger: challenger.canonical.clone(),
        env: run.as_ref().map(|r| r.env.canonical.clone()),
    };
    let rule_text = toml::to_string(&rule).context("cannot write the rule as TOML")?;
    let rule_digest = sha256(rule_text.as_bytes());
    let evidence_digest = sha256(sources.iter().map(|s| s.digest.as_str()).collect::<String>().as_bytes());
    let mut looks = Looks::read(&record)?;
    if record != folder {
        // Of a time when the record went with the report.
        looks.join(Looks::read(&folder)?);
    }
    let history = looks.history(&pair, &rule_digest, &evidence_digest);
    let verdict = decide(&rule, &evidence, &history);
    let report = Report {
        answer: verdict.answer,
        more_decisions: verdict.more_decisions,
        champion: champion.name.clone(),
        challenger: challenger.name.clone(),
        sources,
        look: history.looks_before + 1,
        rule: rule.clone(),
        rule_is_default: job.rule.is_none(),
        rule_digest: rule_digest.clone(),
        evidence_digest: evidence_digest.clone(),
        checks: verdict.checks,
    };
    // The winner is trained before anything is written, so that a failure leaves nothing behind.
    let winner = match (report.answer, &run, &judged) {
        (Answer::Promote, Some(run), _) => Some(winner::from_run(run, &run.challenger, job.seed)?),
        (Answer::Promote, None, Some(judged)) => Some(winner::from_log(judged, job.seed)?),
        _ => None,
    };
    if let Some(path) = folder.local() {
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot make the folder {folder}; choose another with --report"))?;
    }
    // The look goes on record before its answer can be read anywhere.
    if let Some(path) = record.local() {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make the folder {record}"))?;
    }
    looks.add(Look::new(&pair, &report, &evidence));
    looks.write(&record)?;
    let json = report.json()?;
    folder.join("report.json").write_text(&json)?;
    folder
        .join("report.html")
        .write_text(&page::html(&report, &rule_text)?)?;
    if let Some(winner) = winner {
        winner.write(&winner_folder(job)?, &evidence_digest, &sha256(json.as_bytes()))?;
    }
    Ok(report)
}

/// The champion, trained as the winner is: what the registry knows it by, should it have none yet. `None` where there is
/// no run to train it in.
///
/// # Errors
/// A run that cannot be read, or what environment or policy refuse.
pub(crate) fn replaced(job: &Job) -> Result<Option<winner::Winner>> {
    let Some(folder) = &job.run else { return Ok(None) };
    let (champion, challenger) = (Party::parse(&job.champion)?, Party::parse(&job.challenger)?);
    let run = Run::open(folder, job.env.as_deref(), &champion, &challenger)?;
    winner::from_run(&run, &run.champion, job.seed).map(Some)
}

/// Where the winner goes.
///
/// # Errors
/// A log without a name.
pub fn winner_folder(job: &Job) -> Result<Location> {
    match (&job.out, &job.run) {
        (Some(out), _) => Ok(out.clone()),
        (None, Some(run)) => Ok(run.join("winner")),
        (None, None) => Ok(report_folder(job)?.join("winner")),
    }
}

/// Where the report goes: with the record of looks, or where it is asked for.
///
/// # Errors
/// A log without a name.
pub fn report_folder(job: &Job) -> Result<Location> {
    match &job.report {
        Some(report) => Ok(report.clone()),
        None => record_folder(job),
    }
}

/// Where the record of looks is: `gate` in the folder of the run, or beside the log. It stays with the evidence wherever
/// the report goes, so that no look goes past it.
///
/// # Errors
/// A log without a file name.
pub fn record_folder(job: &Job) -> Result<Location> {
    match (&job.run, &job.log) {
        (Some(run), _) => Ok(run.join("gate")),
        (None, Some(log)) => {
            let name = log.file_name().context("--log: expected the path of a file")?;
            let mut name = name.to_os_string();
            name.push(".gate");
            Ok(log.with_file_name(name).into())
        }
        (None, None) => bail!("nothing to judge by"),
    }
}

/// Reads a rule and checks it, its reward specs included.
fn read_rule(path: &Path) -> Result<Rule> {
    let read = || -> Result<Rule> {
        let text = std::fs::read_to_string(path)?;
        let rule: Rule = parse_toml(&text)?;
        rule.check()?;
        for spec in rule.rewards.keys() {
            RewardSpec::named(spec)?;
        }
        Ok(rule)
    };
    read().with_context(|| format!("rule {}", path.display()))
}

/// The error for a policy that is not among those of the run.
fn not_in_run(flag: &str, party: &Party, known: Vec<String>) -> Error {
    Error::Unknown {
        kind: format!("policy of this run ({flag})"),
        name: party.name.clone(),
        known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oo_judge::gate::{Check, Outcome};

    #[test]
    fn the_documents_rule_is_a_rule() {
        let page = include_str!("../../../docs/gate.md");
        let block = page
            .split("```toml rule.toml\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let rule: Rule = parse_toml(block).unwrap();
        rule.check().unwrap();
        // Every key is there, so the page is the reference of rules.
        let keys = toml::to_string(&rule).unwrap();
        for key in keys.lines().filter_map(|l| l.split_once(" = ")) {
            assert!(block.contains(key.0), "{} is not in docs/gate.md", key.0);
        }
        assert!(block.contains("non_inferiority_margin"));
    }

    #[test]
    fn a_rule_reads_back_and_its_digest_ignores_comments() {
        let rule = Rule::usual(true, true);
        let text = toml::to_string(&rule).unwrap();
        assert_eq!(parse_toml::<Rule>(&text).unwrap(), rule);
        assert_eq!(parse_toml::<Rule>(&format!("# Mine.\n{text}")).unwrap(), rule);
    }

    #[test]
    fn no_name_becomes_markup() {
        let check = Check {
            name: "<i>".into(),
            source: "run",
            required: "above +0".into(),
            seen: Some(0.1),
            low: None,
            high: Some(0.2),
            outcome: Outcome::Undecided,
            more_decisions: Some(1234),
        };
        let report = Report {
            answer: Answer::Undecided,
            more_decisions: None,
            champion: "<b>\"'&".into(),
            challenger: "</pre><script>".into(),
            sources: vec![],
            look: 1,
            rule: Rule::default(),
            rule_is_default: true,
            rule_digest: "0".repeat(64),
            evidence_digest: "1".repeat(64),
            checks: vec![check],
        };
        let html = page::html(&report, "name = \"<u>\"").unwrap();
        for bad in ["<b>", "<i>", "<u>", "<script", "http"] {
            assert!(!html.contains(bad), "{bad}");
        }
        assert!(html.contains("&lt;i&gt;") && html.contains("−∞ … +0.2000") && html.contains("1,240 more decisions"));
    }
}
