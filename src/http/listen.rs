//! Listening sockets, TCP and unix, and the errors of opening them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, socket_with, sockopt};

use super::message::Peer;
use super::socket::Socket;
use crate::config::Listen;

/// Connections that the kernel completes before they are accepted, capped by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

#[derive(Debug)]
pub enum BindError {
    Address(SocketAddr, io::Error),
    File(PathBuf, io::Error),
    InUse(PathBuf),
    NoSocket(PathBuf),
    Poller(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address, error) => write!(f, "http://{address}: {error}{}", hint(error)),
            Self::File(path, error) => write!(f, "unix:{}: {error}{}", path.display(), hint(error)),
            Self::InUse(path) => write!(f, "unix:{}: another server answers there", path.display()),
            Self::NoSocket(path) => write!(f, "unix:{}: the file exists and is not a socket", path.display()),
            Self::Poller(error) => write!(f, "epoll: {error}"),
        }
    }
}

impl std::error::Error for BindError {}

/// The likely cause or the remedy, which the system's own message lacks.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": another program listens there",
        io::ErrorKind::AddrNotAvailable => ": the address is not one of this machine's",
        io::ErrorKind::PermissionDenied => ": ports below 1024 and the folder of a socket need permission",
        io::ErrorKind::NotFound => ": the folder of the socket does not exist",
        _ => "",
    }
}

#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(#[expect(dead_code, reason = "removes the file when it is dropped")] SocketFile),
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listener {
    /// Opens all of them. `localhost` stands for two addresses, and a machine without IPv6 has only
    /// one.
    pub fn open_all(places: &[Listen]) -> Result<Vec<Self>, BindError> {
        let mut listeners = Vec::new();
        let mut skipped = None;
        for place in places {
            match Self::open(place) {
                Ok(listener) => listeners.push(listener),
                Err(BindError::Address(address, error)) if has_no_ipv6(address, &error) => {
                    skipped = Some(BindError::Address(address, error));
                }
                Err(error) => return Err(error),
            }
        }
        match skipped {
            Some(error) if listeners.is_empty() => Err(error),
            skipped => {
                if let Some(error) = skipped {
                    log::warn!("not listening on {error}");
                }
                Ok(listeners)
            }
        }
    }

    fn open(place: &Listen) -> Result<Self, BindError> {
        match place {
            Listen::Unix(path) => Self::open_unix(path),
            Listen::Tcp(address) => match open_tcp(*address) {
                // On a machine without IPv6, every address means every IPv4 address.
                Err(Errno::AFNOSUPPORT) if address.is_ipv6() && address.ip().is_unspecified() => {
                    open_tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
                }
                other => other,
            }
            .map_err(|error| BindError::Address(*address, error.into())),
        }
    }

    fn open_unix(path: &Path) -> Result<Self, BindError> {
        let failed = |error: io::Error| BindError::File(path.to_owned(), error);
        let name = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(existing) if !existing.file_type().is_socket() => return Err(BindError::NoSocket(path.to_owned())),
            Ok(_) if somebody_answers(&name) => return Err(BindError::InUse(path.to_owned())),
            Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        }
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(|error| failed(error.into()))?;
        rustix::net::bind(&socket, &name).map_err(|error| failed(error.into()))?;
        let file = SocketFile::of(path).map_err(failed)?;
        // No connection succeeds before `listen`, so none precedes the mode.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        rustix::net::listen(&socket, BACKLOG).map_err(|error| failed(error.into()))?;
        Ok(Self { socket, place: Place::Unix(file) })
    }

    /// The bound address, with the port that the kernel chose.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Tcp(address) => Some(*address),
            Place::Unix(_) => None,
        }
    }

    /// True if a connection waits. Needed when descriptors run out: `accept` allocates one before
    /// it looks at the backlog, so it fails even if the backlog is empty.
    pub fn has_waiting(&self) -> bool {
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        matches!(retry_on_intr(|| poll(&mut polled, Some(&Timespec::default()))), Ok(1..))
    }

    /// Accepts one connection. [`Errno::AGAIN`]: none is waiting.
    pub fn accept(&self) -> Result<(Socket, Peer), Errno> {
        let (socket, from) = retry_on_intr(|| acceptfrom_with(&self.socket, FLAGS))?;
        let peer = match &self.place {
            Place::Unix(_) => Peer::Unix,
            Place::Tcp(_) => {
                // A connection without a peer address is gone already.
                let address = from.and_then(|from| SocketAddr::try_from(from).ok()).ok_or(Errno::CONNABORTED)?;
                Peer::Ip(address.ip().to_canonical())
            }
        };
        Ok((Socket(socket), peer))
    }
}

fn open_tcp(address: SocketAddr) -> Result<Listener, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, FLAGS, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    // Accepted sockets inherit this: no answer waits until the previous one is acknowledged.
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok(Listener { socket, place: Place::Tcp(bound) })
}

fn has_no_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let absent = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(Errno::raw_os_error);
    address.is_ipv6() && address.ip().is_loopback() && error.raw_os_error().is_some_and(|code| absent.contains(&code))
}

/// True if a server listens on a socket file. A full backlog counts.
fn somebody_answers(name: &SocketAddrUnix) -> bool {
    let Ok(probe) = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None) else { return true };
    !matches!(rustix::net::connect(&probe, name), Err(Errno::CONNREFUSED | Errno::NOENT))
}

/// The file of a unix socket. Removed on drop if it is still the same file.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|present| present == self.identity)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<Listener, BindError> {
        Listener::open(&Listen::Unix(path.to_owned()))
    }

    #[test]
    fn a_socket_file_is_0660_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = open(&path).unwrap();
        assert!(matches!(open(&path), Err(BindError::InUse(_))));
        assert!(path.exists());
        drop(live);
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(open(&path), Err(BindError::NoSocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_successors_socket_file_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = open(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first = Listener::open(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = first.address().unwrap();
        let error = Listener::open(&Listen::Tcp(address)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("http://{address}: ")), "{error}");
    }

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_too() {
        let listener = Listener::open(&Listen::Tcp("[::]:0".parse().unwrap())).unwrap();
        let port = listener.address().unwrap().port();
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, Peer::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        drop(client);
    }
}
