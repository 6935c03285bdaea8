//! `oo-serve`: the winning policy behind HTTP.

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use oo_serve::artefact::{self, Winner};
use oo_serve::config::{Durable, Level, Mode, Options, POLICY};
use oo_serve::drift::Summary;
use oo_serve::engine::settings::BuildPolicy;
use oo_serve::engine::{Artefact, Durability, Engine, Rules, Settings};
use oo_serve::http::{self, App, MAX_REWARD};
use oo_serve::registry;
use oo_serve::rollout::{self, Rollout};
use oo_serve::signals::{FileSource, SignalSource};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Memory that is freed is used again whichever thread asks, and goes back within seconds: with the C library's, a
/// server under a steady load grew.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// It goes back within a second, where the default is ten: what a snapshot of many people took would count until then.
#[expect(
    unsafe_code,
    reason = "jemalloc reads its options from a symbol; this is bytes, and nothing else has the name"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
static MEMORY_OPTIONS: &[u8; 37] = b"dirty_decay_ms:1000,muzzy_decay_ms:0\0";

const AFTER: &str = "\
Examples:
  oo-serve                                    serve on 127.0.0.1:8008, a fresh policy, state in the user's folder
  oo-serve --policy runs/a/winner --state /var/lib/oo
  oo-serve --policy models:/compare@champion --mlflow http://127.0.0.1:5000
  oo-serve --candidate 12 --policy 'lin-ts{draws=16}'
  oo-serve --config oo.toml --log debug
  curl -s localhost:8008/recommend -H 'content-type: application/json' \\
    -d '{\"user_id\":\"alice\",\"candidates\":[{\"id\":\"a\",\"priority\":4},{\"id\":\"b\"}]}'
  oo-serve inspect --state /var/lib/oo
  oo-serve export --state /var/lib/oo --out log.parquet

A file for --config has the names of the long options: `listen = \"127.0.0.1:8008\"`. Options go over variables, variables over
the file.

Exit codes: 0 stopped as asked, 1 failed (the message says why) or inspected and found unsound, 2 options or files that
cannot be used.";

/// Serves a policy: POST /recommend decides, POST /feedback tells what came of it, GET / shows all routes.
#[derive(Parser)]
#[command(name = "oo-serve", version, about, after_help = AFTER, args_conflicts_with_subcommands = true)]
struct Cli {
    /// A TOML file with the options below; options and variables go over it
    #[arg(long, env = "OO_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Says what a state folder holds, and whether it is sound
    Inspect {
        /// The folder
        #[arg(long, env = "OO_STATE", value_name = "DIR")]
        state: Option<PathBuf>,
        /// Replay the rewards under another spec: r0, r1 or r2
        #[arg(long, value_name = "NAME")]
        reward: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print only the feedbacks that have an id, a line each: [id, what became of it, reward]
        #[arg(long, conflicts_with_all = ["json", "reward"])]
        feedbacks: bool,
    },
    /// Writes the decisions and what came of them as the Parquet log that `oo-sim ope` reads
    Export {
        /// The folder; a server may be running on it
        #[arg(long, env = "OO_STATE", value_name = "DIR")]
        state: Option<PathBuf>,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Prints the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Prints the manual page
    Man,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Inspect {
            state, feedbacks: true, ..
        }) => feedbacks(state),
        Some(Command::Inspect {
            state, reward, json, ..
        }) => inspect(state, reward, json),
        Some(Command::Export { state, out }) => export(state, &out),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "oo-serve", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Some(Command::Man) => clap_mangen::Man::new(Cli::command())
            .render(&mut std::io::stdout())
            .context("printing the manual page"),
        None => match prepare(cli.config.as_deref(), cli.options) {
            Ok(prepared) => serve(prepared),
            Err(why) => Err(Unusable(why).into()),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // For whoever still reads it.
            let _ = writeln!(std::io::stderr(), "error: {e:#}");
            ExitCode::from(if e.is::<Unusable>() { 2 } else { 1 })
        }
    }
}

/// Options or files that cannot be used: nothing was begun.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

/// Writes to stdout. A pipe whose reader has gone is an error, not a panic.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}

