//! Moves the bytes of a proxied request in both directions at once, with at most 64 KiB of buffers. It reads more from one
//! side only after the last piece has left on the other, so a slow side slows the other one down. It never blocks, apart
//! from [`Pump::run`], which waits for both sides where a thread may do so.

use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::{Zeroize as _, Zeroizing};

use super::outbox::{self, Outbox};
use crate::http::{self, BodyRead, CallerStream, RequestError};
use crate::metrics::Metrics;
use crate::outbound::forwarding::{AnswerBody, AnswerHead, BodyFraming, LinkRewrite, TWO_ENDS};
use crate::outbound::{OutError, OutResponse, UpstreamConnection, UreqExchange, claims_challenge};
use crate::value::chunked::{Bounds, ChunkError};

/// Bytes read at once of an answer with a length.
const PIECE: usize = 48 * 1024;
/// Bytes of an answer's head at most, and read at once of an answer without a length.
const INPUT: usize = 32 * 1024;
/// Bytes that an answer's head gains at most, but for longer links.
const ADDED: usize = 512;
/// Attempts to write within `WriteTimeout`. The kernel reports room only once a third of its buffer is free, and less than
/// that is progress too.
const ATTEMPTS: u32 = 8;

/// Moves before other connections have their turn.
const TURNS: u32 = 32;
/// The cause of an answer that is not complete.
const CUT: &str = "the connection was closed before the end of the answer";

/// The parameters of one exchange.
pub struct Terms {
    /// The framing of the request's body.
    pub framing: BodyFraming,
    /// Whether the request is HEAD, whose answer has no body.
    pub bodiless: bool,
    /// How links in the answer are rewritten.
    pub links: LinkRewrite,
    /// Added to an answer without one.
    pub correlation_id: String,
    /// A field line added to the answer, or nothing.
    pub further: String,
    /// Whether a claims challenge stops the exchange instead of being forwarded.
    pub may_challenge: bool,
    /// `ProxyFirstByteTimeout`.
    pub first_byte: Duration,
    /// `ProxyIdleTimeout`.
    pub idle: Duration,
    /// Counts the bytes.
    pub metrics: Arc<Metrics>,
    /// Keeps the connection for the next request.
    pub connections: Arc<UreqExchange>,
}

/// How far an exchange has come.
#[derive(Debug)]
pub enum Flow {
    /// To its end.
    Whole,
    /// The API wants a token with these claims. Nothing was forwarded.
    Challenged(String),
    /// It waits for either side.
    Waits,
    /// There is more to do at once.
    Busy,
}

/// Why an exchange did not complete.
#[derive(Debug)]
pub enum Stop {
    /// The caller closed the connection or stopped reading.
    Caller,
    /// The request's body is malformed or too slow.
    Refused(RequestError),
    /// The API broke off or was too slow, its answer is not valid HTTP, or a forward proxy answered instead.
    Failed(OutError),
}

/// One exchange with an API.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about either side")]
pub struct Pump {
    pub terms: Terms,
    /// `None` once it may serve another request.
    connection: Option<UpstreamConnection>,
    /// Whether it had served a request before.
    reused: bool,
    limits: http::Limits,
    up: Outbox,
    down: Outbox,
    /// Bytes of the answer that have not been parsed yet.
    inbox: Vec<u8>,
    /// `None` until its head has arrived.
    answer: Option<AnswerBody>,
    /// Whether the answer is sent in chunks.
    chunked: bool,
    /// The answer's status, once its head has arrived.
    pub status: Option<u16>,
    /// Whether any bytes of the answer have arrived.
    heard: bool,
    /// Whether any bytes of it were sent to the caller.
    pub begun: bool,
    /// Whether any bytes of the request's body were read.
    body_begun: bool,
    body_done: bool,
    /// Whether the API has stopped reading the body.
    deaf: bool,
    /// Whether each side may have something to read.
    caller_ready: bool,
    api_ready: bool,
    persists: bool,
    closes: bool,
    /// When the last byte of the request was sent.
    sent_at: Option<Instant>,
    /// When each direction last made progress.
    up_since: Instant,
    down_since: Instant,
    heard_at: Instant,
}

