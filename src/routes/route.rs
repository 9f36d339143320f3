//! Method and path to route: what is called, before anything is known of the caller.

use std::borrow::Cow;

use crate::http::Method;
use crate::value::percent::decode_lenient;

/// What the program answers at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The claims of the caller's token.
    Validate,
    /// A header for an API, for the calling user.
    AuthorizationHeader,
    /// A header for an API, for the application or an agent.
    AuthorizationHeaderUnauthenticated,
    /// An API's answer, for the calling user.
    DownstreamApi,
    /// An API's answer, for the application or an agent.
    DownstreamApiUnauthenticated,
    /// The API itself, for the calling user.
    Proxy,
    /// The API itself, for the application or an agent.
    ProxyUnauthenticated,
    /// Whether the program works.
    Health,
    /// Figures for Prometheus.
    Metrics,
    /// The description of all this.
    OpenApi,
}

const READ: &str = "GET, HEAD";
const GET: &str = "GET";
const CALL: &str = "GET, POST, PUT, PATCH, DELETE";
/// Listed in `Allow`; every method except CONNECT and TRACE is accepted.
const PASS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 10] = [
        Self::Validate,
        Self::AuthorizationHeader,
        Self::AuthorizationHeaderUnauthenticated,
        Self::DownstreamApi,
        Self::DownstreamApiUnauthenticated,
        Self::Proxy,
        Self::ProxyUnauthenticated,
        Self::Health,
        Self::Metrics,
        Self::OpenApi,
    ];

    /// Its path, as it stands in logs and labels.
    pub const fn pattern(self) -> &'static str {
        match self {
            Self::Validate => "/Validate",
            Self::AuthorizationHeader => "/AuthorizationHeader/{serviceName}",
            Self::AuthorizationHeaderUnauthenticated => "/AuthorizationHeaderUnauthenticated/{serviceName}",
            Self::DownstreamApi => "/DownstreamApi/{serviceName}",
            Self::DownstreamApiUnauthenticated => "/DownstreamApiUnauthenticated/{serviceName}",
            Self::Proxy => "/Proxy/{serviceName}/{path}",
            Self::ProxyUnauthenticated => "/ProxyUnauthenticated/{serviceName}/{path}",
            Self::Health => "/healthz",
            Self::Metrics => "/metrics",
            Self::OpenApi => "/openapi/v1.json",
        }
    }

    /// Whether every caller that can connect may call it.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Health | Self::Metrics)
    }

    /// Whether the caller's own token decides.
    pub const fn is_authenticated(self) -> bool {
        matches!(self, Self::Validate | Self::AuthorizationHeader | Self::DownstreamApi | Self::Proxy)
    }

    /// Whether it forwards requests to the API.
    pub const fn is_proxy(self) -> bool {
        matches!(self, Self::Proxy | Self::ProxyUnauthenticated)
    }

    /// Whether it calls the API rather than telling how to.
    pub const fn calls_api(self) -> bool {
        matches!(self, Self::DownstreamApi | Self::DownstreamApiUnauthenticated)
    }

    const fn allow(self) -> &'static str {
        match self {
            Self::Validate | Self::AuthorizationHeader | Self::AuthorizationHeaderUnauthenticated => GET,
            Self::DownstreamApi | Self::DownstreamApiUnauthenticated => CALL,
            Self::Proxy | Self::ProxyUnauthenticated => PASS,
            Self::Health | Self::Metrics | Self::OpenApi => READ,
        }
    }

    fn allows(self, method: Method) -> bool {
        if self.is_proxy() {
            return method != Method::Refused;
        }
        method != Method::Other && self.allow().split(", ").any(|name| name == method.as_str())
    }
}

/// The proxy endpoint of a path, with the name as sent and the path split behind the name.
fn find_proxied(path: &str) -> Option<(Endpoint, Option<&str>, (&str, &str))> {
    let (first, rest) = path.strip_prefix('/')?.split_once('/').unwrap_or((path.get(1..)?, ""));
    let endpoint = [("Proxy", Endpoint::Proxy), ("ProxyUnauthenticated", Endpoint::ProxyUnauthenticated)]
        .into_iter()
        .find_map(|(name, endpoint)| first.eq_ignore_ascii_case(name).then_some(endpoint))?;
    let name = &rest[..rest.find('/').unwrap_or(rest.len())];
    let end = path.len() - rest.len() + name.len();
    Some((endpoint, Some(name).filter(|name| !name.is_empty()), path.split_at(end)))
}

/// Where a path leads. Paths with a name have it as sent.
fn find(path: &str) -> Option<(Endpoint, Option<&str>)> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let (first, rest) = match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let is = |name: &str| first.eq_ignore_ascii_case(name);
    let plain = match rest {
        None if is("Validate") => Some(Endpoint::Validate),
        None if is("healthz") || is("health") => Some(Endpoint::Health),
        None if is("metrics") => Some(Endpoint::Metrics),
        Some(rest) if is("openapi") && rest.eq_ignore_ascii_case("v1.json") => Some(Endpoint::OpenApi),
        _ => None,
    };
    if let Some(endpoint) = plain {
        return Some((endpoint, None));
    }
    let named = [
        ("AuthorizationHeader", Endpoint::AuthorizationHeader),
        ("AuthorizationHeaderUnauthenticated", Endpoint::AuthorizationHeaderUnauthenticated),
        ("DownstreamApi", Endpoint::DownstreamApi),
        ("DownstreamApiUnauthenticated", Endpoint::DownstreamApiUnauthenticated),
    ];
    let (_, endpoint) = named.into_iter().find(|(name, _)| is(name))?;
    match rest {
        Some(name) if name.contains('/') || name.is_empty() => None,
        name => Some((endpoint, name)),
    }
}

