//! [`Exchange`] over the network. Only this folder names the HTTP client crate, and it overrides
//! all of the crate's defaults, from timeouts to redirects.

mod connect;
mod connection;
mod forward;
mod pinned;
mod severed;
mod tcp;

use std::error::Error as _;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, RustlsConnector};
use ureq::{Agent, Error, Proxy, Timeout};

use connect::{Dial, NoLookup, Phase, Tls};
pub use connection::UpstreamConnection;
use connection::{ConnectionPool, SharedConnector};
use forward::Forward;
use pinned::PinnedTls;
pub use pinned::Thumbprint;
use tcp::Sockets;

use super::proxy::{Proxies, ProxyError, ProxyUrl};
use super::resolver::{self, Resolve};
use super::roots::Roots;
use super::{Exchange, OutBody, OutError, OutRequest, OutResponse, Upstream, claims_challenge};
use crate::value::url::{Origin, Url};

/// Identifies the program in Entra's logs.
const USER_AGENT: &str = concat!("entra-sidecar/", env!("CARGO_PKG_VERSION"));
/// Node.js's limit. Each call also has one buffer of this size.
const MAX_ANSWER_HEAD: usize = 16 * 1024;
/// The default number of concurrent calls to one origin; fewer would cost a TLS handshake per
/// excess call.
const IDLE_PER_HOST: usize = 576;
const IDLE: usize = 768;
/// A body of unknown length reserves memory in steps of this size.
const BODY_STEP: usize = 64 * 1024;
/// Below common idle limits (Azure's load balancers: 4 minutes). A connection closed earlier is
/// detected anyway.
const IDLE_AGE: Duration = Duration::from_mins(1);

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
    agent: Agent,
    /// For a managed identity endpoint with a pinned certificate.
    machine: Option<Agent>,
    connect_timeout: Duration,
    resolver: Arc<dyn Resolve>,
    #[cfg(test)]
    sockets: Arc<Sockets>,
    proxies: Proxies,
    https_proxy: Option<Proxy>,
    http_proxy: Option<Proxy>,
    connections: ConnectionPool,
}

