//! Requests that need a turn: they wait for it, and then go on with an upstream. A worker does that as long as it need not
//! block; a thread of the pool does the rest, and leaves the connection to the workers again.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::acceptor::Shared;
use super::arrival::Arrival;
use super::caller::CallerStream;
use super::connection::{Connection, Pending, Stage, Wait};
use super::driver::{Driver, Handled, Next};
use super::handler::{Advance, AnswerEnd, Cause, Handler, Outcome, PendingAnswer, Resumed};
use super::head::Terms;
use super::poller::Event;
use super::request_error::RequestError;
use super::slots::Phase;
use crate::clock::{Clock as _, SystemClock};
use crate::turns::{self, Lane, Requested, Turn};

impl<H: Handler> Driver<H> {
    /// Gets a turn for the request, or a place in the lane's queue.
    pub fn queue(&mut self, mut conn: Box<Connection<H::Parked>>, on: H::Parked, lane: &Lane) {
        match self.request_turn(&mut conn, lane) {
            Requested::Granted(turn) => {
                on_pool(&self.shared, move |driver| driver.call(conn, Work::Handle(on), turn));
            }
            Requested::Queued(place) => self.wait_for_turn(conn, on, place),
        }
    }

    /// Gets a turn for an answer that need not block, and returns the connection. `None`: it waits for its turn.
    pub fn begin(
        &mut self,
        mut conn: Box<Connection<H::Parked>>,
        answer: Box<dyn PendingAnswer<H::Parked>>,
        lane: &Lane,
        terms: Terms,
    ) -> Option<Box<Connection<H::Parked>>> {
        match self.request_turn(&mut conn, lane) {
            Requested::Granted(turn) => {
                conn.stage = Stage::Pending(Pending { answer, turn, terms, is_watched: false });
                return Some(conn);
            }
            Requested::Queued(place) => self.wait_for_turn(conn, answer.into_parked(), place),
        }
        None
    }

    fn request_turn(&mut self, conn: &mut Connection<H::Parked>, lane: &Lane) -> Requested {
        self.begin_call(conn);
        let (id, call, shared) = (conn.id, conn.call, Arc::clone(&self.shared));
        let granted = move |turn| {
            on_pool(&shared, move |driver| {
                if let Some((conn, turn)) = driver.shared.table.begin(id, call, turn) {
                    driver.begin_queued(conn, turn);
                }
            });
        };
        self.shared.turns.request(lane, granted)
    }

    fn wait_for_turn(&self, mut conn: Box<Connection<H::Parked>>, on: H::Parked, place: turns::Place) {
        let now = Instant::now();
        conn.deadline = now + conn.patience;
        conn.stage = Stage::Queued(on, place, now);
        self.enqueue(conn);
    }

    /// Puts back a connection that waits for a turn, unless that has come.
    pub fn enqueue(&self, conn: Box<Connection<H::Parked>>) {
        if let Some((conn, turn)) = self.shared.table.enqueue(conn) {
            on_pool(&self.shared, move |driver| driver.begin_queued(conn, turn));
        }
    }

    /// Handles an event or a timeout of a queued request.
    pub fn still_queued(
        &mut self,
        conn: &mut Connection<H::Parked>,
        on: H::Parked,
        place: turns::Place,
        since: Instant,
    ) -> Next<H::Parked> {
        // The caller closed its end before any work was done, so none is done.
        if conn.unread == Event::End {
            return Next::Close;
        }
        if Instant::now() < conn.deadline {
            conn.stage = Stage::Queued(on, place, since);
            return Next::Queue;
        }
        drop(place);
        self.resume(conn, Resumed { on, cause: Cause::NoTurn })
    }

    /// Goes on with a pending answer as far as it need not block.
    pub fn advance(&mut self, conn: &mut Connection<H::Parked>, mut pending: Pending<H::Parked>) -> Next<H::Parked> {
        if conn.unread == Event::Upstream {
            conn.unread = Event::None;
        }
        let advanced = self.with_caller(conn, pending.terms, |caller| pending.answer.advance(caller));
        let end = match advanced.unwrap_or(Advance::End(AnswerEnd::Broken)) {
            Advance::Blocks => return Next::Block(pending),
            Advance::Busy => {
                conn.stage = Stage::Pending(pending);
                return Next::Wait(Wait::Turn);
            }
            Advance::Waits { until, for_room } => {
                if !pending.is_watched
                    && let Some(upstream) = pending.answer.upstream()
                {
                    // Without memory to watch it, a thread waits for it.
                    if self.shared.poller.watch_upstream(upstream, conn.id).is_err() {
                        return Next::Block(pending);
                    }
                    pending.is_watched = true;
                }
                conn.deadline = until;
                conn.stage = Stage::Pending(pending);
                return Next::Wait(if for_room { Wait::Room } else { Wait::Bytes });
            }
            Advance::End(end) => end,
        };
        let terms = pending.terms;
        // Frees the turn before the caller can ask again.
        drop(pending);
        self.ended(conn, end, terms)
    }

    /// Acts on the end of a pending answer.
    fn ended(&mut self, conn: &mut Connection<H::Parked>, end: AnswerEnd<H::Parked>, terms: Terms) -> Next<H::Parked> {
        let more = !conn.ahead.is_empty();
        match end {
            AnswerEnd::Retry(on) => self.resume(conn, Resumed { on, cause: Cause::Woken }),
            AnswerEnd::Reply(reply) => self.conclude(conn, (Outcome::Reply(reply), terms), more),
            AnswerEnd::Complete { closes } => {
                let after = self.after(conn, terms, closes, more);
                Self::sent(conn, after)
            }
            AnswerEnd::Broken => Next::Close,
        }
    }

