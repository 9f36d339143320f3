//! What passes between the front door and the routes: a complete request in, a whole reply out.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::time::Instant;

use crate::memory::HeldBody;

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
    /// `CONNECT` or `TRACE`, which no route accepts: one opens a tunnel, the other echoes tokens (RFC 9110 §9.3.6, §9.3.8).
    Refused,
    /// Any other token; only the proxy routes accept it.
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
            "CONNECT" | "TRACE" => Self::Refused,
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
            Self::Refused | Self::Other => "OTHER",
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
    /// As sent.
    pub method_name: &'a str,
    /// As sent: percent-encoded, starts with `/`, without the query.
    pub path: &'a str,
    /// As sent, without the `?`.
    pub query: Option<&'a str>,
    /// In the order received.
    pub headers: Headers<'a>,
    /// Undone of its transfer coding.
    pub body: Body<'a>,
    /// Who sent it.
    pub peer: Peer,
    /// When its first byte was seen.
    pub received: Instant,
}

/// A request's body, as far as it has come.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// It has not been read; its length, where the head says it.
    Expected(Option<usize>),
    /// It lies in the connection's buffer.
    Whole(&'a [u8]),
    /// It is kept by the connection until somebody takes it.
    Held {
        /// Empty where it was taken, or dropped as it came.
        body: &'a RefCell<Option<HeldBody>>,
        /// Its length when it was complete.
        length: usize,
    },
}

impl Body<'_> {
    /// No body.
    pub const NONE: Self = Self::Whole(&[]);

    /// Its length, as far as it is known.
    pub const fn length(self) -> Option<usize> {
        match self {
            Self::Expected(length) => length,
            Self::Whole(bytes) => Some(bytes.len()),
            Self::Held { length, .. } => Some(length),
        }
    }

    /// Whether it has come.
    pub const fn is_here(self) -> bool {
        !matches!(self, Self::Expected(_))
    }

    /// Takes it out of the connection. Taken once; what has not come is empty.
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
#[derive(Debug)]
pub struct Reply {
    /// From 200 to 599.
    pub status: u16,
    /// `None` where there is no body to have one.
    pub content_type: Option<&'static str>,
    /// Who may keep it.
    pub caching: Caching,
    /// Further fields, as their lines are sent. Values are checked when they are added: see [`Reply::header`].
    fields: String,
    /// Not sent in answer to HEAD, though its length is.
    pub body: Vec<u8>,
    /// What follows `body`, made while it is sent.
    pub stream: Option<Box<dyn BodyStream>>,
    /// Closes the connection after this answer.
    pub close: bool,
}

/// A body that is made while it is sent, piece by piece, so that it is never held whole.
#[expect(clippy::len_without_is_empty, reason = "nobody asks")]
pub trait BodyStream: Send + std::fmt::Debug {
    /// The number of bytes that all pieces have together.
    fn len(&self) -> usize;
    /// Appends the next piece, at most `room` bytes (`room` is at least 4 KiB); appends nothing once all are made.
    fn fill(&mut self, out: &mut Vec<u8>, room: usize);
}

/// What is kept of a buffer for the next answer, at most.
const SPARE_BYTES: usize = 16 * 1024;

thread_local! {
    // The buffers of the last answer that left: what is answered from memory allocates nothing.
    static SPARE_FIELDS: Cell<String> = const { Cell::new(String::new()) };
    static SPARE_BODY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Reply {
    /// An answer without body and further fields.
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

    /// An empty buffer for a body, with the room of the last one that this thread sent.
    pub fn buffer() -> Vec<u8> {
        SPARE_BODY.take()
    }

    /// With a body.
    #[must_use]
    pub fn with_body(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        self.content_type = Some(content_type);
        self.body = body;
        self
    }

    /// With a body that is made while it is sent.
    #[must_use]
    pub fn with_stream(mut self, content_type: &'static str, stream: Box<dyn BodyStream>) -> Self {
        self.content_type = Some(content_type);
        self.stream = Some(stream);
        self
    }

    /// The length of its body.
    pub fn body_len(&self) -> usize {
        self.body.len() + self.stream.as_ref().map_or(0, |stream| stream.len())
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
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let clean = |c: char| c == '\t' || (' '..='~').contains(&c);
        if self.fields.capacity() == 0 {
            self.fields = SPARE_FIELDS.take();
        }
        self.fields.push_str(name);
        self.fields.push_str(": ");
        // Without a way out in the middle the compiler looks at many bytes at once.
        if value.bytes().fold(true, |all, byte| all & clean(char::from(byte))) {
            self.fields.push_str(value);
        } else {
            self.fields.extend(value.chars().map(|c| if clean(c) { c } else { '?' }));
        }
        self.fields.push_str("\r\n");
        self
    }

    /// The further fields, each line with its end.
    pub fn fields(&self) -> &str {
        &self.fields
    }

    /// Leaves the buffers to the thread's next answer.
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
