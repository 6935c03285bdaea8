//! Registered models of MLflow: `models:/NAME@champion` as a folder that [`Winner`] reads.
//!
//! ```text
//! STATE/models/NAME/VERSION/    policy.json and state.safetensors, checked, never changed
//! STATE/models/NAME/@ALIAS      the version that the alias meant last
//! ```
//!
//! A version that is there is not fetched again. Where the registry does not answer, an alias means what it meant last,
//! so that a server starts without it.

use crate::Error;
use crate::artefact::{self, Winner};
use crate::engine::settings::{Artefact, BuildPolicy};
use oo_core::Shape;
use oo_mlflow::{Address, Client, Credentials, Patience, Reference, Which};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The files of a policy's folder and the most bytes of each.
const FILES: [(&str, u64); 2] = [("policy.json", 64 << 20), ("state.safetensors", 4 << 30)];

/// A folder that was fetched, or that was there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// The folder.
    pub folder: PathBuf,
    /// What somebody should know: that the registry did not answer.
    pub warning: Option<String>,
}

/// True for a text that names a registered model.
pub fn is_reference(text: &str) -> bool {
    text.starts_with(Reference::PREFIX)
}

/// Brings a registered model into the state folder, unless it is there. `server` is MLflow's address; who asks is said by
/// `MLFLOW_TRACKING_USERNAME` and `_PASSWORD`, or `_TOKEN`.
///
/// # Errors
/// A text for people: no such model, no answer, or files that are damaged or no policy.
pub fn fetch(text: &str, server: Option<&str>, state: &Path) -> Result<Fetched, String> {
    let reference = Reference::parse(text).map_err(|e| e.to_string())?;
    let home = state.join("models").join(&reference.name);
    let remembered = match &reference.which {
        Which::Number(number) => {
            let folder = home.join(number.to_string());
            if Winner::read(&folder).is_ok() {
                return Ok(Fetched { folder, warning: None });
            }
            None
        }
        Which::Alias(alias) => Some(home.join(format!("@{alias}"))),
        Which::Latest => Some(home.join("@latest")),
    };
    let asked = ask(&reference, server, &home);
    let (number, why) = match (asked, &remembered) {
        (Ok(number), _) => (number, None),
        (Err(Failure::Passing(why)), Some(file)) => match std::fs::read_to_string(file) {
            Ok(number) => (number, Some(why)),
            Err(_) => return Err(why),
        },
        (Err(Failure::Passing(why) | Failure::Lasting(why)), _) => return Err(why),
    };
    let folder = home.join(&number);
    if why.is_some() {
        // Only what was checked when it was fetched is fallen back on, and it is checked again.
        Winner::read(&folder)?;
    } else if let Some(file) = remembered {
        let under = partial(&home, "alias");
        let write = || std::fs::write(&under, &number).and_then(|()| std::fs::rename(&under, &file));
        write()
            .inspect_err(|_| drop(std::fs::remove_file(&under)))
            .map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    }
    Ok(Fetched {
        folder,
        warning: why.map(|why| format!("{text} means version {number}, as it did last: {why}")),
    })
}

/// A policy to serve: as [`artefact::take`], and one in the registry is brought here first. With it comes what somebody
/// should know.
///
/// # Errors
/// As both.
pub fn take(
    text: &str,
    server: Option<&str>,
    state: &Path,
    shape: &Shape,
    build: &BuildPolicy,
) -> Result<(Artefact, Option<String>), String> {
    if !is_reference(text) {
        return Ok((artefact::take(text, shape, build)?, None));
    }
    let Fetched { folder, warning } = fetch(text, server, state)?;
    Ok((artefact::take(&folder.to_string_lossy(), shape, build)?, warning))
}

/// Writes the models in a state folder again from which `without` takes something. One that cannot be read is removed: it
/// is fetched again when somebody asks for it.
///
/// # Errors
/// A disk that does not take it.
pub(crate) fn forget(state: &Path, without: impl Fn(&Winner) -> crate::Result<Option<Vec<u8>>>) -> crate::Result<()> {
    let folders = |of: &Path| -> Vec<PathBuf> {
        let listed = std::fs::read_dir(of).into_iter().flatten().flatten();
        listed.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let models = folders(&state.join("models"));
    for folder in models.iter().flat_map(|model| folders(model)) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // One that is being fetched has not been served yet.
        if name.starts_with('.') {
            continue;
        }
        let less =
            Winner::read(&folder).map(|winner| without(&winner).map(|less| less.map(|state| (winner.policy, state))));
        let told = Error::io("write the folder", &folder);
        match less {
            Ok(Ok(None)) => {}
            Ok(Ok(Some((policy, less)))) => {
                let under = partial(folder.parent().unwrap_or(&folder), &name);
                let write = || -> std::io::Result<()> {
                    Winner::write(&under, policy, &less).map_err(std::io::Error::other)?;
                    std::fs::remove_dir_all(&folder)?;
                    std::fs::rename(&under, &folder)
                };
                write()
                    .inspect_err(|_| drop(std::fs::remove_dir_all(&under)))
                    .map_err(told)?;
            }
            Ok(Err(e)) if e.is_passing() => return Err(e),
            Ok(Err(_)) | Err(_) => std::fs::remove_dir_all(&folder).map_err(told)?,
        }
    }
    for model in models {
        let flushed = std::fs::File::open(&model).and_then(|folder| folder.sync_all());
        flushed.map_err(Error::io("flush", model))?;
    }
    Ok(())
}

