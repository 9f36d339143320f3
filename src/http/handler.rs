//! The seam between the front door and what answers: a request goes in, a reply comes out, or the request is
//! parked until somebody wakes it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::message::{Reply, Request};
use super::refusal::Refusal;

/// What answers requests. It is called on a worker thread and may block it.
pub trait Handler: Send + Sync + 'static {
    /// What a parked request waits for; opaque to the front door.
    type Parked: Send + 'static;

    /// Answers a request, or parks it. A parked request is handled again from the start, with `resumed`.
    /// `waker` wakes the request if this call parks it; those of earlier calls are void.
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
    /// It is answered.
    Reply(Reply),
    /// It waits, and holds no worker meanwhile.
    Park {
        /// Comes back with [`Resumed`].
        on: P,
        /// When it is handled again though nobody woke it.
        until: Instant,
    },
}

/// Why a parked request is handled again.
#[derive(Debug)]
pub struct Resumed<P> {
    /// What it waited for.
    pub on: P,
    /// `until` passed without a wake.
    pub overdue: bool,
}

/// Which connection, and which of those that used its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub index: u32,
    pub generation: u32,
}

/// What a [`Waker`] wakes.
pub(super) trait Wake: Send + Sync {
    fn wake(&self, token: Token, call: u64);
}

/// Wakes one parked request. A wake that comes before the request is parked is kept for it; one that comes
/// after it was answered, or too often, is ignored.
#[derive(Clone)]
pub struct Waker {
    pub(super) target: Arc<dyn Wake>,
    pub(super) token: Token,
    pub(super) call: u64,
}

impl Waker {
    /// Has the request handled again.
    pub fn wake(&self) {
        self.target.wake(self.token, self.call);
    }

    /// A waker that calls a function: for a handler that is called outside a server.
    pub fn from_fn(wake: impl Fn() + Send + Sync + 'static) -> Self {
        struct Call<F>(F);
        impl<F: Fn() + Send + Sync> Wake for Call<F> {
            fn wake(&self, _: Token, _: u64) {
                (self.0)();
            }
        }
        Self { target: Arc::new(Call(wake)), token: Token { index: 0, generation: 0 }, call: 0 }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("token", &self.token).field("call", &self.call).finish_non_exhaustive()
    }
}
