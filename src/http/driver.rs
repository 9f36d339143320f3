//! Moves one connection on: reads, lets the handler judge and answer, sends. Workers do this
//! without blocking. Threads of the pool do it for requests that have a turn, and leave the rest to
//! the workers.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::acceptor::Shared;
use super::arrival::Arrival;
use super::caller::CallerStream;
use super::connection::{After, Connection, Pending, Stage, Wait};
use super::date;
use super::handler::{Advance, AnswerEnd, Cause, ConnectionId, Handler, Outcome, PendingAnswer, Resumed, Waker};
use super::head::Terms;
use super::message::{Reply, Request, RequestRecord};
use super::poller::Event;
use super::reader::{Fed, Keep, Progress};
use super::request_error::RequestError;
use super::slots::{ConnState, Phase};
use crate::clock::{Clock as _, SystemClock};
use crate::turns::{self, Lane, Requested, Turn};

/// Bytes read at once. A request that fits is handled in this buffer, without a copy.
const INPUT_BYTES: usize = 64 * 1024;
/// Requests and reads of one connection before other connections have their turn.
const STEPS: u32 = 32;

/// What comes next for a connection.
pub(super) enum Next<P> {
    /// Continue with the connection's stage.
    Step,
    Wait(Wait),
    /// The request needs a turn on this lane.
    Call(P, Lane),
    /// The same, for an answer that need not block.
    Begin(Box<dyn PendingAnswer<P>>, Lane, Terms),
    Close,
}

type Handled<P> = (Outcome<P>, Terms);

pub(super) struct Driver<H: Handler> {
    pub shared: Arc<Shared<H>>,
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    pub date: date::Cached,
    waker: Waker,
    steps: u32,
}

impl<H: Handler> Driver<H> {
    /// For a worker, which reads from connections.
    pub fn for_worker(shared: Arc<Shared<H>>) -> Self {
        Self { input: Vec::with_capacity(INPUT_BYTES), ..Self::for_call(shared) }
    }

    /// For a thread of the pool, which does not read.
    pub fn for_call(shared: Arc<Shared<H>>) -> Self {
        let waker = shared.waker();
        Self { shared, input: Vec::new(), output: Vec::new(), date: date::Cached::default(), waker, steps: 0 }
    }

    /// Moves a connection on until it has to wait.
    pub fn visit(&mut self, id: ConnectionId, event: Event) {
        let Some((mut conn, woken)) = self.shared.table.take(id, event) else { return };
        self.steps = STEPS;
        loop {
            let next = match mem::replace(&mut conn.stage, Stage::Receiving) {
                Stage::Receiving => self.receive(&mut conn),
                Stage::Parked(on) => self.resume_parked(&mut conn, on, woken),
                Stage::Queued(on, place, since) => match self.still_queued(&mut conn, on, place, since) {
                    Some(next) => next,
                    None => match self.shared.table.enqueue(conn) {
                        Some((conn, turn)) => return self.dispatch_queued(conn, turn),
                        None => return,
                    },
                },
                Stage::Pending(pending) => match self.advance(&mut conn, pending) {
                    Ok(next) => next,
                    Err(pending) => return self.dispatch(conn, Work::Go(pending.answer, pending.terms), pending.turn),
                },
                Stage::Unread(place, since) => self.resume_unread(&mut conn, place, since, woken),
                Stage::Sending(unsent, after) => self.send_more(&mut conn, unsent, after),
                Stage::Lingering(left) => self.linger(&mut conn, left),
            };
            match next {
                Next::Step => {}
                Next::Wait(wait) => match self.shared.table.put(conn, wait) {
                    Some(back) => conn = back,
                    None => return,
                },
                Next::Call(on, lane) => return self.queue(conn, on, &lane),
                Next::Begin(answer, lane, terms) => match self.begin(conn, answer, &lane, terms) {
                    Some(back) => conn = back,
                    None => return,
                },
                Next::Close => return self.shared.table.close(conn),
            }
        }
    }

    /// Uses up one of the connection's steps. False if none is left.
    pub fn has_step(&mut self) -> bool {
        self.steps = self.steps.saturating_sub(1);
        self.steps > 0
    }

