//! `/healthz`, `/metrics` and `/openapi/v1.json`.

use std::fmt::Write;
use std::time::Instant;

use super::call::Call;
use super::reply;
use crate::http::{Caching, Reply};
use crate::metrics::{Figure, process};
use crate::openapi;

/// `200 Healthy`, or `503 Unhealthy` with a line for each failed check. No check uses the network:
/// restarting this process, and losing its cache, does not help an upstream that is down.
pub fn health(call: &Call<'_>) -> Reply {
    let now = call.shared.clock.unix();
    let mut text = String::new();
    if call.shared.monitor.draining() {
        text.push_str("\nshutting down");
    }
    for client in call.service.clients().filter(|client| !client.credentials.is_usable(now)) {
        let _ = write!(text, "\nno usable credential in {}", client.registration.section);
    }
    if text.is_empty() {
        let mut body = Reply::buffer();
        body.extend_from_slice(b"Healthy");
        return reply::uncached("text/plain", body);
    }
    Reply::new(503).with_body("text/plain", format!("Unhealthy{text}\n").into_bytes()).caching(Caching::NoStore)
}

/// The text format of Prometheus.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub fn metrics(call: &Call<'_>, started: Instant) -> Reply {
    let shared = call.shared;
    let (cache, stats, results) = (shared.acquirer.figures(), shared.monitor.stats(), &shared.acquirer.results);
    let (calls, waiting) = shared.budget.turns.figures();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed) as f64;
    let labelled = |name, kind, help, label: &str, values: &[(&str, f64)]| {
        let values = values.iter().map(|(name, value)| (format!("{label}=\"{name}\""), *value)).collect();
        Figure { name, kind, help, values }
    };
    let (hit, miss) = (count(&results.hit), count(&results.miss));
    let (joined, refreshed) = (count(&results.shared), count(&results.refreshed));
    let (busy, idle) = (stats.workers_busy as f64, stats.workers_idle as f64);
    let connections = [
        ("idle", stats.idle as f64),
        ("reading", stats.reading as f64),
        ("handling", stats.handling as f64),
        ("parked", stats.parked as f64),
        ("writing", stats.writing as f64),
    ];
    #[rustfmt::skip] // A row is a line.
    let mut figures = vec![
        labelled("token_cache_requests_total", "counter", "Lookups in the token cache by result.", "result", &[("hit", hit), ("miss", miss), ("shared", joined), ("refreshed", refreshed)]),
        Figure::plain("token_cache_entries", "gauge", "Tokens in the cache.", cache.entries as f64),
        Figure::plain("token_cache_bytes", "gauge", "Bytes of the tokens in the cache.", cache.bytes as f64),
        Figure::plain("token_cache_evictions_total", "counter", "Tokens evicted from the cache.", cache.evicted as f64),
        labelled("workers", "gauge", "Worker threads.", "state", &[("busy", busy), ("idle", idle)]),
        labelled("upstream_calls", "gauge", "Calls to upstreams in progress, and requests waiting for a turn.", "state", &[("active", calls as f64), ("waiting", waiting as f64)]),
        Figure::plain("body_memory_bytes", "gauge", "Bytes of bodies in memory.", shared.budget.memory.used() as f64),
        labelled("connections", "gauge", "Open connections.", "state", &connections),
        Figure::plain("panics_total", "counter", "Requests that ended in a panic.", stats.panics as f64),
        labelled("build_info", "gauge", "The running version.", "version", &[(env!("CARGO_PKG_VERSION"), 1.0)]),
    ];
    let age = call.service.keys.age_seconds().map(|age| age as f64);
    let help = "Seconds since signing keys were fetched.";
    figures.extend(age.map(|age| Figure::plain("jwks_age_seconds", "gauge", help, age)));
    figures.push(expiries(call));
    #[cfg(feature = "shared-cache")]
    if let Some(shared) = shared.acquirer.shared_figures() {
        let values = [("hit", count(&shared.hit)), ("miss", count(&shared.miss)), ("error", count(&shared.error))];
        let help = "Lookups in the shared cache by result.";
        figures.push(labelled("shared_cache_requests_total", "counter", help, "result", &values));
    }
    let start = call.shared.clock.unix() as f64 - started.elapsed().as_secs_f64();
    figures.push(Figure::plain("process_start_time_seconds", "gauge", "When the process started.", start));
    figures.extend(process());
    #[cfg_attr(not(feature = "shared-cache"), expect(unused_mut, reason = "that feature adds to it"))]
    let mut text = shared.metrics.render(&figures);
    #[cfg(feature = "shared-cache")]
    if let Some(shared) = shared.acquirer.shared_figures() {
        let help = "Of lookups in the shared cache.";
        shared.seconds.family("shared_cache_request_duration_seconds", help, &mut text);
    }
    reply::uncached("text/plain; version=0.0.4; charset=utf-8", text.into_bytes())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn expiries(call: &Call<'_>) -> Figure {
    let now = call.shared.clock.unix();
    let mut values = Vec::new();
    for client in call.service.clients() {
        for inspection in client.credentials.inspect(now) {
            if let Some(expiry) = inspection.expires_at {
                let section = &client.registration.section;
                let label = format!("credential=\"{section}:ClientCredentials:{}\"", inspection.index);
                values.push((label, expiry as f64));
            }
        }
    }
    Figure { name: "certificate_expiry_timestamp_seconds", kind: "gauge", help: "When a certificate expires.", values }
}

pub fn openapi() -> Reply {
    reply::json(openapi::document().into_bytes())
}
