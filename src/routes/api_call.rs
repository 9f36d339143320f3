//! A call of an API over an idle connection. A worker takes it to its end, unless that would block.

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use super::access::Receipt;
use super::call::{ApiAnswer, Parked};
use super::downstream_api::{Rendering, unanswered};
use super::problem::Form;
use crate::http::{Advance, AnswerEnd, CallerStream, PendingAnswer};
use crate::metrics::Ending;
use crate::outbound::{
    AnswerMemory, OutError, OutRequest, OutResponse, Step, Upstream, UpstreamCall, UpstreamConnection, UreqExchange,
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

pub struct ApiCall {
    connections: Arc<UreqExchange>,
    terms: ApiCallTerms,
    stage: Stage,
    start: Instant,
}

enum Stage {
    Ready(UpstreamConnection, OutRequest),
    Running(Box<UpstreamCall>),
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
            self.stage = Stage::Running(Box::new(self.connections.begin(connection, request)?));
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
                AnswerEnd::Reply(receipt.problem(unanswered(api, &error), Form::Problem))
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
                Advance::End(self.end(connections.complete(*call)))
            }
            Err(error) => Advance::End(self.end(Err(error))),
        }
    }

    fn run(mut self: Box<Self>, _: &mut CallerStream<'_>) -> AnswerEnd<Parked> {
        let begun = self.begin().map(|_| ());
        let answer = match (begun, std::mem::replace(&mut self.stage, Stage::Over)) {
            (Err(error), _) => Err(error),
            (Ok(()), Stage::Running(call)) => self.connections.finish(*call),
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
