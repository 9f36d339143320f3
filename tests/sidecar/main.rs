//! The real binary over real sockets, against the local tenant.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod acquire;
mod admission;
mod certificates;
mod clouds;
mod concurrency;
mod credentials;
mod credentials_in_order;
mod credentials_renewed;
#[cfg(feature = "jwe")]
mod decryption;
mod downstream;
mod lifecycle;
mod managed_identity;
mod service_fabric;
mod support;
mod validate;
