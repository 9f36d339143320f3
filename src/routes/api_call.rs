//! A call of an API over an idle connection. A worker takes it to its end, unless that would block.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use super::access::Receipt;
use super::acquire::announce;
use super::call::{AllocatedKey, ApiAnswer, Parked};
use super::problem::{self, Form};
use super::reply;
use super::stage::CallStage;
use crate::http::{Advance, AnswerEnd, BodyStream, Caching, CallerStream, PendingAnswer, Reply};
use crate::metrics::Ending;
use crate::outbound::redirect::is_redirect;
use crate::outbound::{
    AnswerMemory, HeaderValues, OutError, OutRequest, OutResponse, Rendered, Step, Upstream, UpstreamCall,
    UpstreamConnection, UreqExchange, claims_challenge,
};
use crate::token::AccessToken;

/// How an API's answer becomes ours.
pub struct Rendering {
    pub arrays: bool,
    pub follows: bool,
    /// The key of a long-running session that was allocated for the caller.
    pub allocated: Option<AllocatedKey>,
}

impl Rendering {
    /// False if a redirect or a challenge is to be followed.
    pub fn is_final(&self, answer: &OutResponse) -> bool {
        !(self.follows && is_redirect(answer.status)) && claims_challenge(answer).is_none()
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
    pub connections: Arc<UreqExchange>,
    pub receipt: Receipt,
    pub api: String,
    pub token: Arc<AccessToken>,
    pub memory: Arc<AnswerMemory>,
    pub rendering: Rendering,
    pub start: Instant,
    pub stage: CallStage<(UpstreamConnection, OutRequest), UpstreamCall>,
}

impl ApiCall {
    fn begin(&mut self) -> Result<Option<&mut UpstreamCall>, OutError> {
        self.stage.begin(|(connection, request)| self.connections.begin(connection, request))
    }

    fn end(&self, answer: Result<OutResponse, OutError>) -> AnswerEnd<Parked> {
        let Self { receipt, api, token, memory, rendering, .. } = self;
        let ending = answer.as_ref().map_or_else(Ending::Failed, |response| Ending::Whole(response.status));
        receipt.metrics.upstream(Upstream::Downstream, ending, self.start.elapsed());
        match answer {
            Ok(answer) if rendering.is_final(&answer) => {
                AnswerEnd::Reply(receipt.entry().reply(rendering.reply(answer, Arc::clone(memory))))
            }
            Err(error) => AnswerEnd::Reply(receipt.entry().problem(problem::unanswered(api, &error), Form::Problem)),
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
        let step = self.begin().and_then(|call| match call {
            Some(call) => Ok((connections.advance(call)?, call.deadline)),
            None => Err(over()),
        });
        Advance::End(match step {
            Ok((Step::Waits, until)) => return Advance::Waits { until, for_room: false },
            Ok((Step::Blocks, _)) => return Advance::Blocks,
            Ok((Step::Done, _)) => {
                let answer = self.stage.end().ok_or_else(over).and_then(|call| connections.complete(call));
                self.end(answer)
            }
            Err(error) => self.end(Err(error)),
        })
    }

    fn run(mut self: Box<Self>, _: &mut CallerStream<'_>) -> AnswerEnd<Parked> {
        let begun = self.begin().map(drop);
        let answer = begun.and_then(|()| self.connections.finish(self.stage.end().ok_or_else(over)?));
        self.end(answer)
    }

    fn upstream(&self) -> Option<BorrowedFd<'_>> {
        self.stage.running().map(AsFd::as_fd)
    }

    fn into_parked(self: Box<Self>) -> Parked {
        if let CallStage::Ready((connection, _)) = self.stage {
            self.connections.keep(connection);
        }
        Parked::Api(self.token, self.rendering.allocated)
    }
}

/// The server does not go on with what has ended.
fn over() -> OutError {
    OutError::Broken("the call is over".to_owned())
}
