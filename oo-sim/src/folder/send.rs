//! The requests of `object_store`, sent by ureq. It blocks, and so does whoever asked: each thread that reads or writes
//! waits for its own answer.

use super::s3::PATIENCE;
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use std::io::ErrorKind;
use ureq::http::{Method, Request, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// Makes clients that share one agent and so its connections.
#[derive(Debug)]
pub(super) struct Sender(Agent);

impl Sender {
    /// `AWS_CA_BUNDLE` names the certificates to trust instead of the built-in ones, as it does for other programs.
    pub(super) fn from_env() -> Result<Self> {
        let mut tls = TlsConfig::builder();
        if let Some(file) = std::env::var_os("AWS_CA_BUNDLE") {
            let read = || -> Result<Vec<Certificate<'static>>> {
                let mut found = Vec::new();
                for item in parse_pem(&std::fs::read(&file)?) {
                    if let PemItem::Certificate(certificate) = item? {
                        found.push(certificate);
                    }
                }
                ensure!(
                    !found.is_empty(),
                    "expected certificates between BEGIN and END lines, found none"
                );
                Ok(found)
            };
            let found = read().with_context(|| format!("AWS_CA_BUNDLE: {}", file.display()))?;
            tls = tls.root_certs(RootCerts::new_with_certs(&found));
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            // object_store looks at them itself.
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .timeout_per_write(Some(PATIENCE));
        Ok(Sender(config.build().new_agent()))
    }
}

impl HttpConnector for Sender {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Sender(self.0.clone())))
    }
}

#[async_trait]
impl HttpService for Sender {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let sent = if [Method::GET, Method::HEAD, Method::DELETE].contains(&head.method) {
            self.0.run(Request::from_parts(head, ()))
        } else {
            let body = body.collect().await?.to_bytes();
            self.0.run(Request::from_parts(head, &body[..]))
        };
        sent.and_then(whole).map_err(failure)
    }
}

/// The answer with its whole body.
fn whole(answer: Response<Body>) -> Result<HttpResponse, ureq::Error> {
    let (head, mut body) = answer.into_parts();
    let bytes = body.with_config().limit(u64::MAX).read_to_vec()?;
    Ok(HttpResponse::from_parts(head, HttpResponseBody::from(bytes)))
}

/// The kind says whether it is worth another try.
fn failure(e: ureq::Error) -> HttpError {
    let kind = match &e {
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => HttpErrorKind::Connect,
        ureq::Error::Io(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, e)
}
