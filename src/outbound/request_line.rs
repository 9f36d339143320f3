//! The first lines of a request: what an origin is told, and what a forward proxy is told in its place (RFC 9112 §3.2).

use zeroize::Zeroizing;

use super::{OutError, buffers};
use crate::value::url::{Origin, Url};

/// Whether a request may be sent again if a reused connection ended before it was answered (RFC 9110 §9.2.2).
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS")
}

/// What a plain `http` request tells a forward proxy (RFC 9112 §3.2.2). Not `Debug`, since it holds a password.
pub struct ToProxy {
    /// Makes the target absolute.
    pub origin: Origin,
    /// `Proxy-Authorization`.
    pub authorization: Option<Zeroizing<String>>,
    /// The error for a 407, which only a proxy sends (RFC 9110 §15.5.8).
    pub refusal: OutError,
}

/// Appends the request line, `Host`, and the credentials for the proxy.
pub fn write(head: &mut Zeroizing<Vec<u8>>, method: &str, url: &Url, to_proxy: Option<&ToProxy>) {
    let mut put = |parts: &[&str]| parts.iter().for_each(|part| buffers::append(head, &[part.as_bytes()]));
    put(&[method, " ", to_proxy.map_or("", |proxy| proxy.origin.text()), &url.path]);
    if let Some(query) = &url.query {
        put(&["?", query]);
    }
    put(&[" HTTP/1.1\r\nHost: ", url.origin.authority(), "\r\n"]);
    if let Some(authorization) = to_proxy.and_then(|proxy| proxy.authorization.as_ref()) {
        put(&["Proxy-Authorization: ", authorization, "\r\n"]);
    }
}
