//! Moves the bytes of a proxied request in both directions at once, with at most 64 KiB of buffers. It reads more from one
//! side only after the last piece has left on the other, so a slow side slows the other one down. It never blocks, apart
//! from [`Pump::run`], which waits for both sides where a thread may do so.

use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use super::outbox::Outbox;
use crate::http::{BodyRead, CallerStream, RequestError};
use crate::metrics::Metrics;
use crate::outbound::forwarding::LinkRewrite;
use crate::outbound::http1::{AnswerHead, BodyFraming, Incoming, TRAILERS_TOO_LONG, TWO_ENDS};
use crate::outbound::{OutError, OutResponse, UpstreamConnection, UreqExchange, buffers, claims_challenge};
use crate::value::chunked::{Bounds, ChunkError};

/// Bytes read at once of an answer with a length.
const PIECE: usize = 48 * 1024;
/// Bytes that an answer's head gains at most, but for longer links.
const ADDED: usize = 512;
/// Moves before other connections have their turn.
const ROUNDS: u32 = 32;
const CUT: &str = "the connection was closed before the end of the answer";

pub struct ProxyTerms {
    pub framing: BodyFraming,
    /// Whether the request is HEAD, whose answer has no body.
    pub bodiless: bool,
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
    pub metrics: Arc<Metrics>,
    pub connections: Arc<UreqExchange>,
}

#[derive(Debug)]
pub enum Flow {
    Whole,
    /// The API wants a token with these claims. Nothing was forwarded.
    Challenged(String),
    /// It waits for either side.
    Waits,
    /// There is more to do at once.
    Busy,
}

#[derive(Debug)]
pub enum Stop {
    /// The caller closed the connection or stopped reading.
    Caller,
    /// The request's body is malformed or too slow.
    Refused(RequestError),
    /// The API broke off or was too slow, its answer is not valid HTTP, or a forward proxy answered instead.
    Failed(OutError),
}

/// Bytes on their way in one direction.
struct Direction {
    out: Outbox,
    /// Whether their source may have more.
    ready: bool,
    /// When they last made progress.
    since: Instant,
}

/// How much of the request's body was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestBody {
    Absent,
    Nothing,
    Part,
    Whole,
}

/// The final head, as it goes to the caller.
struct SentHead {
    status: u16,
    chunked: bool,
    /// Whether the caller is told that its connection ends.
    closes: bool,
}

pub struct Pump {
    pub terms: ProxyTerms,
    /// `None` once it may serve another request.
    connection: Option<UpstreamConnection>,
    up: Direction,
    body: RequestBody,
    /// When the last byte of the request was sent, or the API stopped reading it.
    sent_at: Option<Instant>,
    down: Direction,
    answer: Incoming,
    /// When the API last sent something, or could not.
    heard_at: Instant,
    head: Option<SentHead>,
    /// Whether the caller got any bytes of the answer, be they of an interim one.
    begun: bool,
}

