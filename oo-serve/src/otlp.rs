//! Spans of requests for an OpenTelemetry collector: OTLP over HTTP, in protobuf. Only with the feature `otlp`, and only to
//! the address that `--otlp` names.
//!
//! A request is one span. Its ids are those that the log and the problem documents name, the caller's trace goes on, and a
//! trace that the caller does not record is not sent. What a span says of a request is its route by name, never its path:
//! that holds users' names. Spans wait in a bounded queue for a thread that sends them in batches; what finds the queue
//! full, or meets a collector that does not answer, is dropped.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>, version 1.

use crate::http::trace::{Trace, fresh};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanProcessor};
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

/// What a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// What is read of its answer.
const ANSWER: u64 = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Spans {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    share: f64,
}

/// One request, as it is told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Its identity.
    pub trace: &'a Trace,
    /// GET, POST, …
    pub method: &'a hyper::Method,
    /// The route's name.
    pub route: &'static str,
    /// The answer's status.
    pub status: u16,
    /// How long it took, up to now.
    pub took: Duration,
}

impl Spans {
    /// For a collector at `http://HOST:PORT`, which stands for its path `/v1/traces`, or at a whole address. `share` of the
    /// traces that begin here are sent.
    ///
    /// # Errors
    /// What is wrong with the address or the share.
    pub fn new(endpoint: &str, share: f64) -> Result<Spans, String> {
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("expected a share of 0 to 1, got {share}"));
        }
        let rest = endpoint.strip_prefix("http://").or(endpoint.strip_prefix("https://"));
        let Some(host) = rest.filter(|r| !r.is_empty() && !r.starts_with('/')) else {
            return Err(format!(
                "expected http://HOST:PORT or https://HOST:PORT, got `{endpoint}`"
            ));
        };
        let whole = match host.split_once('/') {
            None | Some((_, "")) => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            Some(_) => endpoint.into(),
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .proxy(None)
            .max_redirects(0)
            .build();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender(config.into()))
            .with_endpoint(whole)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|e| e.to_string())?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource::builder_empty()
            .with_service_name("oo-serve")
            .with_attributes([KeyValue::new("service.version", version)])
            .build();
        processor.set_resource(&resource);
        let scope = InstrumentationScope::builder("oo-serve").with_version(version).build();
        Ok(Spans {
            processor,
            scope,
            share,
        })
    }

    /// The caller's decision stands; of traces that begin here a share is sent, by their ids.
    fn is_sent(&self, trace: &Trace) -> bool {
        match trace.parent {
            Some(_) => trace.sampled,
            None => ((trace.trace as u64 >> 11) as f64) < self.share * (1u64 << 53) as f64,
        }
    }

    /// Tells of a request that was just answered.
    pub fn tell(&self, told: Told<'_>) {
        if !self.is_sent(told.trace) {
            return;
        }
        let end = SystemTime::now();
        let id = SpanId::from((fresh() as u64).max(1));
        let trace = TraceId::from(told.trace.trace);
        let status = match told.status {
            500.. => Status::error(""),
            _ => Status::Unset,
        };
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: told.trace.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: told.trace.parent.is_some(),
            span_kind: SpanKind::Server,
            name: format!("{} {}", told.method, told.route).into(),
            start_time: end.checked_sub(told.took).unwrap_or(end),
            end_time: end,
            attributes: vec![
                KeyValue::new("http.request.method", told.method.to_string()),
                KeyValue::new("http.response.status_code", i64::from(told.status)),
                KeyValue::new("oo.route", told.route),
            ],
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Sends what waits, as far as the collector answers in time.
    pub fn close(&self) {
        if let Err(e) = self.processor.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(error = %e, "the last spans were not sent");
        }
    }
}

/// Blocks, on the thread of the batches.
#[derive(Debug)]
struct Sender(ureq::Agent);

impl Sender {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.0.run(request.map(|body| body.to_vec()))?;
        let (parts, mut body) = response.into_parts();
        let body = body.with_config().limit(ANSWER).read_to_vec()?;
        Ok(Response::from_parts(parts, body.into()))
    }
}

impl HttpClient for Sender {
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(ready(self.send(request)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_shares_are_checked() {
        for bad in ["", "collector:4317", "grpc://collector", "http://", "http:///v1"] {
            assert!(Spans::new(bad, 1.0).is_err(), "{bad}");
        }
        assert!(Spans::new("http://127.0.0.1:1", 1.5).is_err());
        let spans = Spans::new("http://127.0.0.1:1/elsewhere", 0.25).unwrap();
        // The caller's word stands; else a quarter of all: 4,000 draws, sd 0.007.
        let of = |header: &str| spans.is_sent(&Trace::of(Some(header.as_bytes())));
        assert!(of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(!of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"));
        let sent = (0..4000).filter(|_| spans.is_sent(&Trace::of(None))).count() as f64 / 4000.0;
        // Ids are salted by the process: off by 0.05, 7 sd, once in 10¹¹ runs.
        assert!((sent - 0.25).abs() < 0.05, "{sent}");
    }
}
