//! The front door: a fixed pool of workers on one shared epoll. It knows HTTP/1.1 and no route.

pub mod chunked;
pub mod date;
pub mod head;
pub mod intake;
pub mod limits;
pub mod message;
pub mod refusal;
pub mod reply;
pub mod scan;

pub use limits::Limits;
pub use message::{Headers, Method, Peer, Reply, Request};
pub use refusal::Refusal;
pub use reply::phrase;

/// The defaults of contract section 9, for tests.
#[cfg(test)]
pub(crate) fn test_limits() -> Limits {
    use std::time::Duration;
    Limits {
        workers: 4,
        connections: 4096,
        head_bytes: 32 * 1024,
        headers: 100,
        head_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(120),
        body_bytes: 30 * 1024 * 1024,
        shutdown_timeout: Duration::from_secs(30),
    }
}
