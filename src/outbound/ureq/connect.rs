//! How a connection comes about: the name is looked up, a socket opened, TLS put on top. The client would look the name
//! up for every request, and keeps no word on how far it came.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::Duration as Limit;
use ureq::unversioned::transport::{ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport};
use ureq::{Error, Timeout, http};

use super::super::resolver::{self, Resolve};
use super::severed::Unsevered;
use super::tcp::{Socket, Sockets, Tcp};
use crate::value::url::Origin;

/// More of them would leave none enough time.
const MAX_ADDRESSES: usize = 16;

/// How far the request on this thread has come; the client's errors do not tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No connection was opened: one from the pool is in use.
    Pooled,
    /// A connection is being opened: to a proxy, where there is one.
    Dialing,
    /// A proxy is asked for a tunnel.
    Asking,
    /// TLS is put on top of a tunnel.
    Connecting,
    /// It is open.
    Connected,
}

impl Phase {
    pub(super) fn enter(self) {
        PHASE.set(self);
    }

    /// Before a request. Whether it will go through a tunnel of a proxy tells what an open connection means.
    pub(super) fn begin(tunnel: bool) {
        TUNNEL.set(tunnel);
        Self::Pooled.enter();
    }

    /// A connection is open.
    fn opened() {
        let to_proxy = TUNNEL.get() && Self::current() == Self::Dialing;
        if to_proxy { Self::Asking.enter() } else { Self::Connected.enter() }
    }

    pub(super) fn current() -> Self {
        PHASE.get()
    }
}

/// A redirect led to an address that it must not lead to.
#[derive(Debug)]
struct NotPublic;

/// Whether that is the error.
pub(super) fn is_not_public(cause: &io::Error) -> bool {
    cause.get_ref().and_then(|inner| inner.downcast_ref::<NotPublic>()).is_some()
}

impl std::fmt::Display for NotPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the address is not public")
    }
}

impl std::error::Error for NotPublic {}

/// From now on connections are opened for a redirect from this API, where there is one.
pub(super) fn confine(redirected_from: Option<Origin>) {
    REDIRECTED_FROM.set(redirected_from);
}

/// Takes the socket that was opened last on this thread. The client's transports do not expose it.
pub(super) fn dialed() -> Option<Arc<Socket>> {
    DIALED.take()
}

thread_local! {
    static DIALED: RefCell<Option<Arc<Socket>>> = const { RefCell::new(None) };
    static REDIRECTED_FROM: RefCell<Option<Origin>> = const { RefCell::new(None) };
    // The client runs a whole request, connectors included, on the thread that called it.
    static TUNNEL: Cell<bool> = const { Cell::new(false) };
    static PHASE: Cell<Phase> = const { Cell::new(Phase::Pooled) };
}

/// The client resolves names before it looks into its pool; [`Dial`] does it when a connection is needed.
#[derive(Debug)]
pub(super) struct NoLookup;

impl Resolver for NoLookup {
    fn resolve(&self, _: &http::Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

/// Resolves the host's name and opens a TCP connection.
#[derive(Debug)]
pub(super) struct Dial {
    resolver: Arc<dyn Resolve>,
    sockets: Arc<Sockets>,
}

impl Dial {
    pub(super) fn new(resolver: &Arc<dyn Resolve>, sockets: &Arc<Sockets>) -> Self {
        Self { resolver: Arc::clone(resolver), sockets: Arc::clone(sockets) }
    }
}

impl<In: Transport> Connector<In> for Dial {
    type Out = Either<In, Tcp>;

    fn connect(&self, details: &ConnectionDetails<'_>, tunnel: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(tunnel) = tunnel {
            // Of whatever is before it in the chain.
            if TUNNEL.get() {
                Phase::Connecting.enter();
            }
            return Ok(Some(Either::A(tunnel)));
        }
        Phase::Dialing.enter();
        let start = Instant::now();
        let uri = details.uri;
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if details.needs_tls() { 443 } else { 80 });
        let found = resolver::addresses(&self.resolver, host, port, *details.timeout.after);
        let found = found.map_err(|cause| match cause.kind() {
            io::ErrorKind::TimedOut => Error::Timeout(Timeout::Resolve),
            _ => Error::Io(io::Error::other(format!("name not resolved: {cause}"))),
        })?;
        let found = match REDIRECTED_FROM.with_borrow(Clone::clone) {
            Some(own) => {
                let limit = details.timeout.after.saturating_sub(start.elapsed());
                resolver::reachable(&self.resolver, found, &own, limit)
            }
            None => found,
        };
        if found.is_empty() {
            return Err(Error::Io(io::Error::other(NotPublic)));
        }
        let after = Limit::from(details.timeout.after.saturating_sub(start.elapsed()));
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let first = &found[..found.len().min(MAX_ADDRESSES)];
        let tcp = self.sockets.connect(first, NextTimeout { after, ..details.timeout }, buffers)?;
        DIALED.set(Some(tcp.socket()));
        Ok(Some(Either::B(tcp)))
    }
}

/// TLS with the one configuration that all requests share. The client keeps it, and with it the sessions that can
/// be resumed, only for connections that it takes for configured by the agent.
#[derive(Debug)]
pub(super) struct Tls<C>(pub(super) C);

impl<In: Transport, C: Connector<In>> Connector<In> for Tls<C> {
    type Out = Unsevered<C::Out>;

    fn connect(&self, details: &ConnectionDetails<'_>, tcp: Option<In>) -> Result<Option<Self::Out>, Error> {
        let shared = ConnectionDetails { request_level: false, ..copy(details) };
        let connected = self.0.connect(&shared, tcp)?;
        Phase::opened();
        Ok(connected.map(Unsevered))
    }
}

pub(super) fn copy<'a>(details: &ConnectionDetails<'a>) -> ConnectionDetails<'a> {
    ConnectionDetails {
        uri: details.uri,
        addrs: details.addrs.clone(),
        config: details.config,
        request_level: details.request_level,
        resolver: details.resolver,
        now: details.now,
        timeout: details.timeout,
        current_time: Arc::clone(&details.current_time),
        run_connector: Arc::clone(&details.run_connector),
        register_shutdown: Arc::clone(&details.register_shutdown),
    }
}
