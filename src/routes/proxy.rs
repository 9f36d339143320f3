//! `/Proxy*`: forwards requests to an API and adds the token. This module checks the request and builds its head; once it
//! has a turn, [`super::pump`] moves the bytes. A worker does that over an idle connection; a thread that may block opens a
//! new one, or takes a body that is still arriving.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use super::access::{self, Receipt};
use super::acquire::{Acquisition, Destination, ask};
use super::call::{Call, Halt, HeldAnswer, Parked};
use super::problem::{Form, Problem, unanswered};
use super::pump::{Flow, Pump, Stop, Terms};
use super::route::Route;
use crate::http::{Advance, AnswerEnd, Body, CallerStream, Cause, Method, PendingAnswer, Resumed};
use crate::metrics::{Ending, OpenStream};
use crate::options::{Effective, ProxiedPath, Target};
use crate::outbound::forwarding::{BodyFraming, LinkRewrite, RequestHead, is_idempotent};
use crate::outbound::{OutError, Upstream, UpstreamConnection, UreqExchange};
use crate::token::{self, AccessToken};
use crate::turns::{self, Lane};

/// Prepares the call. The result says what the request waits for, why it is refused, or streams the answer.
pub fn proxy(call: &Call<'_>, route: &Route<'_>, resumed: Option<Resumed<Parked>>) -> Halt {
    prepare(call, route, resumed).unwrap_or_else(|halt| halt)
}

fn prepare(call: &Call<'_>, route: &Route<'_>, resumed: Option<Resumed<Parked>>) -> Result<Halt, Halt> {
    let request = call.request;
    let (own, path) = route.proxied;
    let path = ProxiedPath::new(path)?;
    let asked = ask(call, route, resumed.as_ref())?;
    if upgrades_to_websocket(call) {
        return Err(Problem::with(501, "Upgrade is not supported").into());
    }
    let effective = Effective::merge(asked.api, &asked.overrides)?;
    let acquisition = Acquisition::new(call, &asked, &effective, resumed.as_ref())?;
    let target = Target::proxied(&effective, path, request.query)?;
    let lane = Lane::Origin(Arc::clone(target.origin().text()));
    let challenged = matches!(resumed, Some(Resumed { on: Parked::Challenged(..), .. }));
    let mut idle = None;
    let (token, held) = match resumed {
        // A token for this challenge takes a request to Entra.
        Some(Resumed { on: challenged @ Parked::Challenged(..), .. }) if !turns::may_block() => {
            return Err(Halt::Call(challenged, lane));
        }
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
                // Looked for before a head is built, which a thread would have to build again.
                if !turns::may_block() && request.body.is_here() {
                    idle = call.shared.connections.idle(target.origin());
                }
                if idle.is_none() {
                    return Err(Halt::Call(Parked::Api(token, acquisition.allocated()), lane));
                }
            }
            (Some(token), None)
        }
    };
    let framing = framing(call);
    let destination = || Ok(Destination { method: request.method_name.to_owned().into(), target: target.clone() });
    let mut written = Zeroizing::default();
    if let Some(token) = &token {
        let to_proxy = call.shared.connections.to_proxy(target.origin());
        let forwarded = RequestHead {
            method: request.method_name,
            url: target.url(),
            to_proxy: to_proxy.as_ref(),
            fields: request.headers.0.iter().map(|field| (field.name, field.value)),
            kept: &asked.api.options.keep_headers,
            configured: &effective.options.extra_headers,
            authorization: &acquisition.authorization(call, token, destination)?,
            correlation_id: acquisition.correlation_id(),
            replaces_id: effective.options.correlation_id.is_some(),
            framing,
        };
        written = forwarded.write();
    }
    let host = request.headers.text("host").unwrap_or_default();
    let (connection, received) = held.map_or((idle, Vec::new()), |held| (held.connection, held.received));
    let allocated = acquisition.allocated();
    let links = LinkRewrite {
        origin: target.origin().clone(),
        base: target.base_path().to_owned(),
        here: ["http://", host, own].concat(),
    };
    let mut terms = terms(call, framing, links, allocated.as_deref());
    terms.may_challenge &= !challenged;
    let answer = ProxyCall {
        connections: Arc::clone(&call.shared.connections),
        receipt: Receipt::new(call, route.endpoint),
        is_idempotent: is_idempotent(request.method_name),
        api: asked.api.name.clone(),
        token,
        allocated,
        start: Instant::now(),
        stage: Stage::Ready(Ready { terms, connection, head: written, received }),
    };
    Ok(Halt::Pending(Box::new(answer), lane))
}

