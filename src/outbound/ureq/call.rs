//! One request and its complete answer over a connection that never blocks. A thread that may block waits for the
//! connection in between; others come back when it is ready.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use super::super::forwarding::{AnswerBody, AnswerHead, BodyFraming, is_idempotent};
use super::super::request_line;
use super::super::{OutBody, OutRequest, OutResponse, Upstream, claims_challenge};
use super::connection::UpstreamConnection;
use crate::memory::FREE;
use crate::value::chunked::{Bounds, ChunkError};
use crate::value::header;

/// Identifies the program in Entra's logs.
const USER_AGENT: &str = concat!("entra-sidecar/", env!("CARGO_PKG_VERSION"));
/// Node.js's limit for a head. Also read at once.
const INPUT: usize = 16 * 1024;
/// Trailers of an answer.
const TRAILERS: usize = INPUT;
/// Longer answers are read by a thread that may block, since checking and escaping them takes long.
const SMALL_BODY: usize = 128 * 1024;
/// An upstream that has more than this to be read at once is left to a thread, be it interim answers without end.
const ROUNDS: usize = 64;
/// Bodies up to this size are sent in one piece with the head.
const COPIED_BODY: usize = 16 * 1024;

thread_local! {
    /// Input buffer, so that a call allocates none.
    static INBOX: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A call that was begun.
#[derive(Debug)]
pub struct UpstreamCall {
    pub(super) connection: UpstreamConnection,
    pub(super) request: OutRequest,
    /// The request's head, with a small body behind it.
    head: Zeroizing<Vec<u8>>,
    sending: Sending,
    /// What was received and not parsed.
    inbox: Vec<u8>,
    /// The answer so far, and what is missing of its body.
    answer: Option<(OutResponse, AnswerBody)>,
    /// The declared length of the answer's body.
    length: Option<usize>,
    /// How long a body without a length has waited for memory.
    waited: Duration,
    /// Whether memory for the declared length is reserved.
    is_covered: bool,
    persists: bool,
    /// Whether any bytes of the answer have arrived.
    heard: bool,
    /// When the whole exchange is overdue.
    pub(super) deadline: Instant,
}

/// How far the request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// So many bytes of head and body.
    Sent(usize),
    Whole,
    /// The upstream reads no more of it. It may have answered before.
    Refused,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The answer is complete.
    Done,
    /// Waits for the connection.
    Waits,
    /// Goes on where it may block.
    Blocks,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum CallError {
    Io(io::Error),
    Invalid(String),
    Late,
    /// The limit in bytes.
    TooLarge(usize),
    NoMemory {
        timed_out: bool,
    },
}

impl From<io::Error> for CallError {
    fn from(cause: io::Error) -> Self {
        Self::Io(cause)
    }
}

impl AsFd for UpstreamCall {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl UpstreamCall {
    pub(super) fn new(
        connection: UpstreamConnection,
        request: OutRequest,
        deadline: Instant,
    ) -> Result<Self, CallError> {
        let head = head(&connection, &request)?;
        Ok(Self {
            connection,
            request,
            head,
            sending: Sending::Sent(0),
            inbox: Vec::new(),
            answer: None,
            length: None,
            waited: Duration::ZERO,
            is_covered: false,
            persists: false,
            heard: false,
            deadline,
        })
    }

    /// When the whole exchange is overdue.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// True if a reused connection had been closed before the request arrived, and the request may be repeated on a new one:
    /// it is idempotent, or goes to a vault or managed identity, where a repetition is harmless. Token requests have their own
    /// single retry.
    pub(super) fn may_repeat(&self) -> bool {
        let harmless = is_idempotent(&self.request.method)
            || !matches!(self.request.upstream, Upstream::Downstream | Upstream::Token);
        self.connection.reused && !self.heard && harmless
    }

    /// Goes on to the end. Blocks.
    pub(super) fn run(&mut self) -> Result<(), CallError> {
        loop {
            if self.advance(true)? == Step::Done {
                return Ok(());
            }
            let left = self.left();
            if left.is_zero() {
                return Err(CallError::Late);
            }
            let limit =
                Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
            let room = if self.is_sent()? { PollFlags::empty() } else { PollFlags::OUT };
            // An interrupted poll reports nothing, and the loop continues.
            let _ = poll(&mut [PollFd::new(&self.connection, PollFlags::IN | room)], Some(&limit));
        }
    }

    /// Goes on as far as the connection allows. Only with `may_block` it waits for memory, or takes a long body.
    pub(super) fn advance(&mut self, may_block: bool) -> Result<Step, CallError> {
        let sends = matches!(self.sending, Sending::Sent(_));
        self.send();
        if !may_block && sends {
            // The answer takes a while.
            return Ok(if self.is_sent()? { Step::Waits } else { Step::Blocks });
        }
        for round in 0.. {
            if !may_block && round == ROUNDS {
                return Ok(Step::Blocks);
            }
            if self.left().is_zero() {
                return Err(CallError::Late);
            }
            let Some((response, body)) = &self.answer else {
                if !self.receive_head()? {
                    return Ok(Step::Waits);
                }
                continue;
            };
            if body.is_done() {
                return Ok(Step::Done);
            }
            let is_long = self.length.unwrap_or(response.body.len()) > SMALL_BODY;
            if !may_block && is_long || !self.cover(may_block)? {
                return Ok(Step::Blocks);
            }
            if !self.receive_body()? {
                return Ok(Step::Waits);
            }
        }
        Ok(Step::Blocks)
    }

    /// Whether the whole request has left, or no more of it will.
    fn is_sent(&self) -> io::Result<bool> {
        Ok(match self.sending {
            Sending::Sent(_) => false,
            Sending::Whole => self.connection.is_sent()?,
            Sending::Refused => true,
        })
    }

    /// Sends as much as fits.
    fn send(&mut self) {
        let Sending::Sent(mut sent) = self.sending else { return };
        let relayed = match &self.request.body {
            Some(OutBody::Relayed(body)) => body.current(),
            _ => None,
        };
        let body = match &self.request.body {
            Some(OutBody::Own(body)) => body.as_slice(),
            _ => relayed.as_deref().map_or(&[][..], |body| body.bytes.as_slice()),
        };
        let body = if body.len() > COPIED_BODY { body } else { &[] };
        self.sending = loop {
            let rest = match sent.checked_sub(self.head.len()) {
                None => &self.head[sent..],
                Some(at) => &body[at..],
            };
            if rest.is_empty() {
                break Sending::Whole;
            }
            match self.connection.send(rest) {
                Ok(0) => break Sending::Sent(sent),
                Ok(more) => sent += more,
                Err(_) => break Sending::Refused,
            }
        };
    }

    /// Receives into a buffer of this thread, behind what was left over. `None`: nothing has arrived.
    fn receive(&mut self, inbox: &mut Vec<u8>) -> io::Result<Option<usize>> {
        inbox.clear();
        inbox.reserve_exact(INPUT);
        inbox.append(&mut self.inbox);
        if inbox.len() == inbox.capacity() {
            inbox.reserve_exact(INPUT);
        }
        let received = self.connection.receive(inbox)?;
        self.heard |= received.is_some_and(|received| received > 0);
        Ok(received)
    }

    /// Reads on towards the end of the final head. False: nothing has arrived.
    fn receive_head(&mut self) -> Result<bool, CallError> {
        let mut inbox = INBOX.take();
        let complete = self.receive_head_into(&mut inbox);
        give_back(inbox);
        complete
    }

    fn receive_head_into(&mut self, inbox: &mut Vec<u8>) -> Result<bool, CallError> {
        match self.receive(inbox)? {
            None => {
                self.inbox = inbox[..].to_vec();
                return Ok(false);
            }
            Some(0) => return Err(CallError::Io(io::ErrorKind::UnexpectedEof.into())),
            Some(_) => {}
        }
        let mut at = 0;
        loop {
            let head = AnswerHead::parse(&inbox[at..], self.request.method == "HEAD");
            let Some((head, length)) = head.map_err(|cause| CallError::Invalid(cause.to_owned()))? else {
                self.inbox = inbox[at..].to_vec();
                if self.inbox.len() >= INPUT {
                    return Err(CallError::Invalid("the head of the answer is too long".to_owned()));
                }
                return Ok(true);
            };
            at += length;
            match head.status {
                101 => return Err(CallError::Invalid("answered 101 to a request without an upgrade".to_owned())),
                ..200 => {}
                _ => {
                    self.begin(&head)?;
                    return self.take(&inbox[at..]).map(|()| true);
                }
            }
        }
    }

    /// Starts the answer.
    fn begin(&mut self, head: &AnswerHead<'_>) -> Result<(), CallError> {
        let headers = head.fields.iter().copied().collect();
        let response = OutResponse { status: head.status, headers, body: Vec::new() };
        self.persists = head.persists;
        self.length = match head.framing {
            BodyFraming::Length(length) => Some(usize::try_from(length).unwrap_or(usize::MAX)),
            _ => None,
        };
        if self.length.is_some_and(|length| length > self.request.max_body) {
            return Err(CallError::TooLarge(self.request.max_body));
        }
        if let Some(OutBody::Relayed(body)) = &self.request.body
            && !may_follow(&response)
        {
            body.release();
        }
        self.is_covered = self.request.memory.is_none();
        self.answer = Some((response, AnswerBody::new(head.framing)));
        Ok(())
    }

    /// Reserves memory for the body: at once if its length is known, else for what comes next. False: it may have to wait.
    fn cover(&mut self, may_block: bool) -> Result<bool, CallError> {
        let (Some(memory), Some((response, _))) = (&self.request.memory, &mut self.answer) else { return Ok(true) };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (size, limit) = match self.length {
            _ if self.is_covered => return Ok(true),
            Some(length) => (length, left),
            None => (
                response.body.len() + self.inbox.len() + INPUT,
                memory.growth_timeout.saturating_sub(self.waited).min(left),
            ),
        };
        let since = Instant::now();
        let covered = memory.cover(size, if may_block { limit } else { Duration::ZERO });
        self.waited += since.elapsed();
        if !covered && may_block {
            return Err(CallError::NoMemory { timed_out: self.length.is_some() || self.left().is_zero() });
        }
        if let (true, Some(length)) = (covered, self.length) {
            self.is_covered = true;
            response.body.reserve_exact(length);
        }
        Ok(covered)
    }

    /// Reads more of the body. False: nothing has arrived.
    fn receive_body(&mut self) -> Result<bool, CallError> {
        let Some((response, body)) = &mut self.answer else { return Ok(false) };
        // A body with a length needs no parsing, so it is read into place.
        if let (AnswerBody::Length(_), true) = (&body, self.inbox.is_empty()) {
            response.body.reserve_exact(self.length.unwrap_or(0).saturating_sub(response.body.len()));
            let Some(received) = self.connection.receive(&mut response.body)? else { return Ok(false) };
            if received == 0 {
                return Err(CallError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            body.count(received);
            if self.length.is_some_and(|length| response.body.len() > length) {
                // Bytes behind a complete answer belong to no request.
                self.persists = false;
                response.body.truncate(self.length.unwrap_or(usize::MAX));
            }
            return Ok(true);
        }
        let mut inbox = INBOX.take();
        let received = if self.inbox.is_empty() {
            self.receive(&mut inbox)
        } else {
            inbox.clear();
            inbox.append(&mut self.inbox);
            Ok(Some(inbox.len()))
        };
        let taken = match received {
            Err(cause) => Err(cause.into()),
            Ok(None) => Ok(false),
            Ok(Some(0)) => {
                let is_whole = self.answer.as_mut().is_some_and(|(_, body)| body.end());
                if is_whole { Ok(true) } else { Err(CallError::Io(io::ErrorKind::UnexpectedEof.into())) }
            }
            Ok(Some(_)) => self.take(&inbox).map(|()| true),
        };
        give_back(inbox);
        taken
    }

    /// Takes bytes of the body, as far as memory for it is reserved.
    fn take(&mut self, input: &[u8]) -> Result<(), CallError> {
        let max_body = self.request.max_body;
        let Some((response, body)) = &mut self.answer else { return Ok(()) };
        let reserved = self.length.is_none_or(|length| self.is_covered || length <= FREE);
        if !reserved && !body.is_done() {
            self.inbox = input.to_vec();
            return Ok(());
        }
        if let (Some(length), 0) = (self.length, response.body.capacity()) {
            response.body.reserve_exact(length);
        }
        let used = body.take(input, &mut response.body, Bounds { body: max_body, trailers: TRAILERS });
        let used = used.map_err(|error| match error {
            ChunkError::Malformed(what) => CallError::Invalid(what.to_owned()),
            ChunkError::TooLarge => CallError::TooLarge(max_body),
            ChunkError::TrailersTooLarge => CallError::Invalid("the trailers of the answer are too long".to_owned()),
        })?;
        if response.body.len() > max_body {
            return Err(CallError::TooLarge(max_body));
        }
        // Bytes behind a complete answer belong to no request.
        self.persists &= used == input.len();
        Ok(())
    }

    /// The answer, and the connection if it can serve another request.
    pub(super) fn end(self) -> (Option<OutResponse>, Option<UpstreamConnection>) {
        // A redirect's target is no API: its connections serve no calls.
        let clean = self.sending == Sending::Whole && self.persists && self.request.redirected_from.is_none();
        (self.answer.map(|(response, _)| response), Some(self.connection).filter(|_| clean))
    }
}

/// Keeps the buffer for the thread's next call.
fn give_back(mut inbox: Vec<u8>) {
    inbox.clear();
    if inbox.capacity() <= 2 * INPUT {
        INBOX.set(inbox);
    }
}

/// True if the request may have to be sent again, to another URL or with another token.
fn may_follow(response: &OutResponse) -> bool {
    matches!(response.status, 301 | 302 | 307 | 308) || claims_challenge(response).is_some()
}

/// The head of a request, with a small body behind it.
fn head(connection: &UpstreamConnection, request: &OutRequest) -> Result<Zeroizing<Vec<u8>>, CallError> {
    let relayed = match &request.body {
        Some(OutBody::Relayed(body)) => body.current(),
        _ => None,
    };
    let body = match &request.body {
        Some(OutBody::Own(body)) => Some(body.as_slice()),
        Some(OutBody::Relayed(_)) => Some(relayed.as_deref().map_or(&[][..], |body| body.bytes.as_slice())),
        None => None,
    };
    let copied = body.filter(|body| body.len() <= COPIED_BODY).unwrap_or_default();
    let values: usize = request.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let room = request.url.path.len() + values + copied.len() + 512;
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    request_line::write(&mut out, &request.method, &request.url, connection.to_proxy.as_ref());
    let mut put = |parts: &[&str]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    if !request.headers.iter().any(|(name, _)| name == "user-agent") {
        put(&["user-agent: ", USER_AGENT, "\r\n"]);
    }
    for (name, value) in &request.headers {
        if !header::is_token(name) || !value.bytes().all(|byte| byte.is_ascii() && header::is_value_char(byte)) {
            return Err(CallError::Invalid(format!("the request's header '{name}' cannot be sent")));
        }
        put(&[name, ": ", value, "\r\n"]);
    }
    if let Some(body) = body {
        put(&["content-length: ", &body.len().to_string(), "\r\n"]);
    }
    put(&["\r\n"]);
    out.extend_from_slice(copied);
    Ok(out)
}
