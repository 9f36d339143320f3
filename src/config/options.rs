//! The table of an API's options: name, type, and the field of [`ApiOptions`] that each fills.
//! Settings and queries are read by the same rows.

use serde_json::json;

use super::api_options::ApiOptions;
use super::row::{Kind, Place, Row, Split, key};
use super::slot::{Slot, Value};
use crate::value::header;

const SECTION: &str = "DownstreamApis:*:";

#[rustfmt::skip] // A row is a line.
pub(super) const ROWS: &[Row] = &[
    key("DownstreamApis:*:BaseUrl", Kind::BaseUrl, "Required by `/DownstreamApi*`, `/Proxy*`, and where the sidecar signs requests (`AuthenticationScheme=PoP`). An override must have its origin, or one of `AllowedBaseUrls`.").api(|options| Slot::Url(&mut options.base_url)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:AllowedBaseUrls", Kind::Url, "URLs whose origins an override of `BaseUrl` may have too.").list(Split::Either).api(|options| Slot::Urls(&mut options.allowed_base_urls)).only(Place::Settings),
    key("DownstreamApis:*:RelativePath", Kind::RelativePath, "Appended to `BaseUrl`. May contain a query.").api(|options| Slot::Text(&mut options.relative_path)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:HttpMethod", Kind::Method, "The method of the call, unless the caller's method decides.").api(|options| Slot::Text(&mut options.http_method)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:Scopes", Kind::Scope, "Scopes of the token. In a query, repeat the parameter for several. They replace the configured ones.").list(Split::Space).api(|options| Slot::List(&mut options.scopes)),
    key("DownstreamApis:*:RequestAppToken", Kind::Bool, "Whether to get an app token instead of a user's.").or("false").api(|options| Slot::Given(&mut options.request_app_token)),
    key("DownstreamApis:*:AcceptHeader", Kind::HeaderValue, "`Accept` header of the call. Empty: none is sent.").or("application/json").api(|options| Slot::Text(&mut options.accept)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:ContentType", Kind::MediaType, "Type of a body sent without `Content-Type`. An override replaces the body's own type.").api(|options| Slot::Text(&mut options.content_type)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:ProtocolScheme", Kind::Choice(&["Bearer", "PoP"], &["MTLS", "MTLS_POP"]), "`PoP` signs HTTP requests. Mutual TLS is not supported.").or("Bearer"),
    key("DownstreamApis:*:CustomHeader:*", Kind::Header, "Another spelling of `ExtraHeaderParameters`.").secret().api(|options| Slot::Headers(&mut options.extra_headers)).only(Place::Query).alias_of("DownstreamApis:*:ExtraHeaderParameters:*"),
    key("DownstreamApis:*:ExtraHeaderParameters:*", Kind::Header, "Headers to add to the call, by name.").secret().api(|options| Slot::Headers(&mut options.extra_headers)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:ExtraQueryParameters:*", Kind::Parameter, "Query parameters to add to the call, by name.").secret().api(|options| Slot::Map(&mut options.extra_query)).only(Place::SettingsAndQuery),
    key("DownstreamApis:*:Proxy:Enabled", Kind::Bool, "Whether `/Proxy*` passes requests through to the API.").or("true").api(|options| Slot::Given(&mut options.proxy)).only(Place::Settings),
    key("DownstreamApis:*:Proxy:KeepHeaders", Kind::Choice(header::CREDENTIALS, &[]), "Credentials of the caller's own that `/Proxy*` lets through beside the token.").list(Split::Either).api(|options| Slot::List(&mut options.keep_headers)).only(Place::Settings),
    key("DownstreamApis:*:AcquireTokenOptions:Tenant", Kind::Tenant, "Replaces the registration's tenant: a GUID or a domain name.").api(|options| Slot::Text(&mut options.tenant)),
    key("DownstreamApis:*:AcquireTokenOptions:AuthenticationOptionsName", Kind::Text, "The section with the registration to use instead of `AzureAd`."),
    key("DownstreamApis:*:AcquireTokenOptions:AuthenticationScheme", Kind::Scheme, "`Bearer` or `PoP`. With `PoP` and without `PopPublicKey`, the sidecar signs requests with its own key. In settings, any other value means `AuthenticationOptionsName`.").api(|options| Slot::Given(&mut options.pop)),
    key("DownstreamApis:*:AcquireTokenOptions:CorrelationId", Kind::Guid, "Sent to Entra as `client-request-id`, and to the API.").api(|options| Slot::Text(&mut options.correlation_id)),
    key("DownstreamApis:*:AcquireTokenOptions:Claims", Kind::Json, "A claims request: the JSON text of an object. Bypasses the cache.").api(|options| Slot::Text(&mut options.claims)),
    key("DownstreamApis:*:AcquireTokenOptions:ForceRefresh", Kind::Bool, "Bypasses the cached token and replaces it.").or("false").api(|options| Slot::Given(&mut options.force_refresh)),
    key("DownstreamApis:*:AcquireTokenOptions:FmiPath", Kind::Plain, "`fmi_path` of app token requests.").api(|options| Slot::Text(&mut options.fmi_path)),
    key("DownstreamApis:*:AcquireTokenOptions:PopPublicKey", Kind::PublicKey, "The caller's public key to bind tokens to: PEM, base64 of PEM or DER, JWK, or a complete `req_cnf`.").secret().api(|options| Slot::Key(&mut options.pop_public_key)),
    key("DownstreamApis:*:AcquireTokenOptions:PopClaims", Kind::Json, "Claims to add to requests that the sidecar signs: the JSON text of an object.").api(|options| Slot::Text(&mut options.pop_claims)),
    key("DownstreamApis:*:AcquireTokenOptions:PopClaim", Kind::Json, "Another spelling of `PopClaims`.").api(|options| Slot::Text(&mut options.pop_claims)).alias_of("DownstreamApis:*:AcquireTokenOptions:PopClaims"),
    key("DownstreamApis:*:AcquireTokenOptions:LongRunningWebApiSessionKey", Kind::Plain, "The key of the long-running session. `AllocateForMe` generates one.").secret().api(|options| Slot::Text(&mut options.session_key)),
    key("DownstreamApis:*:AcquireTokenOptions:ManagedIdentity:UserAssignedClientId", Kind::Guid, "The user-assigned managed identity whose token to get. If the section is empty, the system-assigned one.").api(|options| Slot::Identity(&mut options.managed_identity)),
    key("DownstreamApis:*:AcquireTokenOptions:UserFlow", Kind::Token, "B2C: the policy for token requests, instead of `SignUpSignInPolicyId`. Requires a registration with `Domain`.").api(|options| Slot::Text(&mut options.user_flow)).only(Place::Settings),
    key("DownstreamApis:*:AcquireTokenOptions:ExtraQueryParameters:*", Kind::TokenParameter, "Added to the token endpoint's URL. Must not be fields of the token request (`client_id`, `scope` and the like).").secret().api(|options| Slot::Map(&mut options.token_query)),
    key("DownstreamApis:*:AcquireTokenOptions:ExtraHeadersParameters:*", Kind::Header, "Headers to add to token requests.").secret().api(|options| Slot::Headers(&mut options.token_headers)).only(Place::Settings),
    key("DownstreamApis:*:AcquireTokenOptions:ExtraParameters:*", Kind::Unused, "No effect: for extensions of the original."),
];

#[derive(Clone, Copy, Debug)]
pub struct Override(&'static Row);

impl Override {
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().filter(|row| row.is_override()).map(Self)
    }

    /// Finds an option by its name after the prefix. Also returns the part of the name in place of
    /// `<Name>`.
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

    /// Its documented name after the prefix. `<Name>` is a placeholder.
    pub fn name(self) -> String {
        self.path().replace(':', ".").replace('*', "<Name>")
    }

    /// The type and an example for OpenAPI.
    pub fn schema(self) -> (serde_json::Value, serde_json::Value) {
        let text = |example: &str| (json!({ "type": "string" }), json!(example));
        match self.0.kind {
            Kind::Bool => (json!({ "type": "boolean" }), json!(true)),
            Kind::Guid => {
                (json!({ "type": "string", "format": "uuid" }), json!("7f2c1e36-0d6b-4f0e-9a39-0f3a5f6f1c11"))
            }
            Kind::BaseUrl => (json!({ "type": "string", "format": "uri" }), json!("https://graph.microsoft.com/beta")),
            Kind::Scope => (json!({ "type": "array", "items": { "type": "string" } }), json!(["User.Read"])),
            // A name of its own: without one, generated clients have a type for each endpoint.
            Kind::Scheme => (json!({ "$ref": "#/components/schemas/AuthenticationScheme" }), json!("PoP")),
            Kind::Tenant => text("contoso.onmicrosoft.com"),
            Kind::Method => text("PATCH"),
            Kind::HeaderValue | Kind::MediaType => text("application/json"),
            Kind::RelativePath => text("me/messages?$top=10"),
            Kind::Json => text(r#"{"nonce":"n1"}"#),
            Kind::PublicKey => text(r#"{"kty":"EC","crv":"P-256","x":"…","y":"…"}"#),
            _ => text("value"),
        }
    }

    pub const fn row(self) -> &'static Row {
        self.0
    }

    /// True if the header of options may contain it. A request with that header sets the others
    /// itself.
    pub const fn in_header(self) -> bool {
        matches!(self.0.place, Place::Everywhere)
    }

    /// True if it replaces an earlier one. Scopes add up. Of any other option, the last value
    /// counts.
    pub fn replaces(self, parameter: &str, earlier: Self, earlier_parameter: &str) -> bool {
        let id = |option: Self| option.0.alias.unwrap_or(option.0.pattern);
        let same = match self.0.kind {
            Kind::Header => parameter.eq_ignore_ascii_case(earlier_parameter),
            _ => parameter == earlier_parameter,
        };
        same && id(self) == id(earlier) && self.0.list.is_none()
    }

    /// Parses and sets a value. The error completes "expected …".
    pub fn set(self, options: &mut ApiOptions, parameter: &str, text: &str) -> Result<(), String> {
        let value = self.0.kind.parse(parameter, text)?;
        // Only the operator's base URL may have a query. Callers use `RelativePath` or
        // `ExtraQueryParameters`.
        if matches!(&value, Value::Url(url) if url.query.is_some()) {
            return Err("a URL without a query".to_owned());
        }
        let fits = self.0.field.fill_option(options, parameter, value);
        debug_assert!(fits, "{}: its kind does not fit its field", self.0.pattern);
        Ok(())
    }
}
