//! URLs in the configuration, parsed strictly: `http` or `https`, an ASCII host, no user info, no
//! fragment.

use std::fmt;
use std::sync::Arc;

use super::quantity::digits;
use super::{Expected, ensure};

/// Scheme, host and port: where a token may be sent (RFC 6454 §4). Normalized, so equality is
/// enough. Cheap to clone, since every call of an API names its origin several times.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub https: bool,
    /// Defaults to the scheme's port.
    pub port: u16,
    text: Arc<str>,
}

impl Origin {
    /// `host` is lower case; an IPv6 address has its brackets.
    pub fn new(https: bool, host: &str, port: u16) -> Self {
        let (scheme, own) = if https { ("https", 443) } else { ("http", 80) };
        let text = if port == own { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") };
        Self { https, port, text: text.into() }
    }

    /// Scheme, host and port, the latter unless it is the scheme's.
    pub const fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Host and port, the latter unless it is the scheme's: the value of `Host`.
    pub fn authority(&self) -> &str {
        &self.text[if self.https { "https://" } else { "http://" }.len()..]
    }

    /// Lower case; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        split_port(self.authority()).0
    }

    /// True for `localhost`, `*.localhost`, `127.0.0.0/8` and `[::1]`.
    pub fn is_loopback(&self) -> bool {
        is_loopback_host(self.host())
    }

    /// The tenant that the host of a customer directory names: `contoso.ciamlogin.com` implies
    /// `contoso.onmicrosoft.com`, as in MSAL.
    pub fn ciam_tenant(&self) -> Option<String> {
        self.host().strip_suffix(".ciamlogin.com").map(|name| format!("{name}.onmicrosoft.com"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// True if a host names this machine (RFC 6761 §6.3, RFC 1122 §3.2.1.3). `host` is lower case and
/// has no port.
pub fn is_loopback_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(text) => text.parse::<std::net::Ipv6Addr>().ok().map(|address| address.to_canonical()),
        None => host.parse::<std::net::Ipv4Addr>().ok().map(std::net::IpAddr::V4),
    };
    let below = name.strip_suffix(".localhost").is_some_and(|rest| rest.split('.').all(|label| !label.is_empty()));
    name == "localhost" || below || address.is_some_and(|address| address.is_loopback())
}

/// True for the scheme of a URI (RFC 3986 §3.1).
pub fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    pub origin: Origin,
    /// Starts with `/`; percent-encoded as written.
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
}

impl Url {
    /// Parses an absolute `http` or `https` URL.
    pub fn parse(text: &str) -> Result<Self, Expected> {
        const EXPECTED: &str = "an absolute http:// or https:// URL";
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        ensure(visible, "a URL of visible ASCII characters (an international host name in its xn-- form)")?;
        let plain = !text.contains(['\\', '"', '<', '>', '`', '{', '}', '|', '^']);
        ensure(plain, "a URL without backslashes, quotes, braces or angle brackets (percent-encode them)")?;
        let (scheme, rest) = text.split_once("://").ok_or(EXPECTED)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(EXPECTED),
        };
        ensure(!rest.contains('#'), "a URL without a fragment")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = if path.is_empty() { "/" } else { path };
        let port = if https { 443 } else { 80 };
        Ok(Self {
            origin: parse_authority(https, port, authority)?,
            path: path.to_owned(),
            query: query.map(str::to_owned),
        })
    }

    /// Replaces the path and drops the query. `path` must start with `/` and be percent-encoded.
    #[must_use]
    pub fn with_path(&self, path: &str) -> Self {
        Self { origin: self.origin.clone(), path: path.to_owned(), query: None }
    }

    /// The path without trailing slashes; empty for the root.
    pub fn base_path(&self) -> &str {
        self.path.trim_end_matches('/')
    }
}

/// `default` is the scheme's port.
pub(super) fn parse_authority(https: bool, default: u16, authority: &str) -> Result<Origin, Expected> {
    ensure(!authority.contains('@'), "a URL without user name or password")?;
    let (host, port) = split_port(authority);
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').ok_or("a closing bracket after the IPv6 address")?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| "an IPv6 address between the brackets")?;
    }
    let named = !host.is_empty()
        && (host.starts_with('[')
            || host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')));
    // The root label after the last dot is optional (RFC 1034 §3.1).
    let empty_label = host.strip_suffix('.').unwrap_or(host).split('.').any(str::is_empty);
    ensure(named && !empty_label, "a host name or address")?;
    let port = match port {
        None | Some("") => default,
        Some(digits) => parse_port(digits).filter(|port| *port != 0).ok_or("a port from 1 to 65535")?,
    };
    Ok(Origin::new(https, &host.to_ascii_lowercase(), port))
}

/// Splits `host`, `host:port` or `[address]:port` before the port, and checks neither part.
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_brackets = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[after_brackets..].split_once(':') {
        Some((rest, port)) => (&authority[..after_brackets + rest.len()], Some(port)),
        None => (authority, None),
    }
}

/// Decimal digits only; 0 is allowed.
pub fn parse_port(text: &str) -> Option<u16> {
    digits(text)?.try_into().ok()
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)?;
        self.query.as_ref().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_normalised() {
        let url = Url::parse("HTTPS://Graph.Microsoft.COM:443/v1.0/me?$top=3").unwrap();
        assert_eq!(url.to_string(), "https://graph.microsoft.com/v1.0/me?$top=3");
        assert_eq!(url.query.as_deref(), Some("$top=3"));
        assert_eq!(Url::parse("http://[::1]:8080").unwrap().to_string(), "http://[::1]:8080/");
    }

    #[test]
    fn what_is_no_plain_absolute_url_is_refused() {
        for text in [
            "", "graph.microsoft.com", "/v1.0", "//host/", "ftp://host/", "https://", "https:///path",
            "https://user@host/", "https://user:pw@host/", "https://host:0/", "https://host:65536/", "https://host:x/",
            "https://host/#f", "https://ho st/", "https://h\u{f6}st/", "https://host\\evil/", "https://[::1/",
            "https://[::1]x/", "https://[zz]/", "https://host/\r\nX: y", "https://host:+80/", "https://.localhost/",
            "https://a..b/", "https://host../", "https://./",
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_number() {
        for host in [
            "localhost", "localhost.", "api.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "localhost.example", "localhost..", ".localhost", "..localhost", "a..localhost", ".localhost.", ".",
            "128.0.0.1", "notlocalhost", "[::2]", "[::ffff:128.0.0.1]", "[localhost]", "0.0.0.0",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
