//! Waiting for upstreams costs nobody else anything: who waits holds no worker, and each upstream has its own queue.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use local_tenant::{Action, Fault, Kind};

use super::support::{Client, PATIENCE, Request, Scene, Sidecar, eventually};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const CALL: &str = "/DownstreamApiUnauthenticated/App";

/// A token that nobody has asked for yet.
fn cold(name: &str) -> String {
    format!("{APP}?optionsOverride.AcquireTokenOptions.FmiPath={name}")
}

fn begin(address: SocketAddr, target: &str) -> Client {
    let mut client = Client::connect(address);
    client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    client
}

fn figure(sidecar: &Sidecar, name: &str) -> usize {
    let metrics = sidecar.get("/metrics").body;
    let line = metrics.lines().find(|line| line.starts_with(&format!("entra_sidecar_{name} "))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// An API that answers nobody, and counts who has come.
fn hanging_api() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            counted.fetch_add(1, Ordering::SeqCst);
            kept.push(stream);
        }
    });
    (address, count)
}

#[test]
fn hundreds_of_cold_tokens_are_all_answered() {
    let scene = Scene::new();
    let sidecar = scene.start();
    scene.tenant.fail(Fault::always(Kind::Token, Action::Delay(Duration::from_millis(50))));
    let mut clients: Vec<_> = (0..300).map(|n| begin(sidecar.address, &cold(&format!("k{n}")))).collect();
    for client in &mut clients {
        client.answer().expect(200);
    }
    assert_eq!(scene.tenant.journal().count(Kind::Token), 300);
}

#[test]
fn a_request_waits_its_turn_and_then_is_told_to_come_back() {
    let scene = Scene::new().with("Sidecar:Limits:UpstreamCalls", "2").with("Sidecar:Limits:QueueTimeout", "0.3");
    let sidecar = scene.start().with_keys();
    sidecar.get(APP).expect(200);
    let user = scene.user("alice");
    let threads = sidecar.threads();
    scene.tenant.fail(Fault::always(Kind::Token, Action::Hold));
    let mut first = begin(sidecar.address, &cold("a"));
    assert!(scene.tenant.faults().wait_held(1, PATIENCE));
    // Three quarters of two are one: no other call of this origin is made meanwhile.
    let response = sidecar.get(&cold("b"));
    assert_eq!(response.header("Retry-After"), Some("1"));
    assert_eq!(response.json()["extensions"]["retryable"].as_bool(), Some(true));
    response.problem(503, "Too many requests wait for upstreams");
    sidecar.get("/healthz").expect(200);
    sidecar.get(APP).expect(200);
    sidecar.get_as(&user, "/Validate").expect(200);
    assert!(sidecar.threads() <= threads + 1);
    scene.tenant.faults().clear();
    scene.tenant.faults().release();
    first.answer().expect(200);
    sidecar.get(&cold("b")).expect(200);
}

#[test]
fn followers_of_a_queued_leader_get_its_result() {
    let scene = Scene::new().with("Sidecar:Limits:UpstreamCalls", "1").with("Sidecar:Limits:QueueTimeout", "0.5");
    let sidecar = scene.start();
    scene.tenant.fail(Fault::always(Kind::Token, Action::Hold));
    let mut first = begin(sidecar.address, &cold("a"));
    assert!(scene.tenant.faults().wait_held(1, PATIENCE));
    let mut callers: Vec<_> = (0..20).map(|_| begin(sidecar.address, &cold("b"))).collect();
    for caller in &mut callers {
        assert_eq!(caller.answer().expect(503).header("Retry-After"), Some("1"));
    }
    scene.tenant.faults().clear();
    scene.tenant.faults().release();
    first.answer().expect(200);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 1);
}

