//! `/DownstreamApi*`: calls the API for the caller and returns its answer.

use std::sync::Arc;
use std::time::Instant;

use super::access::Receipt;
use super::acquire::{Acquisition, ask};
use super::api_call::{ApiCall, Rendering};
use super::call::{Call, Halt, Parked};
use super::correlation;
use super::problem;
use super::route::Route;
use super::stage::CallStage;
use crate::http::{Body, Cause, Keep, Reply, Resumed};
use crate::options::{Effective, downstream_content_type, sends_body};
use crate::outbound::{
    AnswerMemory, FollowedResponse, OutError, OutRequest, OutResponse, RelayedBody, claims_challenge, follow, relay,
};
use crate::token::AccessToken;
use crate::turns::{self, Lane};
use crate::value::header;

/// Answers `{"statusCode","headers","content"}`, with any status of the API.
pub fn downstream_api(call: &Call<'_>, route: &Route<'_>, resumed: Option<Resumed<Parked>>) -> Result<Reply, Halt> {
    let asked = ask(call, route, resumed.as_ref())?;
    call.body(Keep::Yes)?;
    let effective = Effective::merge(asked.api, &asked.overrides)?;
    let acquisition = Acquisition::new(call, &asked, &effective, resumed.as_ref())?;
    let target = acquisition.target(call)?;
    let lane = Lane::Origin(Arc::clone(target.target.origin().text()));
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
    let mut idle = None;
    if answered.is_none() && !has_turn {
        // A body that arrived by itself can be taken once only.
        if !turns::may_block() && matches!(call.request.body, Body::Whole(_)) {
            idle = call.shared.connections.idle(target.target.origin());
        }
        if idle.is_none() {
            return Err(Halt::Call(Parked::Api(token, acquisition.allocated()), lane));
        }
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
            call.request.headers.first("content-type"),
        ),
        described: &described,
        trace: &correlation::trace_context(call.request.headers),
        headers: &effective.options.extra_headers,
        body: body.as_ref(),
        memory: &memory,
        timeout: limits.downstream_timeout,
        max_body: limits.downstream_body_bytes,
    };
    let config = &call.service.config;
    let authorized = |token: &AccessToken| {
        let authorization = acquisition.authorization(call, token, || acquisition.target(call))?;
        Ok::<_, Halt>(request.request(&authorization, acquisition.correlation_id()))
    };
    let rendering = Rendering {
        arrays: config.sidecar.header_values_as_arrays,
        follows: config.sidecar.allow_outbound_redirects,
        allocated: acquisition.allocated(),
    };
    if let Some(connection) = idle {
        let request = authorized(&token)?;
        let call = ApiCall {
            connections: Arc::clone(&call.shared.connections),
            receipt: Receipt::new(call, route.endpoint),
            api: asked.api.name.clone(),
            token,
            memory,
            rendering,
            start: Instant::now(),
            stage: CallStage::Ready((connection, request)),
        };
        return Err(Halt::Pending(Box::new(call), lane));
    }
    let sent = |request, first| send(call, request, first, &asked.api.name);
    let FollowedResponse { mut answer, foreign } = sent(authorized(&token)?, answer)?;
    // Continuous access evaluation: the API asks for further claims. Tried once. An origin reached
    // by a redirect saw no token and may not challenge it.
    if let Some(claims) = Some(&answer).filter(|_| !foreign).and_then(claims_challenge) {
        let token = acquisition.token_with_claims(call, &claims)?;
        answer = sent(authorized(&token)?, None)?.answer;
    }
    Ok(rendering.reply(answer, memory))
}

/// The fields that describe the caller's body, which is passed on unchanged. `Content-Type` has its
/// own rules.
fn described(call: &Call<'_>) -> Vec<(String, Vec<u8>)> {
    let fields = call.request.headers.0.iter().filter(|field| header::describes_body(field.name));
    let fields = fields.map(|field| (field.name.to_ascii_lowercase(), field.value));
    let fields = fields.filter(|(name, _)| name != "content-type");
    fields.map(|(name, value)| (name, value.to_vec())).collect()
}

/// Sends a request, or goes on after its `first` answer.
fn send(
    call: &Call<'_>,
    request: OutRequest,
    first: Option<Result<OutResponse, OutError>>,
    api: &str,
) -> Result<FollowedResponse, Halt> {
    let exchange = &*call.shared.exchange;
    let arrival = if call.service.config.sidecar.allow_outbound_redirects {
        follow(exchange, &*call.shared.clock, request, first)
    } else {
        let answer = first.unwrap_or_else(|| exchange.send(request));
        answer.map(|answer| FollowedResponse { answer, foreign: false })
    };
    arrival.map_err(|error| problem::unanswered(api, &error).into())
}
