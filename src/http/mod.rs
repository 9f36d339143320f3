//! The front door: a fixed pool of workers on one shared epoll. It knows HTTP/1.1 and no route.
//!
//! A connection is armed for one event, so exactly one worker owns a ready one. It reads what is there;
//! only a complete request is handled, on that worker, and an incomplete, idle or parked connection costs no thread.
//!
//! ```text
//! listen ─▶ gate ─▶ table ◀──▶ worker ──Request──▶ Handler
//!                     ▲          │ scan ▶ head ▶ chunked (intake)      ▲ Reply, Park
//!                     └─ poller ─┘ reply ◀──────────────────────────────┘
//! server starts all; the keeper watches the deadlines on the board, the crew and the end
//! ```

mod answer;
mod board;
pub mod chunked;
mod conn;
mod crew;
pub mod date;
mod gate;
mod handler;
pub mod head;
pub mod intake;
mod keeper;
mod limits;
mod listen;
pub mod message;
mod poller;
mod refusal;
pub mod reply;
pub mod scan;
mod server;
mod socket;
mod table;
mod worker;

pub use board::{Monitor, Stats};
pub use handler::{Handler, Outcome, Resumed, Waker};
pub use limits::Limits;
pub use listen::BindError;
pub use message::{Caching, Headers, Method, Peer, Reply, Request};
pub use refusal::Refusal;
pub use reply::phrase;
pub use server::{Running, Server};

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
        idle_timeout: Duration::from_mins(2),
        body_bytes: 30 * 1024 * 1024,
        shutdown_timeout: Duration::from_secs(30),
    }
}