#[test]
fn one_hanging_api_does_not_hold_up_the_others() {
    let (address, called) = hanging_api();
    let scene = Scene::new()
        .with("Sidecar:Limits:UpstreamCalls", "4")
        .with("Sidecar:Limits:QueueTimeout", "60")
        .with("DownstreamApis:Hang:BaseUrl", &format!("http://{address}/"))
        .with("DownstreamApis:Hang:Scopes", "api://downstream/.default");
    let sidecar = scene.start();
    sidecar.get("/AuthorizationHeaderUnauthenticated/Hang").expect(200);
    let _callers: Vec<_> = (0..10).map(|_| begin(sidecar.address, "/DownstreamApiUnauthenticated/Hang")).collect();
    eventually("three calls hang", || called.load(Ordering::SeqCst) == 3);
    eventually("the others wait", || figure(&sidecar, "upstream_calls{state=\"waiting\"}") == 7);
    assert_eq!(figure(&sidecar, "upstream_calls{state=\"active\"}"), 3);
    for n in 0..5 {
        sidecar.get(CALL).expect(200);
        sidecar.get(&cold(&format!("k{n}"))).expect(200);
    }
    assert_eq!(called.load(Ordering::SeqCst), 3);
}

#[test]
fn a_caller_that_left_the_queue_calls_nobody() {
    let (address, called) = hanging_api();
    let scene = Scene::new()
        .with("Sidecar:Limits:UpstreamCalls", "1")
        .with("Sidecar:Limits:QueueTimeout", "60")
        .with("Sidecar:Limits:DownstreamTimeout", "1")
        .with("DownstreamApis:Hang:BaseUrl", &format!("http://{address}/"))
        .with("DownstreamApis:Hang:Scopes", "api://downstream/.default");
    let sidecar = scene.start();
    sidecar.get("/AuthorizationHeaderUnauthenticated/Hang").expect(200);
    let mut first = begin(sidecar.address, "/DownstreamApiUnauthenticated/Hang");
    eventually("the first call hangs", || called.load(Ordering::SeqCst) == 1);
    let left: Vec<_> = (0..5).map(|_| begin(sidecar.address, "/DownstreamApiUnauthenticated/Hang")).collect();
    eventually("the others wait", || figure(&sidecar, "upstream_calls{state=\"waiting\"}") == 5);
    drop(left);
    eventually("their places are free", || figure(&sidecar, "upstream_calls{state=\"waiting\"}") == 0);
    first.answer().expect(504);
    sidecar.get(APP).expect(200);
    assert_eq!(called.load(Ordering::SeqCst), 1);
}

#[test]
fn the_next_caller_asks_where_the_leader_left() {
    let scene = Scene::new().with("Sidecar:Limits:UpstreamCalls", "1").with("Sidecar:Limits:QueueTimeout", "60");
    let sidecar = scene.start();
    scene.tenant.fail(Fault::once(Kind::Token, Action::Hold));
    let mut first = begin(sidecar.address, &cold("a"));
    assert!(scene.tenant.faults().wait_held(1, PATIENCE));
    let leader = begin(sidecar.address, &cold("b"));
    eventually("the leader waits", || figure(&sidecar, "upstream_calls{state=\"waiting\"}") == 1);
    let mut follower = begin(sidecar.address, &cold("b"));
    eventually("both are parked", || figure(&sidecar, "connections{state=\"parked\"}") == 2);
    drop(leader);
    eventually("it is gone", || figure(&sidecar, "connections{state=\"parked\"}") == 1);
    scene.tenant.faults().release();
    first.answer().expect(200);
    follower.answer().expect(200);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 2);
}

#[test]
fn a_forced_token_is_asked_for_once_though_the_api_has_to_wait() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let target = format!("{CALL}?optionsOverride.AcquireTokenOptions.ForceRefresh=true");
    sidecar.get(&target).expect(200);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 1);
}

