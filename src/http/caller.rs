//! The caller's side of a streamed request: reads its body and sends its answer, without ever blocking.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::arrival::Arrival;
use super::head::Terms;
use super::reader::{Progress, RequestReader};
use super::request_error::RequestError;
use super::socket::Socket;
use crate::config::Limits;
use crate::value::date::HTTP_LEN;

/// Read at once.
const PIECE: usize = 16 * 1024;

/// The result of reading from a body.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyRead {
    /// Some bytes, possibly the last ones.
    Data,
    /// Nothing has arrived yet.
    Pending,
    /// The caller has closed the connection.
    Closed,
    /// The framing is malformed.
    Refused(RequestError),
}

/// A caller's connection while its request is streamed.
pub struct CallerStream<'a> {
    socket: &'a Socket,
    reader: &'a mut RequestReader,
    ahead: &'a mut Vec<u8>,
    input: Vec<u8>,
    continue_expected: &'a mut bool,
    limits: Limits,
    arrival: Arrival,
    /// How the answer is to be sent.
    pub terms: Terms,
    /// Whether the caller has closed its end, as far as is known.
    pub is_gone: bool,
    /// Whether the server is shutting down, so the connection closes after this answer.
    pub draining: bool,
    /// The text of `Date`.
    pub date: [u8; HTTP_LEN],
}

impl AsFd for CallerStream<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<'a> CallerStream<'a> {
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
            // A streamed body has no size limit.
            limits: Limits { body_bytes: usize::MAX, ..limits.clone() },
            arrival: Arrival { began: now, progress: now, received: 0, holds_memory: false },
            terms,
            is_gone: false,
            draining: false,
            date,
        }
    }

    /// Appends the body bytes that have arrived, without their transfer coding.
    pub fn take(&mut self, out: &mut Vec<u8>) -> BodyRead {
        let (reader, limits) = (&mut *self.reader, &self.limits);
        let taken = if reader.progress() == Progress::Whole {
            // The body arrived together with the head.
            reader.read_body(&[], out, limits)
        } else if self.ahead.is_empty() {
            self.input.clear();
            self.input.reserve(PIECE);
            match self.socket.receive(&mut self.input) {
                Ok(Some(1..)) => {}
                Ok(None) => return BodyRead::Pending,
                Ok(Some(0)) | Err(_) => return BodyRead::Closed,
            }
            let taken = reader.read_body(&self.input, out, limits);
            self.ahead.extend_from_slice(self.input.get(*taken.as_ref().unwrap_or(&0)..).unwrap_or_default());
            taken
        } else {
            let taken = reader.read_body(&self.ahead[..self.ahead.len().min(PIECE)], out, limits);
            self.ahead.drain(..*taken.as_ref().unwrap_or(&0));
            taken
        };
        match taken {
            Ok(taken) => {
                self.arrival.received += taken as u64;
                self.arrival.progress = Instant::now();
                BodyRead::Data
            }
            Err(refusal) => BodyRead::Refused(refusal),
        }
    }

    /// Whether the whole body has been read.
    pub fn is_taken(&mut self) -> bool {
        self.reader.body_is_read()
    }

    /// When the body is overdue: it has to make progress, and not too slowly.
    pub fn due(&self) -> Instant {
        let now = Instant::now();
        self.arrival.deadline(self.limits.body_timeout, false, now)
    }

    /// Excludes a time during which nothing was read from what the body may take.
    pub fn excuse(&mut self, held_up: Duration) {
        self.arrival.began += held_up;
        self.arrival.progress = Instant::now();
    }

    /// The server's limits, without one for the body's size.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sends as much as fits and returns how much that was. `None`: the caller has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> Option<usize> {
        self.socket.send(bytes, &[]).ok()
    }

    /// Starts the body's timers, and sends `100 Continue` to a caller that waits for it.
    pub fn invite(&mut self) {
        let now = Instant::now();
        (self.arrival.began, self.arrival.progress) = (now, now);
        if std::mem::take(self.continue_expected) {
            // The next read or write notices a closed connection.
            let _ = self.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n", &[]);
        }
    }

    /// Makes closing the connection reset it. Where only the connection's end delimits an answer, a normal close would
    /// make a broken answer look complete (RFC 9112 §8).
    pub fn reset_on_close(&mut self) {
        // Fails only on a connection that has already ended.
        let _ = set_socket_linger(self.socket, Some(Duration::ZERO));
    }
}
