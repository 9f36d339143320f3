//! A call of an API over an idle connection. A worker takes it to its end, unless that would block.

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use super::access::Receipt;
use super::acquire::announce;
use super::call::{AllocatedKey, ApiAnswer, Parked};
use super::problem::{self, Form};
use super::reply;
use crate::http::{Advance, AnswerEnd, BodyStream, Caching, CallerStream, PendingAnswer, Reply};
use crate::metrics::Ending;
use crate::outbound::{
    AnswerMemory, HeaderValues, OutError, OutRequest, OutResponse, Rendered, Step, Upstream, UpstreamCall,
    UpstreamConnection, UreqExchange, claims_challenge,
};
use crate::token::AccessToken;

/// What becomes of the answer.
pub struct ApiCallTerms {
    pub receipt: Receipt,
    /// The API's name.
    pub api: String,
    pub token: Arc<AccessToken>,
    pub memory: Arc<AnswerMemory>,
    pub rendering: Rendering,
}

/// How an API's answer becomes ours.
pub struct Rendering {
    /// Whether header values are arrays.
    pub arrays: bool,
    /// Whether redirects are followed.
    pub follows: bool,
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

pub struct ApiCall {
    connections: Arc<UreqExchange>,
    terms: ApiCallTerms,
    stage: Stage,
    start: Instant,
}

#[expect(clippy::large_enum_variant, reason = "a second allocation for each call costs more than the room")]
enum Stage {
    Ready(UpstreamConnection, OutRequest),
    Running(UpstreamCall),
    Over,
}

impl ApiCall {
    pub fn new(
        connections: Arc<UreqExchange>,
        connection: UpstreamConnection,
        request: OutRequest,
        terms: ApiCallTerms,
    ) -> Self {
        Self { connections, terms, stage: Stage::Ready(connection, request), start: Instant::now() }
    }

    fn begin(&mut self) -> Result<&mut UpstreamCall, OutError> {
        if let Stage::Ready(..) = self.stage
            && let Stage::Ready(connection, request) = std::mem::replace(&mut self.stage, Stage::Over)
        {
            self.stage = Stage::Running(self.connections.begin(connection, request)?);
        }
        match &mut self.stage {
            Stage::Running(call) => Ok(call),
            Stage::Ready(..) | Stage::Over => Err(OutError::Broken("the call is over".to_owned())),
        }
    }

    fn end(&self, answer: Result<OutResponse, OutError>) -> AnswerEnd<Parked> {
        let ApiCallTerms { receipt, api, token, memory, rendering } = &self.terms;
        let ending = answer.as_ref().map_or_else(Ending::Failed, |response| Ending::Whole(response.status));
        receipt.metrics.upstream(Upstream::Downstream, ending, self.start.elapsed());
        match answer {
            Ok(answer) if rendering.is_final(&answer) => {
                AnswerEnd::Reply(receipt.reply(rendering.reply(answer, Arc::clone(memory))))
            }
            Err(error) => {
                log::warn!("the API '{api}' did not answer: {error}");
                AnswerEnd::Reply(receipt.problem(problem::unanswered(api, &error), Form::Problem))
            }
            answer => AnswerEnd::Retry(Parked::Answered(Box::new(ApiAnswer {
                answer,
                memory: Arc::clone(memory),
                token: Arc::clone(token),
                allocated: rendering.allocated.clone(),
            }))),
        }
    }
}

impl PendingAnswer<Parked> for ApiCall {
    fn advance(&mut self, _: &mut CallerStream<'_>) -> Advance<Parked> {
        let connections = Arc::clone(&self.connections);
        let (step, until) = match self.begin() {
            Ok(call) => (connections.advance(call), call.deadline()),
            Err(error) => (Err(error), self.start),
        };
        match step {
            Ok(Step::Waits) => Advance::Waits { until, for_room: false },
            Ok(Step::Blocks) => Advance::Blocks,
            Ok(Step::Done) => {
                let Stage::Running(call) = std::mem::replace(&mut self.stage, Stage::Over) else {
                    return Advance::Blocks;
                };
                Advance::End(self.end(connections.complete(call)))
            }
            Err(error) => Advance::End(self.end(Err(error))),
        }
    }

    fn run(mut self: Box<Self>, _: &mut CallerStream<'_>) -> AnswerEnd<Parked> {
        let begun = self.begin().map(|_| ());
        let answer = match (begun, std::mem::replace(&mut self.stage, Stage::Over)) {
            (Err(error), _) => Err(error),
            (Ok(()), Stage::Running(call)) => self.connections.finish(call),
            (Ok(()), Stage::Ready(..) | Stage::Over) => Err(OutError::Broken("the call is over".to_owned())),
        };
        self.end(answer)
    }

    fn upstream(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Running(call) => Some(call.as_fd()),
            Stage::Ready(..) | Stage::Over => None,
        }
    }

    fn into_parked(self: Box<Self>) -> Parked {
        if let Stage::Ready(connection, _) = self.stage {
            self.connections.keep(connection);
        }
        Parked::Api(self.terms.token, self.terms.rendering.allocated)
    }
}

impl fmt::Debug for ApiCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiCall").field("api", &self.terms.api).finish_non_exhaustive()
    }
}
