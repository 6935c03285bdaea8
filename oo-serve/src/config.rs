//! What the program is started with: options, then environment variables, then a file, then defaults.
//!
//! One struct is all three, so a new option is one field: clap reads it from the command line and from `OO_…`, serde
//! reads it from the file.

use crate::engine::{Join, Rules, Settings, Suppress};
use crate::http::auth::Keys;
use crate::http::is_tips;
use oo_core::{Shape, features};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the program listens unless told otherwise.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8008);

/// The policy that is served unless told otherwise: one model of all people, which a person leaves as data come in.
pub const POLICY: &str = "hierarchical{features=v3}";

/// Features of a kind that a policy may be over: linear ones keep their square.
const MOST_FEATURES: usize = 4096;

/// The variable that holds keys.
pub const KEYS: &str = "OO_KEYS";

/// The options, all of them optional.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Options {
    /// Address and port. Other machines reach anything but loopback, which needs keys [default: 127.0.0.1:8008]
    #[arg(long, env = "OO_LISTEN", value_name = "ADDR:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,
    /// Folder of the journal, the truth; one process at a time [default: oo/serve in the user's folder for state]
    #[arg(long, env = "OO_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// What to serve in a new state folder: a spec as in `oo-sim compare`, a folder that `oo-sim gate` wrote, or a
    /// model in MLflow's registry, such as models:/NAME@champion [default: hierarchical{features=v3}]
    #[arg(long, env = "OO_POLICY", value_name = "SPEC|DIR|MODEL")]
    pub policy: Option<String>,
    /// MLflow's server, for `models:/…`; MLFLOW_TRACKING_USERNAME with _PASSWORD, or _TOKEN, say who asks
    #[arg(long, env = "MLFLOW_TRACKING_URI", value_name = "URL", hide_env_values = true)]
    pub mlflow: Option<String>,
    /// Policies that decide along, unheard, and log what they would have done; separated by `;` in the variable
    #[serde(alias = "shadow")]
    #[arg(long = "shadow", env = "OO_SHADOWS", value_name = "SPEC", value_delimiter = ';')]
    pub shadows: Option<Vec<String>>,
    /// serve (the policy decides), apprentice (the caller's first candidate is shown, the policy learns from it) or
    /// log-only (the same, and nothing is learned) [default: serve]
    #[arg(long, env = "OO_MODE", value_name = "MODE")]
    pub mode: Option<Mode>,
    /// Reward spec: r0, r1 or r2 [default: that of the policy's folder, where it names one, else the state folder's, else r2]
    #[arg(long, env = "OO_REWARD", value_name = "NAME")]
    pub reward: Option<String>,
    /// Reward of a decision without feedback; none teaches nothing [default: none]
    #[arg(
        long,
        env = "OO_DEFAULT_REWARD",
        value_name = "NUMBER",
        allow_negative_numbers = true
    )]
    pub default_reward: Option<f64>,
    /// Seconds that a decision waits for its feedback [default: 3600]
    #[arg(long, env = "OO_WAIT", value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// What several feedbacks of one decision come to: first (learned at once), or last, sum, mean, min or max of all that
    /// come inside the wait window (learned when it ends) [default: first]
    #[arg(long, env = "OO_JOIN", value_name = "RULE")]
    pub join: Option<Join>,
    /// How long a tip stays away after a reaction: off, or done=SPAN,dismiss=SPAN,snooze=SPAN, where SPAN is ever, never or
    /// a number with s, m, h or d [default: done=ever,dismiss=ever,snooze=1h for the features of tips, off for others]
    #[arg(long, env = "OO_SUPPRESS", value_name = "SPANS")]
    pub suppress: Option<String>,
    /// Days that a person's profile looks back in the journal, at most 3650; 0 leaves it to the caller [default: 30]
    #[arg(long, env = "OO_PROFILE_DAYS", value_name = "DAYS")]
    pub profile_days: Option<u64>,
    /// Days without decision or feedback, or of a file under --signals, after which a profile counts as unknown
    /// [default: as --profile-days]
    #[arg(long, env = "OO_PROFILE_MAX_AGE", value_name = "DAYS")]
    pub profile_max_age: Option<u64>,
    /// Root of every draw [default: 0]
    #[arg(long, env = "OO_SEED", value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Draw as `oo-sim` does: a decision's id is the number of its round, and its key that of the simulator's cell with
    /// the same policy and seed
    #[arg(long, env = "OO_REPLAY", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pub replay: Option<bool>,
    /// disk (2xx once the record is on the disk) or process (once the system has it) [default: disk]
    #[arg(long, env = "OO_DURABILITY", value_name = "WHEN")]
    pub durability: Option<Durable>,
    /// Days after which records are dropped; without it all are kept
    #[arg(long, env = "OO_RETENTION", value_name = "DAYS")]
    pub retention: Option<u64>,
    /// Records between two snapshots; a start replays what came after the last one [default: 500000]
    #[arg(long, env = "OO_SNAPSHOT_EVERY", value_name = "N")]
    pub snapshot_every: Option<u64>,
    /// Milliseconds after which a uniform draw replaces the policy's; with 0 it always does [default: 20]
    #[arg(long, env = "OO_POLICY_TIMEOUT", value_name = "MS")]
    pub policy_timeout: Option<u64>,
    /// Names of the context features, for policies that do not read the features of tips
    #[arg(long, env = "OO_CONTEXT", value_name = "NAMES", value_delimiter = ',')]
    pub context: Option<Vec<String>>,
    /// Names of the candidates' features, likewise; a number n stands for f0 … f(n−1)
    #[arg(long, env = "OO_CANDIDATE", value_name = "NAMES|N", value_delimiter = ',')]
    pub candidate: Option<Vec<String>>,
    /// A fixed set of actions with ids 0 … n−1, likewise
    #[arg(long, env = "OO_ACTIONS", value_name = "N")]
    pub actions: Option<usize>,
    /// Folder with a JSON file of tasks a user, for requests without candidates
    #[arg(long, env = "OO_SIGNALS", value_name = "DIR")]
    pub signals: Option<PathBuf>,
    /// File of keys, a line each: ROLES NAME SECRET; read again on SIGHUP. The variable OO_KEYS takes the same lines,
    /// separated by `;`
    #[arg(long, env = "OO_KEYS_FILE", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Connections at once [default: 4096, less where the system allows fewer open files]
    #[arg(long, env = "OO_CONNECTIONS", value_name = "N")]
    pub connections: Option<usize>,
    /// Requests at once; others get 429 [default: 512]
    #[arg(long, env = "OO_CONCURRENCY", value_name = "N")]
    pub concurrency: Option<usize>,
    /// Candidates of a request, at most 1000 [default: 1000]
    #[arg(long, env = "OO_CANDIDATES", value_name = "N")]
    pub candidates: Option<usize>,
    /// Bytes of a body [default: 1048576]
    #[arg(long, env = "OO_BODY", value_name = "BYTES")]
    pub body: Option<usize>,
    /// Seconds for a request's head, and for the next one on an open connection [default: 9]
    #[arg(long, env = "OO_HEADER_TIMEOUT", value_name = "SECONDS")]
    pub header_timeout: Option<u64>,
    /// Seconds for a request's body, and for the peer to read the answer [default: 9]
    #[arg(long, env = "OO_BODY_TIMEOUT", value_name = "SECONDS")]
    pub body_timeout: Option<u64>,
    /// Address of an OpenTelemetry collector (OTLP over HTTP), as in http://127.0.0.1:4318, that is sent a span a request;
    /// only in builds with the feature `otlp` [default: none, nothing is sent]
    #[arg(long, env = "OO_OTLP", hide_env_values = true, value_name = "URL")]
    pub otlp: Option<String>,
    /// Share of the traces that begin here and are sent; those of callers go as they say [default: 1]
    #[arg(long, env = "OO_OTLP_SHARE", value_name = "SHARE")]
    pub otlp_share: Option<f64>,
    /// Threads that serve [default: one a core]
    #[arg(long, env = "OO_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// error, warn, info, debug (a line a request) or trace [default: info]
    #[arg(long, env = "OO_LOG", value_name = "LEVEL")]
    pub log: Option<Level>,
}

