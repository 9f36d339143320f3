//! A sidecar for Microsoft Entra ID: it validates inbound bearer tokens, acquires tokens and calls
//! downstream web APIs for the application that it stands beside.
//!
//! A request moves one way, and imports follow the arrows:
//!
//! ```text
//! http ──Request──▶ routes ──Overrides──▶ options ──Effective──▶ token ──AccessToken──▶ outbound ──▶ Reply
//!                     │                                           │ ▲
//!                     └─ jwt ◀── jwks                credentials ─┘ └─ cache
//! config feeds app only; app hands each module its own settings; clock, file, secret and value lie below all
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
