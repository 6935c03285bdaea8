//! A real MLflow server in a folder of its own, by `scripts/mlflow`, and what it says over REST.

use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// First the environment is installed, where it is not there.
const START: Duration = Duration::from_secs(1200);

pub struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
    login: Option<(String, String)>,
}

impl Server {
    pub fn start(folder: &Path, login: Option<(&str, &str)>) -> Server {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let login = login.map(|(user, password)| (user.to_string(), password.to_string()));
        let mut server = Server {
            child: spawn(folder, port, login.as_ref()),
            folder: folder.into(),
            port,
            login,
        };
        server.wait();
        server
    }

    /// On the same port with the same folder.
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder, self.port, self.login.as_ref());
        self.wait();
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + START;
        while !self.is_healthy() {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", log());
            }
            assert!(Instant::now() < deadline, "the server does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn is_healthy(&self) -> bool {
        let answer = ureq::get(format!("{}/health", self.url())).call();
        answer.is_ok_and(|a| a.status() == 200)
    }

    /// SIGKILL to all of it, at once.
    pub fn kill(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            return;
        }
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill")
            .args(["-9", "--", &group])
            .stderr(Stdio::null())
            .status();
        self.child.wait().unwrap();
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn authorised<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.login {
            // Only for addresses: the login is in them.
            Some((user, password)) => {
                let header = base64(&format!("{user}:{password}"));
                request.header("authorization", format!("Basic {header}"))
            }
            None => request,
        }
    }

    pub fn post(&self, call: &str, body: &Value) -> Value {
        let request = ureq::post(format!("{}/api/2.0/mlflow/{call}", self.url()));
        let request = self.authorised(request).header("content-type", "application/json");
        let mut answer = request.send(body.to_string()).unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    pub fn get(&self, call: &str, query: &[(&str, &str)]) -> Value {
        self.try_get(call, query)
            .unwrap_or_else(|e| panic!("{call} {query:?}: {e}"))
    }

    pub fn try_get(&self, call: &str, query: &[(&str, &str)]) -> Result<Value, ureq::Error> {
        let mut request = self.authorised(ureq::get(format!("{}/api/2.0/mlflow/{call}", self.url())));
        for (name, value) in query {
            request = request.query(*name, *value);
        }
        let mut answer = request.call()?;
        Ok(serde_json::from_str(&answer.body_mut().read_to_string()?).unwrap())
    }

    /// Every run of an experiment, whatever became of it.
    pub fn runs(&self, experiment: &str) -> Vec<Value> {
        let found = self.get("experiments/get-by-name", &[("experiment_name", experiment)]);
        let id = &found["experiment"]["experiment_id"];
        let (mut all, mut page) = (Vec::new(), String::new());
        loop {
            let body = json!({"experiment_ids": [id], "max_results": 100, "run_view_type": "ALL", "page_token": page});
            let answer = self.post("runs/search", &body);
            all.extend(answer["runs"].as_array().cloned().unwrap_or_default());
            match answer["next_page_token"].as_str() {
                Some(next) if !next.is_empty() => page = next.into(),
                _ => return all,
            }
        }
    }

    /// The bytes of an artefact.
    pub fn artefact(&self, run: &Value, path: &str) -> Vec<u8> {
        let uri = run["info"]["artifact_uri"].as_str().unwrap();
        let root = uri.strip_prefix("mlflow-artifacts:/").unwrap();
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{root}/{path}", self.url());
        let mut answer = self.authorised(ureq::get(url)).call().unwrap();
        answer.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path, port: u16, login: Option<&(String, String)>) -> Child {
    std::fs::create_dir_all(folder).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/mlflow");
    let mut command = Command::new(script);
    command.arg(if login.is_some() { "serve-auth" } else { "serve" });
    command.arg(folder.join("data")).arg(port.to_string());
    if let Some((user, password)) = login {
        command.env("MLFLOW_TRACKING_USERNAME", user);
        command.env("MLFLOW_TRACKING_PASSWORD", password);
    }
    // Should this process be killed, the server does not stay for ever.
    command.env("OO_MLFLOW_SECONDS", "1800").stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
    command.spawn().unwrap()
}

fn base64(text: &str) -> String {
    let mut child = Command::new("base64")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}
