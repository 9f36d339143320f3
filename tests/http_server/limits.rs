//! Every limit just below, at and above it, and every deadline.

use std::time::{Duration, Instant};

use entra_sidecar::internal::config::Limits;
use local_tenant::client::{Client, eventually};

use crate::support::{limits, start};

const SOON: Duration = Duration::from_millis(50);

/// A request whose head has this many bytes.
fn padded(bytes: usize) -> String {
    let (before, after) = ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n");
    format!("{before}{}{after}", "x".repeat(bytes - before.len() - after.len()))
}

#[test]
fn a_head_may_be_as_long_as_the_limit() {
    let server = start(&Limits { head_bytes: 1000, ..limits() });
    for (bytes, status) in [(999, 200), (1000, 200), (1001, 431), (100_000, 431)] {
        let answer = server.client().send(padded(bytes)).answer();
        assert_eq!(answer.status, status, "{bytes} bytes");
        assert_eq!(answer.header("Connection"), (status != 200).then_some("close"));
    }
}

#[test]
fn a_request_line_over_the_limit_is_told_apart() {
    let server = start(&Limits { head_bytes: 1000, ..limits() });
    let request = |line: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(line - 14));
    for (line, status) in [(987, 200), (988, 431), (998, 431), (999, 414), (5000, 414)] {
        assert_eq!(server.client().send(request(line)).answer().status, status, "{line} bytes");
    }
}

#[test]
fn a_head_may_have_as_many_fields_as_the_limit() {
    let server = start(&limits());
    for (fields, status) in [(99, 200), (100, 200), (101, 431)] {
        let lines = "X: y\r\n".repeat(fields - 1);
        let answer = server.client().send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).answer();
        assert_eq!(answer.status, status, "{fields} fields");
    }
}

#[test]
fn a_body_may_be_as_long_as_the_limit() {
    let server = start(&Limits { body_bytes: 1000, ..limits() });
    for (bytes, status) in [(999, 200), (1000, 200), (1001, 413)] {
        let body = "b".repeat(bytes);
        let plain = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{body}");
        let coding = "Transfer-Encoding: chunked";
        let chunked = format!("PUT / HTTP/1.1\r\nHost: a\r\n{coding}\r\n\r\n{bytes:x}\r\n{body}\r\n0\r\n\r\n");
        for request in [plain, chunked] {
            assert_eq!(server.client().send(request).answer().status, status, "{bytes} bytes");
        }
    }
}

#[test]
fn a_head_has_its_time_however_it_trickles() {
    let server = start(&Limits { head_timeout: SOON, ..limits() });
    let mut stalled = server.client();
    assert_eq!(stalled.send("GET / HT").answer().status, 408);
    assert!(stalled.ends());

    let mut trickling = server.client();
    trickling.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    trickling.stream.set_nonblocking(true).unwrap();
    let mut one = [0];
    eventually("the trickle is answered", || {
        use std::io::Write;
        // It may fail once the answer is there.
        let _ = trickling.stream.write_all(b"x");
        trickling.stream.peek(&mut one).is_ok()
    });
    trickling.stream.set_nonblocking(false).unwrap();
    assert_eq!(trickling.answer().status, 408);
}

#[test]
fn a_body_may_take_long_but_not_stand_still() {
    let server = start(&Limits { body_timeout: SOON, ..limits() });
    for start in
        ["Content-Length: 9\r\n\r\nbody", "Content-Length: 9\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nb"]
    {
        let mut client = server.client();
        let answer = client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{start}")).answer();
        assert_eq!((answer.status, answer.header("Connection")), (408, Some("close")), "{start}");
        assert!(client.ends());
    }
}

#[test]
fn idle_and_silent_connections_end_without_a_word() {
    let server = start(&Limits { idle_timeout: SOON, ..limits() });
    assert!(server.client().ends());
    let mut client = server.client();
    assert_eq!(client.get("/").answer().status, 200);
    assert!(client.ends());
}

#[test]
fn an_answer_that_nobody_reads_is_given_up() {
    let server = start(&Limits { write_timeout: SOON, ..limits() });
    let mut deaf = server.client();
    deaf.get("/big/30000000");
    eventually("the connection is cut", || server.script.calls() == 1 && open(&server.monitor.stats()) == 0);
}

fn open(stats: &entra_sidecar::internal::http::Stats) -> usize {
    stats.idle + stats.reading + stats.handling + stats.parked + stats.writing
}

