//! `/Proxy*`: forwards requests to an API and adds the token. This module checks the request and builds its head; once it
//! has a turn, [`super::pump`] moves the bytes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::access;
use super::acquire::{Acquisition, Destination, ask};
use super::call::{Call, Halt, HeldAnswer, Parked};
use super::correlation;
use super::downstream_api::unanswered;
use super::problem::{Form, Problem};
use super::pump::{Pump, Stop, Terms};
use super::recent::Recent;
use super::route::{Endpoint, Route};
use crate::http::{Body, CallerStream, Cause, Method, Resumed, StreamEnd, StreamingAnswer};
use crate::metrics::{Ending, Metrics};
use crate::options::{Effective, OptionsError, Target};
use crate::outbound::forwarding::{BodyFraming, Field, LinkRewrite, RequestHead};
use crate::outbound::{OutError, Upstream, UpstreamConnection, UreqExchange};
use crate::token;
use crate::turns::{self, Lane};
use crate::value::syntax;
use crate::value::url::Origin;

/// Prepares the call. The result says what the request waits for, why it is refused, or streams the answer.
pub fn proxy(call: &Call<'_>, route: &Route<'_>, resumed: Option<Resumed<Parked>>) -> Halt {
    prepare(call, route, resumed).unwrap_or_else(|halt| halt)
}

fn prepare(call: &Call<'_>, route: &Route<'_>, resumed: Option<Resumed<Parked>>) -> Result<Halt, Halt> {
    let request = call.request;
    let (own, path) = route.proxied;
    syntax::proxied_path(path).map_err(OptionsError::ProxiedPath)?;
    let asked = ask(call, route, resumed.as_ref())?;
    if upgrades_to_websocket(call) {
        return Err(Problem::with(501, "Upgrade is not supported").into());
    }
    let effective = Effective::merge(asked.api, &asked.overrides)?;
    let acquisition = Acquisition::new(call, &asked, &effective, resumed.as_ref())?;
    let target = Target::proxied(&effective, path, request.query)?;
    let lane = Lane::of_url(&target.origin().to_string());
    let challenged = matches!(resumed, Some(Resumed { on: Parked::Challenged(..), .. }));
    let (token, held) = match resumed {
        // Continuous access evaluation. Without such a token the API's own 401 tells the caller what to do.
        Some(Resumed { on: Parked::Challenged(claims, held, _), .. }) => {
            log::info!("the API '{}' wants further claims; acquiring a token with them", asked.api.name);
            let token = acquisition.token_with_claims(call, &claims);
            turns::switch(&lane).map_err(|turns::Busy| token::Error::Busy)?;
            match token {
                Ok(token) => (Some(token), None),
                Err(_) => (None, Some(held)),
            }
        }
        resumed => {
            let has_turn = matches!(resumed, Some(Resumed { on: Parked::Api(..), cause: Cause::Turn }));
            let token = acquisition.token(call, resumed)?;
            if !has_turn && !turns::has(&lane) {
                return Err(Halt::Call(Parked::Api(token, acquisition.allocated()), lane));
            }
            (Some(token), None)
        }
    };
    let framing = framing(call);
    let destination = || Ok(Destination { method: request.method_name.to_owned().into(), target: target.clone() });
    let mut fields_sent = Zeroizing::default();
    if let Some(token) = &token {
        let fields: Vec<Field<'_>> = request.headers.0.iter().map(|field| (field.name, field.value)).collect();
        let written = RequestHead {
            url: target.url(),
            fields: &fields,
            kept: &asked.api.options.keep_headers,
            configured: &effective.options.extra_headers,
            authorization: &acquisition.authorization(call, token, destination)?,
            correlation_id: acquisition.correlation_id(),
            replaces_id: effective.options.correlation_id.is_some(),
            framing,
        };
        fields_sent = written.write();
    }
    let url = target.url();
    let query = url.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let base = Target::new(&effective)?;
    let limits = &call.service.config.limits;
    let host = request.headers.text("host").unwrap_or_default();
    Ok(Halt::Stream(Box::new(ProxyCall {
        connections: Arc::clone(&call.shared.connections),
        metrics: Arc::clone(&call.shared.metrics),
        recent: call.shared.recent.clone(),
        endpoint: route.endpoint,
        method: request.method,
        method_name: request.method_name.to_owned(),
        api: asked.api.name.clone(),
        origin: url.origin.clone(),
        target: format!("{}{query}", url.path),
        head: fields_sent,
        held,
        framing,
        links: LinkRewrite {
            origin: url.origin.clone(),
            base: base.url().base_path().to_owned(),
            here: format!("http://{host}{own}"),
        },
        correlation_id: call.correlation_id.to_owned(),
        allocated: acquisition.allocated(),
        may_challenge: !challenged && matches!(framing, BodyFraming::None | BodyFraming::Length(0)),
        first_byte: limits.proxy_first_byte_timeout,
        idle: limits.proxy_idle_timeout,
        received: request.received,
    })))
}

