//! Decides who may call, cheapest rule first. `X-Forwarded-*` is never trusted.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::AllowedCallers;
use crate::http::{Headers, Peer};
use crate::secret::Secret;
use crate::value::syntax::is_domain;
use crate::value::url::{is_loopback_host, parse_port, split_port};
use crate::watched::Watched;

/// Where most callers send their secret.
pub const TOKEN_HEADER: &str = "x-sidecar-token";

pub struct Admission {
    callers: AllowedCallers,
    /// True if callers from other machines are allowed.
    beyond_loopback: bool,
    /// Lower case, without ports.
    hosts: Vec<String>,
    token: Option<CallerToken>,
}

/// The secret expected in `X-Sidecar-Token`: the content of a file without its trailing newline. If
/// the file cannot be read, no caller is admitted.
pub struct CallerToken(Watched<Secret<Vec<u8>>>);

impl CallerToken {
    /// Reads nothing yet.
    pub fn new(path: PathBuf) -> Self {
        let watched = Watched::new(vec![path], |contents| {
            let content = contents.first().map_or(&[][..], |bytes| bytes);
            let content = content.strip_suffix(b"\n").unwrap_or(content);
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            // No field value begins or ends with a blank (RFC 9110 §5.5), so no caller could send
            // such a secret.
            if content.trim_ascii().is_empty() { Err("is empty".to_owned()) } else { Ok(Secret::new(content.to_vec())) }
        });
        Self(watched.strict("Sidecar:CallerTokenFile"))
    }

    /// The current secret, or which file cannot be used, and why.
    pub fn current(&self) -> Result<Arc<Secret<Vec<u8>>>, String> {
        self.0.current()
    }
}

/// The rule that a caller violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    Peer,
    Host,
    Origin,
    FetchSite,
    Token,
    /// The file with the expected token cannot be read.
    TokenFile,
}

impl Denial {
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Peer => "Callers must come from loopback, a unix socket or a network in Sidecar:AllowedCallers",
            Self::Host => {
                "The Host header must be a loopback name or listed in AllowedHosts; if Sidecar:AllowedCallers goes \
                 beyond loopback, an IP address or a name of one label is enough"
            }
            Self::Origin => "Requests with an Origin header are refused: no web page may use the sidecar",
            Self::FetchSite => "Requests with this Sec-Fetch-Site are refused: no web page may use the sidecar",
            Self::Token => "The X-Sidecar-Token header must hold the content of Sidecar:CallerTokenFile",
            Self::TokenFile => "The file that Sidecar:CallerTokenFile names cannot be read",
        }
    }
}

impl Admission {
    pub fn new(callers: AllowedCallers, hosts: Vec<String>, token_file: Option<PathBuf>) -> Self {
        let token = token_file.map(CallerToken::new);
        // Reads the file, so that the log reports an unusable one at startup.
        if let Some(token) = &token {
            let _ = token.current();
        }
        Self { beyond_loopback: callers.go_beyond_loopback(), callers, hosts, token }
    }

    pub fn admit(&self, peer: Peer, headers: Headers<'_>) -> Result<(), Denial> {
        self.admit_place(peer, headers)?;
        Self::admit_no_page(headers)?;
        self.admit_token(headers, TOKEN_HEADER, [])
    }

    /// By the caller's address, and by the host that it names.
    pub fn admit_place(&self, peer: Peer, headers: Headers<'_>) -> Result<(), Denial> {
        if !self.admits_peer(peer) {
            return Err(Denial::Peer);
        }
        if !headers.text("host").is_some_and(|host| self.admits_host(host)) {
            return Err(Denial::Host);
        }
        Ok(())
    }

    /// By what browsers send.
    pub fn admit_no_page(headers: Headers<'_>) -> Result<(), Denial> {
        if headers.first("origin").is_some() {
            return Err(Denial::Origin);
        }
        // Browsers send it with every request, and pages cannot forge it (Fetch Metadata §2.3).
        if headers.all("sec-fetch-site").any(|site| site != b"none" && site != b"same-origin") {
            return Err(Denial::FetchSite);
        }
        Ok(())
    }

