//! What passes between the front door and the routes: a complete request in, a whole reply out.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

/// The methods that a route may know. Names are case-sensitive (RFC 9110 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// Any other token, known to no route.
    Other,
}

impl Method {
    /// The method of a request line.
    pub fn parse(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }

    /// Its name; `OTHER` for one that no route knows, since labels and logs take no caller's text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Other => "OTHER",
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address; an IPv4 address in its IPv6 form has been turned back (RFC 4291 §2.5.5.2).
    Ip(IpAddr),
    /// A process that may open the socket file.
    Unix,
}

/// A complete request. It borrows from the connection's buffers, so nothing is copied for it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Known methods only; the rest is `Other`.
    pub method: Method,
    /// As sent: percent-encoded, starts with `/`, without the query.
    pub path: &'a str,
    /// As sent, without the `?`.
    pub query: Option<&'a str>,
    /// In the order received.
    pub headers: Headers<'a>,
    /// Undone of its transfer coding. Empty: none came.
    pub body: &'a [u8],
    /// Who sent it.
    pub peer: Peer,
    /// When its first byte was seen.
    pub received: Instant,
}

/// The fields of a head, in the order received.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(pub &'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    /// Every value of a field, names compared without regard to case.
    pub fn all(self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The first value of a field.
    pub fn first(self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The first value of a field where it is UTF-8.
    pub fn text(self, name: &'a str) -> Option<&'a str> {
        self.first(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// What others may do with an answer (RFC 9111 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Nothing is said.
    Unsaid,
    /// `no-store`.
    NoStore,
    /// The same in three ways, for whatever old cache may be in between.
    Never,
}

impl Caching {
    /// The fields, as they are sent.
    pub const fn fields(self) -> &'static str {
        match self {
            Self::Unsaid => "",
            Self::NoStore => "Cache-Control: no-store\r\n",
            Self::Never => "Cache-Control: no-cache, no-store, must-revalidate\r\nPragma: no-cache\r\nExpires: 0\r\n",
        }
    }
}

/// An answer. The front door adds `Date`, `Content-Length`, `Connection` and `X-Content-Type-Options`.
#[derive(Clone, Debug)]
pub struct Reply {
    /// From 200 to 599.
    pub status: u16,
    /// `None` where there is no body to have one.
    pub content_type: Option<&'static str>,
    /// Who may keep it.
    pub caching: Caching,
    /// Further fields. Values are checked when they are added: see [`Reply::header`].
    headers: Vec<(&'static str, Cow<'static, str>)>,
    /// Not sent in answer to HEAD, though its length is.
    pub body: Vec<u8>,
    /// Closes the connection after this answer.
    pub close: bool,
}

impl Reply {
    /// An answer without body and further fields.
    pub const fn new(status: u16) -> Self {
        Self {
            status,
            content_type: None,
            caching: Caching::Unsaid,
            headers: Vec::new(),
            body: Vec::new(),
            close: false,
        }
    }

    /// With a body.
    #[must_use]
    pub fn with_body(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        self.content_type = Some(content_type);
        self.body = body;
        self
    }

    /// With a word on who may keep it.
    #[must_use]
    pub const fn caching(mut self, caching: Caching) -> Self {
        self.caching = caching;
        self
    }

    /// With one more field. Characters that could end the field or are not visible ASCII become `?`, so
    /// that no value can inject another field (RFC 9110 §5.5).
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let value = value.into();
        let clean = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        let value = if value.bytes().all(clean) {
            value
        } else {
            Cow::Owned(value.chars().map(|c| if c == '\t' || (' '..='~').contains(&c) { c } else { '?' }).collect())
        };
        self.headers.push((name, value));
        self
    }

    /// The further fields.
    pub fn headers(&self) -> &[(&'static str, Cow<'static, str>)] {
        &self.headers
    }
}