    /// Reads and handles requests until the socket has no more bytes.
    fn receive(&mut self, conn: &mut Connection<H::Parked>) -> Next<H::Parked> {
        let mut input = mem::take(&mut self.input);
        input.clear();
        if !conn.ahead.is_empty() {
            input.extend_from_slice(&mem::take(&mut conn.ahead));
        }
        let mut at = 0;
        let next = loop {
            if at == input.len() {
                input.clear();
                at = 0;
                if conn.unread == Event::None {
                    break self.await_bytes(conn);
                }
                match conn.socket.receive(&mut input) {
                    // A read that does not fill the buffer has emptied the socket. Later bytes
                    // raise a new event.
                    Ok(Some(1..)) if input.len() < input.capacity() && conn.unread == Event::Ready => {
                        conn.unread = Event::None;
                    }
                    Ok(Some(1..)) => {}
                    Ok(None) => {
                        conn.unread = Event::None;
                        continue;
                    }
                    // The rest of this request will never arrive, so no answer is due.
                    Ok(Some(0)) | Err(_) => break Next::Close,
                }
            }
            match self.take_in(conn, &input[at..]) {
                (used, Next::Step) if matches!(conn.stage, Stage::Receiving) => at += used,
                (used, next) => {
                    at += used;
                    break next;
                }
            }
            if !self.has_step() {
                break Next::Wait(Wait::Turn);
            }
        };
        if at < input.len() && !matches!(conn.stage, Stage::Lingering(_)) {
            conn.ahead.extend_from_slice(&input[at..]);
        }
        self.input = input;
        next
    }

    /// Feeds the reader up to the end of a head or a request. Returns the bytes used.
    fn take_in(&mut self, conn: &mut Connection<H::Parked>, input: &[u8]) -> (usize, Next<H::Parked>) {
        let now = Instant::now();
        match conn.reader.progress() {
            Progress::Nothing => {
                conn.record = RequestRecord::new(now);
                conn.patience = self.shared.limits.queue_timeout;
            }
            Progress::Body => {
                if let Err(size) = conn.reader.reserve(input.len(), &self.shared.limits) {
                    return (0, self.await_memory(conn, size, now));
                }
            }
            Progress::Head | Progress::Whole => {}
        }
        self.begin_call(conn);
        let Connection { reader, peer, record, .. } = conn;
        let (shared, waker) = (&self.shared, &self.waker);
        let fed = reader.feed(input, &shared.limits, |head, body| {
            (handle(shared, &head.request(body, *peer, record), waker, None), head.terms)
        });
        match fed {
            Err(refusal) => (input.len(), self.refuse(conn, refusal, input)),
            Ok(Fed::Request { used, head, result }) => {
                if !matches!(result.0, Outcome::Reply(_)) {
                    conn.reader.keep(&input[..used], head);
                }
                (used, self.conclude(conn, result, used < input.len()))
            }
            Ok(Fed::Head { used, result, continue_expected }) => {
                conn.expects_continue = continue_expected;
                let is_answered = matches!(result.0, Outcome::Reply(_));
                let used = used + if is_answered { conn.reader.skip(&input[used..], &self.shared.limits) } else { 0 };
                (used, self.conclude(conn, result, used < input.len()))
            }
            Ok(Fed::More) => {
                conn.deadline = match conn.reader.progress() {
                    Progress::Body => {
                        conn.body_received += input.len() as u64;
                        conn.body_progress = now;
                        self.body_deadline(conn, now)
                    }
                    _ => conn.record.received + self.shared.limits.head_timeout,
                };
                (input.len(), if now >= conn.deadline { self.overdue(conn) } else { Next::Step })
            }
        }
    }

    /// Numbers the call of the handler that follows, and points the waker at it.
    fn begin_call(&mut self, conn: &mut Connection<H::Parked>) {
        conn.call += 1;
        self.shared.slots.working(conn.id, ConnState::Handling);
        self.waker.id = conn.id;
        self.waker.call = conn.call;
    }

    /// When the body has to be checked again, or is overdue.
    fn body_deadline(&self, conn: &mut Connection<H::Parked>, now: Instant) -> Instant {
        let holds_memory = conn.reader.reservation().is_some_and(|reservation| reservation.is_counted());
        let body = Arrival {
            began: conn.body_began,
            progress: conn.body_progress,
            received: conn.body_received,
            holds_memory,
        };
        body.deadline(self.shared.limits.body_timeout, holds_memory && self.shared.memory.is_short(), now)
    }