/// What a request calls.
#[derive(Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The API's name, percent-decoded; empty for endpoints that have none.
    pub name: Cow<'a, str>,
    /// For proxy endpoints: the path up to the end of the name, and the rest, both as sent.
    pub proxied: (&'a str, &'a str),
}

/// Why a request calls nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No such path.
    Unknown,
    /// The path does not know the method; these it does.
    Method(Endpoint, &'static str),
    /// The API's name is missing.
    NameMissing(Endpoint),
}

impl NoRoute {
    /// The endpoint, where the path has one.
    pub const fn endpoint(self) -> Option<Endpoint> {
        match self {
            Self::Unknown => None,
            Self::Method(endpoint, _) | Self::NameMissing(endpoint) => Some(endpoint),
        }
    }
}

/// Finds the route.
pub fn route(method: Method, path: &str) -> Result<Route<'_>, NoRoute> {
    let plain = || find(path).map(|(endpoint, name)| (endpoint, name, ("", "")));
    let (endpoint, name, proxied) = find_proxied(path).or_else(plain).ok_or(NoRoute::Unknown)?;
    if !endpoint.allows(method) {
        return Err(NoRoute::Method(endpoint, endpoint.allow()));
    }
    let named = endpoint.calls_api()
        || endpoint.is_proxy()
        || matches!(endpoint, Endpoint::AuthorizationHeader | Endpoint::AuthorizationHeaderUnauthenticated);
    match name {
        None if named => Err(NoRoute::NameMissing(endpoint)),
        name => Ok(Route { endpoint, name: decode_lenient(name.unwrap_or_default()), proxied }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Option<(Endpoint, String)> {
        route(Method::Get, path).ok().map(|route| (route.endpoint, route.name.into_owned()))
    }

    #[test]
    fn paths_match_in_any_case_with_one_trailing_slash() {
        for (path, endpoint, name) in [
            ("/Validate", Endpoint::Validate, ""),
            ("/validate/", Endpoint::Validate, ""),
            ("/HEALTHZ", Endpoint::Health, ""),
            ("/health", Endpoint::Health, ""),
            ("/metrics", Endpoint::Metrics, ""),
            ("/OpenApi/V1.JSON", Endpoint::OpenApi, ""),
            ("/authorizationheader/Graph", Endpoint::AuthorizationHeader, "Graph"),
            ("/AuthorizationHeaderUnauthenticated/my%20api/", Endpoint::AuthorizationHeaderUnauthenticated, "my api"),
            ("/DownstreamApi/a+b%2Fc", Endpoint::DownstreamApi, "a+b/c"),
            ("/DownstreamApiUnauthenticated/%zz%4", Endpoint::DownstreamApiUnauthenticated, "%zz%4"),
        ] {
            assert_eq!(found(path), Some((endpoint, name.to_owned())), "{path}");
        }
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "/",
            "//",
            "/Validate//",
            "/Validate/x",
            "/DownstreamApi/a/b",
            "/AuthorizationHeader//",
            "/nothing",
            "/openapi",
        ] {
            assert_eq!(route(Method::Get, path), Err(NoRoute::Unknown), "{path}");
        }
    }

    #[test]
    fn a_known_path_says_which_methods_it_takes() {
        for (method, path, allow) in [
            (Method::Post, "/Validate", "GET"),
            (Method::Head, "/Validate", "GET"),
            (Method::Post, "/AuthorizationHeader", "GET"),
            (Method::Other, "/DownstreamApi/x", "GET, POST, PUT, PATCH, DELETE"),
            (Method::Delete, "/healthz", "GET, HEAD"),
        ] {
            let no_route = route(method, path).unwrap_err();
            assert!(matches!(no_route, NoRoute::Method(_, own) if own == allow), "{path}: {no_route:?}");
        }
        assert!(route(Method::Head, "/healthz").is_ok());
    }

    #[test]
    fn a_missing_name_is_told_from_an_unknown_path() {
        for path in ["/AuthorizationHeader", "/AuthorizationHeader/", "/downstreamapi"] {
            assert!(matches!(route(Method::Get, path), Err(NoRoute::NameMissing(_))), "{path}");
        }
    }

    #[test]
    fn what_follows_the_name_passes_through_as_sent() {
        for (path, name, proxied) in [
            ("/Proxy/a", "a", ("/Proxy/a", "")),
            ("/proxy/a%20b/", "a b", ("/proxy/a%20b", "/")),
            ("/PROXY/a//b%2Fc/", "a", ("/PROXY/a", "//b%2Fc/")),
            ("/Proxy/a/..%2f/Validate", "a", ("/Proxy/a", "/..%2f/Validate")),
        ] {
            let found = route(Method::Other, path).unwrap();
            assert_eq!((found.endpoint, found.name.as_ref(), found.proxied), (Endpoint::Proxy, name, proxied));
        }
        for path in ["/Proxy", "/Proxy/", "/Proxy//x", "/ProxyUnauthenticated"] {
            assert!(matches!(route(Method::Get, path), Err(NoRoute::NameMissing(_))), "{path}");
        }
        assert!(matches!(route(Method::Refused, "/Proxy/a"), Err(NoRoute::Method(Endpoint::Proxy, _))));
        assert_eq!(route(Method::Get, "/ProxyX/a"), Err(NoRoute::Unknown));
    }
}
