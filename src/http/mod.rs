//! The HTTP/1.1 server: workers that never block, on one shared epoll, and a pool of threads for
//! work that may block. It knows no routes.
//!
//! A connection belongs to one thread at a time. A worker reads what is there and lets the handler
//! judge the head, then the whole request. An incomplete, idle, parked or queued connection costs
//! no thread.
//!
//! ```text
//! listen ─▶ acceptor ─▶ table ◀──▶ worker ─▶ driver ──Request──▶ Handler
//!                         ▲          ▲          │ scan ▶ head (reader)    ▲ Reply, NeedsBody, Park, Call
//!                         └─ poller ─┘   sender ◀┘ ◀──────────────────────────────┘
//!              turns ─▶ pool ─▶ turn: requests that have their turn; caller: body and answer of those that stream
//! server starts all; the supervisor watches deadlines and carries out the shutdown
//! ```

mod acceptor;
mod arrival;
mod caller;
mod connection;
pub mod date;
mod driver;
mod handler;
pub mod head;
mod limits;
mod listen;
pub mod message;
mod poller;
mod pool;
pub mod reader;
pub mod reply;
mod request_error;
pub mod scan;
mod sender;
mod server;
mod slots;
mod socket;
mod supervisor;
mod table;
mod turn;
mod worker;

pub use acceptor::Budget;
pub use caller::{BodyRead, CallerStream};
pub use handler::{Advance, AnswerEnd, Cause, Handler, Outcome, PendingAnswer, Resumed, Waker};
pub use message::{Body, BodyStream, Caching, Headers, Method, Peer, Reply, Request, RequestRecord};
pub use reader::Keep;
pub use reply::phrase;
pub use request_error::RequestError;
pub use server::{Running, Server};
pub use slots::{Monitor, Stats};

#[cfg(test)]
pub(crate) fn test_limits() -> crate::config::Limits {
    use std::time::Duration;
    crate::config::Limits {
        workers: 4,
        queue_timeout: Duration::from_secs(5),
        connections: 4096,
        head_bytes: 32 * 1024,
        headers: 100,
        head_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_mins(2),
        body_bytes: 30 * 1024 * 1024,
        shutdown_timeout: Duration::from_secs(30),
        ..Default::default()
    }
}
