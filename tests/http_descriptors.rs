//! Without descriptors the server neither dies nor goes deaf. Alone in its process, whose limit it lowers.

#[path = "http_server/support.rs"]
#[expect(dead_code, reason = "shared with the other tests of the front door")]
mod support;

use std::fs::File;

use local_tenant::client::{Client, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Fixture, limits, start};

/// Takes every descriptor that is left but one.
fn leave_one() -> Vec<File> {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken.pop();
    taken
}

/// A client that takes the last descriptor, so that the server has none to accept it with.
fn last_client(server: &Fixture) -> Client {
    let mut client = server.client();
    assert!(File::open("/dev/null").is_err(), "none is left");
    client.get("/last");
    client
}

#[test]
fn a_server_without_descriptors_survives() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: limit.maximum }).unwrap();
    let server = start(&limits());

    // There is an idle connection: it makes room.
    let (mut oldest, mut other) = (server.client(), server.client());
    assert_eq!(oldest.get("/").answer().status, 200);
    // Since when it waits is noted after its answer has left.
    eventually("the oldest is idle", || server.monitor.stats().idle == 2);
    assert_eq!(other.get("/").answer().status, 200);
    eventually("both are idle", || server.monitor.stats().idle == 2);
    let taken = leave_one();
    let mut client = last_client(&server);
    assert_eq!(client.answer().status, 200);
    assert!(oldest.ends());
    assert_eq!(other.get("/").answer().status, 200);
    assert_eq!(server.monitor.stats().evictions, 1);
    drop((taken, oldest, other, client));

    // There is none: it waits for a descriptor.
    eventually("all are gone", || server.monitor.stats().idle == 0);
    let taken = leave_one();
    let mut client = last_client(&server);
    assert_eq!(server.monitor.stats().idle, 0);
    drop(taken);
    assert_eq!(client.answer().status, 200);
    assert!(server.end());
}
