//! The options of an API, and how those of a request are laid over the configured ones.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::value::bound_key::BoundKey;
use crate::value::url::Url;

/// Options of an API, each given or not, as configured or as asked for by a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiOptions {
    /// Empty: not given.
    pub scopes: Vec<String>,
    /// True for an app token instead of a user's.
    pub request_app_token: Option<bool>,
    /// Required by `/DownstreamApi*`, `/Proxy*`, and where the sidecar signs requests.
    pub base_url: Option<Url>,
    /// Origins that an override of `BaseUrl` may name besides the configured one.
    pub allowed_base_urls: Vec<Url>,
    /// May contain a query.
    pub relative_path: Option<String>,
    /// Upper case.
    pub http_method: Option<String>,
    /// Empty: no `Accept` is sent.
    pub accept: Option<String>,
    pub content_type: Option<String>,
    /// Headers of the downstream request, names in lower case. Reserved names have been refused.
    pub extra_headers: BTreeMap<String, String>,
    pub extra_query: BTreeMap<String, String>,
    pub proxy: Option<bool>,
    /// The caller's credential headers that pass-through keeps, as the table spells them.
    pub keep_headers: Vec<String>,
    /// Replaces the registration's tenant.
    pub tenant: Option<String>,
    /// True if `AuthenticationScheme` is `PoP`.
    pub pop: Option<bool>,
    /// A GUID, lower case.
    pub correlation_id: Option<String>,
    /// A claims request as JSON text.
    pub claims: Option<String>,
    pub force_refresh: Option<bool>,
    pub fmi_path: Option<String>,
    pub pop_public_key: Option<BoundKey>,
    /// Members of a signed request: the JSON text of an object.
    pub pop_claims: Option<String>,
    /// The key of a long-running session, or `AllocateForMe`.
    pub session_key: Option<String>,
    pub managed_identity: Option<ManagedIdentity>,
    pub user_flow: Option<String>,
    /// Added to the URL of the token endpoint.
    pub token_query: BTreeMap<String, String>,
    /// Headers of token requests, names in lower case.
    pub token_headers: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ManagedIdentity {
    /// `UserAssignedClientId`. `None`: the system-assigned identity.
    pub client_id: Option<String>,
}

/// The options in force for one request. Borrows from the configuration and the request, and copies
/// a map only if both have entries. Its fields mean the same as those of [`ApiOptions`].
#[derive(Clone, Debug)]
pub struct InForce<'a> {
    pub scopes: &'a [String],
    pub request_app_token: bool,
    pub base_url: Option<&'a Url>,
    pub relative_path: &'a str,
    pub http_method: Ranked<'a>,
    pub accept: &'a str,
    pub content_type: Ranked<'a>,
    pub extra_headers: Cow<'a, BTreeMap<String, String>>,
    pub extra_query: Cow<'a, BTreeMap<String, String>>,
    pub tenant: Option<&'a str>,
    /// True if the token is bound to a key: `AuthenticationScheme` is `PoP`, or a key is named.
    pub pop: bool,
    pub correlation_id: Option<&'a str>,
    pub claims: Option<&'a str>,
    pub force_refresh: bool,
    pub fmi_path: Option<&'a str>,
    /// The key that the request or the configuration names. `None` with `pop`: the sidecar's key.
    pub pop_public_key: Option<&'a BoundKey>,
    pub pop_claims: Option<&'a str>,
    pub session_key: Option<&'a str>,
    pub managed_identity: Option<&'a ManagedIdentity>,
    pub user_flow: Option<&'a str>,
    pub token_query: Cow<'a, BTreeMap<String, String>>,
    pub token_headers: Cow<'a, BTreeMap<String, String>>,
}

impl InForce<'_> {
    /// Whether the sidecar signs requests with its own key, for which it has to know their URL.
    pub const fn signs_requests(&self) -> bool {
        self.pop && self.pop_public_key.is_none()
    }
}

/// An option that the inbound request itself can set too: an override beats it, and it beats the
/// configured value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked<'a> {
    pub asked: Option<&'a str>,
    pub configured: Option<&'a str>,
}

impl ApiOptions {
    /// These options, and the configured ones for those not given.
    pub fn over<'a>(&'a self, configured: &'a Self) -> InForce<'a> {
        // Destructured, so that a new option does not compile until it is used here. Requests
        // cannot set `allowed_base_urls`.
        #[rustfmt::skip]
        let Self {
            scopes, request_app_token, base_url, allowed_base_urls: _, relative_path, http_method, accept, content_type,
            extra_headers, extra_query, proxy: _, keep_headers: _, tenant, pop, correlation_id, claims, force_refresh, fmi_path, pop_public_key,
            pop_claims, session_key, managed_identity, user_flow, token_query, token_headers,
        } = self;
        let pop_public_key = pop_public_key.as_ref().or(configured.pop_public_key.as_ref());
        InForce {
            scopes: if scopes.is_empty() { &configured.scopes } else { scopes },
            request_app_token: request_app_token.or(configured.request_app_token).unwrap_or(false),
            base_url: base_url.as_ref().or(configured.base_url.as_ref()),
            relative_path: relative_path.as_deref().or(configured.relative_path.as_deref()).unwrap_or_default(),
            http_method: Ranked { asked: http_method.as_deref(), configured: configured.http_method.as_deref() },
            accept: accept.as_deref().or(configured.accept.as_deref()).unwrap_or_default(),
            content_type: Ranked { asked: content_type.as_deref(), configured: configured.content_type.as_deref() },
            extra_headers: map(extra_headers, &configured.extra_headers),
            extra_query: map(extra_query, &configured.extra_query),
            tenant: tenant.as_deref().or(configured.tenant.as_deref()),
            pop: pop_public_key.is_some() || pop.or(configured.pop).unwrap_or(false),
            correlation_id: correlation_id.as_deref().or(configured.correlation_id.as_deref()),
            claims: claims.as_deref().or(configured.claims.as_deref()),
            force_refresh: force_refresh.or(configured.force_refresh).unwrap_or(false),
            fmi_path: fmi_path.as_deref().or(configured.fmi_path.as_deref()),
            pop_public_key,
            pop_claims: pop_claims.as_deref().or(configured.pop_claims.as_deref()),
            session_key: session_key.as_deref().or(configured.session_key.as_deref()),
            managed_identity: managed_identity.as_ref().or(configured.managed_identity.as_ref()),
            user_flow: user_flow.as_deref().or(configured.user_flow.as_deref()),
            token_query: map(token_query, &configured.token_query),
            token_headers: map(token_headers, &configured.token_headers),
        }
    }

    /// Whether the API can be used through `/Proxy*`.
    pub fn passes_through(&self) -> bool {
        self.proxy != Some(false) && self.base_url.is_some()
    }

    /// Whether its tokens are bound to a key, unless a request says otherwise.
    pub fn is_bound(&self) -> bool {
        self.pop_public_key.is_some() || self.pop == Some(true)
    }
}

fn map<'a>(
    asked: &'a BTreeMap<String, String>,
    configured: &'a BTreeMap<String, String>,
) -> Cow<'a, BTreeMap<String, String>> {
    match (asked.is_empty(), configured.is_empty()) {
        (true, _) => Cow::Borrowed(configured),
        (false, true) => Cow::Borrowed(asked),
        (false, false) => {
            let mut merged = configured.clone();
            merged.extend(asked.iter().map(|(name, value)| (name.clone(), value.clone())));
            Cow::Owned(merged)
        }
    }
}