    /// By the secret in this field or by one of these, where one is demanded.
    pub fn admit_token<'t>(
        &self,
        headers: Headers<'t>,
        field: &'static str,
        others: impl IntoIterator<Item = &'t [u8]>,
    ) -> Result<(), Denial> {
        let Some(file) = &self.token else { return Ok(()) };
        let token = file.current().map_err(|_| Denial::TokenFile)?;
        let mut sent = headers.all(field);
        let sent = sent.next().filter(|_| sent.next().is_none());
        let proved = sent.into_iter().chain(others).any(|sent| token.matches(sent));
        if proved { Ok(()) } else { Err(Denial::Token) }
    }

    fn admits_peer(&self, peer: Peer) -> bool {
        match (peer, &self.callers) {
            (Peer::Unix, _) | (_, AllowedCallers::Any) => true,
            (Peer::Ip(address), AllowedCallers::Networks(networks)) => {
                address.is_loopback() || networks.iter().any(|network| network.contains(address))
            }
        }
    }

    fn admits_host(&self, host: &str) -> bool {
        if self.hosts.iter().any(|allowed| allowed == "*") {
            return true;
        }
        let (name, port) = split_port(host);
        if port.is_some_and(|port| !port.is_empty() && parse_port(port).is_none()) {
            return false;
        }
        let name = lower(name);
        if is_loopback_host(&name) || (self.beyond_loopback && cannot_be_rebound(&name)) {
            return true;
        }
        self.hosts.iter().any(|allowed| match allowed.strip_prefix("*.") {
            Some(suffix) => {
                let below = name.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.'));
                below.is_some_and(|below| below.split('.').all(|label| !label.is_empty()))
            }
            None => *allowed == name,
        })
    }
}

