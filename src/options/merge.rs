//! The configured options of an API and the caller's overrides, merged key by key: an override that is absent
//! leaves what is configured.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Agent, Invalid, Overrides};
use crate::config::{Api, ManagedIdentity};
use crate::value::syntax;
use crate::value::url::Url;

/// What a request will do. Built once, never edited; it borrows from configuration and overrides and copies a map
/// only where both have entries.
#[derive(Clone, Debug)]
pub struct Effective<'a> {
    /// The API as configured.
    pub api: &'a Api,
    /// Whom the token is for, where the request names an agent.
    pub agent: Option<&'a Agent>,
    /// Never empty.
    pub scopes: &'a [String],
    /// Whether the token is the application's own. Never set where the request names an agent's user.
    pub request_app_token: bool,
    /// The caller's `BaseUrl`, of an origin that the operator named for this API, else the configured one.
    pub base_url: Option<&'a Url>,
    /// May hold a query. Empty: none.
    pub relative_path: &'a str,
    /// The caller's `HttpMethod`, upper case; the configured one is in `api`.
    pub http_method: Option<&'a str>,
    /// Empty sends none.
    pub accept: &'a str,
    /// The caller's `ContentType`; the configured one is in `api`.
    pub content_type: Option<&'a str>,
    /// Headers of the downstream request.
    pub extra_headers: Cow<'a, BTreeMap<String, String>>,
    /// Query parameters of the downstream request.
    pub extra_query: Cow<'a, BTreeMap<String, String>>,
    /// Instead of the registration's.
    pub tenant: Option<&'a str>,
    /// Skips the cached token.
    pub force_refresh: bool,
    /// A claims request: JSON text of an object.
    pub claims: Option<&'a str>,
    /// A GUID.
    pub correlation_id: Option<&'a str>,
    /// Whether the token is bound to a key: `AuthenticationScheme=PoP` or a public key.
    pub pop: bool,
    /// The caller's key. `None` with `pop`: the sidecar's.
    pub pop_public_key: Option<&'a str>,
    /// Members of a signed request: JSON text of an object.
    pub pop_claims: Option<&'a str>,
    /// `fmi_path` of app token requests.
    pub fmi_path: Option<&'a str>,
    /// The B2C policy of token requests, which only the configuration names.
    pub user_flow: Option<&'a str>,
    /// The long-running session.
    pub session_key: Option<&'a str>,
    /// Present: a managed identity's token.
    pub managed_identity: Option<&'a ManagedIdentity>,
    /// Added to the token endpoint's URL.
    pub token_query: Cow<'a, BTreeMap<String, String>>,
    /// Headers of token requests.
    pub token_headers: &'a BTreeMap<String, String>,
}

impl<'a> Effective<'a> {
    /// Puts the overrides on top of what is configured.
    pub fn merge(api: &'a Api, overrides: &'a Overrides) -> Result<Self, Invalid> {
        let acquire = &api.acquire;
        let names_user = overrides.agent.as_ref().is_some_and(|agent| agent.user.is_some());
        let request_app_token = match (overrides.request_app_token, names_user) {
            (Some(true), true) => return Err(Invalid::AppTokenForUser),
            // The explicit user beats the configured default: clients that name a user send no `false` with it.
            (_, true) => false,
            (asked, false) => asked.unwrap_or(api.request_app_token),
        };
        let scopes = if overrides.scopes.is_empty() { &api.scopes } else { &overrides.scopes };
        if scopes.is_empty() {
            return Err(Invalid::NoScopes { api: api.name.clone() });
        }
        let pop_public_key = either(overrides.pop_public_key.as_ref(), acquire.pop_public_key.as_ref());
        let pop = pop_public_key.is_some() || overrides.pop.unwrap_or(acquire.pop);
        let pop_claims = either(overrides.pop_claims.as_ref(), acquire.pop_claims.as_ref());
        if let (true, None, Some(claims)) = (pop, pop_public_key, pop_claims) {
            let key = "AcquireTokenOptions.PopClaims";
            syntax::json_object(claims, &syntax::SIGNED_MEMBERS)
                .map_err(|expected| Invalid::Malformed { key: key.to_owned(), expected })?;
        }
        Ok(Self {
            api,
            agent: overrides.agent.as_ref(),
            scopes,
            request_app_token,
            base_url: base_url(api, overrides.base_url.as_ref())?,
            relative_path: overrides.relative_path.as_ref().unwrap_or(&api.relative_path),
            http_method: overrides.http_method.as_deref(),
            accept: overrides.accept.as_ref().unwrap_or(&api.accept),
            content_type: overrides.content_type.as_deref(),
            extra_headers: merge_headers(&api.extra_headers, &overrides.extra_headers),
            extra_query: merge_maps(&api.extra_query, &overrides.extra_query),
            tenant: either(overrides.tenant.as_ref(), acquire.tenant.as_ref()),
            force_refresh: overrides.force_refresh.unwrap_or(acquire.force_refresh),
            claims: either(overrides.claims.as_ref(), acquire.claims.as_ref()),
            correlation_id: either(overrides.correlation_id.as_ref(), acquire.correlation_id.as_ref()),
            pop,
            pop_public_key,
            pop_claims,
            fmi_path: either(overrides.fmi_path.as_ref(), acquire.fmi_path.as_ref()),
            user_flow: acquire.user_flow.as_deref(),
            session_key: either(overrides.session_key.as_ref(), acquire.session_key.as_ref()),
            managed_identity: overrides.managed_identity.as_ref().or(acquire.managed_identity.as_ref()),
            token_query: merge_maps(&acquire.extra_query, &overrides.token_query),
            token_headers: &acquire.extra_headers,
        })
    }
}

