//! A prefix of a bucket, by the crate `object_store`. A put is atomic there, so nothing is renamed; a large file goes up
//! in parts and is seen once all of them are there.
//!
//! Settings and credentials come from the environment variables that other programs read, and go nowhere else:
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …

use super::Folder;
use super::send::Sender;
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::Runtime;

/// So long a server may take to accept a connection, or to say anything more.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Files above this size go up in parts of it. S3 takes no smaller parts than 5 MiB and at most 10,000 of them.
const PART: usize = 64 << 20;

/// Where credentials may come from. Without any, `object_store` would ask the machine's own metadata service.
const CREDENTIALS: [&[&str]; 5] = [
    &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    &["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"],
    &["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"],
    &[
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    ],
    &["AWS_SKIP_SIGNATURE"],
];

/// Files whose names begin with a prefix.
#[derive(Debug)]
pub(super) struct Bucket {
    store: AmazonS3,
    bucket: String,
    endpoint: String,
    prefix: String,
    part: usize,
}

impl Bucket {
    /// Nothing is asked of the server yet.
    ///
    /// # Errors
    /// No credentials; settings that make no sense.
    pub(super) fn from_env(bucket: &str, prefix: &str) -> Result<Self> {
        let has = |names: &[&str]| names.iter().all(|n| std::env::var_os(n).is_some_and(|v| !v.is_empty()));
        if !CREDENTIALS.iter().any(|names| has(names)) {
            bail!(
                "no credentials for s3://{bucket}: expected {} in the environment",
                CREDENTIALS[..4]
                    .iter()
                    .map(|n| n.join(" and "))
                    .collect::<Vec<_>>()
                    .join(", or ")
            );
        }
        let settings = AmazonS3Builder::from_env();
        let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
            .iter()
            .find_map(|key| settings.get_config_value(key));
        let retry = RetryConfig {
            backoff: BackoffConfig {
                max_backoff: Duration::from_secs(5),
                ..BackoffConfig::default()
            },
            max_retries: 5,
            retry_timeout: Duration::from_secs(120),
        };
        let store = settings
            .with_bucket_name(bucket)
            .with_retry(retry)
            .with_http_connector(Sender::from_env()?)
            .build()
            .with_context(|| format!("the settings for s3://{bucket} in the environment, AWS_…, do not do"))?;
        Ok(Bucket {
            store,
            bucket: bucket.into(),
            endpoint: endpoint.unwrap_or_else(|| "AWS".into()),
            prefix: prefix.into(),
            part: PART,
        })
    }

    fn path(&self, name: &str) -> Result<Path> {
        Ok(Path::parse(format!("{}/{name}", self.prefix))?)
    }

    /// What an error means, in words. Bodies of answers may quote what was sent, so only their codes are told.
    fn explain(&self, e: object_store::Error) -> anyhow::Error {
        let (bucket, endpoint) = (&self.bucket, &self.endpoint);
        let mut all = vec![e.to_string()];
        let mut source = std::error::Error::source(&e);
        while let Some(inner) = source {
            all.push(inner.to_string());
            source = inner.source();
        }
        let cause = all.last().cloned().unwrap_or_default();
        let text = all.join(" ");
        let code = text
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once("</Code>"));
        match (code.map(|(code, _)| code), &e) {
            (Some("NoSuchBucket"), _) => {
                anyhow!("there is no bucket `{bucket}` at {endpoint}; make it, or name another")
            }
            (
                Some(code),
                object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. },
            ) => {
                anyhow!("{endpoint} refuses the credentials of the environment for bucket `{bucket}`: {code}")
            }
            (None, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
                anyhow!("{endpoint} refuses the credentials of the environment for bucket `{bucket}`")
            }
            (Some(code), _) => anyhow!("{endpoint} answers {code} for bucket `{bucket}`"),
            (None, _) if text.contains("redirect") => {
                anyhow!("bucket `{bucket}` lies in another region than AWS_REGION says")
            }
            (None, _) => anyhow!(
                "no answer from {endpoint} for bucket `{bucket}`: {cause}; is there a network, and does AWS_ENDPOINT_URL \
                 name the right server?"
            ),
        }
    }

    /// Waits for an answer.
    fn wait<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> Result<object_store::Result<T>> {
        Ok(runtime()?.block_on(request))
    }

    fn put_parts(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let put = async {
            let mut upload = self.store.put_multipart(path).await?;
            let parts = async {
                for part in bytes.chunks(self.part) {
                    upload.put_part(Bytes::copy_from_slice(part).into()).await?;
                }
                upload.complete().await
            };
            let done = parts.await;
            if done.is_err() {
                // What was sent would cost money; failing to throw it away is not the error to tell.
                let _ = upload.abort().await;
            }
            done
        };
        self.wait(put)?.map_err(|e| self.explain(e))?;
        Ok(())
    }
}

/// Counts the time between tries; requests run on the thread that asks.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
    });
    made.as_ref()
        .map_err(|e| anyhow!("cannot start a thread for object storage: {e}"))
}

impl Folder for Bucket {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        let get = async { self.store.get(&path).await?.bytes().await };
        match self.wait(get)? {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(e @ object_store::Error::NotFound { .. }) => {
                // A bucket that is not there is no empty one.
                if format!("{e:?}").contains("NoSuchBucket") {
                    Err(self.explain(e))
                } else {
                    Ok(None)
                }
            }
            Err(e) => Err(self.explain(e)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name)?;
        if bytes.len() > self.part {
            return self.put_parts(&path, bytes);
        }
        let payload = PutPayload::from(Bytes::copy_from_slice(bytes));
        self.wait(self.store.put(&path, payload))?
            .map_err(|e| self.explain(e))?;
        Ok(())
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.path(name)?;
        let payload = PutPayload::from(Bytes::copy_from_slice(bytes));
        match self.wait(self.store.put_opts(&path, payload, PutMode::Create.into()))? {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(self.explain(e)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.path(folder)?;
        let listed = self
            .wait(self.store.list_with_delimiter(Some(&path)))?
            .map_err(|e| self.explain(e))?;
        let names = listed.objects.iter().filter_map(|object| object.location.filename());
        let mut names: Vec<String> = names.map(|name| format!("{folder}/{name}")).collect();
        names.sort();
        Ok(names)
    }
}