impl Pump {
    /// Starts with the head of the request, or, if that was sent before, with the answer received so far.
    pub fn new(
        caller: &mut CallerStream<'_>,
        terms: Terms,
        connection: UpstreamConnection,
        head: Zeroizing<Vec<u8>>,
        begun: Vec<u8>,
    ) -> Self {
        let now = Instant::now();
        caller.invite();
        Self {
            reused: connection.reused,
            connection: Some(connection),
            limits: caller.limits().clone(),
            up: Outbox::new(head),
            down: Outbox::default(),
            api_ready: !begun.is_empty(),
            heard: !begun.is_empty(),
            inbox: begun,
            answer: None,
            chunked: false,
            status: None,
            begun: false,
            body_begun: false,
            body_done: matches!(terms.framing, BodyFraming::None | BodyFraming::Length(0)),
            deaf: false,
            caller_ready: true,
            persists: false,
            closes: false,
            sent_at: None,
            up_since: now,
            down_since: now,
            heard_at: now,
            terms,
        }
    }

    /// Runs the exchange to its end. Blocks.
    pub fn run(&mut self, caller: &mut CallerStream<'_>) -> Result<Flow, Stop> {
        loop {
            match self.advance(caller)? {
                Flow::Waits => self.wait(caller)?,
                Flow::Busy => {}
                ended => return Ok(ended),
            }
        }
    }

    /// Takes another look at both sides, of which either may be ready.
    pub fn resume(&mut self, caller: &mut CallerStream<'_>) -> Result<Flow, Stop> {
        (self.api_ready, self.caller_ready) = (true, true);
        match self.advance(caller)? {
            Flow::Waits if caller.is_gone => Err(Stop::Caller),
            Flow::Waits if Instant::now() >= self.due(caller) => Err(self.overdue(caller)),
            flow => Ok(flow),
        }
    }

    /// Moves what can be moved without waiting, within reason.
    pub fn advance(&mut self, caller: &mut CallerStream<'_>) -> Result<Flow, Stop> {
        // Interim answers are not what was waited for.
        if self.answer.is_none() && self.sent_at.is_some_and(|sent| sent.elapsed() >= self.terms.first_byte) {
            return Err(self.timeout());
        }
        for _ in 0..TURNS {
            let mut moved = self.send_up(caller) | self.take_body(caller)? | self.send_down(caller)?;
            match self.take_answer(caller)? {
                Taken::Nothing => {}
                Taken::Some => (moved, self.heard_at) = (true, Instant::now()),
                Taken::Challenge(claims) => return Ok(Flow::Challenged(claims)),
            }
            if self.answer.as_ref().is_some_and(AnswerBody::is_done) {
                self.release();
                if self.down.is_empty() {
                    self.give_back();
                    return Ok(Flow::Whole);
                }
            }
            if !moved {
                self.give_back();
                return Ok(Flow::Waits);
            }
        }
        Ok(Flow::Busy)
    }

    /// Gives the connection back if it can serve another request. The answer need not have left yet: whoever has read it
    /// may ask again at once, and should find the connection.
    fn release(&mut self) {
        let clean = self.persists && self.body_done && self.up.is_empty() && self.inbox.is_empty();
        if let Some(connection) = self.connection.take_if(|_| clean) {
            self.terms.connections.keep(connection);
        }
    }

    fn give_back(&mut self) {
        outbox::give_back(&mut self.inbox);
        outbox::give_back(&mut self.down.bytes);
    }

    /// Whether bytes wait for room on the caller's side.
    pub fn needs_room(&self) -> bool {
        !self.down.is_empty()
    }

    /// When to look again at the latest. The kernel reports room only once a third of its buffer is free.
    pub fn check_at(&self, caller: &CallerStream<'_>) -> Instant {
        let due = self.due(caller);
        if self.down.is_empty() { due } else { due.min(Instant::now() + self.limits.write_timeout / ATTEMPTS) }
    }

    /// Whether the whole request was sent.
    pub fn is_sent(&self) -> bool {
        self.body_done && self.up.is_empty() && self.has_flushed()
    }

