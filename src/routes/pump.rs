//! Moves the bytes of a proxied request in both directions at once, on one thread and with at most 64 KiB of buffers. It
//! reads more from one side only after the last piece has left on the other, so a slow side slows the other one down.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::{Zeroize as _, Zeroizing};

use crate::http::chunked::Decoder;
use crate::http::{self, BodyRead, CallerStream, RequestError};
use crate::metrics::Metrics;
use crate::outbound::forwarding::{AnswerHead, BodyFraming, LinkRewrite};
use crate::outbound::{OutResponse, UpstreamConnection, claims_challenge};

/// Bytes read at once of an answer with a length.
const PIECE: usize = 48 * 1024;
/// Bytes of an answer's head at most, and read at once of an answer without a length.
const INPUT: usize = 32 * 1024;
/// Attempts to write within `WriteTimeout`. The kernel reports room only once a third of its buffer is free, and less than
/// that is progress too.
const ATTEMPTS: u32 = 8;

/// The parameters of one exchange.
pub struct Terms<'a> {
    /// The framing of the request's body.
    pub framing: BodyFraming,
    /// Whether the request is HEAD, whose answer has no body.
    pub bodiless: bool,
    /// How links in the answer are rewritten.
    pub links: &'a LinkRewrite,
    /// Added to an answer without one.
    pub correlation_id: &'a str,
    /// A field line added to the answer, or nothing.
    pub further: &'a str,
    /// Whether a claims challenge stops the exchange instead of being forwarded.
    pub may_challenge: bool,
    /// `ProxyFirstByteTimeout`.
    pub first_byte: Duration,
    /// `ProxyIdleTimeout`.
    pub idle: Duration,
    /// The API's origin, for messages.
    pub host: &'a str,
    /// Counts the bytes.
    pub metrics: &'a Metrics,
}

/// Why an exchange did not complete.
#[derive(Debug)]
pub enum Stop {
    /// The caller closed the connection or stopped reading.
    Caller,
    /// The request's body is malformed or too slow.
    Refused(RequestError),
    /// The API broke off, or its answer is not valid HTTP.
    Api(String),
    /// The API exceeded a time limit.
    Late(String),
    /// A forward proxy answered instead of the API.
    ByProxy,
    /// The API wants these claims.
    Challenge(String),
}

/// Bytes waiting to be sent. They may hold a token and are wiped.
#[derive(Default)]
struct Outbox {
    bytes: Zeroizing<Vec<u8>>,
    at: usize,
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn sent(&mut self, bytes: usize) {
        self.at += bytes;
        if self.is_empty() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }

    /// Appends the bytes that `fill` adds, framed as a chunk if `chunked` and if there are any (RFC 9112 §7.1).
    fn piece<R>(&mut self, chunked: bool, fill: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        const SIZE: &[u8] = b"00000\r\n";
        let start = self.bytes.len();
        if !chunked {
            return fill(&mut self.bytes);
        }
        self.bytes.extend_from_slice(SIZE);
        let result = fill(&mut self.bytes);
        let length = self.bytes.len() - start - SIZE.len();
        if length == 0 {
            self.bytes.truncate(start);
        } else {
            let digits = format!("{length:05x}");
            self.bytes[start..start + digits.len()].copy_from_slice(digits.as_bytes());
            self.bytes.extend_from_slice(b"\r\n");
            let zeros = digits.bytes().take_while(|digit| *digit == b'0').count();
            if start == self.at {
                self.at += zeros;
            } else {
                self.bytes.drain(start..start + zeros);
            }
        }
        result
    }

    fn last_chunk(&mut self) {
        self.bytes.extend_from_slice(b"0\r\n\r\n");
    }
}

/// The part of the answer that has not arrived yet.
enum Answer {
    /// All of it, including the head.
    Awaited,
    /// So many bytes.
    Length(u64),
    Chunked(Box<Decoder>),
    UntilClose,
    Done,
}

