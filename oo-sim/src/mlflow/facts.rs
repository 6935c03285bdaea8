//! Who runs what, where, on which data: parameters, tags and data sets that runs share.

use crate::datasets::manifest;
use crate::experiment::{Named, Plan};
use crate::store::sha256;
use oo_mlflow::Dataset;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Names with texts.
pub(crate) type Texts = BTreeMap<String, String>;

/// Tells this experiment from others in the same folder: everything that its numbers depend on, except how many seeds a
/// run until decided takes.
pub(crate) fn configuration(plan: &Plan) -> String {
    let mut asked = plan.experiment.clone();
    if asked.max_seeds.is_some() {
        asked.seeds = 0;
    }
    let reads: Vec<_> = plan.envs.iter().chain(&plan.policies).map(|n| &n.reads).collect();
    sha256(json!([asked, reads, env!("OO_CODE")]).to_string().as_bytes())
}

/// Tags of every run: user, source, code.
pub(crate) fn source_tags(command: &str) -> Texts {
    let mut tags = Texts::new();
    let mut set = |key: &str, value: Option<String>| {
        tags.extend(value.filter(|v| !v.is_empty()).map(|v| (key.to_string(), v)));
    };
    let variable = |name| std::env::var(name).ok();
    set("mlflow.user", variable("USER").or_else(|| variable("LOGNAME")));
    set("mlflow.source.name", Some(format!("oo-sim {command}")));
    set("mlflow.source.type", Some("LOCAL".into()));
    let commit = git(&["rev-parse", "HEAD"]);
    if commit.is_some() {
        let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
        set("oo.git.changed", changed.map(|text| (!text.is_empty()).to_string()));
        set("mlflow.source.git.branch", git(&["rev-parse", "--abbrev-ref", "HEAD"]));
    }
    set("mlflow.source.git.commit", commit);
    set("oo.code", Some(env!("OO_CODE").into()));
    tags
}

/// What git says of the folder that the command was given in; `None` where it is none of git's, or git is not there.
/// The address of the repository is not asked for: it may hold a password.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}

/// What the whole comparison was given.
pub(crate) fn experiment_params(plan: &Plan) -> Texts {
    let e = &plan.experiment;
    let names = |list: &[Named]| list.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut params = shared_params(plan);
    let mut set = |key: &str, value: Option<String>| params.extend(value.map(|v| (key.to_string(), v)));
    set("environments", Some(names(&plan.envs)));
    set("policies", Some(names(&plan.policies)));
    set("seed", Some(e.seed.to_string()));
    // A run until decided does not know yet how many it takes.
    set("seeds", e.max_seeds.is_none().then(|| e.seeds.to_string()));
    set("max_seeds", e.max_seeds.map(|n| n.to_string()));
    set("baseline", e.baseline.clone());
    set("margin", e.margin.map(|m| m.to_string()));
    params
}

/// What a cell was given: every option of policy and environment under its own name.
pub(crate) fn cell_params(plan: &Plan, env: &Named, policy: &Named, seed: u64) -> Texts {
    let mut params = shared_params(plan);
    options(&mut params, "policy", policy);
    options(&mut params, "environment", env);
    params.insert("seed".into(), seed.to_string());
    params
}

fn shared_params(plan: &Plan) -> Texts {
    let e = &plan.experiment;
    let mut params = Texts::new();
    let mut set = |key: &str, value: Option<String>| params.extend(value.map(|v| (key.to_string(), v)));
    set("judge", Some(e.judge.clone()));
    set(
        "reward",
        Some(format!("{} version {}", plan.reward.name, plan.reward.version)),
    );
    set("users", e.users.map(|n| n.to_string()));
    set("days", e.days.map(|n| n.to_string()));
    set("rounds", e.rounds.map(|n| n.to_string()));
    params
}

fn options(to: &mut Texts, kind: &str, named: &Named) {
    to.insert(kind.into(), named.canonical.clone());
    let spec = &named.spec;
    let base = spec.base();
    to.insert(format!("{kind}.name"), base.name.clone());
    for part in std::iter::once(base).chain(spec.wrappers()) {
        let prefix = if std::ptr::eq(part, base) {
            kind.to_string()
        } else {
            format!("{kind}.{}", part.name)
        };
        for (option, value) in &part.options {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            to.insert(format!("{prefix}.{option}"), text);
        }
    }
}

/// Digests of what environments and policies read.
pub(crate) fn data_tags<'a>(named: impl IntoIterator<Item = &'a Named>) -> Texts {
    let read = named.into_iter().filter_map(|n| Some((n, n.reads.as_ref()?)));
    read.map(|(n, digest)| (format!("oo.reads/{}", n.name), digest.clone()))
        .collect()
}

/// A world as a data set: the file that it reads, or the code that makes it.
pub(crate) fn dataset(plan: &Plan, env: &Named) -> Dataset {
    let base = &env.spec.base().name;
    let file = env.reads.as_ref().zip(base.strip_prefix("data:"));
    let context = "simulation".to_string();
    match file {
        Some((digest, name)) => {
            let (source_type, source) = match manifest::find(name) {
                Some(set) => ("http", json!({"url": set.original_url})),
                None => ("local", json!({"uri": name})),
            };
            Dataset {
                name: env.name.clone(),
                digest: digest.clone(),
                source_type: source_type.into(),
                source: source.to_string(),
                context,
            }
        }
        None => {
            let e = &plan.experiment;
            let world = json!([
                env.canonical,
                e.judge,
                plan.reward,
                e.users,
                e.days,
                e.rounds,
                env!("OO_CODE")
            ]);
            Dataset {
                name: env.name.clone(),
                digest: sha256(world.to_string().as_bytes()),
                source_type: "code".into(),
                source: json!({"tags": {"oo.environment": env.canonical, "oo.code": env!("OO_CODE")}}).to_string(),
                context,
            }
        }
    }
}
