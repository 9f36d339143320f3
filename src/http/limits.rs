//! Limits on what callers can make the server spend. Limits of upstream calls are elsewhere.

use std::time::Duration;

use crate::value::chunked::Bounds;

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

impl Limits {
    /// How soon to try again to send. The kernel reports room only once a third of its buffer is free, so smaller progress
    /// has to be found by trying.
    pub fn send_again(&self) -> Duration {
        self.write_timeout / 8
    }

    /// Of a body that is held in memory.
    pub(super) const fn bounds(&self) -> Bounds {
        Bounds { body: self.body_bytes, ..self.streamed_bounds() }
    }

    /// Of a streamed body, which may have any size.
    pub(super) const fn streamed_bounds(&self) -> Bounds {
        Bounds { body: usize::MAX, trailers: self.head_bytes }
    }
}
