//! A worker: waits on the epoll, takes the connection that is ready, moves it on as far as it goes without
//! blocking, and puts it back. Only the handler may block it.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::board::{Phase, State};
use super::conn::{After, Conn, Stage, Wait};
use super::date;
use super::gate::Shared;
use super::handler::{Handler, Outcome, Resumed, Token, Waker};
use super::head::Terms;
use super::intake::{Fed, Progress};
use super::message::{Reply, Request};
use super::poller::{Event, Ready};
use super::refusal::Refusal;

/// Read at once; a request that fits is handled where it lies.
const INPUT_BYTES: usize = 64 * 1024;
/// Requests and reads of one connection before the others have their turn.
const STEPS: u32 = 32;

/// What comes next for a connection that a worker has.
pub(super) enum Next {
    /// What its stage says.
    Step,
    /// Nothing until this.
    Wait(Wait),
    Close,
}

pub(super) struct Worker<H: Handler> {
    pub shared: Arc<Shared<H>>,
    number: usize,
    pub input: Vec<u8>,
    pub output: Vec<u8>,
    pub date: date::Cached,
    waker: Waker,
    steps: u32,
}

impl<H: Handler> Worker<H> {
    pub fn new(shared: Arc<Shared<H>>, number: usize) -> Self {
        let waker = shared.waker();
        Self {
            shared,
            number,
            input: Vec::with_capacity(INPUT_BYTES),
            output: Vec::new(),
            date: date::Cached::default(),
            waker,
            steps: 0,
        }
    }