#[test]
fn the_oldest_connection_without_a_request_makes_room() {
    let server = start(&Limits { connections: 4, ..limits() });
    let mut parked = server.client();
    parked.get("/park");
    eventually("it is parked", || server.monitor.stats().parked == 1);
    let mut waiting: Vec<Client> = Vec::new();
    for n in 1..=3 {
        let mut client = server.client();
        match n {
            1 => assert_eq!(client.get("/").answer().status, 200),
            2 => {
                client.send("GET / HTTP/1.1\r\nHost");
            }
            _ => {}
        }
        waiting.push(client);
        eventually("it waits", || {
            let stats = server.monitor.stats();
            stats.idle + stats.reading == n
        });
    }
    let mut admitted = Vec::new();
    for (n, oldest) in (1..).zip(&mut waiting) {
        let mut new = server.client();
        new.get(&format!("/park?{n}"));
        eventually("it is let in", || server.monitor.stats().parked == 1 + n);
        assert!(oldest.ends(), "connection {n}");
        admitted.push(new);
    }
    assert_eq!(server.monitor.stats().evictions, 3);
    assert!(server.client().ends(), "there is none left to make room");
    server.script.take_wakers().iter().for_each(entra_sidecar::internal::http::Waker::wake);
    assert_eq!(parked.answer().status, 200);
}

#[test]
fn a_crowd_of_silent_connections_keeps_nobody_out() {
    let server = start(&Limits { connections: 64, ..limits() });
    let crowd: Vec<Client> = (0..640).map(|_| server.client()).collect();
    for _ in 0..100 {
        assert_eq!(server.client().get("/").answer().status, 200);
    }
    assert!(open(&server.monitor.stats()) <= 64);
    drop(crowd);
}

#[test]
fn a_request_that_nobody_has_read_yet_is_not_evicted() {
    let server = start(&Limits { workers: 1, connections: 2, ..limits() });
    let mut unread = server.client();
    eventually("it is admitted", || server.monitor.stats().idle == 1);
    let mut blocking = server.client();
    blocking.get("/hold");
    eventually("the only worker is busy", || server.script.blocked() == 1);
    let mut late = server.client();
    unread.get("/unread");
    server.script.release();
    assert_eq!(unread.answer().status, 200);
    assert_eq!(blocking.answer().status, 200);
    assert!(blocking.ends(), "it had waited less long, but holds nothing");
    assert_eq!(late.get("/").answer().status, 200);
}

#[test]
fn a_half_sent_body_that_nobody_has_read_yet_makes_room() {
    let server = start(&Limits { workers: 1, connections: 3, ..limits() });
    let mut senders = [server.client(), server.client()];
    eventually("both are admitted", || server.monitor.stats().idle == 2);
    let mut blocking = server.client();
    // It goes on to wait for something, so it does not make room itself.
    blocking.get("/hold").get("/park");
    eventually("the only worker is busy", || server.script.blocked() == 1);
    let mut late = server.client();
    late.get("/late");
    for sender in &mut senders {
        sender.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf");
    }
    server.script.release();
    assert_eq!(blocking.answer().status, 200);
    assert_eq!(late.answer().status, 200);
}

#[test]
fn a_caller_that_stops_reading_is_cut_after_one_timeout() {
    let timeout = Duration::from_secs(2);
    let server = start(&Limits { write_timeout: timeout, ..limits() });
    let mut client = server.client();
    client.get("/big/50000000");
    eventually("the answer is leaving", || server.monitor.stats().writing == 1);
    let stalled = Instant::now();
    eventually("it is cut", || server.monitor.stats().writing == 0);
    let after = stalled.elapsed();
    assert!(timeout / 2 < after && after < timeout + timeout * 9 / 10, "{after:?}");
}

#[test]
fn those_that_send_a_body_make_room_when_there_is_none() {
    let server = start(&Limits { connections: 8, ..limits() });
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let mut client = server.client();
            client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf");
            client
        })
        .collect();
    eventually("all are sending", || server.monitor.stats().reading == 8);
    for _ in 0..20 {
        assert_eq!(server.client().get("/").answer().status, 200);
    }
    drop(senders);
}

#[test]
fn a_refused_body_is_neither_invited_nor_read() {
    let server = start(&limits());
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut client = server.client();
        client.send(format!("PUT /refuse HTTP/1.1\r\nHost: a\r\n{expect}Content-Length: 1000000\r\n\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("Connection")), (403, Some("close")));
    }
    let mut client = server.client();
    let whole = "PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    for _ in 0..2 {
        let answer = client.send(whole).answer();
        assert_eq!((answer.status, answer.header("Connection")), (403, None), "its body was here already");
    }
}

#[test]
fn a_body_that_nobody_wants_is_read_and_dropped() {
    let server = start(&limits());
    let mut client = server.client();
    client.send("PUT /ignore HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 900000\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue");
    assert_eq!(client.send("x".repeat(900_000)).answer().body, "PUT /ignore  127.0.0.1 ");
    assert_eq!(server.budget.memory.used(), 0);
    assert_eq!(client.get("/next").answer().status, 200);
}
