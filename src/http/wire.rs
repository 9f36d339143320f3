//! The caller's side of a request that passes through: its body comes out, its answer goes in, and nothing waits here.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::arrival::Arrival;
use super::head::Terms;
use super::limits::Limits;
use super::reader::{Progress, RequestReader};
use super::refusal::Refusal;
use super::socket::Socket;
use crate::value::date::HTTP_LEN;

/// Read at once.
const PIECE: usize = 16 * 1024;

/// What there was of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Something, perhaps the end.
    Some,
    /// Nothing for now.
    Nothing,
    /// The caller has gone.
    Gone,
    /// It is no body.
    Refused(Refusal),
}

/// A caller's connection while its request passes through.
pub struct Wire<'a> {
    socket: &'a Socket,
    reader: &'a mut RequestReader,
    ahead: &'a mut Vec<u8>,
    input: Vec<u8>,
    continue_expected: &'a mut bool,
    limits: Limits,
    arrival: Arrival,
    /// How the answer is to be sent.
    pub terms: Terms,
    /// Whether the server ends, and with it the connection after this answer.
    pub draining: bool,
    /// The text of `Date`.
    pub date: [u8; HTTP_LEN],
}

impl AsFd for Wire<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<'a> Wire<'a> {
    pub(super) fn new(
        (socket, reader): (&'a Socket, &'a mut RequestReader),
        ahead: &'a mut Vec<u8>,
        continue_expected: &'a mut bool,
        limits: &Limits,
        terms: Terms,
        date: [u8; HTTP_LEN],
    ) -> Self {
        let now = Instant::now();
        Self {
            socket,
            reader,
            ahead,
            input: Vec::new(),
            continue_expected,
            // What is not held has no limit.
            limits: Limits { body_bytes: usize::MAX, ..limits.clone() },
            arrival: Arrival { began: now, progress: now, received: 0, holds_memory: false },
            terms,
            draining: false,
            date,
        }
    }

    /// Appends what has come of the body, without its transfer coding.
    pub fn take(&mut self, out: &mut Vec<u8>) -> Taken {
        let (reader, limits) = (&mut *self.reader, &self.limits);
        let taken = if reader.progress() == Progress::Whole {
            // It came with its head.
            reader.pass_on(&[], out, limits)
        } else if self.ahead.is_empty() {
            self.input.clear();
            self.input.reserve(PIECE);
            match self.socket.receive(&mut self.input) {
                Ok(Some(1..)) => {}
                Ok(None) => return Taken::Nothing,
                Ok(Some(0)) | Err(_) => return Taken::Gone,
            }
            let taken = reader.pass_on(&self.input, out, limits);
            self.ahead.extend_from_slice(self.input.get(*taken.as_ref().unwrap_or(&0)..).unwrap_or_default());
            taken
        } else {
            let taken = reader.pass_on(&self.ahead[..self.ahead.len().min(PIECE)], out, limits);
            self.ahead.drain(..*taken.as_ref().unwrap_or(&0));
            taken
        };
        match taken {
            Ok(taken) => {
                self.arrival.received += taken as u64;
                self.arrival.progress = Instant::now();
                Taken::Some
            }
            Err(refusal) => Taken::Refused(refusal),
        }
    }

    /// Whether the whole body was taken.
    pub fn is_taken(&mut self) -> bool {
        self.reader.is_passed_on()
    }

    /// When the body is overdue: it has to make progress, and not too slowly.
    pub fn due(&self) -> Instant {
        let now = Instant::now();
        self.arrival.deadline(self.limits.body_timeout, false, now)
    }

    /// The body had no chance to come for so long.
    pub fn excuse(&mut self, held_up: Duration) {
        self.arrival.began += held_up;
        self.arrival.progress = Instant::now();
    }

    /// The server's limits; there is none to a body.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sends what there is room for: how much that was. `None`: the caller has gone.
    pub fn send(&mut self, bytes: &[u8]) -> Option<usize> {
        self.socket.send(bytes, &[]).ok()
    }

    /// Lets the body come, and tells a caller that waits for it that it is welcome.
    pub fn invite(&mut self) {
        let now = Instant::now();
        (self.arrival.began, self.arrival.progress) = (now, now);
        if std::mem::take(self.continue_expected) {
            // A caller that has gone is noticed soon enough.
            let _ = self.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n", &[]);
        }
    }

    /// Lets the end of the connection be seen as a break: where nothing else delimits an answer, its end would be taken
    /// for the answer's (RFC 9112 §8).
    pub fn sever(&mut self) {
        // It fails where the connection has ended already.
        let _ = set_socket_linger(self.socket, Some(Duration::ZERO));
    }
}
