//! A request on its way up the ladder, and what may stop it there.

use std::sync::Arc;
use std::time::Instant;

use super::problem::Problem;
use super::service::Service;
use crate::clock::Clock;
use crate::http::{Budget, Keep, Monitor, Refusal, Request, StreamingAnswer, Waker};
use crate::metrics::Metrics;
use crate::outbound::{Exchange, UpstreamConnection, UreqExchange};
use crate::token::{AccessToken, Acquirer, Lead, Ticket};
use crate::turns::Lane;

/// What a request waits for, or carries from one step to the next.
#[derive(Debug)]
pub enum Parked {
    /// Signing keys.
    Keys,
    /// A turn to decrypt the caller's token.
    Decryption,
    /// Another caller's request for the same token.
    Token(Ticket, Option<AllocatedKey>),
    /// A turn to ask for the token.
    Lead(Box<Lead>, Option<AllocatedKey>),
    /// A turn to call the API with this token.
    Api(Arc<AccessToken>, Option<AllocatedKey>),
    /// A token with the claims that the API asked for in this answer.
    Challenged(String, Box<HeldAnswer>, Option<AllocatedKey>),
}

/// The key of a long-running session that was made for the caller: it stays the same however often the request is
/// handled.
pub type AllocatedKey = String;

/// Why a request is not answered now.
#[derive(Debug)]
pub enum Halt {
    /// It is refused.
    Problem(Problem),
    /// It waits for somebody to wake it.
    Park(Parked, Instant),
    /// It waits for a turn.
    Call(Parked, Lane),
    /// Its body has to be read.
    NeedsBody(Keep),
    /// Its answer is streamed.
    Stream(Box<dyn StreamingAnswer<Parked>>),
}

/// An API's answer of which nothing was forwarded yet.
#[derive(Debug)]
pub struct HeldAnswer {
    /// The connection it arrives on.
    pub connection: UpstreamConnection,
    /// The bytes received so far, the whole head included.
    pub received: Vec<u8>,
}

impl<P: Into<Problem>> From<P> for Halt {
    fn from(problem: P) -> Self {
        Self::Problem(problem.into())
    }
}

/// What lives as long as the process, whatever the configuration becomes.
pub struct Shared {
    /// The way out.
    pub exchange: Arc<dyn Exchange>,
    /// Connections for proxied requests.
    pub connections: Arc<UreqExchange>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Turns for upstream calls and the memory for bodies.
    pub budget: Budget,
    /// Tokens.
    pub acquirer: Arc<Acquirer>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The front door's state.
    pub monitor: Monitor,
}

/// One request on its way up the ladder.
pub struct Call<'a> {
    pub service: &'a Service,
    pub shared: &'a Shared,
    pub request: &'a Request<'a>,
    pub correlation_id: &'a str,
    pub waker: &'a Waker,
}

impl Call<'_> {
    /// Something that has this request handled again.
    pub fn wake(&self) -> Box<dyn FnOnce() + Send> {
        let waker = self.waker.clone();
        Box::new(move || waker.wake())
    }

    /// Checks the length of the body, and that it has come: what is refused is refused before.
    pub fn body(&self, keep: Keep) -> Result<(), Halt> {
        let limit = self.service.config.limits.request_body_bytes;
        if self.request.body.length().is_some_and(|length| length > limit) {
            return Err(Problem::from(&Refusal::BodyTooLarge { limit }).into());
        }
        if self.request.body.is_here() { Ok(()) } else { Err(Halt::NeedsBody(keep)) }
    }
}
