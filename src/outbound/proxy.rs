//! Proxy settings from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, as in curl: lower case takes
//! precedence.

use std::fmt;

use super::Upstream;
use crate::secret::Secret;
use crate::value::network::Network;
use crate::value::url::{Origin, Url, parse_port, split_port};

#[derive(Debug, Default)]
pub struct Proxies {
    /// For `https` URLs.
    pub(super) https: Option<ProxyUrl>,
    /// For `http` URLs.
    pub(super) http: Option<ProxyUrl>,
    exceptions: Vec<Exception>,
}

/// A proxy's URL, which may contain a password, and its variable.
#[derive(Clone, Debug)]
pub(super) struct ProxyUrl {
    pub(super) variable: &'static str,
    /// With scheme, without path.
    pub(super) url: Secret<String>,
}

impl ProxyUrl {
    fn parse(variable: &'static str, text: &str) -> Result<Self, ProxyError> {
        let error = |expected| ProxyError { variable, expected };
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !["http", "https"].iter().any(|own| scheme.eq_ignore_ascii_case(own)) {
            return Err(error("the http:// or https:// URL of a proxy"));
        }
        let scheme = scheme.to_ascii_lowercase();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        Url::parse(&format!("{scheme}://{host}")).map_err(error)?;
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        Ok(Self { variable, url: Secret::new(format!("{scheme}://{user}{host}")) })
    }
}

/// A malformed proxy variable. Its value may contain a password, and is not quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyError {
    pub variable: &'static str,
    /// Reads on from the word "expected".
    pub expected: &'static str,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}", self.variable, self.expected)
    }
}

impl std::error::Error for ProxyError {}

/// An entry of `NO_PROXY`.
#[derive(Debug, PartialEq, Eq)]
enum Exception {
    Every,
    /// The name and its subdomains; lower case, without leading dot. Optionally limited to one
    /// port.
    Domain(String, Option<u16>),
    Network(Network),
}

impl Proxies {
    /// Reads variables through `lookup`. An empty variable counts as unset, and the default scheme
    /// is `http`.
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let first = |names: [&'static str; 4]| {
            let said = |variable| Some((variable, lookup(variable).filter(|text| !text.trim().is_empty())?));
            let found = names.into_iter().find_map(said);
            found.map(|(variable, text)| ProxyUrl::parse(variable, &text)).transpose()
        };
        let exceptions = lookup("no_proxy").filter(|text| !text.is_empty()).or_else(|| lookup("NO_PROXY"));
        Ok(Self {
            https: first(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
            http: first(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?,
            exceptions: exceptions
                .iter()
                .flat_map(|list| list.split([',', ' ']))
                .filter_map(|entry| Exception::parse(entry.trim()))
                .collect(),
        })
    }

    /// True if the call must not use a proxy. A managed identity endpoint rejects proxied requests,
    /// and the proxy's loopback is another machine.
    pub(super) fn bypassed(&self, upstream: Upstream, origin: &Origin) -> bool {
        upstream == Upstream::ManagedIdentity
            || origin.is_loopback()
            || self.exceptions.iter().any(|exception| exception.covers(origin))
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Every);
        }
        if let Some(network) = Network::parse(entry.trim_matches(['[', ']'])) {
            return Some(Self::Network(network));
        }
        let (name, port) = split_port(entry);
        let port = port.map(|port| parse_port(port).ok_or(())).transpose().ok()?;
        let name = name.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.');
        (!name.is_empty()).then(|| Self::Domain(name.to_ascii_lowercase(), port))
    }

    fn covers(&self, origin: &Origin) -> bool {
        let host = origin.host().trim_matches(['[', ']']);
        match self {
            Self::Every => true,
            Self::Domain(name, port) => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && port.is_none_or(|port| port == origin.port)
            }
            Self::Network(network) => host.parse().is_ok_and(|address| network.contains(address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::url::Url;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::from_environment(|name| {
            variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
        })
        .unwrap()
    }

    #[test]
    fn a_proxy_is_a_url_and_http_without_a_scheme() {
        let parsed = |text: &str| ProxyUrl::parse("HTTPS_PROXY", text).map(|proxy| proxy.url.expose().clone());
        for (text, url) in [
            ("http://proxy.corp:3128", "http://proxy.corp:3128"),
            ("HTTP://proxy.corp:3128/", "http://proxy.corp:3128"),
            (" proxy.corp:3128 ", "http://proxy.corp:3128"),
            ("user:pa@ss@proxy.corp:3128", "http://user:pa@ss@proxy.corp:3128"),
            ("https://[::1]:1/", "https://[::1]:1"),
            ("10.0.0.1", "http://10.0.0.1"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(url), "{text}");
        }
        for text in [
            "http://proxy.corp:notaport", "proxy.corp:notaport", "http://proxy.corp:65536", "proxy.corp:70000",
            "http://proxy.corp:0", "http://", "://proxy", "socks5://proxy.corp:1080", "http://pro xy:1",
            "http://:3128", "user:s3cret@",
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.starts_with("HTTPS_PROXY: expected ") && !error.contains("s3cret"), "{text}: {error}");
        }
    }

    fn origin(url: &str) -> Origin {
        Url::parse(url).unwrap().origin
    }

    #[test]
    fn lower_case_comes_first_and_the_specific_before_the_general() {
        let of = |variables: &[(&str, &str)]| proxies(variables).https.map(|proxy| proxy.variable);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HTTP_PROXY", "p")]), None);
        assert_eq!(of(&[("HTTPS_PROXY", "p"), ("https_proxy", "q")]), Some("https_proxy"));
        assert_eq!(of(&[("HTTPS_PROXY", "p"), ("https_proxy", "")]), Some("HTTPS_PROXY"));
        assert_eq!(of(&[("ALL_PROXY", "p")]), Some("ALL_PROXY"));
    }

    #[test]
    fn exceptions_name_hosts_domains_ports_and_networks() {
        for (list, url, bypassed) in [
            ("", "https://a.example/", false),
            ("*", "https://a.example/", true),
            ("example", "https://a.example/", true),
            ("a.example", "https://A.EXAMPLE/", true),
            (".example", "https://a.example/", true),
            ("*.example", "https://a.example/", true),
            ("b.example, a.example", "https://a.example/", true),
            ("ample", "https://a.example/", false),
            ("a.example", "https://ba.example/", false),
            ("a.example:443", "https://a.example/", true),
            ("a.example:8443", "https://a.example/", false),
            ("10.0.0.0/8", "https://10.1.2.3/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("0.0.0.0/0", "https://11.1.2.3/", true),
            ("10.1.2.3", "https://10.1.2.3/", true),
            ("10.1.2.3", "https://10.1.2.4/", false),
            ("fd00::/8", "https://[fd12::1]/", true),
            ("::1/128", "https://[fd12::1]/", false),
            ("[fd12::1]", "https://[fd12::1]/", true),
            ("::/0", "https://[fd12::1]/", true),
        ] {
            let proxies = proxies(&[("NO_PROXY", list)]);
            assert_eq!(proxies.bypassed(Upstream::Token, &origin(url)), bypassed, "{list} {url}");
        }
    }

    #[test]
    fn managed_identities_and_loopback_are_called_directly() {
        let none = proxies(&[]);
        assert!(none.bypassed(Upstream::ManagedIdentity, &origin("http://169.254.169.254/")));
        assert!(none.bypassed(Upstream::Downstream, &origin("http://127.0.0.1:1/")));
        assert!(none.bypassed(Upstream::Token, &origin("https://login.localhost/")));
        assert!(!none.bypassed(Upstream::Downstream, &origin("http://169.254.169.254/")));
    }
}