/// The framing of the body, which is forwarded unchanged.
fn framing(call: &Call<'_>) -> BodyFraming {
    match call.request.body {
        Body::Expected(None) => BodyFraming::Chunked,
        _ if call.request.headers.first("transfer-encoding").is_some() => BodyFraming::Chunked,
        _ if call.request.headers.first("content-length").is_none() => BodyFraming::None,
        body => BodyFraming::Length(body.length().unwrap_or_default() as u64),
    }
}

fn upgrades_to_websocket(call: &Call<'_>) -> bool {
    let named = |value: &[u8]| {
        let protocol = value.trim_ascii().split(|byte| *byte == b'/').next().unwrap_or_default();
        protocol.eq_ignore_ascii_case(b"websocket")
    };
    call.request.headers.all("upgrade").any(|value| value.split(|byte| *byte == b',').any(named))
}

/// A request that is ready to be sent.
struct ProxyCall {
    connections: Arc<UreqExchange>,
    metrics: Arc<Metrics>,
    recent: Option<Arc<Recent>>,
    endpoint: Endpoint,
    method: Method,
    method_name: String,
    api: String,
    origin: Origin,
    /// Path and query.
    target: String,
    /// The header fields, including the token.
    head: Zeroizing<Vec<u8>>,
    /// An answer that was already received.
    held: Option<Box<HeldAnswer>>,
    framing: BodyFraming,
    links: LinkRewrite,
    correlation_id: String,
    /// The key of a long-running session that was allocated for the caller.
    allocated: Option<String>,
    may_challenge: bool,
    first_byte: Duration,
    idle: Duration,
    received: Instant,
}

impl fmt::Debug for ProxyCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyCall").field("api", &self.api).finish_non_exhaustive()
    }
}

