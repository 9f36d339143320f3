//! Asks the running sidecar for its health, for `HEALTHCHECK` in an image without a shell.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::config::{Config, Listen};

/// Limit for connecting and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The answer is a few words; a longer one comes from another program.
const MAX_ANSWER: u64 = 16 * 1024;

/// Sends `GET /healthz` to the first listening address. An error says on one line why the sidecar
/// is not healthy.
pub fn healthcheck(config: &Config) -> Result<(), String> {
    let first = config.listen.first().ok_or("no listening address is configured")?;
    let (place, answer) = match first {
        Listen::Unix(path) => (path.display().to_string(), UnixStream::connect(path).map(OwnedFd::from).and_then(ask)),
        Listen::Tcp(address) if address.port() == 0 => {
            return Err("port 0 means a random port, which cannot be checked".to_owned());
        }
        Listen::Tcp(address) => (address.to_string(), connect(*address).map(OwnedFd::from).and_then(ask)),
    };
    judge(&answer.map_err(|error| format!("{place}: {error}"))?)
}

/// The unspecified address is reached over loopback, where IPv6 may be disabled.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let at = |ip: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(ip, address.port()), TIMEOUT);
    if address.ip().is_unspecified() {
        at(Ipv4Addr::LOCALHOST.into()).or_else(|_| at(Ipv6Addr::LOCALHOST.into()))
    } else {
        at(address.ip())
    }
}

/// Limits each read and write alike on both kinds of socket.
fn ask(socket: OwnedFd) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

fn judge(answer: &[u8]) -> Result<(), String> {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or("the answer is not HTTP")?;
    if status == "200" {
        return Ok(());
    }
    let mut shown = String::new();
    crate::value::text::escape(&body.lines().collect::<Vec<_>>().join("; "), &mut shown);
    Err(format!("{status} {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_healthy() {
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\nDate: x\r\n\r\nHealthy"), Ok(()));
        let unhealthy = judge(b"HTTP/1.1 503 Service Unavailable\r\n\r\nUnhealthy\nshutting down");
        assert_eq!(unhealthy, Err("503 Unhealthy; shutting down".to_owned()));
        for answer in ["", "HTTP/1.1 200", "HTTP/1.1 \r\n\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.1 2000 OK"] {
            assert!(judge(answer.as_bytes()).is_err(), "{answer:?}");
        }
    }
}
