//! Moves the bytes of a request that passes through, both ways at once, on one thread and with at most 64 KiB: what
//! comes is sent on before more is taken, so that whoever is slow slows the other side down.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::http::chunked::Decoder;
use crate::http::{self, Refusal, Taken, Wire};
use crate::metrics::Metrics;
use crate::outbound::passage::{AnswerHead, Extent, Links};
use crate::outbound::{Line, OutResponse, claims_challenge};

/// Of an answer, at once.
const PIECE: usize = 48 * 1024;
/// A head of an answer, and a piece of one in chunks.
const INPUT: usize = 32 * 1024;
/// How often within `WriteTimeout` an answer that has no room is tried again: the kernel reports room only once a third
/// of its buffer is free.
const LOOKS: u32 = 8;

/// What the bytes of a request are moved by.
pub struct Terms<'a> {
    /// Of the request's body.
    pub extent: Extent,
    /// Whether the answer has no body, since the request is HEAD.
    pub bodiless: bool,
    /// Addresses to be rewritten in the answer.
    pub links: &'a Links,
    /// Of the request.
    pub correlation_id: &'a str,
    /// A further field of the answer, as its line is sent.
    pub further: &'a str,
    /// Whether a claims challenge ends it, instead of being passed on.
    pub may_challenge: bool,
    /// From the last byte of the request to the head of the answer.
    pub first_byte: Duration,
    /// Between two pieces.
    pub idle: Duration,
    /// The line's origin, for messages.
    pub host: &'a str,
    /// Figures.
    pub metrics: &'a Metrics,
}

/// Why it ended before its end.
#[derive(Debug)]
pub enum Stop {
    /// The caller has gone, or takes nothing.
    Caller,
    /// The caller's body is none, or too slow.
    Refused(Refusal),
    /// The API broke off, or answered what is no HTTP.
    Api(String),
    /// The API took too long.
    Late(String),
    /// A proxy on the way answered instead of the API.
    ByProxy,
    /// The API wants these claims.
    Challenge(String),
}

/// What has to leave.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
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

    /// Appends what `fill` appends, as a chunk where it is to be one and is not empty (RFC 9112 §7.1).
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

/// What is still to come of the answer.
enum Answer {
    /// Its head.
    Awaited,
    Length(u64),
    Chunked(Box<Decoder>),
    UntilClose,
    Done,
}

/// A request on its way.
pub struct Pump<'a, 'w> {
    wire: &'a mut Wire<'w>,
    terms: &'a Terms<'a>,
    line: Line,
    limits: http::Limits,
    up: Outbox,
    down: Outbox,
    /// What came of the answer and is not looked at.
    inbox: Vec<u8>,
    answer: Answer,
    /// Whether the answer goes on in chunks.
    chunked: bool,
    /// The status, once the head of the answer is there.
    pub status: Option<u16>,
    /// Whether any of the answer came.
    heard: bool,
    /// Whether any of it was sent on.
    pub begun: bool,
    /// Whether any of the request's body was taken.
    body_begun: bool,
    body_done: bool,
    /// Whether the API takes no more of the body.
    deaf: bool,
    /// Whether there may be something to read.
    caller_ready: bool,
    line_ready: bool,
    persists: bool,
    closes: bool,
    /// When the request was sent whole.
    sent_at: Option<Instant>,
    /// Since when each side is waited for.
    up_since: Instant,
    down_since: Instant,
    heard_at: Instant,
}

impl<'a, 'w> Pump<'a, 'w> {
    /// With the head of the request, or, where that was sent before, with what has come of the answer.
    pub fn new(wire: &'a mut Wire<'w>, terms: &'a Terms<'a>, line: Line, head: &[u8], begun: Vec<u8>) -> Self {
        let now = Instant::now();
        let mut up = Outbox::default();
        up.bytes.reserve(head.len());
        up.bytes.extend_from_slice(head);
        let limits = wire.limits().clone();
        Self {
            terms,
            line,
            limits,
            up,
            down: Outbox::default(),
            line_ready: !begun.is_empty(),
            heard: !begun.is_empty(),
            inbox: begun,
            answer: Answer::Awaited,
            chunked: false,
            status: None,
            begun: false,
            body_begun: false,
            body_done: matches!(terms.extent, Extent::None | Extent::Length(0)),
            deaf: false,
            caller_ready: true,
            persists: false,
            closes: false,
            sent_at: None,
            up_since: now,
            down_since: now,
            heard_at: now,
            wire,
        }
    }

