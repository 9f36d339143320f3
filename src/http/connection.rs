//! One connection: the bytes read, the bytes to send, and what it waits for until when. A worker
//! takes it out of the [`super::table`], works on it until it would block, and puts it back.

use std::fmt;
use std::time::{Duration, Instant};

use super::arrival::Arrival;
use super::handler::{ConnectionId, PendingAnswer};
use super::head::Terms;
use super::message::{BodyStream, Peer, RequestRecord};
use super::poller::Event;
use super::reader::{Progress, RequestReader};
use super::slots::ConnState;
use super::socket::Socket;
use crate::config::Limits;
use crate::memory;
use crate::turns;

/// How long to keep reading after the last answer, so that the peer can read that answer before a
/// reset discards it (RFC 9112 §9.6).
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Bytes to read while lingering: enough for what was in transit, not for a whole body.
pub(super) const LINGER_BYTES: usize = 64 * 1024;

pub(super) struct Connection<P> {
    pub id: ConnectionId,
    pub socket: Socket,
    pub peer: Peer,
    pub stage: Stage<P>,
    /// The current request, as far as it has arrived.
    pub reader: RequestReader,
    /// Bytes read beyond the current request while it is parked or its answer is being sent.
    pub ahead: Vec<u8>,
    pub record: RequestRecord,
    pub expects_continue: bool,
    /// Of the body.
    pub arrival: Arrival,
    /// What is left of `QueueTimeout`, for turns and memory together.
    pub patience: Duration,
    /// Start of the wait for a request: the accept or the last answer.
    pub waiting_since: Instant,
    /// When to look at the connection if nothing happens before.
    pub deadline: Instant,
    /// True once the epoll reports room to send.
    pub room_watched: bool,
    /// The latest event whose bytes have not all been read.
    pub unread: Event,
    /// Numbers the calls of the handler, so that a waker belongs to one of them.
    pub call: u64,
}

pub(super) enum Stage<P> {
    /// Part of a request has arrived, or none yet.
    Receiving,
    /// A complete request waits to be woken.
    Parked(P),
    /// A complete request has waited for a turn since this time.
    Queued(P, turns::Place, Instant),
    /// An answer that an upstream has a part in, with its turn.
    Pending(Pending<P>),
    /// A body has waited for so many bytes of memory since this time and is not being read.
    Unread(memory::Place, usize, Instant),
    Sending(Unsent, After),
    /// The last answer has been sent. Up to this many bytes are read and dropped.
    Lingering(usize),
}

/// An answer that waits for an upstream.
pub(super) struct Pending<P> {
    pub answer: Box<dyn PendingAnswer<P>>,
    pub turn: turns::Turn,
    pub terms: Terms,
    /// Whether the epoll reports input from the upstream.
    pub is_watched: bool,
}

/// The part of an answer that did not fit into the socket's buffer.
pub(super) struct Unsent {
    /// And a small body, or a piece of one that is streamed.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// Of both.
    pub sent: usize,
    /// Produces the rest of the body.
    pub stream: Option<Box<dyn BodyStream>>,
    /// How many bytes of this answer were sent when it last made progress, and when that was.
    pub progress: Option<(u64, Instant)>,
    /// Bytes of this answer sent.
    pub total: u64,
}

/// Bytes of a streamed body produced at once.
pub(super) const PIECE: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Next,
    /// Close: the caller asked for it, so nothing is in transit.
    Close,
    /// Close after reading on for a while, since the caller may still be sending.
    Linger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Bytes to read, or the deadline.
    Bytes,
    /// Room to send, or the deadline.
    Room,
    Wake,
    /// Another visit, after other connections have had one.
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
            record: RequestRecord::new(now),
            expects_continue: false,
            arrival: Arrival::begin(now),
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
            Stage::Pending(_) => ConnState::Handling,
            Stage::Unread(..) => ConnState::Body,
            Stage::Sending(..) => ConnState::Writing,
            Stage::Lingering(_) => ConnState::Lingering,
            // The bytes already read may hold a complete request.
            Stage::Receiving if !self.ahead.is_empty() => ConnState::Handling,
            Stage::Receiving => match self.reader.progress() {
                Progress::Nothing => ConnState::Idle,
                Progress::Head => ConnState::Head,
                Progress::Body => ConnState::Body,
                Progress::Whole => ConnState::Handling,
            },
        }
    }

    /// True if it may be closed to make room: it holds no complete request, and none waits unread
    /// in the socket's buffer.
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
    /// Sends as much as fits. Returns true if that was all, and an error if the connection is
    /// broken.
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
            stream.fill(&mut self.head, PIECE);
            if self.head.is_empty() {
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
