//! `/DownstreamApi*`: calls the API for the caller and returns its answer.

use super::acquire::{Acquisition, ask};
use super::call::{Call, Halt, Parked};
use super::correlation;
use super::problem::Problem;
use super::reply;
use super::route::Route;
use crate::http::{BodyStream, Caching, Cause, Keep, Reply, Resumed};
use crate::options::{Effective, downstream_content_type, sends_body};
use crate::outbound::{
    AnswerMemory, CallLimits, FollowedResponse, HeaderValues, OutError, RelayedBody, Rendered, claims_challenge,
    follow, relay,
};
use crate::token;
use crate::turns::{self, Lane};
use crate::value::header;

/// Answers `{"statusCode","headers","content"}`, with any status of the API.
pub fn downstream_api(call: &Call<'_>, route: &Route<'_>, resumed: Option<Resumed<Parked>>) -> Result<Reply, Halt> {
    let asked = ask(call, route, resumed.as_ref())?;
    call.body(Keep::Yes)?;
    let effective = Effective::merge(asked.api, &asked.overrides)?;
    let acquisition = Acquisition::new(call, &asked, &effective, resumed.as_ref())?;
    let target = acquisition.target(call)?;
    let has_turn = matches!(resumed, Some(Resumed { on: Parked::Api(..), cause: Cause::Turn }));
    let token = acquisition.token(call, resumed)?;
    let lane = Lane::of_url(&target.target.url().to_string());
    if !has_turn && !turns::has(&lane) {
        return Err(Halt::Call(Parked::Api(token, acquisition.allocated()), lane));
    }
    let has_body = call.request.body.length() != Some(0) && sends_body(&target.method);
    let body = has_body.then(|| RelayedBody::new(call.request.body.take()));
    let limits = &call.service.config.limits;
    let memory = AnswerMemory::new(call.shared.budget.memory.nothing(), limits.queue_timeout);
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
        trace: &correlation::trace_context(call.request.headers),
        headers: &effective.options.extra_headers,
        body: body.as_ref(),
        memory: &memory,
    };
    let send = |authorization: &str| send(call, &request, authorization, acquisition.correlation_id(), &asked.api.name);
    let FollowedResponse { mut answer, foreign } =
        send(&acquisition.authorization(call, &token, || acquisition.target(call))?)?;
    // Continuous access evaluation: the API asks for further claims. Tried once. An origin reached
    // by a redirect saw no token and may not challenge it.
    if let Some(claims) = Some(&answer).filter(|_| !foreign).and_then(claims_challenge) {
        log::info!("the API '{}' wants further claims; acquiring a token with them", asked.api.name);
        let token = acquisition.token_with_claims(call, &claims)?;
        answer = send(&acquisition.authorization(call, &token, || acquisition.target(call))?)?.answer;
    }
    let values =
        if call.service.config.sidecar.header_values_as_arrays { HeaderValues::Arrays } else { HeaderValues::Joined };
    let body = Box::new(Rendered::new(answer, values, Some(memory)));
    let reply = Reply::new(200).with_stream(reply::JSON, body).caching(Caching::Never);
    Ok(acquisition.announce(reply))
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

fn send(
    call: &Call<'_>,
    request: &relay::DownstreamCall<'_>,
    authorization: &str,
    correlation_id: &str,
    api: &str,
) -> Result<FollowedResponse, Halt> {
    let limits = &call.service.config.limits;
    let limits = CallLimits { timeout: limits.downstream_timeout, max_body: limits.downstream_body_bytes };
    let request = request.request(authorization, correlation_id, limits);
    let exchange = &*call.shared.exchange;
    let arrival = if call.service.config.sidecar.allow_outbound_redirects {
        follow(exchange, &*call.shared.clock, request)
    } else {
        exchange.send(request).map(|answer| FollowedResponse { answer, foreign: false })
    };
    arrival.map_err(|error| {
        log::warn!("the API '{api}' did not answer: {error}");
        unanswered(api, &error).into()
    })
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
