//! From the bytes of a whole request head to what it says. `httparse` splits them; the rules that make the
//! framing unambiguous (RFC 9112 §6.3, §11.2) and the caller unmistakable are enforced here, in one pass over the fields.

use std::mem::MaybeUninit;
use std::time::Instant;

use httparse::Header;

use super::message::{Body, Headers, Method, Peer, Request};
use super::refusal::Refusal;

/// Fields that need no heap.
const FEW: usize = 32;

/// Room for the fields of one head: on the stack where there are few.
pub struct Fields<'b> {
    few: [MaybeUninit<Header<'b>>; FEW],
    many: Vec<MaybeUninit<Header<'b>>>,
}

impl Fields<'_> {
    /// For this many fields.
    pub fn with_room_for(count: usize) -> Self {
        let many = if count > FEW { vec![MaybeUninit::uninit(); count] } else { Vec::new() };
        Self { few: [MaybeUninit::uninit(); FEW], many }
    }
}

/// Where the body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes; 0 where there is none.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// How the answer is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The request was HEAD: the body stays here.
    pub head_only: bool,
    /// The caller can send another request on this connection (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The caller speaks HTTP/1.0 and must be told that the connection is kept.
    pub http_1_0: bool,
}

/// A request head that kept every rule.
#[derive(Debug)]
pub struct Head<'a> {
    /// Known methods; the rest is `Other`.
    pub method: Method,
    /// As sent.
    pub method_name: &'a str,
    /// Starts with `/`, without the query.
    pub path: &'a str,
    /// Without the `?`.
    pub query: Option<&'a str>,
    /// In the order received.
    pub headers: Headers<'a>,
    /// Where the body ends.
    pub framing: Framing,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// How to answer.
    pub terms: Terms,
}

impl<'a> Head<'a> {
    /// Parses a whole head, its empty line included.
    pub fn parse(bytes: &'a [u8], fields: &'a mut Fields<'a>) -> Result<Self, Refusal> {
        let room = if fields.many.is_empty() { &mut fields.few[..] } else { &mut fields.many[..] };
        let mut raw = httparse::Request::new(&mut []);
        let parsed = raw.parse_with_uninit_headers(bytes, room).map_err(|error| explain(error, bytes))?;
        let (httparse::Status::Complete(_), Some(method), Some(target), Some(minor)) =
            (parsed, raw.method, raw.path, raw.version)
        else {
            return Err(Refusal::Malformed("the request head is not complete"));
        };
        let headers = Headers(raw.headers);
        let http_1_0 = minor == 0;
        let facts = Facts::gather(headers, http_1_0)?;
        let (path, query) = split_target(target, facts.host)?;
        let (method_name, method) = (method, Method::parse(method));
        let keep_alive = !facts.close && (!http_1_0 || facts.keep_alive);
        let terms = Terms { head_only: method == Method::Head, keep_alive, http_1_0 };
        Ok(Self {
            method,
            method_name,
            path,
            query,
            headers,
            framing: facts.framing,
            expects_continue: facts.expects_continue,
            terms,
        })
    }

    /// The request that this head begins.
    pub fn request(&self, body: Body<'a>, peer: Peer, received: Instant) -> Request<'a> {
        let Self { method, method_name, path, query, headers, .. } = *self;
        Request { method, method_name, path, query, headers, body, peer, received }
    }
}

fn explain(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::Version if names_other_version(bytes) => Refusal::Version,
        httparse::Error::HeaderName => Refusal::Malformed("a header name is no token"),
        httparse::Error::HeaderValue => Refusal::Malformed("a header value holds a forbidden character"),
        _ => Refusal::Malformed("the request line is malformed"),
    }
}