/// The folder of a server that was there.
fn state_dir(state: Option<PathBuf>) -> Result<PathBuf> {
    let options = Options {
        state,
        ..Options::default()
    };
    let dir = options.state_dir().map_err(Unusable)?;
    let missing = |what: &str| {
        Unusable(format!(
            "{what} {}; name the folder of a server by --state DIR",
            dir.display()
        ))
    };
    if !dir.is_dir() {
        return Err(missing("there is no folder").into());
    }
    if !dir.join("journal").is_dir() {
        return Err(missing("there is no journal in").into());
    }
    Ok(dir)
}

fn inspect(state: Option<PathBuf>, reward: Option<String>, json: bool) -> Result<()> {
    let dir = state_dir(state)?;
    let rules = match reward {
        Some(name) => Some(Rules {
            reward: oo_core::tips::RewardSpec::named(&name).map_err(|e| Unusable(format!("option `reward`: {e}")))?,
            ..Rules::default()
        }),
        None => None,
    };
    let report = oo_serve::inspect::inspect(&dir, rules).with_context(|| format!("inspecting {}", dir.display()))?;
    print(&oo_serve::inspect::shown(&report, json))?;
    anyhow::ensure!(report.is_sound(), "{} is not sound; see above", dir.display());
    Ok(())
}

fn feedbacks(state: Option<PathBuf>) -> Result<()> {
    let dir = state_dir(state)?;
    let found = oo_serve::inspect::feedbacks(&dir).with_context(|| format!("inspecting {}", dir.display()))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for row in found {
        writeln!(out, "{}", serde_json::to_string(&row)?)?;
    }
    Ok(out.flush()?)
}

fn export(state: Option<PathBuf>, out: &Path) -> Result<()> {
    let dir = state_dir(state)?;
    let done = oo_serve::export::export(&dir, out).with_context(|| format!("exporting {}", dir.display()))?;
    print(&format!("{}\n", serde_json::to_string(&done)?))
}

/// Options that were checked.
struct Prepared {
    options: Options,
    settings: Settings,
    summary: Option<Summary>,
    state: PathBuf,
    /// Something that went another way than it was asked for.
    warning: Option<String>,
    signals: Option<Box<dyn SignalSource>>,
    limits: oo_serve::config::Limits,
    keys: http::auth::Keys,
    #[cfg(feature = "otlp")]
    spans: Option<oo_serve::otlp::Spans>,
}

