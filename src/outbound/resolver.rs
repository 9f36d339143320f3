//! Name resolution. `localhost` is resolved here and never sent to a name server (RFC 6761 §6.3),
//! which also works in images without `/etc/hosts`.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::value::url::{Origin, is_loopback_host};

/// Resolves names. Blocks without limit; the caller stops waiting.
pub trait Resolve: Debug + Send + Sync {
    /// `host` is neither an address nor `localhost`.
    fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (host, port).to_socket_addrs().map(Iterator::collect)
    }
}

/// Resolves a host within `limit`, or fails with `TimedOut`; then the lookup ends on its own
/// thread.
pub fn addresses(resolver: &Arc<dyn Resolve>, host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    if is_loopback_host(&host.to_ascii_lowercase()) {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    let (answer, waiting) = mpsc::sync_channel(1);
    let (resolver, host) = (Arc::clone(resolver), host.to_owned());
    std::thread::Builder::new().name("resolve".into()).spawn(move || {
        // The caller is gone once the limit has passed.
        let _ = answer.send(resolver.lookup(&host, port));
    })?;
    let found = waiting.recv_timeout(limit).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
}

/// True for addresses of the public internet: not loopback, link-local (metadata services), private
/// or unspecified (RFC 6890). IPv4 addresses embedded in IPv6 count as IPv4 (RFC 4291 §2.5.5, RFC
/// 6052, RFC 3056).
pub(super) fn is_public(address: IpAddr) -> bool {
    /// Azure's wire server, which hands out a machine's configuration.
    const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    match address {
        IpAddr::V4(own) => {
            let [first, second, ..] = own.octets();
            let shared = first == 100 && second & 0xc0 == 64;
            let none = first == 0 || own.is_broadcast() || own.is_multicast();
            !(none || shared || own.is_loopback() || own.is_private() || own.is_link_local() || own == WIRE_SERVER)
        }
        IpAddr::V6(own) => {
            let segments = own.segments();
            let embedded = match segments[..2] {
                [0, 0] | [0x64, 0xff9b] => Some([12, 13, 14, 15]),
                [0x2002, _] => Some([2, 3, 4, 5]),
                _ => None,
            };
            if let Some(places) = embedded {
                return is_public(Ipv4Addr::from(places.map(|place: usize| own.octets()[place])).into());
            }
            // Site-local addresses (RFC 3879) are the deprecated private ones.
            let site_local = segments[0] & 0xffc0 == 0xfec0;
            !(own.is_unique_local() || own.is_unicast_link_local() || own.is_multicast() || site_local)
        }
    }
}

/// Keeps the addresses that a redirect may lead to: public ones, and those of the API's own host.
pub(super) fn reachable(
    resolver: &Arc<dyn Resolve>,
    mut found: Vec<SocketAddr>,
    own: &Origin,
    limit: Duration,
) -> Vec<SocketAddr> {
    if !found.iter().all(|address| is_public(address.ip())) {
        let own = addresses(resolver, own.host(), own.port, limit).unwrap_or_default();
        found.retain(|address| is_public(address.ip()) || own.iter().any(|own| own.ip() == address.ip()));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// Resolves one name; any other is a mistake in the test.
    #[derive(Debug)]
    struct Fixed(&'static str, Vec<SocketAddr>);

    impl Resolve for Fixed {
        fn lookup(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            assert_eq!(host, self.0);
            Ok(self.1.clone())
        }
    }

    fn ask(resolver: Fixed, host: &str) -> io::Result<Vec<String>> {
        let resolver: Arc<dyn Resolve> = Arc::new(resolver);
        let found = addresses(&resolver, host, 80, Duration::from_mins(1))?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn addresses_and_localhost_are_never_looked_up() {
        for (host, found) in [
            ("localhost", &["127.0.0.1:80", "[::1]:80"][..]),
            ("LOCALHOST", &["127.0.0.1:80", "[::1]:80"]),
            ("api.localhost", &["127.0.0.1:80", "[::1]:80"]),
            ("10.0.0.1", &["10.0.0.1:80"]),
            ("[::2]", &["[::2]:80"]),
        ] {
            assert_eq!(ask(Fixed("none", Vec::new()), host).unwrap(), found, "{host}");
        }
    }

    #[test]
    fn other_names_are_asked_of_the_resolver() {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        assert_eq!(ask(Fixed("api.example", vec![address]), "api.example").unwrap(), ["192.0.2.1:80"]);
        assert!(ask(Fixed("api.example", Vec::new()), "api.example").is_err());
    }

    #[test]
    fn a_resolver_that_never_answers_is_left_behind() {
        #[derive(Debug, Default)]
        struct Stuck(Mutex<bool>, Condvar);
        impl Resolve for Stuck {
            fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
                drop(self.1.wait_while(self.0.lock().unwrap(), |free| !*free).unwrap());
                Err(io::Error::other("free"))
            }
        }
        let stuck = Arc::new(Stuck::default());
        let resolver: Arc<dyn Resolve> = Arc::clone(&stuck) as _;
        let refused = addresses(&resolver, "api.example", 80, Duration::from_millis(1)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        *stuck.0.lock().unwrap() = true;
        stuck.1.notify_all();
    }

    #[test]
    fn what_is_not_of_the_public_internet_is_known() {
        for address in [
            "127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
            "169.254.169.254", "100.64.0.1", "100.127.255.255", "168.63.129.16", "255.255.255.255", "224.0.0.1", "::",
            "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
            "::ffff:169.254.169.254", "::10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a00:1::1", "::ffff:0:0",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1", "11.0.0.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "100.63.0.1", "100.128.0.1",
            "169.253.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1", "2a00::fe80",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_redirect_reaches_public_addresses_and_the_apis_own() {
        let resolver: Arc<dyn Resolve> = Arc::new(Fixed("api.example", vec!["10.0.0.1:443".parse().unwrap()]));
        let own = Origin::new(true, "api.example", 443);
        let reach = |found: &[&str]| {
            let found = found.iter().map(|address| address.parse().unwrap()).collect();
            let left = reachable(&resolver, found, &own, Duration::from_secs(5));
            left.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(reach(&["1.1.1.1:443", "10.0.0.2:443", "[::1]:443"]), "1.1.1.1:443");
        assert_eq!(reach(&["10.0.0.1:8443"]), "10.0.0.1:8443");
        assert_eq!(reach(&["127.0.0.1:80"]), "");
    }
}
