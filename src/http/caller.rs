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

#[derive(Debug, PartialEq, Eq)]
pub enum BodyRead {
    /// Some bytes, possibly the last ones.
    Data,
    Pending,
    Closed,
    /// The framing is malformed.
    Refused(RequestError),
}

/// A caller's connection while its request is streamed.
pub struct CallerStream<'a> {
    pub(super) socket: &'a Socket,
    pub(super) reader: &'a mut RequestReader,
    pub(super) ahead: &'a mut Vec<u8>,
    pub(super) input: Vec<u8>,
    pub(super) continue_expected: &'a mut bool,
    pub(super) limits: &'a Limits,
    pub(super) arrival: Arrival,
    pub terms: Terms,
    /// Whether the caller has closed its end, as far as is known.
    pub is_gone: bool,
    /// Whether the server is shutting down, so the connection closes after this answer.
    pub draining: bool,
    pub date: [u8; HTTP_LEN],
}

impl AsFd for CallerStream<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl CallerStream<'_> {
    /// Appends the body bytes that have arrived, without their transfer coding.
    pub fn take(&mut self, out: &mut Vec<u8>) -> BodyRead {
        let reader = &mut *self.reader;
        let bounds = self.limits.streamed_bounds();
        let taken = if reader.progress() == Progress::Whole {
            // The body arrived together with the head.
            reader.read_body(&[], out, bounds)
        } else if self.ahead.is_empty() {
            self.input.clear();
            self.input.reserve(PIECE);
            match self.socket.receive(&mut self.input) {
                Ok(Some(1..)) => {}
                Ok(None) => return BodyRead::Pending,
                Ok(Some(0)) | Err(_) => return BodyRead::Closed,
            }
            let taken = reader.read_body(&self.input, out, bounds);
            self.ahead.extend_from_slice(self.input.get(*taken.as_ref().unwrap_or(&0)..).unwrap_or_default());
            taken
        } else {
            let taken = reader.read_body(&self.ahead[..self.ahead.len().min(PIECE)], out, bounds);
            self.ahead.drain(..*taken.as_ref().unwrap_or(&0));
            taken
        };
        match taken {
            Ok(taken) => {
                self.arrival.receive(taken, Instant::now());
                BodyRead::Data
            }
            Err(refusal) => BodyRead::Refused(refusal),
        }
    }

    pub fn is_taken(&mut self) -> bool {
        self.reader.body_is_read()
    }

    /// When the body is overdue: it has to make progress, and not too slowly.
    pub fn due(&self) -> Instant {
        let now = Instant::now();
        self.arrival.deadline(self.limits.body_timeout, false, false, now)
    }

    /// Excludes a time during which nothing was read from what the body may take.
    pub fn excuse(&mut self, held_up: Duration) {
        self.arrival.excuse(held_up, Instant::now());
    }

    pub const fn limits(&self) -> &Limits {
        self.limits
    }

    /// Sends as much as fits and returns how much that was. `None`: the caller has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> Option<usize> {
        self.socket.send(bytes, &[]).ok()
    }

    /// Starts the body's timers, and sends `100 Continue` to a caller that waits for it.
    pub fn invite(&mut self) {
        self.arrival = Arrival::begin(Instant::now());
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