/// One exchange with an API.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about either side")]
pub struct Pump<'a, 'c> {
    caller: &'a mut CallerStream<'c>,
    terms: &'a Terms<'a>,
    connection: UpstreamConnection,
    limits: http::Limits,
    up: Outbox,
    down: Outbox,
    /// Bytes of the answer that have not been parsed yet.
    inbox: Vec<u8>,
    answer: Answer,
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

impl<'a, 'c> Pump<'a, 'c> {
    /// Starts with the head of the request, or, if that was sent before, with the answer received so far.
    pub fn new(
        caller: &'a mut CallerStream<'c>,
        terms: &'a Terms<'a>,
        connection: UpstreamConnection,
        head: &[u8],
        begun: Vec<u8>,
    ) -> Self {
        let now = Instant::now();
        let mut up = Outbox::default();
        up.bytes.reserve(head.len());
        up.bytes.extend_from_slice(head);
        let limits = caller.limits().clone();
        Self {
            terms,
            connection,
            limits,
            up,
            down: Outbox::default(),
            api_ready: !begun.is_empty(),
            heard: !begun.is_empty(),
            inbox: begun,
            answer: Answer::Awaited,
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
            caller,
        }
    }

    /// Runs the exchange to its end.
    pub fn run(&mut self) -> Result<(), Stop> {
        self.caller.invite();
        loop {
            let mut moved = self.send_up() | self.take_body()? | self.send_down()?;
            if self.take_answer()? {
                (moved, self.heard, self.heard_at) = (true, true, Instant::now());
            }
            if matches!(self.answer, Answer::Done) && self.down.is_empty() {
                return Ok(());
            }
            if !moved {
                self.wait()?;
            }
        }
    }

    /// Whether a reused connection closed before it answered, and the request can be sent again because none of its body was
    /// read.
    pub const fn was_stale(&self) -> bool {
        self.connection.reused && !self.heard && !self.body_begun
    }

    /// The connection, where it can serve another request, and whether the caller was told that its connection ends.
    pub fn end(self) -> (Option<UpstreamConnection>, bool) {
        let clean = self.persists && self.body_done && self.up.is_empty() && self.inbox.is_empty();
        (Some(self.connection).filter(|_| clean), self.closes)
    }

    /// The connection and what has come of the answer.
    pub fn hold(self) -> (UpstreamConnection, Vec<u8>) {
        (self.connection, self.inbox)
    }

