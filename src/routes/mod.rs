//! What the program answers: the ladder from a request to its reply.

pub mod admit;
mod correlation;
pub mod problem;
pub mod route;
