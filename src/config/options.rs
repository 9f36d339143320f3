//! The options of an API: what each is called, what it may be, where it goes, and what holds where the configuration
//! and a request both say something. Settings and queries are read by the same rows.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::json;

use super::ManagedIdentity;
use super::keys::{Key, Kind, Place, Split, key};
use super::slot::{Field, Slot, Value};
use crate::value::bound_key::BoundKey;
use crate::value::header;
use crate::value::url::Url;

/// What the pattern of every row begins with.
const SECTION: &str = "DownstreamApis:*:";

#[rustfmt::skip] // A row is a line.
pub(super) const ROWS: &[Key] = &[
    key("DownstreamApis:*:BaseUrl", Kind::BaseUrl, "Needed by `/DownstreamApi*` only. An override must have its origin, or one of `AllowedBaseUrls`.").api(|options| Slot::Url(&mut options.base_url)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:AllowedBaseUrls", Kind::Url, "Further URLs whose origins an override of `BaseUrl` may name.").list(Split::Either).api(|options| Slot::Urls(&mut options.allowed_base_urls)).only(Place::Settings),
    key("DownstreamApis:*:RelativePath", Kind::RelativePath, "Appended to `BaseUrl`; may hold a query.").api(|options| Slot::Text(&mut options.relative_path)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:HttpMethod", Kind::Method, "The method of the call where the caller's does not decide.").api(|options| Slot::Text(&mut options.http_method)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:Scopes", Kind::Scope, "What the token is for. In a query, repeat it for several; they replace the configured ones.").list(Split::Space).api(|options| Slot::List(&mut options.scopes)),
    key("DownstreamApis:*:RequestAppToken", Kind::Bool, "Whether the token is the application's own.").or("false").api(|options| Slot::Given(&mut options.request_app_token)),
    key("DownstreamApis:*:AcceptHeader", Kind::HeaderValue, "`Accept` of the call; empty sends none.").or("application/json").api(|options| Slot::Text(&mut options.accept)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:ContentType", Kind::MediaType, "For a body that came without a `Content-Type`; an override replaces the body's own.").api(|options| Slot::Text(&mut options.content_type)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:ProtocolScheme", Kind::Choice(&["Bearer", "PoP", "MTLS", "MTLS_POP"]), "`PoP` asks for signed HTTP requests; mutual TLS is not supported.").or("Bearer"),
    key("DownstreamApis:*:CustomHeader:*", Kind::Header, "Another spelling of `ExtraHeaderParameters`.").secret().api(|options| Slot::Headers(&mut options.extra_headers)).only(Place::Query).alias_of("DownstreamApis:*:ExtraHeaderParameters:*"),
    key("DownstreamApis:*:ExtraHeaderParameters:*", Kind::Header, "Headers added to the call, by name.").secret().api(|options| Slot::Headers(&mut options.extra_headers)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:ExtraQueryParameters:*", Kind::Parameter, "Query parameters added to the call, by name.").secret().api(|options| Slot::Map(&mut options.extra_query)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:Proxy:Enabled", Kind::Bool, "Whether `/Proxy*` passes requests through to the API.").or("true").api(|options| Slot::Given(&mut options.proxy)).only(Place::Settings),
    key("DownstreamApis:*:Proxy:KeepHeaders", Kind::Choice(header::CREDENTIALS), "Credentials of the caller's own that `/Proxy*` lets through beside the token.").list(Split::Either).api(|options| Slot::List(&mut options.keep_headers)).only(Place::Settings),
    key("DownstreamApis:*:AcquireTokenOptions:Tenant", Kind::Tenant, "Instead of the registration's tenant: a GUID or a domain name.").api(|options| Slot::Text(&mut options.tenant)),
    key("DownstreamApis:*:AcquireTokenOptions:AuthenticationOptionsName", Kind::Text, "The section whose registration acquires, instead of `AzureAd`."),
    key("DownstreamApis:*:AcquireTokenOptions:AuthenticationScheme", Kind::Scheme, "`Bearer` or `PoP`: with `PoP` and without `PopPublicKey` the sidecar holds the key and signs the request. In settings else another spelling of `AuthenticationOptionsName`.").api(|options| Slot::Given(&mut options.pop)),
    key("DownstreamApis:*:AcquireTokenOptions:CorrelationId", Kind::Guid, "Follows the request to Entra, as `client-request-id`, and to the API.").api(|options| Slot::Text(&mut options.correlation_id)),
    key("DownstreamApis:*:AcquireTokenOptions:Claims", Kind::Json, "A claims request: JSON text of an object; skips the cache.").api(|options| Slot::Text(&mut options.claims)),
    key("DownstreamApis:*:AcquireTokenOptions:ForceRefresh", Kind::Bool, "Skips the cached token and replaces it.").or("false").api(|options| Slot::Given(&mut options.force_refresh)),
    key("DownstreamApis:*:AcquireTokenOptions:FmiPath", Kind::Plain, "`fmi_path` of app token requests.").api(|options| Slot::Text(&mut options.fmi_path)),
    key("DownstreamApis:*:AcquireTokenOptions:PopPublicKey", Kind::PublicKey, "The caller's key that tokens are bound to: PEM, base64 of PEM or DER, JWK, or a ready `req_cnf`; a private one by mistake is not shown either.").secret().api(|options| Slot::Key(&mut options.pop_public_key)),
    key("DownstreamApis:*:AcquireTokenOptions:PopClaims", Kind::Json, "Claims added to requests that the sidecar signs: JSON text of an object.").api(|options| Slot::Text(&mut options.pop_claims)),
    key("DownstreamApis:*:AcquireTokenOptions:PopClaim", Kind::Json, "Another spelling of `PopClaims`.").api(|options| Slot::Text(&mut options.pop_claims)).alias_of("DownstreamApis:*:AcquireTokenOptions:PopClaims"),
    key("DownstreamApis:*:AcquireTokenOptions:LongRunningWebApiSessionKey", Kind::Plain, "The long-running session; `AllocateForMe` makes a key.").secret().api(|options| Slot::Text(&mut options.session_key)),
    key("DownstreamApis:*:AcquireTokenOptions:ManagedIdentity:UserAssignedClientId", Kind::Guid, "The section's presence asks for a managed identity's token; without this key the system-assigned one's.").api(|options| Slot::Identity(&mut options.managed_identity)),
    key("DownstreamApis:*:AcquireTokenOptions:UserFlow", Kind::Token, "B2C: the policy of token requests, instead of `SignUpSignInPolicyId`. Needs a registration with `Domain`.").api(|options| Slot::Text(&mut options.user_flow)).only(Place::Settings),
    key("DownstreamApis:*:AcquireTokenOptions:ExtraQueryParameters:*", Kind::TokenParameter, "Added to the token endpoint's URL; not the fields of the token request (`client_id`, `scope` and the like).").secret().api(|options| Slot::Map(&mut options.token_query)),
    key("DownstreamApis:*:AcquireTokenOptions:ExtraHeadersParameters:*", Kind::Header, "Headers added to token requests.").secret().api(|options| Slot::Headers(&mut options.token_headers)).only(Place::Settings),
    key("DownstreamApis:*:AcquireTokenOptions:ExtraParameters:*", Kind::Unused, "Read by extensions of the original only."),
];

/// Options of an API, each given or not: by the configuration, or by a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiOptions {
    /// `Scopes`. Empty: not given.
    pub scopes: Vec<String>,
    /// Whether the token is the application's own.
    pub request_app_token: Option<bool>,
    /// Needed by `/DownstreamApi*` only.
    pub base_url: Option<Url>,
    /// Origins that an override of `BaseUrl` may name beside the configured one.
    pub allowed_base_urls: Vec<Url>,
    /// May hold a query.
    pub relative_path: Option<String>,
    /// Upper case.
    pub http_method: Option<String>,
    /// Empty sends none.
    pub accept: Option<String>,
    /// Of the body of the downstream request.
    pub content_type: Option<String>,
    /// Headers of the downstream request, names in lower case; reserved ones were refused.
    pub extra_headers: BTreeMap<String, String>,
    /// Query parameters of the downstream request.
    pub extra_query: BTreeMap<String, String>,
    /// Whether requests are passed through to it.
    pub proxy: Option<bool>,
    /// Headers of the caller's that are passed through though they are credentials; as the table spells them.
    pub keep_headers: Vec<String>,
    /// Instead of the registration's.
    pub tenant: Option<String>,
    /// Whether `AuthenticationScheme` is `PoP`.
    pub pop: Option<bool>,
    /// A GUID, lower case.
    pub correlation_id: Option<String>,
    /// JSON text of a claims request.
    pub claims: Option<String>,
    /// Skips the cached token.
    pub force_refresh: Option<bool>,
    /// `fmi_path` of app token requests.
    pub fmi_path: Option<String>,
    /// The key that a token is bound to.
    pub pop_public_key: Option<BoundKey>,
    /// Members of a signed request: JSON text of an object.
    pub pop_claims: Option<String>,
    /// The long-running session.
    pub session_key: Option<String>,
    /// Present: a managed identity's token.
    pub managed_identity: Option<ManagedIdentity>,
    /// The B2C policy of token requests.
    pub user_flow: Option<String>,
    /// Added to the token endpoint's URL.
    pub token_query: BTreeMap<String, String>,
    /// Headers of token requests, names in lower case.
    pub token_headers: BTreeMap<String, String>,
}

/// The options that hold for one request. It borrows from configuration and request, and copies a map only where both
/// have entries.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "what each is, the field of the same name in `ApiOptions` says")]
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
    /// Whether the token is bound to a key: by `AuthenticationScheme` or by naming one.
    pub pop: bool,
    pub correlation_id: Option<&'a str>,
    pub claims: Option<&'a str>,
    pub force_refresh: bool,
    pub fmi_path: Option<&'a str>,
    /// The key that the request or the configuration names. `None` with `pop`: the sidecar's.
    pub pop_public_key: Option<&'a BoundKey>,
    pub pop_claims: Option<&'a str>,
    pub session_key: Option<&'a str>,
    pub managed_identity: Option<&'a ManagedIdentity>,
    pub user_flow: Option<&'a str>,
    pub token_query: Cow<'a, BTreeMap<String, String>>,
    pub token_headers: Cow<'a, BTreeMap<String, String>>,
}

/// An option for which what came with the request stands between what is asked for and what is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked<'a> {
    /// By the request's override.
    pub asked: Option<&'a str>,
    /// For the API.
    pub configured: Option<&'a str>,
}