impl Pump {
    /// Starts with the head of the request, or, if that was sent before, with the answer received so far.
    pub fn new(
        caller: &mut CallerStream<'_>,
        terms: ProxyTerms,
        connection: UpstreamConnection,
        head: Zeroizing<Vec<u8>>,
        begun: Vec<u8>,
    ) -> Self {
        let now = Instant::now();
        caller.invite();
        let has_body = !terms.framing.is_empty();
        Self {
            connection: Some(connection),
            up: Direction { out: Outbox::new(head), ready: true, since: now },
            body: if has_body { RequestBody::Nothing } else { RequestBody::Absent },
            sent_at: None,
            down: Direction { out: Outbox::default(), ready: !begun.is_empty(), since: now },
            answer: Incoming::begun(begun),
            heard_at: now,
            head: None,
            begun: false,
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
        (self.down.ready, self.up.ready) = (true, true);
        match self.advance(caller)? {
            Flow::Waits if caller.is_gone => Err(Stop::Caller),
            Flow::Waits if Instant::now() >= self.due(caller) => Err(self.overdue(caller)),
            flow => Ok(flow),
        }
    }

    /// Moves what can be moved without waiting, within reason.
    pub fn advance(&mut self, caller: &mut CallerStream<'_>) -> Result<Flow, Stop> {
        // Interim answers are not what was waited for.
        if self.head.is_none() && self.sent_at.is_some_and(|sent| sent.elapsed() >= self.terms.first_byte) {
            return Err(self.timeout());
        }
        for _ in 0..ROUNDS {
            let mut moved = self.send_up(caller) | self.take_body(caller)? | self.send_down(caller)?;
            match self.take_answer(caller)? {
                Taken::Nothing => {}
                Taken::Some => (moved, self.heard_at) = (true, Instant::now()),
                Taken::Challenge(claims) => return Ok(Flow::Challenged(claims)),
            }
            if self.answer.is_done() {
                self.release();
                if self.down.out.is_empty() {
                    buffers::give_back(&mut self.down.out.bytes);
                    return Ok(Flow::Whole);
                }
            }
            if !moved {
                buffers::give_back(&mut self.down.out.bytes);
                return Ok(Flow::Waits);
            }
        }
        Ok(Flow::Busy)
    }

    /// Gives the connection back if it can serve another request. The answer need not have left yet: whoever has read it
    /// may ask again at once, and should find the connection.
    fn release(&mut self) {
        let clean = self.answer.is_clean() && self.has_read_body() && self.up.out.is_empty();
        if let Some(connection) = self.connection.take_if(|_| clean) {
            self.terms.connections.keep(connection);
        }
    }

    const fn has_read_body(&self) -> bool {
        matches!(self.body, RequestBody::Absent | RequestBody::Whole)
    }

    /// Whether bytes wait for room on the caller's side.
    pub fn needs_room(&self) -> bool {
        !self.down.out.is_empty()
    }

    /// When to look again at the latest.
    pub fn check_at(&self, caller: &CallerStream<'_>) -> Instant {
        let due = self.due(caller);
        if self.needs_room() { due.min(Instant::now() + caller.limits().send_again()) } else { due }
    }

    pub fn is_sent(&self) -> bool {
        self.has_read_body() && self.has_flushed()
    }

    /// Whether no bytes wait on their way to the API.
    fn has_flushed(&self) -> bool {
        self.up.out.is_empty() && self.connection.as_ref().is_none_or(UpstreamConnection::is_sent)
    }

    /// Whether a reused connection closed before it answered, and the request can be sent again because none of its body was
    /// read.
    pub fn was_stale(&self) -> bool {
        let reused = self.connection.as_ref().is_some_and(|connection| connection.reused);
        reused && !self.answer.heard && matches!(self.body, RequestBody::Absent | RequestBody::Nothing)
    }

    /// The status that the caller got.
    pub fn status(&self) -> Option<u16> {
        self.head.as_ref().filter(|_| self.begun).map(|head| head.status)
    }

    /// Whether the caller was told that its connection ends.
    pub fn closes(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.closes)
    }

