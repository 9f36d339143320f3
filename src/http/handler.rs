//! The seam between the front door and what answers: a request goes in; a reply comes out, or the request waits for
//! its body, for somebody who wakes it, or for a turn to do what may take long.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::caller::CallerStream;
use super::message::{Reply, Request};
use super::reader::Keep;
use super::refusal::Refusal;
use crate::turns::Lane;

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// State that a request carries from one call of the handler to the next; opaque to the front door.
    type Parked: Send + 'static;

    /// Answers a request, or says what it has to wait for, after which it is handled again from the start with
    /// `resumed`. It must not block unless `resumed` says that it has a turn. `waker` wakes the request if this call
    /// parks it; wakers of earlier calls are void.
    fn handle(
        &self,
        request: &Request<'_>,
        waker: &Waker,
        resumed: Option<Resumed<Self::Parked>>,
    ) -> Outcome<Self::Parked>;

    /// Answers what never became a whole request: `request` is its head where that was good. The connection is closed after it.
    fn refuse(&self, refusal: &Refusal, request: Option<&Request<'_>>) -> Reply;

    /// Answers in place of a [`Self::handle`] that panicked. The connection is closed after it.
    fn panicked(&self) -> Reply;
}

/// What became of a request.
#[derive(Debug)]
pub enum Outcome<P> {
    /// It is answered. Where its body has not come, it never will: the connection is closed after the answer.
    Reply(Reply),
    /// It is good so far, and its body is to be read.
    NeedsBody(Keep),
    /// It waits until it is woken.
    Park {
        /// Comes back with [`Resumed`].
        on: P,
        /// When it is handled again though nobody woke it.
        until: Instant,
    },
    /// It has its turn, and its answer is streamed.
    Stream(Box<dyn StreamingAnswer<P>>),
    /// It waits for a turn, and is handled again on a thread that may block.
    Call {
        /// Comes back with [`Resumed`].
        on: P,
        /// What the turn is for.
        lane: Lane,
    },
}

/// Streams the body of a request and its answer, on a thread that may block.
pub trait StreamingAnswer<P>: Send + fmt::Debug {
    /// Runs until the answer is complete or broken.
    fn run(self: Box<Self>, caller: &mut CallerStream<'_>) -> StreamEnd<P>;
}

/// How a streamed answer ended.
#[derive(Debug)]
pub enum StreamEnd<P> {
    /// Nothing was sent. This is the answer.
    Reply(Reply),
    /// The whole answer was sent.
    Complete {
        /// Whether its head said `Connection: close`.
        closes: bool,
    },
    /// The answer cannot be completed, so the connection closes.
    Broken,
    /// Nothing was sent. The request is handled again from the start.
    Retry(P),
}

/// Why a request is handled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody woke it.
    Woken,
    /// Nobody woke it in time.
    Overdue,
    /// Its turn has come: the handler may block.
    Turn,
    /// Its turn has not come in time.
    NoTurn,
}

/// A request that has waited.
#[derive(Debug)]
pub struct Resumed<P> {
    /// What it waited for.
    pub on: P,
    /// Why it waits no more.
    pub cause: Cause,
}

/// Which connection, and which of those that used its slot in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionId {
    pub index: u32,
    pub generation: u32,
}

/// What a [`Waker`] wakes.
pub(super) trait Wake: Send + Sync {
    fn wake(&self, id: ConnectionId, call: u64);
}

/// Wakes one parked request. A wake that comes before the request is parked is kept for it; one that comes
/// after it was answered, or too often, is ignored.
#[derive(Clone)]
pub struct Waker {
    pub(super) target: Arc<dyn Wake>,
    pub(super) id: ConnectionId,
    pub(super) call: u64,
}

impl Waker {
    /// Has the request handled again.
    pub fn wake(&self) {
        self.target.wake(self.id, self.call);
    }

    /// A waker that calls a function: for a handler that is called outside a server.
    pub fn from_fn(wake: impl Fn() + Send + Sync + 'static) -> Self {
        struct Call<F>(F);
        impl<F: Fn() + Send + Sync> Wake for Call<F> {
            fn wake(&self, _: ConnectionId, _: u64) {
                (self.0)();
            }
        }
        Self { target: Arc::new(Call(wake)), id: ConnectionId { index: 0, generation: 0 }, call: 0 }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("id", &self.id).field("call", &self.call).finish_non_exhaustive()
    }
}
