//! What the server and the routes exchange: a complete request in, an answer out.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::memory::HeldBody;
use crate::value::wide;

/// The methods that routes can use. Names are case-sensitive (RFC 9110 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    /// `CONNECT` or `TRACE`, which no route accepts: one opens a tunnel, the other echoes tokens (RFC 9110 §9.3.6, §9.3.8).
    Refused,
    /// Any other token; only the proxy routes accept it.
    Other,
}

impl Method {
    pub fn parse(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "CONNECT" | "TRACE" => Self::Refused,
            _ => Self::Other,
        }
    }

    /// Its name, or `OTHER`: callers must not be able to put text into labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Refused | Self::Other => "OTHER",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2) are converted to IPv4.
    Ip(IpAddr),
    /// A process with access to the socket file.
    Unix,
}

/// A complete request. It borrows from the connection's buffers, so nothing is copied.
#[derive(Debug)]
pub struct Request<'a> {
    pub method: Method,
    /// As sent.
    pub method_name: &'a str,
    /// As sent: percent-encoded, starts with `/`, without the query.
    pub path: &'a str,
    /// As sent, without the `?`.
    pub query: Option<&'a str>,
    /// In the order received.
    pub headers: Headers<'a>,
    /// Without its transfer coding.
    pub body: Body<'a>,
    pub peer: Peer,
    pub record: &'a RequestRecord,
}

/// What stays the same however often a request is handled.
#[derive(Debug)]
pub struct RequestRecord {
    /// When its first byte arrived.
    pub received: Instant,
    /// Of no other request of this process.
    pub number: u64,
    /// Left to the handler. False at first.
    pub mark: Cell<bool>,
}

impl RequestRecord {
    pub fn new(received: Instant) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self { received, number: NUMBERS.fetch_add(1, Ordering::Relaxed), mark: Cell::new(false) }
    }
}

/// The body of a request, as far as it has been read.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Not read yet, with the declared length if there is one.
    Expected(Option<usize>),
    /// In the connection's buffer.
    Whole(&'a [u8]),
    /// Held by the connection until the handler takes it.
    Held {
        /// `None` once it has been taken, or if it was dropped on arrival.
        body: &'a RefCell<Option<HeldBody>>,
        length: usize,
    },
}

impl<'a> Body<'a> {
    pub const NONE: Self = Self::Whole(&[]);

    /// Its length, as far as it is known.
    pub const fn length(self) -> Option<usize> {
        match self {
            Self::Expected(length) => length,
            Self::Whole(bytes) => Some(bytes.len()),
            Self::Held { length, .. } => Some(length),
        }
    }

    pub const fn is_here(self) -> bool {
        !matches!(self, Self::Expected(_))
    }

    /// Its bytes, which stay where they are: the request may be handled again. Empty where it has not come or was taken.
    pub fn bytes(self) -> Cow<'a, [u8]> {
        match self {
            Self::Expected(_) => Cow::Borrowed(&[]),
            Self::Whole(bytes) => Cow::Borrowed(bytes),
            Self::Held { body, .. } => {
                Cow::Owned(body.borrow().as_ref().map_or_else(Vec::new, |body| body.bytes.clone()))
            }
        }
    }

    /// Takes the body out of the connection. Empty if it was taken before or has not been read.
    pub fn take(self) -> HeldBody {
        match self {
            Self::Expected(_) => HeldBody::from(Vec::new()),
            Self::Whole(bytes) => HeldBody::from(bytes.to_vec()),
            Self::Held { body, .. } => body.take().unwrap_or_else(|| HeldBody::from(Vec::new())),
        }
    }
}