/// A host in lower case, which is how most callers write it.
fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// True if no public name resolves to this host: it is an address or has a single label, as in
/// container networks. DNS rebinding needs a public name.
fn cannot_be_rebound(name: &str) -> bool {
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<Ipv4Addr>().is_ok() || (!name.contains('.') && is_domain(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::network::Network;

    fn admit(admission: &Admission, peer: &str, fields: &[(&str, &str)]) -> Result<(), Denial> {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        let peer = if peer == "unix" { Peer::Unix } else { Peer::Ip(peer.parse().unwrap()) };
        admission.admit(peer, Headers(&fields))
    }

    fn network(text: &str) -> Network {
        Network::parse_exact(text).unwrap()
    }

    const LOCAL: (&str, &str) = ("Host", "127.0.0.1:5000");

    #[test]
    fn callers_come_from_loopback_the_socket_or_a_named_network() {
        let networks = vec![network("10.1.0.0/16"), network("fd00::/8")];
        let admission = Admission::new(AllowedCallers::Networks(networks), Vec::new(), None);
        for peer in ["127.0.0.1", "127.3.2.1", "::1", "unix", "10.1.255.255", "fdff::1"] {
            assert_eq!(admit(&admission, peer, &[LOCAL]), Ok(()), "{peer}");
        }
        for peer in ["10.2.0.0", "10.0.255.255", "192.168.0.1", "fe80::1", "::2"] {
            assert_eq!(admit(&admission, peer, &[LOCAL]), Err(Denial::Peer), "{peer}");
        }
        let forwarded = ("X-Forwarded-For", "127.0.0.1");
        assert_eq!(admit(&admission, "192.168.0.1", &[LOCAL, forwarded]), Err(Denial::Peer));
        let any = Admission::new(AllowedCallers::Any, Vec::new(), None);
        assert_eq!(admit(&any, "192.168.0.1", &[LOCAL]), Ok(()));
        let everyone = Admission::new(AllowedCallers::Networks(vec![network("0.0.0.0/0")]), Vec::new(), None);
        assert_eq!(admit(&everyone, "192.168.0.1", &[LOCAL]), Ok(()));
    }

    #[test]
    fn the_host_is_a_loopback_name_or_listed() {
        let hosts = vec!["sidecar".to_owned(), "*.svc.local".to_owned()];
        let admission = Admission::new(AllowedCallers::Networks(Vec::new()), hosts, None);
        for host in ["localhost", "LOCALHOST:80", "[::1]:5000", "[::1]", "127.0.0.1", "Sidecar:5000", "a.svc.local"] {
            assert_eq!(admit(&admission, "::1", &[("Host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example", "localhost.evil.example", "svc.local", ".svc.local", "..svc.local", "a..svc.local",
            "10.0.0.1:5000", "xsvc.local", "other", ".localhost", "..localhost", "localhost:x", "",
        ] {
            assert_eq!(admit(&admission, "::1", &[("Host", host)]), Err(Denial::Host), "{host}");
        }
        assert_eq!(admit(&admission, "::1", &[]), Err(Denial::Host));
        let any = Admission::new(AllowedCallers::Any, vec!["*".to_owned()], None);
        assert_eq!(admit(&any, "::1", &[("Host", "evil.example")]), Ok(()));
    }

    #[test]
    fn other_machines_may_use_names_that_nobody_can_rebind() {
        for callers in [AllowedCallers::Any, AllowedCallers::Networks(vec![network("10.0.0.0/8")])] {
            let admission = Admission::new(callers, Vec::new(), None);
            for host in ["10.0.0.1:5000", "[fd00::1]:5000", "sidecar", "my_sidecar:80", "192.168.1.1"] {
                assert_eq!(admit(&admission, "::1", &[("Host", host)]), Ok(()), "{host}");
            }
            for host in ["evil.example", "evil.example:80", "10.0.0", "sidecar.", ".sidecar", "[::1", "a b", "", "-x"] {
                assert_eq!(admit(&admission, "::1", &[("Host", host)]), Err(Denial::Host), "{host}");
            }
        }
        let loopback = AllowedCallers::Networks(vec![network("127.0.0.0/8")]);
        let admission = Admission::new(loopback, Vec::new(), None);
        assert_eq!(admit(&admission, "::1", &[("Host", "sidecar")]), Err(Denial::Host));
    }

    #[test]
    fn web_pages_are_refused() {
        let admission = Admission::new(AllowedCallers::Networks(Vec::new()), Vec::new(), None);
        assert_eq!(admit(&admission, "::1", &[LOCAL, ("Origin", "null")]), Err(Denial::Origin));
        for (site, expected) in [
            ("none", Ok(())),
            ("same-origin", Ok(())),
            ("same-site", Err(Denial::FetchSite)),
            ("cross-site", Err(Denial::FetchSite)),
        ] {
            assert_eq!(admit(&admission, "::1", &[LOCAL, ("Sec-Fetch-Site", site)]), expected, "{site}");
        }
    }

    #[test]
    fn the_callers_token_is_the_files_content_as_of_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let admission = Admission::new(AllowedCallers::Any, Vec::new(), Some(path.clone()));
        let with = |token: &str| admit(&admission, "::1", &[LOCAL, ("X-Sidecar-Token", token)]);
        assert_eq!(with(""), Err(Denial::TokenFile));
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(with(""), Err(Denial::TokenFile), "an empty secret admits nobody");
        std::fs::write(&path, "open sesame\n").unwrap();
        assert_eq!(with("open sesame"), Ok(()));
        for wrong in ["", "open", "open sesame\n", "Open sesame"] {
            assert_eq!(with(wrong), Err(Denial::Token), "{wrong:?}");
        }
        assert_eq!(admit(&admission, "::1", &[LOCAL]), Err(Denial::Token));
        std::fs::write(&path, "changed").unwrap();
        assert_eq!((with("open sesame"), with("changed")), (Err(Denial::Token), Ok(())));
        std::fs::write(&path, "\u{feff}marked\r\n").unwrap();
        assert_eq!(with("marked"), Ok(()));
        // The file's previous content must not stay valid.
        std::fs::write(&path, "").unwrap();
        assert_eq!((with("marked"), with("")), (Err(Denial::TokenFile), Err(Denial::TokenFile)));
        std::fs::write(&path, "again").unwrap();
        assert_eq!(with("again"), Ok(()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(with("again"), Err(Denial::TokenFile));
        std::fs::create_dir(&path).unwrap();
        assert_eq!(with("again"), Err(Denial::TokenFile));
    }
}
