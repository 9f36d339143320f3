//! What the front door spends on its callers at most: contract section 9, without what others spend.

use std::time::Duration;

/// The budget of the front door.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Worker threads, which never block.
    pub workers: usize,
    /// Threads for what may block, at most.
    pub blocking_threads: usize,
    /// How long a request may wait for turns and for memory, all together.
    pub queue_timeout: Duration,
    /// Open connections.
    pub connections: usize,
    /// Bytes of a request head, and of the trailer section of a chunked body.
    pub head_bytes: usize,
    /// Fields of a request head.
    pub headers: usize,
    /// For a whole head, from its first byte.
    pub head_timeout: Duration,
    /// Without progress of a body.
    pub body_timeout: Duration,
    /// Without progress of an answer.
    pub write_timeout: Duration,
    /// Between requests, and before the first one.
    pub idle_timeout: Duration,
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// For requests in flight at the end.
    pub shutdown_timeout: Duration,
}
