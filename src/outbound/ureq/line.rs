//! A connection for a request that is passed through: nothing waits here, so that whoever moves bytes between two
//! sockets waits for both at once, and learns at once that either of them has ended.
//!
//! The client sends a whole body before it looks for an answer, reads no answer beside a body that it sends, and drops
//! reason phrases and interim answers. So its connectors make the connection, TLS and tunnels included, and what is said
//! over it is said by the routes.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags};
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::Resolver as _;
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, Transport, time};
use ureq::{Error, Proxy, Timeout, http};
use zeroize::Zeroizing;

use super::connect::{self, NoLookup};
use super::forward;
use super::tcp::Socket;
use crate::value::url::Origin;

/// As the client's own pool has it.
const IDLE: usize = 576;
const IDLE_AGE: Duration = Duration::from_mins(1);
/// A record of TLS (RFC 8446 §5.1).
const BUFFER: usize = 16 * 1024;

/// How connections come about, for the client and for lines: one chain, so that TLS sessions are shared.
#[derive(Clone, Debug)]
pub(super) struct Way(Arc<dyn Connector<Out = Box<dyn Transport>>>);

impl Way {
    pub(super) fn new(chain: impl Connector) -> Self {
        Self(Arc::new(chain.chain(Boxed)))
    }
}

impl Connector for Way {
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

/// What a plain request says to a proxy, and to no API (RFC 9112 §3.2.2).
pub struct ToProxy {
    /// What makes the target an absolute one.
    pub origin: String,
    /// `Proxy-Authorization`.
    pub authorization: Option<Zeroizing<String>>,
}

/// A connection to an API, for one request at a time.
pub struct Line {
    transport: Box<dyn Transport>,
    socket: Arc<Socket>,
    origin: Origin,
    /// Where a proxy is asked for it.
    pub to_proxy: Option<ToProxy>,
    /// Whether it has served a request before, so that it may have ended without anybody's fault.
    pub reused: bool,
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.stream.as_fd()
    }
}

/// In a line nothing waits, whatever this says.
const AT_ONCE: NextTimeout =
    NextTimeout { after: time::Duration::from_secs(3600), reason: Timeout::Global, per_read: None, per_write: None };

impl Line {
    /// Sends what there is room for: how much that was.
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

    /// Whether all has left that was sent.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn is_sent(&self) -> io::Result<bool> {
        self.socket.send_later(&[]).unwrap_or(Ok(true))
    }

    /// Appends what has come to the spare room of `into`, of which there is some. `None`: there is nothing yet;
    /// `Some(0)`: there never will be.
    ///
    /// # Errors
    /// The connection is broken; over TLS also where it ended without a word.
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

    /// Whether there may be more to receive though the socket has nothing.
    pub fn holds_back(&self) -> bool {
        self.transport.is_tls()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Makes lines, and keeps those that idle.
#[derive(Debug)]
pub(super) struct Lines {
    way: Way,
    tls: TlsConfig,
    /// The one that became idle last is the last.
    idle: Mutex<VecDeque<(Line, Instant)>>,
}

impl Lines {
    pub(super) fn new(way: Way, tls: TlsConfig) -> Self {
        Self { way, tls, idle: Mutex::default() }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Line, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that idles and that the other end has not ended.
    pub(super) fn take(&self, origin: &Origin) -> Option<Line> {
        loop {
            let found = {
                let mut idle = self.idle();
                let at = idle.iter().rposition(|(line, _)| line.origin == *origin)?;
                idle.remove(at)?
            };
            let (mut line, since) = found;
            if since.elapsed() < IDLE_AGE && line.transport.is_open() {
                line.socket.begin();
                line.reused = true;
                return Some(line);
            }
        }
    }

    pub(super) fn keep(&self, mut line: Line) {
        let clean = line.transport.buffers().input().is_empty() && line.is_sent().unwrap_or(false);
        // Whoever says more than was asked for is not asked again.
        if !clean || !line.transport.is_open() {
            return;
        }
        let mut idle = self.idle();
        idle.push_back((line, Instant::now()));
        let mut ended = Vec::new();
        while idle.len() > IDLE || idle.front().is_some_and(|(_, since)| since.elapsed() >= IDLE_AGE) {
            ended.extend(idle.pop_front());
        }
        // Closed without the lock.
        drop(idle);
    }

    /// A new one, within this time.
    pub(super) fn open(&self, origin: &Origin, proxy: Option<&Proxy>, limit: Duration) -> Result<Line, Error> {
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
        socket.become_line()?;
        let to_proxy =
            plain.map(|proxy| ToProxy { origin: origin.to_string(), authorization: forward::authorization(proxy) });
        Ok(Line { transport, socket, origin: origin.clone(), to_proxy, reused: false })
    }
}