    /// The connection to the API, while the exchange needs it.
    pub fn upstream(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// The connection and what has come of the answer.
    pub fn hold(self) -> (Option<UpstreamConnection>, Vec<u8>) {
        (self.connection, self.answer.into_unparsed())
    }

    fn send_up(&mut self, caller: &mut CallerStream<'_>) -> bool {
        let Self { connection: Some(connection), up: Direction { out, since, .. }, .. } = self else { return false };
        if out.is_empty() {
            return false;
        }
        match connection.send(out.rest()) {
            Ok(0) => return false,
            Ok(sent) => {
                // Only the head holds a token.
                if sent == out.rest().len() && !matches!(self.body, RequestBody::Part) {
                    buffers::wipe_head(&mut out.bytes);
                    out.clear();
                } else {
                    out.sent(sent);
                }
                self.terms.metrics.forwarded(0, sent);
                let before = mem::replace(since, Instant::now());
                if out.is_empty() {
                    caller.excuse(*since - before);
                    self.sent_at = Some(*since).filter(|_| self.has_read_body());
                }
            }
            // The API may have answered before it stopped reading.
            Err(_) => {
                out.clear();
                self.down.ready = true;
                self.sent_at = Some(Instant::now());
            }
        }
        true
    }

    fn take_body(&mut self, caller: &mut CallerStream<'_>) -> Result<bool, Stop> {
        if !self.wants_body() || !self.up.ready {
            return Ok(false);
        }
        let chunked = self.terms.framing == BodyFraming::Chunked;
        match self.up.out.piece(chunked, |out| caller.take(out)) {
            BodyRead::Data => self.body = RequestBody::Part,
            BodyRead::Pending => {
                self.up.ready = false;
                return Ok(false);
            }
            BodyRead::Closed => return Err(Stop::Caller),
            BodyRead::Refused(refusal) => return Err(Stop::Refused(refusal)),
        }
        self.up.since = Instant::now();
        if caller.is_taken() {
            self.body = RequestBody::Whole;
            if chunked {
                self.up.out.last_chunk();
            }
        }
        Ok(true)
    }

    fn send_down(&mut self, caller: &mut CallerStream<'_>) -> Result<bool, Stop> {
        let Direction { out, since, .. } = &mut self.down;
        if out.is_empty() {
            return Ok(false);
        }
        let sent = match caller.send(out.rest()) {
            None => return Err(Stop::Caller),
            Some(0) => return Ok(false),
            Some(sent) => sent,
        };
        out.sent(sent);
        self.begun = true;
        self.terms.metrics.forwarded(1, sent);
        *since = Instant::now();
        // Nothing was read from the API meanwhile.
        self.heard_at = *since;
        Ok(true)
    }

    /// Reads from the API, if the last piece has left.
    fn take_answer(&mut self, caller: &CallerStream<'_>) -> Result<Taken, Stop> {
        let Self { answer, down: Direction { out, ready, .. }, connection: Some(connection), .. } = self else {
            return Ok(Taken::Nothing);
        };
        if !*ready || !out.is_empty() || answer.is_done() {
            return Ok(Taken::Nothing);
        }
        let received = match answer.plain() {
            Some(left) => {
                buffers::reserve(&mut out.bytes, left.min(PIECE));
                answer.receive_plain(connection, &mut out.bytes)
            }
            None => answer.receive(connection),
        };
        // The end of a connection may have come with its last bytes, and is reported once only: nothing but an empty read
        // says that there is no more.
        *ready = !matches!(received, Ok(None));
        match received {
            Ok(None) => return Ok(Taken::Nothing),
            Ok(Some(0)) if !answer.end() => return Err(self.failed(CUT)),
            Ok(Some(_)) => {}
            Err(cause) => return Err(self.failed(&cause.to_string())),
        }
        if self.head.is_none()
            && let Some(claims) = self.look_at_heads(caller)?
        {
            return Ok(Taken::Challenge(claims));
        }
        let chunked = self.head.as_ref().is_some_and(|head| head.chunked);
        let bounds = Bounds { body: usize::MAX, trailers: caller.limits().head_bytes };
        let taken = self.down.out.piece(chunked, |out| self.answer.take_body(out, bounds));
        taken.map_err(|error| match error {
            ChunkError::Malformed(what) => self.failed(what),
            ChunkError::TooLarge | ChunkError::TrailersTooLarge => self.failed(TRAILERS_TOO_LONG),
        })?;
        if chunked && self.answer.is_done() {
            self.down.out.last_chunk();
        }
        Ok(Taken::Some)
    }

    fn failed(&self, cause: &str) -> Stop {
        Stop::Failed(OutError::Broken(format!("{}: {cause}", self.terms.links.origin)))
    }

    /// Forwards the heads that have come, up to the final one. Returns the claims that the API asks for.
    fn look_at_heads(&mut self, caller: &CallerStream<'_>) -> Result<Option<String>, Stop> {
        let mut answer = mem::take(&mut self.answer);
        let found = answer.heads(self.terms.bodiless, |head, length| self.forward(head, length, caller));
        self.answer = answer;
        found.map_err(|cause| self.failed(cause))?.transpose()
    }

    /// Forwards a head, unless it ends the exchange.
    fn forward(
        &mut self,
        head: &AnswerHead<'_>,
        length: usize,
        caller: &CallerStream<'_>,
    ) -> Option<Result<String, Stop>> {
        // Whoever reads it further on could take the other end.
        if head.has_two_ends {
            return Some(Err(self.failed(TWO_ENDS)));
        }
        buffers::reserve(&mut self.down.out.bytes, length + ADDED);
        let to_proxy = self.connection.as_ref().and_then(|connection| connection.to_proxy.as_ref());
        match (head.status, to_proxy) {
            // The caller got its own 100 when the request was sent.
            (100, _) => {}
            (..200, _) if caller.terms.http_1_0 => {}
            (..200, _) => {
                head.write(&mut self.down.out.bytes, &self.terms.links);
                self.down.out.bytes.extend_from_slice(b"\r\n");
            }
            (407, Some(proxy)) => return Some(Err(Stop::Failed(proxy.refusal.clone()))),
            _ => match self.challenge(head) {
                Some(claims) => return Some(Ok(claims)),
                None => self.begin(head, caller),
            },
        }
        None
    }

    /// The claims that a 401 asks for, if another attempt is possible.
    fn challenge(&self, head: &AnswerHead<'_>) -> Option<String> {
        if !self.terms.may_challenge || head.status != 401 {
            return None;
        }
        let headers = head.fields.iter().copied().collect();
        claims_challenge(&OutResponse { status: 401, headers, body: Vec::new() })
    }

    fn begin(&mut self, head: &AnswerHead<'_>, caller: &CallerStream<'_>) {
        let unbounded = matches!(head.framing, BodyFraming::Chunked | BodyFraming::UntilClose);
        let chunked = unbounded && !caller.terms.http_1_0;
        let closes = !caller.terms.keep_alive
            || caller.draining
            || !self.has_read_body()
            || !self.up.out.is_empty()
            || unbounded && !chunked;
        let out = &mut self.down.out.bytes;
        head.write(out, &self.terms.links);
        head.complete(out, &caller.date, &self.terms.correlation_id);
        out.extend_from_slice(self.terms.further.as_bytes());
        if chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if closes {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if caller.terms.http_1_0 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.head = Some(SentHead { status: head.status, chunked, closes });
    }

    /// Whether the end of the connection would look like the end of the answer.
    pub fn ends_with_connection(&self) -> bool {
        self.answer.lacks_length() && self.head.as_ref().is_some_and(|head| !head.chunked)
    }

    /// Waits until something can be read or written, and checks the time limits.
    fn wait(&mut self, caller: &CallerStream<'_>) -> Result<(), Stop> {
        let flags = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let of_caller =
            PollFlags::RDHUP | flags(self.wants_body(), PollFlags::IN) | flags(self.needs_room(), PollFlags::OUT);
        let of_api = flags(!self.needs_room(), PollFlags::IN) | flags(!self.has_flushed(), PollFlags::OUT);
        let wait = Timespec::try_from(self.check_at(caller).saturating_duration_since(Instant::now())).ok();
        // Left out while nothing is wanted from it: poll always reports an ended connection, which would busy-loop.
        let api = self.upstream().filter(|_| !of_api.is_empty());
        let first = usize::from(api.is_none());
        let mut fds = [PollFd::from_borrowed_fd(api.unwrap_or(caller.as_fd()), of_api), PollFd::new(caller, of_caller)];
        // An interrupted poll reports nothing, and the loop continues.
        let _ = poll(&mut fds[first..], wait.as_ref());
        let (connection, from_caller) = (fds[0].revents(), fds[1].revents());
        if from_caller.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            return Err(Stop::Caller);
        }
        self.up.ready |= from_caller.contains(PollFlags::IN);
        self.down.ready |= connection.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        if connection.is_empty() && from_caller.is_empty() && Instant::now() >= self.due(caller) {
            Err(self.overdue(caller))
        } else {
            Ok(())
        }
    }

    /// Whether more of the body is to be read. Once the API has stopped reading, none is.
    fn wants_body(&self) -> bool {
        !self.has_read_body() && self.sent_at.is_none() && self.up.out.is_empty()
    }

    /// The nearest time limit.
    fn due(&self, caller: &CallerStream<'_>) -> Instant {
        if self.needs_room() {
            return self.down.since + caller.limits().write_timeout;
        }
        let wants_body = self.wants_body();
        let body = wants_body.then(|| caller.due());
        let api = match (&self.head, self.sent_at) {
            (None, Some(sent)) => Some(sent + self.terms.first_byte),
            (None, None) => (!wants_body).then(|| self.up.since + self.terms.idle),
            _ => Some(self.heard_at + self.terms.idle),
        };
        let all = body.into_iter().chain(api);
        all.min().unwrap_or(self.up.since + self.terms.idle)
    }

    fn overdue(&self, caller: &CallerStream<'_>) -> Stop {
        if self.needs_room() {
            return Stop::Caller;
        }
        if self.wants_body() && Instant::now() >= caller.due() {
            return Stop::Refused(RequestError::BodyTimeout);
        }
        self.timeout()
    }

    fn timeout(&self) -> Stop {
        let ProxyTerms { links: LinkRewrite { origin, .. }, first_byte, idle, .. } = &self.terms;
        let (what, limit, setting) = match (&self.head, self.sent_at) {
            (None, Some(_)) => ("no answer", first_byte, "ProxyFirstByteTimeout"),
            (None, None) => ("nothing of the body taken", idle, "ProxyIdleTimeout"),
            _ => ("nothing of the answer", idle, "ProxyIdleTimeout"),
        };
        let cause = format!("{origin}: {what} within {limit:?} (Sidecar:Limits:{setting})");
        Stop::Failed(OutError::Timeout(cause))
    }
}

enum Taken {
    Nothing,
    Some,
    Challenge(String),
}
