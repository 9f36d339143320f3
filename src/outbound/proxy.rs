//! Which calls go through a proxy: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as curl reads them, lower case first.

use std::net::IpAddr;

use super::Upstream;
use crate::secret::Secret;
use crate::url::Origin;

/// The proxies of the environment.
#[derive(Debug, Default)]
pub struct Proxies {
    /// For `https` URLs.
    pub(super) https: Option<ProxyUrl>,
    /// For `http` URLs.
    pub(super) http: Option<ProxyUrl>,
    exceptions: Vec<Exception>,
}

/// A proxy's URL, which may hold a password, and the variable that it came from.
#[derive(Clone, Debug)]
pub(super) struct ProxyUrl {
    pub(super) variable: &'static str,
    pub(super) url: Secret<String>,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, PartialEq, Eq)]
enum Exception {
    Every,
    /// The name and those below it; lower case, without leading dot. With a port that one only.
    Domain(String, Option<u16>),
    Network(IpAddr, u8),
}

impl Proxies {
    /// Reads the variables through `lookup`; an empty one is as if absent.
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&'static str; 4]| {
            names.into_iter().find_map(|variable| {
                let url = lookup(variable).filter(|text| !text.trim().is_empty())?;
                Some(ProxyUrl { variable, url: Secret::new(url) })
            })
        };
        let exceptions = lookup("no_proxy").filter(|text| !text.is_empty()).or_else(|| lookup("NO_PROXY"));
        Self {
            https: first(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            http: first(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            exceptions: exceptions
                .iter()
                .flat_map(|list| list.split([',', ' ']))
                .filter_map(|entry| Exception::parse(entry.trim()))
                .collect(),
        }
    }

    /// Whether a call goes straight to its host. A managed identity endpoint refuses what a proxy has touched, and a
    /// proxy's loopback is not ours.
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
        if let Some((address, prefix)) = entry.split_once('/') {
            return Some(Self::Network(address.parse().ok()?, prefix.parse().ok()?));
        }
        if let Ok(address) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Self::Network(address, u8::MAX));
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let name = name.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.');
        (!name.is_empty()).then(|| Self::Domain(name.to_ascii_lowercase(), port))
    }

    fn covers(&self, origin: &Origin) -> bool {
        let host = origin.host.trim_matches(['[', ']']);
        match self {
            Self::Every => true,
            Self::Domain(name, port) => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && port.is_none_or(|port| port == origin.port)
            }
            Self::Network(network, prefix) => match (host.parse(), network) {
                (Ok(IpAddr::V4(host)), IpAddr::V4(network)) => {
                    let shift = 32 - u32::from(*prefix).min(32);
                    u32::from(host).checked_shr(shift) == u32::from(*network).checked_shr(shift)
                }
                (Ok(IpAddr::V6(host)), IpAddr::V6(network)) => {
                    let shift = 128 - u32::from(*prefix).min(128);
                    u128::from(host).checked_shr(shift) == u128::from(*network).checked_shr(shift)
                }
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Url;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::from_environment(|name| {
            variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
        })
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
