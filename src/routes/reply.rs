//! Successful answers: JSON that nobody may keep.

use crate::http::{Caching, Reply};

/// A 200 that may not be kept, as none of them may (contract, section 3).
pub fn uncached(content_type: &'static str, body: Vec<u8>) -> Reply {
    Reply::new(200).with_body(content_type, body).caching(Caching::Never)
}

/// A JSON document.
pub fn json(body: Vec<u8>) -> Reply {
    uncached("application/json; charset=utf-8", body)
}

/// Appends a JSON string.
pub fn push_string(body: &mut Vec<u8>, text: &str) {
    // Without a way out in the middle the compiler looks at many bytes at once, and tokens are long.
    let special = |byte: u8| u8::from(byte < b' ' || byte == b'"' || byte == b'\\');
    if text.bytes().fold(0, |any, byte| any | special(byte)) == 0 {
        body.push(b'"');
        body.extend_from_slice(text.as_bytes());
        body.push(b'"');
    } else {
        // Writing text into memory does not fail.
        let _ = serde_json::to_writer(body, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_where_they_have_to_be() {
        for text in ["", "Bearer abc.def", "a\"b\\c\n\u{1}\u{e9}"] {
            let mut body = Vec::new();
            push_string(&mut body, text);
            assert_eq!(serde_json::from_slice::<String>(&body).unwrap(), text);
        }
    }
}
