//! Parses a complete request head. `httparse` splits it. This module enforces, in one pass over the
//! fields, what makes the framing unambiguous (RFC 9112 §6.3, §11.2) and the caller's identity
//! unique.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

use httparse::Header;

use super::message::{Body, Headers, Method, Peer, Request, RequestRecord};
use super::request_error::RequestError;
use crate::value::url::{parse_port, split_port};
use crate::value::wide;

/// Heads with up to this many fields need no heap.
const FEW: usize = 32;

/// Room for the fields of one head, on the stack if they are few.
pub struct Fields<'b> {
    few: [MaybeUninit<Header<'b>>; FEW],
    many: Vec<MaybeUninit<Header<'b>>>,
}

impl Fields<'_> {
    pub fn with_room_for(count: usize) -> Self {
        let many = if count > FEW { vec![MaybeUninit::uninit(); count] } else { Vec::new() };
        Self { few: [MaybeUninit::uninit(); FEW], many }
    }
}

/// How the body is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its length in bytes. 0: no body.
    Length(u64),
    /// By the last chunk.
    Chunked,
}

/// What the request implies for sending the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The method was HEAD: only the head is sent.
    pub head_only: bool,
    /// The connection stays open for another request (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The caller speaks HTTP/1.0 and must be told if the connection stays open.
    pub http_1_0: bool,
}

/// A request head that follows every rule.
#[derive(Debug)]
pub struct Head<'a> {
    pub method: Method,
    /// As sent.
    pub method_name: &'a str,
    /// Starts with `/`, without the query.
    pub path: &'a str,
    /// Without the `?`.
    pub query: Option<&'a str>,
    /// In the order received.
    pub headers: Headers<'a>,
    pub framing: Framing,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    pub terms: Terms,
}

impl<'a> Head<'a> {
    /// Parses a complete head, including its empty line.
    pub fn parse(bytes: &'a [u8], fields: &'a mut Fields<'a>) -> Result<Self, RequestError> {
        let room = if fields.many.is_empty() { &mut fields.few[..] } else { &mut fields.many[..] };
        let mut raw = httparse::Request::new(&mut []);
        let parsed = raw.parse_with_uninit_headers(bytes, room).map_err(|error| explain(error, bytes))?;
        let (httparse::Status::Complete(_), Some(method), Some(target), Some(minor)) =
            (parsed, raw.method, raw.path, raw.version)
        else {
            return Err(RequestError::Malformed("the request head is not complete"));
        };
        let headers = Headers(raw.headers);
        let http_1_0 = minor == 0;
        let fields = MessageFields::gather(headers, http_1_0)?;
        let (path, query) = split_target(target, fields.host)?;
        let (method_name, method) = (method, Method::parse(method));
        let keep_alive = !fields.close && (!http_1_0 || fields.keep_alive);
        let terms = Terms { head_only: method == Method::Head, keep_alive, http_1_0 };
        Ok(Self {
            method,
            method_name,
            path,
            query,
            headers,
            framing: fields.framing,
            expects_continue: fields.expects_continue,
            terms,
        })
    }

    pub fn request(&self, body: Body<'a>, peer: Peer, record: &'a RequestRecord) -> Request<'a> {
        let Self { method, method_name, path, query, headers, .. } = *self;
        Request { method, method_name, path, query, headers, body, peer, record }
    }
}

/// What the first line of a refused head asks for, so that the refusal has the form of that endpoint. The fields of the
/// head are left out.
pub fn begun<'a>(bytes: &'a [u8], peer: Peer, record: &'a RequestRecord) -> Option<Request<'a>> {
    let line = bytes.trim_ascii_start().split(|&byte| byte < b' ').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let method_name = words.next()?;
    let path = words.next()?.split('?').next().filter(|path| path.starts_with('/'))?;
    Some(Request {
        method: Method::parse(method_name),
        method_name,
        path,
        query: None,
        headers: Headers(&[]),
        body: Body::NONE,
        peer,
        record,
    })
}

fn explain(error: httparse::Error, bytes: &[u8]) -> RequestError {
    match error {
        httparse::Error::Version if names_other_version(bytes) => RequestError::Version,
        httparse::Error::HeaderName => RequestError::Malformed("a header name is not a token"),
        httparse::Error::HeaderValue => RequestError::Malformed("a header value holds a forbidden character"),
        _ => RequestError::Malformed("the request line is malformed"),
    }
}