#[test]
fn an_allocated_session_key_is_the_one_that_works() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let user = scene.user("alice");
    let key = "optionsOverride.AcquireTokenOptions.LongRunningWebApiSessionKey";
    let started = sidecar.get_as(&user, &format!("/DownstreamApi/Down?{key}=AllocateForMe")).expect(200);
    let allocated = started.header("X-Long-Running-Session-Key").unwrap();
    sidecar.get(&format!("/DownstreamApiUnauthenticated/Down?{key}={allocated}")).expect(200);
    assert_eq!(scene.tenant.journal().count(Kind::Token), 1);
}

#[test]
fn threads_for_calls_end_when_they_are_not_needed() {
    let scene = Scene::new();
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    let before = sidecar.threads();
    scene.tenant.fail(Fault::always(Kind::Token, Action::Hold));
    let mut callers: Vec<_> = (0..50).map(|n| begin(sidecar.address, &cold(&format!("k{n}")))).collect();
    assert!(scene.tenant.faults().wait_held(50, PATIENCE));
    assert!(sidecar.threads() >= before + 49);
    scene.tenant.faults().clear();
    scene.tenant.faults().release();
    for caller in &mut callers {
        caller.answer().expect(200);
    }
    eventually("they end", || sidecar.threads() < before);
}

#[test]
fn a_refusal_needs_the_head_alone() {
    let scene = Scene::new().with("DownstreamApis:Down:Scopes", "api://downstream/read");
    let sidecar = scene.start().with_keys();
    let user = format!("Authorization: Bearer {}\r\n", scene.user("alice"));
    for (target, fields, status) in [
        ("/DownstreamApi/Down", "Origin: http://evil.example\r\n", 403),
        ("/nowhere", "", 404),
        ("/Validate", "", 405),
        ("/DownstreamApi", "", 400),
        ("/DownstreamApi/Down?optionsOverride.Nothing=1", "", 400),
        ("/DownstreamApi/Down", "", 401),
        ("/DownstreamApi/Down", "Authorization: Bearer e30.e30.e30\r\n", 401),
        ("/DownstreamApi/Other", user.as_str(), 404),
    ] {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let mut client = Client::connect(sidecar.address);
            let head = format!(
                "POST {target} HTTP/1.1\r\nHost: localhost\r\n{fields}{expect}Content-Length: 30000000\r\n\r\n"
            );
            client.send(head);
            let response = client.answer();
            assert_eq!((response.status, response.header("Connection")), (status, Some("close")), "{target} {fields}");
        }
    }
    let mut client = Client::connect(sidecar.address);
    client.send(format!(
        "POST /DownstreamApi/Down HTTP/1.1\r\nHost: localhost\r\n{user}Content-Length: 40000000\r\n\r\n"
    ));
    client.answer().expect(413);
}

#[test]
fn a_body_without_memory_waits_and_then_is_told_to_come_back() {
    let scene = Scene::new()
        .with("Sidecar:Limits:RequestBodyBytes", "1MiB")
        .with("Sidecar:Limits:DownstreamBodyBytes", "1MiB")
        .with("Sidecar:Limits:BodyMemory", "1MiB")
        .with("Sidecar:Limits:QueueTimeout", "0.3");
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    let post = format!("POST {CALL} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nConnection: close\r\n");
    let mut first = Client::connect(sidecar.address);
    first.send(format!("{post}Content-Length: 500000\r\n\r\nbegin"));
    eventually("its memory is taken", || figure(&sidecar, "body_memory_bytes") == 500_000 - 64 * 1024);
    let mut second = Client::connect(sidecar.address);
    second.send(format!("{post}Content-Length: 1000000\r\n\r\n"));
    let refused = second.answer().expect(503);
    assert_eq!((refused.header("Retry-After"), refused.header("Connection")), (Some("1"), Some("close")));
    Request::new("POST", CALL).body("text/plain", vec![b'x'; 60_000]).send(sidecar.address).expect(200);
    first.send(vec![b'x'; 500_000 - 5]);
    // The API's echo is longer than an answer may be, which shows that the API was called.
    first.answer().expect(502);
    assert_eq!(figure(&sidecar, "body_memory_bytes"), 0);
}
