//! What one request asks for: the configured options of the API with the caller's overrides on top.
//!
//! [`Overrides`] is what the query says, [`Effective`] what remains after the merge, [`Flow`] how the token
//! is acquired and [`Target`] where it may be sent. All of it is pure; nothing here reads a clock, a file or a socket.

pub mod agent;
pub mod error;
pub mod flow;
pub mod merge;
pub mod method;
pub mod query;
pub mod target;

pub use agent::{Agent, AgentUser};
pub use error::Invalid;
pub use flow::{Flow, Inbound, SessionKey};
pub use merge::Effective;
pub use method::{downstream_content_type, downstream_method, sends_body};
pub use query::{Overrides, decode, parameters};
pub use target::Target;
