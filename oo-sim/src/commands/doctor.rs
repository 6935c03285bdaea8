//! `oo-sim doctor`: what is here, what is missing, and which feature wants it.

use super::{print, say};
use crate::datasets::{cache, sets};
use crate::sheet::table;
use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Shown under `doctor --help`.
pub(super) const AFTER_HELP: &str = "\
Nothing is changed. The only address that is asked is the one in MLFLOW_TRACKING_URI, where there is one; of secrets it \
says only whether they are set.\n\nExamples:\n  oo-sim doctor\n  oo-sim doctor --format json\n\nExit codes:\n  0  \
everything that is needed for a comparison is here\n  1  something of that is missing\n  2  bad input: a flag";

/// The command's flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to print
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// What a look found.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Found {
    /// It works.
    Ready { what: String },
    /// It does not, until the remedy is taken.
    Missing { what: String, remedy: String },
}

impl Found {
    fn ready(what: impl Into<String>) -> Self {
        Self::Ready { what: what.into() }
    }

    fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Missing {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// A feature and the look that tells whether it works here.
struct Check {
    feature: &'static str,
    /// Whether a comparison needs it; everything else may be missing.
    needed: bool,
    look: fn() -> Found,
}

/// Every check, in the order in which it is shown.
const CHECKS: &[Check] = &[
    Check {
        feature: "results",
        needed: true,
        look: results,
    },
    Check {
        feature: "processor",
        needed: true,
        look: processor,
    },
    Check {
        feature: "data folder",
        needed: false,
        look: data_folder,
    },
    Check {
        feature: "data sets",
        needed: false,
        look: data_sets,
    },
    Check {
        feature: "server",
        needed: false,
        look: server,
    },
    Check {
        feature: "MLflow",
        needed: false,
        look: mlflow,
    },
    Check {
        feature: "notebooks",
        needed: false,
        look: || {
            python(
                &["marimo", "polars", "altair"],
                "python3 -m pip install -r notebooks/requirements.txt",
            )
        },
    },
    Check {
        feature: "Dask",
        needed: false,
        look: || python(&["distributed"], "python3 -m pip install python/oo-dask"),
    },
    Check {
        feature: "object storage",
        needed: false,
        look: || match cfg!(feature = "s3") {
            true => Found::ready("s3:// is built in"),
            false => Found::missing(
                "this oo-sim was built without s3://",
                "cargo build --release --bin oo-sim --features s3",
            ),
        },
    },
    Check {
        feature: "instruction counts",
        needed: false,
        look: || {
            programs(
                &["valgrind", "gungraun-runner"],
                "apt-get install valgrind; cargo install gungraun-runner",
            )
        },
    },
    Check {
        feature: "load tests",
        needed: false,
        look: || programs(&["wrk"], "apt-get install wrk"),
    },
    Check {
        feature: "the book",
        needed: false,
        look: || programs(&["mdbook", "python3"], "cargo install mdbook; apt-get install python3"),
    },
];

/// Where results go unless `--out` says otherwise.
fn results() -> Found {
    writable(
        Path::new("."),
        "runs/ in this folder",
        "go to a folder that you may write to, or give --out",
    )
}

/// Whether a file can be made in a folder, by making one.
fn writable(folder: &Path, what: &str, remedy: &str) -> Found {
    let probe = folder.join(format!(".oo-doctor.{}.tmp", std::process::id()));
    let made = std::fs::write(&probe, b"");
    // Made or half-made, it goes.
    let _ = std::fs::remove_file(&probe);
    match made {
        Ok(()) => Found::ready(what),
        Err(e) => Found::missing(format!("{what}: {e}"), remedy),
    }
}

fn processor() -> Found {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Found::ready(format!(
        "{threads} threads, {} ({})",
        instructions(),
        std::env::consts::ARCH
    ))
}

/// The widest vectors that the hot loops find here; every width gives the same bits.
fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return "AVX2";
        }
    }
    "the baseline's vectors"
}

fn data_folder() -> Found {
    match cache::folder() {
        // `data get` makes it.
        Ok(folder) if !folder.exists() => {
            Found::missing(format!("{} is not there yet", folder.display()), "oo-sim data get all")
        }
        Ok(folder) => Found::ready(folder.display().to_string()),
        Err(e) => Found::missing(format!("{e:#}"), "set OO_DATA_DIR"),
    }
}

