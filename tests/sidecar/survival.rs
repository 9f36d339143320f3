//! Full descriptors, crowds and signals neither end the process nor make its answers wrong.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use local_tenant::{Action, Fault, Kind};

use super::support::{Client, PATIENCE, Request, Response, Scene, command, eventually};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";

/// A process whose log nobody here reads, so that its address is chosen in advance: one that no other process uses.
struct Process {
    child: Child,
    address: SocketAddr,
}

/// One that no other test uses, in this process or another.
fn unused_address() -> SocketAddr {
    static GIVEN: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 64 + high % 128, low, 1 + GIVEN.fetch_add(1, Ordering::Relaxed)], 5000))
}

impl Process {
    fn start(scene: &Scene, prelude: &str, stderr: Stdio) -> Self {
        Self::start_at(unused_address(), scene, prelude, stderr)
    }

    /// `prelude` is done by a shell that then becomes the process.
    fn start_at(address: SocketAddr, scene: &Scene, prelude: &str, stderr: Stdio) -> Self {
        let program = command();
        let mut command = Command::new("/bin/sh");
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        command.args(["-c", &format!("{prelude} exec \"$0\" \"$@\"")]).arg(program.get_program());
        command.arg("--urls").arg(format!("http://{address}"));
        for (key, value) in &scene.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let process = Self { child: command.spawn().unwrap(), address };
        eventually("it listens", || TcpStream::connect(address).is_ok());
        process
    }

    fn get(&self, target: &str) -> Response {
        Request::get(target).send(self.address)
    }

    fn end(mut self) -> Option<i32> {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        let mut status = None;
        eventually("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number of KiB from `/proc/<pid>/status`.
fn kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_log_that_cannot_be_written_costs_lines_and_nothing_else() {
    let full = || Stdio::from(OwnedFd::from(File::options().write(true).open("/dev/full").unwrap()));
    for (what, prelude, stderr) in
        [("closed", "exec 2>&-;", Stdio::inherit()), ("full", "", full()), ("never read", "", Stdio::piped())]
    {
        let scene = Scene::new();
        let process = Process::start(&scene, prelude, stderr);
        let mut client = Client::connect(process.address);
        // Each has a line in the log, so that a pipe of 64 KiB is full several times over.
        for _ in 0..3000 {
            assert_eq!(client.get(APP).answer().status, 200, "{what}");
        }
        drop(client);
        assert_eq!(process.end(), Some(0), "{what}");
    }
}

#[test]
fn a_header_without_end_costs_no_memory() {
    let scene = Scene::new();
    let sidecar = scene.start();
    sidecar.get("/healthz").expect(200);
    let before = kib(sidecar.pid(), "VmHWM");
    let mut client = Client::connect(sidecar.address);
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ");
    let piece = vec![b'a'; 1 << 20];
    // 400 MiB, if they are let in.
    let sent = (0..400).take_while(|_| client.stream.write_all(&piece).is_ok()).count();
    assert!(sent < 100, "{sent} MiB were taken");
    let grown = kib(sidecar.pid(), "VmHWM") - before;
    assert!(grown < 4 * 1024, "{grown} KiB");
    sidecar.get("/healthz").expect(200);
}

#[test]
fn with_few_descriptors_some_are_left_for_upstreams() {
    let scene = Scene::new();
    let process = Process::start(&scene, "ulimit -n 64;", Stdio::null());
    let crowd: Vec<_> = (0..200).filter_map(|_| TcpStream::connect(process.address).ok()).collect();
    // Four cold tokens at once: as many connections that come in, and as many that go out.
    scene.tenant.fail(Fault::times(Kind::Token, 4, Action::Hold));
    std::thread::scope(|threads| {
        for name in ["a", "b", "c", "d"] {
            let cold = format!("{APP}?optionsOverride.AcquireTokenOptions.FmiPath={name}");
            let process = &process;
            threads.spawn(move || process.get(&cold).expect(200));
        }
        assert!(scene.tenant.faults().wait_held(4, PATIENCE));
        scene.tenant.faults().release();
    });
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.child.id())).unwrap().count();
    assert!(open <= 64, "{open}");
    drop(crowd);
    process.get(APP).expect(200);
    assert_eq!(process.end(), Some(0));
}

#[test]
fn it_takes_the_descriptors_that_it_may_take() {
    let scene = Scene::new();
    let process = Process::start(&scene, "ulimit -S -n 256;", Stdio::null());
    let crowd: Vec<_> = (0..500).map(|_| TcpStream::connect(process.address).unwrap()).collect();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(soft > 2000, "{line}");
    drop(crowd);
    process.get(APP).expect(200);
}

/// Asks again and again on one connection until the sidecar says that it closes: how many answers came.
fn ask_until_closed(address: SocketAddr, target: &str, stop: &AtomicBool) -> usize {
    let mut client = Client::connect(address);
    let mut answers = 0;
    loop {
        // A request that was sent on an open connection is answered, whatever happens meanwhile.
        let response = client.get(target).answer().expect(200);
        answers += 1;
        if response.header("Connection") == Some("close") {
            assert!(stop.load(Ordering::SeqCst), "closed before the end");
            return answers;
        }
    }
}

#[test]
fn a_term_signal_amid_load_loses_no_request() {
    let scene = Scene::new();
    let mut sidecar = scene.start();
    sidecar.get(APP).expect(200);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for number in 0..16 {
            let (sidecar, stop, answered) = (&sidecar, &stop, &answered);
            // Every other one asks for what takes an upstream each time.
            let force = "?optionsOverride.AcquireTokenOptions.ForceRefresh=true";
            let target = format!("{APP}{}", if number % 2 == 0 { "" } else { force });
            threads.spawn(move || {
                answered.fetch_add(ask_until_closed(sidecar.address, &target, stop), Ordering::SeqCst);
            });
        }
        eventually("they are at it", || scene.tenant.journal().count(Kind::Token) > 50);
        stop.store(true, Ordering::SeqCst);
        sidecar.signal("-TERM");
    });
    assert_eq!(sidecar.wait().code(), Some(0));
    assert!(answered.load(Ordering::SeqCst) > 50);
}

