//! Why input never became a request. The connection is closed after each of these, because the
//! boundary to the next message is unknown or not worth finding.

use std::fmt;

/// Refused before any route sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The syntax or framing is wrong or ambiguous (RFC 9112 §2.2, §6.3).
    Malformed(&'static str),
    /// A version other than 1.0 and 1.1.
    Version,
    /// The request line alone exceeds the limit for heads.
    UriTooLong,
    /// The head or the trailer section exceeds the limit.
    HeadTooLarge {
        /// `RequestHeadBytes`.
        limit: usize,
    },
    TooManyHeaders {
        /// `RequestHeaders`.
        limit: usize,
    },
    /// The body exceeds the limit, or its declared length does.
    BodyTooLarge {
        limit: usize,
        /// Whether the limit is `RequestBodyBytes` rather than the endpoint's own.
        configured: bool,
    },
    /// `Expect` names something other than `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    HeadTimeout,
    /// The body made no progress, or was too slow.
    BodyTimeout,
    /// No memory became free for the body in time.
    NoMemory,
}

impl RequestError {
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLarge { .. } => 413,
            Self::UriTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge { .. } | Self::TooManyHeaders { .. } => 431,
            Self::NoMemory => 503,
            Self::Version => 505,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::Version => f.write_str("the HTTP version is neither 1.0 nor 1.1"),
            Self::UriTooLong => f.write_str("the request line is too long (Sidecar:Limits:RequestHeadBytes)"),
            Self::HeadTooLarge { limit } => {
                write!(f, "the request head is longer than {limit} bytes (Sidecar:Limits:RequestHeadBytes)")
            }
            Self::TooManyHeaders { limit } => {
                write!(f, "the request has more than {limit} header fields (Sidecar:Limits:RequestHeaders)")
            }
            Self::BodyTooLarge { limit, configured } => {
                let setting = if *configured { " (Sidecar:Limits:RequestBodyBytes)" } else { "" };
                write!(f, "the request body is longer than {limit} bytes{setting}")
            }
            Self::Expectation => f.write_str("the only supported expectation is 100-continue"),
            Self::HeadTimeout => f.write_str("the request head was not complete in time (Sidecar:Limits:HeadTimeout)"),
            Self::BodyTimeout => f.write_str("the request body made no progress, or came too slowly"),
            Self::NoMemory => f.write_str("the memory for request bodies is used up (Sidecar:Limits:BodyMemory)"),
        }
    }
}

impl std::error::Error for RequestError {}
