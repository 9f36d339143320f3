//! The way out of a worker: an answer leaves as far as the socket has room, the rest when there is more, and
//! the last one is followed by a polite end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::board::Phase;
use super::conn::{After, Conn, LINGER, LINGER_BYTES, Stage, Unsent, Wait};
use super::handler::Handler;
use super::head::Terms;
use super::message::Reply;
use super::refusal::Refusal;
use super::reply;
use super::worker::{Next, Worker};
use crate::clock::{Clock, SystemClock};

/// A body up to this long is copied behind its head, which is cheaper than a second piece to send.
const COPIED_BODY: usize = 16 * 1024;

impl<H: Handler> Worker<H> {
    /// Answers what is no request. What follows it on this connection is never looked at.
    pub fn refuse(&mut self, conn: &mut Conn<H::Parked>, refusal: Refusal) -> Next {
        let terms = Terms { head_only: false, keep_alive: false, http_1_0: false };
        let handler = &self.shared.handler;
        let refused = catch_unwind(AssertUnwindSafe(|| {
            let told = conn
                .intake
                .replay(|head, _| handler.refuse(&refusal, Some(&head.request(&[], conn.peer, conn.first_byte))));
            told.unwrap_or_else(|_| handler.refuse(&refusal, None))
        }));
        conn.intake.finish();
        conn.ahead = Vec::new();
        let reply = refused.unwrap_or_else(|_| {
            self.shared.board.panics.fetch_add(1, Ordering::Relaxed);
            Reply::new(refusal.status())
        });
        self.send(conn, reply, terms, After::Linger)
    }

    /// Sends an answer, as much of it as there is room for.
    pub fn send(&mut self, conn: &mut Conn<H::Parked>, mut reply: Reply, terms: Terms, after: After) -> Next {
        let date = self.date.at(SystemClock.unix());
        self.output.clear();
        reply::write_head(&mut self.output, &reply, terms, after != After::Next, date);
        if !reply::sends_body(reply.status, terms) {
            reply.body.clear();
        } else if reply.body.len() <= COPIED_BODY {
            self.output.append(&mut reply.body);
        }
        match conn.socket.send(&self.output, &reply.body) {
            Err(_) => Next::Close,
            Ok(sent) if sent == self.output.len() + reply.body.len() => {
                reply.recycle();
                self.sent(conn, after)
            }
            Ok(sent) => {
                conn.deadline = Instant::now() + self.shared.limits.write_timeout;
                let unsent = Unsent { head: self.output.clone(), body: reply.body, sent };
                conn.stage = Stage::Sending(unsent, after);
                Next::Wait(Wait::Room)
            }
        }
    }

    /// Sends more of it.
    pub fn send_more(&mut self, conn: &mut Conn<H::Parked>, mut unsent: Unsent, after: After) -> Next {
        let before = unsent.sent;
        match unsent.send(&conn.socket) {
            Err(_) => Next::Close,
            Ok(true) => self.sent(conn, after),
            Ok(false) => {
                let now = Instant::now();
                if unsent.sent > before {
                    conn.deadline = now + self.shared.limits.write_timeout;
                } else if now >= conn.deadline {
                    return Next::Close;
                }
                conn.stage = Stage::Sending(unsent, after);
                Next::Wait(Wait::Room)
            }
        }
    }

    /// A whole answer has left.
    fn sent(&mut self, conn: &mut Conn<H::Parked>, after: After) -> Next {
        let now = Instant::now();
        conn.waiting_since = now;
        match after {
            After::Next => Next::Step,
            After::Close => Next::Close,
            After::Linger => {
                conn.socket.finish_sending();
                conn.ahead = Vec::new();
                conn.deadline = now + LINGER;
                conn.stage = Stage::Lingering(self.shared.limits.body_bytes.saturating_add(LINGER_BYTES));
                Next::Step
            }
        }
    }

    /// Drops what still arrives until the other end has had its chance to read the last answer.
    pub fn linger(&mut self, conn: &mut Conn<H::Parked>, mut left: usize) -> Next {
        loop {
            self.input.clear();
            match conn.socket.receive(&mut self.input) {
                Ok(None) if self.shared.board.phase() >= Phase::Finishing || Instant::now() >= conn.deadline => {
                    return Next::Close;
                }
                Ok(None) => {
                    conn.stage = Stage::Lingering(left);
                    return Next::Wait(Wait::Bytes);
                }
                Ok(Some(bytes)) if 0 < bytes && bytes <= left && Instant::now() < conn.deadline => left -= bytes,
                Ok(Some(_)) | Err(_) => return Next::Close,
            }
            if !self.has_step() {
                conn.stage = Stage::Lingering(left);
                return Next::Wait(Wait::Turn);
            }
        }
    }
}
