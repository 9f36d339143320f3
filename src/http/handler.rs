//! The interface between the server and the routes. The handler gets a request and returns an
//! answer, or says that the request has to wait: for its body, for a wakeup, or for a turn to do
//! work that may block.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use super::caller::CallerStream;
use super::message::{Reply, Request};
use super::reader::Keep;
use super::request_error::RequestError;
use crate::turns::Lane;

pub trait Handler: Send + Sync + 'static {
    /// State carried from one call of the handler to the next. The server does not look inside.
    type Parked: Send + 'static;

    /// Answers a request, or says what it has to wait for. After the wait the request is handled
    /// again from the start, with `resumed`. Must not block unless `resumed` says that it has a
    /// turn. `waker` wakes the request if this call parks it. Wakers of earlier calls have no
    /// effect.
    fn handle(
        &self,
        request: &Request<'_>,
        waker: &Waker,
        resumed: Option<Resumed<Self::Parked>>,
    ) -> Outcome<Self::Parked>;

    /// Answers input that never became a complete request. `request` is its head, if that was
    /// valid. The connection is closed afterwards.
    fn refuse(&self, refusal: &RequestError, request: Option<&Request<'_>>) -> Reply;

    /// Answers in place of a [`Self::handle`] that panicked. The connection is closed afterwards.
    fn panicked(&self) -> Reply;
}

#[derive(Debug)]
pub enum Outcome<P> {
    /// An answer. If the body has not been read, it never will be: the connection is closed
    /// afterwards.
    Reply(Reply),
    /// The head is acceptable, and the body is to be read.
    NeedsBody(Keep),
    Park {
        /// Returned in [`Resumed`].
        on: P,
        /// When to handle it again without a wakeup.
        until: Instant,
    },
    /// Goes on with an upstream once it has a turn. A worker goes on with it too, as long as it need not block.
    Pending { answer: Box<dyn PendingAnswer<P>>, lane: Lane },
    /// Waits for a turn, then is handled again on a thread that may block.
    Call {
        /// Returned in [`Resumed`].
        on: P,
        lane: Lane,
    },
}

/// An answer that an upstream has a part in. It may stream the request's body and itself.
pub trait PendingAnswer<P>: Send {
    /// Begins, or takes another look at both sides. Never blocks.
    fn advance(&mut self, caller: &mut CallerStream<'_>) -> Advance<P>;
    /// Goes on until the answer is complete or broken. Blocks.
    fn run(self: Box<Self>, caller: &mut CallerStream<'_>) -> AnswerEnd<P>;
    /// The connection to the upstream, if it is open.
    fn upstream(&self) -> Option<BorrowedFd<'_>>;
    /// Gives up before it begins, because there is no turn. Returns what the request is queued with.
    fn into_parked(self: Box<Self>) -> P;
}

impl<P> fmt::Debug for dyn PendingAnswer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingAnswer")
    }
}

#[derive(Debug)]
pub enum Advance<P> {
    /// It waits for either side.
    Waits {
        /// When to look again at the latest.
        until: Instant,
        /// Whether it waits for room to send to the caller.
        for_room: bool,
    },
    /// There is more to do at once.
    Busy,
    /// It goes on where it may block.
    Blocks,
    End(AnswerEnd<P>),
}

#[derive(Debug)]
pub enum AnswerEnd<P> {
    /// Nothing was sent. This is the answer.
    Reply(Reply),
    Complete {
        /// Whether its head said `Connection: close`.
        closes: bool,
    },
    /// The answer cannot be completed, so the connection closes.
    Broken,
    /// Nothing was sent. The request is handled again from the start, on the same thread.
    Retry(P),
}

/// Why a request is handled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A wakeup came, or a pending answer ended.
    Woken,
    /// No wakeup came in time.
    Overdue,
    /// It has a turn, so the handler may block.
    Turn,
    /// No turn came in time.
    NoTurn,
}

#[derive(Debug)]
pub struct Resumed<P> {
    /// The value that the handler parked it with.
    pub on: P,
    pub cause: Cause,
}

/// A slot in the connection table, and which of its successive users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionId {
    pub index: u32,
    pub generation: u32,
}

pub(super) trait Wake: Send + Sync {
    fn wake(&self, id: ConnectionId, call: u64);
}

/// Wakes one parked request. A wakeup before the request is parked is kept for it. One after the
/// answer, or a second one, has no effect.
#[derive(Clone)]
pub struct Waker {
    pub(super) target: Arc<dyn Wake>,
    pub(super) id: ConnectionId,
    pub(super) call: u64,
}

impl Waker {
    pub fn wake(&self) {
        self.target.wake(self.id, self.call);
    }

    /// For a handler that is called without a server, as in tests.
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
