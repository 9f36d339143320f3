//! Outgoing HTTP: one request to an upstream, and its complete response or an error.
//!
//! [`Exchange`] hides the network. Token acquisition, key fetching and credentials only use this
//! trait, so their tests run in memory.

pub mod answer;
pub mod buffers;
pub mod challenge;
mod charset;
pub mod forwarding;
mod header_fields;
pub mod http1;
pub mod proxy;
pub mod redirect;
pub mod relay;
pub mod request_line;
pub mod resolver;
pub mod roots;
pub mod ureq;

pub use answer::{HeaderValues, Rendered, render};
pub use challenge::claims_challenge;
pub use header_fields::HeaderFields;
pub use proxy::Proxies;
pub use redirect::{FollowedResponse, follow};
pub use resolver::SystemResolver;
pub use roots::Roots;
pub use ureq::{ExchangeSettings, Step, Thumbprint, UpstreamCall, UpstreamConnection, UreqExchange};

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zeroize::{Zeroize as _, Zeroizing};

use crate::memory::{HeldBody, Reservation};
use crate::sync::Mutex;
use crate::turns::{self, Lane};
use crate::value::date;
use crate::value::url::{Origin, Url};

/// The field by which Entra's and an API's logs name a request.
pub const CORRELATION: &str = "x-ms-client-request-id";

/// The kind of server called. Determines proxy, redirects and the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    Token,
    /// OpenID metadata and signing keys.
    Metadata,
    /// A managed identity endpoint; never through a proxy.
    ManagedIdentity,
    KeyVault,
    Downstream,
    /// A downstream API that a request is passed through to.
    Proxy,
}

impl Upstream {
    /// Whether its answers hold tokens or keys.
    pub const fn sends_secrets(self) -> bool {
        matches!(self, Self::Token | Self::ManagedIdentity | Self::KeyVault)
    }
}

/// Not `Debug`, since it holds tokens.
#[derive(Clone)]
pub struct OutRequest {
    pub upstream: Upstream,
    /// Upper case.
    pub method: String,
    pub url: Url,
    /// Names are lower case. Values may contain tokens, and are wiped.
    pub headers: Vec<(Cow<'static, str>, Zeroizing<Vec<u8>>)>,
    /// `None` sends neither a body nor a length.
    pub body: Option<OutBody>,
    /// For the whole exchange, including the response body.
    pub timeout: Duration,
    /// Longer response bodies fail with [`OutError::TooLarge`].
    pub max_body: usize,
    /// The memory budget for the response body; `None` if `max_body` is small.
    pub memory: Option<Arc<AnswerMemory>>,
    /// Allows a pooled connection. A retry uses a new one, or it could hit another that has just
    /// closed.
    pub pooled: bool,
    /// The API's origin, if a redirect left it. Then only public addresses and the API's own host
    /// may be contacted ([`OutError::NotPublic`]).
    pub redirected_from: Option<Origin>,
}

impl OutRequest {
    /// Without headers and body, on a pooled connection, and without a memory budget.
    pub fn new(upstream: Upstream, method: &str, url: Url, timeout: Duration, max_body: usize) -> Self {
        Self {
            upstream,
            method: method.to_owned(),
            url,
            headers: Vec::new(),
            body: None,
            timeout,
            max_body,
            memory: None,
            pooled: true,
            redirected_from: None,
        }
    }

    /// Adds a header. `name` is lower case.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: &str) -> Self {
        self.headers.push((name.into(), Zeroizing::new(value.as_bytes().to_vec())));
        self
    }

    /// Sets a body made here, which is wiped on drop.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: Zeroizing<Vec<u8>>) -> Self {
        self.body = Some(OutBody::Own(body));
        self.header("content-type", content_type)
    }
}

#[derive(Clone)]
pub enum OutBody {
    /// Created here; wiped on drop.
    Own(Zeroizing<Vec<u8>>),
    Relayed(Arc<RelayedBody>),
}

impl OutBody {
    /// The bytes for one attempt; none after a release.
    pub fn current(&self) -> BodyBytes<'_> {
        match self {
            Self::Own(body) => BodyBytes::Own(body),
            Self::Relayed(body) => BodyBytes::Held(body.current()),
        }
    }
}

/// The bytes of a body while it is being sent.
pub enum BodyBytes<'a> {
    Own(&'a [u8]),
    Held(Option<Arc<HeldBody>>),
}

impl Deref for BodyBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Held(body) => body.as_ref().map_or(&[], |body| &body.bytes),
        }
    }
}

