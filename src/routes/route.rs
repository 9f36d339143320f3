//! Maps method and path to a route, before anything about the caller is known.

use std::borrow::Cow;

use crate::http::Method;
use crate::value::percent::decode_lenient;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The claims of the caller's token.
    Validate,
    /// A header for an API, on behalf of the calling user.
    AuthorizationHeader,
    /// A header for an API, for the application or an agent.
    AuthorizationHeaderUnauthenticated,
    /// An API's answer, on behalf of the calling user.
    DownstreamApi,
    /// An API's answer, for the application or an agent.
    DownstreamApiUnauthenticated,
    /// An access token, as OAuth's token endpoint gives it.
    OAuthToken,
    /// What a token says, as OAuth's introspection tells it.
    OAuthIntrospect,
    /// Whether a proxy may let a request through, and who its user is.
    ForwardAuth,
    /// The application's token, as App Service's managed identity endpoint gives it.
    Identity,
    /// The API itself, for the calling user.
    Proxy,
    /// The API itself, for the application or an agent.
    ProxyUnauthenticated,
    Health,
    Metrics,
    OpenApi,
    /// All this, for a developer to look at.
    Page,
}

const READ: &str = "GET, HEAD";
const POST: &str = "POST";
/// GET, and POST for clients that can do nothing else.
const ASK: &str = "GET, POST";
const GET: &str = "GET";
const ANY: &str = "*";
const CALL: &str = "GET, POST, PUT, PATCH, DELETE";
/// Listed in `Allow`; every method except CONNECT and TRACE is accepted.
const PASS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Endpoint {
    /// Each endpoint with its path and its methods, in the order of their declaration.
    #[rustfmt::skip]
    pub const ALL: [(Self, &str, &str); 15] = [
        (Self::Validate, "/Validate", GET),
        (Self::AuthorizationHeader, "/AuthorizationHeader/{serviceName}", ASK),
        (Self::AuthorizationHeaderUnauthenticated, "/AuthorizationHeaderUnauthenticated/{serviceName}", ASK),
        (Self::DownstreamApi, "/DownstreamApi/{serviceName}", CALL),
        (Self::DownstreamApiUnauthenticated, "/DownstreamApiUnauthenticated/{serviceName}", CALL),
        (Self::OAuthToken, "/oauth2/token/{serviceName}", POST),
        (Self::OAuthIntrospect, "/oauth2/introspect", POST),
        (Self::ForwardAuth, "/ForwardAuth", ANY),
        (Self::Identity, "/identity/token", GET),
        (Self::Proxy, "/Proxy/{serviceName}/{path}", PASS),
        (Self::ProxyUnauthenticated, "/ProxyUnauthenticated/{serviceName}/{path}", PASS),
        (Self::Health, "/healthz", READ),
        (Self::Metrics, "/metrics", READ),
        (Self::OpenApi, "/openapi/v1.json", READ),
        (Self::Page, "/", READ),
    ];

    /// Its path, as it stands in logs and labels.
    pub const fn pattern(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Whether every caller that can connect may call it.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Health | Self::Metrics)
    }

    pub const fn is_proxy(self) -> bool {
        matches!(self, Self::Proxy | Self::ProxyUnauthenticated)
    }

    /// Whether its path ends in the name of an API, which must not be missing.
    const fn is_named(self) -> bool {
        self.calls_api()
            || self.is_proxy()
            || matches!(self, Self::AuthorizationHeader | Self::AuthorizationHeaderUnauthenticated)
    }

    /// Whether it calls the API rather than telling how to.
    pub const fn calls_api(self) -> bool {
        matches!(self, Self::DownstreamApi | Self::DownstreamApiUnauthenticated)
    }

    const fn allow(self) -> &'static str {
        Self::ALL[self as usize].2
    }

    fn allows(self, method: Method) -> bool {
        if self.is_proxy() {
            return method != Method::Refused;
        }
        // No name of a method is part of another's.
        self.allow() == ANY || method != Method::Other && self.allow().contains(method.as_str())
    }
}