fn prepare(config: Option<&Path>, given: Options) -> Result<Prepared, String> {
    let options = match config {
        Some(path) => given.over(Options::from_file(path)?),
        None => given,
    };
    let limits = options.limits()?;
    let keys = options.read_keys()?;
    let state = options.state_dir()?;
    let text = options.policy.clone().unwrap_or_else(|| POLICY.into());
    let mut shape = options.shape()?;
    let mut reward = options.reward.clone();
    let mut summary = None;
    let build: BuildPolicy = Arc::new(oo_policies::build);
    let mut warning = None;
    let folder = if registry::is_reference(&text) {
        let fetched =
            registry::fetch(&text, options.mlflow.as_deref(), &state).map_err(|e| format!("option `policy`: {e}"))?;
        warning = fetched.warning;
        Some(fetched.folder)
    } else {
        Some(PathBuf::from(&text)).filter(|folder| folder.is_dir())
    };
    let policy = if let Some(folder) = folder {
        let winner = Winner::read(&folder)?;
        shape = winner.policy.shape.clone();
        reward = reward.or(winner.policy.reward.as_ref().map(|r| r.name.clone()));
        summary = winner.policy.summary.clone();
        Artefact {
            spec: oo_core::Spec::parse(&winner.policy.spec).map_err(|e| e.to_string())?,
            state: Some(winner.state),
        }
    } else {
        artefact::take(&text, &shape, &build).map_err(|e| format!("option `policy`: {e}"))?
    };
    // Weights and metrics go by a feature's name alone. Folders from before this was asked go on.
    let both = shape.candidate.iter().find(|name| shape.context.contains(name));
    if let Some(name) = both.filter(|_| !state.join("journal").exists()) {
        return Err(format!(
            "the features: expected names that differ, got `{name}` for the context and for candidates"
        ));
    }
    let shadows = options.shadows.as_deref().unwrap_or_default();
    if let Some(twice) = (1..shadows.len()).find(|&i| shadows[..i].contains(&shadows[i])) {
        let name = &shadows[twice];
        return Err(format!(
            "option `shadow`: expected policies that differ, got `{name}` twice"
        ));
    }
    // What is wrong with a shadow is said before anything is opened.
    for shadow in shadows {
        registry::take(shadow, options.mlflow.as_deref(), &state, &shape, &build)
            .map_err(|e| format!("option `shadow`: {e}"))?;
    }
    if let Some(reward) = options
        .default_reward
        .filter(|r| !(-MAX_REWARD..=MAX_REWARD).contains(r))
    {
        return Err(format!(
            "option `default-reward`: expected -{MAX_REWARD} to {MAX_REWARD}, got {reward}"
        ));
    }
    if let Some(share) = options.otlp_share.filter(|share| !(0.0..=1.0).contains(share)) {
        return Err(format!("option `otlp-share`: expected 0 to 1, got {share}"));
    }
    let mut settings = Settings::new(policy, shape);
    settings.rules = Rules {
        default_reward: options.default_reward,
        ..Rules::default()
    };
    settings.keeps_reward = reward.is_none();
    if let Some(name) = reward {
        settings.rules.reward = oo_core::tips::RewardSpec::named(&name).map_err(|e| format!("option `reward`: {e}"))?;
    }
    // The simulator does all in turn.
    settings.aside = !options.replay.unwrap_or(false);
    if let Some(seconds) = options.wait {
        settings.rules.wait_ms = seconds.saturating_mul(1000);
    }
    options.people(&mut settings)?;
    settings.seed = options.seed.unwrap_or(0);
    settings.durability = match options.durability {
        Some(Durable::Process) => Durability::Process,
        _ => Durability::Disk,
    };
    settings.retention = options
        .retention
        .map(|days| Duration::from_secs(days.saturating_mul(86_400)));
    if let Some(records) = options.snapshot_every {
        settings.snapshot_every = records;
    }
    settings.policy_timeout = Duration::from_millis(options.policy_timeout.unwrap_or(20));
    if options.retention == Some(0) {
        return Err("option `retention`: expected 1 day or more, got 0".into());
    }
    let signals = match &options.signals {
        Some(dir) => {
            let source = FileSource::new(dir).map_err(|e| format!("option `signals`: {e}"))?;
            Some(Box::new(source) as Box<dyn SignalSource>)
        }
        None => None,
    };
    #[cfg(not(feature = "otlp"))]
    if options.otlp.is_some() {
        let remedy = "this program was built without it; build it with `--features otlp`";
        return Err(format!("option `otlp`: {remedy}"));
    }
    #[cfg(feature = "otlp")]
    let spans = match &options.otlp {
        Some(address) => {
            let spans = oo_serve::otlp::Spans::new(address, options.otlp_share.unwrap_or(1.0));
            Some(spans.map_err(|e| format!("option `otlp`: {e}"))?)
        }
        None => None,
    };
    Ok(Prepared {
        options,
        settings,
        summary,
        state,
        warning,
        signals,
        limits,
        keys,
        #[cfg(feature = "otlp")]
        spans,
    })
}

