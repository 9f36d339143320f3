//! Sends answers: as much as fits into the socket's buffer, the rest when there is room, and after
//! the last one an orderly close.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::connection::{After, Connection, LINGER, LINGER_BYTES, PIECE, Stage, Unsent, Wait};
use super::driver::{Driver, Next};
use super::handler::Handler;
use super::head::{Terms, begun};
use super::message::{Body, Reply};
use super::reply;
use super::request_error::RequestError;
use super::slots::Phase;
use crate::clock::{Clock, SystemClock};

/// Bodies up to this size are copied behind the head, which is cheaper than a second buffer.
const COPIED_BODY: usize = 16 * 1024;

impl<H: Handler> Driver<H> {
    /// Answers input that is not a request: `input`, behind what the reader holds. Nothing after it
    /// on this connection is read.
    pub fn refuse(&mut self, conn: &mut Connection<H::Parked>, refusal: RequestError, input: &[u8]) -> Next<H::Parked> {
        let terms = Terms { head_only: false, keep_alive: false, http_1_0: false };
        let handler = &self.shared.handler;
        let refused = catch_unwind(AssertUnwindSafe(|| {
            let told = conn.reader.replay(|head, _| {
                handler.refuse(&refusal, Some(&head.request(Body::Expected(None), conn.peer, &conn.record)))
            });
            told.unwrap_or_else(|_| {
                let begun = begun(conn.reader.head_so_far(input), conn.peer, &conn.record);
                handler.refuse(&refusal, begun.as_ref())
            })
        }));
        conn.reader.finish();
        conn.ahead = Vec::new();
        let reply = refused.unwrap_or_else(|_| {
            self.shared.slots.panics.fetch_add(1, Ordering::Relaxed);
            Reply::new(refusal.status())
        });
        self.send(conn, reply, terms, After::Linger)
    }

    /// Sends an answer, as much of it as fits.
    pub fn send(
        &mut self,
        conn: &mut Connection<H::Parked>,
        mut reply: Reply,
        terms: Terms,
        after: After,
    ) -> Next<H::Parked> {
        let date = self.date.at(SystemClock.unix());
        self.output.clear();
        reply::write_head(&mut self.output, &reply, terms, after != After::Next, date);
        if !reply::sends_body(reply.status, terms) {
            reply.body.clear();
            reply.stream = None;
        } else if let Some(stream) = &mut reply.stream {
            self.output.append(&mut reply.body);
            let room = PIECE.saturating_sub(self.output.len()).max(PIECE / 2);
            stream.fill(&mut self.output, room);
        } else if reply.body.len() <= COPIED_BODY {
            self.output.append(&mut reply.body);
        }
        let (head, body) = (mem::take(&mut self.output), mem::take(&mut reply.body));
        let mut unsent = Unsent { head, body, sent: 0, stream: reply.stream.take(), progress: None, total: 0 };
        match unsent.send(&conn.socket) {
            Err(_) => Next::Close,
            Ok(true) => {
                (self.output, reply.body) = (unsent.head, unsent.body);
                reply.recycle();
                Self::sent(conn, after)
            }
            Ok(false) => self.await_room(conn, unsent, after),
        }
    }

    pub fn send_more(&mut self, conn: &mut Connection<H::Parked>, mut unsent: Unsent, after: After) -> Next<H::Parked> {
        match unsent.send(&conn.socket) {
            Err(_) => Next::Close,
            Ok(true) => Self::sent(conn, after),
            Ok(false) => self.await_room(conn, unsent, after),
        }
    }

    fn await_room(&self, conn: &mut Connection<H::Parked>, mut unsent: Unsent, after: After) -> Next<H::Parked> {
        let now = Instant::now();
        let limits = &self.shared.limits;
        let last = unsent.progress.filter(|(total, _)| *total == unsent.total);
        let (_, since) = *unsent.progress.insert(last.unwrap_or((unsent.total, now)));
        let end = since + limits.write_timeout;
        if now >= end {
            return Next::Close;
        }
        conn.deadline = end.min(now + limits.send_again());
        conn.stage = Stage::Sending(unsent, after);
        Next::Wait(Wait::Room)
    }

    /// Continues after a complete answer.
    pub fn sent(conn: &mut Connection<H::Parked>, after: After) -> Next<H::Parked> {
        let now = Instant::now();
        conn.waiting_since = now;
        match after {
            After::Next => Next::Step,
            After::Close => Next::Close,
            After::Linger => {
                conn.socket.finish_sending();
                conn.ahead = Vec::new();
                conn.deadline = now + LINGER;
                conn.stage = Stage::Lingering(LINGER_BYTES);
                Next::Step
            }
        }
    }

    /// Drops what still arrives, until the peer has had time to read the last answer.
    pub fn linger(&mut self, conn: &mut Connection<H::Parked>, mut left: usize) -> Next<H::Parked> {
        loop {
            if left == 0 {
                // More than was in transit: stop reading, and let the kernel's buffer fill up.
                if self.shared.slots.phase() >= Phase::Finishing || Instant::now() >= conn.deadline {
                    return Next::Close;
                }
                conn.stage = Stage::Lingering(0);
                return Next::Wait(Wait::Wake);
            }
            self.input.clear();
            match conn.socket.receive(&mut self.input) {
                Ok(None) if self.shared.slots.phase() >= Phase::Finishing || Instant::now() >= conn.deadline => {
                    return Next::Close;
                }
                Ok(None) => {
                    conn.stage = Stage::Lingering(left);
                    return Next::Wait(Wait::Bytes);
                }
                Ok(Some(bytes @ 1..)) if Instant::now() < conn.deadline => left = left.saturating_sub(bytes),
                Ok(Some(_)) | Err(_) => return Next::Close,
            }
            if !self.has_step() {
                conn.stage = Stage::Lingering(left);
                return Next::Wait(Wait::Turn);
            }
        }
    }
}
