//! The options of one request: those configured for the API, with the caller's overrides on top.
//!
//! [`Overrides`] is parsed from the query, [`Effective`] is the merged result, [`Flow`] is how the
//! token is acquired, and [`Target`] is where it may be sent. All of it is pure: no clock, file or
//! socket.

pub mod agent;
pub mod error;
pub mod flow;
pub mod merge;
pub mod method;
pub mod query;
pub mod target;

pub use agent::{Agent, AgentUser};
pub use error::OptionsError;
pub use flow::{Flow, Inbound, SessionKey};
pub use merge::Effective;
pub use method::{downstream_content_type, downstream_method, sends_body};
pub use query::{Overrides, decode, parameters};
pub use target::{ProxiedPath, Target};
