//! The way out: one request to one upstream, and its whole answer or the reason why there is none.
//!
//! [`Exchange`] is the seam behind which the network lies. Token acquisition, key fetching and
//! credentials see this trait alone, so their tests answer from memory.

pub mod answer;
pub mod challenge;
mod charset;
pub mod forwarding;
pub mod proxy;
pub mod redirect;
pub mod relay;
pub mod resolver;
pub mod roots;
pub mod ureq;

pub use answer::{HeaderValues, Rendered, render};
pub use challenge::claims_challenge;
pub use proxy::Proxies;
pub use redirect::{Arrival, follow};
pub use relay::CallLimits;
pub use resolver::SystemResolver;
pub use roots::Roots;
pub use ureq::{Settings, Thumbprint, UpstreamConnection, UreqExchange};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::memory::{HeldBody, Reservation};
use crate::turns::{self, Lane};
use crate::value::url::Origin;

/// What is called, which decides about proxy, redirects and the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// The token endpoint.
    Token,
    /// OpenID metadata and signing keys.
    Metadata,
    /// A managed identity endpoint: never through a proxy.
    ManagedIdentity,
    /// Azure Key Vault.
    KeyVault,
    /// A downstream API.
    Downstream,
    /// A downstream API that a request is passed through to.
    Proxy,
}

/// A request to an upstream. Header names are lower case.
#[derive(Debug)]
pub struct OutRequest {
    /// What is called.
    pub upstream: Upstream,
    /// Upper case.
    pub method: String,
    /// Absolute.
    pub url: String,
    /// Names in lower case; values may hold tokens and are wiped.
    pub headers: Vec<(String, Zeroizing<String>)>,
    /// `None` sends no body and no length.
    pub body: Option<OutBody>,
    /// For the whole exchange, the answer's body included.
    pub timeout: Duration,
    /// An answer with a longer body is [`OutError::TooLarge`].
    pub max_body: usize,
    /// Where the memory for the answer's body comes from; `None` for answers that are small by their bound.
    pub memory: Option<Arc<AnswerMemory>>,
    /// Whether a connection of an earlier request may be used. What is tried once more goes out on one of its own, or it
    /// could meet another that has ended meanwhile.
    pub pooled: bool,
    /// Whose API led here, where a redirect left its origin. Then nothing that is not public is called but the API's own
    /// host ([`OutError::NotPublic`]).
    pub redirected_from: Option<Origin>,
}

/// A body on its way out.
#[derive(Clone, Debug)]
pub enum OutBody {
    /// Made here; wiped when it is dropped.
    Own(Zeroizing<Vec<u8>>),
    /// A caller's, relayed.
    Relayed(Arc<RelayedBody>),
}

#[cfg(test)]
impl OutBody {
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        match self {
            Self::Own(body) => body.to_vec(),
            Self::Relayed(body) => body.current().map_or_else(Vec::new, |body| body.bytes.clone()),
        }
    }
}

/// A caller's body, shared by all attempts to send it. It is let go once it is certain that there is no further one.
#[derive(Debug)]
pub struct RelayedBody(Mutex<Option<Arc<HeldBody>>>);

impl RelayedBody {
    /// Of a body that was held for the caller.
    pub fn new(body: HeldBody) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Arc::new(body)))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<HeldBody>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body, for one attempt; empty once it was released.
    pub fn current(&self) -> Option<Arc<HeldBody>> {
        self.lock().clone()
    }

    /// Lets go of the body and its memory.
    pub fn release(&self) {
        *self.lock() = None;
    }
}

/// Memory for an answer's body, which lives as long as somebody holds the body.
#[derive(Debug)]
pub struct AnswerMemory {
    reservation: Mutex<Reservation>,
    /// Bytes of an earlier answer that is still held.
    kept: AtomicUsize,
    /// How long a body of unknown length may wait when it cannot grow.
    pub patience: Duration,
}

impl AnswerMemory {
    /// Nothing is reserved yet.
    pub fn new(reservation: Reservation, patience: Duration) -> Arc<Self> {
        Arc::new(Self { reservation: Mutex::new(reservation), kept: AtomicUsize::new(0), patience })
    }

    /// So many bytes of an earlier answer are held beside the next.
    fn keep(&self, size: usize) {
        self.kept.store(size, Ordering::Relaxed);
    }

    /// Makes it cover so many bytes, and waits for room at most this long: whether there was some.
    pub fn cover(&self, size: usize, limit: Duration) -> bool {
        let size = size.saturating_add(self.kept.load(Ordering::Relaxed));
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner).wait_in_place(size, limit)
    }
}

/// A whole answer, whatever its status.
#[derive(Clone, Debug)]
pub struct OutResponse {
    /// The final status, never 1xx.
    pub status: u16,
    /// In the order received, names in lower case, values as bytes since HTTP does not promise UTF-8.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Undone of its transfer coding, not of its content coding.
    pub body: Vec<u8>,
}

impl OutResponse {
    /// The first value of a header, where it is readable text. `name` is lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(own, _)| own == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// Why there is no answer. Texts name host and cause, never a path, query, header or body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutError {
    /// No connection: name resolution, refusal, TLS. Nothing was processed by the upstream.
    Connect(String),
    /// A deadline passed; which one and how long it was.
    Timeout(String),
    /// The connection broke or the answer was no HTTP.
    Broken(String),
    /// The answer's body is longer than this many bytes.
    TooLarge(usize),
    /// There was no memory for the answer's body.
    NoMemory {
        /// Whether the deadline of the whole exchange passed meanwhile; else the body could not grow.
        timed_out: bool,
    },
    /// No turn for the call came in time; nothing was sent.
    Busy,
    /// The proxy on the way cannot be reached, or does not do what it is asked. The upstream was not reached.
    Proxy {
        /// The proxy's address and what happened.
        cause: String,
        /// Whether a deadline passed.
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
            Self::Busy => f.write_str("no turn came in time (Sidecar:Limits:UpstreamCalls)"),
        }
    }
}

impl std::error::Error for OutError {}

/// Sends one request and returns the whole answer. Follows no redirect.
pub trait Exchange: Send + Sync {
    /// Blocks until the answer is there or `request.timeout` has passed.
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError>;
}

impl<T: Exchange> Exchange for Arc<T> {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        (**self).send(request)
    }
}

/// An [`Exchange`] that calls an upstream only when the thread has a turn for it; see [`turns::switch`].
pub struct InTurn(pub Box<dyn Exchange>);

impl Exchange for InTurn {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        let lane = match request.upstream {
            Upstream::ManagedIdentity => Lane::ManagedIdentity,
            _ => Lane::of_url(&request.url),
        };
        turns::switch(&lane).map_err(|turns::Busy| OutError::Busy)?;
        self.0.send(request)
    }
}
