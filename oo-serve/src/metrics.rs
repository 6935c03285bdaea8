//! Counters in the text format of Prometheus: rate, errors and duration of every route, and what the process uses.
//!
//! A request adds to three relaxed atomics and takes no lock.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the duration buckets, in microseconds.
const BUCKETS: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
];

/// Classes of answers.
const CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "429", "5xx"];

/// How long things took.
#[derive(Debug, Default)]
pub struct Times {
    /// The last is +Inf.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Times {
    /// Counts one.
    pub fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|end| *end < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Appends the samples of a histogram; none where nothing was counted.
    fn write(&self, out: &mut Text, name: &str, labels: &[(&str, &str)]) {
        let counts = self.buckets.each_ref().map(|b| b.load(Ordering::Relaxed));
        if counts.iter().all(|c| *c == 0) {
            return;
        }
        let ends = BUCKETS.iter().map(|b| (*b as f64 / 1e6).to_string());
        let mut sum = 0;
        for (end, n) in ends.chain(["+Inf".into()]).zip(counts) {
            sum += n;
            let labels: Vec<_> = labels.iter().copied().chain([("le", end.as_str())]).collect();
            out.sample(&format!("{name}_bucket"), &labels, sum as f64);
        }
        let seconds = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        out.sample(&format!("{name}_sum"), labels, seconds);
        out.sample(&format!("{name}_count"), labels, sum as f64);
    }
}

/// What is counted of one route.
#[derive(Debug, Default)]
pub struct RouteCounts {
    classes: [AtomicU64; CLASSES.len()],
    times: Times,
}

impl RouteCounts {
    /// Counts one answer.
    pub fn count(&self, status: u16, took: Duration) {
        let class = match status {
            429 => 3,
            200..=299 => 0,
            300..=399 => 1,
            400..=499 => 2,
            _ => 4,
        };
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.times.count(took);
    }
}

/// Everything that is counted outside the engine.
#[derive(Debug)]
pub struct Metrics {
    names: &'static [&'static str],
    routes: Vec<RouteCounts>,
    /// Open connections.
    pub connections: AtomicU64,
    /// Requests being worked on.
    pub in_flight: AtomicU64,
    /// Connections turned away at the cap.
    pub refused: AtomicU64,
    /// Connections closed because a head or a body did not come in time.
    pub dawdled: AtomicU64,
    /// Requests refused at the limit on requests in flight, or on large bodies.
    pub shed: AtomicU64,
    /// What it took to refuse them.
    pub shed_times: Times,
    /// Handlers that panicked; each was answered with 500.
    pub panics: AtomicU64,
}

impl Metrics {
    /// For routes of these names.
    pub fn new(names: &'static [&'static str]) -> Self {
        Metrics {
            names,
            routes: names.iter().map(|_| RouteCounts::default()).collect(),
            connections: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            refused: AtomicU64::default(),
            dawdled: AtomicU64::default(),
            shed: AtomicU64::default(),
            shed_times: Times::default(),
            panics: AtomicU64::default(),
        }
    }

    /// The counts of a route, by its position among the names.
    pub fn route(&self, i: usize) -> &RouteCounts {
        &self.routes[i]
    }

    /// Appends everything.
    pub fn write(&self, out: &mut Text) {
        out.family("oo_requests_total", "counter", "Answers by route and class of status.");
        for (name, route) in self.names.iter().zip(&self.routes) {
            for (class, count) in CLASSES.iter().zip(&route.classes) {
                let n = count.load(Ordering::Relaxed);
                if n > 0 {
                    out.sample("oo_requests_total", &[("route", name), ("class", class)], n as f64);
                }
            }
        }
        out.family(
            "oo_request_seconds",
            "histogram",
            "From the parsed head to the finished answer.",
        );
        for (name, route) in self.names.iter().zip(&self.routes) {
            route.times.write(out, "oo_request_seconds", &[("route", name)]);
        }
        let load = |a: &AtomicU64| a.load(Ordering::Relaxed) as f64;
        out.gauge("oo_connections", "Open connections.", load(&self.connections));
        out.gauge(
            "oo_requests_in_flight",
            "Requests being worked on.",
            load(&self.in_flight),
        );
        let refused = "Connections turned away at the cap.";
        out.counter("oo_connections_refused_total", refused, load(&self.refused));
        let dawdled = "Connections closed because a head or a body did not come in time.";
        out.counter("oo_connections_dawdled_total", dawdled, load(&self.dawdled));
        let shed = "Requests refused with 429 at the limit on requests in flight, or on large bodies that are read.";
        out.counter("oo_requests_shed_total", shed, load(&self.shed));
        out.family(
            "oo_shed_seconds",
            "histogram",
            "From the parsed head to the finished answer 429 of these.",
        );
        self.shed_times.write(out, "oo_shed_seconds", &[]);
        let panics = "Requests answered with 500 because a handler panicked.";
        out.counter("oo_panics_total", panics, load(&self.panics));
        if let Some((rss, files)) = process() {
            out.gauge("process_resident_memory_bytes", "Resident memory.", rss as f64);
            out.gauge("process_open_fds", "Open files.", files as f64);
        }
    }
}

/// Resident bytes and open files, where the system tells.
fn process() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    let files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some((kib * 1024, files))
}

/// The text format of Prometheus, version 0.0.4.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a family of samples.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (i, (key, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{key}=\"{value}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A family of one sample without labels that may fall.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// A family of one sample without labels that only rises.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_text_format() {
        let metrics = Metrics::new(&["recommend", "feedback"]);
        metrics.route(0).count(200, Duration::from_micros(60));
        metrics.route(0).count(429, Duration::from_secs(9));
        let mut text = Text::default();
        metrics.write(&mut text);
        text.sample("x", &[("name", "a\"b\\c\nd")], 1.5);
        let text = text.finish();
        for line in [
            "oo_requests_total{route=\"recommend\",class=\"429\"} 1",
            "oo_request_seconds_bucket{route=\"recommend\",le=\"0.00005\"} 0",
            "oo_request_seconds_bucket{route=\"recommend\",le=\"0.0001\"} 1",
            "oo_request_seconds_bucket{route=\"recommend\",le=\"5\"} 1",
            "oo_request_seconds_bucket{route=\"recommend\",le=\"+Inf\"} 2",
            "oo_request_seconds_count{route=\"recommend\"} 2",
            "x{name=\"a\\\"b\\\\c\\nd\"} 1.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
        }
    }
}
