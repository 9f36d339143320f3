//! `/Proxy*`: forwards requests to an API and adds the token. This module checks the request and builds its head; once it
//! has a turn, [`super::pump`] moves the bytes. A worker does that over an idle connection; a thread that may block opens a
//! new one, or takes a body that is still arriving.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use super::access::{Ended, Receipt};
use super::acquire::{Acquisition, Destination, SESSION_KEY, ask};
use super::call::{Call, Halt, HeldAnswer, Parked};
use super::problem::{Form, Problem, unanswered};
use super::pump::{Flow, ProxyTerms, Pump, Stop};
use super::route::Route;
use super::stage::CallStage;
use crate::http::{Advance, AnswerEnd, Body, CallerStream, Cause, Method, PendingAnswer, Reply, Resumed};
use crate::metrics::{Ending, OpenStream};
use crate::options::{Effective, ProxiedPath, Target};
use crate::outbound::forwarding::{LinkRewrite, RequestHead};
use crate::outbound::http1::BodyFraming;
use crate::outbound::request_line::is_idempotent;
use crate::outbound::{OutError, Upstream, UpstreamConnection};
use crate::token::AccessToken;
use crate::turns::{self, Lane};

/// Prepares the call. The result says what the request waits for, why it is refused, or streams the answer.
pub fn proxy(call: &Call<'_>, route: &Route<'_>, resumed: Option<Resumed<Parked>>) -> Result<Reply, Halt> {
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
    let is_challenged = matches!(resumed, Some(Resumed { on: Parked::Challenged(..), .. }));
    let is_stale = matches!(resumed, Some(Resumed { on: Parked::Stale(..), .. }));
    let mut idle = None;
    let (token, held) = match resumed {
        // A token for this challenge takes a request to Entra.
        Some(Resumed { on: challenged @ Parked::Challenged(..), .. }) if !turns::may_block() => {
            return Err(Halt::Call(challenged, lane));
        }
        // Continuous access evaluation. Without such a token the API's own 401 tells the caller what to do.
        Some(Resumed { on: Parked::Challenged(claims, held, _), .. }) => {
            let token = acquisition.token_with_claims(call, &claims);
            turns::switch(&lane)?;
            match token {
                Ok(token) => (Some(token), None),
                Err(_) => (None, Some(held)),
            }
        }
        resumed => {
            let has_turn =
                matches!(resumed, Some(Resumed { on: Parked::Api(..) | Parked::Stale(..), cause: Cause::Turn }));
            let token = acquisition.token(call, resumed)?;
            if !has_turn && !turns::has(&lane) {
                // Looked for before a head is built, which a thread would have to build again.
                if !turns::may_block() && request.body.is_here() && !is_stale {
                    idle = call.shared.connections.idle(target.origin());
                }
                if idle.is_none() {
                    let parked = if is_stale { Parked::Stale } else { Parked::Api };
                    return Err(Halt::Call(parked(token, acquisition.allocated()), lane));
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
            framing,
        };
        written = forwarded.write();
    }
    let host = request.headers.text("host").unwrap_or_default();
    let (connection, received) = held.map_or((idle, Vec::new()), |held| (Some(held.connection), held.received));
    let allocated = acquisition.allocated();
    let links = LinkRewrite {
        origin: target.origin().clone(),
        base: target.base_path().to_owned(),
        here: ["http://", host, own].concat(),
        query: target.own_query().to_owned(),
    };
    let terms = terms(call, framing, is_challenged, links, allocated.as_deref());
    let answer = ProxyCall {
        receipt: Receipt::new(call, route.endpoint),
        is_idempotent: is_idempotent(request.method_name),
        api: asked.api.name.clone(),
        token,
        allocated,
        start: Instant::now(),
        stage: CallStage::Ready(Ready { terms, connection, head: written, received, is_stale }),
    };
    Err(Halt::Pending(Box::new(answer), lane))
}

fn terms(
    call: &Call<'_>,
    framing: BodyFraming,
    is_challenged: bool,
    links: LinkRewrite,
    allocated: Option<&str>,
) -> ProxyTerms {
    let limits = &call.service.config.limits;
    ProxyTerms {
        framing,
        bodiless: call.request.method == Method::Head,
        links,
        correlation_id: call.correlation_id.to_owned(),
        further: allocated.map_or_else(String::new, |key| format!("{SESSION_KEY}: {key}\r\n")),
        // Only a request without a body can be sent again, and only once.
        may_challenge: !is_challenged && framing.is_empty(),
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

struct ProxyCall {
    receipt: Receipt,
    is_idempotent: bool,
    api: String,
    /// `None` if no token could be had for a challenge.
    token: Option<Arc<AccessToken>>,
    /// The key of a long-running session that was allocated for the caller.
    allocated: Option<String>,
    start: Instant,
    stage: CallStage<Ready, (Pump, OpenStream)>,
}

/// What a request is begun with.
struct Ready {
    terms: ProxyTerms,
    /// Another idle connection, or a new one, is taken if there is none.
    connection: Option<UpstreamConnection>,
    /// The request's head, including the token; empty if the request was sent before.
    head: Zeroizing<Vec<u8>>,
    /// The start of an answer, if the request was sent before.
    received: Vec<u8>,
    /// Whether only a new connection will do.
    is_stale: bool,
}

impl PendingAnswer<Parked> for ProxyCall {
    fn advance(&mut self, caller: &mut CallerStream<'_>) -> Advance<Parked> {
        let begins = match &self.stage {
            CallStage::Ready(ready) if ready.connection.is_none() => return Advance::Blocks,
            stage => matches!(stage, CallStage::Ready(_)),
        };
        let pump = match self.begin(caller) {
            Ok(Some((pump, _))) => pump,
            Ok(None) => return Advance::End(AnswerEnd::Broken),
            Err(error) => return Advance::End(self.failed(&error)),
        };
        match if begins { pump.advance(caller) } else { pump.resume(caller) } {
            Ok(Flow::Busy) => Advance::Busy,
            Ok(Flow::Waits) if !pump.is_sent() => Advance::Blocks,
            Ok(Flow::Waits) => Advance::Waits { until: pump.check_at(caller), for_room: pump.needs_room() },
            ended => Advance::End(self.end(ended, caller)),
        }
    }

    fn run(mut self: Box<Self>, caller: &mut CallerStream<'_>) -> AnswerEnd<Parked> {
        match self.begin(caller) {
            Ok(Some((pump, _))) => {
                let ended = pump.run(caller);
                self.end(ended, caller)
            }
            Ok(None) => AnswerEnd::Broken,
            Err(error) => self.failed(&error),
        }
    }

    fn upstream(&self) -> Option<BorrowedFd<'_>> {
        self.stage.running().and_then(|(pump, _)| pump.upstream())
    }

    fn into_parked(self: Box<Self>) -> Parked {
        let Self { stage, token, allocated, .. } = *self;
        if let CallStage::Ready(Ready { connection: Some(connection), terms, .. }) = stage {
            terms.connections.keep(connection);
        }
        // Without a token it starts over.
        token.map_or(Parked::Keys, |token| Parked::Api(token, allocated))
    }
}

impl ProxyCall {
    /// Begins the exchange, unless it runs already. Blocks where it has to open a connection.
    fn begin(&mut self, caller: &mut CallerStream<'_>) -> Result<Option<&mut (Pump, OpenStream)>, OutError> {
        self.stage.begin(|Ready { terms, connection, head, received, is_stale }| {
            let counted = terms.metrics.open_stream();
            let connection = connection.map_or_else(|| terms.connections.open(&terms.links.origin, !is_stale), Ok)?;
            Ok((Pump::new(caller, terms, connection, head, received), counted))
        })
    }

    fn end(&mut self, ended: Result<Flow, Stop>, caller: &mut CallerStream<'_>) -> AnswerEnd<Parked> {
        let Some((pump, _counted)) = self.stage.end() else { return AnswerEnd::Broken };
        // The API had closed an idle connection.
        let repeats = self.is_idempotent && pump.was_stale();
        if let (Err(Stop::Failed(OutError::Broken(_))), true) = (&ended, repeats) {
            let (token, allocated) = (self.token.take(), self.allocated.take());
            return AnswerEnd::Retry(token.map_or(Parked::Keys, |token| Parked::Stale(token, allocated)));
        }
        // An answer of which the caller has received nothing can still be replaced by an error.
        let status = pump.status();
        let resets = pump.ends_with_connection();
        let count = |ending| self.receipt.metrics.upstream(Upstream::Proxy, ending, self.start.elapsed());
        match ended {
            Ok(Flow::Challenged(claims)) => {
                count(Ending::Whole(401));
                let (Some(connection), received) = pump.hold() else { return AnswerEnd::Broken };
                let held = Box::new(HeldAnswer { connection, received });
                AnswerEnd::Retry(Parked::Challenged(claims, held, self.allocated.clone()))
            }
            Ok(_) => {
                let status = status.unwrap_or_default();
                count(Ending::Whole(status));
                self.receipt.entry().add(status, Ended::Whole, "");
                AnswerEnd::Complete { closes: pump.closes() }
            }
            Err(Stop::Caller) => {
                count(Ending::Cancelled);
                // 499 is nginx's status for a caller that left before it was answered.
                self.receipt.entry().add(status.unwrap_or(499), Ended::Cancelled, "");
                AnswerEnd::Broken
            }
            Err(Stop::Refused(refusal)) => {
                count(Ending::Cancelled);
                let Some(status) = status else { return self.reply(Problem::from(&refusal)) };
                self.receipt.entry().add(status, Ended::CutByBody, "");
                Self::broken(caller, resets)
            }
            Err(Stop::Failed(error)) => {
                let Some(status) = status else { return self.failed(&error) };
                count(Ending::Failed(&error));
                log::warn!("the API '{}' broke off its answer: {error}", self.api);
                self.receipt.entry().add(status, Ended::CutByApi, "");
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

    fn failed(&self, error: &OutError) -> AnswerEnd<Parked> {
        self.receipt.metrics.upstream(Upstream::Proxy, Ending::Failed(error), self.start.elapsed());
        self.reply(unanswered(&self.api, error))
    }

    fn reply(&self, problem: Problem) -> AnswerEnd<Parked> {
        AnswerEnd::Reply(self.receipt.entry().problem(problem, Form::Proxied))
    }
}
