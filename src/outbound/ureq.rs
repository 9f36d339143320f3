//! [`Exchange`] over the network. Only this folder names the client crate, whose connectors open connections; the HTTP over
//! them is our own.

mod call;
mod connect;
mod connection;
mod pinned;
mod tcp;

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, RustlsConnector};
use ureq::{Error, Proxy, Timeout};

use call::CallError;
pub use call::{Step, UpstreamCall};
use connect::{Dial, Phase, Tls};
pub use connection::UpstreamConnection;
use connection::{ConnectionPool, SharedConnector, failed_at};
use pinned::PinnedTls;
pub use pinned::Thumbprint;

use super::proxy::{Proxies, ProxyError, ProxyUrl};
use super::request_line::ToProxy;
use super::resolver::{self, Resolve};
use super::roots::Roots;
use super::{Exchange, OutError, OutRequest, OutResponse, Upstream};
use crate::value::url::Origin;

/// A managed identity endpoint is at most one hop away. If it is not reached in this time, the
/// machine is not in Azure.
const CONNECT_ON_MACHINE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct ExchangeSettings {
    /// For name resolution, connection and TLS together.
    pub connect_timeout: Duration,
    pub roots: Roots,
    pub proxies: Proxies,
    pub resolver: Arc<dyn Resolve>,
    /// The certificate of a managed identity endpoint that no authority vouches for.
    pub machine: Option<Thumbprint>,
}

/// Sends requests over pooled connections.
#[derive(Debug)]
pub struct UreqExchange {
    connections: ConnectionPool,
    /// To a managed identity endpoint with a pinned certificate.
    machine: Option<ConnectionPool>,
    connect_timeout: Duration,
    resolver: Arc<dyn Resolve>,
    proxies: Proxies,
    https_proxy: Option<Proxy>,
    http_proxy: Option<Proxy>,
}

impl UreqExchange {
    /// Connects to nothing yet.
    pub fn new(settings: ExchangeSettings) -> Result<Self, ProxyError> {
        let ExchangeSettings { connect_timeout, roots, proxies, resolver, machine } = settings;
        // Fails only if the roots are empty; then the other pool reports that on each request.
        let pinned = machine.and_then(|thumbprint| PinnedTls::new(thumbprint, &roots).ok());
        let roots = match roots {
            Roots::BuiltIn => RootCerts::WebPki,
            Roots::Own(own) => {
                let own: Vec<_> = own.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
                RootCerts::new_with_certs(&own)
            }
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(roots)
            .build();
        let dial = Dial(Arc::clone(&resolver));
        let machine = pinned
            .map(|pinned| ConnectionPool::new(SharedConnector::new(dial.clone().chain(Tls(pinned))), tls.clone()));
        let connector = ConnectProxyConnector::default().chain(dial).chain(Tls(RustlsConnector::default()));
        Ok(Self {
            connections: ConnectionPool::new(SharedConnector::new(connector), tls),
            machine,
            connect_timeout,
            resolver: Arc::clone(&resolver),
            https_proxy: proxies.https.as_ref().map(parse_proxy).transpose()?,
            http_proxy: proxies.http.as_ref().map(parse_proxy).transpose()?,
            proxies,
        })
    }

    fn connect_limit(&self, upstream: Upstream, limit: Duration) -> Duration {
        let own = if upstream == Upstream::ManagedIdentity { CONNECT_ON_MACHINE } else { Duration::MAX };
        own.min(self.connect_timeout).min(limit)
    }

    fn proxy(&self, upstream: Upstream, origin: &Origin) -> Option<Proxy> {
        let proxy = if origin.https { &self.https_proxy } else { &self.http_proxy };
        proxy.clone().filter(|_| !self.proxies.bypassed(upstream, origin))
    }

    fn pool(&self, upstream: Upstream) -> &ConnectionPool {
        self.machine.as_ref().filter(|_| upstream == Upstream::ManagedIdentity).unwrap_or(&self.connections)
    }

    /// A new connection, opened within this time. After a redirect from another origin it leads to public addresses only.
    fn dial(
        &self,
        upstream: Upstream,
        origin: &Origin,
        redirected_from: Option<&Origin>,
        limit: Duration,
    ) -> Result<UpstreamConnection, OutError> {
        let proxy = self.proxy(upstream, origin);
        connect::confine(redirected_from.filter(|_| proxy.is_none()).cloned());
        Phase::begin(proxy.is_some() && origin.https);
        let opened = self.pool(upstream).open(origin, proxy.as_ref(), self.connect_limit(upstream, limit));
        opened.map_err(|error| self.explain(origin, upstream, limit, &error))
    }
}

impl Exchange for UreqExchange {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        let deadline = Instant::now() + request.timeout;
        let origin = &request.url.origin;
        let proxied = self.proxy(request.upstream, origin).is_some();
        if let (true, Some(own)) = (proxied, &request.redirected_from) {
            // The proxy resolves names itself, but addresses known here are checked all the same.
            let found = resolver::addresses(&self.resolver, origin.host(), origin.port, self.connect_timeout);
            let found = found.unwrap_or_default();
            if !found.is_empty() && resolver::reachable(&self.resolver, found, own, self.connect_timeout).is_empty() {
                return Err(OutError::NotPublic);
            }
        }
        Phase::begin(false);
        let idle = if request.pooled { self.pool(request.upstream).take(origin, proxied) } else { None };
        let connection = match idle {
            Some(connection) => connection,
            None => self.dial(request.upstream, origin, request.redirected_from.as_ref(), request.timeout)?,
        };
        self.finish(UpstreamCall::new(connection, request, deadline)?)
    }
}

