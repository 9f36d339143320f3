//! Opens connections: resolves the name, connects a socket, and adds TLS. The client's own
//! connectors do not report how far they came.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::Duration as Limit;
use ureq::unversioned::transport::{ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport};
use ureq::{Error, Timeout, http};

use super::super::resolver::{self, Resolve};
use super::tcp::{self, Socket, Tcp};
use crate::value::url::Origin;

/// More addresses would leave too little time for each.
const MAX_ADDRESSES: usize = 16;

/// The progress of this thread's request, which the errors of connectors do not reveal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A pooled connection is in use.
    Pooled,
    /// Opening a connection, to the proxy if there is one.
    Dialing,
    /// Asking a proxy for a tunnel.
    Asking,
    /// Adding TLS to a tunnel.
    Connecting,
    Connected,
}

impl Phase {
    pub(super) fn enter(self) {
        PHASE.set(self);
    }

    /// Starts a request. `tunnel`: it goes through a proxy's tunnel, so the first open connection
    /// only reaches the proxy.
    pub(super) fn begin(tunnel: bool) {
        TUNNEL.set(tunnel);
        Self::Pooled.enter();
    }

    fn opened() {
        let to_proxy = TUNNEL.get() && Self::current() == Self::Dialing;
        if to_proxy { Self::Asking.enter() } else { Self::Connected.enter() }
    }

    pub(super) fn current() -> Self {
        PHASE.get()
    }
}

/// A redirect led to a forbidden address.
#[derive(Debug)]
struct NotPublic;

pub(super) fn is_not_public(cause: &io::Error) -> bool {
    cause.get_ref().and_then(|inner| inner.downcast_ref::<NotPublic>()).is_some()
}

impl std::fmt::Display for NotPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the address is not public")
    }
}

impl std::error::Error for NotPublic {}

/// Restricts the connections of this thread to addresses that a redirect from this API may reach,
/// or lifts the restriction.
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
    // Connectors run on the thread that opens the connection.
    static TUNNEL: Cell<bool> = const { Cell::new(false) };
    static PHASE: Cell<Phase> = const { Cell::new(Phase::Pooled) };
}

/// [`Dial`] resolves names itself; a proxy's connector would do so before.
#[derive(Debug)]
pub(super) struct NoLookup;

impl Resolver for NoLookup {
    fn resolve(&self, _: &http::Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

/// Resolves the host and opens a TCP connection.
#[derive(Clone, Debug)]
pub(super) struct Dial(pub(super) Arc<dyn Resolve>);

impl<In: Transport> Connector<In> for Dial {
    type Out = Either<In, Tcp>;

    fn connect(&self, details: &ConnectionDetails<'_>, tunnel: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(tunnel) = tunnel {
            // Opened by a connector earlier in the chain.
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
        let found = resolver::addresses(&self.0, host, port, *details.timeout.after);
        let found = found.map_err(|cause| match cause.kind() {
            io::ErrorKind::TimedOut => Error::Timeout(Timeout::Resolve),
            _ => Error::Io(io::Error::other(format!("failed to resolve the name: {cause}"))),
        })?;
        let found = match REDIRECTED_FROM.with_borrow(Clone::clone) {
            Some(own) => {
                let limit = details.timeout.after.saturating_sub(start.elapsed());
                resolver::reachable(&self.0, found, &own, limit)
            }
            None => found,
        };
        if found.is_empty() {
            return Err(Error::Io(io::Error::other(NotPublic)));
        }
        let after = Limit::from(details.timeout.after.saturating_sub(start.elapsed()));
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let first = &found[..found.len().min(MAX_ADDRESSES)];
        let tcp = tcp::connect(first, NextTimeout { after, ..details.timeout }, buffers)?;
        DIALED.set(Some(tcp.socket()));
        Ok(Some(Either::B(tcp)))
    }
}

/// TLS. Its configuration, and the sessions for resumption, are the connector's own.
#[derive(Debug)]
pub(super) struct Tls<C>(pub(super) C);

impl<In: Transport, C: Connector<In>> Connector<In> for Tls<C> {
    type Out = C::Out;

    fn connect(&self, details: &ConnectionDetails<'_>, tcp: Option<In>) -> Result<Option<Self::Out>, Error> {
        let connected = self.0.connect(details, tcp)?;
        Phase::opened();
        Ok(connected)
    }
}
