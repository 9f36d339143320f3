//! Requests that wait hold no worker, and no wake is lost.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use entra_sidecar::internal::config::Limits;
use entra_sidecar::internal::config::Listen;
use entra_sidecar::internal::http::{Cause, Handler, Outcome, Reply, Request, RequestError, Resumed, Server, Waker};
use local_tenant::client::{Client, eventually};

use crate::support::{NEVER, allow_many_descriptors, budget, limits, start, text};

#[test]
fn a_thousand_parked_requests_hold_no_worker() {
    allow_many_descriptors();
    let server = start(&Limits { workers: 2, ..limits() });
    let mut clients: Vec<Client> = (0..1000).map(|_| server.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(format!("PUT /park?{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"));
    }
    eventually("all are parked", || server.monitor.stats().parked == 1000);
    assert_eq!(server.client().get("/").answer().status, 200);
    server.script.take_wakers().iter().for_each(Waker::wake);
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answer().body, format!("woken {n}"));
        assert_eq!(client.get("/next").answer().status, 200);
    }
}

#[test]
fn a_wake_before_the_request_is_parked_is_kept_for_it() {
    let server = start(&limits());
    let mut client = server.client();
    for n in 0..100 {
        assert_eq!(client.get(&format!("/park/woken?{n}")).answer().body, format!("woken {n}"));
    }
}

#[test]
fn a_request_that_nobody_wakes_comes_back_when_it_is_overdue() {
    let server = start(&limits());
    let mut client = server.client();
    assert_eq!(client.get("/park/overdue?x").answer().body, "overdue x");
    assert_eq!(client.get("/").answer().status, 200);
}

#[test]
fn what_follows_a_parked_request_waits_for_its_answer() {
    let server = start(&limits());
    let mut client = server.client();
    client.get("/park?1").get("/2");
    eventually("the first is parked", || server.script.parked() == 1);
    client.get("/3");
    server.script.take_wakers()[0].wake();
    assert_eq!(client.answer().body, "woken 1");
    assert_eq!(client.answer().body, "GET /2  127.0.0.1 ");
    assert_eq!(client.answer().body, "GET /3  127.0.0.1 ");
}

#[test]
fn spent_wakers_wake_nobody() {
    let server = start(&limits());
    let mut first = server.client();
    first.get("/park?1");
    eventually("it is parked", || server.monitor.stats().parked == 1);
    let spent = server.script.take_wakers();
    spent.iter().chain(&spent).for_each(Waker::wake);
    assert_eq!(first.answer().body, "woken 1");

    first.get("/park?2");
    eventually("the next of the connection is parked", || server.monitor.stats().parked == 1);
    spent[0].wake();
    drop(first);
    let mut second = server.client();
    second.get("/park?3");
    eventually("that of another connection is parked", || server.monitor.stats().parked == 2);
    spent[0].wake();
    assert_eq!(server.client().get("/").answer().status, 200);
    assert_eq!(server.monitor.stats().parked, 2);
    server.script.take_wakers().iter().for_each(Waker::wake);
    assert_eq!(second.answer().body, "woken 3");
}

#[test]
fn blocked_calls_hold_up_no_worker() {
    let server = start(&limits());
    let mut blocked: Vec<Client> = (0..40).map(|_| server.client()).collect();
    for (n, client) in (1..).zip(&mut blocked) {
        client.get("/block");
        eventually("it blocks a thread", || server.script.blocked() == n);
    }
    for _ in 0..10 {
        assert_eq!(server.client().get("/").answer().status, 200, "the workers serve");
    }
    server.script.release();
    for client in &mut blocked {
        assert_eq!(client.answer().status, 200);
    }
    assert!(server.end());
}

#[test]
fn what_arrives_while_a_call_is_under_way_is_found() {
    let server = start(&limits());
    let mut client = server.client();
    client.get("/block");
    eventually("a thread has it", || server.script.blocked() == 1);
    client.get("/2");
    // By now the event was somebody's: events are taken in order.
    assert_eq!(server.client().get("/").answer().status, 200);
    server.script.release();
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.answer().body, "GET /2  127.0.0.1 ");
}

#[test]
fn the_waker_of_a_closed_connection_does_not_wake_its_successor() {
    let server = start(&limits());
    let mut probe = server.client();
    assert_eq!(probe.get("/").answer().status, 200);
    let mut client = server.client();
    client.get("/park");
    eventually("it is parked", || server.script.parked() == 1);
    let spent = server.script.take_wakers();
    spent[0].wake();
    assert_eq!(client.answer().body, "woken ");
    drop(client);
    eventually("it is gone", || server.monitor.stats().idle == 1);

    let mut successor = server.client();
    successor.get("/park?s");
    eventually("the one in its place is parked", || server.monitor.stats().parked == 1);
    spent[0].wake();
    assert_eq!(probe.get("/").answer().status, 200);
    assert_eq!(server.monitor.stats().parked, 1);
    server.script.take_wakers()[0].wake();
    assert_eq!(successor.answer().body, "woken s");
}

/// Parks every request and hands its waker to another thread at once.
struct Racing(std::sync::mpsc::SyncSender<Waker>);

impl Handler for Racing {
    type Parked = u32;

    fn handle(&self, _: &Request<'_>, waker: &Waker, resumed: Option<Resumed<u32>>) -> Outcome<u32> {
        let round = match resumed {
            Some(Resumed { on: 3, .. }) => return Outcome::Reply(text(200, "done")),
            Some(resumed) => {
                assert_eq!(resumed.cause, Cause::Woken, "a wake was lost");
                resumed.on + 1
            }
            None => 0,
        };
        // It fails once the test is over.
        let _ = self.0.send(waker.clone());
        Outcome::Park { on: round, until: Instant::now() + NEVER }
    }

    fn refuse(&self, _: &RequestError, _: Option<&Request<'_>>) -> Reply {
        Reply::new(400)
    }

    fn panicked(&self) -> Reply {
        Reply::new(500)
    }
}

#[test]
fn no_wake_is_lost_whenever_it_comes() {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Waker>(64);
    thread::spawn(move || receiver.iter().for_each(|waker| waker.wake()));
    let server = Server::bind(&[Listen::Tcp("127.0.0.1:0".parse().unwrap())], &limits()).unwrap();
    let address = server.local_addrs()[0];
    let running = server.start(Arc::new(Racing(sender)), budget()).unwrap();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..250 {
                    assert_eq!(client.get("/").answer().body, "done");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    running.shutdown();
    assert!(running.join());
}

#[test]
fn a_caller_that_left_is_found_out_when_its_request_comes_back() {
    let server = start(&limits());
    let mut client = server.client();
    client.get("/park?x");
    eventually("it is parked", || server.monitor.stats().parked == 1);
    drop(client);
    server.script.take_wakers()[0].wake();
    eventually("the connection is gone", || {
        let stats = server.monitor.stats();
        stats.parked + stats.handling + stats.idle + stats.writing == 0
    });
    assert!(server.end());
}
