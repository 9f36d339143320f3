//! Values as standards and this program's users write them: parsed, checked and written in one place each. Nothing here
//! imports anything of ours but `secret`.

pub mod bound_key;
pub mod date;
pub mod der;
pub mod guid;
pub mod header;
pub mod hex;
pub mod json;
pub mod jwk;
pub mod network;
pub mod pem;
pub mod percent;
pub mod quantity;
pub mod resource;
pub mod syntax;
pub mod text;
pub mod url;

/// What was expected instead, in words that follow "expected".
pub type Expected = &'static str;
