//! The gate against the real server: promotions that follow one another, that of a log, and what nobody may see.

use super::real::{pairs, read_back, serves, text};
use super::server::Server;
use super::{dead, files, fine, oo_sim, said};
use std::path::Path;
use std::process::{Command, Output};

const PASSWORD: &str = "corr3ct-horse-battery";
/// What `printf admin:corr3ct-horse-battery | base64` says.
const CODED: &str = "YWRtaW46Y29ycjNjdC1ob3JzZS1iYXR0ZXJ5";
const WORLD: [&str; 6] = ["--users", "20", "--days", "14", "--seeds", "3"];
const GREEDY: &str = "egreedy{features=v3}";
const POLICIES: [&str; 3] = ["uniform", "lin-ucb{alpha=0.2}", GREEDY];

/// Everything that the program has said, for a last look at it.
#[derive(Default)]
struct Ear(Vec<Output>);

impl Ear {
    fn gate(&mut self, command: &mut Command, code: i32) -> String {
        let output = command.output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{answer}{}", said(&output));
        self.0.push(output);
        said(self.0.last().unwrap())
    }
}

/// Versions under both aliases; "" for none.
fn aliases(server: &Server, model: &str) -> [String; 2] {
    ["champion", "challenger"].map(|alias| {
        let found = server.try_get("registered-models/alias", &[("name", model), ("alias", alias)]);
        found.map_or_else(|_| String::new(), |f| text(&f["model_version"]["version"]))
    })
}

#[test]
#[ignore = "needs Python and an MLflow server, which scripts/mlflow installs: .ci/run has it run"]
fn promotions_follow_one_another_and_logs_have_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("server"), None);
    let url = server.url();
    // The server takes a login that it does not ask for. Behind a login every request costs it a tenth of a second.
    let with_login = url.replace("//", &format!("//admin:{PASSWORD}@"));
    let place = folder.path().join("runs");
    let at = |name: &str| place.join(name);
    let mut ear = Ear::default();
    // A rule that whoever is asked about meets.
    let rule = folder.path().join("rule.toml");
    let lenient = r#"
