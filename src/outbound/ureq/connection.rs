//! Connections to upstreams. They never block once they are open, so a thread can wait for two sockets at once, or for
//! none of its own.
//!
//! The connectors of a client open them, including TLS and tunnels; the HTTP over them is our own.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
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
use super::super::http1::Source;
use super::super::request_line::ToProxy;
use super::connect::{self, NoLookup};
use super::tcp::{self, Socket};
use crate::sync::Mutex;
use crate::value::url::Origin;

/// The default number of concurrent calls; fewer would cost a TLS handshake per excess call.
const IDLE: usize = 768;
/// Below common idle limits (Azure's load balancers: 4 minutes). A connection closed earlier is detected anyway.
const IDLE_AGE: Duration = Duration::from_mins(1);
/// How often idle connections are looked at. One that the upstream closes would hold a descriptor in CLOSE-WAIT.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The size of a TLS record (RFC 8446 §5.1).
const BUFFER: usize = 16 * 1024;

/// The chain of connectors of a pool, whose connections share TLS sessions.
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
fn refused_by(proxy: &Proxy) -> OutError {
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
const UNUSED_TIMEOUT: NextTimeout =
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
        if !self.is_sent() {
            return Ok(0);
        }
        let output = self.transport.buffers().output();
        let amount = bytes.len().min(output.len());
        output[..amount].copy_from_slice(&bytes[..amount]);
        self.transport.transmit_output(amount, UNUSED_TIMEOUT).map_err(Error::into_io)?;
        if self.socket.is_refused() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(amount) }
    }

    /// Flushes buffered TLS records; true if none are left, or the other side takes no more.
    pub fn is_sent(&self) -> bool {
        self.socket.send_later(&[]).unwrap_or(true)
    }
}

impl Source for UpstreamConnection {
    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<Option<usize>> {
        if !self.transport.is_tls() {
            return match retry_on_intr(|| {
                rustix::net::recv(&self.socket.stream, spare_capacity(into), RecvFlags::empty())
            }) {
                Err(Errno::AGAIN) => Ok(None),
                received => Ok(Some(received?.1)),
            };
        }
        if self.transport.buffers().input().is_empty() {
            match self.transport.await_input(UNUSED_TIMEOUT) {
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
    connector: SharedConnector,
    tls: TlsConfig,
    idle: Arc<IdleConnections>,
}

/// In the order in which they became idle.
#[derive(Debug, Default)]
struct IdleConnections {
    list: Mutex<VecDeque<(UpstreamConnection, Instant)>>,
    /// Whether a thread looks at them.
    watched: AtomicBool,
}

impl IdleConnections {
    /// Closes those that have ended or were idle for too long.
    fn tidy(&self) {
        let mut ended = VecDeque::new();
        let mut list = self.list.lock();
        let arrivals = tcp::arrivals(list.iter().map(|(connection, _)| &*connection.socket));
        for ((connection, since), arrived) in mem::take(&mut *list).into_iter().zip(arrivals) {
            let stays = !arrived && since.elapsed() < IDLE_AGE;
            if stays { &mut *list } else { &mut ended }.push_back((connection, since));
        }
        // They are closed after the lock is released.
        drop(list);
    }

    /// Looks at them from time to time, from a thread of its own.
    fn watch(self: &Arc<Self>) {
        if !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::Relaxed) {
            let own: Weak<Self> = Arc::downgrade(self);
            let watch = move || {
                while let Some(idle) = own.upgrade() {
                    idle.tidy();
                    drop(idle);
                    thread::sleep(LOOK_EVERY);
                }
            };
            // Without the thread, connections are still checked before use.
            let is_watched = thread::Builder::new().name("idle".into()).spawn(watch).is_ok();
            self.watched.store(is_watched, Ordering::Relaxed);
        }
    }
}

impl ConnectionPool {
    pub(super) fn new(connector: SharedConnector, tls: TlsConfig) -> Self {
        Self { connector, tls, idle: Arc::default() }
    }

    #[cfg(test)]
    pub(super) fn tidy(&self) {
        self.idle.tidy();
    }

    /// An idle connection that is still open, through a proxy or not.
    pub(super) fn take(&self, origin: &Origin, proxied: bool) -> Option<UpstreamConnection> {
        loop {
            let found = {
                let mut idle = self.idle.list.lock();
                let fits =
                    |connection: &UpstreamConnection| connection.origin == *origin && connection.proxied == proxied;
                let at = idle.iter().rposition(|(connection, _)| fits(connection))?;
                idle.remove(at)?
            };
            let (mut connection, since) = found;
            if since.elapsed() < IDLE_AGE && connection.transport.is_open() {
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
        if !is_quiet || !connection.is_sent() || !connection.transport.is_open() {
            return;
        }
        self.idle.watch();
        let mut idle = self.idle.list.lock();
        idle.push_back((connection, Instant::now()));
        let oldest = if idle.len() > IDLE { idle.pop_front() } else { None };
        drop(idle);
        // It is closed after the lock is released.
        drop(oldest);
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
        let connector = self.connector.clone();
        let details = ConnectionDetails {
            uri,
            addrs: NoLookup.empty(),
            config: &config,
            request_level: false,
            resolver: &NoLookup,
            now: time::Instant::now(),
            timeout: NextTimeout { after: limit.into(), reason: Timeout::Connect, ..NextTimeout::default() },
            current_time: Arc::new(time::Instant::now),
            run_connector: Arc::new(move |details| connector.connect(details, None)?.ok_or(Error::ConnectionFailed)),
            register_shutdown: Arc::new(|_| Ok(())),
        };
        let transport = self.connector.connect(&details, None)?.ok_or(Error::ConnectionFailed)?;
        let socket = connect::dialed().ok_or(Error::ConnectionFailed)?;
        socket.unblock()?;
        let to_proxy = plain.map(|proxy| to_proxy(proxy, origin));
        let (origin, proxied) = (origin.clone(), proxy.is_some());
        Ok(UpstreamConnection { transport, socket, origin, proxied, to_proxy, reused: false })
    }
}