/// Whether this is the first segment of a path.
pub fn begins_with(path: &str, segment: &str) -> bool {
    path.split('/').nth(1).is_some_and(|first| first.eq_ignore_ascii_case(segment))
}

/// The first segments of paths, and `/health`, which other programs answer at. Some endpoints have further segments, see
/// [`find`].
const FIRST_SEGMENTS: [(&str, Endpoint); Endpoint::ALL.len() + 1] = {
    let mut segments = [("health", Endpoint::Health); Endpoint::ALL.len() + 1];
    let mut row = 0;
    while row < Endpoint::ALL.len() {
        let (endpoint, path, _) = Endpoint::ALL[row];
        segments[row] = (first_segment(path), endpoint);
        row += 1;
    }
    segments
};

const fn first_segment(path: &str) -> &str {
    let below = path.split_at(1).1;
    let mut end = 0;
    while end < below.len() && below.as_bytes()[end] != b'/' {
        end += 1;
    }
    below.split_at(end).0
}

/// The endpoint of a path, the API's name as sent, and the path, split behind the name for proxy
/// endpoints.
fn find(path: &str) -> Option<(Endpoint, Option<&str>, (&str, &str))> {
    let below = path.strip_prefix('/')?;
    if below.is_empty() {
        return Some((Endpoint::Page, None, (path, "")));
    }
    let (first, rest) = split_segment(below);
    let named = |is: fn(&str, &str) -> bool| FIRST_SEGMENTS.iter().find(|(name, _)| is(name, first));
    // Most callers spell it as it is documented, and that comparison is cheaper.
    let &(_, endpoint) = named(|name, first| name == first).or_else(|| named(str::eq_ignore_ascii_case))?;
    if endpoint.is_proxy() {
        let rest = rest.unwrap_or_default();
        let name = split_segment(rest).0;
        let end = path.len() - rest.len() + name.len();
        return Some((endpoint, Some(name).filter(|name| !name.is_empty()), path.split_at(end)));
    }
    // One slash at the end says nothing.
    let rest = rest.filter(|rest| !rest.is_empty()).map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let is = |segment: &str| rest.is_some_and(|rest| rest.eq_ignore_ascii_case(segment));
    let (endpoint, name) = match endpoint {
        // A proxy may append the path that it was asked for.
        Endpoint::ForwardAuth => (endpoint, None),
        Endpoint::Validate | Endpoint::Health | Endpoint::Metrics if rest.is_none() => (endpoint, None),
        Endpoint::Identity if is("token") => (endpoint, None),
        Endpoint::OpenApi if is("v1.json") => (endpoint, None),
        Endpoint::OAuthToken if is("introspect") => (Endpoint::OAuthIntrospect, None),
        Endpoint::OAuthToken => {
            let (second, name) = split_segment(rest?);
            (endpoint, second.eq_ignore_ascii_case("token").then_some(name)?)
        }
        endpoint if endpoint.is_named() => (endpoint, rest),
        _ => return None,
    };
    match name {
        Some(name) if name.contains('/') || name.is_empty() => None,
        name => Some((endpoint, name, (path, ""))),
    }
}

/// The first segment of a path without its slash, and what follows behind the next one.
fn split_segment(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)))
}

