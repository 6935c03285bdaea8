//! A trained policy as a folder: `policy.json` says what it is, `state.safetensors` what it has learned.
//!
//! ```json
//! {
//!   "format": 1,
//!   "spec": "lin-ts{features=v3}",
//!   "shape": {"context": ["…"], "candidate": ["…"], "actions": null},
//!   "features": "v3",
//!   "reward": {"name": "r2", "version": 1},    // null where the log that it learned from does not say
//!   "seed": 42,
//!   "run": "a digest of the run that it comes from",
//!   "state": "sha256 of state.safetensors, in hexadecimal"
//! }
//! ```
//!
//! Further keys (`trained_on`, `decisions`, `gate`) are for people and not read.
//!
//! A folder whose digest, policy, shape or reward spec does not fit is refused, and the message says which.

use crate::engine::settings::{Artefact, BuildPolicy};
use oo_core::tips::RewardSpec;
use oo_core::{Shape, Spec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// The format that this program reads.
pub const FORMAT: u32 = 1;
/// Bytes of a saved policy that another begins with.
const LARGEST: u64 = 1 << 30;

/// `policy.json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// The format of the folder.
    pub format: u32,
    /// Name and options, canonical.
    pub spec: String,
    /// What rounds look like.
    pub shape: Shape,
    /// The feature spec, where the features are those of tips.
    #[serde(default)]
    pub features: Option<String>,
    /// How rewards were made; `None` where it learned from a log that does not say.
    #[serde(default)]
    pub reward: Option<Reward>,
    /// Seed of the run.
    pub seed: u64,
    /// Digest of the run that it comes from.
    #[serde(default)]
    pub run: String,
    /// SHA-256 of the state.
    pub state: String,
    /// What features, predictions and rewards looked like in training.
    #[serde(default)]
    pub summary: Option<crate::drift::Summary>,
}

/// Name and version of a reward spec.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reward {
    /// As in `RewardSpec`.
    pub name: String,
    /// Likewise.
    pub version: u32,
}

/// A folder that was checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Winner {
    /// What it is.
    pub policy: Policy,
    /// What it has learned.
    pub state: Vec<u8>,
}

/// A policy to serve, from a spec or a folder with a trained one. Whatever it names is read now: a spec with `+warm` becomes
/// one without, and the state that it starts from.
///
/// # Errors
/// A text for people.
pub fn take(text: &str, shape: &Shape, build: &BuildPolicy) -> Result<Artefact, String> {
    if Path::new(text).is_dir() {
        let winner = Winner::read(Path::new(text))?;
        if winner.policy.shape != *shape {
            return Err(format!(
                "{text}: it was trained for rounds of another shape than those that are served here"
            ));
        }
        return Ok(Artefact {
            spec: Spec::parse(&winner.policy.spec).map_err(|e| e.to_string())?,
            state: Some(winner.state),
        });
    }
    if is_path(text) {
        return Err(format!(
            "there is no folder {text}; expected one that `oo-sim gate` wrote, a spec such as lin-ts{{features=v3}}, or \
             models:/NAME@ALIAS"
        ));
    }
    let blank = Artefact::blank(text).map_err(|e| format!("{e}; nor is it a folder"))?;
    let files = oo_policies::warm::files(&blank.spec).map_err(|e| e.to_string())?;
    if files.is_empty() {
        build(&blank.spec, shape).map_err(|e| e.to_string())?;
        return Ok(blank);
    }
    let mut states = oo_policies::States::default();
    for name in files {
        let bytes =
            read_file(Path::new(&name), LARGEST).map_err(|e| format!("cannot read the saved policy {name}: {e}"))?;
        states.insert(name, bytes);
    }
    let settled = oo_policies::build_from(&blank.spec, shape, &states)
        .and_then(|policy| oo_policies::warm::settle(&blank.spec, shape, &states, policy.as_ref()));
    let (spec, state) = settled.map_err(|e| e.to_string())?;
    Ok(Artefact {
        spec,
        state: Some(state),
    })
}

/// A file of at most so many bytes: a device or a pipe might never end.
pub(crate) fn read_file(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() || about.len() > most {
        let expected = format!("expected a file of at most {} MiB", most >> 20);
        return Err(std::io::Error::other(expected));
    }
    std::fs::read(path)
}

/// True for what can only be meant as a path: the name of no policy has a slash or begins with a point.
fn is_path(text: &str) -> bool {
    let name = text.split(['{', '+']).next().unwrap_or_default();
    name.contains('/') || name.starts_with(['.', '~'])
}