impl ApiOptions {
    /// These options, and where they say nothing the configured ones.
    pub fn over<'a>(&'a self, configured: &'a Self) -> InForce<'a> {
        // Named one by one, so that a new option cannot be forgotten here. Which other base URLs there are, and what
        // is passed through, is for the configuration alone.
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

    /// Takes an option in. `parameter` stands in the place of the row's last `*`.
    pub(super) fn take(&mut self, row: &Key, parameter: &str, value: Value) -> bool {
        if let Field::Api(field) = row.field { field(self).fill(parameter, value) } else { false }
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

/// An option that a request may override.
#[derive(Clone, Copy, Debug)]
pub struct Override(&'static Key);

impl Override {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().filter(|row| row.is_override()).map(Self)
    }

    /// The option of this name, after the prefix, and what the name says where the documented one has `<Name>`.
    pub fn find(name: &str) -> Option<(Self, &str)> {
        Self::all().find_map(|option| {
            let own = option.path();
            let stem = own.strip_suffix('*').unwrap_or(own);
            let (start, rest) = name.split_at_checked(stem.len())?;
            let same =
                |(own, given): (u8, u8)| if own == b':' { given == b'.' } else { own.eq_ignore_ascii_case(&given) };
            let found = stem.bytes().zip(start.bytes()).all(same) && (rest.is_empty() || stem.len() < own.len());
            found.then_some((option, rest))
        })
    }

    fn path(self) -> &'static str {
        self.0.pattern.strip_prefix(SECTION).unwrap_or(self.0.pattern)
    }

    /// Its name after the prefix, as documented; `<Name>` stands for any.
    pub fn name(self) -> String {
        self.path().replace(':', ".").replace('*', "<Name>")
    }

    /// Its type and an example, as OpenAPI has them.
    pub fn schema(self) -> (serde_json::Value, serde_json::Value) {
        let text = |example: &str| (json!({ "type": "string" }), json!(example));
        match self.0.kind {
            Kind::Bool => (json!({ "type": "boolean" }), json!(true)),
            Kind::Guid => {
                (json!({ "type": "string", "format": "uuid" }), json!("7f2c1e36-0d6b-4f0e-9a39-0f3a5f6f1c11"))
            }
            Kind::BaseUrl => (json!({ "type": "string", "format": "uri" }), json!("https://graph.microsoft.com/beta")),
            Kind::Scope => (json!({ "type": "array", "items": { "type": "string" } }), json!(["User.Read"])),
            Kind::Scheme => (json!({ "type": "string", "enum": ["Bearer", "PoP"] }), json!("PoP")),
            Kind::Tenant => text("contoso.onmicrosoft.com"),
            Kind::Method => text("PATCH"),
            Kind::HeaderValue | Kind::MediaType => text("application/json"),
            Kind::RelativePath => text("me/messages?$top=10"),
            Kind::Json => text(r#"{"nonce":"n1"}"#),
            Kind::PublicKey => text(r#"{"kty":"EC","crv":"P-256","x":"…","y":"…"}"#),
            _ => text("value"),
        }
    }

    /// Its row.
    pub const fn row(self) -> &'static Key {
        self.0
    }

    /// Whether the header of options may name it; where that header is sent, the request itself says the others.
    pub const fn in_header(self) -> bool {
        matches!(self.0.place, Place::Everywhere)
    }

    /// Whether it makes an earlier one count no more: each scope counts, of all else the last.
    pub fn replaces(self, parameter: &str, earlier: Self, earlier_parameter: &str) -> bool {
        let id = |option: Self| option.0.alias.unwrap_or(option.0.pattern);
        let same = match self.0.kind {
            Kind::Header => parameter.eq_ignore_ascii_case(earlier_parameter),
            _ => parameter == earlier_parameter,
        };
        same && id(self) == id(earlier) && self.0.list.is_none()
    }

    /// Puts a value in, or says what was expected instead.
    pub fn set(self, options: &mut ApiOptions, parameter: &str, text: &str) -> Result<(), String> {
        let value = self.0.kind.parse(parameter, text)?;
        // The operator's own base URL may hold a query; a caller has `RelativePath` and `ExtraQueryParameters` for it.
        if matches!(&value, Value::Url(url) if url.query.is_some()) {
            return Err("a URL without a query".to_owned());
        }
        let fits = options.take(self.0, parameter, value);
        debug_assert!(fits, "{}: its kind does not fit its field", self.0.pattern);
        Ok(())
    }
}
