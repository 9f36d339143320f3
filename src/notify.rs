//! Tells the service manager about readiness, reloads and shutdown, for systemd's `Type=notify` and
//! `Type=notify-reload` (`sd_notify(3)`). Best effort: a failure is only a warning.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A manager that does not drain its socket must not delay start or shutdown.
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// Serving, after the start or a reload.
    Ready {
        /// The last reload was rejected, so the old configuration is still in force.
        refused: bool,
    },
    Reloading,
    /// No new requests are accepted; those in flight finish.
    Stopping,
}

/// `None` without a service manager.
#[derive(Debug)]
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// `socket` is the value of `NOTIFY_SOCKET`.
    pub fn new(socket: Option<&OsStr>) -> Self {
        let Some(name) = socket.filter(|name| !name.is_empty()) else { return Self(None) };
        let opened = address(name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(TIMEOUT))?;
            Ok((socket, address))
        });
        Self(opened.inspect_err(|error| log::warn!("NOTIFY_SOCKET: {error}")).ok())
    }

    pub fn tell(&self, state: ServiceState) {
        let Some((socket, address)) = &self.0 else { return };
        if let Err(error) = socket.send_to_addr(message(state, monotonic_micros()).as_bytes(), address) {
            log::warn!("failed to notify the service manager of {state:?}: {error}");
        }
    }
}

/// A path, or a name in the abstract namespace after `@`. systemd's third form, `vsock:`, is for
/// virtual machines.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "expected an absolute path or @name")),
    }
}

/// `MONOTONIC_USEC` distinguishes one reload from the next (`sd_notify(3)`, `RELOADING=1`).
fn message(state: ServiceState, micros: u64) -> String {
    match state {
        ServiceState::Ready { refused: false } => "READY=1\nSTATUS=Serving".to_owned(),
        ServiceState::Ready { refused: true } => {
            "READY=1\nSTATUS=Serving with the old configuration: the new one was refused, see the log".to_owned()
        }
        ServiceState::Reloading => {
            format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reading the configuration again")
        }
        ServiceState::Stopping => "STOPPING=1\nSTATUS=Finishing requests in flight".to_owned(),
    }
}

/// `CLOCK_MONOTONIC`; `Instant` does not expose it as a number.
fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000 + part(now.tv_nsec) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_path_or_an_abstract_name() {
        let address = |name: &str| address(OsStr::new(name));
        assert_eq!(address("/run/notify").unwrap().as_pathname(), Some("/run/notify".as_ref()));
        assert_eq!(address("@manager").unwrap().as_abstract_name(), Some(b"manager".as_ref()));
        let long = format!("/{}", "x".repeat(200));
        for name in ["notify", "vsock:2:1234", long.as_str()] {
            assert!(address(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_reload_carries_the_moment_at_which_it_began() {
        let text = message(ServiceState::Reloading, 42);
        assert!(text.starts_with("RELOADING=1\nMONOTONIC_USEC=42\n"), "{text}");
    }

    #[test]
    fn a_manager_that_is_not_there_changes_nothing() {
        for socket in [None, Some(""), Some("nonsense"), Some("/absent/notify"), Some("@nobody-listens-here")] {
            Notifier::new(socket.map(OsStr::new)).tell(ServiceState::Stopping);
        }
    }
}
