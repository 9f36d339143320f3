//! The way out: one request to one upstream, and its whole answer or the reason why there is none.
//!
//! [`Exchange`] is the seam behind which the network lies. Token acquisition, key fetching and
//! credentials see this trait alone, so their tests answer from memory.

pub mod answer;
pub mod challenge;
mod charset;
pub mod header;
pub mod proxy;
pub mod redirect;
pub mod relay;
pub mod resolver;
pub mod roots;
pub mod ureq;

pub use answer::{HeaderValues, render};
pub use challenge::claims_challenge;
pub use proxy::Proxies;
pub use redirect::{Arrival, follow};
pub use relay::CallLimits;
pub use resolver::SystemResolver;
pub use roots::Roots;
pub use ureq::{Settings, Thumbprint, UreqExchange};

use std::time::Duration;

use zeroize::Zeroizing;

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
    pub body: Option<Zeroizing<Vec<u8>>>,
    /// For the whole exchange, the answer's body included.
    pub timeout: Duration,
    /// An answer with a longer body is [`OutError::TooLarge`].
    pub max_body: usize,
    /// Whether a connection of an earlier request may be used. What is tried once more goes out on one of its own, or it
    /// could meet another that has ended meanwhile.
    pub pooled: bool,
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
}

impl std::fmt::Display for OutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(cause) | Self::Timeout(cause) | Self::Broken(cause) => f.write_str(cause),
            Self::TooLarge(limit) => write!(f, "the answer is longer than {limit} bytes"),
        }
    }
}

impl std::error::Error for OutError {}

/// Sends one request and returns the whole answer. Follows no redirect.
pub trait Exchange: Send + Sync {
    /// Blocks until the answer is there or `request.timeout` has passed.
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError>;
}
