//! Connections to upstreams. They never block once they are open, so a thread can wait for two sockets at once, or for
//! none of its own.
//!
//! The client sends the whole body before it reads the answer, hides reason phrases and interim answers, and holds its
//! thread. So its connectors open the connection, including TLS and tunnels, and the HTTP over it is our own.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags};
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::Resolver as _;
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, Transport, time};
use ureq::{Error, Proxy, Timeout, http};
use zeroize::Zeroizing;

use super::super::OutError;
use super::super::request_line::ToProxy;
use super::connect::{self, NoLookup};
use super::tcp::Socket;
use crate::sync::Mutex;
use crate::value::url::Origin;

/// The default number of concurrent calls; fewer would cost a TLS handshake per excess call.
const IDLE: usize = 768;
/// Below common idle limits (Azure's load balancers: 4 minutes). A connection closed earlier is detected anyway.
pub(super) const IDLE_AGE: Duration = Duration::from_mins(1);
/// The size of a TLS record (RFC 8446 §5.1).
const BUFFER: usize = 16 * 1024;

/// One chain of connectors for the client and for these connections, so they share TLS sessions.
#[derive(Clone, Debug)]
pub(super) struct SharedConnector(Arc<dyn Connector<Out = Box<dyn Transport>>>);

impl SharedConnector {
    pub(super) fn new(chain: impl Connector) -> Self {
        Self(Arc::new(chain.chain(Boxed)))
    }
}

impl Connector for SharedConnector {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        self.0.connect(details, chained)
    }
}

#[derive(Debug)]
struct Boxed;

impl<In: Transport> Connector<In> for Boxed {
    type Out = Box<dyn Transport>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|transport| Box::new(transport) as _))
    }
}

/// `Proxy-Authorization`, if the proxy's URL has a user (RFC 7617 §2).
fn authorization(proxy: &Proxy) -> Option<Zeroizing<String>> {
    let (user, password) = (proxy.username(), proxy.password());
    user.or(password)?;
    let pair = Zeroizing::new(format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default()));
    Some(Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
}

/// What a request to an `http` origin tells this proxy.
pub(super) fn to_proxy(proxy: &Proxy, origin: &Origin) -> ToProxy {
    ToProxy { origin: origin.clone(), authorization: authorization(proxy), refusal: refused_by(proxy) }
}

/// The error for a 407 from this proxy.
pub(super) fn refused_by(proxy: &Proxy) -> OutError {
    failed_at(proxy, "answered 407 Proxy Authentication Required", false)
}

/// A failure of this proxy. Names only its host, since its URL may contain a password.
pub(super) fn failed_at(proxy: &Proxy, cause: &str, timed_out: bool) -> OutError {
    let scheme = proxy.uri().scheme_str().unwrap_or("http");
    OutError::Proxy { cause: format!("{scheme}://{}:{} (the proxy): {cause}", proxy.host(), proxy.port()), timed_out }
}

/// A connection to an upstream, for one request at a time.
pub struct UpstreamConnection {
    transport: Box<dyn Transport>,
    socket: Arc<Socket>,
    origin: Origin,
    /// Whether a proxy forwards the request, or gave a tunnel.
    proxied: bool,
    /// Set if a forward proxy takes the request.
    pub to_proxy: Option<ToProxy>,
    /// Whether it has served a request before. The API may close an idle connection at any time.
    pub reused: bool,
}

impl AsFd for UpstreamConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.stream.as_fd()
    }
}

/// Has no effect: the socket does not block.
const AT_ONCE: NextTimeout =
    NextTimeout { after: time::Duration::from_secs(3600), reason: Timeout::Global, per_read: None, per_write: None };