/// Who decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The policy.
    #[default]
    Serve,
    /// The caller, whose first candidate is shown; the policy learns from what comes of it.
    Apprentice,
    /// The caller; nothing is learned.
    LogOnly,
}

impl Mode {
    /// The name in options and answers.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Serve => "serve",
            Mode::Apprentice => "apprentice",
            Mode::LogOnly => "log-only",
        }
    }
}

/// When a feedback is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durable {
    /// Once it is on the disk.
    Disk,
    /// Once the system has it.
    Process,
}

/// What is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// What somebody must mend.
    Error,
    /// What somebody should look at.
    Warn,
    /// Starts, stops, changes.
    Info,
    /// A line a request.
    Debug,
    /// Everything.
    Trace,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
            Level::Trace => tracing::Level::TRACE,
        }
    }
}

/// What requests may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Requests at once.
    pub concurrency: usize,
    /// Candidates of a request.
    pub candidates: usize,
    /// Bytes of a body.
    pub body: usize,
    /// For a request's head, and between requests.
    pub header_timeout: Duration,
    /// For a request's body.
    pub body_timeout: Duration,
    /// For the peer to read the answer.
    pub write_timeout: Duration,
}

/// Days that a profile looks back unless told otherwise.
const PROFILE_DAYS: u64 = oo_core::tips::history::WINDOW_DAYS;
const DAY_MS: u64 = 86_400_000;