    /// Whether no bytes wait in the connection to the API.
    fn has_flushed(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.is_sent().unwrap_or(true))
    }

    /// Whether a reused connection closed before it answered, and the request can be sent again because none of its body was
    /// read.
    pub const fn was_stale(&self) -> bool {
        self.reused && !self.heard && !self.body_begun
    }

    /// Whether the caller was told that its connection ends.
    pub const fn closes(&self) -> bool {
        self.closes
    }

    /// The connection to the API, while the exchange needs it.
    pub fn upstream(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// The connection and what has come of the answer.
    pub fn hold(self) -> (Option<UpstreamConnection>, Vec<u8>) {
        (self.connection, self.inbox)
    }

    fn send_up(&mut self, caller: &mut CallerStream<'_>) -> bool {
        let Some(connection) = self.connection.as_mut().filter(|_| !self.up.is_empty()) else { return false };
        match connection.send(self.up.rest()) {
            Ok(0) => false,
            Ok(sent) => {
                self.up.sent(sent);
                self.terms.metrics.forwarded(0, sent);
                let now = Instant::now();
                if self.up.is_empty() {
                    self.up.bytes.zeroize();
                    caller.excuse(now - self.up_since);
                    if self.body_done {
                        self.sent_at = Some(now);
                    }
                }
                self.up_since = now;
                true
            }
            // The API may have answered before it stopped reading.
            Err(_) => {
                self.deaf = true;
                self.up.clear();
                self.api_ready = true;
                self.sent_at = Some(Instant::now());
                true
            }
        }
    }

    fn take_body(&mut self, caller: &mut CallerStream<'_>) -> Result<bool, Stop> {
        if self.body_done || self.deaf || !self.caller_ready || !self.up.is_empty() {
            return Ok(false);
        }
        let chunked = self.terms.framing == BodyFraming::Chunked;
        let taken = self.up.piece(chunked, |out| caller.take(out));
        match taken {
            BodyRead::Data => self.body_begun = true,
            BodyRead::Pending => {
                self.caller_ready = false;
                return Ok(false);
            }
            BodyRead::Closed => return Err(Stop::Caller),
            BodyRead::Refused(refusal) => return Err(Stop::Refused(refusal)),
        }
        self.up_since = Instant::now();
        if caller.is_taken() {
            self.body_done = true;
            if chunked {
                self.up.last_chunk();
            }
        }
        Ok(true)
    }

    fn send_down(&mut self, caller: &mut CallerStream<'_>) -> Result<bool, Stop> {
        if self.down.is_empty() {
            return Ok(false);
        }
        match caller.send(self.down.rest()) {
            None => Err(Stop::Caller),
            Some(0) => Ok(false),
            Some(sent) => {
                self.down.sent(sent);
                self.begun = true;
                self.terms.metrics.forwarded(1, sent);
                self.down_since = Instant::now();
                // Nothing was read from the API meanwhile.
                self.heard_at = self.down_since;
                Ok(true)
            }
        }
    }

    /// Reads from the API, if the last piece has left.
    fn take_answer(&mut self, caller: &CallerStream<'_>) -> Result<Taken, Stop> {
        let Self { answer, down, inbox, connection: Some(connection), .. } = self else { return Ok(Taken::Nothing) };
        if !down.is_empty() || answer.as_ref().is_some_and(AnswerBody::is_done) || !self.api_ready {
            return Ok(Taken::Nothing);
        }
        // The body of an answer with a length needs no parsing, so it is read into place.
        let length = answer.as_ref().and_then(AnswerBody::length).filter(|_| inbox.is_empty());
        if let (Some(left), Some(body)) = (length, &mut *answer) {
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            outbox::reserve(&mut down.bytes, left.min(PIECE));
            let received = match receive(connection, (&mut self.api_ready, &mut self.heard), &mut down.bytes) {
                Ok(None) => return Ok(Taken::Nothing),
                Ok(Some(0)) => return Err(self.failed(CUT)),
                Ok(Some(received)) => received,
                Err(cause) => return Err(self.failed(&cause)),
            };
            body.count(received);
            if received > left {
                // Bytes behind a complete answer belong to no request.
                self.persists = false;
                down.bytes.truncate(left);
            }
            return Ok(Taken::Some);
        }
        if inbox.is_empty() || answer.is_none() && head_end(inbox).is_none() {
            outbox::reserve(inbox, INPUT.saturating_sub(inbox.len()));
            match receive(connection, (&mut self.api_ready, &mut self.heard), inbox) {
                Ok(None) => return Ok(Taken::Nothing),
                Ok(Some(0)) => {
                    if !answer.as_mut().is_some_and(AnswerBody::end) {
                        return Err(self.failed(CUT));
                    }
                    self.finish();
                    return Ok(Taken::Some);
                }
                Ok(Some(_)) => {}
                Err(cause) => return Err(self.failed(&cause)),
            }
        }
        if self.answer.is_none()
            && let Some(claims) = self.look_at_heads(caller)?
        {
            return Ok(Taken::Challenge(claims));
        }
        self.take_input()?;
        Ok(Taken::Some)
    }

    /// Takes the body's part of the bytes received.
    fn take_input(&mut self) -> Result<(), Stop> {
        let Some(body) = &mut self.answer else { return Ok(()) };
        if self.inbox.is_empty() || body.is_done() {
            return Ok(());
        }
        let bounds = Bounds { body: usize::MAX, trailers: self.limits.head_bytes };
        let inbox = &mut self.inbox;
        match self.down.piece(self.chunked, |out| body.take(inbox, out, bounds)) {
            Ok(used) => drop(inbox.drain(..used)),
            Err(ChunkError::Malformed(what)) => return Err(self.failed(what)),
            Err(ChunkError::TooLarge | ChunkError::TrailersTooLarge) => {
                return Err(self.failed("the trailers of the answer are too long"));
            }
        }
        if body.is_done() {
            self.finish();
        }
        Ok(())
    }

    /// Ends the answer that goes to the caller.
    fn finish(&mut self) {
        if self.chunked {
            self.down.last_chunk();
        }
    }

    fn failed(&self, cause: &str) -> Stop {
        Stop::Failed(OutError::Broken(format!("{}: {cause}", self.terms.links.origin)))
    }

    /// Parses heads up to the final one. Returns the claims that the API asks for.
    fn look_at_heads(&mut self, caller: &CallerStream<'_>) -> Result<Option<String>, Stop> {
        let inbox = mem::take(&mut self.inbox);
        let mut at = 0;
        let claims = self.look_at_heads_in(&inbox, &mut at, caller);
        self.inbox = inbox;
        self.inbox.drain(..at);
        claims
    }

    /// The same for these bytes, and moves `at` behind what was parsed.
    fn look_at_heads_in(
        &mut self,
        inbox: &[u8],
        at: &mut usize,
        caller: &CallerStream<'_>,
    ) -> Result<Option<String>, Stop> {
        while let Some(length) = head_end(&inbox[*at..]) {
            let end = *at + length;
            let head = AnswerHead::parse(&inbox[*at..end], self.terms.bodiless);
            let Some((head, _)) = head.map_err(|cause| self.failed(cause))? else {
                return Err(self.failed("the answer is no HTTP"));
            };
            outbox::reserve(&mut self.down.bytes, length + ADDED);
            // Whoever reads it further on could take the other end.
            if head.has_two_ends {
                return Err(self.failed(TWO_ENDS));
            }
            let to_proxy = self.connection.as_ref().and_then(|connection| connection.to_proxy.as_ref());
            match (head.status, to_proxy) {
                (101, _) => return Err(self.failed("answered 101 to a request that asked for no upgrade")),
                // The caller got its own 100 when the request was sent.
                (100, _) => {}
                (102..200, _) if caller.terms.http_1_0 => {}
                (..200, _) => {
                    head.write(&mut self.down.bytes, &self.terms.links);
                    self.down.bytes.extend_from_slice(b"\r\n");
                }
                (407, Some(proxy)) => return Err(Stop::Failed(proxy.refusal.clone())),
                _ => {
                    let challenge = self.challenge(&head);
                    if challenge.is_none() {
                        self.begin(&head, caller);
                        *at = end;
                    }
                    return Ok(challenge);
                }
            }
            *at = end;
        }
        if inbox.len() - *at >= INPUT { Err(self.failed("the head of the answer is too long")) } else { Ok(None) }
    }

    /// The claims that a 401 asks for, if another attempt is possible.
    fn challenge(&self, head: &AnswerHead<'_>) -> Option<String> {
        if !self.terms.may_challenge || head.status != 401 {
            return None;
        }
        let headers = head.fields.iter().copied().collect();
        claims_challenge(&OutResponse { status: 401, headers, body: Vec::new() })
    }

    /// Starts the final answer.
    fn begin(&mut self, head: &AnswerHead<'_>, caller: &CallerStream<'_>) {
        self.status = Some(head.status);
        self.persists = head.persists;
        let unbounded = matches!(head.framing, BodyFraming::Chunked | BodyFraming::UntilClose);
        self.chunked = unbounded && !caller.terms.http_1_0;
        self.closes = !caller.terms.keep_alive
            || caller.draining
            || !self.body_done
            || !self.up.is_empty()
            || unbounded && !self.chunked;
        let out = &mut self.down.bytes;
        head.write(out, &self.terms.links);
        head.complete(out, &caller.date, &self.terms.correlation_id);
        out.extend_from_slice(self.terms.further.as_bytes());
        if self.chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if self.closes {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if caller.terms.http_1_0 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.answer = Some(AnswerBody::new(head.framing));
    }

    /// Whether the end of the connection would look like the end of the answer.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.answer, Some(AnswerBody::Chunked(_) | AnswerBody::UntilClose)) && !self.chunked
    }

    /// Waits until something can be read or written, and checks the time limits.
    fn wait(&mut self, caller: &CallerStream<'_>) -> Result<(), Stop> {
        let flags = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let wants_body = self.wants_body();
        let of_caller =
            PollFlags::RDHUP | flags(wants_body, PollFlags::IN) | flags(!self.down.is_empty(), PollFlags::OUT);
        let all_sent = self.up.is_empty() && self.has_flushed();
        let of_api = flags(self.down.is_empty(), PollFlags::IN) | flags(!all_sent, PollFlags::OUT);
        let now = Instant::now();
        let due = self.due(caller);
        let wait = due.saturating_duration_since(now).min(if self.down.is_empty() {
            Duration::MAX
        } else {
            self.limits.write_timeout / ATTEMPTS
        });
        // Left out while nothing is wanted from it: poll always reports an ended connection, which would busy-loop.
        let api = self.upstream().filter(|_| !of_api.is_empty());
        let first = usize::from(api.is_none());
        let mut fds = [PollFd::from_borrowed_fd(api.unwrap_or(caller.as_fd()), of_api), PollFd::new(caller, of_caller)];
        let wait =
            Timespec { tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() };
        // An interrupted poll reports nothing, and the loop continues.
        let _ = poll(&mut fds[first..], Some(&wait));
        let (connection, from_caller) = (fds[0].revents(), fds[1].revents());
        if from_caller.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            return Err(Stop::Caller);
        }
        self.caller_ready |= from_caller.contains(PollFlags::IN);
        self.api_ready |= connection.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        if connection.is_empty() && from_caller.is_empty() && Instant::now() >= due {
            Err(self.overdue(caller))
        } else {
            Ok(())
        }
    }

    fn wants_body(&self) -> bool {
        !self.body_done && !self.deaf && self.up.is_empty()
    }

    /// The nearest time limit.
    pub fn due(&self, caller: &CallerStream<'_>) -> Instant {
        if !self.down.is_empty() {
            return self.down_since + self.limits.write_timeout;
        }
        let wants_body = self.wants_body();
        let body = wants_body.then(|| caller.due());
        let api = match (&self.answer, self.sent_at) {
            (None, Some(sent)) => Some(sent + self.terms.first_byte),
            (None, None) => (!wants_body).then(|| self.up_since + self.terms.idle),
            _ => Some(self.heard_at + self.terms.idle),
        };
        let all = body.into_iter().chain(api);
        all.min().unwrap_or(self.up_since + self.terms.idle)
    }

    fn overdue(&self, caller: &CallerStream<'_>) -> Stop {
        if !self.down.is_empty() {
            return Stop::Caller;
        }
        if self.wants_body() && Instant::now() >= caller.due() {
            return Stop::Refused(RequestError::BodyTimeout);
        }
        self.timeout()
    }

    /// The API sent too little in time.
    fn timeout(&self) -> Stop {
        let Terms { links: LinkRewrite { origin, .. }, first_byte, idle, .. } = &self.terms;
        let (what, limit, setting) = match (&self.answer, self.sent_at) {
            (None, Some(_)) => ("no answer", first_byte, "ProxyFirstByteTimeout"),
            (None, None) => ("nothing of the body taken", idle, "ProxyIdleTimeout"),
            _ => ("nothing of the answer", idle, "ProxyIdleTimeout"),
        };
        let cause = format!("{origin}: {what} within {limit:?} (Sidecar:Limits:{setting})");
        Stop::Failed(OutError::Timeout(cause))
    }
}

/// What reading from the API brought.
enum Taken {
    Nothing,
    Some,
    /// A demand for these claims.
    Challenge(String),
}

/// The length of the first complete head, whose lines may end in a bare LF (RFC 9112 §2.2).
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut lines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    lines.find_map(|at| {
        let empty = [&b"\r\n"[..], b"\n"].into_iter().find(|end| bytes[at..].starts_with(end))?;
        Some(at + empty.len())
    })
}

/// Receives from the API, and updates whether there may be more and whether anything was heard. `Some(0)`: the connection has
/// ended.
fn receive(
    connection: &mut UpstreamConnection,
    (ready, heard): (&mut bool, &mut bool),
    into: &mut Vec<u8>,
) -> Result<Option<usize>, String> {
    let received = connection.receive(into).map_err(|cause| cause.to_string())?;
    // The end of a connection may have come with its last bytes, and is reported once only: nothing but an empty read says
    // that there is no more.
    *ready = received.is_some();
    *heard |= received.is_some_and(|received| received > 0);
    Ok(received)
}