#[test]
fn a_killed_process_leaves_its_address_to_the_next() {
    let scene = Scene::new();
    let address = unused_address();
    for _ in 0..3 {
        let mut process = Process::start_at(address, &scene, "", Stdio::null());
        let mut client = Client::connect(process.address);
        assert_eq!(client.get(APP).answer().status, 200);
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        assert!(client.ends());
    }
}

#[test]
fn a_crowd_that_waits_for_a_dead_service_holds_up_nobody_else() {
    let scene = Scene::new().with("Sidecar:Limits:Workers", "8").with("Sidecar:Limits:TokenRequestTimeout", "30");
    let sidecar = scene.start().with_keys();
    let user = scene.user("alice");
    sidecar.get(APP).expect(200);
    scene.tenant.fail(Fault::always(Kind::Token, Action::Hold));
    let mut crowd: Vec<_> = (0..300)
        .map(|number| {
            let mut client = Client::connect(sidecar.address);
            client.get(&format!("{APP}?optionsOverride.AcquireTokenOptions.FmiPath={}", number % 100));
            client
        })
        .collect();
    assert!(scene.tenant.faults().wait_held(6, PATIENCE), "as many wait as may");
    for _ in 0..50 {
        sidecar.get("/healthz").expect(200);
        sidecar.get(APP).expect(200);
        sidecar.get_as(&user, "/Validate").expect(200);
    }
    scene.tenant.faults().clear();
    let statuses: Vec<u16> = crowd.iter_mut().map(|client| client.answer().status).collect();
    // Who led a request or followed one has the token; the others were told at once that nobody was free.
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 6);
}

#[test]
fn a_caller_who_vanishes_costs_nothing() {
    let scene = Scene::new();
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    scene.tenant.fail(Fault::always(Kind::Token, Action::Delay(Duration::from_millis(50))));
    for number in 0..200 {
        let target = format!("{APP}?optionsOverride.AcquireTokenOptions.FmiPath={}", number % 7);
        Client::connect(sidecar.address).get(&target);
    }
    let idle = "entra_sidecar_connections{state=\"parked\"} 0";
    eventually("nobody is waited for", || sidecar.get("/metrics").body.contains(idle));
    sidecar.get(APP).expect(200);
    assert!(sidecar.get("/metrics").body.contains("entra_sidecar_panics_total 0"));
}