fn serve(prepared: Prepared) -> Result<()> {
    let began = Instant::now();
    let level = tracing::Level::from(prepared.options.log.unwrap_or(Level::Info));
    tracing_subscriber::fmt()
        .json()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .init();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    if let Some(threads) = prepared.options.threads {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.build().context("starting threads")?;
    let stopped = runtime.block_on(run(prepared, began));
    // Whatever still blocks ends with the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    stopped
}

async fn run(prepared: Prepared, began: Instant) -> Result<()> {
    let Prepared {
        options,
        settings,
        summary,
        state,
        warning,
        signals,
        limits,
        keys,
        #[cfg(feature = "otlp")]
        spans,
    } = prepared;
    if let Some(why) = warning {
        tracing::warn!(why, "the registry of models does not answer");
    }
    let listen = options.listen.unwrap_or(oo_serve::config::LISTEN);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hup = signal(SignalKind::hangup())?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listening on {listen}"))?;
    let listen = listener.local_addr()?;
    let opening = || format!("opening {}", state.display());
    let (engine, recovery) = match Engine::open(&state, settings) {
        // Rounds of another shape than the folder's.
        Err(e @ oo_serve::Error::Invalid { .. }) => return Err(Unusable(format!("{}: {e}", opening())).into()),
        opened => opened.with_context(opening)?,
    };
    if !recovery.losses.is_empty() {
        tracing::warn!(lost_bytes = recovery.lost_bytes, losses = ?recovery.losses, "the journal's end was not whole");
    }
    let engine = Arc::new(engine);
    let (asked, serves) = (engine.settings().policy.spec.to_string(), engine.condition().policy);
    if options.policy.is_some() && recovery.knew_a_policy && asked != serves {
        tracing::warn!(
            asked,
            serves,
            "the state folder goes on with its policy; POST /policies changes it"
        );
    }
    let mode = options.mode.unwrap_or_default();
    if mode != Mode::Serve && engine.experiment().is_some() {
        tracing::warn!(
            mode = mode.name(),
            "an experiment runs, and nobody comes into it in this mode"
        );
    }
    let shadows = options.shadows.as_deref().unwrap_or_default();
    let rollout = Rollout::open(engine.clone(), shadows, summary, options.mlflow.clone());
    let rollout = rollout.map_err(|p| match p.status.is_client_error() {
        true => Unusable(format!("option `shadow`: {}", p.detail)).into(),
        false => anyhow::anyhow!("starting the shadows: {}", p.detail),
    })?;
    let open = keys.is_empty();
    let seed = engine.settings().seed;
    let canonical = engine.condition().policy;
    let replay = options.replay.unwrap_or(false);
    // As the simulator makes the key of a cell.
    let replay = replay.then(|| oo_core::Key::root(seed).name("policy").name(&canonical));
    #[cfg_attr(not(feature = "otlp"), expect(unused_mut, reason = "only the feature changes it"))]
    let mut app = App::new(engine.clone(), signals, keys, limits, mode, replay, rollout, listen);
    #[cfg(feature = "otlp")]
    {
        app.spans = spans;
    }
    let app = Arc::new(app);
    let condition = engine.condition();
    tracing::info!(
        %listen,
        state = %state.display(),
        policy = condition.policy,
        model_version = condition.generation,
        updates = condition.updates,
        mode = mode.name(),
        open,
        ms = began.elapsed().as_millis() as u64,
        "serving"
    );
    // For people and scripts: the log goes to stderr.
    // Nobody need be there to read it.
    let _ = writeln!(
        std::io::stdout(),
        "oo-serve listens on http://{listen} ({}, state in {})",
        condition.policy,
        state.display()
    );
    let keepers = rollout::keep(app.clone());
    let reread = app.clone();
    tokio::spawn(async move {
        while hup.recv().await.is_some() {
            match options.read_keys() {
                Ok(keys) => {
                    tracing::info!(keys = keys.len(), "keys read again");
                    reread.set_keys(keys);
                }
                Err(why) => tracing::error!(why, "the old keys stay"),
            }
        }
    });
    let stop = async move {
        std::future::poll_fn(|cx| match (term.poll_recv(cx), int.poll_recv(cx)) {
            (std::task::Poll::Pending, std::task::Poll::Pending) => std::task::Poll::Pending,
            _ => std::task::Poll::Ready(()),
        })
        .await;
    };
    let router = http::router(app.clone());
    http::server::serve(listener, app.clone(), router, stop).await;
    keepers.iter().for_each(tokio::task::JoinHandle::abort);
    #[cfg(feature = "otlp")]
    if let Some(spans) = &app.spans {
        spans.close();
    }
    let last = tokio::task::spawn_blocking(move || {
        let found = engine.log_shadows();
        engine.flush().and(found)
    });
    last.await?.context("writing the end of the journal")?;
    tracing::info!(shed = app.metrics.shed.load(Ordering::Relaxed), "stopped");
    Ok(())
}
