//! Moves one connection on: reads, and lets the handler judge and answer. Workers do this without
//! blocking.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::acceptor::Shared;
use super::arrival::Arrival;
use super::connection::{After, Connection, Pending, Stage, Wait};
use super::date;
use super::handler::{Cause, ConnectionId, Handler, Outcome, PendingAnswer, Resumed, Waker};
use super::head::Terms;
use super::message::{Reply, Request, RequestRecord};
use super::poller::Event;
use super::reader::{Fed, Keep, Progress};
use super::request_error::RequestError;
use super::slots::{ConnState, Phase};
use crate::turns::Lane;

/// Bytes read at once. A request that fits is handled in this buffer, without a copy.
const INPUT_BYTES: usize = 64 * 1024;
/// Requests and reads of one connection before other connections have their turn.
const STEPS: u32 = 32;

pub(super) enum Next<P> {
    /// Continue with the connection's stage.
    Step,
    Wait(Wait),
    /// Wait for a turn, in the queue of its lane.
    Queue,
    /// The request needs a turn on this lane.
    Call(P, Lane),
    /// The same, for an answer that need not block.
    Begin(Box<dyn PendingAnswer<P>>, Lane, Terms),
    /// From here on the answer may have to block.
    Block(Pending<P>),
    Close,
}

pub(super) type Handled<P> = (Outcome<P>, Terms);

pub(super) struct Driver<H: Handler> {
    pub shared: Arc<Shared<H>>,
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    pub date: date::Cached,
    pub waker: Waker,
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
                Stage::Queued(on, place, since) => self.still_queued(&mut conn, on, place, since),
                Stage::Pending(pending) => self.advance(&mut conn, pending),
                Stage::Unread(place, size, since) => self.resume_unread(&mut conn, place, size, since, woken),
                Stage::Sending(unsent, after) => self.send_more(&mut conn, unsent, after),
                Stage::Lingering(left) => self.linger(&mut conn, left),
            };
            match next {
                Next::Step => {}
                Next::Wait(wait) => match self.shared.table.put(conn, wait) {
                    Some(back) => conn = back,
                    None => return,
                },
                Next::Queue => return self.enqueue(conn),
                Next::Call(on, lane) => return self.queue(conn, on, &lane),
                Next::Begin(answer, lane, terms) => match self.begin(conn, answer, &lane, terms) {
                    Some(back) => conn = back,
                    None => return,
                },
                Next::Block(pending) => return self.dispatch(conn, pending),
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
                        conn.arrival.receive(input.len(), now);
                        self.body_deadline(conn, now)
                    }
                    _ => conn.record.received + self.shared.limits.head_timeout,
                };
                (input.len(), if now >= conn.deadline { self.overdue(conn) } else { Next::Step })
            }
        }
    }

    /// Numbers the call of the handler that follows, and points the waker at it.
    pub fn begin_call(&mut self, conn: &mut Connection<H::Parked>) {
        conn.call += 1;
        self.shared.slots.working(conn.id, ConnState::Handling);
        self.waker.id = conn.id;
        self.waker.call = conn.call;
    }

    /// When the body has to be checked again, or is overdue.
    fn body_deadline(&self, conn: &mut Connection<H::Parked>, now: Instant) -> Instant {
        let holds_memory = conn.reader.reservation().is_some_and(|reservation| reservation.is_counted());
        let others_wait = holds_memory && self.shared.memory.is_short();
        conn.arrival.deadline(self.shared.limits.body_timeout, holds_memory, others_wait, now)
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
        conn.arrival = Arrival::begin(now);
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
        conn.deadline = since + conn.patience;
        conn.stage = Stage::Unread(place, size, since);
        Next::Wait(Wait::Wake)
    }

    fn resume_unread(
        &mut self,
        conn: &mut Connection<H::Parked>,
        place: crate::memory::Place,
        size: usize,
        since: Instant,
        woken: bool,
    ) -> Next<H::Parked> {
        let now = Instant::now();
        if woken {
            drop(place);
            let grown = conn.reader.reservation().is_some_and(|reservation| reservation.grow_in_turn(size));
            if grown {
                conn.patience = conn.patience.saturating_sub(now - since);
                conn.arrival.excuse(now - since, now);
                return Self::invite_body(conn);
            }
            if now < conn.deadline {
                return self.await_memory(conn, size, since);
            }
        } else if conn.unread == Event::End {
            return Next::Close;
        } else if now < conn.deadline {
            conn.stage = Stage::Unread(place, size, since);
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

    pub fn resume(&mut self, conn: &mut Connection<H::Parked>, resumed: Resumed<H::Parked>) -> Next<H::Parked> {
        match self.replay(conn, resumed) {
            Ok(result) => {
                let more = !conn.ahead.is_empty();
                self.conclude(conn, result, more)
            }
            Err(refusal) => self.refuse(conn, refusal, &[]),
        }
    }

    pub fn replay(
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

    /// Forgets the present request and says what follows its answer.
    pub fn after(&self, conn: &mut Connection<H::Parked>, terms: Terms, close: bool, more: bool) -> After {
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
    pub fn conclude(
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
