//! A sidecar for Microsoft Entra ID: it validates inbound bearer tokens, acquires tokens and calls
//! downstream web APIs for the application that it stands beside.
//!
//! A request moves one way:
//!
//! ```text
//! http ──Request──▶ routes ──Overrides──▶ options ──Effective──▶ token ──AccessToken──▶ outbound ──▶ Reply
//!                     │                                           │ ▲
//!                     └─ jwt ◀── jwks                credentials ─┘ └─ cache
//! ```
//!
//! Each module imports from those on the lines below its own, and `value` from `secret` alone. `tests/layering.rs` holds
//! this, and that no modules import in a circle:
//!
//! ```layers
//! cli
//! check oneshot
//! app
//! routes
//! token
//! jwt metrics
//! credentials jwks
//! healthcheck http log openapi options outbound shr
//! config
//! clock redaction watched
//! value
//! allocator descriptors file lru memory notify secret spelling turns
//! ```

pub mod allocator;
pub mod app;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod descriptors;
pub mod file;
pub mod healthcheck;
pub mod http;
pub mod jwks;
pub mod jwt;
pub mod log;
pub mod lru;
pub mod memory;
pub mod metrics;
pub mod notify;
pub mod oneshot;
pub mod openapi;
pub mod options;
pub mod outbound;
pub mod redaction;
pub mod routes;
pub mod secret;
pub mod shr;
pub mod spelling;
pub mod token;
pub mod turns;
pub mod value;
pub mod watched;
