//! The end: nobody who was let in is forgotten, and nobody holds it up for ever.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use entra_sidecar::internal::config::Limits;
use entra_sidecar::internal::http::Waker;
use local_tenant::client::{Client, PATIENCE, eventually};

use crate::support::{limits, start};

#[test]
fn a_server_without_connections_ends_at_once() {
    let server = start(&limits());
    let address = server.address;
    let begun = Instant::now();
    assert!(server.end());
    assert!(begun.elapsed() < PATIENCE);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn requests_in_flight_finish_and_idle_connections_end() {
    let server = start(&limits());
    let (mut idle, mut parked, mut blocked, mut partial) =
        (server.client(), server.client(), server.client(), server.client());
    assert_eq!(idle.get("/").answer().status, 200);
    parked.get("/park?p");
    blocked.get("/block");
    partial.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    eventually("all are in flight", || {
        let stats = server.monitor.stats();
        (stats.parked, stats.reading) == (1, 1) && server.script.blocked() == 1
    });
    server.running.shutdown();
    assert!(server.monitor.draining());
    eventually("nobody can connect", || TcpStream::connect(server.address).is_err());

    let answer = idle.get("/health").answer();
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")), "still usable");
    assert!(idle.ends());
    let answer = partial.send("dy").answer();
    assert_eq!((answer.body.as_str(), answer.header("Connection")), ("PUT /  127.0.0.1 body", Some("close")));
    server.script.take_wakers().iter().for_each(Waker::wake);
    assert_eq!(parked.answer().body, "woken p");
    server.script.release();
    assert_eq!(blocked.answer().status, 200);
    assert!(blocked.ends());
    assert!(server.running.join());
}

#[test]
fn what_waits_in_the_kernel_is_served() {
    let server = start(&Limits { workers: 1, ..limits() });
    let mut idle = server.client();
    assert_eq!(idle.get("/").answer().status, 200);
    let mut blocked = server.client();
    blocked.get("/block");
    eventually("the only worker is busy", || server.script.blocked() == 1);
    let mut backlog: Vec<_> = (0..10).map(|_| server.client()).collect();
    for client in &mut backlog {
        client.get("/backlog");
    }
    idle.get("/buffered");
    server.running.shutdown();
    eventually("nobody can connect", || TcpStream::connect(server.address).is_err());
    server.script.release();
    assert_eq!(blocked.answer().status, 200);
    assert_eq!(idle.answer().body, "GET /buffered  127.0.0.1 ");
    for client in &mut backlog {
        assert_eq!(client.answer().body, "GET /backlog  127.0.0.1 ");
        assert!(client.ends());
    }
    assert!(server.running.join());
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let server = start(&limits());
    let mut clients: Vec<_> = (0..100).map(|_| server.client()).collect();
    assert_eq!(clients[0].get("/").answer().status, 200);
    let begun = Instant::now();
    assert!(server.end());
    assert!(begun.elapsed() < PATIENCE);
    assert!(clients.iter_mut().all(Client::ends));
}

#[test]
fn deadlines_hold_until_the_end() {
    let server = start(&Limits { head_timeout: Duration::from_millis(200), ..limits() });
    let mut partial = server.client();
    partial.send("GET / HT");
    eventually("it is arriving", || server.monitor.stats().reading == 1);
    let begun = Instant::now();
    assert!(server.end());
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(partial.answer().status, 408);
}

#[test]
fn what_is_not_done_in_time_is_cut() {
    let server = start(&Limits { shutdown_timeout: Duration::from_millis(50), ..limits() });
    let (mut parked, mut blocked) = (server.client(), server.client());
    parked.get("/park");
    blocked.get("/block");
    eventually("both are in flight", || server.monitor.stats().parked == 1 && server.script.blocked() == 1);
    let script = std::sync::Arc::clone(&server.script);
    assert!(!server.end(), "one is left behind");
    assert!(parked.ends());
    script.release();
}
