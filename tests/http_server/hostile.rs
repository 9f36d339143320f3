//! What a hostile caller sees: one refusal, and the end.

use std::io::{ErrorKind, Write};

use entra_sidecar::internal::config::Limits;
use local_tenant::client::{Client, eventually};

use crate::support::{allow_many_descriptors, limits, start};

const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_malformed_request_gets_one_answer_and_ends_the_connection() {
    let server = start(&limits());
    for request in [
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut client = server.client();
        let answer = client.send(format!("{request}{NEXT}")).answer();
        assert_eq!((answer.status, answer.header("Connection")), (400, Some("close")), "{request:?}");
        assert!(client.ends(), "{request:?}");
    }
    assert_eq!(server.script.calls(), 0);
}

#[test]
fn requests_before_a_malformed_one_are_answered() {
    let server = start(&limits());
    let mut client = server.client();
    client.send(format!("GET /good HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n{NEXT}"));
    assert_eq!(client.answer().body, "GET /good  127.0.0.1 ");
    assert_eq!(client.answer().status, 400);
    assert!(client.ends());
}

#[test]
fn versions_and_expectations_that_are_not_met_are_refused() {
    let server = start(&limits());
    for (request, status) in [
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: a-pony\r\n\r\n", 417),
    ] {
        let mut client = server.client();
        assert_eq!(client.send(request).answer().status, status, "{request}");
        assert!(client.ends());
    }
}

#[test]
fn half_open_requests_by_the_thousand_hold_nobody_up() {
    let server = start(&Limits { workers: 2, ..limits() });
    allow_many_descriptors();
    let silent: Vec<Client> = (0..1000).map(|_| server.client()).collect();
    let mut slow: Vec<Client> = (0..1000).map(|_| server.client()).collect();
    for client in &mut slow {
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    }
    eventually("all are waiting", || {
        let stats = server.monitor.stats();
        (stats.idle, stats.reading) == (1000, 1000)
    });
    for _ in 0..100 {
        assert_eq!(server.client().get("/").answer().status, 200);
    }
    for client in &mut slow {
        assert_eq!(client.send("done\r\n\r\n").answer().status, 200);
    }
    drop(silent);
}

#[test]
fn a_caller_that_never_reads_holds_no_worker() {
    let server = start(&Limits { workers: 1, ..limits() });
    let mut deaf = server.client();
    deaf.get("/big/30000000");
    eventually("the answer is stuck", || server.monitor.stats().writing == 1);
    assert_eq!(server.client().get("/").answer().status, 200);
    assert_eq!(deaf.answer().body.len(), 30_000_000, "it may change its mind");
    assert_eq!(deaf.get("/").answer().status, 200);
}

#[test]
fn pipelining_without_reading_is_answered_as_far_as_it_is_read() {
    let server = start(&Limits { workers: 1, ..limits() });
    let mut deaf = server.client();
    for _ in 0..20 {
        deaf.get("/big/1000000");
    }
    eventually("an answer is stuck", || server.monitor.stats().writing == 1);
    let calls = server.script.calls();
    assert!(calls < 20, "{calls} answers wait in memory");
    for _ in 0..20 {
        assert_eq!(deaf.answer().body.len(), 1_000_000);
    }
}

#[test]
fn a_refused_body_is_read_on_so_that_the_answer_can_be() {
    let server = start(&limits());
    let mut client = server.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n");
    client.send("b".repeat(1024 * 1024));
    assert_eq!(client.answer().status, 413);
    assert!(client.ends());
}

#[test]
fn a_refused_caller_that_sends_without_end_is_cut() {
    let server = start(&Limits { body_bytes: 1024, ..limits() });
    let mut client = server.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n");
    let endless = vec![0; 64 * 1024];
    let error = loop {
        if let Err(error) = client.stream.write_all(&endless) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    eventually("nothing is left", || server.monitor.stats().writing == 0);
}
