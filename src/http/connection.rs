//! One connection: what has arrived, what is to leave, and what it waits for until when. A worker takes it out
//! of the [`super::table`], moves it on as far as it goes without blocking, and puts it back.

use std::fmt;
use std::time::{Duration, Instant};

use super::handler::ConnectionId;
use super::limits::Limits;
use super::message::{BodyStream, Peer};
use super::poller::Event;
use super::reader::{Progress, RequestReader};
use super::slots::ConnState;
use super::socket::Socket;
use crate::memory;
use crate::turns;

/// How long a connection that was answered for the last time is read on, so that the other end can read that
/// answer before it learns that nobody listens (RFC 9112 §9.6).
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How much is read on meanwhile: what was on its way, not a body of any length.
pub(super) const LINGER_BYTES: usize = 64 * 1024;

pub(super) struct Connection<P> {
    pub id: ConnectionId,
    pub socket: Socket,
    pub peer: Peer,
    pub stage: Stage<P>,
    /// What has come of the present request.
    pub reader: RequestReader,
    /// What came behind the present request, while that one is parked or its answer has not left.
    pub ahead: Vec<u8>,
    /// When the first byte of the present request was seen.
    pub first_byte: Instant,
    /// Whether its caller waits for `100 Continue`.
    pub expects_continue: bool,
    /// When its body began to be read.
    pub body_began: Instant,
    /// When some of it came last.
    pub body_progress: Instant,
    /// How much of it has come.
    pub body_received: u64,
    /// The size for which its body waits for memory.
    pub wanted_memory: usize,
    /// How long it may still wait for turns and for memory.
    pub patience: Duration,
    /// Since when it has waited for a request: the accept or the last answer.
    pub waiting_since: Instant,
    /// When it is looked at though nothing happens.
    pub deadline: Instant,
    /// Whether the kernel says when there is room to send.
    pub room_watched: bool,
    /// What the kernel has said and nobody has read up to.
    pub unread: Event,
    /// Calls of the handler, to tell wakers apart.
    pub call: u64,
}

pub(super) enum Stage<P> {
    /// A request is arriving, or none has begun.
    Receiving,
    /// A whole request waits to be woken.
    Parked(P),
    /// A whole request waits for its turn, since then.
    Queued(P, turns::Place, Instant),
    /// A body waits for memory, unread, since then.
    Unread(memory::Place, Instant),
    /// An answer is leaving.
    Sending(Unsent, After),
    /// The last answer has left; this much is read and dropped at most.
    Lingering(usize),
}

/// The part of an answer that the socket had no room for.
pub(super) struct Unsent {
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    pub sent: usize,
    /// What makes the rest of the body.
    pub stream: Option<Box<dyn BodyStream>>,
    /// Sent of this answer when progress was last made.
    pub progress: u64,
    pub progress_at: Instant,
    /// Sent of this answer.
    pub total: u64,
}

/// Bytes of an answer that are made at once.
pub(super) const PIECE: usize = 64 * 1024;

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request.
    Next,
    /// The end: the caller asked for it, so nothing is on its way.
    Close,
    /// The end, though the caller may still be sending.
    Linger,
}

/// What a connection needs before it can move on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Bytes to read, or their deadline.
    Bytes,
    /// Room to send, or its deadline.
    Room,
    /// To be woken.
    Wake,
    /// Another turn, after others had theirs.
    Turn,
}

impl<P> Connection<P> {
    pub fn new(id: ConnectionId, socket: Socket, peer: Peer, now: Instant, limits: &Limits) -> Self {
        Self {
            id,
            socket,
            peer,
            stage: Stage::Receiving,
            reader: RequestReader::default(),
            ahead: Vec::new(),
            first_byte: now,
            expects_continue: false,
            body_began: now,
            body_progress: now,
            body_received: 0,
            wanted_memory: 0,
            patience: limits.queue_timeout,
            waiting_since: now,
            deadline: now + limits.idle_timeout,
            room_watched: false,
            unread: Event::None,
            call: 0,
        }
    }

    pub fn state(&self) -> ConnState {
        match &self.stage {
            Stage::Parked(_) | Stage::Queued(..) => ConnState::Parked,
            Stage::Unread(..) => ConnState::Body,
            Stage::Sending(..) => ConnState::Writing,
            Stage::Lingering(_) => ConnState::Lingering,
            // Bytes that wait for their turn may be a request.
            Stage::Receiving if !self.ahead.is_empty() => ConnState::Handling,
            Stage::Receiving => match self.reader.progress() {
                Progress::Nothing => ConnState::Idle,
                Progress::Head => ConnState::Head,
                Progress::Body => ConnState::Body,
                Progress::Whole => ConnState::Handling,
            },
        }
    }

    /// Whether it may be closed to admit another one: it holds no complete request, not even one that
    /// has arrived and that no worker has come to read.
    pub fn is_evictable(&self, limits: &Limits) -> bool {
        let mut unread = Vec::with_capacity(limits.head_bytes);
        match self.state() {
            ConnState::Lingering | ConnState::Body => true,
            state if !state.is_evictable() => false,
            _ => match self.socket.peek(&mut unread) {
                Ok(Some(_)) => !self.reader.would_complete(&unread, limits) && unread.len() < limits.head_bytes,
                Ok(None) | Err(_) => true,
            },
        }
    }
}

impl Unsent {
    /// Sends as much of it as there is room for: whether that was all. `Err`: the connection is broken.
    pub fn send(&mut self, socket: &Socket) -> Result<bool, rustix::io::Errno> {
        loop {
            while self.sent < self.head.len() + self.body.len() {
                let head = self.head.get(self.sent..).unwrap_or_default();
                let body = &self.body[self.sent.saturating_sub(self.head.len())..];
                let sent = if head.is_empty() { socket.send(body, &[])? } else { socket.send(head, body)? };
                if sent == 0 {
                    return Ok(false);
                }
                self.sent += sent;
                self.total += sent as u64;
            }
            let Some(stream) = &mut self.stream else { return Ok(true) };
            self.head.clear();
            self.body.clear();
            self.sent = 0;
            stream.fill(&mut self.body, PIECE);
            if self.body.is_empty() {
                self.stream = None;
            }
        }
    }
}

impl fmt::Debug for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsent").field("total", &self.total).finish_non_exhaustive()
    }
}
