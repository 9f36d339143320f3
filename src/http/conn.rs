//! One connection: what has arrived, what is to leave, and what it waits for until when. A worker takes it out
//! of the [`super::table`], moves it on as far as it goes without blocking, and puts it back.

use std::time::{Duration, Instant};

use super::board::State;
use super::handler::Token;
use super::intake::{Intake, Progress};
use super::limits::Limits;
use super::message::Peer;
use super::poller::Event;
use super::socket::Socket;

/// How long a connection that was answered for the last time is read on, so that the other end can read that
/// answer before it learns that nobody listens (RFC 9112 §9.6).
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How much is read on meanwhile beyond a body of the greatest length.
pub(super) const LINGER_BYTES: usize = 64 * 1024;

pub(super) struct Conn<P> {
    pub token: Token,
    pub socket: Socket,
    pub peer: Peer,
    pub stage: Stage<P>,
    /// What has come of the present request.
    pub intake: Intake,
    /// What came behind the present request, while that one is parked or its answer has not left.
    pub ahead: Vec<u8>,
    /// When the first byte of the present request was seen.
    pub first_byte: Instant,
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
    /// A whole request waits for something.
    Parked(P),
    /// An answer is leaving.
    Sending(Unsent, After),
    /// The last answer has left; this much is read and dropped at most.
    Lingering(usize),
}

/// The part of an answer that the socket had no room for.
#[derive(Debug)]
pub(super) struct Unsent {
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    pub sent: usize,
}

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

impl<P> Conn<P> {
    pub fn new(token: Token, socket: Socket, peer: Peer, now: Instant, limits: &Limits) -> Self {
        Self {
            token,
            socket,
            peer,
            stage: Stage::Receiving,
            intake: Intake::default(),
            ahead: Vec::new(),
            first_byte: now,
            waiting_since: now,
            deadline: now + limits.idle_timeout,
            room_watched: false,
            unread: Event::None,
            call: 0,
        }
    }

    pub fn state(&self) -> State {
        match &self.stage {
            Stage::Parked(_) => State::Parked,
            Stage::Sending(..) => State::Writing,
            Stage::Lingering(_) => State::Lingering,
            // Bytes that wait for their turn may be a request.
            Stage::Receiving if !self.ahead.is_empty() => State::Body,
            Stage::Receiving => match self.intake.progress() {
                Progress::Nothing => State::Idle,
                Progress::Head => State::Head,
                Progress::Body => State::Body,
            },
        }
    }

    /// Whether it may be closed to admit another one: it holds no complete request, not even one that
    /// has arrived and that no worker has come to read.
    pub fn is_evictable(&self, limits: &Limits) -> bool {
        let mut unread = Vec::with_capacity(limits.head_bytes);
        match self.state() {
            State::Lingering => true,
            state if !state.is_evictable() => false,
            _ => match self.socket.peek(&mut unread) {
                Ok(Some(_)) => !self.intake.would_complete_head(&unread, limits),
                Ok(None) | Err(_) => true,
            },
        }
    }
}

impl Unsent {
    /// Sends as much of it as there is room for: whether that was all. `Err`: the connection is broken.
    pub fn send(&mut self, socket: &Socket) -> Result<bool, rustix::io::Errno> {
        while self.sent < self.head.len() + self.body.len() {
            let head = self.head.get(self.sent..).unwrap_or_default();
            let body = &self.body[self.sent.saturating_sub(self.head.len())..];
            let sent = if head.is_empty() { socket.send(body, &[])? } else { socket.send(head, body)? };
            if sent == 0 {
                return Ok(false);
            }
            self.sent += sent;
        }
        Ok(true)
    }
}
