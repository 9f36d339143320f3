//! A sidecar for Microsoft Entra ID: it validates inbound bearer tokens, acquires tokens and calls
//! downstream web APIs for the application that it stands beside.
//!
//! A request moves one way, and imports follow the arrows:
//!
//! ```text
//! http ──Request──▶ routes ──Overrides──▶ options ──Effective──▶ token ──AccessToken──▶ outbound ──▶ Reply
//!                     │                                           │ ▲
//!                     └─ jwt ◀── jwks                credentials ─┘ └─ cache
//! config feeds app only; app hands each module its own settings; clock, secret and url lie below all
//! ```

pub mod clock;
pub mod config;
pub mod http;
pub mod jwks;
pub mod jwt;
pub mod outbound;
pub mod secret;
pub mod url;
