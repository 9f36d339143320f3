//! Rules for values that operators configure and callers override: the same rule, and the same
//! message, for both. Each check takes decoded text.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use serde_json::{Map, Value};

use super::url::{Url, is_scheme, parse_port, split_port};
use super::{Expected, ensure, guid, header, percent};

/// Members of a signed HTTP request that the sidecar sets itself.
pub const SIGNED_MEMBERS: [&str; 9] = ["at", "ts", "m", "u", "p", "q", "h", "b", "cnf"];

/// Fields of token requests (RFC 6749 §4, RFC 7521 §4.2, RFC 8693 §2.1, and Entra's own). A URL
/// parameter of the same name would compete with the field that the sidecar sends.
const TOKEN_FIELDS: &[&str] = &[
    "actor_token", "actor_token_type", "assertion", "audience", "claims", "client_assertion", "client_assertion_type",
    "client_id", "client_info", "client_secret", "code", "code_verifier", "device_code", "fmi_path", "grant_type",
    "password", "redirect_uri", "refresh_token", "req_cnf", "requested_token_type", "requested_token_use", "resource",
    "scope", "subject_token", "subject_token_type", "token_type", "user_federated_identity_credential", "user_id",
    "username",
];

/// Well above the longest method in the IANA registry.
const MAX_METHOD: usize = 32;
/// Well under the usual server limit for all headers together.
const MAX_HEADER_VALUE: usize = 8 * 1024;
/// A user principal name has at most 113 characters; paths and session keys have a few hundred.
const MAX_TEXT: usize = 2 * 1024;
/// RFC 1035 §2.3.4.
const MAX_DOMAIN: usize = 253;
/// RFC 1035 §2.3.4.
const MAX_LABEL: usize = 63;

/// `true` or `false` in any case. Like .NET, rejects `1` and `yes`.
pub fn boolean(text: &str) -> Result<bool, Expected> {
    match text.trim() {
        text if text.eq_ignore_ascii_case("true") => Ok(true),
        text if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("true or false"),
    }
}

/// Returns the method in upper case. `CONNECT` would open a tunnel, and `TRACE` echoes the token
/// (RFC 9110 §9.3.6, §9.3.8).
pub fn method(text: &str) -> Result<String, Expected> {
    let method = text.to_ascii_uppercase();
    ensure(header::is_token(&method) && method.len() <= MAX_METHOD, "the name of an HTTP method")?;
    let is_refused = matches!(method.as_str(), "CONNECT" | "TRACE");
    ensure(!is_refused, "an HTTP method other than CONNECT and TRACE").map(|()| method)
}

pub fn header_name(name: &str) -> Result<(), Expected> {
    ensure(header::is_token(name), "an HTTP header name after the dot")?;
    ensure(!header::is_reserved(name), "a header that callers may set (this one is reserved)")
}

/// The name of a header that a configuration adds to answers.
pub fn answer_header(name: &str) -> Result<(), Expected> {
    let good = header::is_token(name) && !header::is_fixed_in_answers(&name.to_ascii_lowercase());
    ensure(good, "the name of an HTTP header that neither frames an answer nor is part of every one")
}

pub fn header_value(text: &str) -> Result<(), Expected> {
    let good = header::is_value(text) && text.len() <= MAX_HEADER_VALUE;
    ensure(good, "a header value of at most 8 KiB of visible ASCII characters")
}

/// `type/subtype`, with or without parameters (RFC 9110 §8.3.1).
pub fn media_type(text: &str) -> Result<(), Expected> {
    header_value(text)?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    let words = |(kind, subtype)| header::is_token(kind) && header::is_token(subtype);
    ensure(essence.split_once('/').is_some_and(words), "a media type such as application/json")
}

/// Normalizes a tenant: a GUID, a domain name, or a word for a class of tenants.
pub fn tenant(text: &str) -> Result<String, Expected> {
    if let Ok(guid) = guid::parse(text) {
        return Ok(guid);
    }
    let known = is_meta_tenant(text) || (text.contains('.') && is_domain(text));
    ensure(known, "a tenant's GUID or domain name, common, organizations or consumers")?;
    Ok(text.to_ascii_lowercase())
}