/// Whether the request line ends in `HTTP/` digit `.` digit, as RFC 9112 §2.3 has it.
fn names_other_version(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_start().split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let version = words.nth(2).unwrap_or_default();
    words.next().is_none()
        && matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// What the fields say about the message itself.
struct Facts<'a> {
    host: &'a str,
    framing: Framing,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'a> Facts<'a> {
    fn gather(headers: Headers<'a>, http_1_0: bool) -> Result<Self, Refusal> {
        let (mut host, mut length, mut chunked) = (None, None, false);
        let (mut close, mut keep_alive, mut expects_continue, mut authorization) = (false, false, false, false);
        for field in headers.0 {
            let (name, value) = (field.name, field.value);
            if name.eq_ignore_ascii_case("host") {
                // RFC 9112 §3.2: exactly one; of HTTP/1.0 too, since callers are judged by it.
                if host.replace(parse_host(value)?).is_some() {
                    return Err(Refusal::Malformed("Host is repeated"));
                }
            } else if name.eq_ignore_ascii_case("content-length") {
                // RFC 9112 §6.3 lets equal repetitions pass; a proxy that disagrees which counts is reason enough not to.
                if length.replace(parse_length(value)?).is_some() {
                    return Err(Refusal::Malformed("Content-Length is repeated"));
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked {
                    return Err(Refusal::Malformed("Transfer-Encoding is repeated"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Malformed("Transfer-Encoding is not exactly chunked"));
                }
                chunked = true;
            } else if name.eq_ignore_ascii_case("connection") {
                for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if name.eq_ignore_ascii_case("expect") {
                // RFC 9110 §10.1.1: an expectation of HTTP/1.0 is ignored.
                if !http_1_0 && !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::Expectation);
                }
                expects_continue = !http_1_0;
            } else if name.eq_ignore_ascii_case("authorization") {
                // Which of two tokens counted would be anybody's guess (RFC 9110 §5.3 allows one field line).
                if std::mem::replace(&mut authorization, true) {
                    return Err(Refusal::Malformed("Authorization is repeated"));
                }
            }
        }
        let host = host.ok_or(Refusal::Malformed("Host is missing"))?;
        let framing = match (length, chunked) {
            (Some(_), true) => return Err(Refusal::Malformed("Content-Length stands beside Transfer-Encoding")),
            (None, true) if http_1_0 => return Err(Refusal::Malformed("Transfer-Encoding in HTTP/1.0")),
            (None, true) => Framing::Chunked,
            (length, false) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(Self { host, framing, close, keep_alive, expects_continue })
    }
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2) of the characters that host names and addresses have.
fn parse_host(value: &[u8]) -> Result<&str, Refusal> {
    const MALFORMED: Refusal = Refusal::Malformed("Host is malformed");
    let text = std::str::from_utf8(value).map_err(|_| MALFORMED)?;
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(MALFORMED)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| MALFORMED)?;
            if !port.is_empty() && !port.starts_with(':') {
                return Err(MALFORMED);
            }
            (address, port.get(1..))
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let bracketed = text.starts_with('[');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let good_name = bracketed || !name.is_empty() && name.bytes().all(plain);
    let good_port = port.is_none_or(|digits| {
        digits.is_empty() || digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
    });
    if good_name && good_port { Ok(text) } else { Err(MALFORMED) }
}

/// `1*DIGIT` and nothing else (RFC 9110 §8.6): no sign, no list, no blank.
fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Malformed("Content-Length is no number"));
    }
    // A number that fits nowhere is over every limit.
    Ok(std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX))
}

/// Origin-form, or absolute-form that names the same host as `Host` does (RFC 9112 §3.2.1, §3.2.2).
fn split_target<'a>(target: &'a str, host: &str) -> Result<(&'a str, Option<&'a str>), Refusal> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::Malformed("the request target holds a character that is not visible ASCII"));
    }
    if target.contains('#') {
        return Err(Refusal::Malformed("the request target holds a fragment"));
    }
    let local = if target.starts_with('/') { target } else { reduce_absolute(target, host)? };
    let (path, query) = match local.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (local, None),
    };
    if path.contains("%00") {
        return Err(Refusal::Malformed("the path holds a NUL"));
    }
    Ok((if path.is_empty() { "/" } else { path }, query))
}

fn reduce_absolute<'a>(target: &'a str, host: &str) -> Result<&'a str, Refusal> {
    const SCHEME: &str = "http://";
    match target.get(..SCHEME.len()) {
        Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => {}
        _ => return Err(Refusal::Malformed("the request target is no path")),
    }
    let rest = &target[SCHEME.len()..];
    let (authority, local) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !authority.eq_ignore_ascii_case(host) {
        return Err(Refusal::Malformed("the request target names another host than Host"));
    }
    Ok(local)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