impl StreamingAnswer<Parked> for ProxyCall {
    fn run(mut self: Box<Self>, caller: &mut CallerStream<'_>) -> StreamEnd<Parked> {
        let metrics = Arc::clone(&self.metrics);
        let _counted = metrics.open_stream();
        let (held, start) = (self.held.take(), Instant::now());
        let (connection, received) = match held {
            Some(held) => (Ok(held.connection), held.received),
            None => (self.connections.open(&self.origin, true), Vec::new()),
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => return self.refused(&error, start),
        };
        let host = self.origin.to_string();
        let further = self.allocated.as_ref().map(|key| format!("X-Long-Running-Session-Key: {key}\r\n"));
        let terms = Terms {
            framing: self.framing,
            bodiless: self.method == Method::Head,
            links: &self.links,
            correlation_id: &self.correlation_id,
            further: further.as_deref().unwrap_or_default(),
            may_challenge: self.may_challenge,
            first_byte: self.first_byte,
            idle: self.idle,
            host: &host,
            metrics: &metrics,
        };
        let request = if received.is_empty() { self.request_head(&connection) } else { Zeroizing::default() };
        let mut pump = Pump::new(&mut *caller, &terms, connection, &request, received);
        let mut ended = pump.run();
        // The API had closed an idle connection: an idempotent request may be repeated (RFC 9110 §9.2.2).
        let harmless = matches!(self.method_name.as_str(), "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS");
        if let (Err(Stop::Api(_)), true) = (&ended, harmless && pump.was_stale()) {
            drop(pump);
            let connection = match self.connections.open(&self.origin, false) {
                Ok(connection) => connection,
                Err(error) => return self.refused(&error, start),
            };
            let request = self.request_head(&connection);
            pump = Pump::new(&mut *caller, &terms, connection, &request, Vec::new());
            ended = pump.run();
        }
        // An answer of which the caller has received nothing can still be replaced by an error.
        let status = pump.status.filter(|_| pump.begun);
        let stop = match (ended, status) {
            (Ok(()), _) => {
                let status = status.unwrap_or_default();
                metrics.upstream(Upstream::Proxy, Ending::Whole(status), start.elapsed());
                self.finish(status, "");
                let (connection, closes) = pump.end();
                if let Some(connection) = connection {
                    self.connections.keep(connection);
                }
                return StreamEnd::Complete { closes };
            }
            (Err(Stop::Challenge(claims)), _) => {
                metrics.upstream(Upstream::Proxy, Ending::Whole(401), start.elapsed());
                let (connection, received) = pump.hold();
                let held = Box::new(HeldAnswer { connection, received });
                return StreamEnd::Retry(Parked::Challenged(claims, held, self.allocated.clone()));
            }
            (Err(stop), _) => stop,
        };
        let resets = pump.ends_with_connection();
        drop(pump);
        let error = match stop {
            Stop::Caller => {
                metrics.upstream(Upstream::Proxy, Ending::Cancelled, start.elapsed());
                // 499 is nginx's status for a caller that left before it was answered.
                self.finish(status.unwrap_or(499), access::CANCELLED);
                return StreamEnd::Broken;
            }
            Stop::Refused(refusal) => {
                metrics.upstream(Upstream::Proxy, Ending::Cancelled, start.elapsed());
                if let Some(status) = status {
                    self.finish(status, " broken off: the request body was refused");
                    return Self::broken(caller, resets);
                }
                return self.reply(Problem::from(&refusal));
            }
            Stop::Api(cause) => OutError::Broken(format!("{host}: {cause}")),
            Stop::Late(cause) => OutError::Timeout(cause),
            Stop::ByProxy => self.connections.refused_by_proxy(&self.origin).unwrap_or(OutError::Busy),
            Stop::Challenge(_) => OutError::Busy,
        };
        let Some(status) = status else { return self.refused(&error, start) };
        metrics.upstream(Upstream::Proxy, Ending::Failed(&error), start.elapsed());
        log::warn!("the API '{}' broke off its answer: {error}", self.api);
        self.finish(status, " broken off by the API");
        Self::broken(caller, resets)
    }
}

impl ProxyCall {
    /// The request's head. A forward proxy gets an absolute target and its own credentials (RFC 9112 §3.2.2).
    fn request_head(&self, connection: &UpstreamConnection) -> Zeroizing<Vec<u8>> {
        let mut head = Zeroizing::new(Vec::with_capacity(self.head.len() + self.target.len() + 256));
        let to_proxy = connection.to_proxy.as_ref();
        let origin = to_proxy.map_or("", |to_proxy| &to_proxy.origin);
        for part in [&self.method_name, " ", origin, &self.target, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        if let Some(authorization) = to_proxy.and_then(|to_proxy| to_proxy.authorization.as_ref()) {
            for part in ["Proxy-Authorization: ", authorization, "\r\n"] {
                head.extend_from_slice(part.as_bytes());
            }
        }
        head.extend_from_slice(&self.head);
        head
    }

    fn broken(caller: &mut CallerStream<'_>, resets: bool) -> StreamEnd<Parked> {
        if resets {
            caller.reset_on_close();
        }
        StreamEnd::Broken
    }

    fn refused(&self, error: &OutError, start: Instant) -> StreamEnd<Parked> {
        self.metrics.upstream(Upstream::Proxy, Ending::Failed(error), start.elapsed());
        log::warn!("the API '{}' did not answer: {error}", self.api);
        self.reply(unanswered(&self.api, error))
    }

    fn reply(&self, problem: Problem) -> StreamEnd<Parked> {
        self.over(problem.status, "", problem.words());
        StreamEnd::Reply(problem.into_reply_as(Form::Proxied).header(correlation::HEADER, &self.correlation_id))
    }

    fn finish(&self, status: u16, broken: &str) {
        self.over(status, broken, broken.trim_start());
    }

    fn over(&self, status: u16, broken: &str, problem: &str) {
        access::finish(
            (&self.metrics, self.recent.as_deref()),
            self.method,
            Some(self.endpoint),
            status,
            self.received,
            &self.correlation_id,
            broken,
            problem,
        );
    }
}