    fn send_up(&mut self) -> bool {
        if self.up.is_empty() {
            return false;
        }
        match self.connection.send(self.up.rest()) {
            Ok(0) => false,
            Ok(sent) => {
                self.up.sent(sent);
                self.terms.metrics.forwarded(0, sent);
                let now = Instant::now();
                if self.up.is_empty() {
                    self.up.bytes.zeroize();
                    self.caller.excuse(now - self.up_since);
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

    fn take_body(&mut self) -> Result<bool, Stop> {
        if self.body_done || self.deaf || !self.caller_ready || !self.up.is_empty() {
            return Ok(false);
        }
        let caller = &mut *self.caller;
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
        if self.caller.is_taken() {
            self.body_done = true;
            if chunked {
                self.up.last_chunk();
            }
        }
        Ok(true)
    }

    fn send_down(&mut self) -> Result<bool, Stop> {
        if self.down.is_empty() {
            return Ok(false);
        }
        match self.caller.send(self.down.rest()) {
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
    fn take_answer(&mut self) -> Result<bool, Stop> {
        if !self.down.is_empty() || matches!(self.answer, Answer::Done) || !self.api_ready {
            return Ok(false);
        }
        // The body of an answer with a length needs no parsing, so it is read into place.
        if let Answer::Length(left) = self.answer
            && self.inbox.is_empty()
        {
            let room = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            self.down.bytes.reserve(room);
            let Some(received) = receive(&mut self.connection, &mut self.api_ready, &mut self.down.bytes)? else {
                return Ok(false);
            };
            let excess = u64::try_from(received).unwrap_or(u64::MAX).saturating_sub(left);
            if excess > 0 {
                // Bytes behind a complete answer belong to no request.
                self.persists = false;
                self.down.bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            }
            return self.counted_off(left, received);
        }
        if self.inbox.is_empty() || matches!(self.answer, Answer::Awaited) && self.head_end().is_none() {
            self.inbox.reserve_exact(INPUT.saturating_sub(self.inbox.len()));
            match receive(&mut self.connection, &mut self.api_ready, &mut self.inbox)? {
                None => return Ok(false),
                Some(0) if matches!(self.answer, Answer::UntilClose) => {
                    self.finish();
                    return Ok(true);
                }
                Some(0) => return Err(Stop::Api("the connection was closed before the end of the answer".to_owned())),
                Some(_) => {}
            }
        }
        self.look()?;
        Ok(true)
    }

    /// Parses the received bytes.
    fn look(&mut self) -> Result<(), Stop> {
        if matches!(self.answer, Answer::Awaited) {
            self.look_at_heads()?;
        }
        if self.inbox.is_empty() {
            return Ok(());
        }
        let (inbox, limits) = (&mut self.inbox, &self.limits);
        match &mut self.answer {
            Answer::Awaited | Answer::Done => {}
            Answer::Length(left) => {
                let left = *left;
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(inbox.len());
                self.down.bytes.extend(inbox.drain(..taken));
                self.counted_off(left, taken)?;
            }
            Answer::UntilClose => self.down.piece(self.chunked, |out| out.append(inbox)),
            Answer::Chunked(decoder) => {
                let used = self.down.piece(self.chunked, |out| decoder.decode(inbox, out, limits));
                let used = used.map_err(|malformed| Stop::Api(malformed.to_string()))?;
                inbox.drain(..used);
                if decoder.is_done() {
                    self.finish();
                }
            }
        }
        Ok(())
    }

    fn counted_off(&mut self, left: u64, received: usize) -> Result<bool, Stop> {
        if received == 0 {
            return Err(Stop::Api("the connection was closed before the end of the answer".to_owned()));
        }
        let left = left.saturating_sub(received as u64);
        self.answer = Answer::Length(left);
        if left == 0 {
            self.finish();
        }
        Ok(true)
    }

    fn finish(&mut self) {
        self.answer = Answer::Done;
        if self.chunked {
            self.down.last_chunk();
        }
    }

    /// The length of the first complete head.
    fn head_end(&self) -> Option<usize> {
        self.inbox.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4)
    }

    fn look_at_heads(&mut self) -> Result<(), Stop> {
        let terms = self.terms;
        while let Some(end) = self.head_end() {
            let bytes = self.inbox[..end].to_vec();
            let malformed = |cause: &str| Stop::Api(cause.to_owned());
            let head = AnswerHead::parse(&bytes, terms.bodiless).map_err(malformed)?;
            let Some((head, _)) = head else { return Err(malformed("the answer is no HTTP")) };
            match head.status {
                101 => return Err(malformed("answered 101 to a request that asked for no upgrade")),
                // The caller got its own 100 when the request was sent.
                100 => {}
                102..200 if self.caller.terms.http_1_0 => {}
                ..200 => {
                    head.write(&mut self.down.bytes, terms.links);
                    self.down.bytes.extend_from_slice(b"\r\n");
                }
                407 if self.connection.to_proxy.is_some() => return Err(Stop::ByProxy),
                _ => return self.begin(&head, end),
            }
            self.inbox.drain(..end);
        }
        if self.inbox.len() >= INPUT { Err(Stop::Api("the head of the answer is too long".to_owned())) } else { Ok(()) }
    }

    /// Starts the final answer.
    fn begin(&mut self, head: &AnswerHead<'_>, end: usize) -> Result<(), Stop> {
        let terms = self.terms;
        if terms.may_challenge && head.status == 401 {
            let fields = head.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
            let seen = OutResponse { status: 401, headers: fields.collect(), body: Vec::new() };
            if let Some(claims) = claims_challenge(&seen) {
                return Err(Stop::Challenge(claims));
            }
        }
        self.status = Some(head.status);
        self.persists = head.persists;
        self.inbox.drain(..end);
        let caller = &*self.caller;
        let unbounded = matches!(head.framing, BodyFraming::Chunked | BodyFraming::UntilClose);
        self.chunked = unbounded && !caller.terms.http_1_0;
        self.closes = !caller.terms.keep_alive
            || caller.draining
            || !self.body_done
            || !self.up.is_empty()
            || unbounded && !self.chunked;
        let out = &mut self.down.bytes;
        head.write(out, terms.links);
        head.complete(out, &caller.date, terms.correlation_id);
        out.extend_from_slice(terms.further.as_bytes());
        if self.chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if self.closes {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if caller.terms.http_1_0 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.answer = match head.framing {
            BodyFraming::None | BodyFraming::Length(0) => Answer::Done,
            BodyFraming::Length(length) => Answer::Length(length),
            BodyFraming::Chunked => Answer::Chunked(Box::default()),
            BodyFraming::UntilClose => Answer::UntilClose,
        };
        Ok(())
    }

    /// Whether the end of the connection would look like the end of the answer.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.answer, Answer::Chunked(_) | Answer::UntilClose) && !self.chunked
    }

    /// Waits until something can be read or written, and checks the time limits.
    fn wait(&mut self) -> Result<(), Stop> {
        let flags = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let wants_body = !self.body_done && !self.deaf && self.up.is_empty();
        let of_caller =
            PollFlags::RDHUP | flags(wants_body, PollFlags::IN) | flags(!self.down.is_empty(), PollFlags::OUT);
        let all_sent = self.up.is_empty() && self.connection.is_sent().unwrap_or(true);
        let of_api = flags(self.down.is_empty(), PollFlags::IN) | flags(!all_sent, PollFlags::OUT);
        let now = Instant::now();
        let due = self.due(wants_body);
        let wait = due.saturating_duration_since(now).min(if self.down.is_empty() {
            Duration::MAX
        } else {
            self.limits.write_timeout / ATTEMPTS
        });
        let mut fds = [PollFd::new(&self.connection, of_api), PollFd::new(&*self.caller, of_caller)];
        // Left out while nothing is wanted from it: poll always reports an ended connection, which would busy-loop.
        let first = usize::from(of_api.is_empty());
        let wait =
            Timespec { tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() };
        // An interrupted poll reports nothing, and the loop continues.
        let _ = poll(&mut fds[first..], Some(&wait));
        let (connection, caller) = (fds[0].revents(), fds[1].revents());
        if caller.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            return Err(Stop::Caller);
        }
        self.caller_ready |= caller.contains(PollFlags::IN);
        self.api_ready |= connection.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        if connection.is_empty() && caller.is_empty() && Instant::now() >= due {
            Err(self.overdue(wants_body))
        } else {
            Ok(())
        }
    }

    /// The nearest time limit.
    fn due(&self, wants_body: bool) -> Instant {
        if !self.down.is_empty() {
            return self.down_since + self.limits.write_timeout;
        }
        let body = wants_body.then(|| self.caller.due());
        let api = match (&self.answer, self.sent_at) {
            (Answer::Awaited, Some(sent)) => Some(sent + self.terms.first_byte),
            (Answer::Awaited, None) => (!wants_body).then(|| self.up_since + self.terms.idle),
            _ => Some(self.heard_at + self.terms.idle),
        };
        let all = body.into_iter().chain(api);
        all.min().unwrap_or(self.up_since + self.terms.idle)
    }

    fn overdue(&self, wants_body: bool) -> Stop {
        let Terms { host, first_byte, idle, .. } = self.terms;
        if !self.down.is_empty() {
            return Stop::Caller;
        }
        if wants_body && Instant::now() >= self.caller.due() {
            return Stop::Refused(RequestError::BodyTimeout);
        }
        let (what, limit, setting) = match (&self.answer, self.sent_at) {
            (Answer::Awaited, Some(_)) => ("no answer", first_byte, "ProxyFirstByteTimeout"),
            (Answer::Awaited, None) => ("nothing of the body taken", idle, "ProxyIdleTimeout"),
            _ => ("nothing of the answer", idle, "ProxyIdleTimeout"),
        };
        Stop::Late(format!("{host}: {what} within {limit:?} (Sidecar:Limits:{setting})"))
    }
}

/// Receives from the API and updates whether there may be more. `Some(0)`: the connection has ended.
fn receive(connection: &mut UpstreamConnection, ready: &mut bool, into: &mut Vec<u8>) -> Result<Option<usize>, Stop> {
    let received = connection.receive(into).map_err(|cause| Stop::Api(cause.to_string()))?;
    // A read that did not fill the buffer emptied the socket.
    *ready = match received {
        None => false,
        Some(0) => true,
        Some(_) => connection.buffers_input() || into.len() == into.capacity(),
    };
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_leave_as_chunks_without_leading_zeros() {
        let mut out = Outbox::default();
        out.bytes.extend_from_slice(b"head;");
        out.piece(true, |bytes| bytes.extend_from_slice(&[b'a'; 17]));
        out.piece(true, |_| ());
        out.piece(false, |bytes| bytes.push(b'-'));
        out.last_chunk();
        assert_eq!(out.rest(), b"head;11\r\naaaaaaaaaaaaaaaaa\r\n-0\r\n\r\n");
        out.sent(out.rest().len());
        out.piece(true, |bytes| bytes.push(b'b'));
        assert_eq!(out.rest(), b"1\r\nb\r\n");
    }
}
