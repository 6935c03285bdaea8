//! The gate's answer on the comparison's run, and its winner in the registry.

use super::{COMPARISON, Comparison, Destination, FOLDER, LONGEST_WAIT, facts, here, told};
use crate::commands::report::finished;
use crate::gate::{self, Job, Report};
use anyhow::{Context, Result};
use oo_judge::gate::Answer;
use oo_mlflow::limits::sha256;
use oo_mlflow::{Artefact, Background, Client, Entry, Metric, Model, Patience, Role, Sender, Spool, Status, now_ms};
use std::collections::BTreeMap;
use std::path::Path;

/// The files of a policy's folder, as `oo-serve` reads them.
const FILES: [&str; 2] = ["policy.json", "state.safetensors"];

/// The registered model where nobody names one: the experiment's name, or the log's.
///
/// # Errors
/// A run that cannot be read.
pub fn model_name(job: &Job) -> Result<String> {
    let name = match (&job.run, &job.log) {
        (Some(run), _) => crate::experiment::Experiment::read_from(&run.join("experiment.toml"))?.name,
        (None, log) => {
            let stem = log.as_deref().and_then(Path::file_stem).unwrap_or_default();
            stem.to_string_lossy().into_owned()
        }
    };
    // What may stand in `models:/NAME@champion`.
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '_'
        }
    };
    Ok(name.chars().map(plain).collect())
}

/// Logs what the gate said. On promotion the winner is registered as `model` and becomes its champion; the champion
/// before it becomes the challenger. Gives what to tell people.
///
/// # Errors
/// Files that cannot be read or written; never a server that does not answer.
pub fn promotion(destination: &Destination, job: &Job, report: &Report, model: &str) -> Result<String> {
    let reports = gate::report_folder(job)?;
    let reports = here(&reports)?.to_path_buf();
    let (root, folder) = match &job.run {
        Some(run) => {
            let (plan, store) = finished(run)?;
            (
                here(run)?.to_path_buf(),
                Comparison::record(destination, &plan, &store)?,
            )
        }
        None => (reports.clone(), reports.join(FOLDER).join(&sha256(b"gate")[..16])),
    };
    let server = destination.address.to_string();
    let experiment = destination.experiment.as_deref().unwrap_or(model);
    let mut spool = Spool::open(&root, &folder, &server, experiment)?;
    let now = now_ms();
    let answer = answer(report.answer);
    let mut tags: BTreeMap<String, String> = [
        ("oo.gate.answer", answer),
        ("oo.gate.champion", report.champion.as_str()),
        ("oo.gate.challenger", report.challenger.as_str()),
        ("oo.gate.rule", report.rule_digest.as_str()),
        ("oo.gate.evidence", report.evidence_digest.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .collect();
    let mut artefacts = Vec::new();
    // The record of looks stays with the evidence, wherever the report goes.
    let record = gate::record_folder(job)?;
    let record = here(&record)?;
    for (folder, file) in [
        (reports.as_path(), "report.json"),
        (reports.as_path(), "report.html"),
        (record, "looks.json"),
    ] {
        let bytes = read(&folder.join(file))?;
        artefacts.push(spool.keep(&format!("gate/{file}"), &bytes)?);
    }
    let mut models = Vec::new();
    if report.answer == Answer::Promote {
        let mut add = |folder: &Path, artefact: &str, role, description: String| -> Result<()> {
            let (kept, version) = version(&spool, folder, artefact, model, role, description, report, now)?;
            artefacts.extend(kept);
            models.push(version);
            Ok(())
        };
        // First the one that goes: where the registry knows no champion yet, it was this one.
        if let Some(replaced) = gate::replaced(job)? {
            let place = folder.join("replaced");
            replaced.write(
                &place.clone().into(),
                &report.evidence_digest,
                &sha256(report.json()?.as_bytes()),
            )?;
            let description = format!("{}, replaced by {}", report.champion, report.challenger);
            add(&place, "replaced", Role::Replaced, description)?;
        }
        let description = format!("{}, promoted over {}", report.challenger, report.champion);
        add(here(&gate::winner_folder(job)?)?, "winner", Role::Promoted, description)?;
    }
    let of_run = job.run.is_some();
    if !of_run {
        tags.extend(facts::source_tags("gate"));
    }
    let metrics = report.checks.iter().filter_map(|check| {
        Some(Metric {
            key: format!("gate/{} {}", check.source, check.name.replace(['/', ':'], "_")),
            value: check.seen?,
            step: i64::from(report.look),
            ms: now,
        })
    });
    let known = spool.runs().contains_key(COMPARISON);
    spool.append(Entry {
        run: COMPARISON.into(),
        name: if known { String::new() } else { format!("gate {model}") },
        start_ms: now,
        status: (!of_run).then_some(Status::Finished),
        end_ms: (!of_run).then_some(now),
        tags,
        metrics: metrics.collect(),
        artefacts,
        models,
        ..Entry::default()
    })?;
    let client = Client::new(destination.address.clone(), Patience::BACKGROUND);
    let sender = Sender::new(client, &spool, destination.experiment.as_deref(), false)?;
    let outcome = Background::start(sender, COMPARISON.into()).finish(destination.wait.unwrap_or(LONGEST_WAIT * 3));
    let mut text = told(&outcome, &server, &root.into());
    if outcome.all_sent && report.answer == Answer::Promote {
        text += &format!("MLflow: models:/{model}@champion is {}\n", report.challenger);
    }
    Ok(text)
}

fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Promote => "promote",
        Answer::Keep => "keep",
        Answer::Undecided => "undecided",
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A policy's folder as artefacts and as a version of a model.
#[allow(clippy::too_many_arguments)] // each is said once, above
fn version(
    spool: &Spool,
    folder: &Path,
    artefact: &str,
    model: &str,
    role: Role,
    description: String,
    report: &Report,
    now: i64,
) -> Result<(Vec<Artefact>, Model)> {
    let mut tags = BTreeMap::from([
        ("oo.gate.evidence".to_string(), report.evidence_digest.clone()),
        ("oo.gate.rule".to_string(), report.rule_digest.clone()),
    ]);
    let mut files = Vec::new();
    for file in FILES {
        let bytes = read(&folder.join(file))?;
        // The server that loads it holds the files against these.
        tags.insert(format!("oo.sha256.{file}"), sha256(&bytes));
        files.push(bytes);
    }
    let key = &sha256(&files.concat())[..32];
    // A later look at the same run must not change the files of an earlier version.
    let artefact = format!("{artefact}/{}", &key[..8]);
    let kept = FILES
        .iter()
        .zip(&files)
        .map(|(file, bytes)| spool.keep(&format!("{artefact}/{file}"), bytes));
    let kept = kept.collect::<oo_mlflow::Result<_>>()?;
    let version = Model {
        key: key.into(),
        name: model.into(),
        artefact,
        description,
        tags,
        decided_ms: now,
        role,
    };
    Ok((kept, version))
}
