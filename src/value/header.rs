//! Header syntax, and the fields that must not be forwarded or set by callers.

/// `tchar` (RFC 9110 §5.6.2).
pub const fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Accepts what others may send in a field value, including bytes beyond ASCII (RFC 9110 §5.5).
pub const fn is_value_char(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

/// True for a `token`: a field name, method or scheme (RFC 9110 §5.6.2).
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_char)
}

/// True for a field value that the program may send: visible ASCII with spaces and tabs inside (RFC
/// 9110 §5.5). Rejects everything that could end the field.
pub fn is_value(text: &str) -> bool {
    text.is_ascii() && text.bytes().all(is_value_char) && text.trim_matches([' ', '\t']).len() == text.len()
}

/// Whether a name, in any case, is one of these.
fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Whether a name begins, in any case, with one of these.
fn begins_with(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix)))
}

/// True for fields of one connection rather than of the message, named in any case (RFC 9110 §7.6.1).
pub fn is_hop_by_hop(name: &str) -> bool {
    is_one_of(name, HOP_BY_HOP) || begins_with(name, &["proxy-"])
}

const HOP_BY_HOP: &[&str] = &["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// Whether `Connection`, whose values these are, names a field, which then belongs to the connection too (RFC 9110 §7.6.1).
pub fn is_named_by<'a>(mut connection: impl Iterator<Item = &'a [u8]>, name: &str) -> bool {
    let is_name = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
    connection.any(|value| value.split(|byte| *byte == b',').any(is_name))
}

/// The field that marks the sidecar's own refusals. An API's answers never carry it.
pub fn is_refusal_mark(name: &str) -> bool {
    begins_with(name, &["x-sidecar-error"])
}

/// Whether an answer may not have further fields of this name, in any case: those that frame it or belong to the connection,
/// those that every answer has, and the host that a proxy would be led to.
pub fn is_fixed_in_answers(name: &str) -> bool {
    is_hop_by_hop(name) || describes_body(name) || is_one_of(name, FIXED)
}

/// The sidecar never sends `server`, so no claim may become one.
const FIXED: &[&str] = &[
    "content-length", "date", "cache-control", "pragma", "expires", "host", "server", "x-content-type-options",
    "x-ms-client-request-id",
];

/// True for fields that describe the body: its coding, type, range and digests (RFC 9110 §8.3 to
/// §8.5 and §14.4, RFC 6266, RFC 9530 and its predecessors). They are sent wherever the body is
/// sent. `name` may have any case.
pub fn describes_body(name: &str) -> bool {
    is_one_of(name, OF_BODY)
}

const OF_BODY: &[&str] = &[
    "content-type", "content-encoding", "content-language", "content-disposition", "content-range", "content-md5",
    "digest", "content-digest", "repr-digest",
];

/// Fields that carry a caller's own credentials. A proxied request, which gets a token, goes without them unless the
/// operator keeps one.
pub const CREDENTIALS: &[&str] =
    &["Cookie", "api-key", "x-api-key", "Ocp-Apim-Subscription-Key", "x-functions-key", "x-ms-authorization-auxiliary"];

/// Further request fields that are not forwarded: they concern this connection or the proxies in front of the sidecar.
const NOT_FORWARDED: &[&str] = &["host", "authorization", "expect", "forwarded", "via", "x-real-ip", "content-length"];
/// Prefixes of such names.
const NOT_FORWARDED_PREFIXES: &[&str] = &["x-forwarded-", "x-sidecar-"];

/// Whether a proxied request forwards this field, named in any case. `kept` lists the [`CREDENTIALS`] that are forwarded.
pub fn is_forwarded(name: &str, kept: &[String]) -> bool {
    !is_hop_by_hop(name)
        && !is_one_of(name, NOT_FORWARDED)
        && !begins_with(name, NOT_FORWARDED_PREFIXES)
        && (!is_one_of(name, CREDENTIALS) || kept.iter().any(|own| own.eq_ignore_ascii_case(name)))
}

/// Further reserved names; docs/endpoints.md has the reason for each.
const OWN: &[&str] = &[
    "authorization", "host", "content-length", "accept-encoding", "expect", "cookie", "forwarded", "http2-settings",
    "x-original-url",
];

const OWN_PREFIXES: &[&str] = &["x-forwarded-", "x-ms-client-principal", "x-ms-token-", "sec-"];

/// True for fields that neither callers nor operators may set, since they carry the token, frame
/// the message, name the host, or are how proxies and gateways vouch for a caller. `name` may have
/// any case.
pub fn is_reserved(name: &str) -> bool {
    is_hop_by_hop(name) || is_one_of(name, OWN) || begins_with(name, OWN_PREFIXES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_the_rfc_lists() {
        for token in ["X-Custom", "x", "PATCH", "!#$%&'*+-.^_`|~09azAZ"] {
            assert!(is_token(token), "{token:?}");
        }
        for text in ["", "X Custom", "X:", "X\r\n", "X\0", "(x)", "\u{e9}", "a/b", "\"a\"", "a,b", "a@b", "a=b"] {
            assert!(!is_token(text), "{text:?}");
        }
    }

    #[test]
    fn a_value_ends_no_field() {
        for value in ["", "a", "a b", "a\tb", "text/plain; charset=\"utf-8\""] {
            assert!(is_value(value), "{value:?}");
        }
        for value in ["a\r", "a\nb", "a\r\nX: y", "\0", "\u{7f}", "\u{e9}", " a", "a ", "\ta"] {
            assert!(!is_value(value), "{value:?}");
        }
    }

    #[test]
    fn the_page_lists_the_reserved_names() {
        let page = include_str!("../../docs/endpoints.md");
        let rest = page.split("### Custom headers that are refused").nth(1).unwrap();
        let section = rest.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `")).take_while(|line| !line.is_empty());
        let first: Vec<&str> = rows.filter_map(|row| row.split('|').nth(1)).collect();
        let listed: Vec<&str> = first.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        for name in &listed {
            assert!(is_reserved(&name.replace('*', "X")), "{name}");
        }
        for name in OWN.iter().chain(HOP_BY_HOP) {
            assert!(listed.iter().any(|own| own.eq_ignore_ascii_case(name)), "{name}");
        }
        for prefix in OWN_PREFIXES.iter().chain(&["proxy-"]) {
            assert!(listed.iter().any(|own| own.trim_end_matches('*').eq_ignore_ascii_case(prefix)), "{prefix}");
        }
    }

    #[test]
    fn reserved_names_are_known_in_any_case() {
        for name in [
            "Authorization", "HOST", "content-length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE",
            "Trailer", "Upgrade", "Proxy-Authorization", "Proxy-Anything", "Cookie", "X-Forwarded-For",
            "X-MS-CLIENT-PRINCIPAL", "x-ms-client-principal-id", "X-MS-TOKEN-AAD-ACCESS-TOKEN", "Sec-Fetch-Site",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["X-Custom", "Accept", "Content-Type", "Prefer", "If-Match", "x-ms-client-request-id", "Hostess"] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