impl UreqExchange {
    /// Begins a call over an idle connection to its origin. Never blocks.
    ///
    /// # Errors
    /// The request cannot be sent at all.
    pub fn begin(&self, connection: UpstreamConnection, request: OutRequest) -> Result<UpstreamCall, OutError> {
        Phase::begin(false);
        let deadline = Instant::now() + request.timeout;
        UpstreamCall::new(connection, request, deadline)
    }

    /// Goes on with a call as far as that is possible without blocking.
    ///
    /// # Errors
    /// There is no complete answer, and the call cannot be repeated.
    pub fn advance(&self, call: &mut UpstreamCall) -> Result<Step, OutError> {
        let step = match call.advance(false) {
            Ok(Step::Waits) if Instant::now() >= call.deadline => Err(CallError::Late),
            // It is repeated on a new connection.
            Err(CallError::Io(_)) if call.may_repeat() => Ok(Step::Blocks),
            step => step,
        };
        step.map_err(|error| self.failed(call, error))
    }

    /// Takes a call to its end. Blocks.
    ///
    /// # Errors
    /// There is no complete answer.
    pub fn finish(&self, mut call: UpstreamCall) -> Result<OutResponse, OutError> {
        loop {
            match call.run() {
                Ok(()) => return self.complete(call),
                Err(CallError::Io(_)) if call.may_repeat() => {
                    let left = call.deadline.saturating_duration_since(Instant::now());
                    let UpstreamCall { request, deadline, .. } = call;
                    let (origin, from) = (&request.url.origin, request.redirected_from.as_ref());
                    let connection = self.dial(request.upstream, origin, from, left)?;
                    call = UpstreamCall::new(connection, request, deadline)?;
                }
                Err(error) => return Err(self.failed(&call, error)),
            }
        }
    }

    /// The answer of a call that is done. Keeps its connection.
    ///
    /// # Errors
    /// A proxy answered.
    pub fn complete(&self, call: UpstreamCall) -> Result<OutResponse, OutError> {
        let upstream = call.request.upstream;
        let refusal = call.connection.to_proxy.as_ref().map(|proxy| proxy.refusal.clone());
        let (response, connection) = call.end();
        if let Some(connection) = connection {
            self.pool(upstream).keep(connection);
        }
        let response = response.ok_or_else(|| OutError::Broken("no answer".to_owned()))?;
        // Only a proxy sends this status (RFC 9110 §15.5.8).
        match refusal.filter(|_| response.status == 407) {
            Some(refusal) => Err(refusal),
            None => Ok(response),
        }
    }

    fn failed(&self, call: &UpstreamCall, error: CallError) -> OutError {
        let OutRequest { url, upstream, timeout, .. } = &call.request;
        let (origin, upstream, limit) = (&url.origin, *upstream, *timeout);
        match error {
            CallError::Io(cause) => self.explain(origin, upstream, limit, &Error::Io(cause)),
            CallError::Late => self.explain(origin, upstream, limit, &Error::Timeout(Timeout::Global)),
            CallError::Invalid(cause) => OutError::Broken(format!("{origin}: {cause}")),
            CallError::NoMemory { timed_out } => OutError::NoMemory { timed_out },
            CallError::TooLarge(limit) => OutError::TooLarge(limit),
        }
    }

