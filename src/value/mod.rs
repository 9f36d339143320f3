//! Values as standards and users write them, each parsed, checked and formatted in one place. Apart
//! from `secret`, nothing here imports from the rest of the crate.

pub mod b64;
pub mod bound_key;
#[cfg(any(feature = "jwe", feature = "pfx"))]
pub mod cbc;
pub mod chunked;
pub mod date;
pub mod der;
pub mod guid;
pub mod hash;
pub mod header;
pub mod hex;
pub mod json;
pub mod jwk;
pub mod network;
pub mod pem;
pub mod percent;
pub mod quantity;
pub mod resource;
pub mod store_url;
pub mod syntax;
pub mod text;
pub mod url;
pub mod wide;

/// What was expected instead; reads on from the word "expected".
pub type Expected = &'static str;

/// Fails with what was expected unless it holds.
pub const fn ensure(holds: bool, expected: Expected) -> Result<(), Expected> {
    if holds { Ok(()) } else { Err(expected) }
}
