//! OAuth endpoints, for tools with a setting for a token URL or an introspection URL.

mod form;
mod introspect;
mod token;

pub use introspect::introspect;
pub use token::token;
