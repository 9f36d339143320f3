//! The real binary over real sockets, against the local tenant.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod acquire;
mod admission;
mod agents;
mod answers;
mod authorities;
mod challenges;
mod concurrency;
mod credentials;
mod downstream;
mod isolation;
mod lifecycle;
mod options;
mod outages;
mod pop;
mod renewals;
mod secrecy;
mod sessions;
mod signed_requests;
mod support;
mod validate;
mod wire;
