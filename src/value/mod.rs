//! Values as standards and this program's users write them: parsed, checked and written in one place each. Nothing here
//! imports anything of ours but `secret`.

pub mod date;
pub mod der;
pub mod guid;
pub mod header;
pub mod hex;
pub mod json;
pub mod percent;
pub mod syntax;
pub mod text;
pub mod url;

/// What was expected instead, in words that follow "expected".
pub type Expected = &'static str;
