//! `/DownstreamApi*`: calls the API for the caller and returns its answer.

use std::sync::{Arc, Mutex, PoisonError};

use super::access::Receipt;
use super::acquire::{Acquisition, announce, ask};
use super::api_call::{ApiCall, ApiCallTerms};
use super::call::{AllocatedKey, Call, Halt, Parked};
use super::problem::Problem;
use super::reply;
use super::route::Route;
use crate::http::{Body, BodyStream, Caching, Cause, Keep, Reply, Resumed};
use crate::options::{Effective, downstream_content_type, sends_body};
use crate::outbound::{
    AnswerMemory, CallLimits, Exchange, FollowedResponse, HeaderValues, OutError, OutRequest, OutResponse, RelayedBody,
    Rendered, claims_challenge, follow, relay,
};
use crate::token::{self, AccessToken};
use crate::turns::{self, Lane};
use crate::value::header;

/// Answers `{"statusCode","headers","content"}`, with any status of the API.
pub fn downstream_api(call: &Call<'_>, route: &Route<'_>, resumed: Option<Resumed<Parked>>) -> Result<Reply, Halt> {
    let asked = ask(call, route, resumed.as_ref())?;
    call.body(Keep::Yes)?;
    let effective = Effective::merge(asked.api, &asked.overrides)?;
    let acquisition = Acquisition::new(call, &asked, &effective, resumed.as_ref())?;
    let target = acquisition.target(call)?;
    let lane = Lane::of_url(&target.target.origin().to_string());
    let has_turn = matches!(resumed, Some(Resumed { cause: Cause::Turn, .. })) || turns::has(&lane);
    let (token, answered) = match resumed {
        // What follows an answer takes further calls.
        Some(Resumed { on: answered @ Parked::Answered(_), .. }) if !turns::may_block() => {
            return Err(Halt::Call(answered, lane));
        }
        Some(Resumed { on: Parked::Answered(answered), .. }) => {
            (answered.token, Some((answered.answer, answered.memory)))
        }
        resumed => (acquisition.token(call, resumed)?, None),
    };
    let over_idle = answered.is_none() && !has_turn;
    let park = || Halt::Call(Parked::Api(Arc::clone(&token), acquisition.allocated()), lane.clone());
    // A body that arrived by itself can be taken once only.
    if over_idle && (turns::may_block() || !matches!(call.request.body, Body::Whole(_))) {
        return Err(park());
    }
    let has_body = call.request.body.length() != Some(0) && sends_body(&target.method);
    let body = has_body.then(|| RelayedBody::new(call.request.body.take()));
    let limits = &call.service.config.limits;
    let (answer, memory) = answered.unzip();
    let memory = memory.unwrap_or_else(|| AnswerMemory::new(call.shared.budget.memory.nothing(), limits.queue_timeout));
    let described = described(call);
    let request = relay::DownstreamCall {
        method: &target.method,
        url: target.target.url(),
        accept: effective.options.accept,
        content_type: downstream_content_type(
            effective.options.content_type,
            call.request.headers.text("content-type"),
        ),
        described: &described,
        headers: &effective.options.extra_headers,
        body: body.as_ref(),
        memory: &memory,
    };
    let config = &call.service.config;
    let limits = CallLimits { timeout: limits.downstream_timeout, max_body: limits.downstream_body_bytes };
    let authorized = |token: &AccessToken| {
        let authorization = acquisition.authorization(call, token, || acquisition.target(call))?;
        Ok::<_, Halt>(request.request(&authorization, acquisition.correlation_id(), limits))
    };
    let rendering = Rendering {
        arrays: config.sidecar.header_values_as_arrays,
        follows: config.sidecar.allow_outbound_redirects,
        allocated: acquisition.allocated(),
    };
    if over_idle {
        let request = authorized(&token)?;
        let Some(connection) = call.shared.connections.idle(target.target.origin()) else { return Err(park()) };
        let connections = Arc::clone(&call.shared.connections);
        let receipt = Receipt::new(call, route.endpoint);
        let api = asked.api.name.clone();
        let call =
            ApiCall::new(connections, connection, request, ApiCallTerms { receipt, api, token, memory, rendering });
        return Err(Halt::Pending(Box::new(call), lane));
    }
    let sent = |request, first| send(call, request, first, &asked.api.name);
    let FollowedResponse { mut answer, foreign } = sent(authorized(&token)?, answer)?;
    // Continuous access evaluation: the API asks for further claims. Tried once. An origin reached
    // by a redirect saw no token and may not challenge it.
    if let Some(claims) = Some(&answer).filter(|_| !foreign).and_then(claims_challenge) {
        log::info!("the API '{}' wants further claims; acquiring a token with them", asked.api.name);
        let token = acquisition.token_with_claims(call, &claims)?;
        answer = sent(authorized(&token)?, None)?.answer;
    }
    Ok(rendering.reply(answer, memory))
}