impl Options {
    /// How much of people's history is kept and what for: into the settings.
    ///
    /// # Errors
    /// Options that contradict each other, or that cannot be read.
    pub fn people(&self, settings: &mut Settings) -> Result<(), String> {
        let tips = is_tips(&settings.shape);
        let replay = self.replay.unwrap_or(false);
        settings.suppress = match self.suppress.as_deref() {
            Some("off") => None,
            Some(_) if settings.shape.actions.is_some() => {
                return Err("option `suppress`: with `actions` every action is there in every round".into());
            }
            Some(_) if replay => {
                return Err("option `suppress`: a replay decides among the simulator's own candidates".into());
            }
            Some(text) => Some(text.parse().map_err(|e| format!("option `suppress`: {e}"))?),
            None => (tips && !replay).then(Suppress::default),
        };
        let days = self
            .profile_days
            .unwrap_or(if tips && !replay { PROFILE_DAYS } else { 0 });
        if days > 3650 {
            return Err(format!("option `profile-days`: expected at most 3650, got {days}"));
        }
        if days > 0 && replay {
            return Err("option `profile-days`: a replay takes its features from the simulator".into());
        }
        settings.profile_age_ms = self.profile_max_age.unwrap_or(days).saturating_mul(DAY_MS);
        if days == 0 {
            settings.profile_age_ms = 0;
        }
        settings.rules = Rules {
            join: self.join.unwrap_or_default(),
            window_ms: match settings.suppress {
                Some(_) => days.max(1) * DAY_MS,
                None => days * DAY_MS,
            },
            ..settings.rules.clone()
        };
        Ok(())
    }