/// The fields of a head, in the order received.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(pub &'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    /// Every value of a field. Names are compared without regard to case.
    pub fn all(self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    pub fn first(self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The first value of a field, if it is UTF-8.
    pub fn text(self, name: &'a str) -> Option<&'a str> {
        self.first(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// The caching directives of an answer (RFC 9111 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    Unsaid,
    /// `no-store`.
    NoStore,
    /// `no-store` and its older spellings, for old caches in between.
    Never,
}

impl Caching {
    pub const fn fields(self) -> &'static str {
        match self {
            Self::Unsaid => "",
            Self::NoStore => "Cache-Control: no-store\r\n",
            Self::Never => "Cache-Control: no-cache, no-store, must-revalidate\r\nPragma: no-cache\r\nExpires: 0\r\n",
        }
    }
}

/// An answer. The server adds `Date`, `Content-Length`, `Connection` and `X-Content-Type-Options`.
#[derive(Debug)]
pub struct Reply {
    /// From 200 to 599.
    pub status: u16,
    /// `None` if there is no body.
    pub content_type: Option<&'static str>,
    pub caching: Caching,
    /// Further header lines. [`Reply::header`] makes their values safe.
    fields: String,
    /// Not sent in answer to HEAD, though its length is.
    pub body: Vec<u8>,
    /// Produces what follows `body` while the answer is being sent.
    pub stream: Option<Box<dyn BodyStream>>,
    pub close: bool,
}

/// A body produced piece by piece while it is being sent, so that it is never in memory as a whole.
pub trait BodyStream: Send + std::fmt::Debug {
    /// Bytes of all pieces together.
    fn len(&self) -> usize;
    /// Appends the next piece, of at most `room` bytes (`room` is at least 4 KiB). Appends nothing
    /// at the end.
    fn fill(&mut self, out: &mut Vec<u8>, room: usize);
}

/// Capacity that a buffer may keep for the next answer.
const SPARE_BYTES: usize = 16 * 1024;

thread_local! {
    // Buffers of the last answer sent, so that answers from the cache allocate nothing.
    static SPARE_FIELDS: Cell<String> = const { Cell::new(String::new()) };
    static SPARE_BODY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Reply {
    pub const fn new(status: u16) -> Self {
        Self {
            status,
            content_type: None,
            caching: Caching::Unsaid,
            fields: String::new(),
            body: Vec::new(),
            stream: None,
            close: false,
        }
    }

    /// An empty buffer with the capacity of the last body that this thread sent.
    pub fn buffer() -> Vec<u8> {
        SPARE_BODY.take()
    }

    #[must_use]
    pub fn with_body(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        self.content_type = Some(content_type);
        self.body = body;
        self
    }

    /// Adds a body that is produced while it is being sent.
    #[must_use]
    pub fn with_stream(mut self, content_type: &'static str, stream: Box<dyn BodyStream>) -> Self {
        self.content_type = Some(content_type);
        self.stream = Some(stream);
        self
    }

    pub fn body_len(&self) -> usize {
        self.body.len() + self.stream.as_ref().map_or(0, |stream| stream.len())
    }

    #[must_use]
    pub const fn caching(mut self, caching: Caching) -> Self {
        self.caching = caching;
        self
    }

    /// Adds a header field. Characters other than visible ASCII become `?`, so that no value can
    /// inject another field (RFC 9110 §5.5). The name is ours, or was checked with the configuration.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let clean = |c: char| c == '\t' || (' '..='~').contains(&c);
        if self.fields.capacity() == 0 {
            self.fields = SPARE_FIELDS.take();
        }
        self.fields.push_str(name);
        self.fields.push_str(": ");
        if wide::all_ascii_from(b' ', value.as_bytes()) {
            self.fields.push_str(value);
        } else {
            self.fields.extend(value.chars().map(|c| if clean(c) { c } else { '?' }));
        }
        self.fields.push_str("\r\n");
        self
    }

    /// The further header lines, each with its CRLF.
    pub fn fields(&self) -> &str {
        &self.fields
    }

    /// Keeps the buffers for the thread's next answer.
    pub fn recycle(mut self) {
        self.fields.clear();
        self.body.clear();
        if (1..=SPARE_BYTES).contains(&self.fields.capacity()) {
            SPARE_FIELDS.set(self.fields);
        }
        if (1..=SPARE_BYTES).contains(&self.body.capacity()) {
            SPARE_BODY.set(self.body);
        }
    }
}