#[derive(Debug, PartialEq, Eq)]
pub struct Route<'a> {
    pub endpoint: Endpoint,
    /// Percent-decoded. Empty for endpoints without a name.
    pub name: Cow<'a, str>,
    /// The path as sent. For proxy endpoints: up to the end of the name, and the rest.
    pub proxied: (&'a str, &'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    Unknown,
    /// The part of the path that the sidecar reads itself holds an encoded NUL.
    Nul,
    /// The methods that the path supports.
    Method(Endpoint, &'static str),
    NameMissing(Endpoint),
}

impl NoRoute {
    pub const fn endpoint(self) -> Option<Endpoint> {
        match self {
            Self::Unknown | Self::Nul => None,
            Self::Method(endpoint, _) | Self::NameMissing(endpoint) => Some(endpoint),
        }
    }
}

pub fn route(method: Method, path: &str) -> Result<Route<'_>, NoRoute> {
    let found = find(path);
    let own = match found {
        Some((Endpoint::ForwardAuth, ..)) => "",
        Some((.., (own, _))) => own,
        None => path,
    };
    if own.contains("%00") {
        return Err(NoRoute::Nul);
    }
    let (endpoint, name, proxied) = found.ok_or(NoRoute::Unknown)?;
    if !endpoint.allows(method) {
        return Err(NoRoute::Method(endpoint, endpoint.allow()));
    }
    match name {
        None if endpoint.is_named() => Err(NoRoute::NameMissing(endpoint)),
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
    fn each_endpoint_has_its_own_row() {
        assert!(Endpoint::ALL.iter().enumerate().all(|(at, (endpoint, ..))| *endpoint as usize == at));
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
            ("/", Endpoint::Page, ""),
            ("/forwardauth", Endpoint::ForwardAuth, ""),
            ("/ForwardAuth//a/%2e%2e/b/", Endpoint::ForwardAuth, ""),
            ("/Identity/TOKEN", Endpoint::Identity, ""),
            ("/authorizationheader/Graph", Endpoint::AuthorizationHeader, "Graph"),
            ("/AuthorizationHeaderUnauthenticated/my%20api/", Endpoint::AuthorizationHeaderUnauthenticated, "my api"),
            ("/DownstreamApi/a+b%2Fc", Endpoint::DownstreamApi, "a+b/c"),
            ("/DownstreamApiUnauthenticated/%zz%4", Endpoint::DownstreamApiUnauthenticated, "%zz%4"),
        ] {
            assert_eq!(found(path), Some((endpoint, name.to_owned())), "{path}");
        }
        for (path, endpoint, name) in [
            ("/oauth2/token/my%20api", Endpoint::OAuthToken, "my api"),
            ("/OAUTH2/Token/x/", Endpoint::OAuthToken, "x"),
            ("/oauth2/token/", Endpoint::OAuthToken, ""),
            ("/oauth2/introspect/", Endpoint::OAuthIntrospect, ""),
        ] {
            let route = route(Method::Post, path).unwrap();
            assert_eq!((route.endpoint, &*route.name), (endpoint, name), "{path}");
        }
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "", "//", "/Validate//", "/Validate/x", "/DownstreamApi/a/b", "/AuthorizationHeader//", "/nothing",
            "/oauth2", "/oauth2/", "/oauth2/introspect/x", "/oauth2/token/a/b", "/oauth2x/introspect", "/openapi",
            "/identity", "/identity/token/x",
        ] {
            assert_eq!(route(Method::Get, path), Err(NoRoute::Unknown), "{path}");
        }
    }

    #[test]
    fn a_nul_is_refused_in_what_the_program_reads_itself() {
        for path in ["/%00", "/Validate%00", "/DownstreamApi/a%00", "/Proxy/a%00b/c"] {
            assert_eq!(route(Method::Get, path), Err(NoRoute::Nul), "{path}");
        }
        for path in ["/Proxy/a/%00", "/ForwardAuth/%00"] {
            assert!(route(Method::Get, path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_known_path_says_which_methods_it_takes() {
        for (method, path, allow) in [
            (Method::Post, "/Validate", "GET"),
            (Method::Head, "/Validate", "GET"),
            (Method::Put, "/AuthorizationHeader", "GET, POST"),
            (Method::Get, "/oauth2/token/", "POST"),
            (Method::Get, "/OAuth2/Introspect", "POST"),
            (Method::Other, "/DownstreamApi/x", "GET, POST, PUT, PATCH, DELETE"),
            (Method::Delete, "/healthz", "GET, HEAD"),
        ] {
            let no_route = route(method, path).unwrap_err();
            assert!(matches!(no_route, NoRoute::Method(_, own) if own == allow), "{path}: {no_route:?}");
        }
        assert!(route(Method::Head, "/healthz").is_ok());
        assert!(route(Method::Other, "/ForwardAuth/x").is_ok());
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