    /// Has a thread that may block go on with a pending answer.
    pub fn dispatch(&self, conn: Box<Connection<H::Parked>>, pending: Pending<H::Parked>) {
        let Pending { answer, turn, terms, .. } = pending;
        on_pool(&self.shared, move |driver| driver.call(conn, Work::Go(answer, terms), turn));
    }

    /// Handles a request whose turn came while it was queued.
    fn begin_queued(&mut self, mut conn: Box<Connection<H::Parked>>, turn: Turn) {
        match mem::replace(&mut conn.stage, Stage::Receiving) {
            Stage::Queued(on, place, since) => {
                drop(place);
                conn.patience = conn.patience.saturating_sub(since.elapsed());
                self.call(conn, Work::Handle(on), turn);
            }
            stage => {
                conn.stage = stage;
                self.shared.table.hand_over(conn);
            }
        }
    }

    /// Works on a request that has a turn, on a thread that may block.
    fn call(&mut self, mut conn: Box<Connection<H::Parked>>, work: Work<H::Parked>, turn: Turn) {
        let patience = conn.patience;
        let (worked, left) = turns::with_turn(turn, patience, || self.work(&mut conn, work));
        conn.patience = left;
        let next = match worked {
            Worked::Handled(result) => {
                let more = !conn.ahead.is_empty();
                self.conclude(&mut conn, result, more)
            }
            Worked::Ended(end, terms) => self.ended(&mut conn, end, terms),
            Worked::Refused(refusal) => self.refuse(&mut conn, refusal, &[]),
        };
        let next = match next {
            // Answered, and no byte of another request has been read.
            Next::Step
                if matches!(conn.stage, Stage::Receiving) && conn.ahead.is_empty() && conn.unread == Event::None =>
            {
                self.await_bytes(&mut conn)
            }
            Next::Step => Next::Wait(Wait::Turn),
            next => next,
        };
        match next {
            Next::Call(on, lane) => self.queue(conn, on, &lane),
            Next::Close => self.shared.table.close(conn),
            Next::Wait(wait) => {
                if let Some(conn) = self.shared.table.put(conn, wait) {
                    self.shared.table.hand_over(conn);
                }
            }
            // `Step` was turned into a wait above, and pending answers have run to their end.
            Next::Step | Next::Queue | Next::Begin(..) | Next::Block(_) => self.shared.table.hand_over(conn),
        }
    }

    /// Does the work of a request that has its turn.
    fn work(&mut self, conn: &mut Connection<H::Parked>, mut work: Work<H::Parked>) -> Worked<H::Parked> {
        loop {
            let (answer, terms) = match work {
                Work::Go(answer, terms) => (answer, terms),
                Work::Handle(on) => match self.replay(conn, Resumed { on, cause: Cause::Turn }) {
                    Ok((Outcome::Pending { answer, .. }, terms)) => (answer, terms),
                    Ok(handled) => return Worked::Handled(handled),
                    Err(refusal) => return Worked::Refused(refusal),
                },
            };
            match self.with_caller(conn, terms, |caller| answer.run(caller)).unwrap_or(AnswerEnd::Broken) {
                AnswerEnd::Retry(on) => work = Work::Handle(on),
                end => return Worked::Ended(end, terms),
            }
        }
    }

    /// Calls a pending answer. `None`: it panicked.
    fn with_caller<R>(
        &mut self,
        conn: &mut Connection<H::Parked>,
        terms: Terms,
        go_on: impl FnOnce(&mut CallerStream<'_>) -> R,
    ) -> Option<R> {
        let date = *self.date.at(SystemClock.unix());
        let mut caller = CallerStream {
            socket: &conn.socket,
            reader: &mut conn.reader,
            ahead: &mut conn.ahead,
            input: Vec::new(),
            continue_expected: &mut conn.expects_continue,
            limits: &self.shared.limits,
            arrival: Arrival::begin(Instant::now()),
            terms,
            is_gone: conn.unread == Event::End,
            draining: self.shared.slots.phase() >= Phase::Draining,
            date,
        };
        let result = catch_unwind(AssertUnwindSafe(|| go_on(&mut caller)));
        if result.is_err() {
            self.shared.slots.panics.fetch_add(1, Ordering::Relaxed);
        }
        result.ok()
    }
}

/// Runs this on a thread that may block.
fn on_pool<H: Handler>(shared: &Arc<Shared<H>>, work: impl FnOnce(&mut Driver<H>) + Send + 'static) {
    let own = Arc::clone(shared);
    shared.pool.run(Box::new(move || work(&mut Driver::for_call(own))));
}

/// What to do for a request that has its turn.
enum Work<P> {
    /// Handle it again.
    Handle(P),
    /// Go on with its answer.
    Go(Box<dyn PendingAnswer<P>>, Terms),
}

/// What became of a request that had its turn.
enum Worked<P> {
    Handled(Handled<P>),
    /// Never [`AnswerEnd::Retry`].
    Ended(AnswerEnd<P>, Terms),
    Refused(RequestError),
}