    /// Reads the file of `--config`.
    ///
    /// # Errors
    /// What is wrong with the file, with its line.
    pub fn from_file(path: &Path) -> Result<Options, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        toml::from_str(&text).map_err(|e| {
            let place = place(&text, e.span());
            format!("{}{place}: {}", path.display(), without_values(e.message()))
        })
    }

    /// These options; where they are silent, those of `below`.
    #[must_use]
    pub fn over(self, below: Options) -> Options {
        macro_rules! merge {
            ($($field:ident)*) => { Options { $($field: self.$field.or(below.$field)),* } };
        }
        merge! {
            listen state policy mlflow shadows mode reward default_reward wait join suppress profile_days profile_max_age seed
            replay durability retention snapshot_every policy_timeout context candidate actions signals keys connections
            concurrency candidates body header_timeout body_timeout otlp otlp_share threads log
        }
    }

    /// The state folder.
    ///
    /// # Errors
    /// When none is given and the user has no place for state.
    pub fn state_dir(&self) -> Result<PathBuf, String> {
        let home = || {
            dirs::state_dir()
                .or_else(dirs::data_local_dir)
                .map(|d| d.join("oo").join("serve"))
        };
        let missing = "no folder for state is known here; give --state DIR";
        self.state.clone().or_else(home).ok_or_else(|| missing.into())
    }

    /// What rounds look like: the features of tips, unless features are named.
    ///
    /// # Errors
    /// Names that are empty or stand there twice, numbers of nothing or of more than there can be.
    pub fn shape(&self) -> Result<Shape, String> {
        if self.context.is_none() && self.candidate.is_none() && self.actions.is_none() {
            return Ok(features::shape());
        }
        let named = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
        let mut candidate = named(&self.candidate);
        if let [one] = candidate.as_slice()
            && let Ok(n) = one.parse::<usize>()
        {
            if !(1..=MOST_FEATURES).contains(&n) {
                return Err(format!(
                    "option `candidate`: expected 1 to {MOST_FEATURES} features, got {n}"
                ));
            }
            candidate = (0..n).map(|i| format!("f{i}")).collect();
        }
        let context = named(&self.context);
        for (option, names) in [("context", &context), ("candidate", &candidate)] {
            if names.len() > MOST_FEATURES {
                let n = names.len();
                return Err(format!(
                    "option `{option}`: expected at most {MOST_FEATURES} names, got {n}"
                ));
            }
            if let Some(i) = (0..names.len()).find(|&i| names[i].is_empty() || names[..i].contains(&names[i])) {
                let name = &names[i];
                return Err(format!(
                    "option `{option}`: expected names that differ, got `{name}` at place {}",
                    i + 1
                ));
            }
        }
        if self.actions == Some(0) {
            return Err("option `actions`: expected 1 or more, got 0".into());
        }
        Ok(Shape {
            context,
            candidate,
            actions: self.actions,
        })
    }

    /// What requests may cost; connections leave room for other files.
    ///
    /// # Errors
    /// A limit of 0, or beyond what the engine takes.
    pub fn limits(&self) -> Result<Limits, String> {
        /// Files that are no connections: the journal, snapshots, the log, signals.
        const OTHER_FILES: u64 = 64;
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = files.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES).max(1);
        // Whoever dawdles is gone within ten seconds.
        let seconds = |s: Option<u64>| Duration::from_secs(s.unwrap_or(9));
        let limits = Limits {
            connections: self
                .connections
                .unwrap_or(4096)
                .min(usize::try_from(most).unwrap_or(usize::MAX)),
            concurrency: self.concurrency.unwrap_or(512),
            candidates: self.candidates.unwrap_or(1000),
            body: self.body.unwrap_or(1 << 20),
            header_timeout: seconds(self.header_timeout),
            body_timeout: seconds(self.body_timeout),
            write_timeout: seconds(self.body_timeout),
        };
        for (name, value, most) in [
            ("connections", limits.connections, 1 << 20),
            ("concurrency", limits.concurrency, 1 << 20),
            ("candidates", limits.candidates, 1000),
            ("body", limits.body, 64 << 20),
            ("header-timeout", limits.header_timeout.as_secs() as usize, 3600),
            ("body-timeout", limits.body_timeout.as_secs() as usize, 3600),
            ("threads", self.threads.unwrap_or(1), 1024),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("option `{name}`: expected 1 to {most}, got {value}"));
            }
        }
        Ok(limits)
    }

    /// The keys from the file and from `OO_KEYS`. An address that other machines reach needs one.
    ///
    /// # Errors
    /// A keys file that cannot be read or does not parse, or an open door.
    pub fn read_keys(&self) -> Result<Keys, String> {
        let mut text = String::new();
        if let Some(path) = &self.keys {
            let read = std::fs::read_to_string(path);
            text = read.map_err(|e| format!("cannot read the keys in {}: {e}", path.display()))?;
            text.push('\n');
        }
        let given = match std::env::var(KEYS) {
            Err(std::env::VarError::NotUnicode(_)) => return Err(format!("{KEYS}: expected text in UTF-8")),
            given => given.ok(),
        };
        if let Some(more) = &given {
            text.push_str(&more.replace(';', "\n"));
        }
        let keys = Keys::parse(&text).map_err(|e| format!("keys, {e}"))?;
        let listen = self.listen.unwrap_or(LISTEN);
        if keys.is_empty() && !listen.ip().is_loopback() {
            return Err(format!(
                "{listen} can be reached from other machines, and there are no keys. Give --keys FILE or {KEYS} (a line \
                 is `ROLES NAME SECRET`, as in `admin ops` and 16 or more random characters), or listen on {LISTEN}"
            ));
        }
        if self.keys.is_some() && keys.is_empty() {
            return Err("the keys file holds no key; leave --keys out to serve without keys on loopback".into());
        }
        if given.is_some() && keys.is_empty() {
            return Err(format!(
                "{KEYS} is set and holds no key; unset it to serve without keys on loopback"
            ));
        }
        Ok(keys)
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an address in numbers and a port, as in 127.0.0.1:8008 or [::1]:8008";
    text.parse().map_err(|_| expected.into())
}