/// True for the words that stand for several tenants.
pub fn is_meta_tenant(text: &str) -> bool {
    ["common", "organizations", "consumers"].iter().any(|meta| text.eq_ignore_ascii_case(meta))
}

/// A DNS name (RFC 1123 §2.1). Also allows underscores, which container networks use.
pub fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= MAX_DOMAIN && text.split('.').all(label)
}

/// An entry of `AllowedHosts`: `*`, `*.example.com`, a name or an address. Returns it in lower case
/// without port, with brackets around an IPv6 address.
pub fn host(text: &str) -> Result<String, Expected> {
    let lower = text.to_ascii_lowercase();
    if let Ok(address) = lower.trim_start_matches('[').trim_end_matches(']').parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let (name, port) = split_port(&lower);
    let known = name == "*" || is_domain(name.strip_prefix("*.").unwrap_or(name));
    let good = known && port.is_none_or(|port| parse_port(port).is_some());
    ensure(good, "a host name, an address, *.domain or *").map(|()| name.to_owned())
}

/// A SHA-1 thumbprint, normalized to lower case without separators.
pub fn thumbprint(text: &str) -> Result<String, Expected> {
    // Windows' certificate dialog puts an invisible mark before the first digit.
    let hex: String = text.chars().filter(|c| !matches!(c, ' ' | ':' | '\u{200e}')).collect();
    let good = hex.len() == 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure(good, "a certificate thumbprint of 40 hexadecimal digits").map(|()| hex.to_ascii_lowercase())
}

pub fn alphanumeric(text: &str) -> Result<(), Expected> {
    ensure(text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "letters and digits")
}

pub fn level(text: &str) -> Result<log::LevelFilter, Expected> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "trace" | "0" => log::LevelFilter::Trace,
        "debug" | "1" => log::LevelFilter::Debug,
        "information" | "info" | "2" => log::LevelFilter::Info,
        "warning" | "warn" | "3" => log::LevelFilter::Warn,
        "error" | "4" | "critical" | "5" => log::LevelFilter::Error,
        "none" | "off" | "6" => log::LevelFilter::Off,
        _ => return Err("a level: Trace, Debug, Information, Warning, Error, Critical or None"),
    })
}

/// One or more scopes (RFC 6749 §3.3). A scope contains no space, so spaces separate several.
pub fn scopes(text: &str) -> Result<impl Iterator<Item = String>, Expected> {
    let allowed = |byte: u8| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~' | b' ');
    ensure(text.bytes().all(allowed), "a scope of visible ASCII characters")?;
    Ok(text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned))
}

/// Scopes that add to a token rather than name its resource (`OpenID` Connect Core §5.4, §11).
pub const OPENID_SCOPES: [&str; 3] = ["openid", "profile", "offline_access"];

pub fn is_openid_scope(scope: &str) -> bool {
    OPENID_SCOPES.iter().any(|own| own.eq_ignore_ascii_case(scope))
}

/// Text for a form field or a lookup, without control characters.
pub fn plain(text: &str) -> Result<(), Expected> {
    let good = text.len() <= MAX_TEXT && !text.trim().is_empty() && !text.chars().any(char::is_control);
    ensure(good, "text of at most 2 KiB without control characters")
}

/// A base URL whose path no server can read as a step up. It may have a query.
pub fn base_url(text: &str) -> Result<Url, Expected> {
    let url = Url::parse(text)?;
    confined(&url.path)?;
    Ok(url)
}

/// The name of an extra query parameter.
pub const fn parameter(name: &str) -> Result<(), Expected> {
    ensure(!name.is_empty(), "a parameter's name after the dot")
}