/// The parameters of the exchange.
fn terms(call: &Call<'_>, framing: BodyFraming, links: LinkRewrite, allocated: Option<&str>) -> Terms {
    let limits = &call.service.config.limits;
    Terms {
        framing,
        bodiless: call.request.method == Method::Head,
        links,
        correlation_id: call.correlation_id.to_owned(),
        further: allocated.map_or_else(String::new, |key| format!("X-Long-Running-Session-Key: {key}\r\n")),
        // Only a request without a body can be sent again.
        may_challenge: matches!(framing, BodyFraming::None | BodyFraming::Length(0)),
        first_byte: limits.proxy_first_byte_timeout,
        idle: limits.proxy_idle_timeout,
        metrics: Arc::clone(&call.shared.metrics),
        connections: Arc::clone(&call.shared.connections),
    }
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

/// Why an answer is not whole, for the access log.
const BY_API: &str = " broken off by the API";
const BY_BODY: &str = " broken off: the request body was refused";

/// A request to an API.
struct ProxyCall {
    connections: Arc<UreqExchange>,
    receipt: Receipt,
    is_idempotent: bool,
    api: String,
    /// `None` if no token could be had for a challenge.
    token: Option<Arc<AccessToken>>,
    /// The key of a long-running session that was allocated for the caller.
    allocated: Option<String>,
    start: Instant,
    stage: Stage,
}

#[expect(clippy::large_enum_variant, reason = "a second allocation for each call costs more than the room")]
enum Stage {
    Ready(Ready),
    Running(Pump, OpenStream),
    Over,
}

/// What a request is begun with.
struct Ready {
    terms: Terms,
    /// Another idle connection, or a new one, is taken if there is none.
    connection: Option<UpstreamConnection>,
    /// The request's head, including the token; empty if the request was sent before.
    head: Zeroizing<Vec<u8>>,
    /// The begin of an answer, if the request was sent before.
    received: Vec<u8>,
}

impl fmt::Debug for ProxyCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyCall").field("api", &self.api).finish_non_exhaustive()
    }
}

impl PendingAnswer<Parked> for ProxyCall {
    fn advance(&mut self, caller: &mut CallerStream<'_>) -> Advance<Parked> {
        let begins = matches!(&self.stage, Stage::Ready(ready) if ready.connection.is_some());
        if begins && let Err(end) = self.begin(caller) {
            return Advance::End(end);
        }
        let Stage::Running(pump, _) = &mut self.stage else { return Advance::Blocks };
        match if begins { pump.advance(caller) } else { pump.resume(caller) } {
            Ok(Flow::Busy) => Advance::Busy,
            Ok(Flow::Waits) if !pump.is_sent() => Advance::Blocks,
            Ok(Flow::Waits) => Advance::Waits { until: pump.check_at(caller), for_room: pump.needs_room() },
            ended => Advance::End(self.end(ended, caller)),
        }
    }

    fn run(mut self: Box<Self>, caller: &mut CallerStream<'_>) -> AnswerEnd<Parked> {
        if let Err(end) = self.begin(caller) {
            return end;
        }
        let Stage::Running(pump, _) = &mut self.stage else { return AnswerEnd::Broken };
        let ended = pump.run(caller);
        self.end(ended, caller)
    }

    fn upstream(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Running(pump, _) => pump.upstream(),
            _ => None,
        }
    }

    fn into_parked(self: Box<Self>) -> Parked {
        if let Stage::Ready(Ready { connection: Some(connection), .. }) = self.stage {
            self.connections.keep(connection);
        }
        parked(self.token, self.allocated)
    }
}

