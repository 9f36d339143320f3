//! Names to addresses. `localhost` is answered here and never asked of a name server (RFC 6761 §6.3), which also
//! makes it work where an image has no `/etc/hosts`.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::url::is_loopback_host;

/// Looks names up. Blocks as long as it takes; the caller stops waiting.
pub trait Resolve: Debug + Send + Sync {
    /// The addresses of a host that is neither an address itself nor `localhost`.
    fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (host, port).to_socket_addrs().map(Iterator::collect)
    }
}

/// The addresses of a host within `limit`. `TimedOut` when that passed; the look-up then ends on a thread of its own.
pub(super) fn addresses(
    resolver: &Arc<dyn Resolve>,
    host: &str,
    port: u16,
    limit: Duration,
) -> io::Result<Vec<SocketAddr>> {
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
        // Nobody waits any more when the limit has passed.
        let _ = answer.send(resolver.lookup(&host, port));
    })?;
    let found = waiting.recv_timeout(limit).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// Knows one name; any other is a test's mistake.
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
}