/// A token never goes to an origin that the operator did not name, nor is one made that is meant for it.
fn base_url<'a>(api: &'a Api, asked: Option<&'a Url>) -> Result<Option<&'a Url>, Invalid> {
    let mut named = api.base_url.iter().chain(&api.allowed_base_urls);
    match asked {
        Some(asked) if !named.any(|url| url.origin == asked.origin) => {
            Err(Invalid::ForeignBaseUrl { api: api.name.clone() })
        }
        asked => Ok(asked.or(api.base_url.as_ref())),
    }
}

/// The override, else what is configured; configured empty text is no value.
fn either<'a>(asked: Option<&'a String>, configured: Option<&'a String>) -> Option<&'a str> {
    asked.or(configured).map(String::as_str).filter(|text| !text.is_empty())
}

fn merge_maps<'a>(
    configured: &'a BTreeMap<String, String>,
    asked: &'a BTreeMap<String, String>,
) -> Cow<'a, BTreeMap<String, String>> {
    match (configured.is_empty(), asked.is_empty()) {
        (_, true) => Cow::Borrowed(configured),
        (true, false) => Cow::Borrowed(asked),
        (false, false) => {
            let mut merged = configured.clone();
            merged.extend(asked.iter().map(|(name, value)| (name.clone(), value.clone())));
            Cow::Owned(merged)
        }
    }
}