/// What the request is handled again with.
fn parked(token: Option<Arc<AccessToken>>, allocated: Option<String>) -> Parked {
    // Without a token it starts over.
    token.map_or(Parked::Keys, |token| Parked::Api(token, allocated))
}

impl ProxyCall {
    /// Begins the exchange, unless it runs already. Blocks where it has to open a connection.
    fn begin(&mut self, caller: &mut CallerStream<'_>) -> Result<(), AnswerEnd<Parked>> {
        let Ready { terms, connection, head, received } = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Ready(ready) => ready,
            stage => {
                self.stage = stage;
                return Ok(());
            }
        };
        let counted = self.receipt.metrics.open_stream();
        let connection = match connection {
            Some(connection) => connection,
            None => self.connections.open(&terms.links.origin).map_err(|error| self.refused(&error))?,
        };
        self.stage = Stage::Running(Pump::new(caller, terms, connection, head, received), counted);
        Ok(())
    }

    /// Concludes an exchange that has ended.
    fn end(&mut self, ended: Result<Flow, Stop>, caller: &mut CallerStream<'_>) -> AnswerEnd<Parked> {
        let Stage::Running(pump, _counted) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return AnswerEnd::Broken;
        };
        // The API had closed an idle connection.
        let repeats = self.is_idempotent && pump.was_stale();
        if let (Err(Stop::Failed(OutError::Broken(_))), true) = (&ended, repeats) {
            return AnswerEnd::Retry(parked(self.token.take(), self.allocated.take()));
        }
        // An answer of which the caller has received nothing can still be replaced by an error.
        let status = pump.status.filter(|_| pump.begun);
        let resets = pump.ends_with_connection();
        let count = |ending| self.receipt.metrics.upstream(Upstream::Proxy, ending, self.start.elapsed());
        match ended {
            Ok(Flow::Challenged(claims)) => {
                count(Ending::Whole(401));
                let (connection, received) = pump.hold();
                let held = Box::new(HeldAnswer { connection, received });
                AnswerEnd::Retry(Parked::Challenged(claims, held, self.allocated.clone()))
            }
            Ok(_) => {
                let status = status.unwrap_or_default();
                count(Ending::Whole(status));
                self.receipt.finish(status, "", "");
                AnswerEnd::Complete { closes: pump.closes() }
            }
            Err(Stop::Caller) => {
                count(Ending::Cancelled);
                // 499 is nginx's status for a caller that left before it was answered.
                self.receipt.finish(status.unwrap_or(499), access::CANCELLED, access::CANCELLED.trim_start());
                AnswerEnd::Broken
            }
            Err(Stop::Refused(refusal)) => {
                count(Ending::Cancelled);
                let Some(status) = status else { return self.reply(Problem::from(&refusal)) };
                self.receipt.finish(status, BY_BODY, BY_BODY.trim_start());
                Self::broken(caller, resets)
            }
            Err(Stop::Failed(error)) => {
                let Some(status) = status else { return self.refused(&error) };
                count(Ending::Failed(&error));
                log::warn!("the API '{}' broke off its answer: {error}", self.api);
                self.receipt.finish(status, BY_API, BY_API.trim_start());
                Self::broken(caller, resets)
            }
        }
    }

    fn broken(caller: &mut CallerStream<'_>, resets: bool) -> AnswerEnd<Parked> {
        if resets {
            caller.reset_on_close();
        }
        AnswerEnd::Broken
    }

    fn refused(&self, error: &OutError) -> AnswerEnd<Parked> {
        self.receipt.metrics.upstream(Upstream::Proxy, Ending::Failed(error), self.start.elapsed());
        log::warn!("the API '{}' did not answer: {error}", self.api);
        self.reply(unanswered(&self.api, error))
    }

    fn reply(&self, problem: Problem) -> AnswerEnd<Parked> {
        AnswerEnd::Reply(self.receipt.problem(problem, Form::Proxied))
    }
}