/// The same, for the token endpoint.
pub fn token_parameter(name: &str) -> Result<(), Expected> {
    let is_field = TOKEN_FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name.trim()));
    ensure(
        !is_field,
        "a parameter other than the fields of the token request (client_id, scope, grant_type and the like)",
    )
}

/// Checks that a `RelativePath`, which may have a query, stays below any base URL.
pub fn relative_path(text: &str) -> Result<(), Expected> {
    ensure(!text.contains('#'), "a path without a fragment")?;
    printable(text)?;
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    percent::decode(query).map_err(|_| "a query that is percent-encoded UTF-8")?;
    let scheme = has_scheme(path) || percent::decode(path).is_ok_and(|decoded| has_scheme(&decoded));
    ensure(!scheme, "a path without a scheme")?;
    confined(path)
}

fn printable(path: &str) -> Result<(), Expected> {
    ensure(!path.chars().any(char::is_control), "a path without control characters")?;
    ensure(!path.contains('\\'), "a path without backslashes")
}

/// Rejects segments that a server could read as a step up or sideways. The path is judged as
/// servers see it, after one percent-decoding: both `/` and `\` separate segments, and `;` starts a
/// segment's parameters (RFC 3986 §3.3).
pub fn confined(path: &str) -> Result<(), Expected> {
    let decoded = percent::decode(path).map_err(|_| "a path that is percent-encoded UTF-8")?;
    printable(&decoded)?;
    // One leading slash is the separator; an encoded one after it would make two.
    let below = path.strip_prefix('/').unwrap_or(path);
    let doubled = decoded.contains("//") || below.starts_with("%2f") || below.starts_with("%2F");
    ensure(!doubled, "a path without //")?;
    stays(decoded.split('/').map(|segment| segment.split(';').next().unwrap_or_default().trim()))
}

fn stays<'a>(mut segments: impl Iterator<Item = &'a str>) -> Result<(), Expected> {
    ensure(!segments.any(|segment| matches!(segment, "." | "..")), "a path without the segments . and ..")
}

/// Whether a path that is forwarded byte for byte stays below the base URL, however the server reads it. Unlike in a
/// `RelativePath`, `//` and `%2F` are allowed, because blob names and ids contain them.
pub fn proxied_path(path: &str) -> Result<(), Expected> {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#');
    ensure(plain, "a path without backslashes, fragments and control characters")?;
    // Some servers decode these before they resolve dot segments, and treat text after `;` as parameters of a segment.
    let undone = ["%2e", "%2E", "%2f", "%2F", "%5c", "%5C"].into_iter().fold(Cow::Borrowed(path), |text, code| {
        let sign = if code.eq_ignore_ascii_case("%2e") { "." } else { "/" };
        if text.contains(code) { Cow::Owned(text.replace(code, sign)) } else { text }
    });
    stays(undone.split('/').map(|segment| segment.split(';').next().unwrap_or_default()))
}

/// True if a reference starts with a scheme (RFC 3986 §3.1, §4.2). A colon in a later segment does
/// not make one.
fn has_scheme(path: &str) -> bool {
    path.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
}

/// Checks that the text is one JSON object without any member in `refused`.
pub fn json_object(text: &str, refused: &[&str]) -> Result<(), Expected> {
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|_| "a JSON object")?;
    let good = !refused.iter().any(|name| object.contains_key(*name));
    ensure(good, "a JSON object without the members at, ts, m, u, p, q, h, b and cnf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_a_guid_or_a_domain() {
        for text in ["contoso.onmicrosoft.com", "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab", "common", "Organizations"] {
            assert_eq!(tenant(text), Ok(text.to_ascii_lowercase()), "{text}");
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

    #[test]
    fn hosts_lose_case_and_port() {
        for (text, expected) in [
            ("*", "*"),
            ("*.Example.com", "*.example.com"),
            ("API:8080", "api"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[FD00::1]", "[fd00::1]"),
            ("fd00::1", "[fd00::1]"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "http://x", "a b", "x:", "x:y", "*x", "x/y"] {
            assert!(host(text).is_err(), "{text:?}");
        }
    }
}