/// True if the request line ends in `HTTP/` digit `.` digit (RFC 9112 §2.3).
fn names_other_version(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_start().split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let version = words.nth(2).unwrap_or_default();
    words.next().is_none()
        && matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// The fields that concern the message itself.
struct MessageFields<'a> {
    host: &'a str,
    framing: Framing,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'a> MessageFields<'a> {
    fn gather(headers: Headers<'a>, http_1_0: bool) -> Result<Self, RequestError> {
        let (mut host, mut length, mut chunked) = (None, None, false);
        let (mut close, mut keep_alive, mut expects_continue, mut authorization) = (false, false, false, false);
        for field in headers.0 {
            let (name, value) = (field.name, field.value);
            if name.eq_ignore_ascii_case("host") {
                // Exactly one (RFC 9112 §3.2). HTTP/1.0 needs it too, because callers are admitted
                // by it.
                if host.replace(parse_host(value)?).is_some() {
                    return Err(RequestError::Malformed("Host is repeated"));
                }
            } else if name.eq_ignore_ascii_case("content-length") {
                // RFC 9112 §6.3 tolerates equal repetitions. They are refused here, because a proxy
                // might pick another one.
                if length.replace(parse_length(value)?).is_some() {
                    return Err(RequestError::Malformed("Content-Length is repeated"));
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked {
                    return Err(RequestError::Malformed("Transfer-Encoding is repeated"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(RequestError::Malformed("Transfer-Encoding is not exactly chunked"));
                }
                chunked = true;
            } else if name.eq_ignore_ascii_case("connection") {
                for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if name.eq_ignore_ascii_case("expect") {
                // An expectation in HTTP/1.0 is ignored (RFC 9110 §10.1.1).
                if !http_1_0 && !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(RequestError::Expectation);
                }
                expects_continue = !http_1_0;
            } else if name.eq_ignore_ascii_case("authorization") {
                // Two tokens leave open which one counts. RFC 9110 §5.3 allows one field line.
                if std::mem::replace(&mut authorization, true) {
                    return Err(RequestError::Malformed("Authorization is repeated"));
                }
            }
        }
        let host = host.ok_or(RequestError::Malformed("Host is missing"))?;
        let framing = match (length, chunked) {
            (Some(_), true) => return Err(RequestError::Malformed("Content-Length together with Transfer-Encoding")),
            (None, true) if http_1_0 => return Err(RequestError::Malformed("Transfer-Encoding in HTTP/1.0")),
            (None, true) => Framing::Chunked,
            (length, false) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(Self { host, framing, close, keep_alive, expects_continue })
    }
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), limited to the characters of host names and addresses.
fn parse_host(value: &[u8]) -> Result<&str, RequestError> {
    const MALFORMED: RequestError = RequestError::Malformed("Host is malformed");
    let text = std::str::from_utf8(value).map_err(|_| MALFORMED)?;
    let (name, port) = split_port(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let good_name = match name.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => !name.is_empty() && name.bytes().all(plain),
    };
    let good_port = port.is_none_or(|digits| digits.is_empty() || parse_port(digits).is_some());
    if good_name && good_port { Ok(text) } else { Err(MALFORMED) }
}

/// `1*DIGIT` and nothing else (RFC 9110 §8.6): no sign, list or blank.
fn parse_length(value: &[u8]) -> Result<u64, RequestError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(RequestError::Malformed("Content-Length is not a number"));
    }
    // A number that overflows exceeds every limit.
    Ok(std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX))
}

/// Origin-form, or absolute-form with the same host as in `Host` (RFC 9112 §3.2.1, §3.2.2).
fn split_target<'a>(target: &'a str, host: &str) -> Result<(&'a str, Option<&'a str>), RequestError> {
    if !wide::all_ascii_from(b'!', target.as_bytes()) {
        return Err(RequestError::Malformed("the request target holds a character that is not visible ASCII"));
    }
    if target.contains('#') {
        return Err(RequestError::Malformed("the request target holds a fragment"));
    }
    let local = if target.starts_with('/') { target } else { reduce_absolute(target, host)? };
    let (path, query) = match local.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (local, None),
    };
    Ok((if path.is_empty() { "/" } else { path }, query))
}

fn reduce_absolute<'a>(target: &'a str, host: &str) -> Result<&'a str, RequestError> {
    const SCHEME: &str = "http://";
    match target.get(..SCHEME.len()) {
        Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => {}
        _ => return Err(RequestError::Malformed("the request target is not a path")),
    }
    let rest = &target[SCHEME.len()..];
    let (authority, local) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !authority.eq_ignore_ascii_case(host) {
        return Err(RequestError::Malformed("the request target and Host name different hosts"));
    }
    Ok(local)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
