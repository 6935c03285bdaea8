//! Artefacts through the server's own store, `mlflow-artifacts:`.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::limits::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

impl Client {
    /// The path of an artefact at the server, from the address that a run or a version names.
    ///
    /// # Errors
    /// Artefacts that lie elsewhere.
    pub fn artefact_path(&self, uri: &str) -> Result<String> {
        let elsewhere = || Error::Elsewhere {
            uri: crate::address::redacted(uri),
        };
        let behind = format!("{}/api/2.0/mlflow-artifacts/artifacts/", self.server());
        if let Some(path) = uri.strip_prefix(&behind) {
            return Ok(path.into());
        }
        let rest = uri.strip_prefix("mlflow-artifacts:").ok_or_else(elsewhere)?;
        let path = match rest.strip_prefix("//") {
            // `mlflow-artifacts://HOST/PATH` names the server once more.
            Some(with_host) => with_host.split_once('/').ok_or_else(elsewhere)?.1,
            None => rest,
        };
        Ok(path.trim_matches('/').into())
    }

    /// Puts a text among the artefacts at `uri`.
    ///
    /// # Errors
    /// No answer, a refusal, or artefacts that lie elsewhere.
    pub fn upload_text(&self, uri: &str, name: &str, text: &str) -> Result<()> {
        self.put_bytes(&format!("{}/{name}", self.artefact_path(uri)?), text.as_bytes())
    }

    /// Puts a file there, if it still is what it was.
    ///
    /// # Errors
    /// As [`upload_text`](Self::upload_text); a file that is not there or has changed.
    pub fn upload_file(&self, uri: &str, name: &str, file: &Path, sha256: &str) -> Result<()> {
        let to = format!("{}/{name}", self.artefact_path(uri)?);
        let open = || File::open(file).map_err(|e| Error::file(file, e));
        let got = digest(open()?).map_err(|e| Error::file(file, e))?;
        if got != sha256 {
            return Err(Error::Changed {
                path: file.into(),
                expected: sha256.into(),
                got,
            });
        }
        self.put_file(&to, open)
    }

    /// The bytes of an artefact, at most `limit` of them.
    ///
    /// # Errors
    /// No answer, nothing there, more than `limit`, or artefacts that lie elsewhere.
    pub fn download(&self, uri: &str, name: &str, limit: u64) -> Result<Vec<u8>> {
        self.fetch(&format!("{}/{name}", self.artefact_path(uri)?), limit)
    }
}

fn digest(mut from: impl Read) -> std::io::Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Address, Client, Patience};

    #[test]
    fn paths_at_the_server() {
        let client = Client::new(Address::parse("http://h:1/p", None).unwrap(), Patience::BACKGROUND);
        for (uri, want) in [
            ("mlflow-artifacts:/1/a/artifacts", "1/a/artifacts"),
            ("mlflow-artifacts://h:1/1/a", "1/a"),
            ("http://h:1/p/api/2.0/mlflow-artifacts/artifacts/1/a", "1/a"),
        ] {
            assert_eq!(client.artefact_path(uri).unwrap(), want);
        }
        let said = client
            .artefact_path("s3://key:secret@bucket/x")
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("--artifacts-destination") && !said.contains("secret"),
            "{said}"
        );
    }
}
