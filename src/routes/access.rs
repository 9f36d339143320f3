//! What is counted and logged of every request, once it is over.

use std::time::Instant;

use super::route::Endpoint;
use crate::http::Method;
use crate::metrics::Metrics;

/// A request that is over. `broken` says by whom its answer was cut off, where it was.
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
    // One line: never the query, which may hold what is nobody's business.
    log::log!(
        target: "access",
        level,
        "{} {} {status} {:.3} ms {id}{broken}",
        method.as_str(),
        endpoint.map_or("unknown", Endpoint::pattern),
        duration.as_secs_f64() * 1e3,
    );
}
