//! What a single override may look like. Each check takes decoded text and says what was expected.

use serde_json::{Map, Value};

use crate::outbound::header;
use crate::url::Url;

/// What was expected instead, in words that follow "expected".
pub(super) type Expected = &'static str;

/// Longer than any method in the IANA registry by half.
const MAX_METHOD: usize = 32;
/// Well under what servers take for a whole head.
const MAX_HEADER_VALUE: usize = 8 * 1024;
/// A user principal name has at most 113 characters, a path or session key some hundred.
const MAX_TEXT: usize = 2 * 1024;
/// RFC 1035 §2.3.4.
const MAX_DOMAIN: usize = 253;

pub(super) fn boolean(text: &str) -> Result<bool, Expected> {
    match text.trim() {
        text if text.eq_ignore_ascii_case("true") => Ok(true),
        text if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("true or false"),
    }
}

/// The GUID in lower case with dashes; with or without dashes, braces or parentheses when given.
pub(super) fn guid(text: &str) -> Option<String> {
    let bare = match (text.as_bytes().first()?, text.as_bytes().last()?) {
        (b'{', b'}') | (b'(', b')') => &text[1..text.len() - 1],
        _ => text,
    };
    let dashed = bare.len() == 36;
    let digits: String = match dashed {
        true if [8, 13, 18, 23].iter().all(|at| bare.as_bytes()[*at] == b'-') => bare.split('-').collect(),
        false if bare.len() == 32 => bare.to_owned(),
        _ => return None,
    };
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let digits = digits.to_ascii_lowercase();
    Some([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

/// The method in upper case. `CONNECT` would open a tunnel and `TRACE` echoes the token (RFC 9110 §9.3.6, §9.3.8).
pub(super) fn method(text: &str) -> Result<String, Expected> {
    let method = text.to_ascii_uppercase();
    if !header::is_token(&method) || method.len() > MAX_METHOD {
        return Err("the name of an HTTP method");
    }
    if matches!(method.as_str(), "CONNECT" | "TRACE") {
        return Err("an HTTP method other than CONNECT and TRACE");
    }
    Ok(method)
}

pub(super) fn header_name(name: &str) -> Result<(), Expected> {
    if !header::is_token(name) {
        return Err("an HTTP header name after the dot");
    }
    if header::is_reserved(name) {
        return Err("a header that callers may set (this one is reserved)");
    }
    Ok(())
}

pub(super) fn header_value(text: &str) -> Result<(), Expected> {
    if header::is_value(text) && text.len() <= MAX_HEADER_VALUE {
        Ok(())
    } else {
        Err("a header value of at most 8 KiB of visible ASCII characters")
    }
}

/// `type/subtype` with or without parameters (RFC 9110 §8.3.1).
pub(super) fn media_type(text: &str) -> Result<(), Expected> {
    header_value(text)?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    match essence.split_once('/') {
        Some((kind, subtype)) if header::is_token(kind) && header::is_token(subtype) => Ok(()),
        _ => Err("a media type such as application/json"),
    }
}

/// A GUID or a domain name, or one of the words that stand for several tenants.
pub(super) fn tenant(text: &str) -> Result<(), Expected> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let word = ["common", "organizations", "consumers"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let domain = text.len() <= MAX_DOMAIN && text.contains('.') && text.split('.').all(label);
    let id = text.len() == 36 && guid(text).is_some();
    if word || domain || id { Ok(()) } else { Err("a tenant's GUID or domain name") }
}

/// One or several scopes (RFC 6749 §3.3): a scope holds no blank, so that a value with blanks is several.
pub(super) fn scopes(text: &str) -> Result<impl Iterator<Item = String>, Expected> {
    let allowed = |byte: u8| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~' | b' ');
    if !text.bytes().all(allowed) {
        return Err("a scope of visible ASCII characters");
    }
    Ok(text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned))
}

/// Text for a form field or a look-up: anything but control characters.
pub(super) fn plain(text: &str) -> Result<(), Expected> {
    if text.len() > MAX_TEXT || text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err("text of at most 2 KiB without control characters");
    }
    Ok(())
}

pub(super) fn base_url(text: &str) -> Result<Url, Expected> {
    let url = Url::parse(text)?;
    super::target::confined(&url.path)?;
    match url.query {
        None => Ok(url),
        Some(_) => Err("a URL without a query"),
    }
}

/// Whether the text is one JSON object without the members `refused`.
pub(super) fn json_object(text: &str, refused: &[&str]) -> Result<(), Expected> {
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|_| "a JSON object")?;
    if refused.iter().any(|name| object.contains_key(*name)) {
        return Err("a JSON object without the members at, ts, m, u, p, q, h, b and cnf");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_has_one_form_once_read() {
        let canonical = "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab";
        for text in [
            canonical,
            "5F0A5B1C-8A3E-4D0B-9B1E-0123456789AB",
            "5f0a5b1c8a3e4d0b9b1e0123456789ab",
            "{5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab}",
            "(5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab)",
        ] {
            assert_eq!(guid(text).as_deref(), Some(canonical), "{text}");
        }
        for text in [
            "",
            "{",
            "{}",
            "5f0a5b1c-8a3e-4d0b-9b1e-0123456789a",
            "5f0a5b1c-8a3e-4d0b-9b1e-0123456789abc",
            "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ag",
            "5f0a5b1c08a3e-4d0b-9b1e-0123456789ab",
            "5f0a5b1c-8a3e-4d0b-9b1e--123456789ab",
            "{5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab",
            "5f0a5b1c-8a3e-4d0b-9b1e-01234567\u{e9}ab",
        ] {
            assert_eq!(guid(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_tenant_is_a_guid_or_a_domain() {
        for text in ["contoso.onmicrosoft.com", "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab", "common", "Organizations"] {
            assert_eq!(tenant(text), Ok(()), "{text}");
        }
        let long = format!("{}.com", "a".repeat(250));
        for text in ["", "contoso", "a/b.com", "..", "a..b", ".a", "a.b?x", "a.b#", "a b.com", "-a.b", "a-.b", &long] {
            assert!(tenant(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn json_is_an_object_and_nothing_after_it() {
        for text in ["{}", " {\"a\":1} ", "{\"access_token\":{\"nbf\":{\"essential\":true}}}"] {
            assert_eq!(json_object(text, &[]), Ok(()), "{text}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(500), "]".repeat(500));
        for text in ["", "[]", "1", "\"a\"", "null", "{", "{}x", "{}{}", "{a:1}", "{\"a\":1,}", &deep] {
            assert_eq!(json_object(text, &[]), Err("a JSON object"), "{text}");
        }
        assert!(json_object("{\"cnf\":1}", &["cnf"]).is_err());
        assert!(json_object("{\"\\u0063nf\":1}", &["cnf"]).is_err());
    }

    #[test]
    fn methods_are_tokens_that_open_no_tunnel() {
        assert_eq!(method("patch").as_deref(), Ok("PATCH"));
        assert_eq!(method("M-SEARCH").as_deref(), Ok("M-SEARCH"));
        let (at, above) = ("A".repeat(MAX_METHOD), "A".repeat(MAX_METHOD + 1));
        assert!(method(&at).is_ok());
        for text in ["", "GET /", "GET\r\n", "Connect", "TRACE", "G\u{e9}T", &above] {
            assert!(method(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn header_values_have_a_length() {
        assert!(header_value(&"v".repeat(MAX_HEADER_VALUE)).is_ok());
        assert!(header_value(&"v".repeat(MAX_HEADER_VALUE + 1)).is_err());
    }
}
