//! Against the real server: everything that was logged is read back and held against the spool and the results.

use super::server::Server;
use super::{compare, files, fine, oo_sim, results, said, spool};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FIVE_BY_EIGHT: &[&str] = &[
    "--users",
    "20",
    "--days",
    "14",
    "--seeds",
    "8",
    "--policies",
    "uniform,egreedy-v1,lin-ucb{alpha=0.2},lin-ts,egreedy{features=v3}",
];
const WAIT: &[&str] = &["--mlflow-wait", "600"];

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).into()
}

pub fn pairs(list: &Value) -> BTreeMap<String, String> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter().map(|p| (text(&p["key"]), text(&p["value"]))).collect()
}

/// Every value of a metric by its step.
fn history(server: &Server, run: &str, key: &str) -> Vec<(i64, u64)> {
    let answer = server.get("metrics/get-history", &[("run_id", run), ("metric_key", key)]);
    assert!(answer["next_page_token"].is_null());
    let all = answer["metrics"].as_array().unwrap().iter();
    let mut all: Vec<_> = all
        .map(|m| (m["step"].as_i64().unwrap(), m["value"].as_f64().unwrap().to_bits()))
        .collect();
    all.sort_unstable();
    all
}

/// What a spool says of one run, all its entries taken together.
#[derive(Default)]
struct Said {
    parent: Option<String>,
    status: String,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    metrics: BTreeMap<String, Vec<(i64, u64)>>,
    datasets: Vec<(String, String)>,
    artefacts: BTreeMap<String, Vec<u8>>,
}

fn spooled(root: &Path) -> BTreeMap<String, Said> {
    let mut all: BTreeMap<String, Said> = BTreeMap::new();
    for entry in spool(root) {
        let said = all.entry(text(&entry["run"])).or_default();
        if let Some(parent) = entry["parent"].as_str() {
            said.parent = Some(parent.into());
        }
        if let Some(status) = entry["status"].as_str() {
            said.status = status.into();
        }
        let texts = |key: &str| entry[key].as_object().cloned().unwrap_or_default();
        said.params
            .extend(texts("params").iter().map(|(k, v)| (k.clone(), text(v))));
        said.tags
            .extend(texts("tags").iter().map(|(k, v)| (k.clone(), text(v))));
        for m in entry["metrics"].as_array().into_iter().flatten() {
            let point = (m["s"].as_i64().unwrap(), m["v"].as_f64().unwrap().to_bits());
            said.metrics.entry(text(&m["k"])).or_default().push(point);
        }
        for d in entry["datasets"].as_array().into_iter().flatten() {
            said.datasets.push((text(&d["name"]), text(&d["digest"])));
        }
        for a in entry["artefacts"].as_array().into_iter().flatten() {
            let bytes = match a["content"]["text"].as_str() {
                Some(text) => text.as_bytes().to_vec(),
                None => std::fs::read(root.join(text(&a["content"]["file"]["path"]))).unwrap(),
            };
            said.artefacts.insert(text(&a["path"]), bytes);
        }
    }
    for said in all.values_mut() {
        for points in said.metrics.values_mut() {
            points.sort_unstable();
            points.dedup(); // what was said twice is there once
        }
    }
    all
}

/// Holds every run of the experiment at the server against the spool: nothing lost, nothing twice, nothing changed.
pub fn read_back(server: &Server, experiment: &str, root: &Path) -> Value {
    let runs = server.runs(experiment);
    let spooled = spooled(root);
    let tags = |run: &Value| pairs(&run["data"]["tags"]);
    let by_name: BTreeMap<String, &Value> = runs.iter().map(|run| (tags(run)["oo.run"].clone(), run)).collect();
    assert_eq!(runs.len(), spooled.len(), "a run is missing or there twice");
    let parent = by_name["comparison"];
    for (name, said) in &spooled {
        let run = by_name[name];
        assert_eq!(run["info"]["status"], said.status.as_str(), "{name}");
        assert_eq!(pairs(&run["data"]["params"]), said.params, "{name}");
        let mut found = tags(run);
        for of_the_client in ["oo.run", "oo.spool", "mlflow.runName"] {
            assert!(found.remove(of_the_client).is_some(), "{name}");
        }
        assert_eq!(
            found.remove("mlflow.parentRunId"),
            said.parent.as_ref().map(|_| text(&parent["info"]["run_id"]))
        );
        assert_eq!(found, said.tags, "{name}");
        let id = text(&run["info"]["run_id"]);
        let latest = run["data"]["metrics"].as_array().into_iter().flatten();
        let keys: Vec<String> = latest.map(|m| text(&m["key"])).collect();
        assert_eq!(keys.len(), said.metrics.len(), "{name}");
        for (key, points) in &said.metrics {
            assert_eq!(&history(server, &id, key), points, "{name} {key}");
        }
        let inputs = run["inputs"]["dataset_inputs"].as_array().into_iter().flatten();
        let datasets: Vec<_> = inputs
            .map(|d| (text(&d["dataset"]["name"]), text(&d["dataset"]["digest"])))
            .collect();
        assert_eq!(datasets, said.datasets, "{name}");
        for (path, bytes) in &said.artefacts {
            assert!(server.artefact(run, path) == *bytes, "{name} {path}");
        }
    }
    parent.clone()
}

fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_oo-sim")).with_file_name(name);
    assert!(
        path.is_file(),
        "there is no {}; cargo build --release --bins",
        path.display()
    );
    path
}

/// The real server program with a policy from the registry, asked once. Gives what it said.
pub fn serves(reference: &str, url: &str, state: &Path, dead: bool) -> String {
    let mut child = Command::new(program("oo-serve"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--policy",
            reference,
            "--log",
            "warn",
            "--state",
        ])
        .arg(state)
        .env("MLFLOW_TRACKING_URI", url)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.split_whitespace().find(|word| word.starts_with("http://"));
    let address = address.unwrap_or_else(|| {
        let mut why = String::new();
        std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut why).unwrap();
        panic!("{line}{why}")
    });
    let body = r#"{"user_id":"alice","candidates":[{"id":"a","priority":4},{"id":"b"}]}"#;
    let request = ureq::post(format!("{address}/recommend")).header("content-type", "application/json");
    let mut answer = request.send(body).unwrap();
    let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(said(&output).contains("as it did last"), dead, "{}", said(&output));
    assert!(answer["propensity"].is_number(), "{answer}");
    line + &said(&output)
}

#[test]
#[ignore = "needs Python and an MLflow server, which scripts/mlflow installs: .ci/run has it run"]
fn what_is_logged_is_there_and_the_champion_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("server"), None);
    let url = server.url();
    let out = folder.path().join("run");
    let logged = || {
        let mut command = compare(FIVE_BY_EIGHT, &out);
        command
            .args(WAIT)
            .args(["--mlflow", &url, "--mlflow-experiment", "five by eight"]);
        command
    };
    let output = fine(&mut logged());
    assert!(said(&output).contains("MLflow: http"), "{}", said(&output));
    let parent = read_back(&server, "five by eight", &out);
    assert_eq!(server.runs("five by eight").len(), 41);
    // What was logged is what the results say.
    let summary: Value = serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    let id = text(&parent["info"]["run_id"]);
    for (i, key) in [
        "uniform",
        "egreedy-v1",
        "lin-ucb_alpha_0.2",
        "lin-ts",
        "egreedy_features_v3",
    ]
    .iter()
    .enumerate()
    {
        let mean = summary["policies"][i]["mean_reward"].as_f64().unwrap();
        assert_eq!(
            history(&server, &id, &format!("mean_reward/{key}")),
            [(0, mean.to_bits())]
        );
        assert_eq!(history(&server, &id, &format!("reward/{key}")).len(), 20);
    }
    for file in ["experiment.toml", "summary.json", "timings.json"] {
        assert!(
            server.artefact(&parent, file) == std::fs::read(out.join(file)).unwrap(),
            "{file}"
        );
    }
    let listed = server.get("artifacts/list", &[("run_id", &id)]);
    let listed: Vec<&Value> = listed["files"].as_array().unwrap().iter().map(|f| &f["path"]).collect();
    assert!(listed.contains(&&Value::from("report.html")), "{listed:?}");
    assert!(server.artefact(&parent, "report.html").starts_with(b"<!doctype html>"));
    // Neither the same command nor a sync sends anything twice.
    fine(&mut logged());
    let sync = ["mlflow", "sync", out.to_str().unwrap()];
    let again = fine(oo_sim(&sync).env("MLFLOW_EXPERIMENT_NAME", "five by eight"));
    assert!(String::from_utf8_lossy(&again.stdout).starts_with("0 entries sent"));
    // Without its memory of what was sent it asks the server.
    for name in files(&out).keys().filter(|name| name.contains("/sent-")) {
        std::fs::remove_file(out.join(name)).unwrap();
    }
    fine(oo_sim(&sync).env("MLFLOW_TRACKING_URI", &url));
    read_back(&server, "five by eight", &out);

    // The gate's winner is the champion, and what it replaces the challenger.
    let gate = |champion: &str, challenger: &str| {
        let rule = folder.path().join("rule.toml");
        std::fs::write(&rule, "non_inferiority_margin = 1.0\n[run]\nmin_clusters = 8\n").unwrap();
        let of = [
            "--champion",
            champion,
            "--challenger",
            challenger,
            "--rule",
            rule.to_str().unwrap(),
        ];
        let mut command = oo_sim(&["gate", out.to_str().unwrap()]);
        command
            .args(of)
            .args(WAIT)
            .args(["--mlflow", &url, "--mlflow-experiment", "five by eight"]);
        let output = command.args(["--mlflow-model", "tips"]).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            said(&output)
        );
        said(&output)
    };
    let alias = |name: &str| {
        let found = server.get("registered-models/alias", &[("name", "tips"), ("alias", name)]);
        text(&found["model_version"]["version"])
    };
    for _ in 0..2 {
        // Asked twice, it is registered once.
        let told = gate("uniform", "egreedy{features=v3}");
        assert!(told.contains("models:/tips@champion is egreedy{features=v3}"), "{told}");
        assert_eq!([alias("champion"), alias("challenger")], ["2", "1"]);
    }
    let parent = read_back(&server, "five by eight", &out);
    let tags = pairs(&parent["data"]["tags"]);
    assert_eq!(tags["oo.gate.answer"], "promote");
    assert!(
        server
            .artefact(&parent, "gate/report.html")
            .starts_with(b"<!doctype html>")
    );

    // The program that serves loads it, by alias, number and as the latest; the files are those of the winner.
    let state = |name: &str| folder.path().join(name);
    let line = serves("models:/tips@champion", &url, &state("a"), false);
    assert!(line.contains("egreedy{"), "{line}");
    let fetched = files(&state("a").join("models").join("tips").join("2"));
    assert_eq!(fetched, files(&out.join("winner")));
    assert!(serves("models:/tips/latest", &url, &state("b"), false).contains("egreedy{"));
    assert!(serves("models:/tips/1", &url, &state("c"), false).contains("uniform"));
    server.kill();
    // Without the registry it means what it meant last.
    assert!(serves("models:/tips@champion", &url, &state("a"), true).contains("egreedy{"));
}