/// As [`merge_maps`], with names compared as header names are, so that no field goes out twice.
fn merge_headers<'a>(
    configured: &'a BTreeMap<String, String>,
    asked: &'a BTreeMap<String, String>,
) -> Cow<'a, BTreeMap<String, String>> {
    if configured.is_empty() || asked.is_empty() {
        return merge_maps(configured, asked);
    }
    let mut merged = asked.clone();
    for (name, value) in configured {
        merged.entry(name.to_ascii_lowercase()).or_insert_with(|| value.clone());
    }
    Cow::Owned(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api() -> Api {
        Api {
            name: "Graph".into(),
            scopes: vec!["User.Read".into()],
            accept: "application/json".into(),
            http_method: Some("POST".into()),
            ..Api::default()
        }
    }

    fn overrides(query: &str) -> Overrides {
        Overrides::parse(Some(query)).unwrap()
    }

    #[test]
    fn what_is_not_overridden_stays_as_configured() {
        let mut api = api();
        api.relative_path = "me".into();
        api.content_type = Some("text/plain".into());
        api.acquire.tenant = Some("contoso.com".into());
        api.acquire.force_refresh = true;
        api.acquire.correlation_id = Some("5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab".into());
        let overrides = overrides("optionsOverride.Scopes=Mail.Read");
        let effective = Effective::merge(&api, &overrides).unwrap();
        assert_eq!(effective.scopes, ["Mail.Read"]);
        assert_eq!((effective.relative_path, effective.accept), ("me", "application/json"));
        assert_eq!((effective.tenant, effective.force_refresh), (Some("contoso.com"), true));
        assert_eq!(effective.correlation_id, api.acquire.correlation_id.as_deref());
        assert_eq!((effective.http_method, effective.content_type), (None, None));
        assert_eq!(effective.api.http_method.as_deref(), Some("POST"));
    }

    #[test]
    fn each_override_replaces_its_own_key() {
        let mut api = api();
        api.request_app_token = true;
        api.acquire.force_refresh = true;
        let overrides = overrides(
            "optionsOverride.RequestAppToken=false&optionsOverride.RelativePath=me&optionsOverride.AcceptHeader=text/csv\
             &optionsOverride.HttpMethod=put&optionsOverride.ContentType=text/plain\
             &optionsOverride.AcquireTokenOptions.ForceRefresh=false&optionsOverride.AcquireTokenOptions.Tenant=a.com",
        );
        let effective = Effective::merge(&api, &overrides).unwrap();
        assert!(!effective.request_app_token && !effective.force_refresh);
        assert_eq!((effective.relative_path, effective.accept), ("me", "text/csv"));
        assert_eq!((effective.http_method, effective.content_type), (Some("PUT"), Some("text/plain")));
        assert_eq!(effective.tenant, Some("a.com"));
    }

    #[test]
    fn maps_merge_by_entry_and_headers_by_name_in_any_case() {
        let mut api = api();
        api.extra_headers = [("Prefer".into(), "a".into()), ("X-One".into(), "1".into())].into();
        api.extra_query = [("a".into(), "1".into()), ("A".into(), "2".into())].into();
        let overrides = overrides(
            "optionsOverride.CustomHeader.PREFER=b&optionsOverride.ExtraHeaderParameters.x-two=2\
             &optionsOverride.ExtraQueryParameters.a=3",
        );
        let effective = Effective::merge(&api, &overrides).unwrap();
        let headers: Vec<_> = effective.extra_headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(headers, ["prefer: b", "x-one: 1", "x-two: 2"]);
        let query: Vec<_> = effective.extra_query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(query, ["A=2", "a=3"]);
    }

    #[test]
    fn without_overrides_nothing_is_copied() {
        let (api, none) = (api(), Overrides::default());
        let effective = Effective::merge(&api, &none).unwrap();
        assert!(std::ptr::eq(effective.scopes, api.scopes.as_slice()));
        assert!(matches!(effective.extra_headers, Cow::Borrowed(_)));
        assert!(matches!(effective.extra_query, Cow::Borrowed(_)));
        assert!(matches!(effective.token_query, Cow::Borrowed(_)));
    }

    #[test]
    fn a_configured_app_token_yields_to_a_named_user() {
        let id = "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab";
        let mut api = api();
        api.request_app_token = true;
        for user in ["AgentUsername=u@x", &format!("AgentUserId={id}")] {
            let both = overrides(&format!("AgentIdentity=a&{user}&optionsOverride.RequestAppToken=true"));
            assert_eq!(Effective::merge(&api, &both).unwrap_err(), Invalid::AppTokenForUser);
            for query in [
                format!("AgentIdentity=a&{user}"),
                format!("AgentIdentity=a&{user}&optionsOverride.RequestAppToken=false"),
            ] {
                assert!(!Effective::merge(&api, &overrides(&query)).unwrap().request_app_token, "{query}");
            }
        }
        assert!(Effective::merge(&api, &overrides("AgentIdentity=a")).unwrap().request_app_token);
    }

    #[test]
    fn a_token_needs_scopes_from_somewhere() {
        let api = Api { name: "Graph".into(), ..Api::default() };
        let none = Overrides::default();
        let refused = Effective::merge(&api, &none).unwrap_err().to_string();
        assert_eq!(refused, "No scopes found for the API 'Graph' or in optionsOverride");
        assert!(Effective::merge(&api, &overrides("optionsOverride.Scopes=a")).is_ok());
    }

    #[test]
    fn callers_cannot_set_the_sidecars_own_pop_members() {
        let api = api();
        let claims = "optionsOverride.AcquireTokenOptions.PopClaims=%7B%22cnf%22:1%7D";
        let scheme = "optionsOverride.AcquireTokenOptions.AuthenticationScheme=pop";
        let key = "optionsOverride.AcquireTokenOptions.PopPublicKey=abc";
        let merged = |query: &str| Effective::merge(&api, &overrides(query)).map(|effective| effective.pop);
        assert_eq!(merged(claims), Ok(false));
        assert!(matches!(merged(&format!("{claims}&{scheme}")), Err(Invalid::Malformed { .. })));
        // Beside the caller's own key they are the caller's to sign.
        assert_eq!(merged(&format!("{claims}&{scheme}&{key}")), Ok(true));
        assert_eq!(merged(key), Ok(true));
    }
}
