//! A request while it is being answered, and the reasons to stop early.

use std::sync::Arc;
use std::time::Instant;

use super::problem::Problem;
use super::recent::Recent;
use super::service::Service;
use crate::clock::Clock;
use crate::http::{Budget, Keep, Monitor, PendingAnswer, Request, RequestError, Waker};
use crate::metrics::Metrics;
use crate::outbound::{AnswerMemory, Exchange, OutError, OutResponse, UpstreamConnection, UreqExchange};
use crate::token::{AccessToken, Acquirer, Lead, Ticket};
use crate::turns::Lane;

/// What a request waits for, with the state it needs afterwards.
#[derive(Debug)]
pub enum Parked {
    Keys,
    /// A turn to decrypt the caller's token.
    Decryption,
    /// A turn to ask the shared cache for the session.
    Session,
    /// Another caller's request for the same token.
    Token(Ticket, Option<AllocatedKey>),
    /// A turn to request the token.
    Lead(Box<Lead>, Option<AllocatedKey>),
    /// A turn to call the API with this token.
    Api(Arc<AccessToken>, Option<AllocatedKey>),
    /// A turn to send it once more, on a new connection: an idle one had been closed.
    Stale(Arc<AccessToken>, Option<AllocatedKey>),
    /// What the API answered.
    Answered(Box<ApiAnswer>),
    /// A token with the claims that the API asked for in this answer.
    Challenged(String, Box<HeldAnswer>, Option<AllocatedKey>),
}

impl Parked {
    /// The key that was generated for the caller's long-running session.
    pub fn allocated(&self) -> Option<&AllocatedKey> {
        match self {
            Self::Token(_, key)
            | Self::Lead(_, key)
            | Self::Api(_, key)
            | Self::Stale(_, key)
            | Self::Challenged(_, _, key) => key.as_ref(),
            Self::Answered(answered) => answered.allocated.as_ref(),
            Self::Keys | Self::Decryption | Self::Session => None,
        }
    }
}

#[derive(Debug)]
pub struct ApiAnswer {
    pub answer: Result<OutResponse, OutError>,
    pub memory: Arc<AnswerMemory>,
    /// The token that the call was made with.
    pub token: Arc<AccessToken>,
    pub allocated: Option<AllocatedKey>,
}

/// The key generated for a long-running session. It must stay the same when the request is handled
/// again.
pub type AllocatedKey = String;

/// Why a request cannot be answered yet, or not with success.
#[derive(Debug)]
pub enum Halt {
    Problem(Problem),
    /// Waits to be woken.
    Park(Parked, Instant),
    /// Waits for a turn.
    Call(Parked, Lane),
    NeedsBody(Keep),
    /// An upstream takes part in its answer.
    Pending(Box<dyn PendingAnswer<Parked>>, Lane),
}

/// An API's answer of which nothing was forwarded yet.
#[derive(Debug)]
pub struct HeldAnswer {
    /// The connection it arrives on.
    pub connection: Option<UpstreamConnection>,
    /// The bytes received so far, the whole head included.
    pub received: Vec<u8>,
}

impl<P: Into<Problem>> From<P> for Halt {
    fn from(problem: P) -> Self {
        Self::Problem(problem.into())
    }
}

/// Lives as long as the process, across reloads of the configuration.
pub struct Shared {
    pub exchange: Arc<dyn Exchange>,
    /// For calls of APIs that a worker carries out, and for streams.
    pub connections: Arc<UreqExchange>,
    pub clock: Arc<dyn Clock>,
    /// Turns for upstream calls, and memory for bodies.
    pub budget: Budget,
    pub acquirer: Arc<Acquirer>,
    pub metrics: Arc<Metrics>,
    pub monitor: Monitor,
    /// What was asked last, in Development.
    pub recent: Option<Arc<Recent>>,
}

pub struct Call<'a> {
    pub service: &'a Service,
    pub shared: &'a Shared,
    pub request: &'a Request<'a>,
    pub correlation_id: &'a str,
    pub waker: &'a Waker,
}

impl Call<'_> {
    /// Returns a function that has this request handled again.
    pub fn wake(&self) -> Box<dyn FnOnce() + Send> {
        let waker = self.waker.clone();
        Box::new(move || waker.wake())
    }

    /// Checks the body's declared length and that it has been read. Call it once nothing else can
    /// refuse the request.
    pub fn body(&self, keep: Keep) -> Result<(), Halt> {
        let configured = self.service.config.limits.body_bytes;
        let own = if let Keep::UpTo(limit) = keep { limit } else { usize::MAX };
        let limit = own.min(configured);
        if self.request.body.length().is_some_and(|length| length > limit) {
            return Err(Problem::from(&RequestError::BodyTooLarge { limit, configured: configured <= own }).into());
        }
        if self.request.body.is_here() { Ok(()) } else { Err(Halt::NeedsBody(keep)) }
    }
}