    /// What a request to this origin tells a forward proxy, if one takes it.
    pub fn to_proxy(&self, origin: &Origin) -> Option<ToProxy> {
        let proxy = self.proxy(Upstream::Proxy, origin).filter(|_| !origin.https)?;
        Some(connection::to_proxy(&proxy, origin))
    }

    /// A connection for a proxied request: an idle one if there is one and `pooled`, else a new one.
    ///
    /// # Errors
    /// The origin cannot be reached.
    pub fn open(&self, origin: &Origin, pooled: bool) -> Result<UpstreamConnection, OutError> {
        if let Some(connection) = self.idle(origin).filter(|_| pooled) {
            return Ok(connection);
        }
        self.dial(Upstream::Proxy, origin, None, self.connect_timeout)
    }

    pub fn idle(&self, origin: &Origin) -> Option<UpstreamConnection> {
        self.connections.take(origin, self.proxy(Upstream::Proxy, origin).is_some())
    }

    /// Keeps a connection for the next request to its origin. Its last answer must be complete.
    pub fn keep(&self, connection: UpstreamConnection) {
        self.connections.keep(connection);
    }

    /// Converts an error to words that name the host and the cause, and nothing of the request.
    fn explain(&self, origin: &Origin, upstream: Upstream, limit: Duration, error: &Error) -> OutError {
        let connecting = matches!(Phase::current(), Phase::Dialing | Phase::Connecting);
        if let Some(proxy) = self.proxy(upstream, origin) {
            let failed = match (Phase::current(), error) {
                (_, Error::ConnectProxyFailed(_)) | (Phase::Dialing | Phase::Asking, _) => true,
                // For plain `http`, the proxy is the other end of the connection.
                (_, Error::Io(_)) => !origin.https,
                _ => false,
            };
            if failed {
                return self.explain_proxy(&proxy, upstream, limit, error);
            }
        }
        match error {
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                let within = self.connect_limit(upstream, limit);
                let setting = if within == self.connect_timeout { " (Sidecar:Limits:ConnectTimeout)" } else { "" };
                OutError::Timeout(format!("{origin}: no connection within {within:?}{setting}"))
            }
            Error::Timeout(_) => {
                let setting = match upstream {
                    Upstream::Downstream => " (Sidecar:Limits:DownstreamTimeout)",
                    Upstream::Token => " (Sidecar:Limits:TokenRequestTimeout)",
                    _ => "",
                };
                OutError::Timeout(format!("{origin}: no complete answer within {limit:?}{setting}"))
            }
            Error::Rustls(cause) => OutError::Connect(format!("{origin}: TLS: {cause}")),
            Error::Tls(cause) => OutError::Connect(format!("{origin}: TLS: {cause}")),
            Error::Io(cause) if connect::is_not_public(cause) => OutError::NotPublic,
            Error::Io(cause) => match cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(cause) => OutError::Connect(format!("{origin}: TLS: {cause}")),
                None if connecting => OutError::Connect(format!("{origin}: {cause}")),
                None => OutError::Broken(format!("{origin}: {cause}")),
            },
            _ if connecting => OutError::Connect(format!("{origin}: {error}")),
            _ => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                OutError::Broken(format!("{origin}: {error}{cause}"))
            }
        }
    }

    /// The same for a proxy. Names only its host, since its URL may contain a password.
    fn explain_proxy(&self, proxy: &Proxy, upstream: Upstream, limit: Duration, error: &Error) -> OutError {
        let (cause, timed_out) = match error {
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                (format!("no connection within {:?}", self.connect_limit(upstream, limit)), true)
            }
            Error::Timeout(_) => (format!("no answer within {limit:?}"), true),
            Error::ConnectProxyFailed(cause) => (format!("no tunnel: {cause}"), false),
            Error::Io(cause) => (cause.to_string(), false),
            error => (error.to_string(), false),
        };
        failed_at(proxy, &cause, timed_out)
    }
}

fn parse_proxy(proxy: &ProxyUrl) -> Result<Proxy, ProxyError> {
    let error = ProxyError { variable: proxy.variable, expected: "the http:// or https:// URL of a proxy" };
    Proxy::new(proxy.url.expose()).map_err(|_| error)
}

#[cfg(test)]
mod tests;
