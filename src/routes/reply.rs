//! Successful answers: JSON that nobody may keep.

use crate::http::{Caching, Reply};
use crate::value::json;

/// A 200 that may not be kept, as none of them may (contract, section 3).
pub fn uncached(content_type: &'static str, body: Vec<u8>) -> Reply {
    Reply::new(200).with_body(content_type, body).caching(Caching::Never)
}

/// What every JSON document is sent as.
pub const JSON: &str = "application/json; charset=utf-8";

/// A JSON document.
pub fn json(body: Vec<u8>) -> Reply {
    uncached(JSON, body)
}

/// A JSON object of texts, in this order.
pub fn object(fields: &[(&str, &str)]) -> Reply {
    let mut body = Reply::buffer();
    for (index, (name, value)) in fields.iter().enumerate() {
        body.push(if index == 0 { b'{' } else { b',' });
        json::push_string(&mut body, name);
        body.push(b':');
        json::push_string(&mut body, value);
    }
    body.push(b'}');
    json(body)
}