    pub fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut events = Vec::with_capacity(1);
        while shared.board.phase() != Phase::Stopped {
            shared.board.crew.report();
            let ready = shared.poller.wait(&mut events);
            if shared.board.crew.begin_turn(self.number) {
                shared.wake_keeper();
            }
            match ready {
                Ready::Connection(token, event) => self.visit(token, event),
                Ready::Visit(token) => self.visit(token, Event::Ready),
                Ready::Listener(number) => shared.accept(number),
                Ready::Nothing => {}
            }
            shared.board.crew.end_turn(self.number);
        }
        // The bell woke this one alone.
        shared.poller.ring();
        shared.worker_ended();
    }

    fn visit(&mut self, token: Token, event: Event) {
        let Some((mut conn, woken)) = self.shared.table.take(token, event) else { return };
        self.steps = STEPS;
        loop {
            let next = match mem::replace(&mut conn.stage, Stage::Receiving) {
                Stage::Receiving => self.receive(&mut conn),
                Stage::Parked(on) => self.resume(&mut conn, on, woken),
                Stage::Sending(unsent, after) => self.send_more(&mut conn, unsent, after),
                Stage::Lingering(left) => self.linger(&mut conn, left),
            };
            match next {
                Next::Step => {}
                Next::Wait(wait) => match self.shared.table.put(conn, wait) {
                    Some(back) => conn = back,
                    None => return,
                },
                Next::Close => return self.shared.table.close(conn),
            }
        }
    }

    /// Takes one of the connection's steps: whether there was one left.
    pub fn has_step(&mut self) -> bool {
        self.steps = self.steps.saturating_sub(1);
        self.steps > 0
    }

    /// Reads, and handles what is complete, until the socket has no more.
    fn receive(&mut self, conn: &mut Conn<H::Parked>) -> Next {
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
                    // What did not fill the buffer was all; what comes later is another event.
                    Ok(Some(1..)) if input.len() < input.capacity() && conn.unread == Event::Ready => {
                        conn.unread = Event::None;
                    }
                    Ok(Some(1..)) => {}
                    Ok(None) => {
                        conn.unread = Event::None;
                        continue;
                    }
                    // What is incomplete now stays so, and nobody waits for an answer to it.
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

    /// Takes in what has arrived, up to the end of one request: how much that was.
    fn take_in(&mut self, conn: &mut Conn<H::Parked>, input: &[u8]) -> (usize, Next) {
        let now = Instant::now();
        if conn.intake.progress() == Progress::Nothing {
            conn.first_byte = now;
        }
        conn.call += 1;
        self.shared.board.working(conn.token, State::Handling);
        let Conn { intake, peer, first_byte, token, call, .. } = conn;
        self.waker.token = *token;
        self.waker.call = *call;
        let (shared, waker) = (&self.shared, &self.waker);
        let fed = intake.feed(input, &shared.limits, |head, body| {
            (handle(shared, &head.request(body, *peer, *first_byte), waker, None), head.terms)
        });
        match fed {
            Err(refusal) => (input.len(), self.refuse(conn, refusal)),
            Ok(Fed::Request { used, head, result }) => {
                if matches!(result.0, Outcome::Park { .. }) {
                    conn.intake.keep(&input[..used], head);
                }
                (used, self.conclude(conn, result, used < input.len()))
            }
            Ok(Fed::More { continue_expected }) => {
                if continue_expected && conn.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n", &[]).is_err() {
                    return (input.len(), Next::Close);
                }
                conn.deadline = match conn.intake.progress() {
                    Progress::Body => now + self.shared.limits.body_timeout,
                    _ => conn.first_byte + self.shared.limits.head_timeout,
                };
                (input.len(), if now >= conn.deadline { self.overdue(conn) } else { Next::Step })
            }
        }
    }

    /// The socket has nothing more for now.
    fn await_bytes(&mut self, conn: &mut Conn<H::Parked>) -> Next {
        if conn.intake.progress() == Progress::Nothing {
            conn.deadline = conn.waiting_since + self.shared.limits.idle_timeout;
            if self.shared.board.phase() >= Phase::Finishing {
                return Next::Close;
            }
        }
        if Instant::now() >= conn.deadline { self.overdue(conn) } else { Next::Wait(Wait::Bytes) }
    }

    fn overdue(&mut self, conn: &mut Conn<H::Parked>) -> Next {
        match conn.intake.progress() {
            Progress::Nothing => Next::Close,
            Progress::Head => self.refuse(conn, Refusal::HeadTimeout),
            Progress::Body => self.refuse(conn, Refusal::BodyTimeout),
        }
    }

    /// Handles a parked request again, if its time has come.
    fn resume(&mut self, conn: &mut Conn<H::Parked>, on: H::Parked, woken: bool) -> Next {
        if !woken && Instant::now() < conn.deadline {
            conn.stage = Stage::Parked(on);
            return Next::Wait(Wait::Wake);
        }
        let resumed = Resumed { on, overdue: !woken };
        conn.call += 1;
        self.shared.board.working(conn.token, State::Handling);
        self.waker.token = conn.token;
        self.waker.call = conn.call;
        let (shared, waker) = (&self.shared, &self.waker);
        let result = conn.intake.replay(|head, body| {
            (handle(shared, &head.request(body, conn.peer, conn.first_byte), waker, Some(resumed)), head.terms)
        });
        match result {
            Ok(result) => {
                let more = !conn.ahead.is_empty();
                self.conclude(conn, result, more)
            }
            Err(refusal) => self.refuse(conn, refusal),
        }
    }

    /// Does what the handler said. `more`: bytes of a further request are here already.
    fn conclude(&mut self, conn: &mut Conn<H::Parked>, result: (Outcome<H::Parked>, Terms), more: bool) -> Next {
        match result {
            (Outcome::Park { on, until }, _) => {
                conn.stage = Stage::Parked(on);
                conn.deadline = until;
                Next::Wait(Wait::Wake)
            }
            (Outcome::Reply(reply), terms) => {
                conn.intake.finish();
                let after = if !terms.keep_alive && !more && conn.unread == Event::None {
                    After::Close
                } else if reply.close || !terms.keep_alive || self.shared.board.phase() >= Phase::Draining {
                    After::Linger
                } else {
                    After::Next
                };
                self.send(conn, reply, terms, after)
            }
        }
    }
}

/// Calls the handler. A panic in it is counted and answered, and costs the connection, not the worker.
fn handle<H: Handler>(
    shared: &Shared<H>,
    request: &Request<'_>,
    waker: &Waker,
    resumed: Option<Resumed<H::Parked>>,
) -> Outcome<H::Parked> {
    catch_unwind(AssertUnwindSafe(|| shared.handler.handle(request, waker, resumed))).unwrap_or_else(|_| {
        shared.board.panics.fetch_add(1, Ordering::Relaxed);
        let mut reply = catch_unwind(AssertUnwindSafe(|| shared.handler.panicked())).unwrap_or(Reply::new(500));
        reply.close = true;
        Outcome::Reply(reply)
    })
}
