//! Merges the configured options of an API with the caller's overrides, key by key.

use super::{Agent, OptionsError, Overrides};
use crate::config::{Api, InForce};
use crate::value::syntax;

#[derive(Clone, Debug)]
pub struct Effective<'a> {
    pub api: &'a Api,
    pub agent: Option<&'a Agent>,
    /// Checked: there are scopes, the operator listed the base URL's origin for this API, and a
    /// request for an agent's user never asks for an app token.
    pub options: InForce<'a>,
}

impl<'a> Effective<'a> {
    pub fn merge(api: &'a Api, overrides: &'a Overrides) -> Result<Self, OptionsError> {
        let mut options = overrides.options.over(&api.options);
        if overrides.agent.as_ref().is_some_and(|agent| agent.user.is_some()) {
            if overrides.options.request_app_token == Some(true) {
                return Err(OptionsError::AppTokenForUser);
            }
            // A named user beats the configured default, because clients that name a user do not
            // also send `false`.
            options.request_app_token = false;
        }
        if options.scopes.is_empty() {
            return Err(OptionsError::NoScopes(api.name.clone()));
        }
        if let (true, None, Some(claims)) = (options.pop, options.pop_public_key, options.pop_claims) {
            let key = "AcquireTokenOptions.PopClaims";
            syntax::json_object(claims, &syntax::SIGNED_MEMBERS)
                .map_err(|expected| OptionsError::Malformed(key.to_owned(), expected.to_owned()))?;
        }
        // A token is neither sent to nor made for an origin that the operator has not listed.
        let mut named = api.options.base_url.iter().chain(&api.options.allowed_base_urls);
        if let Some(asked) = &overrides.options.base_url
            && !named.any(|url| url.origin == asked.origin)
        {
            return Err(OptionsError::ForeignBaseUrl(api.name.clone()));
        }
        Ok(Self { api, agent: overrides.agent.as_ref(), options })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::config::{ApiOptions, Ranked};

    fn api() -> Api {
        let options = ApiOptions {
            scopes: vec!["User.Read".into()],
            accept: Some("application/json".into()),
            http_method: Some("POST".into()),
            ..ApiOptions::default()
        };
        Api { name: "Graph".into(), options, ..Api::default() }
    }

    fn overrides(query: &str) -> Overrides {
        Overrides::parse(Some(query)).unwrap()
    }

    #[test]
    fn what_is_not_overridden_stays_as_configured() {
        let mut api = api();
        api.options.relative_path = Some("me".into());
        api.options.content_type = Some("text/plain".into());
        api.options.tenant = Some("contoso.com".into());
        api.options.force_refresh = Some(true);
        api.options.correlation_id = Some("5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab".into());
        let overrides = overrides("optionsOverride.Scopes=Mail.Read");
        let effective = Effective::merge(&api, &overrides).unwrap().options;
        assert_eq!(effective.scopes, ["Mail.Read"]);
        assert_eq!((effective.relative_path, effective.accept), ("me", "application/json"));
        assert_eq!((effective.tenant, effective.force_refresh), (Some("contoso.com"), true));
        assert_eq!(effective.correlation_id, api.options.correlation_id.as_deref());
        assert_eq!(effective.http_method, Ranked { asked: None, configured: Some("POST") });
        assert_eq!(effective.content_type, Ranked { asked: None, configured: Some("text/plain") });
    }

    #[test]
    fn each_override_replaces_its_own_key() {
        let mut api = api();
        api.options.request_app_token = Some(true);
        api.options.force_refresh = Some(true);
        let overrides = overrides(
            "optionsOverride.RequestAppToken=false&optionsOverride.RelativePath=me&optionsOverride.AcceptHeader=text/csv\
             &optionsOverride.HttpMethod=put&optionsOverride.ContentType=text/plain\
             &optionsOverride.AcquireTokenOptions.ForceRefresh=false&optionsOverride.AcquireTokenOptions.Tenant=a.com",
        );
        let effective = Effective::merge(&api, &overrides).unwrap().options;
        assert!(!effective.request_app_token && !effective.force_refresh);
        assert_eq!((effective.relative_path, effective.accept), ("me", "text/csv"));
        assert_eq!((effective.http_method.asked, effective.content_type.asked), (Some("PUT"), Some("text/plain")));
        assert_eq!(effective.tenant, Some("a.com"));
    }

    #[test]
    fn maps_merge_by_entry_and_headers_by_name_in_any_case() {
        let mut api = api();
        api.options.extra_headers = [("prefer".into(), "a".into()), ("x-one".into(), "1".into())].into();
        api.options.extra_query = [("a".into(), "1".into()), ("A".into(), "2".into())].into();
        let overrides = overrides(
            "optionsOverride.CustomHeader.PREFER=b&optionsOverride.ExtraHeaderParameters.x-two=2\
             &optionsOverride.ExtraQueryParameters.a=3",
        );
        let effective = Effective::merge(&api, &overrides).unwrap().options;
        let headers: Vec<_> = effective.extra_headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(headers, ["prefer: b", "x-one: 1", "x-two: 2"]);
        let query: Vec<_> = effective.extra_query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(query, ["A=2", "a=3"]);
    }

    #[test]
    fn without_overrides_nothing_is_copied() {
        let (api, none) = (api(), Overrides::default());
        let effective = Effective::merge(&api, &none).unwrap().options;
        assert!(std::ptr::eq(effective.scopes, api.options.scopes.as_slice()));
        assert!(matches!(effective.extra_headers, Cow::Borrowed(_)));
        assert!(matches!(effective.extra_query, Cow::Borrowed(_)));
        assert!(matches!(effective.token_query, Cow::Borrowed(_)));
    }

    #[test]
    fn a_configured_app_token_yields_to_a_named_user() {
        let id = "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab";
        let mut api = api();
        api.options.request_app_token = Some(true);
        for user in ["AgentUsername=u@x", &format!("AgentUserId={id}")] {
            let both = overrides(&format!("AgentIdentity=a&{user}&optionsOverride.RequestAppToken=true"));
            assert_eq!(Effective::merge(&api, &both).unwrap_err(), OptionsError::AppTokenForUser);
            for query in [
                format!("AgentIdentity=a&{user}"),
                format!("AgentIdentity=a&{user}&optionsOverride.RequestAppToken=false"),
            ] {
                assert!(!Effective::merge(&api, &overrides(&query)).unwrap().options.request_app_token, "{query}");
            }
        }
        assert!(Effective::merge(&api, &overrides("AgentIdentity=a")).unwrap().options.request_app_token);
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
        let key = "optionsOverride.AcquireTokenOptions.PopPublicKey=%7B%22kid%22:%22k%22%7D";
        let merged = |query: &str| Effective::merge(&api, &overrides(query)).map(|effective| effective.options.pop);
        assert_eq!(merged(claims), Ok(false));
        assert!(matches!(merged(&format!("{claims}&{scheme}")), Err(OptionsError::Malformed(..))));
        // With its own key the caller signs the request itself, and so adds these members itself.
        assert_eq!(merged(&format!("{claims}&{scheme}&{key}")), Ok(true));
        assert_eq!(merged(key), Ok(true));
    }
}