/// The line and the option that a span of a file is about, without the option's value: that may be a secret.
fn place(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else {
        return String::new();
    };
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let is_name = |key: &&str| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    match line.split_once('=').map(|(key, _)| key.trim()).filter(is_name) {
        Some(key) => format!(", line {number} (`{key}`)"),
        None => format!(", line {number}"),
    }
}

/// A parser's message without the text that came: `invalid type: string "…", expected f64`.
fn without_values(message: &str) -> String {
    for (open, close) in [("string \"", '"'), ("unknown variant `", '`')] {
        if let Some((before, rest)) = message.split_once(open)
            && let Some((_, after)) = rest.rsplit_once(&format!("{close}, expected"))
        {
            return format!("{before}{open}…{close}, expected{after}");
        }
    }
    message.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_over_the_file() {
        let file: Options = toml::from_str("listen = \"127.0.0.1:1\"\nseed = 7\nmode = \"log-only\"").unwrap();
        let flags = Options {
            seed: Some(1),
            ..Options::default()
        };
        let both = flags.over(file);
        assert_eq!((both.seed, both.mode), (Some(1), Some(Mode::LogOnly)));
        assert_eq!(both.listen, Some("127.0.0.1:1".parse().unwrap()));
        let wrong = toml::from_str::<Options>("lisen = 1").unwrap_err().to_string();
        assert!(wrong.contains("lisen") && wrong.contains("listen"), "{wrong}");
    }

    #[test]
    fn never_silently_open() {
        let open = Options {
            listen: Some("0.0.0.0:8008".parse().unwrap()),
            ..Options::default()
        };
        let said = open.read_keys().unwrap_err();
        assert!(said.contains("there are no keys") && said.contains("--keys"), "{said}");
        for loopback in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:0"] {
            let closed = Options {
                listen: Some(loopback.parse().unwrap()),
                ..Options::default()
            };
            assert!(closed.read_keys().unwrap().is_empty());
        }
    }

    #[test]
    fn a_number_of_features_names_them() {
        let options = Options {
            candidate: Some(vec!["3".into()]),
            ..Options::default()
        };
        assert_eq!(options.shape().unwrap().candidate, ["f0", "f1", "f2"]);
        assert_eq!(Options::default().shape().unwrap(), features::shape());
        for names in [&["0"][..], &["200000"], &["a", "a"], &["a", ""]] {
            let options = Options {
                candidate: Some(names.iter().map(|n| (*n).to_string()).collect()),
                ..Options::default()
            };
            assert!(
                options
                    .shape()
                    .unwrap_err()
                    .starts_with("option `candidate`: expected "),
                "{names:?}"
            );
        }
    }
}