impl UpstreamConnection {
    /// Sends as much as fits and returns how much that was.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.transport.is_tls() {
            return match retry_on_intr(|| rustix::net::send(&self.socket.stream, bytes, SendFlags::NOSIGNAL)) {
                Err(Errno::AGAIN) => Ok(0),
                sent => Ok(sent?),
            };
        }
        if !self.is_sent()? {
            return Ok(0);
        }
        let output = self.transport.buffers().output();
        let amount = bytes.len().min(output.len());
        output[..amount].copy_from_slice(&bytes[..amount]);
        self.transport.transmit_output(amount, AT_ONCE).map_err(Error::into_io)?;
        Ok(amount)
    }

    /// Flushes buffered TLS records; true if none are left.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn is_sent(&self) -> io::Result<bool> {
        self.socket.send_later(&[]).unwrap_or(Ok(true))
    }

    /// Reads into the spare capacity of `into`, which must not be empty. `None`: nothing has arrived; `Some(0)`: the
    /// connection has ended.
    ///
    /// # Errors
    /// The connection is broken, or TLS ended without its closing alert.
    pub fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<Option<usize>> {
        if !self.transport.is_tls() {
            return match retry_on_intr(|| {
                rustix::net::recv(&self.socket.stream, spare_capacity(into), RecvFlags::empty())
            }) {
                Err(Errno::AGAIN) => Ok(None),
                received => Ok(Some(received?.1)),
            };
        }
        if self.transport.buffers().input().is_empty() {
            match self.transport.await_input(AT_ONCE) {
                Ok(true) => {}
                Ok(false) => return Ok(Some(0)),
                Err(Error::Timeout(_)) => return Ok(None),
                Err(error) => return Err(error.into_io()),
            }
        }
        let buffers = self.transport.buffers();
        let amount = buffers.input().len().min(into.capacity() - into.len());
        into.extend_from_slice(&buffers.input()[..amount]);
        buffers.input_consume(amount);
        Ok(Some(amount))
    }
}

impl fmt::Debug for UpstreamConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConnection").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct ConnectionPool {
    way: SharedConnector,
    tls: TlsConfig,
    /// In the order in which they became idle.
    idle: Mutex<VecDeque<(UpstreamConnection, Instant)>>,
}

impl ConnectionPool {
    pub(super) fn new(way: SharedConnector, tls: TlsConfig) -> Self {
        Self { way, tls, idle: Mutex::default() }
    }

    /// An idle connection that is still open, through a proxy or not.
    pub(super) fn take(&self, origin: &Origin, proxied: bool) -> Option<UpstreamConnection> {
        loop {
            let found = {
                let mut idle = self.idle.lock();
                let fits =
                    |connection: &UpstreamConnection| connection.origin == *origin && connection.proxied == proxied;
                let at = idle.iter().rposition(|(connection, _)| fits(connection))?;
                idle.remove(at)?
            };
            let (mut connection, since) = found;
            if since.elapsed() < IDLE_AGE && connection.transport.is_open() {
                connection.socket.begin();
                connection.reused = true;
                return Some(connection);
            }
        }
    }

    pub(super) fn keep(&self, mut connection: UpstreamConnection) {
        // Bytes that nobody asked for make a connection unusable. An alert that ends TLS may have come with the answer, and
        // then nothing more would be read (RFC 8446 §6.1).
        let is_quiet =
            !connection.transport.is_tls() || matches!(connection.receive(&mut Vec::with_capacity(1)), Ok(None));
        if !is_quiet || !connection.is_sent().unwrap_or(false) || !connection.transport.is_open() {
            return;
        }
        let mut idle = self.idle.lock();
        idle.push_back((connection, Instant::now()));
        let mut ended = Vec::new();
        while idle.len() > IDLE || idle.front().is_some_and(|(_, since)| since.elapsed() >= IDLE_AGE) {
            ended.extend(idle.pop_front());
        }
        // The connections are closed after the lock is released.
        drop(idle);
    }

    /// Opens a connection within this time.
    pub(super) fn open(
        &self,
        origin: &Origin,
        proxy: Option<&Proxy>,
        limit: Duration,
    ) -> Result<UpstreamConnection, Error> {
        let end: http::Uri = origin.to_string().parse().map_err(http::Error::from)?;
        let plain = proxy.filter(|_| !origin.https);
        let uri = plain.map_or(&end, |proxy| proxy.uri());
        let tunnel = proxy.filter(|_| origin.https).cloned();
        let config = ureq::Agent::config_builder()
            .proxy(tunnel)
            .tls_config(self.tls.clone())
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .build();
        let way = self.way.clone();
        let details = ConnectionDetails {
            uri,
            addrs: NoLookup.empty(),
            config: &config,
            request_level: false,
            resolver: &NoLookup,
            now: time::Instant::now(),
            timeout: NextTimeout { after: limit.into(), reason: Timeout::Connect, ..NextTimeout::default() },
            current_time: Arc::new(time::Instant::now),
            run_connector: Arc::new(move |details| way.connect(details, None)?.ok_or(Error::ConnectionFailed)),
            register_shutdown: Arc::new(|_| Ok(())),
        };
        let transport = self.way.connect(&details, None)?.ok_or(Error::ConnectionFailed)?;
        let socket = connect::dialed().ok_or(Error::ConnectionFailed)?;
        socket.unblock()?;
        let to_proxy = plain.map(|proxy| to_proxy(proxy, origin));
        let (origin, proxied) = (origin.clone(), proxy.is_some());
        Ok(UpstreamConnection { transport, socket, origin, proxied, to_proxy, reused: false })
    }
}