impl Winner {
    /// Reads and checks a folder: its digest, and that a policy of this spec takes the state.
    ///
    /// # Errors
    /// A text for people that names the file.
    pub fn read(dir: &Path) -> Result<Winner, String> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
        };
        let place = dir.join("policy.json");
        let told = |why: String| format!("{}: {why}", place.display());
        let text = read("policy.json")?;
        // The format first: a newer file may have other fields.
        let format = serde_json::from_slice::<serde_json::Value>(&text)
            .map_err(|e| told(format!("it is no JSON: {e}")))?
            .get("format")
            .and_then(serde_json::Value::as_u64);
        match format {
            Some(f) if f == u64::from(FORMAT) => {}
            Some(f) => return Err(told(format!("it has format {f}; this program reads format {FORMAT}"))),
            None => {
                return Err(told(
                    "it has no `format`; expected a folder that `oo-sim gate` wrote".into(),
                ));
            }
        }
        let policy: Policy = serde_json::from_slice(&text).map_err(|e| told(e.to_string()))?;
        let state = read("state.safetensors")?;
        let digest: String = Sha256::digest(&state).iter().map(|b| format!("{b:02x}")).collect();
        if digest != policy.state {
            return Err(format!(
                "{}: its SHA-256 is {digest}, and policy.json says {}: the files do not belong together, or are damaged",
                dir.join("state.safetensors").display(),
                policy.state
            ));
        }
        if let Some(reward) = &policy.reward {
            let ours = RewardSpec::named(&reward.name).map_err(|e| told(e.to_string()))?;
            if ours.version != reward.version {
                return Err(told(format!(
                    "it was trained on version {} of the reward spec {}; this program has version {}",
                    reward.version, reward.name, ours.version
                )));
            }
        }
        let spec = Spec::parse(&policy.spec).map_err(|e| told(e.to_string()))?;
        let mut built = oo_policies::build(&spec, &policy.shape).map_err(|e| told(e.to_string()))?;
        built.load(&state).map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(Winner { policy, state })
    }

    /// Writes a folder, each file under another name first. Fills in format and digest.
    ///
    /// # Errors
    /// What the system says, with the file.
    pub fn write(dir: &Path, mut policy: Policy, state: &[u8]) -> Result<(), String> {
        policy.format = FORMAT;
        policy.state = Sha256::digest(state).iter().map(|b| format!("{b:02x}")).collect();
        let text = serde_json::to_vec_pretty(&policy).map_err(|e| e.to_string())?;
        let told = |e: std::io::Error| format!("cannot write {}: {e}", dir.display());
        std::fs::create_dir_all(dir).map_err(told)?;
        for (name, bytes) in [("state.safetensors", state), ("policy.json", &text)] {
            let under = dir.join(format!(".{name}.partial"));
            std::fs::write(&under, bytes).map_err(told)?;
            std::fs::rename(&under, dir.join(name)).map_err(told)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path) -> Policy {
        let shape = Shape {
            context: vec!["bias".into()],
            candidate: vec![],
            actions: Some(3),
        };
        let spec = "lin-ucb{alpha=0.5}";
        let policy = Policy {
            format: FORMAT,
            spec: spec.into(),
            shape: shape.clone(),
            features: None,
            reward: Some(Reward {
                name: "r2".into(),
                version: RewardSpec::named("r2").unwrap().version,
            }),
            seed: 1,
            run: "test".into(),
            state: String::new(),
            summary: None,
        };
        let state = oo_policies::build(&Spec::parse(spec).unwrap(), &shape).unwrap().save();
        Winner::write(dir, policy.clone(), &state).unwrap();
        policy
    }

    #[test]
    fn comes_back_and_refusals_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let policy = written(dir);
        let winner = Winner::read(dir).unwrap();
        assert_eq!((&winner.policy.spec, winner.policy.shape), (&policy.spec, policy.shape));
        let json = std::fs::read_to_string(dir.join("policy.json")).unwrap();
        let state = std::fs::read(dir.join("state.safetensors")).unwrap();
        let refused = |json: &str, state: &[u8]| {
            std::fs::write(dir.join("policy.json"), json).unwrap();
            std::fs::write(dir.join("state.safetensors"), state).unwrap();
            Winner::read(dir).unwrap_err()
        };
        let mut damaged = state.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for (json, state, want) in [
            (json.as_str(), &damaged[..], "do not belong together"),
            (&json, &state[..10], "do not belong together"),
            (&json[..20], &state, "it is no JSON"),
            ("{}", &state, "it has no `format`"),
            (
                &json.replace("\"format\": 1", "\"format\": 2"),
                &state,
                "it has format 2; this program reads format 1",
            ),
            (&json.replace("lin-ucb", "lin-usb"), &state, "did you mean `lin-ucb`"),
            (
                &json.replace("lin-ucb{alpha=0.5}", "lin-ts"),
                &state,
                "it was saved by `lin-ucb`",
            ),
            (
                &json.replace("\"actions\": 3", "\"actions\": 4"),
                &state,
                "cannot load the state of lin-ucb",
            ),
            (&json.replace("\"r2\"", "\"r9\""), &state, "unknown reward spec"),
            (
                &json.replace("\"version\": 1", "\"version\": 7"),
                &state,
                "it was trained on version 7 of the reward spec r2; this program has version 1",
            ),
        ] {
            let said = refused(json, state);
            assert!(said.contains(want), "{want}: {said}");
        }
        std::fs::remove_file(dir.join("policy.json")).unwrap();
        assert!(Winner::read(dir).unwrap_err().contains("cannot read"));
    }
}
