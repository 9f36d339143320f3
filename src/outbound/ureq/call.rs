//! One request and its complete answer over a connection that never blocks. A thread that may block waits for the
//! connection in between; others come back when it is ready.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use super::super::buffers;
use super::super::http1::{AnswerHead, BodyFraming, INPUT, Incoming, TRAILERS_TOO_LONG};
use super::super::redirect::is_redirect;
use super::super::request_line::{self, is_idempotent};
use super::super::{OutBody, OutError, OutRequest, OutResponse, Upstream, claims_challenge};
use super::connection::UpstreamConnection;
use crate::value::chunked::{Bounds, ChunkError};
use crate::value::header;

/// Identifies the program in Entra's logs.
const USER_AGENT: &str = concat!("entra-sidecar/", env!("CARGO_PKG_VERSION"));
/// Longer answers are read by a thread that may block, since checking and escaping them takes long.
const SMALL_BODY: usize = 128 * 1024;
/// An upstream that has more than this to be read at once is left to a thread, be it interim answers without end.
const ROUNDS: usize = 64;
/// Bodies up to this size are sent in one piece with the head.
const COPIED_BODY: usize = 16 * 1024;

pub struct UpstreamCall {
    pub(super) connection: UpstreamConnection,
    pub(super) request: OutRequest,
    /// The request's head, with a small body behind it.
    head: Zeroizing<Vec<u8>>,
    sending: Sending,
    answer: Incoming,
    /// `None` until its head has arrived.
    response: Option<OutResponse>,
    /// The declared length of the answer's body.
    length: Option<usize>,
    /// How long a body without a length has waited for memory.
    waited: Duration,
    /// Whether memory for the declared length is reserved.
    is_covered: bool,
    /// When the whole exchange is overdue.
    pub deadline: Instant,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
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
    ) -> Result<Self, OutError> {
        let head = head(&connection, &request)
            .map_err(|cause| OutError::Broken(format!("{}: {cause}", request.url.origin)))?;
        let answer = if request.upstream.sends_secrets() { Incoming::secret() } else { Incoming::default() };
        Ok(Self {
            connection,
            request,
            head,
            sending: Sending::Sent(0),
            answer,
            response: None,
            length: None,
            waited: Duration::ZERO,
            is_covered: false,
            deadline,
        })
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
        self.connection.reused && !self.answer.heard && harmless
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
            let limit = Timespec::try_from(left).ok();
            let room = if self.is_sent() { PollFlags::empty() } else { PollFlags::OUT };
            // An interrupted poll reports nothing, and the loop continues.
            let _ = poll(&mut [PollFd::new(&self.connection, PollFlags::IN | room)], limit.as_ref());
        }
    }

    /// Goes on as far as the connection allows. Only with `may_block` it waits for memory, or takes a long body.
    pub(super) fn advance(&mut self, may_block: bool) -> Result<Step, CallError> {
        let sends = matches!(self.sending, Sending::Sent(_));
        self.send();
        if !may_block && sends {
            // The answer takes a while.
            return Ok(if self.is_sent() { Step::Waits } else { Step::Blocks });
        }
        let rounds = if may_block { usize::MAX } else { ROUNDS };
        for _ in 0..rounds {
            if self.left().is_zero() {
                return Err(CallError::Late);
            }
            let Some(response) = &self.response else {
                if !self.receive_head()? {
                    return Ok(Step::Waits);
                }
                continue;
            };
            if self.answer.is_done() {
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
    fn is_sent(&self) -> bool {
        match self.sending {
            Sending::Sent(_) => false,
            Sending::Whole => self.connection.is_sent(),
            Sending::Refused => true,
        }
    }

    /// Sends as much as fits.
    fn send(&mut self) {
        let Sending::Sent(mut sent) = self.sending else { return };
        let held = self.request.body.as_ref().map(OutBody::current);
        let body = held.as_deref().map_or(&[][..], |body| body);
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
        if self.sending == Sending::Whole {
            buffers::wipe_head(&mut self.head);
        }
    }

    /// Reads on towards the end of the final head. False: nothing has arrived.
    fn receive_head(&mut self) -> Result<bool, CallError> {
        match self.answer.receive(&mut self.connection)? {
            None => return Ok(false),
            Some(0) => return Err(cut()),
            Some(_) => {}
        }
        let mut answer = mem::take(&mut self.answer);
        let is_head = self.request.method == "HEAD";
        let refused = answer.heads(is_head, |head, _| if head.status < 200 { None } else { self.begin(head).err() });
        self.answer = answer;
        match refused {
            Ok(None) => Ok(true),
            Ok(Some(error)) => Err(error),
            Err(cause) => Err(CallError::Invalid(cause.to_owned())),
        }
    }

    fn begin(&mut self, head: &AnswerHead<'_>) -> Result<(), CallError> {
        let headers = head.fields.iter().copied().collect();
        let response = OutResponse { status: head.status, headers, body: Vec::new() };
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
        self.response = Some(response);
        Ok(())
    }

    /// Reserves memory for the body: at once if its length is known, else for what has come. False: it may have to wait.
    fn cover(&mut self, may_block: bool) -> Result<bool, CallError> {
        let (Some(memory), Some(response)) = (&self.request.memory, &mut self.response) else { return Ok(true) };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (size, limit) = match self.length {
            _ if self.is_covered => return Ok(true),
            Some(length) => (length, left),
            None => (
                response.body.len() + self.answer.unparsed().len(),
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

    /// Takes what has come of the body, for which memory is reserved, or receives more. False: nothing has arrived.
    fn receive_body(&mut self) -> Result<bool, CallError> {
        let (Some(response), max_body) = (&mut self.response, self.request.max_body) else { return Ok(false) };
        if response.body.capacity() == 0 {
            // Where a token's buffer grew, a copy would be left.
            let usual = if self.request.upstream.sends_secrets() { INPUT } else { 0 };
            response.body.reserve_exact(self.length.unwrap_or(usual));
        }
        if !self.answer.unparsed().is_empty() {
            let bounds = Bounds { body: max_body, trailers: INPUT };
            self.answer.take_body(&mut response.body, bounds).map_err(|error| match error {
                ChunkError::Malformed(what) => CallError::Invalid(what.to_owned()),
                ChunkError::TooLarge => CallError::TooLarge(max_body),
                ChunkError::TrailersTooLarge => CallError::Invalid(TRAILERS_TOO_LONG.to_owned()),
            })?;
            return if response.body.len() > max_body { Err(CallError::TooLarge(max_body)) } else { Ok(true) };
        }
        let received = match self.answer.plain() {
            Some(_) => self.answer.receive_plain(&mut self.connection, &mut response.body)?,
            None => self.answer.receive(&mut self.connection)?,
        };
        if received == Some(0) && !self.answer.end() {
            return Err(cut());
        }
        Ok(received.is_some())
    }

    /// The answer, and the connection if it can serve another request.
    pub(super) fn end(self) -> (Option<OutResponse>, Option<UpstreamConnection>) {
        // A redirect's target is no API: its connections serve no calls.
        let clean = self.sending == Sending::Whole && self.answer.is_clean() && self.request.redirected_from.is_none();
        (self.response, Some(self.connection).filter(|_| clean))
    }
}

fn cut() -> CallError {
    CallError::Io(io::ErrorKind::UnexpectedEof.into())
}

/// True if the request may have to be sent again, to another URL or with another token.
fn may_follow(response: &OutResponse) -> bool {
    // A 303 is followed without the body.
    response.status != 303 && is_redirect(response.status) || claims_challenge(response).is_some()
}

/// The head of a request, with a small body behind it.
fn head(connection: &UpstreamConnection, request: &OutRequest) -> Result<Zeroizing<Vec<u8>>, String> {
    let held = request.body.as_ref().map(OutBody::current);
    let body = held.as_deref();
    let copied = body.filter(|body| body.len() <= COPIED_BODY).unwrap_or_default();
    let mut out = buffers::for_head();
    request_line::write(&mut out, &request.method, &request.url, connection.to_proxy.as_ref());
    let mut put = |parts: &[&[u8]]| buffers::append(&mut out, parts);
    if !request.headers.iter().any(|(name, _)| name == "user-agent") {
        put(&[b"user-agent: ", USER_AGENT.as_bytes(), b"\r\n"]);
    }
    for (name, value) in &request.headers {
        if !header::is_token(name) || !value.iter().all(|byte| header::is_value_char(*byte)) {
            return Err(format!("the request's header '{name}' cannot be sent"));
        }
        put(&[name.as_bytes(), b": ", value, b"\r\n"]);
    }
    if let Some(body) = body {
        put(&[b"content-length: ", body.len().to_string().as_bytes(), b"\r\n"]);
    }
    put(&[b"\r\n", copied]);
    Ok(out)
}
