//! What a well-behaved caller sees.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use entra_sidecar::internal::config::Listen;
use local_tenant::client::eventually;

use crate::support::{limits, start, start_on};

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let server = start(&limits());
    let mut client = server.client();
    for n in 0..100 {
        let answer = client.get(&format!("/a?{n}")).answer();
        assert_eq!((answer.status, &answer.body), (200, &format!("GET /a {n} 127.0.0.1 ")));
        assert_eq!(answer.header("Connection"), None);
    }
    assert!(server.end());
}

#[test]
fn every_answer_has_its_fields() {
    let server = start(&limits());
    let mut client = server.client();
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        let answer = client.send(request).answer();
        assert!(answer.header("Date").unwrap().ends_with(" GMT"));
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(answer.header("Server"), None);
    }
}

#[test]
fn head_gets_the_length_and_not_the_body() {
    let server = start(&limits());
    let mut client = server.client();
    let answer = client.send("HEAD /big/70000 HTTP/1.1\r\nHost: a\r\n\r\n").answer_to_head();
    assert_eq!((answer.status, answer.header("Content-Length")), (200, Some("70000")));
    assert_eq!(client.get("/next").answer().body, "GET /next  127.0.0.1 ");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start(&limits());
    let mut client = server.client();
    let requests: Vec<String> = (0..500).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests.concat());
    for n in 0..500 {
        assert_eq!(client.answer().body, format!("GET /{n}  127.0.0.1 "));
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    let server = start(&limits());
    let mut client = server.client();
    let request = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for _ in 0..2 {
        for byte in request.as_bytes() {
            client.send([*byte]);
        }
        assert_eq!(client.answer().body, "POST /x  127.0.0.1 hello");
    }
}

#[test]
fn bodies_arrive_whole_and_what_follows_is_the_next_request() {
    let server = start(&limits());
    let mut client = server.client();
    let large = "b".repeat(1024 * 1024);
    client.send(format!("PUT /l HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{large}", large.len()));
    client.send("PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in large.as_bytes().chunks(100_000) {
        client.send(format!("{:x};q=1\r\n", chunk.len())).send(chunk).send("\r\n");
    }
    client.send("0\r\nTrailer: x\r\n\r\nGET /n HTTP/1.1\r\nHost: a\r\n\r\n");
    for path in ["/l", "/c"] {
        assert!(client.answer().body == format!("PUT {path}  127.0.0.1 {large}"), "{path}");
    }
    assert_eq!(client.answer().body, "GET /n  127.0.0.1 ");
}

#[test]
fn continue_is_sent_before_an_acceptable_body_and_only_then() {
    let server = start(&limits());
    let mut client = server.client();
    let head = |length: usize| {
        format!("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    client.send(head(2));
    assert_eq!(client.head(), "HTTP/1.1 100 Continue");
    assert_eq!(client.send("hi").answer().body, "PUT /  127.0.0.1 hi");
    assert_eq!(client.send(head(2) + "ho").answer().body, "PUT /  127.0.0.1 ho");
    assert_eq!(client.send(head(0)).answer().status, 200);
    assert_eq!(client.send(head(1024 * 1024 + 1)).answer().status, 413);
    assert!(client.ends());
}

#[test]
fn the_connection_ends_when_either_side_says_so() {
    let server = start(&limits());
    for (request, connection) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "close"),
        ("GET /close HTTP/1.1\r\nHost: a\r\n\r\n", "close"),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "close"),
        ("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n", "close"),
    ] {
        let mut client = server.client();
        let answer = client.send(request).answer();
        assert_eq!(answer.header("Connection"), Some(connection), "{request}");
        assert!(client.ends(), "{request}");
    }
}

#[test]
fn what_follows_the_last_request_is_not_answered() {
    let server = start(&limits());
    let mut client = server.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().body, "GET /1  127.0.0.1 ");
    assert!(client.ends());
    assert_eq!(server.script.calls(), 1);
}

#[test]
fn http_1_0_keeps_the_connection_when_asked() {
    let server = start(&limits());
    let mut client = server.client();
    for _ in 0..2 {
        let answer = client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").answer();
        assert_eq!(answer.header("Connection"), Some("keep-alive"));
    }
}

#[test]
fn a_caller_that_has_said_all_still_gets_its_answer() {
    let server = start(&limits());
    let mut client = server.client();
    client.get("/park");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    eventually("the request is parked", || server.script.parked() == 1);
    server.script.take_wakers()[0].wake();
    assert_eq!(client.answer().body, "woken ");
    assert!(client.ends());
}

#[test]
fn a_panic_costs_its_connection_and_no_worker() {
    let server = start(&limits());
    for n in 1..=10 {
        let mut client = server.client();
        let answer = client.get("/panic").answer();
        assert_eq!((answer.status, answer.body.as_str()), (500, "panicked"));
        assert!(client.ends());
        assert_eq!(server.monitor.stats().panics, n);
    }
    assert_eq!(server.client().get("/").answer().status, 200);
    assert!(server.end());
}

#[test]
fn a_unix_socket_is_served_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.sock");
    let tcp = Listen::Tcp("127.0.0.1:0".parse().unwrap());
    let server = start_on(&[tcp, Listen::Unix(path.clone())], &limits());
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"GET /u HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nGET /u  unix "), "{answer}");
    assert!(server.end());
    assert!(!path.exists());
}
