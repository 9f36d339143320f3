//! Limits on what callers can make the server spend. Limits of upstream calls are elsewhere.

use std::time::Duration;

/// Copied from `Sidecar:Limits` (docs/configuration.md).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Worker threads, which never block.
    pub workers: usize,
    /// Upper bound for threads that may block.
    pub blocking_threads: usize,
    /// How long a request may wait for turns and memory, in total.
    pub queue_timeout: Duration,
    pub connections: usize,
    /// Bytes of a request head, and of the trailer section of a chunked body.
    pub head_bytes: usize,
    pub headers: usize,
    /// From the first byte of a head to its end.
    pub head_timeout: Duration,
    /// Without progress of a body.
    pub body_timeout: Duration,
    /// Without progress of an answer.
    pub write_timeout: Duration,
    /// Between requests, and before the first one.
    pub idle_timeout: Duration,
    pub body_bytes: usize,
    /// For requests in flight at shutdown.
    pub shutdown_timeout: Duration,
}
