//! Counters and histograms in Prometheus text format 0.0.4. All labels come from closed sets, so no
//! caller can create a new series.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::http::Method;
use crate::outbound::{Exchange, OutError, OutRequest, OutResponse, Upstream};

/// Upper bounds of the buckets, in seconds.
const BUCKETS: [f64; 12] = [0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Statuses of answers. Any other counts as the last entry, 0.
#[rustfmt::skip]
const STATUSES: [u16; 34] = [
    200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 414, 416, 417,
    424, 429, 431, 500, 501, 502, 503, 504, 505, 0,
];

const METHODS: [Method; 7] =
    [Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Other];

const KINDS: [(Upstream, &str); 6] = [
    (Upstream::Token, "token"),
    (Upstream::Metadata, "metadata"),
    (Upstream::ManagedIdentity, "managed_identity"),
    (Upstream::KeyVault, "key_vault"),
    (Upstream::Downstream, "downstream"),
    (Upstream::Proxy, "proxy"),
];

const OUTCOMES: [&str; 8] = ["2xx", "3xx", "4xx", "5xx", "connect_error", "timeout", "broken", "cancelled"];
const DIRECTIONS: [&str; 2] = ["request", "response"];

#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        add(&self.buckets[bucket]);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum of durations that is shown in seconds")]
    fn render(&self, name: &str, label: &str, text: &mut String) {
        let (prefix, mut total) = (prefix(name), 0);
        let (first, whole) = if label.is_empty() {
            (String::new(), String::new())
        } else {
            (format!("{label},"), format!("{{{label}}}"))
        };
        for (at, count) in self.buckets.iter().enumerate() {
            total += get(count);
            let bound = BUCKETS.get(at).map_or("+Inf".to_owned(), f64::to_string);
            let _ = writeln!(text, "{prefix}{name}_bucket{{{first}le=\"{bound}\"}} {total}");
        }
        let _ = writeln!(text, "{prefix}{name}_sum{whole} {}", get(&self.nanoseconds) as f64 / 1e9);
        let _ = writeln!(text, "{prefix}{name}_count{whole} {total}");
    }

    /// As a family of its own.
    #[cfg(feature = "shared-cache")]
    pub fn family(&self, name: &str, help: &str, text: &mut String) {
        family(text, name, "histogram", help, NO_SERIES);
        self.render(name, "", text);
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Counters that are kept here rather than where the event occurs.
#[derive(Debug)]
pub struct Metrics {
    /// Endpoint × method × status. The last endpoint stands for unknown paths.
    requests: Vec<AtomicU64>,
    request_seconds: Vec<Histogram>,
    endpoints: Vec<&'static str>,
    upstream: [[AtomicU64; OUTCOMES.len()]; KINDS.len()],
    upstream_seconds: [Histogram; KINDS.len()],
    validations: Vec<(&'static str, AtomicU64)>,
    open_streams: AtomicU64,
    forwarded: [AtomicU64; DIRECTIONS.len()],
}

#[derive(Debug)]
pub struct OpenStream(Arc<Metrics>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// With a complete answer of this status.
    Whole(u16),
    Failed(&'a OutError),
    Cancelled,
}

impl Metrics {
    /// `endpoints` and `validations` are the closed sets of labels.
    pub fn new(endpoints: &[&'static str], validations: &[&'static str]) -> Self {
        let mut endpoints = endpoints.to_vec();
        endpoints.push("unknown");
        let series = endpoints.len() * METHODS.len() * STATUSES.len();
        Self {
            requests: (0..series).map(|_| AtomicU64::default()).collect(),
            request_seconds: endpoints.iter().map(|_| Histogram::default()).collect(),
            endpoints,
            upstream: Default::default(),
            upstream_seconds: Default::default(),
            open_streams: AtomicU64::default(),
            forwarded: Default::default(),
            validations: validations.iter().map(|outcome| (*outcome, AtomicU64::default())).collect(),
        }
    }

    /// Counts an answered request. `endpoint` is an index into the list given to `new`; `None` is
    /// an unknown path.
    pub fn request(&self, endpoint: Option<usize>, method: Method, status: u16, duration: Duration) {
        let unknown = self.endpoints.len() - 1;
        let endpoint = endpoint.unwrap_or(unknown).min(unknown);
        let method = METHODS.iter().position(|own| *own == method).unwrap_or(METHODS.len() - 1);
        let status = STATUSES.iter().position(|own| *own == status).unwrap_or(STATUSES.len() - 1);
        add(&self.requests[(endpoint * METHODS.len() + method) * STATUSES.len() + status]);
        self.request_seconds[endpoint].observe(duration);
    }

    pub fn validation(&self, outcome: &str) {
        if let Some((_, counter)) = self.validations.iter().find(|(own, _)| *own == outcome) {
            add(counter);
        }
    }

    pub fn open_stream(self: &Arc<Self>) -> OpenStream {
        add(&self.open_streams);
        OpenStream(Arc::clone(self))
    }

    /// Counts forwarded bytes of a request (0) or an answer (1).
    pub fn forwarded(&self, direction: usize, bytes: usize) {
        self.forwarded[direction].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn upstream(&self, kind: Upstream, ending: Ending<'_>, duration: Duration) {
        let kind = KINDS.iter().position(|(own, _)| *own == kind).unwrap_or(0);
        let outcome = match ending {
            Ending::Cancelled => 7,
            Ending::Whole(status) => usize::from(status / 100).clamp(2, 5) - 2,
            Ending::Failed(OutError::Connect(_) | OutError::Proxy { timed_out: false, .. } | OutError::NotPublic) => 4,
            Ending::Failed(OutError::Timeout(_) | OutError::Proxy { timed_out: true, .. }) => 5,
            Ending::Failed(
                OutError::Broken(_) | OutError::TooLarge(_) | OutError::NoMemory { .. } | OutError::Busy,
            ) => 6,
        };
        add(&self.upstream[kind][outcome]);
        self.upstream_seconds[kind].observe(duration);
    }

    /// Renders everything, followed by figures kept elsewhere.
    pub fn render(&self, others: &[Figure]) -> String {
        let mut text = String::with_capacity(16 * 1024);
        let out = &mut text;
        let answered = self.requests.iter().enumerate().filter(|(_, counter)| get(counter) > 0).map(|(at, counter)| {
            let (rest, status) = (at / STATUSES.len(), STATUSES[at % STATUSES.len()]);
            let (endpoint, method) = (self.endpoints[rest / METHODS.len()], METHODS[rest % METHODS.len()].as_str());
            let status = if status == 0 { "other".to_owned() } else { status.to_string() };
            (format!("endpoint=\"{endpoint}\",method=\"{method}\",status=\"{status}\""), get(counter))
        });
        family(out, "http_requests_total", "counter", "Answered requests.", answered);
        let name = "http_request_duration_seconds";
        family(out, name, "histogram", "From a request's first byte to its answer.", NO_SERIES);
        for (endpoint, histogram) in self.endpoints.iter().zip(&self.request_seconds) {
            histogram.render(name, &format!("endpoint=\"{endpoint}\""), out);
        }
        let called = KINDS.iter().zip(&self.upstream).flat_map(|((_, kind), outcomes)| {
            let labels = move |outcome| format!("kind=\"{kind}\",outcome=\"{outcome}\"");
            OUTCOMES.iter().zip(outcomes).map(move |(outcome, counter)| (labels(outcome), get(counter)))
        });
        family(out, "upstream_requests_total", "counter", "Requests to upstreams.", called);
        let name = "upstream_request_duration_seconds";
        family(out, name, "histogram", "Of requests to upstreams.", NO_SERIES);
        for ((_, kind), histogram) in KINDS.iter().zip(&self.upstream_seconds) {
            histogram.render(name, &format!("kind=\"{kind}\""), out);
        }
        let judged = self.validations.iter().map(|(name, counter)| (format!("outcome=\"{name}\""), get(counter)));
        family(out, "token_validations_total", "counter", "Validations of inbound tokens by their outcome.", judged);
        let open = [(String::new(), get(&self.open_streams))];
        family(out, "proxy_streams", "gauge", "Proxied requests in progress.", open);
        let bytes = DIRECTIONS.iter().zip(&self.forwarded);
        let bytes = bytes.map(|(direction, counter)| (format!("direction=\"{direction}\""), get(counter)));
        family(out, "proxy_bytes_total", "counter", "Forwarded bytes of heads and bodies, by direction.", bytes);
        for Figure { name, kind, help, values } in others {
            family(out, name, kind, help, values.iter().cloned());
        }
        text
    }
}

const NO_SERIES: [(String, u64); 0] = [];

/// A family's head and its series, each with a label set, which may be empty.
fn family(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    series: impl IntoIterator<Item = (String, impl Display)>,
) {
    let prefix = prefix(name);
    let _ = writeln!(text, "# HELP {prefix}{name} {help}\n# TYPE {prefix}{name} {kind}");
    for (labels, value) in series {
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(text, "{prefix}{name}{labels} {value}");
    }
}

/// Figures of any process have their usual names.
fn prefix(name: &str) -> &'static str {
    if name.starts_with("process_") { "" } else { "entra_sidecar_" }
}

/// A figure kept elsewhere.
#[derive(Debug)]
pub struct Figure {
    /// Without the prefix `entra_sidecar_`; `process_*` names get none.
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    /// Label sets (`name="value"`, or empty) and values.
    pub values: Vec<(String, f64)>,
}

impl Figure {
    pub fn plain(name: &'static str, kind: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, kind, help, values: vec![(String::new(), value)] }
    }
}

/// The process's own figures, as far as `/proc` has them (proc(5)).
pub fn process() -> Vec<Figure> {
    let mut figures = Vec::new();
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    if let Some(pages) = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()) {
        #[expect(clippy::cast_precision_loss, reason = "a page size is small")]
        let bytes = pages * rustix::param::page_size() as f64;
        figures.push(Figure::plain("process_resident_memory_bytes", "gauge", "Resident memory.", bytes));
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        #[expect(clippy::cast_precision_loss, reason = "descriptors are few")]
        let count = descriptors.count() as f64;
        figures.push(Figure::plain("process_open_fds", "gauge", "Open file descriptors.", count));
    }
    figures
}

/// An [`Exchange`] that counts its requests.
pub struct Measured {
    pub inner: Arc<dyn Exchange>,
    pub metrics: Arc<Metrics>,
}

impl Exchange for Measured {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        let (kind, start) = (request.upstream, Instant::now());
        let outcome = self.inner.send(request);
        let ending = outcome.as_ref().map_or_else(Ending::Failed, |response| Ending::Whole(response.status));
        self.metrics.upstream(kind, ending, start.elapsed());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_appear_with_their_labels_and_buckets_add_up() {
        let metrics = Metrics::new(&["/Validate"], &["valid", "expired"]);
        metrics.request(Some(0), Method::Get, 200, Duration::from_millis(2));
        metrics.request(None, Method::Other, 299, Duration::from_mins(1));
        metrics.validation("expired");
        metrics.validation("of no known kind");
        let figure = Figure { name: "x", kind: "gauge", help: "X.", values: vec![("a=\"b\"".into(), 1.5)] };
        let text = metrics.render(&[figure]);
        for line in [
            r#"entra_sidecar_http_requests_total{endpoint="/Validate",method="GET",status="200"} 1"#,
            r#"entra_sidecar_http_requests_total{endpoint="unknown",method="OTHER",status="other"} 1"#,
            r#"entra_sidecar_http_request_duration_seconds_bucket{endpoint="/Validate",le="0.001"} 0"#,
            r#"entra_sidecar_http_request_duration_seconds_bucket{endpoint="/Validate",le="0.0025"} 1"#,
            r#"entra_sidecar_http_request_duration_seconds_bucket{endpoint="/Validate",le="+Inf"} 1"#,
            r#"entra_sidecar_http_request_duration_seconds_sum{endpoint="unknown"} 60"#,
            r#"entra_sidecar_token_validations_total{outcome="valid"} 0"#,
            r#"entra_sidecar_token_validations_total{outcome="expired"} 1"#,
            r#"entra_sidecar_x{a="b"} 1.5"#,
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
    }
}