impl UreqExchange {
    /// Connects to nothing yet.
    pub fn new(settings: ExchangeSettings) -> Result<Self, ProxyError> {
        let ExchangeSettings { connect_timeout, roots, proxies, resolver, machine } = settings;
        // Fails only if the roots are empty; then the default agent reports that on each request.
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
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .allow_non_standard_methods(true)
            .user_agent(USER_AGENT)
            .accept("")
            .accept_encoding("")
            .max_response_header_size(MAX_ANSWER_HEAD)
            // Not above the limit, which the client would otherwise apply to whatever follows an
            // interim response too.
            .input_buffer_size(MAX_ANSWER_HEAD)
            .output_buffer_size(8 * 1024)
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE_PER_HOST)
            .max_idle_age(IDLE_AGE)
            .build();
        let sockets = Sockets::new(IDLE_AGE);
        let dial = || Dial::new(&resolver, &sockets);
        let machine = pinned.map(|tls| Agent::with_parts(config.clone(), dial().chain(Tls(tls)), NoLookup));
        let connector = Forward { direct: config.clone() }
            .chain(ConnectProxyConnector::default())
            .chain(dial())
            .chain(Tls(RustlsConnector::default()));
        let way = SharedConnector::new(connector);
        Ok(Self {
            connections: ConnectionPool::new(way.clone(), config.tls_config().clone()),
            agent: Agent::with_parts(config, way, NoLookup),
            machine,
            connect_timeout,
            resolver: Arc::clone(&resolver),
            #[cfg(test)]
            sockets: Arc::clone(&sockets),
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

    /// Sends the request and reads the response head.
    fn attempt(&self, request: &OutRequest, origin: &Origin, limit: Duration, pooled: bool) -> Result<Answer, Error> {
        let mut head = http::Request::builder().method(request.method.as_str()).uri(request.url.as_str());
        for (name, value) in &request.headers {
            let mut value = http::HeaderValue::from_str(value).map_err(http::Error::from)?;
            // Keeps the value out of the client's debug output.
            value.set_sensitive(true);
            head = head.header(name.as_str(), value);
        }
        let proxy = self.proxy(request.upstream, origin);
        // For `https`, the tunnel request has this header.
        if let Some(value) = proxy.as_ref().filter(|_| !origin.https).and_then(forward::authorization) {
            let mut value = http::HeaderValue::from_str(&value).map_err(http::Error::from)?;
            value.set_sensitive(true);
            head = head.header(http::header::PROXY_AUTHORIZATION, value);
        }
        match &request.body {
            Some(OutBody::Own(body)) => self.run(head.body(body.as_slice())?, request.upstream, proxy, limit, pooled),
            Some(OutBody::Relayed(body)) => {
                let body = body.current();
                let bytes = body.as_ref().map_or(&[][..], |body| &body.bytes);
                self.run(head.body(bytes)?, request.upstream, proxy, limit, pooled)
            }
            None => self.run(head.body(())?, request.upstream, proxy, limit, pooled),
        }
    }

    fn run(
        &self,
        request: http::Request<impl ureq::AsSendBody>,
        upstream: Upstream,
        proxy: Option<Proxy>,
        limit: Duration,
        pooled: bool,
    ) -> Result<Answer, Error> {
        let agent = self.machine.as_ref().filter(|_| upstream == Upstream::ManagedIdentity).unwrap_or(&self.agent);
        let request = agent
            .configure_request(request)
            .timeout_global(Some(limit))
            .timeout_connect(Some(self.connect_limit(upstream, limit)))
            .proxy(proxy)
            // Nothing in the pool is younger than zero.
            .max_idle_age(if pooled { IDLE_AGE } else { Duration::ZERO })
            .build();
        agent.run(request)
    }
}

type Answer = http::Response<ureq::Body>;

impl Exchange for UreqExchange {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        let start = Instant::now();
        let origin = Url::parse(&request.url)
            .map_err(|expected| OutError::Connect(format!("the upstream's URL: expected {expected}")))?
            .origin;
        let explain = |error: Error| self.explain(&origin, request.upstream, request.timeout, &error);
        let proxied = self.proxy(request.upstream, &origin).is_some();
        if let (true, Some(own)) = (proxied, &request.redirected_from) {
            // The proxy resolves names itself, but addresses known here are checked all the same.
            let found = resolver::addresses(&self.resolver, &origin.host, origin.port, self.connect_timeout);
            let found = found.unwrap_or_default();
            if !found.is_empty() && resolver::reachable(&self.resolver, found, own, self.connect_timeout).is_empty() {
                return Err(OutError::NotPublic);
            }
        }
        connect::confine(request.redirected_from.clone().filter(|_| !proxied));
        Phase::begin(proxied && origin.https);
        let answer = match self.attempt(&request, &origin, request.timeout, request.pooled) {
            Err(error) if may_repeat(&request, &error) => {
                let left = request.timeout.saturating_sub(start.elapsed());
                self.attempt(&request, &origin, left, false)
            }
            first => first,
        };
        let answer = answer.map_err(explain)?;
        let status = answer.status().as_u16();
        if status < 200 {
            return Err(OutError::Broken(format!("{origin}: answered {status} to a request without an upgrade")));
        }
        // Only a proxy sends this status (RFC 9110 §15.5.8).
        if status == 407
            && let Some(proxy) = self.proxy(request.upstream, &origin)
        {
            return Err(proxy_error(&proxy, "answered 407 Proxy Authentication Required", false));
        }
        let (head, body) = answer.into_parts();
        let length = body.content_length();
        let too_large = |length: u64| usize::try_from(length).is_ok_and(|length| length > request.max_body);
        if length.is_some_and(too_large) && request.method != "HEAD" {
            return Err(OutError::TooLarge(request.max_body));
        }
        let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
        let mut response = OutResponse { status, headers: headers.collect(), body: Vec::new() };
        if let Some(OutBody::Relayed(body)) = &request.body
            && !may_follow(&response)
        {
            body.release();
        }
        let left = || request.timeout.saturating_sub(start.elapsed());
        let expected = length.and_then(|length| usize::try_from(length).ok()).filter(|_| request.method != "HEAD");
        response.body = read_body(body.into_reader(), expected, &request, &left, &explain)?;
        Ok(response)
    }
}

impl UreqExchange {
    /// A connection for a proxied request: an idle one if `pooled`, else a new one.
    ///
    /// # Errors
    /// The origin cannot be reached.
    pub fn open(&self, origin: &Origin, pooled: bool) -> Result<UpstreamConnection, OutError> {
        if let Some(connection) = self.connections.take(origin).filter(|_| pooled) {
            return Ok(connection);
        }
        let proxy = self.proxy(Upstream::Proxy, origin);
        connect::confine(None);
        Phase::begin(proxy.is_some() && origin.https);
        let limit = self.connect_timeout;
        self.connections
            .open(origin, proxy.as_ref(), limit)
            .map_err(|error| self.explain(origin, Upstream::Proxy, limit, &error))
    }

    /// Keeps a connection for the next request to its origin. Its last answer must be complete.
    pub fn keep(&self, connection: UpstreamConnection) {
        self.connections.keep(connection);
    }