    /// Moves everything. The line comes back where it can serve another request.
    pub fn run(&mut self) -> Result<(), Stop> {
        self.wire.invite();
        loop {
            let mut moved = self.send_up()? | self.take_body()? | self.send_down()?;
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

    /// Whether the request may be sent again on another line: this one had ended before it came, and nothing of it is lost.
    pub const fn met_an_end(&self) -> bool {
        self.line.reused && !self.heard && !self.body_begun
    }

    /// The line, where it can serve another request, and whether the caller was told that its connection ends.
    pub fn end(self) -> (Option<Line>, bool) {
        let clean = self.persists && self.body_done && self.up.is_empty() && self.inbox.is_empty();
        (Some(self.line).filter(|_| clean), self.closes)
    }

    /// The line and what has come of the answer.
    pub fn hold(self) -> (Line, Vec<u8>) {
        (self.line, self.inbox)
    }

    fn send_up(&mut self) -> Result<bool, Stop> {
        if self.up.is_empty() {
            return Ok(false);
        }
        match self.line.send(self.up.rest()) {
            Ok(0) => Ok(false),
            Ok(sent) => {
                self.up.sent(sent);
                self.terms.metrics.passed(0, sent);
                let now = Instant::now();
                if self.up.is_empty() {
                    self.wire.excuse(now - self.up_since);
                    if self.body_done {
                        self.sent_at = Some(now);
                    }
                }
                self.up_since = now;
                Ok(true)
            }
            // It may have answered what it has no need to read on for.
            Err(_) => {
                self.deaf = true;
                self.up.clear();
                self.line_ready = true;
                self.sent_at = Some(Instant::now());
                Ok(true)
            }
        }
    }

    fn take_body(&mut self) -> Result<bool, Stop> {
        if self.body_done || self.deaf || !self.caller_ready || !self.up.is_empty() {
            return Ok(false);
        }
        let wire = &mut *self.wire;
        let chunked = self.terms.extent == Extent::Chunked;
        let taken = self.up.piece(chunked, |out| wire.take(out));
        match taken {
            Taken::Some => self.body_begun = true,
            Taken::Nothing => {
                self.caller_ready = false;
                return Ok(false);
            }
            Taken::Gone => return Err(Stop::Caller),
            Taken::Refused(refusal) => return Err(Stop::Refused(refusal)),
        }
        self.up_since = Instant::now();
        if self.wire.is_taken() {
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
        match self.wire.send(self.down.rest()) {
            None => Err(Stop::Caller),
            Some(0) => Ok(false),
            Some(sent) => {
                self.down.sent(sent);
                self.begun = true;
                self.terms.metrics.passed(1, sent);
                self.down_since = Instant::now();
                // The API had no chance to be heard.
                self.heard_at = self.down_since;
                Ok(true)
            }
        }
    }

    /// Takes what has come of the answer, if the last piece has left.
    fn take_answer(&mut self) -> Result<bool, Stop> {
        if !self.down.is_empty() || matches!(self.answer, Answer::Done) || !self.line_ready {
            return Ok(false);
        }
        // A length is counted off where it lies; all else is looked at first.
        if let Answer::Length(left) = self.answer
            && self.inbox.is_empty()
        {
            let room = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            self.down.bytes.reserve(room);
            let Some(received) = receive(&mut self.line, &mut self.line_ready, &mut self.down.bytes)? else {
                return Ok(false);
            };
            let excess = u64::try_from(received).unwrap_or(u64::MAX).saturating_sub(left);
            if excess > 0 {
                // What follows a whole answer belongs to nobody.
                self.persists = false;
                self.down.bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            }
            return self.counted_off(left, received);
        }
        if self.inbox.is_empty() || matches!(self.answer, Answer::Awaited) && self.head_end().is_none() {
            self.inbox.reserve_exact(INPUT.saturating_sub(self.inbox.len()));
            match receive(&mut self.line, &mut self.line_ready, &mut self.inbox)? {
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

    /// Makes of what has come what is to be sent on.
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

    /// Where the first head ends that has come whole.
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
                // It is about this connection, whose caller was invited as soon as there was one.
                100 => {}
                102..200 if self.wire.terms.http_1_0 => {}
                ..200 => {
                    head.write(&mut self.down.bytes, terms.links);
                    self.down.bytes.extend_from_slice(b"\r\n");
                }
                407 if self.line.to_proxy.is_some() => return Err(Stop::ByProxy),
                _ => return self.begin(&head, end),
            }
            self.inbox.drain(..end);
        }
        if self.inbox.len() >= INPUT { Err(Stop::Api("the head of the answer is too long".to_owned())) } else { Ok(()) }
    }

    /// The head of the answer itself.
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
        let wire = &*self.wire;
        let unbounded = matches!(head.extent, Extent::Chunked | Extent::UntilClose);
        self.chunked = unbounded && !wire.terms.http_1_0;
        self.closes = !wire.terms.keep_alive
            || wire.draining
            || !self.body_done
            || !self.up.is_empty()
            || unbounded && !self.chunked;
        let out = &mut self.down.bytes;
        head.write(out, terms.links);
        head.complete(out, &wire.date, terms.correlation_id);
        out.extend_from_slice(terms.further.as_bytes());
        if self.chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if self.closes {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if wire.terms.http_1_0 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.answer = match head.extent {
            Extent::None | Extent::Length(0) => Answer::Done,
            Extent::Length(length) => Answer::Length(length),
            Extent::Chunked => Answer::Chunked(Box::default()),
            Extent::UntilClose => Answer::UntilClose,
        };
        Ok(())
    }

    /// Whether the caller would take the end of the connection for the end of the answer.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.answer, Answer::Chunked(_) | Answer::UntilClose) && !self.chunked
    }

    /// Waits until something can be moved.
    fn wait(&mut self) -> Result<(), Stop> {
        let flags = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let wants_body = !self.body_done && !self.deaf && self.up.is_empty();
        let of_caller =
            PollFlags::RDHUP | flags(wants_body, PollFlags::IN) | flags(!self.down.is_empty(), PollFlags::OUT);
        let all_sent = self.up.is_empty() && self.line.is_sent().unwrap_or(true);
        let of_line = flags(self.down.is_empty(), PollFlags::IN) | flags(!all_sent, PollFlags::OUT);
        let now = Instant::now();
        let due = self.due(wants_body);
        let wait = due.saturating_duration_since(now).min(if self.down.is_empty() {
            Duration::MAX
        } else {
            self.limits.write_timeout / LOOKS
        });
        let mut fds = [PollFd::new(&self.line, of_line), PollFd::new(&*self.wire, of_caller)];
        // A line that is not listened to may have ended, of which poll would tell over and over.
        let first = usize::from(of_line.is_empty());
        let wait =
            Timespec { tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() };
        // Interrupted, it is as if nothing had happened.
        let _ = poll(&mut fds[first..], Some(&wait));
        let (line, caller) = (fds[0].revents(), fds[1].revents());
        if caller.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            return Err(Stop::Caller);
        }
        self.caller_ready |= caller.contains(PollFlags::IN);
        self.line_ready |= line.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        if line.is_empty() && caller.is_empty() && Instant::now() >= due {
            Err(self.overdue(wants_body))
        } else {
            Ok(())
        }
    }

    /// When it has taken too long.
    fn due(&self, wants_body: bool) -> Instant {
        if !self.down.is_empty() {
            return self.down_since + self.limits.write_timeout;
        }
        let body = wants_body.then(|| self.wire.due());
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
        if wants_body && Instant::now() >= self.wire.due() {
            return Stop::Refused(Refusal::BodyTimeout);
        }
        let (what, limit, setting) = match (&self.answer, self.sent_at) {
            (Answer::Awaited, Some(_)) => ("no answer", first_byte, "ProxyFirstByteTimeout"),
            (Answer::Awaited, None) => ("nothing of the body taken", idle, "ProxyIdleTimeout"),
            _ => ("nothing of the answer", idle, "ProxyIdleTimeout"),
        };
        Stop::Late(format!("{host}: {what} within {limit:?} (Sidecar:Limits:{setting})"))
    }
}

/// Receives from a line, and notes where it has nothing more. `Some(0)`: there never will be.
fn receive(line: &mut Line, ready: &mut bool, into: &mut Vec<u8>) -> Result<Option<usize>, Stop> {
    let received = line.receive(into).map_err(|cause| Stop::Api(cause.to_string()))?;
    // What did not fill the room was all.
    *ready = match received {
        None => false,
        Some(0) => true,
        Some(_) => line.holds_back() || into.len() == into.capacity(),
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
