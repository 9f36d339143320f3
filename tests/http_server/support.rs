//! A server with a handler that does what the path says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use entra_sidecar::internal::BodyMemory;
use entra_sidecar::internal::config::Limits;
use entra_sidecar::internal::config::Listen;
use entra_sidecar::internal::http::{
    Budget, Cause, Handler, Keep, Monitor, Outcome, Peer, Reply, Request, RequestError, Resumed, Running, Server, Waker,
};
use entra_sidecar::internal::{Bounds, Lane, Turns};
use local_tenant::client::Client;

/// The server's own deadlines, where they are not what is tested: no test waits that long, so none passes by them.
pub const NEVER: Duration = Duration::from_secs(90);

pub fn limits() -> Limits {
    Limits {
        workers: 2,
        queue_timeout: NEVER,
        connections: 4096,
        head_bytes: 32 * 1024,
        headers: 100,
        head_timeout: NEVER,
        body_timeout: NEVER,
        write_timeout: NEVER,
        idle_timeout: NEVER,
        body_bytes: 1024 * 1024,
        shutdown_timeout: NEVER,
        ..Limits::default()
    }
}

/// Does what the path says:
/// `/big/N` answers N bytes, `/park` parks until woken, `/park/overdue` parks with a deadline that has passed,
/// `/park/woken` wakes itself before it parks, `/block` takes a turn and holds it until [`Script::release`],
/// `/hold` holds its worker until then, which no handler should do,
/// `/panic` panics, `/close` closes, `/refuse` refuses from the head; everything else is told back.
#[derive(Default)]
pub struct Script {
    wakers: Mutex<BTreeMap<String, Waker>>,
    /// Requests that were handled with their bodies.
    calls: AtomicUsize,
    body_limit: usize,
    blocked: Mutex<(usize, bool)>,
    released: Condvar,
}

impl Script {
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub fn parked(&self) -> usize {
        self.wakers.lock().unwrap().len()
    }

    /// Wakers by the query of their requests.
    pub fn take_wakers(&self) -> Vec<Waker> {
        std::mem::take(&mut *self.wakers.lock().unwrap()).into_values().collect()
    }

    pub fn blocked(&self) -> usize {
        self.blocked.lock().unwrap().0
    }

    pub fn release(&self) {
        self.blocked.lock().unwrap().1 = true;
        self.released.notify_all();
    }

    fn block(&self) {
        let mut blocked = self.blocked.lock().unwrap();
        blocked.0 += 1;
        while !blocked.1 {
            blocked = self.released.wait(blocked).unwrap();
        }
        blocked.0 -= 1;
    }
}

pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply::new(status).with_body("text/plain", body.into())
}

impl Handler for Script {
    type Parked = String;

    fn handle(&self, request: &Request<'_>, waker: &Waker, resumed: Option<Resumed<String>>) -> Outcome<String> {
        self.calls.fetch_add(usize::from(request.body.is_here()), Ordering::SeqCst);
        let query = request.query.unwrap_or_default().to_owned();
        if let Some(resumed) = resumed {
            let how = match resumed.cause {
                Cause::Woken => "woken",
                Cause::Overdue => "overdue",
                Cause::NoTurn => return Outcome::Reply(text(503, "no turn")),
                Cause::Turn => {
                    self.block();
                    "called"
                }
            };
            return Outcome::Reply(text(200, format!("{how} {}", resumed.on)));
        }
        match request.path {
            "/panic" => panic!("as asked"),
            "/park" => {
                self.wakers.lock().unwrap().insert(query.clone(), waker.clone());
                return Outcome::Park { on: query, until: Instant::now() + NEVER };
            }
            "/park/overdue" => return Outcome::Park { on: query, until: Instant::now() },
            "/park/woken" => {
                waker.wake();
                return Outcome::Park { on: query, until: Instant::now() + NEVER };
            }
            "/block" => return Outcome::Call { on: query, lane: Lane::Origin("http://upstream".into()) },
            "/hold" => self.block(),
            "/refuse" => return Outcome::Reply(text(403, "refused")),
            "/close" => {
                let mut reply = text(200, "closing");
                reply.close = true;
                return Outcome::Reply(reply);
            }
            _ => {}
        }
        if let Some(bytes) = request.path.strip_prefix("/big/") {
            return Outcome::Reply(text(200, vec![b'x'; bytes.parse().unwrap()]));
        }
        if request.body.length().is_some_and(|length| length > self.body_limit) {
            let refusal = RequestError::BodyTooLarge { limit: self.body_limit, configured: true };
            return Outcome::Reply(text(refusal.status(), refusal.to_string()));
        }
        if !request.body.is_here() {
            return Outcome::NeedsBody(if request.path == "/ignore" { Keep::No } else { Keep::Yes });
        }
        let peer = match request.peer {
            Peer::Ip(address) => address.to_string(),
            Peer::Unix => "unix".to_owned(),
        };
        let mut told = format!("{} {} {query} {peer} ", request.method.as_str(), request.path).into_bytes();
        told.extend_from_slice(&request.body.take().bytes);
        Outcome::Reply(text(200, told))
    }

    fn refuse(&self, refusal: &RequestError, _: Option<&Request<'_>>) -> Reply {
        text(refusal.status(), refusal.to_string())
    }

    fn panicked(&self) -> Reply {
        text(500, "panicked")
    }
}

pub struct Fixture {
    pub script: Arc<Script>,
    pub address: SocketAddr,
    pub monitor: Monitor,
    pub running: Running,
    pub budget: Budget,
}

/// Enough for every test that is not about it.
pub fn budget() -> Budget {
    let turns = Turns::new(Bounds { calls: 64, decryptions: 1 });
    Budget { turns, memory: BodyMemory::new(64 * 1024 * 1024) }
}

pub fn start(limits: &Limits) -> Fixture {
    start_on(&[Listen::Tcp("127.0.0.1:0".parse().unwrap())], limits)
}

pub fn start_on(listen: &[Listen], limits: &Limits) -> Fixture {
    start_with(listen, limits, budget())
}

pub fn start_with(listen: &[Listen], limits: &Limits, budget: Budget) -> Fixture {
    let server = Server::bind(listen, limits).unwrap();
    let (script, monitor) = (Arc::new(Script { body_limit: limits.body_bytes, ..Script::default() }), server.monitor());
    let address = server.local_addrs()[0];
    let running = server.start(Arc::clone(&script), budget.clone()).unwrap();
    Fixture { script, address, monitor, running, budget }
}

impl Fixture {
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Ends the server: whether all of it ended in time.
    pub fn end(self) -> bool {
        self.running.shutdown();
        self.running.join()
    }
}

/// Both ends of every connection are in this process.
pub fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}
