//! Counts and logs a request once it is over.

use std::time::Instant;

use super::route::Endpoint;
use crate::http::Method;
use crate::metrics::Metrics;

/// Counts and logs one request. `broken` is appended to the log line and says who broke the answer off; empty: nobody.
pub fn finish(
    metrics: &Metrics,
    method: Method,
    endpoint: Option<Endpoint>,
    status: u16,
    received: Instant,
    id: &str,
    broken: &str,
) {
    let duration = received.elapsed();
    let place = endpoint.and_then(|endpoint| Endpoint::ALL.iter().position(|own| *own == endpoint));
    metrics.request(place, method, status, duration);
    let level = if status < 400 && broken.is_empty() { log::Level::Info } else { log::Level::Warn };
    // Never the query, which may hold secrets.
    log::log!(
        target: "access",
        level,
        "{} {} {status} {:.3} ms {id}{broken}",
        method.as_str(),
        endpoint.map_or("unknown", Endpoint::pattern),
        duration.as_secs_f64() * 1e3,
    );
}