fn data_sets() -> Found {
    let Ok(folder) = cache::folder() else {
        return Found::missing("no data folder", "set OO_DATA_DIR");
    };
    let (here, gone): (Vec<_>, Vec<_>) = sets().iter().partition(|set| set.is_in(&folder));
    let all = here.len() + gone.len();
    if gone.is_empty() {
        return Found::ready(format!("all {all}"));
    }
    // A line of names is read up to about this length.
    let names = gone.iter().map(|set| set.name.as_str()).collect::<Vec<_>>().join(" ");
    let names = if gone.len() <= 3 { &names } else { "all" };
    Found::missing(format!("{} of {all}", here.len()), format!("oo-sim data get {names}"))
}

/// The server's program: beside this one, or where programs are found.
fn server() -> Found {
    let beside = std::env::current_exe().ok().and_then(|exe| {
        let path = exe.with_file_name("oo-serve");
        path.is_file().then_some(path)
    });
    match beside.or_else(|| find("oo-serve")) {
        Some(path) => Found::ready(path.display().to_string()),
        None => Found::missing(
            "no oo-serve beside this program",
            "cargo build --release --bin oo-serve",
        ),
    }
}

/// Whether the tracking server that was named answers. None is named by default, and then nothing is asked.
fn mlflow() -> Found {
    let Some(address) = std::env::var("MLFLOW_TRACKING_URI").ok().filter(|a| !a.is_empty()) else {
        return Found::missing("MLFLOW_TRACKING_URI is not set", "set it, or give compare --mlflow URL");
    };
    // A name and a password in it stay untold.
    let shown = match address.split_once('@') {
        Some((before, after)) => format!("{}//…@{after}", before.split("//").next().unwrap_or_default()),
        None => address.clone(),
    };
    let agent = ureq::Agent::from(
        ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(3)))
            .build(),
    );
    match agent.get(format!("{}/health", address.trim_end_matches('/'))).call() {
        Ok(_) => Found::ready(format!("{shown} answers")),
        Err(e) => Found::missing(
            format!("{shown}: {e}"),
            "start it; runs are kept until `oo-sim mlflow sync RUN`",
        ),
    }
}

/// A program on the PATH.
fn find(program: &str) -> Option<std::path::PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

fn programs(names: &[&str], remedy: &str) -> Found {
    let gone: Vec<&str> = names.iter().copied().filter(|name| find(name).is_none()).collect();
    match gone.is_empty() {
        true => Found::ready(names.join(", ")),
        false => Found::missing(format!("no {}", gone.join(", ")), remedy),
    }
}

/// Packages that the Python on the PATH can import, without importing them.
fn python(packages: &[&str], remedy: &str) -> Found {
    if find("python3").is_none() {
        return Found::missing("no python3", format!("apt-get install python3-venv; {remedy}"));
    }
    let here = |package: &&&str| {
        Command::new("python3")
            .args([
                "-c",
                "import sys, importlib.util as u; sys.exit(u.find_spec(sys.argv[1]) is None)",
            ])
            .arg(package)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let gone: Vec<&str> = packages.iter().filter(|p| !here(p)).copied().collect();
    match gone.is_empty() {
        true => Found::ready(packages.join(", ")),
        false => Found::missing(format!("python3 has no {}", gone.join(", ")), remedy),
    }
}

#[derive(Serialize)]
struct Line {
    feature: &'static str,
    needed: bool,
    #[serde(flatten)]
    found: Found,
}

/// Runs the command; exit code 1 where something needed is missing.
///
/// # Errors
/// Where it cannot print.
pub fn run(args: &Args) -> Result<ExitCode> {
    let lines: Vec<Line> = CHECKS
        .iter()
        .map(|check| Line {
            feature: check.feature,
            needed: check.needed,
            found: (check.look)(),
        })
        .collect();
    let broken = lines
        .iter()
        .any(|l| l.needed && matches!(l.found, Found::Missing { .. }));
    match args.format {
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&lines)?))?,
        Format::Table => {
            let mut out = table(["feature", "", "what was found", "remedy"], &[]);
            for line in &lines {
                let (mark, what, remedy) = match &line.found {
                    Found::Ready { what } => ("ready", what.as_str(), ""),
                    Found::Missing { what, remedy } if line.needed => ("NEEDED", what.as_str(), remedy.as_str()),
                    Found::Missing { what, remedy } => ("not here", what.as_str(), remedy.as_str()),
                };
                out.add_row([line.feature, mark, what, remedy]);
            }
            say(&format!("{out}\n"))?;
        }
    }
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