#[test]
#[ignore = "needs Python and an MLflow server, which scripts/mlflow installs: .ci/run has it run"]
fn a_server_killed_amid_a_run_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("server"), None);
    let url = server.url();
    let (plain, out) = (folder.path().join("plain"), folder.path().join("run"));
    fine(&mut compare(FIVE_BY_EIGHT, &plain));
    let mut command = compare(FIVE_BY_EIGHT, &out);
    command
        .args(["--mlflow", &url, "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let running = command.spawn().unwrap();
    let there = |server: &Server| {
        let found = server.post("experiments/search", &serde_json::json!({"max_results": 10}));
        let is_there = found["experiments"]
            .as_array()
            .unwrap()
            .iter()
            .any(|e| e["name"] == "compare");
        if is_there { server.runs("compare").len() } else { 0 }
    };
    let deadline = Instant::now() + Duration::from_secs(300);
    while there(&server) < 5 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    server.kill();
    let output = running.wait_with_output().unwrap();
    assert!(
        output.status.success() && said(&output).contains("oo-sim mlflow sync"),
        "{}",
        said(&output)
    );
    assert_eq!(results(&out), results(&plain));
    server.restart();
    let before = there(&server);
    assert!((5..41).contains(&before), "killed too late: {before} runs are there");
    // The sender is killed as well, twice, wherever it is.
    let sync = || oo_sim(&["mlflow", "sync", out.to_str().unwrap()]);
    for more in [4, 11] {
        let mut child = sync().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let enough = (before + more).min(40);
        let deadline = Instant::now() + Duration::from_secs(300);
        while there(&server) < enough && child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fine(&mut sync());
    read_back(&server, "compare", &out);
    assert_eq!(there(&server), 41);
    let again = fine(&mut sync());
    assert!(String::from_utf8_lossy(&again.stdout).starts_with("0 entries sent"));
}

#[test]
#[ignore = "needs Python and an MLflow server, which scripts/mlflow installs: .ci/run has it run"]
fn a_login_is_honoured_and_written_nowhere() {
    const PASSWORD: &str = "corr3ct-horse-battery";
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"), Some(("admin", PASSWORD)));
    let out = folder.path().join("run");
    let with = |password: &str| {
        let mut command = compare(super::SMALL, &out);
        command.args(WAIT).env("MLFLOW_TRACKING_URI", server.url());
        command
            .env("MLFLOW_TRACKING_USERNAME", "admin")
            .env("MLFLOW_TRACKING_PASSWORD", password);
        fine(&mut command)
    };
    let refused = with("wrong");
    assert!(
        said(&refused).contains("401") && said(&refused).contains("oo-sim mlflow sync"),
        "{}",
        said(&refused)
    );
    let output = with(PASSWORD);
    assert!(said(&output).contains("MLflow: http"), "{}", said(&output));
    read_back(&server, "compare", &out);
    for (file, bytes) in files(&out) {
        assert!(!String::from_utf8_lossy(&bytes).contains(PASSWORD), "{file}");
    }
    assert!(!said(&output).contains(PASSWORD));
}
