//! Where to log: flags, then MLflow's own variables.

use anyhow::{Context, Result, ensure};
use oo_mlflow::{Address, Credentials};
use std::io::Write;
use std::time::Duration;

const URI: &str = "MLFLOW_TRACKING_URI";
const EXPERIMENT: &str = "MLFLOW_EXPERIMENT_NAME";

/// The flags. Their values never reach a log or a file as they are: an address may hold a password.
#[derive(Clone, Default, clap::Args)]
#[command(next_help_heading = "MLflow")]
pub struct Options {
    /// Log to this MLflow server; MLFLOW_TRACKING_URI by default, `none` for no logging. MLFLOW_TRACKING_USERNAME with
    /// _PASSWORD, or _TOKEN, say who asks
    #[arg(long, value_name = "URL")]
    mlflow: Option<String>,
    /// Experiment there; MLFLOW_EXPERIMENT_NAME by default, else the name of the experiment here
    #[arg(long, value_name = "NAME")]
    mlflow_experiment: Option<String>,
    /// Wait for the server at most so long once the results are printed; 10 or a twentieth of the run's time by default
    #[arg(long, value_name = "SECONDS")]
    mlflow_wait: Option<f64>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.mlflow.as_deref().map(oo_mlflow::redacted);
        f.debug_struct("Options")
            .field("mlflow", &shown)
            .finish_non_exhaustive()
    }
}

/// A server, who asks, and an experiment where one is named.
#[derive(Clone, Debug)]
pub struct Destination {
    /// With credentials, which it never shows.
    pub address: Address,
    /// The experiment's name.
    pub experiment: Option<String>,
    /// How long to wait at the end.
    pub wait: Option<Duration>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.trim().is_empty())
}

impl Options {
    /// Where to log; `None` where nobody says, or says `none`.
    ///
    /// # Errors
    /// A flag that cannot be right. A variable that other programs understand and this one does not only gets a warning.
    pub fn destination(&self) -> Result<Option<Destination>> {
        if let Some(wait) = self.mlflow_wait {
            ensure!(
                (0.0..=86_400.0).contains(&wait),
                "--mlflow-wait: expected 0 to 86400 seconds, got {wait}"
            );
        }
        match (self.mlflow.as_deref().map(str::trim), variable(URI)) {
            (Some("none" | ""), _) | (None, None) => Ok(None),
            (Some(text), _) => Destination::new(text, self).context("--mlflow").map(Some),
            (None, Some(text)) => Ok(Destination::new(&text, self)
                .inspect_err(|e| {
                    // A closed stderr is no reason to stop.
                    let _ = writeln!(std::io::stderr(), "MLflow: nothing is logged; {URI}: {e:#}");
                })
                .ok()),
        }
    }
}

impl Destination {
    /// An address with the credentials of the environment.
    ///
    /// # Errors
    /// A text that is no address.
    pub fn new(text: &str, options: &Options) -> Result<Destination> {
        Ok(Destination {
            address: Address::parse(text, Credentials::from_environment())?,
            experiment: options.mlflow_experiment.clone().or_else(|| variable(EXPERIMENT)),
            wait: options.mlflow_wait.map(Duration::from_secs_f64),
        })
    }
}
