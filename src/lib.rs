//! A sidecar for Microsoft Entra ID: it validates inbound bearer tokens, acquires tokens, and calls
//! downstream web APIs on behalf of the application next to it.
//!
//! A request flows in one direction:
//!
//! ```text
//! http ──Request──▶ routes ──Overrides──▶ options ──Effective──▶ token ──AccessToken──▶ outbound ──▶ Reply
//!                     │                                           │ ▲
//!                     └─ jwt ◀── jwks                credentials ─┘ └─ cache
//! ```
//!
//! Each module imports only from modules on the lines below its own, and `value` only from
//! `secret`. `tests/layering.rs` checks this, and that there are no import cycles:
//!
//! ```layers
//! cli
//! check oneshot
//! app
//! routes
//! token
//! jwt metrics
//! credentials jwks shared_cache
//! healthcheck http log openapi options outbound shr
//! config
//! clock redaction watched
//! value
//! allocator descriptors file lru memory notify secret spelling turns
//! errors sync
//! ```

mod allocator;
mod app;
mod check;
mod cli;
mod clock;
mod config;
mod credentials;
mod descriptors;
mod errors;
mod file;
mod healthcheck;
mod http;
mod jwks;
mod jwt;
mod log;
mod lru;
mod memory;
mod metrics;
mod notify;
mod oneshot;
mod openapi;
mod options;
mod outbound;
mod redaction;
mod routes;
mod secret;
#[cfg(feature = "shared-cache")]
mod shared_cache;
mod shr;
mod spelling;
mod sync;
mod token;
mod turns;
mod value;
mod watched;

pub use cli::run;

/// For the tests, benchmarks and fuzz targets in this repository; not an API.
#[doc(hidden)]
pub mod internal {
    pub use crate::clock::{Clock, ManualClock};
    pub use crate::credentials::certificate::Certificate;
    pub use crate::log::categories;
    pub use crate::memory::BodyMemory;
    pub use crate::metrics::Metrics;
    pub use crate::options::{Effective, Overrides, Target};
    pub use crate::routes::route::Endpoint;
    pub use crate::routes::{Routes, Service, Shared};
    pub use crate::secret::Secret;
    pub use crate::token::Acquirer;
    pub use crate::turns::{Bounds, Lane, Turns};
    pub mod config {
        pub use crate::config::{Api, ApiOptions, Config, Invocation, Limits, Listen, PopValidation};
        pub use crate::config::{describe, documentation, load};
    }
    pub mod http {
        pub use crate::http::head::Head;
        pub use crate::http::reader::{Fed, RequestReader};
        pub use crate::http::{Body, Budget, Cause, Handler, Keep, Monitor, Outcome, Peer, Reply, Request};
        pub use crate::http::{RequestError, Resumed, Running, Server, Stats, Waker};
    }
    pub mod jwks {
        pub use crate::jwks::{KeySet, KeySettings, Keys, V1, accepted_issuers};
        pub mod document {
            pub use crate::jwks::document::{issuer, keys, metadata};
        }
    }
    pub mod jwt {
        pub use crate::jwt::shr::{OriginalRequest, SignedRequests};
        pub use crate::jwt::{Policy, Rejection, Validator, verify, verify_signature};
        pub mod compact {
            pub use crate::jwt::compact::parse;
        }
        #[cfg(feature = "jwe")]
        pub mod jwe {
            pub use crate::jwt::jwe::{DecryptionKey, decrypt};
        }
    }
    pub mod outbound {
        pub use crate::outbound::proxy::Proxies;
        pub use crate::outbound::redirect::{Hop, next_hop};
        pub use crate::outbound::resolver::SystemResolver;
        pub use crate::outbound::roots::Roots;
        pub use crate::outbound::{
            Exchange, HeaderFields, HeaderValues, OutError, OutRequest, OutResponse, claims_challenge, render,
        };
        pub use crate::outbound::{ExchangeSettings, UreqExchange};
        pub mod challenge {
            pub use crate::outbound::challenge::parse;
        }
        pub mod forwarding {
            pub use crate::outbound::forwarding::{LinkRewrite, RequestHead};
            pub use crate::outbound::http1::{AnswerHead, BodyFraming};
        }
    }
    pub mod value {
        pub use crate::value::bound_key::BoundKey;
        pub use crate::value::chunked;
        pub use crate::value::date::to_rfc3339_seconds;
        pub use crate::value::header::{is_reserved, is_token, is_value};
        pub use crate::value::jwk::Key;
        pub use crate::value::url::Url;
        pub mod der {
            pub use crate::value::der::{
                Certificate, ec_point_from_spki, ec_private_key, rsa_from_pkcs1, rsa_from_spki,
            };
        }
    }
}