    /// The error for a 407, which only a proxy sends (RFC 9110 §15.5.8).
    pub fn refused_by_proxy(&self, origin: &Origin) -> Option<OutError> {
        let proxy = self.proxy(Upstream::Proxy, origin)?;
        Some(proxy_error(&proxy, "answered 407 Proxy Authentication Required", false))
    }
}

/// True if the request may have to be sent again, to another URL or with another token.
fn may_follow(response: &OutResponse) -> bool {
    matches!(response.status, 301 | 302 | 307 | 308) || claims_challenge(response).is_some()
}

/// Reads a body after reserving memory for it: at once if the length is known, else step by step.
fn read_body(
    body: impl io::Read,
    expected: Option<usize>,
    request: &OutRequest,
    left: &dyn Fn() -> Duration,
    explain: &dyn Fn(Error) -> OutError,
) -> Result<Vec<u8>, OutError> {
    let memory = request.memory.as_deref();
    if let (Some(memory), Some(expected)) = (memory, expected)
        && !memory.cover(expected, left())
    {
        return Err(OutError::NoMemory { timed_out: true });
    }
    let mut content = Vec::with_capacity(expected.unwrap_or(0).min(request.max_body));
    let cap = u64::try_from(request.max_body).unwrap_or(u64::MAX).saturating_add(1);
    let mut body = body.take(cap);
    loop {
        // One extra byte detects the end, so that the connection can be reused.
        let step = expected.map_or(BODY_STEP, |expected| expected.saturating_sub(content.len()) + 1);
        if let (Some(memory), None) = (memory, expected)
            && !memory.cover(content.len() + step, memory.growth_timeout.min(left()))
        {
            return Err(OutError::NoMemory { timed_out: left().is_zero() });
        }
        let read =
            (&mut body).take(step as u64).read_to_end(&mut content).map_err(|error| explain(Error::from(error)))?;
        if content.len() > request.max_body {
            return Err(OutError::TooLarge(request.max_body));
        }
        if read < step {
            return Ok(content);
        }
    }
}

/// True if a request on a pooled connection that the server had just closed may be repeated on a
/// new one: it is idempotent (RFC 9110 §9.2.2), or goes to a vault or managed identity, where a
/// repetition is harmless. Token requests have their own single retry.
fn may_repeat(request: &OutRequest, error: &Error) -> bool {
    let idempotent = matches!(request.method.as_str(), "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS");
    let closed = matches!(error, Error::Io(cause) if severed::is_break(cause) || matches!(
        cause.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    ));
    let harmless = idempotent || !matches!(request.upstream, Upstream::Downstream | Upstream::Token);
    Phase::current() == Phase::Pooled && closed && harmless
}

impl UreqExchange {
    /// Converts an error to words that name the host and the cause, and nothing of the request.
    fn explain(&self, origin: &Origin, upstream: Upstream, limit: Duration, error: &Error) -> OutError {
        let host = origin.to_string();
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
                OutError::Timeout(format!("{host}: no connection within {within:?}{setting}"))
            }
            Error::Timeout(_) => {
                let setting = match upstream {
                    Upstream::Downstream => " (Sidecar:Limits:DownstreamTimeout)",
                    Upstream::Token => " (Sidecar:Limits:TokenRequestTimeout)",
                    _ => "",
                };
                OutError::Timeout(format!("{host}: no complete answer within {limit:?}{setting}"))
            }
            Error::Rustls(cause) => OutError::Connect(format!("{host}: TLS: {cause}")),
            Error::Tls(cause) => OutError::Connect(format!("{host}: TLS: {cause}")),
            Error::Io(cause) if connect::is_not_public(cause) => OutError::NotPublic,
            Error::Io(cause) => match cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(cause) => OutError::Connect(format!("{host}: TLS: {cause}")),
                None if connecting => OutError::Connect(format!("{host}: {cause}")),
                None => OutError::Broken(format!("{host}: {cause}")),
            },
            _ if connecting => OutError::Connect(format!("{host}: {error}")),
            _ => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                OutError::Broken(format!("{host}: {error}{cause}"))
            }
        }
    }
}

impl UreqExchange {
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
        proxy_error(proxy, &cause, timed_out)
    }
}

fn proxy_error(proxy: &Proxy, cause: &str, timed_out: bool) -> OutError {
    let scheme = proxy.uri().scheme_str().unwrap_or("http");
    OutError::Proxy { cause: format!("{scheme}://{}:{} (the proxy): {cause}", proxy.host(), proxy.port()), timed_out }
}

fn parse_proxy(proxy: &ProxyUrl) -> Result<Proxy, ProxyError> {
    let error = ProxyError { variable: proxy.variable, expected: "the http:// or https:// URL of a proxy" };
    Proxy::new(proxy.url.expose()).map_err(|_| error)
}

#[cfg(test)]
mod tests;