non_inferiority_margin = 100.0
looks = 5
[run]
min_clusters = 3
min_decisions = 1
[log]
min_decisions = 100
min_clusters = 10
min_ess = 1.0
max_unsupported = 1.0
min_propensity_p = 0.0
max_tail_index = 9.0
"#;
    std::fs::write(&rule, lenient).unwrap();
    let asked = |from: &[&str], champion: &str, challenger: &str, url: &str| {
        let mut command = oo_sim(&[&["gate"], from].concat());
        if !from.contains(&"--rule") {
            command.arg("--rule").arg(&rule);
        }
        command.args(["--champion", champion, "--challenger", challenger]);
        command.args(["--mlflow", url, "--mlflow-wait", "600"]);
        command.env("MLFLOW_TRACKING_USERNAME", "admin");
        command.env("MLFLOW_TRACKING_PASSWORD", PASSWORD);
        command
    };

    // Two promotions in a row, then the first again. What is promoted again is no new version.
    for name in ["first", "second"] {
        let out = at(name);
        let compare = [
            "compare",
            "--policies",
            &POLICIES.join(","),
            "--out",
            out.to_str().unwrap(),
        ];
        ear.0.push(fine(&mut oo_sim(&[&compare[..], &WORLD].concat())));
    }
    let (first, second) = (at("first"), at("second"));
    let model = ["--mlflow-model", "tips"];
    let [uniform, lin_ucb, greedy] = POLICIES;
    let of_first = [&[first.to_str().unwrap()], &model[..]].concat();
    for (champion, challenger, want) in [
        (uniform, lin_ucb, ["2", "1"]),
        (lin_ucb, greedy, ["3", "2"]),
        (uniform, lin_ucb, ["2", "3"]),
    ] {
        if want == ["2", "3"] {
            // One that waits in another run, decided before the last one here.
            let of_second = [&[second.to_str().unwrap()], &model[..]].concat();
            let told = ear.gate(&mut asked(&of_second, lin_ucb, uniform, &dead()), 0);
            assert!(told.contains("oo-sim mlflow sync"), "{told}");
        }
        let told = ear.gate(&mut asked(&of_first, champion, challenger, &url), 0);
        assert!(
            told.contains(&format!("models:/tips@champion is {challenger}")),
            "{told}"
        );
        assert_eq!(aliases(&server, "tips"), want, "{champion} -> {challenger}");
    }
    // It is there once it is sent, and undoes nothing.
    let sync = |run: &Path, experiment: &str| {
        let mut command = oo_sim(&["mlflow", "sync", run.to_str().unwrap(), "--mlflow"]);
        command.arg(&with_login);
        command.args(["--mlflow-experiment", experiment]);
        command
    };
    ear.gate(&mut sync(&second, "late"), 0);
    let versions = server.get("model-versions/search", &[("filter", "name = 'tips'")]);
    let versions = versions["model_versions"].as_array().unwrap();
    assert_eq!(
        (versions.len(), aliases(&server, "tips")),
        (4, ["2", "3"].map(String::from))
    );
    let parent = read_back(&server, "late", &second);
    assert_eq!(pairs(&parent["data"]["tags"])["oo.gate.challenger"], uniform);
    // Nor does the whole story once more, without memory of what was sent.
    for name in files(&first).keys().filter(|name| name.contains("/sent-")) {
        std::fs::remove_file(first.join(name)).unwrap();
    }
    ear.gate(&mut sync(&first, "compare"), 0);
    assert_eq!(aliases(&server, "tips"), ["2", "3"]);
    // A champion that is kept leaves the registry alone.
    let keep = folder.path().join("keep.toml");
    std::fs::write(
        &keep,
        "min_effect = 100.0\nlooks = 5\n[run]\nmin_clusters = 3\nmin_decisions = 1\n",
    )
    .unwrap();
    let with_keep = [&of_first[..], &["--rule", keep.to_str().unwrap()]].concat();
    let told = ear.gate(&mut asked(&with_keep, lin_ucb, uniform, &url), 1);
    assert!(told.contains("MLflow: http") && !told.contains("models:/"), "{told}");
    assert_eq!(aliases(&server, "tips"), ["2", "3"]);
    let parent = read_back(&server, "compare", &first);
    assert_eq!(pairs(&parent["data"]["tags"])["oo.gate.answer"], "keep");

    // A log: its report beside it, then elsewhere. There is no champion to train, so none is registered.
    let log = at("month.parquet");
    let log = log.to_str().unwrap();
    let record = [
        "log", "--policy", "uniform", "--users", "40", "--days", "30", "--out", log,
    ];
    ear.0.push(fine(&mut oo_sim(&record)));
    let elsewhere = at("elsewhere");
    for (more, champion, challenger, root, want) in [
        (&[][..], "logged", greedy, at("month.parquet.gate"), ["1", ""]),
        (
            &["--report", elsewhere.to_str().unwrap()][..],
            greedy,
            lin_ucb,
            elsewhere.clone(),
            ["2", "1"],
        ),
    ] {
        let from = [&["--log", log], more].concat();
        for _ in 0..2 {
            // Asked twice, it is there once.
            let told = ear.gate(&mut asked(&from, champion, challenger, &url), 0);
            assert!(
                told.contains(&format!("models:/month@champion is {challenger}")),
                "{told}"
            );
            assert_eq!(aliases(&server, "month"), want);
        }
        assert!(root.join("report.html").is_file() && root.join("winner/policy.json").is_file());
        ear.gate(&mut sync(&root, "month"), 0);
    }
    let record = at("month.parquet.gate").join("looks.json");
    for root in [at("month.parquet.gate"), elsewhere] {
        let run = server.runs("month").into_iter().find(|run| {
            let spooled = std::fs::read_to_string(spool_of(&root)).unwrap();
            spooled.contains(&pairs(&run["data"]["tags"])["oo.spool"])
        });
        let run = run.unwrap();
        assert_eq!(run["info"]["status"], "FINISHED");
        assert_eq!(pairs(&run["data"]["tags"])["mlflow.source.name"], "oo-sim gate");
        for file in ["report.json", "report.html"] {
            assert!(server.artefact(&run, &format!("gate/{file}")) == std::fs::read(root.join(file)).unwrap());
        }
        // The record stays beside the log, and what the second answer saw of it has both looks.
        let seen = server.artefact(&run, "gate/looks.json");
        assert!(!root.ends_with("elsewhere") || seen == std::fs::read(&record).unwrap());
        assert!(root.ends_with("elsewhere") != root.join("looks.json").exists());
    }
    assert_eq!(server.runs("month").len(), 2);
    let served = serves("models:/month@champion", &with_login, &at("state"), false);
    assert!(served.contains("lin-ucb"), "{served}");

    // Every byte that was written or said, and everything that is shown of a run.
    let mut everything = files(&place);
    for (i, output) in ear.0.iter().enumerate() {
        everything.insert(format!("stdout {i}"), output.stdout.clone());
        everything.insert(format!("stderr {i}"), output.stderr.clone());
    }
    for experiment in ["compare", "late", "month"] {
        everything.insert(experiment.into(), format!("{:?}", server.runs(experiment)).into_bytes());
    }
    everything.insert("the server's output".into(), served.into_bytes());
    everything.insert("versions".into(), format!("{versions:?}").into_bytes());
    everything.extend(files(&folder.path().join("server/data/artifacts")));
    assert!(everything.len() > 80, "{}", everything.len());
    for (what, bytes) in everything {
        for secret in [PASSWORD, CODED] {
            let found = bytes.windows(secret.len()).any(|piece| piece == secret.as_bytes());
            assert!(!found, "{what} holds {secret}");
        }
    }
}

/// The spool of a folder that has one.
fn spool_of(root: &Path) -> std::path::PathBuf {
    let name = files(root).into_keys().find(|name| name.ends_with("spool.jsonl"));
    root.join(name.unwrap())
}
