//! The program, and a client that speaks just enough HTTP/1.1.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_oo-serve");

/// No answer takes longer, or the test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `oo-serve` on a port of its own.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    pub dir: TempDir,
}

pub fn command() -> Command {
    clean(Command::new(PROGRAM))
}

/// Nothing of the caller's environment counts.
fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("OO_")) {
        command.env_remove(name);
    }
    command
}

/// Starts the program on a state folder and a port of its own, and waits until it listens.
pub fn launch(state: &Path, args: &[&str]) -> (Child, SocketAddr) {
    launch_by(command(), state, args)
}

/// The same by a command that becomes the program.
fn launch_by(mut command: Command, state: &Path, args: &[&str]) -> (Child, SocketAddr) {
    command
        .args(["--listen", "127.0.0.1:0", "--log", "error", "--state"])
        .arg(state)
        .args(args);
    listening(command)
}

/// Starts the program as it stands in a command, and waits until it listens.
pub fn listening(mut command: Command) -> (Child, SocketAddr) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let addr = line
        .split("http://")
        .nth(1)
        .and_then(|l| l.split(' ').next())
        .map(str::parse);
    let Some(Ok(addr)) = addr else {
        panic!("the server did not start: {line}")
    };
    (child, addr)
}

/// What `oo-serve inspect` prints about a folder.
pub fn inspect(state: &Path, how: &str) -> String {
    let output = command().args(["inspect", how, "--state"]).arg(state).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Server {
    pub fn start(args: &[&str]) -> Server {
        Self::start_in(tempfile::tempdir().unwrap(), args)
    }

    /// With so many open files at most.
    pub fn start_limited(files: u64, args: &[&str]) -> Server {
        let mut shell = clean(Command::new("sh"));
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), PROGRAM]);
        let dir = tempfile::tempdir().unwrap();
        let (child, addr) = launch_by(shell, &dir.path().join("state"), args);
        Server { child, addr, dir }
    }

    pub fn start_in(dir: TempDir, args: &[&str]) -> Server {
        let (child, addr) = launch(&dir.path().join("state"), args);
        Server { child, addr, dir }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([name, &self.pid().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end; returns exit code and how long it took.
    pub fn wait(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not end");
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.addr).unwrap()
    }

    pub fn post(&self, path: &str, body: &str) -> Reply {
        self.connect().post(path, body)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.connect().ask("GET", path, "", "").unwrap()
    }

    /// A number from `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find(|l| l.starts_with(name) && l.as_bytes().get(name.len()) == Some(&b' '));
        line.and_then(|l| l.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in\n{text}"))
    }

    /// The number of the journal's last record.
    pub fn last(&self) -> u64 {
        self.get("/health").json()["journal"]["last"].as_u64().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection, kept open.
pub struct Client(BufReader<TcpStream>);

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|l| l.split_once(':'));
        lines
            .into_iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim())
    }
}

impl Client {
    pub fn connect(addr: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client(BufReader::new(stream)))
    }

    pub fn post(&mut self, path: &str, body: &str) -> Reply {
        self.ask("POST", path, "", body).unwrap()
    }

    /// `headers` are whole lines, each with its `\r\n`.
    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: impl AsRef<[u8]>) -> std::io::Result<Reply> {
        let body = body.as_ref();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.0.get_mut().write_all(&request)?;
        self.read()
    }

    pub fn read(&mut self) -> std::io::Result<Reply> {
        let mut head = String::new();
        loop {
            let before = head.len();
            if self.0.read_line(&mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if head.len() - before <= 2 {
                break;
            }
        }
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap();
        let mut reply = Reply {
            status,
            head,
            body: Vec::new(),
        };
        let length = reply.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        reply.body.resize(length, 0);
        self.0.read_exact(&mut reply.body)?;
        Ok(reply)
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }
}
