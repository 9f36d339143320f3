//! Resources, and the scopes that name them: an app token is for `<resource>/.default`
//! (<https://learn.microsoft.com/entra/identity-platform/scopes-oidc#the-default-scope>).

use super::url::is_scheme;
use super::{Expected, ensure, guid, syntax};

const DEFAULT: &str = "/.default";

/// A resource as a caller names it, without exactly one `/.default`: an absolute URI without a fragment
/// (RFC 3986 §4.3), or a GUID. A slash at its end stays, since the audience of v1 resources ends in one.
pub fn parse(text: &str) -> Result<&str, Expected> {
    let resource = of_app_scope(text);
    let uri = |(scheme, rest): (&str, &str)| is_scheme(scheme) && !rest.trim_start_matches('/').is_empty();
    let visible = !resource.contains([' ', '#']) && syntax::scopes(resource).is_ok();
    let good = visible && (resource.split_once(':').is_some_and(uri) || guid::is_guid(resource));
    ensure(good, "an absolute URI or a GUID").map(|()| resource)
}

/// True if a scope is one of this resource.
pub fn has_scope(resource: &str, scope: &str) -> bool {
    // Most scopes are of others, and this is asked of every configured one.
    scope.starts_with(resource) && of_scope(scope) == resource
}

/// The resource of a scope: the scope itself where it is a resource alone, else what stands before its last `/`.
fn of_scope(scope: &str) -> &str {
    if is_bare(scope) { scope } else { scope.rsplit_once('/').map_or(scope, |(resource, _)| resource) }
}

/// The resource of an app token's scope: without one `/.default`.
pub fn of_app_scope(scope: &str) -> &str {
    without_default(scope).unwrap_or(scope)
}

/// Whether a scope ends in `/.default`, in any case, after the name of a resource.
pub fn is_default_scope(scope: &str) -> bool {
    without_default(scope).is_some()
}

fn without_default(scope: &str) -> Option<&str> {
    let (resource, suffix) = scope.split_at_checked(scope.len().checked_sub(DEFAULT.len())?)?;
    (!resource.is_empty() && suffix.eq_ignore_ascii_case(DEFAULT)).then_some(resource)
}

/// Whether a scope is the name of a resource alone: an absolute URI whose path is empty or `/`, or a GUID. The slash
/// stays: the audience of a v1 resource such as Azure Resource Manager ends in it.
pub fn is_bare(scope: &str) -> bool {
    let uri = scope.split_once("://").is_some_and(|(scheme, rest)| {
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        is_scheme(scheme) && !authority.is_empty() && !authority.contains(['/', '?', '#'])
    });
    uri || guid::is_guid(scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000003-0000-0000-c000-000000000000";

    #[test]
    fn a_resource_is_a_uri_or_a_guid() {
        for (text, resource) in [
            ("https://graph.microsoft.com", "https://graph.microsoft.com"),
            ("https://graph.microsoft.com/.default", "https://graph.microsoft.com"),
            ("https://management.azure.com/", "https://management.azure.com/"),
            ("https://management.azure.com//.Default", "https://management.azure.com/"),
            ("https://a.example/app?x=1", "https://a.example/app?x=1"),
            ("api://downstream", "api://downstream"),
            ("urn:example:api", "urn:example:api"),
            (ID, ID),
            ("00000003-0000-0000-c000-000000000000/.default", ID),
            ("https://a/.default/.default", "https://a/.default"),
        ] {
            assert_eq!(parse(text), Ok(resource), "{text}");
        }
        for text in
            ["", "graph", "/.default", "https://", "://a", "1a:b", "https://a b", "https://a#b", "https://\u{e9}"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_scope_names_its_resource() {
        for (scope, resource) in [
            ("https://graph.microsoft.com/.default", "https://graph.microsoft.com"),
            ("https://graph.microsoft.com/Mail.Send", "https://graph.microsoft.com"),
            ("https://management.azure.com//.default", "https://management.azure.com/"),
            ("https://management.azure.com/", "https://management.azure.com/"),
            ("https://graph.microsoft.com", "https://graph.microsoft.com"),
            ("api://downstream/read", "api://downstream"),
            (ID, ID),
            ("User.Read", "User.Read"),
        ] {
            assert_eq!(of_scope(scope), resource, "{scope}");
            assert!(has_scope(resource, scope) && !has_scope(&resource[1..], scope), "{scope}");
            assert!(!has_scope(&resource[..resource.len() - 1], scope), "{scope}");
        }
    }

    #[test]
    fn a_scope_loses_one_suffix() {
        for (scope, expected) in [
            ("https://vault.azure.net/.default", "https://vault.azure.net"),
            ("https://management.azure.com//.default", "https://management.azure.com/"),
            ("api://x/.default/.default", "api://x/.default"),
            ("api://x/.DEFAULT", "api://x"),
            ("api://AzureADTokenExchange", "api://AzureADTokenExchange"),
        ] {
            assert_eq!(of_app_scope(scope), expected);
        }
    }
}
