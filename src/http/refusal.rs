//! Why something that came in never became a request. The connection is closed after every one of them:
//! where one message ends and the next begins is no longer known, or no longer worth knowing.

use std::fmt;

/// What is refused before a route sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The syntax or the framing is wrong or ambiguous (RFC 9112 §2.2, §6.3); the text says what.
    Malformed(&'static str),
    /// HTTP, but of another version than 1.0 and 1.1.
    Version,
    /// The request line alone is longer than a head may be.
    UriTooLong,
    /// The head, or the trailer section, is longer than this many bytes.
    HeadTooLarge {
        /// `RequestHeadBytes`.
        limit: usize,
    },
    /// The head has more fields than this.
    TooManyHeaders {
        /// `RequestHeaders`.
        limit: usize,
    },
    /// The body is, or declares itself, longer than this many bytes.
    BodyTooLarge {
        /// `RequestBodyBytes`.
        limit: usize,
    },
    /// `Expect` asks for something else than `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    /// The head was not complete in time.
    HeadTimeout,
    /// The body made no progress for too long, or too little of it.
    BodyTimeout,
    /// No memory became free for the body in time.
    NoMemory,
}

impl Refusal {
    /// The status that answers it.
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

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::Version => f.write_str("the HTTP version is neither 1.0 nor 1.1"),
            Self::UriTooLong => f.write_str("the request line is too long"),
            Self::HeadTooLarge { limit } => write!(f, "the request head is longer than {limit} bytes"),
            Self::TooManyHeaders { limit } => write!(f, "the request has more than {limit} header fields"),
            Self::BodyTooLarge { limit } => write!(f, "the request body is longer than {limit} bytes"),
            Self::Expectation => f.write_str("the only expectation that can be met is 100-continue"),
            Self::HeadTimeout => f.write_str("the request head was not complete in time"),
            Self::BodyTimeout => f.write_str("the request body made no progress, or came too slowly"),
            Self::NoMemory => f.write_str("the memory for request bodies is taken (Sidecar:Limits:BodyMemory)"),
        }
    }
}

impl std::error::Error for Refusal {}