    /// Sets the deadline for more bytes, after the socket has run dry.
    pub fn await_bytes(&mut self, conn: &mut Connection<H::Parked>) -> Next<H::Parked> {
        let now = Instant::now();
        match conn.reader.progress() {
            Progress::Nothing => {
                conn.deadline = conn.waiting_since + self.shared.limits.idle_timeout;
                if self.shared.slots.phase() >= Phase::Finishing {
                    return Next::Close;
                }
            }
            Progress::Body => conn.deadline = self.body_deadline(conn, now),
            Progress::Head | Progress::Whole => {}
        }
        if now >= conn.deadline { self.overdue(conn) } else { Next::Wait(Wait::Bytes) }
    }

    fn overdue(&mut self, conn: &mut Connection<H::Parked>) -> Next<H::Parked> {
        match conn.reader.progress() {
            Progress::Nothing => Next::Close,
            Progress::Head => self.refuse(conn, RequestError::HeadTimeout, &[]),
            Progress::Body | Progress::Whole => self.refuse(conn, RequestError::BodyTimeout, &[]),
        }
    }

    /// Reads the body, as soon as there is memory for it.
    fn expect_body(&mut self, conn: &mut Connection<H::Parked>, keep: Keep) -> Next<H::Parked> {
        let now = Instant::now();
        (conn.body_began, conn.body_progress, conn.body_received) = (now, now, 0);
        let declared = conn.reader.declared().filter(|_| keep != Keep::No);
        conn.reader.expect(keep, self.shared.memory.nothing());
        match conn.reader.reserve(declared.unwrap_or(0), &self.shared.limits) {
            Ok(()) => Self::invite_body(conn),
            Err(size) => self.await_memory(conn, size, now),
        }
    }

