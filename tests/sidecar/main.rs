//! The real binary over real sockets, against the local tenant.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod acquire;
mod admission;
mod agents;
mod answers;
mod authorities;
mod certificates;
mod challenges;
mod clouds;
mod concurrency;
mod credentials;
mod credentials_in_order;
mod credentials_renewed;
#[cfg(feature = "jwe")]
mod decryption;
mod deploy;
mod deploy_metrics;
mod downstream;
mod downstream_answers;
mod downstream_challenges;
mod downstream_network;
mod downstream_redirects;
mod downstream_requests;
mod forward_auth;
mod hostile_targets;
mod identity;
mod identity_endpoint;
mod isolation;
mod lifecycle;
mod live_upstream;
mod managed_identity;
mod notify;
mod oauth;
mod oneshot;
mod options;
mod outages;
mod page;
mod pass_through;
mod pass_through_streams;
mod pop;
mod program;
mod raw_upstream;
mod renewals;
mod secrecy;
mod service_fabric;
mod sessions;
#[cfg(feature = "shared-cache")]
mod shared_cache;
mod signed_requests;
mod soak;
mod support;
mod survival;
mod upstream_calls;
mod validate;
mod wire;