/// A caller's body, shared by all attempts to send it. It is released once no further attempt is
/// possible.
pub struct RelayedBody(Mutex<Option<Arc<HeldBody>>>);

impl RelayedBody {
    pub fn new(body: HeldBody) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Arc::new(body)))))
    }

    fn current(&self) -> Option<Arc<HeldBody>> {
        self.0.lock().clone()
    }

    pub fn release(&self) {
        *self.0.lock() = None;
    }
}

/// The memory for a response body, reserved for as long as the body is held.
#[derive(Debug)]
pub struct AnswerMemory {
    reservation: Mutex<Reservation>,
    /// Bytes of an earlier response that is still held.
    kept: AtomicUsize,
    /// How long a body of unknown length may wait for memory to grow.
    pub growth_timeout: Duration,
}

impl AnswerMemory {
    /// Reserves nothing yet.
    pub fn new(reservation: Reservation, growth_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { reservation: Mutex::new(reservation), kept: AtomicUsize::new(0), growth_timeout })
    }

    /// Also covers `size` bytes of an earlier response.
    fn keep(&self, size: usize) {
        self.kept.store(size, Ordering::Relaxed);
    }

    /// Grows to `size` bytes, and waits at most `limit` for memory. Returns whether it succeeded.
    pub fn cover(&self, size: usize, limit: Duration) -> bool {
        let size = size.saturating_add(self.kept.load(Ordering::Relaxed));
        self.reservation.lock().wait_in_place(size, limit)
    }
}

/// A complete response, whatever its status. Its body may hold tokens or keys, and is wiped unless it was taken.
#[derive(Clone, Debug)]
pub struct OutResponse {
    /// The final status, never 1xx.
    pub status: u16,
    pub headers: HeaderFields,
    /// Without transfer coding; content coding is left as it is.
    pub body: Vec<u8>,
}

impl Drop for OutResponse {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

impl OutResponse {
    /// The first value of a header, if it is UTF-8. `name` is lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.all(name).next()?).ok()
    }

    /// `Retry-After` in seconds from `now` (RFC 9110 §10.2.3).
    pub fn retry_after(&self, now: u64) -> Option<u64> {
        date::retry_after(self.header("retry-after")?, now)
    }
}

/// Why there is no response. Messages name host and cause, never a path, query, header or body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutError {
    /// No connection: name resolution, connection refused, TLS. The upstream processed nothing.
    Connect(String),
    /// A deadline passed: which one, and its length.
    Timeout(String),
    /// The connection broke, or the response was not HTTP.
    Broken(String),
    /// The limit in bytes.
    TooLarge(usize),
    /// No memory for the response body.
    NoMemory {
        /// True if the whole exchange timed out; false if the body could not grow.
        timed_out: bool,
    },
    /// No turn for the call in time; nothing was sent.
    Busy,
    /// The proxy is unreachable or refused the request. The upstream was not reached.
    Proxy {
        /// The proxy's address and the error.
        cause: String,
        timed_out: bool,
    },
    /// A redirect led to an address that is not public; nothing was sent.
    NotPublic,
}

impl std::fmt::Display for OutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(cause) | Self::Timeout(cause) | Self::Broken(cause) | Self::Proxy { cause, .. } => {
                f.write_str(cause)
            }
            Self::TooLarge(limit) => write!(f, "the answer is longer than {limit} bytes"),
            Self::NoMemory { .. } => f.write_str("no memory for the answer's body (Sidecar:Limits:BodyMemory)"),
            Self::NotPublic => f.write_str("a redirect leads to an address that is not public"),
            Self::Busy => f.write_str("waited too long for a turn (Sidecar:Limits:UpstreamCalls)"),
        }
    }
}

impl std::error::Error for OutError {}

impl OutError {
    /// True if another attempt may succeed at once. After a timeout, nobody has time for one.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Broken(_) | Self::Proxy { timed_out: false, .. })
    }
}

/// Sends one request and returns the whole response. Does not follow redirects.
pub trait Exchange: Send + Sync {
    /// Blocks until the response is complete or `request.timeout` has passed.
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError>;
}

/// An [`Exchange`] that takes a turn for every call; see [`turns::switch`].
pub struct InTurn(pub Box<dyn Exchange>);

impl Exchange for InTurn {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        let lane = match request.upstream {
            Upstream::ManagedIdentity => Lane::ManagedIdentity,
            _ => Lane::Origin(Arc::clone(request.url.origin.text())),
        };
        turns::switch(&lane).map_err(|turns::Busy| OutError::Busy)?;
        self.0.send(request)
    }
}