/// How an API's answer becomes ours.
pub struct Rendering {
    arrays: bool,
    follows: bool,
    /// The key of a long-running session that was allocated for the caller.
    pub allocated: Option<AllocatedKey>,
}

impl Rendering {
    /// False if a redirect or a challenge is to be followed.
    pub fn is_final(&self, answer: &OutResponse) -> bool {
        !(self.follows && matches!(answer.status, 301..=303 | 307 | 308)) && claims_challenge(answer).is_none()
    }

    pub fn reply(&self, answer: OutResponse, memory: Arc<AnswerMemory>) -> Reply {
        let values = if self.arrays { HeaderValues::Arrays } else { HeaderValues::Joined };
        let body = Box::new(Rendered::new(answer, values, Some(memory)));
        let reply = Reply::new(200).with_stream(reply::JSON, body).caching(Caching::Never);
        announce(reply, self.allocated.as_deref())
    }
}

impl BodyStream for Rendered {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn fill(&mut self, out: &mut Vec<u8>, room: usize) {
        Self::fill(self, out, room);
    }
}

/// The fields that describe the caller's body, which is passed on unchanged. `Content-Type` has its
/// own rules.
fn described(call: &Call<'_>) -> Vec<(String, String)> {
    let fields = call.request.headers.0.iter().map(|field| (field.name.to_ascii_lowercase(), field.value));
    let fields = fields.filter(|(name, _)| name != "content-type" && header::describes_body(name));
    fields.filter_map(|(name, value)| Some((name, str::from_utf8(value).ok()?.to_owned()))).collect()
}

/// Sends a request, or goes on after its `first` answer.
fn send(
    call: &Call<'_>,
    request: OutRequest,
    first: Option<Result<OutResponse, OutError>>,
    api: &str,
) -> Result<FollowedResponse, Halt> {
    let exchange = Begun { first: Mutex::new(first), rest: &*call.shared.exchange };
    let arrival = if call.service.config.sidecar.allow_outbound_redirects {
        follow(&exchange, &*call.shared.clock, request)
    } else {
        exchange.send(request).map(|answer| FollowedResponse { answer, foreign: false })
    };
    arrival.map_err(|error| {
        log::warn!("the API '{api}' did not answer: {error}");
        unanswered(api, &error).into()
    })
}

/// An exchange whose first answer is here.
struct Begun<'a> {
    first: Mutex<Option<Result<OutResponse, OutError>>>,
    rest: &'a dyn Exchange,
}

impl Exchange for Begun<'_> {
    fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.rest.send(request))
    }
}

/// Names the API and the host, but not the URL.
pub fn unanswered(api: &str, error: &OutError) -> Problem {
    match error {
        OutError::Proxy { timed_out: true, .. } => {
            Problem::with(504, format!("The downstream API '{api}' cannot be reached: {error}"))
        }
        OutError::Timeout(_) => Problem::with(504, format!("The downstream API '{api}' timed out: {error}")),
        OutError::Connect(_) | OutError::Proxy { timed_out: false, .. } | OutError::NotPublic => {
            Problem::with(502, format!("The downstream API '{api}' cannot be reached: {error}"))
        }
        OutError::Broken(_) => {
            Problem::with(502, format!("The downstream API '{api}' did not answer as it should: {error}"))
        }
        OutError::Busy => token::Error::Busy.into(),
        OutError::NoMemory { timed_out: true } => {
            Problem::with(504, format!("The downstream API '{api}' answered, but too late: {error}"))
        }
        // The API may have acted, so the request must not be repeated.
        OutError::NoMemory { timed_out: false } => {
            Problem::with(503, format!("The answer of the downstream API '{api}' cannot be held: {error}"))
                .retryable(false)
        }
        OutError::TooLarge(limit) => Problem::with(
            502,
            format!(
                "The downstream API '{api}' answered too much: the body is longer than {limit} bytes \
                 (Sidecar:Limits:DownstreamBodyBytes)"
            ),
        ),
    }
}