    /// Sends `100 Continue` to a caller that waits for it.
    fn invite_body(conn: &mut Connection<H::Parked>) -> Next<H::Parked> {
        let invited = mem::take(&mut conn.expects_continue);
        if invited && conn.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n", &[]).is_err() {
            return Next::Close;
        }
        Next::Step
    }

    /// Stops reading the body until `size` bytes of memory are free.
    fn await_memory(&mut self, conn: &mut Connection<H::Parked>, size: usize, since: Instant) -> Next<H::Parked> {
        self.begin_call(conn);
        let waker = self.waker.clone();
        let Some(reservation) = conn.reader.reservation() else { return Next::Close };
        let place = reservation.wait(size, move || waker.wake());
        conn.wanted_memory = size;
        conn.deadline = since + conn.patience;
        conn.stage = Stage::Unread(place, since);
        Next::Wait(Wait::Wake)
    }

    fn resume_unread(
        &mut self,
        conn: &mut Connection<H::Parked>,
        place: crate::memory::Place,
        since: Instant,
        woken: bool,
    ) -> Next<H::Parked> {
        let now = Instant::now();
        if woken {
            drop(place);
            let size = conn.wanted_memory;
            let grown = conn.reader.reservation().is_some_and(|reservation| reservation.grow_in_turn(size));
            if grown {
                conn.patience = conn.patience.saturating_sub(now - since);
                // The body was not read during this time, so it does not count against its rate.
                conn.body_began += now - since;
                conn.body_progress = now;
                return Self::invite_body(conn);
            }
            if now < conn.deadline {
                return self.await_memory(conn, size, since);
            }
        } else if conn.unread == Event::End {
            return Next::Close;
        } else if now < conn.deadline {
            conn.stage = Stage::Unread(place, since);
            return Next::Wait(Wait::Wake);
        }
        self.refuse(conn, RequestError::NoMemory, &[])
    }

    /// Handles a parked request again if it was woken or is overdue.
    fn resume_parked(&mut self, conn: &mut Connection<H::Parked>, on: H::Parked, woken: bool) -> Next<H::Parked> {
        if !woken && Instant::now() < conn.deadline {
            conn.stage = Stage::Parked(on);
            return Next::Wait(Wait::Wake);
        }
        self.resume(conn, Resumed { on, cause: if woken { Cause::Woken } else { Cause::Overdue } })
    }

    /// Handles a kept request again.
    fn resume(&mut self, conn: &mut Connection<H::Parked>, resumed: Resumed<H::Parked>) -> Next<H::Parked> {
        match self.replay(conn, resumed) {
            Ok(result) => {
                let more = !conn.ahead.is_empty();
                self.conclude(conn, result, more)
            }
            Err(refusal) => self.refuse(conn, refusal, &[]),
        }
    }

    fn replay(
        &mut self,
        conn: &mut Connection<H::Parked>,
        resumed: Resumed<H::Parked>,
    ) -> Result<Handled<H::Parked>, RequestError> {
        self.begin_call(conn);
        let (shared, waker) = (&self.shared, &self.waker);
        conn.reader.replay(|head, body| {
            (handle(shared, &head.request(body, conn.peer, &conn.record), waker, Some(resumed)), head.terms)
        })
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
            let end = self.with_caller(conn, terms, |caller| answer.run(caller)).unwrap_or(AnswerEnd::Broken);
            match end {
                AnswerEnd::Retry(on) => work = Work::Handle(on),
                AnswerEnd::Reply(reply) => return Worked::Handled((Outcome::Reply(reply), terms)),
                AnswerEnd::Complete { closes } => return Worked::Streamed(terms, closes),
                AnswerEnd::Broken => return Worked::Broken,
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
        let Connection { socket, reader, ahead, expects_continue, unread, .. } = &mut *conn;
        let mut caller = CallerStream::new((socket, reader), ahead, expects_continue, &self.shared.limits, terms, date);
        caller.is_gone = *unread == Event::End;
        caller.draining = self.shared.slots.phase() >= Phase::Draining;
        let result = catch_unwind(AssertUnwindSafe(|| go_on(&mut caller)));
        if result.is_err() {
            self.shared.slots.panics.fetch_add(1, Ordering::Relaxed);
        }
        result.ok()
    }

    /// Goes on with a pending answer as far as it need not block. `Err`: from here on it has to.
    fn advance(
        &mut self,
        conn: &mut Connection<H::Parked>,
        mut pending: Pending<H::Parked>,
    ) -> Result<Next<H::Parked>, Pending<H::Parked>> {
        if conn.unread == Event::Upstream {
            conn.unread = Event::None;
        }
        let advanced = self.with_caller(conn, pending.terms, |caller| pending.answer.advance(caller));
        let end = match advanced.unwrap_or(Advance::End(AnswerEnd::Broken)) {
            Advance::Blocks => return Err(pending),
            Advance::Busy => {
                conn.stage = Stage::Pending(pending);
                return Ok(Next::Wait(Wait::Turn));
            }
            Advance::Waits { until, for_room } => {
                if !pending.is_watched
                    && let Some(upstream) = pending.answer.upstream()
                {
                    // Without memory to watch it, a thread waits for it.
                    if self.shared.poller.watch_upstream(upstream, conn.id).is_err() {
                        return Err(pending);
                    }
                    pending.is_watched = true;
                }
                conn.deadline = until;
                conn.stage = Stage::Pending(pending);
                return Ok(Next::Wait(if for_room { Wait::Room } else { Wait::Bytes }));
            }
            Advance::End(end) => end,
        };
        let terms = pending.terms;
        // Frees the turn before the caller can ask again.
        drop(pending);
        let more = !conn.ahead.is_empty();
        Ok(match end {
            AnswerEnd::Retry(on) => self.resume(conn, Resumed { on, cause: Cause::Woken }),
            AnswerEnd::Reply(reply) => self.conclude(conn, (Outcome::Reply(reply), terms), more),
            AnswerEnd::Complete { closes } => {
                let after = self.after(conn, terms, closes, more);
                Self::sent(conn, after)
            }
            AnswerEnd::Broken => Next::Close,
        })
    }

    /// Forgets the present request and says what follows its answer.
    fn after(&self, conn: &mut Connection<H::Parked>, terms: Terms, close: bool, more: bool) -> After {
        let unread_body = conn.reader.progress() == Progress::Body;
        conn.reader.finish();
        if !unread_body && !terms.keep_alive && !more && conn.unread == Event::None {
            After::Close
        } else if unread_body || close || !terms.keep_alive || self.shared.slots.phase() >= Phase::Draining {
            After::Linger
        } else {
            After::Next
        }
    }

    /// Acts on the handler's outcome. `more`: bytes of a further request have been read.
    fn conclude(
        &mut self,
        conn: &mut Connection<H::Parked>,
        result: Handled<H::Parked>,
        more: bool,
    ) -> Next<H::Parked> {
        match result {
            (Outcome::NeedsBody(keep), _) => self.expect_body(conn, keep),
            (Outcome::Park { on, until }, _) => {
                conn.stage = Stage::Parked(on);
                conn.deadline = until;
                Next::Wait(Wait::Wake)
            }
            (Outcome::Call { on, lane }, _) => Next::Call(on, lane),
            (Outcome::Pending { answer, lane }, terms) => Next::Begin(answer, lane, terms),
            (Outcome::Reply(reply), terms) => {
                let after = self.after(conn, terms, reply.close, more);
                self.send(conn, reply, terms, after)
            }
        }
    }

    /// Gets a turn for the request, or a place in the lane's queue.
    fn queue(&mut self, mut conn: Box<Connection<H::Parked>>, on: H::Parked, lane: &Lane) {
        match self.request_turn(&mut conn, lane) {
            Requested::Granted(turn) => self.dispatch(conn, Work::Handle(on), turn),
            Requested::Queued(place) => self.enqueue(conn, on, place),
        }
    }

    /// Gets a turn for an answer that need not block, and returns the connection. `None`: it waits for its turn.
    fn begin(
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
            Requested::Queued(place) => self.enqueue(conn, answer.into_parked(), place),
        }
        None
    }

    fn request_turn(&mut self, conn: &mut Connection<H::Parked>, lane: &Lane) -> Requested {
        self.begin_call(conn);
        let (id, call, shared) = (conn.id, conn.call, Arc::clone(&self.shared));
        let granted = move |turn| {
            let pool = Arc::clone(&shared.pool);
            pool.run(Box::new(move || {
                if let Some((conn, turn)) = shared.table.begin(id, call, turn) {
                    Driver::for_call(shared).begin_queued(conn, turn);
                }
            }));
        };
        self.shared.turns.request(lane, granted)
    }

    fn enqueue(&self, mut conn: Box<Connection<H::Parked>>, on: H::Parked, place: turns::Place) {
        let now = Instant::now();
        conn.deadline = now + conn.patience;
        conn.stage = Stage::Queued(on, place, now);
        if let Some((conn, turn)) = self.shared.table.enqueue(conn) {
            self.dispatch_queued(conn, turn);
        }
    }

    /// Handles an event or a timeout of a queued request. `None` leaves it in the queue.
    fn still_queued(
        &mut self,
        conn: &mut Connection<H::Parked>,
        on: H::Parked,
        place: turns::Place,
        since: Instant,
    ) -> Option<Next<H::Parked>> {
        // The caller closed its end before any work was done, so none is done.
        if conn.unread == Event::End {
            return Some(Next::Close);
        }
        if Instant::now() < conn.deadline {
            conn.stage = Stage::Queued(on, place, since);
            return None;
        }
        drop(place);
        Some(self.resume(conn, Resumed { on, cause: Cause::NoTurn }))
    }

    fn dispatch(&self, conn: Box<Connection<H::Parked>>, work: Work<H::Parked>, turn: Turn) {
        let shared = Arc::clone(&self.shared);
        self.shared.pool.run(Box::new(move || Driver::for_call(shared).call(conn, work, turn)));
    }

    fn dispatch_queued(&self, conn: Box<Connection<H::Parked>>, turn: Turn) {
        let shared = Arc::clone(&self.shared);
        self.shared.pool.run(Box::new(move || Driver::for_call(shared).begin_queued(conn, turn)));
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
        let more = !conn.ahead.is_empty();
        let next = match worked {
            Worked::Handled(result) => self.conclude(&mut conn, result, more),
            Worked::Streamed(terms, closes) => {
                let after = self.after(&mut conn, terms, closes, more);
                Self::sent(&mut conn, after)
            }
            Worked::Broken => Next::Close,
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
            Next::Step | Next::Begin(..) => self.shared.table.hand_over(conn),
        }
    }
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
    /// The whole answer was streamed; the flag says whether its head said `Connection: close`.
    Streamed(Terms, bool),
    /// Its answer cannot be completed.
    Broken,
    Refused(RequestError),
}

/// Calls the handler. A panic is counted and answered. It closes the connection, and the thread
/// goes on.
fn handle<H: Handler>(
    shared: &Shared<H>,
    request: &Request<'_>,
    waker: &Waker,
    resumed: Option<Resumed<H::Parked>>,
) -> Outcome<H::Parked> {
    catch_unwind(AssertUnwindSafe(|| shared.handler.handle(request, waker, resumed))).unwrap_or_else(|_| {
        shared.slots.panics.fetch_add(1, Ordering::Relaxed);
        let mut reply = catch_unwind(AssertUnwindSafe(|| shared.handler.panicked())).unwrap_or(Reply::new(500));
        reply.close = true;
        Outcome::Reply(reply)
    })
}
