//! Successful answers, which must not be cached.

use crate::http::{Caching, Reply};
use crate::value::json;

/// An answer with status 200 that no cache may keep.
pub fn uncached(content_type: &'static str, body: Vec<u8>) -> Reply {
    Reply::new(200).with_body(content_type, body).caching(Caching::Never)
}

pub const JSON: &str = "application/json; charset=utf-8";

pub fn json(body: Vec<u8>) -> Reply {
    uncached(JSON, body)
}

/// A JSON object of texts, in this order. Names are written as they are.
pub fn object(fields: &[(&'static str, &str)]) -> Reply {
    let mut body = Reply::buffer();
    for (index, (name, value)) in fields.iter().enumerate() {
        body.extend_from_slice(if index == 0 { br#"{""# } else { br#",""# });
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(br#"":"#);
        json::push_string(&mut body, value);
    }
    body.push(b'}');
    json(body)
}
