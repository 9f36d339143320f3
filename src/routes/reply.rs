//! Successful answers, which must not be cached.

use crate::http::{Caching, Reply};

/// An answer with status 200 that no cache may keep.
pub fn uncached(content_type: &'static str, body: Vec<u8>) -> Reply {
    Reply::new(200).with_body(content_type, body).caching(Caching::Never)
}

pub const JSON: &str = "application/json; charset=utf-8";

pub fn json(body: Vec<u8>) -> Reply {
    uncached(JSON, body)
}