/// Where something is made that shall be called `name` in this folder; nobody else makes anything there.
fn partial(home: &Path, name: &str) -> PathBuf {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    home.join(format!(".{name}.{}.{number}.partial", std::process::id()))
}

/// Removes what a kill left of them in a state folder, which may hold what is to be forgotten. For a start: another one that
/// fetches into the same folder meanwhile will not get it.
pub(crate) fn sweep(state: &Path) {
    let entries = |of: &Path| std::fs::read_dir(of).into_iter().flatten().flatten();
    for entry in entries(&state.join("models")).flat_map(|model| entries(&model.path())) {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") && name.as_encoded_bytes().ends_with(b".partial") {
            let path = entry.path();
            // What cannot be removed is no reason not to serve.
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
    }
}

enum Failure {
    /// The registry did not answer.
    Passing(String),
    /// It did, or nobody was asked.
    Lasting(String),
}

impl From<oo_mlflow::Error> for Failure {
    fn from(e: oo_mlflow::Error) -> Failure {
        if e.may_pass() {
            Failure::Passing(e.to_string())
        } else {
            Failure::Lasting(e.to_string())
        }
    }
}

/// The version that the registry names, once its folder is there and checked.
fn ask(reference: &Reference, server: Option<&str>, home: &Path) -> Result<String, Failure> {
    let server = server.ok_or_else(|| {
        Failure::Lasting(format!(
            "{reference} is in a registry, and no server is named: give --mlflow URL, or set MLFLOW_TRACKING_URI"
        ))
    })?;
    let address = Address::parse(server, Credentials::from_environment())?;
    let client = Client::new(
        address,
        Patience {
            tries: 3,
            ..Patience::BACKGROUND
        },
    );
    let version = client.version(reference)?;
    let number = version.number.to_string();
    let folder = home.join(&number);
    if Winner::read(&folder).is_ok() {
        return Ok(number);
    }
    let lasting = |why: String| Failure::Lasting(format!("{reference}, version {number}: {why}"));
    let disk = |e: std::io::Error| lasting(format!("cannot write {}: {e}", folder.display()));
    let uri = client.files_of(&reference.name, version.number)?;
    let under = partial(home, &number);
    let make = || -> Result<(), Failure> {
        std::fs::create_dir_all(&under).map_err(disk)?;
        for (file, limit) in FILES {
            let bytes = client.download(&uri, file, limit)?;
            let got: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            if let Some(expected) = version.tags.get(&format!("oo.sha256.{file}"))
                && *expected != got
            {
                return Err(lasting(format!(
                    "{file} has SHA-256 {got}, and was registered with {expected}: it has changed since"
                )));
            }
            std::fs::write(under.join(file), &bytes).map_err(disk)?;
        }
        Winner::read(&under).map_err(lasting)?;
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(disk)?;
        }
        std::fs::rename(&under, &folder).map_err(disk)
    };
    let made = make();
    if made.is_err() {
        // What is left over harms nobody.
        let _ = std::fs::remove_dir_all(&under);
    }
    made.map(|()| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kill_left_goes_at_the_next_start() {
        let state = tempfile::tempdir().unwrap();
        let home = state.path().join("models/picks");
        let (left, there) = (partial(&home, "3"), home.join("3"));
        assert_ne!(left, partial(&home, "3"));
        for folder in [&left, &there] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("policy.json"), "{}").unwrap();
        }
        std::fs::write(partial(&home, "alias"), "3").unwrap();
        sweep(state.path());
        let rest: Vec<PathBuf> = std::fs::read_dir(&home).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(rest, [there]);
    }

    #[test]
    fn what_cannot_be_fetched_says_why() {
        let state = tempfile::tempdir().unwrap();
        let said = |text: &str, server| fetch(text, server, state.path()).unwrap_err();
        assert!(said("models:/x", Some("http://h")).contains("models:/NAME@ALIAS"));
        assert!(said("models:/x/1", None).contains("MLFLOW_TRACKING_URI"));
        assert!(said("models:/x/1", Some("sqlite:///x")).contains("expected http://"));
        // Nobody listens on a port that was just given back.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let dead = format!("http://127.0.0.1:{port}");
        assert!(said("models:/x@champion", Some(&dead)).contains("does not answer"));
        assert!(!state.path().join("models").join("x").join("1").exists());
    }
}
