//! The sections `Sidecar` and `Sidecar:Limits`. Rows of the table fill and document most fields.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::value::network::Network;
use crate::value::store_url::StoreUrl;

#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the configuration")]
pub struct Sidecar {
    pub allowed_callers: AllowedCallers,
    pub caller_token_file: Option<PathBuf>,
    pub allow_overrides: AllowOverrides,
    pub allow_app_token_without_user: bool,
    pub allow_insecure_upstream: bool,
    pub allow_outbound_redirects: bool,
    pub header_values_as_arrays: bool,
    pub semantic_token_errors: bool,
    pub proxy: bool,
    pub metrics: bool,
    pub oauth: bool,
    pub trusted_certificates: Vec<PathBuf>,
    pub allowed_tenants: Vec<String>,
    pub signed_http_request_key: Option<PathBuf>,
    pub identity_endpoint: IdentityEndpoint,
    pub forward_auth: ForwardAuth,
    pub pop_validation: PopValidation,
    pub shared_cache: SharedCache,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityEndpoint {
    pub enabled: bool,
    pub resources: Vec<String>,
    pub api: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardAuth {
    pub enabled: bool,
    pub claims: bool,
    /// Claims by the names of headers in lower case.
    pub headers: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedCache {
    pub url: Option<StoreUrl>,
    pub key_file: Option<PathBuf>,
    /// Of all names in the store.
    pub prefix: Option<String>,
    /// For all commands of one request.
    pub timeout: Duration,
    /// Since a session was used last.
    pub session_lifetime: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedCallers {
    /// `*`, and the default in Development.
    Any,
    /// Loopback, the unix socket and these networks.
    Networks(Vec<Network>),
}

impl Default for AllowedCallers {
    fn default() -> Self {
        Self::Networks(Vec::new())
    }
}

impl AllowedCallers {
    /// True if callers from other machines may be admitted.
    pub fn go_beyond_loopback(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Networks(networks) => !networks.iter().all(Network::is_loopback),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one switch an endpoint, as configured")]
pub struct AllowOverrides {
    pub authorization_header: bool,
    pub authorization_header_unauthenticated: bool,
    pub downstream_api: bool,
    pub downstream_api_unauthenticated: bool,
}

impl AllowOverrides {
    pub const fn any(self) -> bool {
        self.authorization_header
            || self.authorization_header_unauthenticated
            || self.downstream_api
            || self.downstream_api_unauthenticated
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the configuration")]
pub struct PopValidation {
    pub method: bool,
    pub host: bool,
    pub path: bool,
    pub query: bool,
    pub accept_unsigned_query: bool,
    pub present_claims: bool,
    pub claims_when_present: Vec<String>,
    pub lifetime: Duration,
    pub reject_replays: bool,
    pub reject_bound_as_bearer: bool,
}

/// What callers can make the program spend: `Sidecar:Limits` (docs/configuration.md).
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub workers: usize,
    pub upstream_calls: usize,
    /// How long a request may wait for turns and memory, in total.
    pub queue_timeout: Duration,
    pub body_memory: usize,
    pub connections: usize,
    /// Of a request head, and of the trailer section of a chunked body.
    pub head_bytes: usize,
    pub headers: usize,
    /// From the first byte of a head to its end.
    pub head_timeout: Duration,
    /// Without progress of a body.
    pub body_timeout: Duration,
    /// Without progress of an answer.
    pub write_timeout: Duration,
    /// Between requests, and before the first one.
    pub idle_timeout: Duration,
    pub body_bytes: usize,
    pub token_bytes: usize,
    pub connect_timeout: Duration,
    pub token_request_timeout: Duration,
    pub downstream_timeout: Duration,
    pub downstream_body_bytes: usize,
    pub proxy_first_byte_timeout: Duration,
    pub proxy_idle_timeout: Duration,
    pub token_cache_entries: usize,
    pub token_cache_bytes: usize,
    pub validated_tokens: usize,
    pub sessions: usize,
    pub shutdown_timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_networks_are_no_exposure() {
        for (network, beyond) in [
            ("127.0.0.1", false),
            ("127.0.0.0/8", false),
            ("::1", false),
            ("126.0.0.0/7", true),
            ("::/127", true),
            ("10.0.0.0/8", true),
        ] {
            let callers = AllowedCallers::Networks(vec![Network::parse_exact(network).unwrap()]);
            assert_eq!(callers.go_beyond_loopback(), beyond, "{network}");
        }
        assert!(!AllowedCallers::Networks(Vec::new()).go_beyond_loopback());
        assert!(AllowedCallers::Any.go_beyond_loopback());
    }
}
