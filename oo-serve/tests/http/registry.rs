//! A policy of MLflow's registry that cannot be had: the program says why and does not start. `oo-sim/tests/mlflow` has the
//! real server, and what happens when there is one.

use super::client::command;
use std::io::{Read, Write};
use std::net::TcpListener;

/// A server that answers everything alike; its address.
fn answers(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0; 1]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                head.push(byte[0]);
            }
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn a_policy_that_the_registry_does_not_give_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let refused = |policy: &str, server: Option<&str>| {
        let mut command = command();
        command
            .args(["--listen", "127.0.0.1:0", "--policy", policy, "--state"])
            .arg(&state);
        command
            .env_remove("MLFLOW_TRACKING_URI")
            .env_remove("MLFLOW_TRACKING_TOKEN");
        command.envs(server.map(|url| ("MLFLOW_TRACKING_URI", url)));
        let out = command.output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{policy} {server:?}: {said}");
        assert!(
            said.starts_with("error: option `policy`: ") && out.stdout.is_empty(),
            "{said}"
        );
        assert!(!said.contains("s3cret"), "{said}");
        said
    };
    // The port was free a moment ago.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = format!("http://me:s3cret@{dead}");
    // In the words of MLflow 3.17.2.
    let no_model = r#"{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered Model with name=x not found"}"#;
    let no_alias =
        r#"{"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias champion not found."}"#;
    for (server, want) in [
        (dead, "does not answer"),
        (answers("404 Not Found", no_model), "has no models:/x@champion"),
        (answers("400 Bad Request", no_alias), "has no models:/x@champion"),
        (
            answers("404 Not Found", "<html>Not Found</html>"),
            "is there an MLflow server at http://127",
        ),
        (
            answers("200 OK", "<html>Welcome</html>"),
            "is there an MLflow server at http://127",
        ),
        (answers("401 Unauthorized", "who are you?"), "401 : who are you?"),
        (
            answers("503 Service Unavailable", "later"),
            "does not answer: registered-models/alias: 503 later",
        ),
        ("sqlite:///mlflow.db".into(), "expected http://HOST:PORT"),
    ] {
        let said = refused("models:/x@champion", Some(&server));
        assert!(said.contains(want), "{server}: {said}");
    }
    assert!(refused("models:/x@champion", None).contains("give --mlflow URL, or set MLFLOW_TRACKING_URI"));
    assert!(refused("models:/x", Some("http://127.0.0.1:9")).contains("models:/NAME@ALIAS, models:/NAME/VERSION"));
    // The error is that of the policy, before anything is opened.
    assert!(!state.join("lock").exists());
}
