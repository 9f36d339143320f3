//! Requests and answers that pass through while they are made: as they come, at whatever pace, and never with an end that
//! the other side did not mean.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use super::live_upstream::{Line, LiveUpstream};
use super::support::{Client, Request, Scene, Sidecar, eventually};

const APP: &str = "/ProxyUnauthenticated/App";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn start(settings: &[(&str, &str)]) -> (LiveUpstream, Sidecar, Scene) {
    let api = LiveUpstream::start();
    let scene = Scene::new().with("DownstreamApis:App:BaseUrl", &format!("http://{}", api.address));
    let scene = settings.iter().fold(scene, |scene, (key, value)| scene.with(key, value));
    let sidecar = scene.start();
    (api, sidecar, scene)
}

fn get(sidecar: &Sidecar, path: &str) -> Client {
    let mut client = Client::connect(sidecar.address);
    client.get(&format!("{APP}{path}"));
    client
}

/// The figure of the metrics that this line begins with.
fn figure(sidecar: &Sidecar, series: &str) -> String {
    let text = sidecar.get("/metrics").expect(200).body;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_default().to_owned()
}

#[test]
fn each_event_is_sent_on_as_it_comes() {
    let (api, sidecar, _scene) = start(&[]);
    let mut client = get(&sidecar, "/events");
    let (mut line, _) = api.accept();
    line.say(CHUNKED);
    assert!(client.head().ends_with("\r\nTransfer-Encoding: chunked"));
    for event in ["data: 1\n\n", ": ping\n\n", "data: 2\n\n"] {
        line.say(&format!("{:x};ext=1\r\n{event}\r\n", event.len()));
        let mut seen = [0; 64];
        let read = client.stream.read(&mut seen).unwrap();
        assert_eq!(String::from_utf8_lossy(&seen[..read]), format!("{:x}\r\n{event}\r\n", event.len()));
    }
    assert_eq!(figure(&sidecar, "entra_sidecar_proxy_streams"), "1");
    line.say("0\r\nX-Trailer: 1\r\n\r\n");
    client.get(&format!("{APP}/next"));
    assert!(line.head().starts_with("GET /next "), "on the same connection");
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut rest = [0; 5];
    client.stream.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"0\r\n\r\n");
    assert_eq!(client.answer().body, "ok");
    let passed = "entra_sidecar_upstream_requests_total{kind=\"proxy\",outcome=\"2xx\"}";
    eventually("both are over", || {
        figure(&sidecar, "entra_sidecar_proxy_streams") == "0" && figure(&sidecar, passed) == "2"
    });
}

#[test]
fn a_body_goes_on_in_its_own_framing_as_it_comes() {
    let (api, sidecar, _scene) = start(&[]);
    let mut client = Client::connect(sidecar.address);
    client
        .send(format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"));
    let (mut line, head) = api.accept();
    assert!(head.ends_with("\r\nContent-Length: 10\r\n\r\n") && !head.contains("100-continue"), "{head}");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue");
    for piece in ["hello", "world"] {
        client.send(piece);
        line.expect(piece);
    }
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    assert_eq!(client.answer().body, "1");
    client.send(format!("PUT {APP} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"));
    let head = line.head();
    assert!(head.ends_with("\r\nTransfer-Encoding: chunked\r\n\r\n") && !head.contains("Content-Length"), "{head}");
    line.expect("3\r\nabc\r\n");
    client.send("10;x=y\r\n0123456789abcdef\r\n0\r\nTrailer: no\r\n\r\n");
    line.expect("10\r\n0123456789abcdef\r\n0\r\n\r\n");
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
    assert_eq!(client.answer().body, "2");
    for direction in ["request", "response"] {
        let series = format!("entra_sidecar_proxy_bytes_total{{direction=\"{direction}\"}}");
        assert!(figure(&sidecar, &series).parse::<u32>().unwrap() > 100, "{direction}");
    }
}

#[test]
fn an_answer_may_come_before_the_body() {
    let (api, sidecar, _scene) = start(&[]);
    let mut client = Client::connect(sidecar.address);
    client.send(format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx"));
    let (mut line, _) = api.accept();
    line.say("HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\n\r\nbig");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("Connection"), answer.body.as_str()), (413, Some("close"), "big"));
    assert_eq!(answer.header("X-Sidecar-Error"), None);
    line.ends();
    assert!(client.ends());
}

#[test]
fn both_directions_run_at_once() {
    const SIZE: usize = 20 << 20;
    let (api, sidecar, _scene) = start(&[]);
    let mut client = Client::connect(sidecar.address);
    client.send(format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE}\r\n\r\n"));
    let (mut line, _) = api.accept();
    line.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", SIZE + 1));
    client.head();
    // The API says all it has to say before it reads.
    let mut caller_writes = client.stream.try_clone().unwrap();
    let piece = vec![b'x'; 1 << 20];
    thread::scope(|threads| {
        threads.spawn(|| {
            for _ in 0..SIZE >> 20 {
                line.stream.write_all(&piece).unwrap();
            }
            line.skip(SIZE);
            line.say("!");
        });
        threads.spawn(|| {
            for _ in 0..SIZE >> 20 {
                caller_writes.write_all(&piece).unwrap();
            }
        });
        let (mut left, mut buffer) = (SIZE + 1, vec![0; 1 << 16]);
        while left > 0 {
            let read = client.stream.read(&mut buffer).unwrap();
            assert!(read > 0);
            left -= read;
        }
    });
}

#[test]
fn bodies_of_any_size_cost_no_memory() {
    const SIZE: usize = 256 << 20;
    let (api, sidecar, _scene) = start(&[
        ("Sidecar:Limits:RequestBodyBytes", "1KiB"),
        ("Sidecar:Limits:DownstreamBodyBytes", "1KiB"),
        ("Sidecar:Limits:BodyMemory", "1KiB"),
    ]);
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let mut client = Client::connect(sidecar.address);
    client.send(format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE}\r\n\r\n"));
    let (mut line, _) = api.accept();
    let before = resident();
    thread::scope(|threads| {
        let sender = threads.spawn(|| {
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..SIZE >> 20 {
                client.send(&piece);
            }
        });
        line.skip(SIZE);
        sender.join().unwrap();
    });
    line.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
    client.head();
    thread::scope(|threads| {
        threads.spawn(|| {
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..SIZE >> 20 {
                line.stream.write_all(&piece).unwrap();
            }
        });
        let (mut left, mut buffer) = (SIZE, vec![0; 1 << 20]);
        while left > 0 {
            let read = client.stream.read(&mut buffer).unwrap();
            assert!(read > 0);
            left -= read;
        }
    });
    assert!(resident() - before < 2048, "{before} {}", resident());
}

#[test]
fn an_answer_that_breaks_off_breaks_off() {
    let (api, sidecar, _scene) = start(&[]);
    for (head, whole) in [(CHUNKED, "5\r\nhello\r\n"), ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "hello")] {
        let mut client = get(&sidecar, "/");
        let (mut line, _) = api.accept();
        line.say(head);
        line.say(whole);
        client.head();
        drop(line);
        assert_eq!(String::from_utf8_lossy(&client.rest()), whole);
    }
    // What the caller has seen nothing of can still be told.
    let mut client = get(&sidecar, "/");
    let (mut line, _) = api.accept();
    line.say(&format!("{CHUNKED}Z\r\n"));
    client.answer().expect(502);
    // Without a length the end is the end, and a reset is none.
    let mut client = get(&sidecar, "/");
    let (mut line, _) = api.accept();
    line.say("HTTP/1.1 200 OK\r\n\r\nhello");
    drop(line);
    assert_eq!(client.answer().body, "hello");
    let mut client = Client::connect(sidecar.address);
    let begin = |client: &mut Client, version: &str| {
        client.send(format!("POST {APP} HTTP/{version}\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"));
    };
    begin(&mut client, "1.1");
    let (mut line, _) = api.accept();
    line.say("HTTP/1.1 200 OK\r\n\r\nhello");
    client.head();
    line.reset();
    assert_eq!(client.rest(), b"5\r\nhello\r\n");
    // An old caller has nothing but the connection to tell it.
    let mut client = Client::connect(sidecar.address);
    begin(&mut client, "1.0");
    let (mut line, _) = api.accept();
    line.say(CHUNKED);
    assert!(client.head().ends_with("Connection: close"));
    line.say("5\r\nhello\r\n");
    let mut seen = [0; 5];
    client.stream.read_exact(&mut seen).unwrap();
    line.reset();
    assert_eq!(client.stream.read(&mut seen).map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
    let broken = "entra_sidecar_upstream_requests_total{kind=\"proxy\",outcome=\"broken\"}";
    eventually("all are counted", || figure(&sidecar, broken) == "5");
    let told = |line: &String| line.contains(" 200 ") && line.ends_with(" broken off by the API");
    eventually("all are logged", || sidecar.log().iter().filter(|line| told(line)).count() == 4);
}

#[test]
fn an_old_caller_gets_no_chunks() {
    let (api, sidecar, _scene) = start(&[]);
    let mut client = Client::connect(sidecar.address);
    client.send(format!("GET {APP} HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"));
    let (mut line, head) = api.accept();
    assert!(head.starts_with("GET / HTTP/1.1\r\n"));
    line.say("HTTP/1.1 103 Early Hints\r\n\r\n");
    line.say(CHUNKED);
    line.say("2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("Connection"), answer.body.as_str()), (200, Some("close"), "abc"));
}

#[test]
fn what_is_no_answer_is_502() {
    let (api, sidecar, _scene) = start(&[]);
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    for answer in [
        "SSH-2.0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2",
        &long,
    ] {
        let mut client = get(&sidecar, "/");
        let (mut line, _) = api.accept();
        let _ = line.stream.write_all(answer.as_bytes());
        drop(line.stream.shutdown(Shutdown::Write));
        let refused = client.answer().expect(502);
        assert_eq!(refused.header("X-Sidecar-Error"), Some("1"), "{answer:.40}");
    }
}

#[test]
fn a_caller_that_goes_ends_the_call() {
    let (api, sidecar, _scene) = start(&[("Logging:LogLevel:Access", "Information")]);
    let cancelled = "entra_sidecar_upstream_requests_total{kind=\"proxy\",outcome=\"cancelled\"}";
    let post = format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf");
    for (index, (request, answer)) in [("", ""), ("", CHUNKED), (post.as_str(), "")].into_iter().enumerate() {
        let mut client = Client::connect(sidecar.address);
        if request.is_empty() {
            client.get(APP)
        } else {
            client.send(request)
        };
        let (mut line, _) = api.accept();
        if !request.is_empty() {
            line.expect("half");
        }
        line.say(answer);
        if !answer.is_empty() {
            client.head();
        }
        let gone = Instant::now();
        drop(client);
        line.ends();
        assert!(gone.elapsed() < Duration::from_secs(1), "{:?}", gone.elapsed());
        eventually("it is counted", || figure(&sidecar, cancelled) == (index + 1).to_string());
    }
    // A caller that has the head may have had enough; no warning is due.
    let told = |level: &str, status: &str| {
        let cancelled = |line: &&String| line.ends_with(" cancelled by the caller");
        let log = sidecar.log();
        log.iter().filter(cancelled).filter(|line| line.contains(level) && line.contains(status)).count()
    };
    eventually("each is logged", || told(" WARN ", " 499 ") == 2 && told(" INFO ", " 200 ") == 1);
    eventually("no stream is left", || figure(&sidecar, "entra_sidecar_proxy_streams") == "0");
    eventually("no turn is left", || figure(&sidecar, "entra_sidecar_upstream_calls{state=\"active\"}") == "0");
}

#[test]
fn each_wait_has_its_limit() {
    let (api, sidecar, _scene) = start(&[
        ("Sidecar:Limits:ProxyFirstByteTimeout", "0.3"),
        ("Sidecar:Limits:ProxyIdleTimeout", "0.3"),
        ("Sidecar:Limits:BodyTimeout", "0.3"),
        ("Sidecar:Limits:WriteTimeout", "0.3"),
    ]);
    // No answer; then half of one, and nothing more.
    let mut client = get(&sidecar, "/");
    let (mut line, _) = api.accept();
    assert!(client.answer().expect(504).body.contains("The downstream API 'App' timed out: http://127.0.0.1:"));
    line.ends();
    let mut client = get(&sidecar, "/");
    let (mut line, _) = api.accept();
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    client.head();
    assert_eq!(client.rest(), b"half");
    line.ends();
    // Half a body, and nothing more; the answer is not waited for meanwhile.
    let mut client = Client::connect(sidecar.address);
    client.send(format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"));
    let (mut line, _) = api.accept();
    let refused = client.answer().problem(408, "The request body made no progress, or came too slowly");
    assert_eq!(refused.header("X-Sidecar-Error"), Some("1"));
    line.ends();
    // A caller that reads nothing.
    let client = get(&sidecar, "/");
    let (mut line, _) = api.accept();
    line.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 30));
    let piece = vec![b'x'; 1 << 20];
    while line.stream.write_all(&piece).is_ok() {}
    drop(client);
}

#[test]
fn whoever_is_slow_within_its_limits_is_waited_for() {
    let (api, sidecar, _scene) = start(&[
        ("Sidecar:Limits:ProxyIdleTimeout", "0.5"),
        ("Sidecar:Limits:BodyTimeout", "0.5"),
        ("Sidecar:Limits:WriteTimeout", "0.5"),
        ("Sidecar:Limits:DownstreamTimeout", "0.5"),
    ]);
    let pause = || thread::sleep(Duration::from_millis(250));
    let mut client = Client::connect(sidecar.address);
    client.send(format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"));
    let (mut line, _) = api.accept();
    for piece in ["a", "b", "c", "d"] {
        pause();
        client.send(piece);
        line.expect(piece);
    }
    // The head of the answer has a limit of its own.
    pause();
    pause();
    pause();
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
    for piece in ["a", "b", "c", "d"] {
        pause();
        line.say(piece);
    }
    assert_eq!(client.answer().body, "abcd");
}

#[test]
fn a_connection_that_had_ended_is_nobodys_failure() {
    let (api, sidecar, _scene) = start(&[]);
    let mut client = get(&sidecar, "/1");
    let (mut line, _) = api.accept();
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    client.answer();
    client.get(&format!("{APP}/2"));
    // It is read on the old connection, which ends without a word.
    assert!(line.head().starts_with("GET /2 "));
    drop(line);
    let (mut line, head) = api.accept();
    assert!(head.starts_with("GET /2 "));
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
    assert_eq!(client.answer().body, "2");
    // What may have been done is not done again.
    client.send(format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n3"));
    assert!(line.head().starts_with("POST / "));
    drop(line);
    client.answer().expect(502);
}

#[test]
fn a_request_is_repeated_once_and_on_a_new_connection() {
    let (api, sidecar, _scene) = start(&[]);
    let mut clients: Vec<_> = (0..3).map(|_| get(&sidecar, "/warm")).collect();
    let mut lines: Vec<_> = clients.iter().map(|_| api.accept().0).collect();
    for line in &mut lines {
        line.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    }
    for client in &mut clients {
        client.answer().expect(200);
    }
    // Each of them takes a request and ends.
    let took = |mut line: Line| thread::spawn(move || line.stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0));
    let lines: Vec<_> = lines.into_iter().map(took).collect();
    clients[0].get(&format!("{APP}/once"));
    let (mut line, head) = api.accept();
    assert!(head.starts_with("GET /once "));
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
    assert_eq!(clients[0].answer().body, "2");
    drop((sidecar, clients));
    assert_eq!(lines.into_iter().map(|line| line.join().unwrap()).filter(|took| *took).count(), 1);
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let (api, sidecar, _scene) = start(&[]);
    let mut client = Client::connect(sidecar.address);
    let post = format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n");
    let chunked = format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n");
    client.send(format!("{post}oneGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n{chunked}two\r\n0\r\n\r\n{post}thr"));
    let (mut line, _) = api.accept();
    line.expect("one");
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    assert_eq!((client.answer().body, client.answer().body), ("1".to_owned(), "Healthy".to_owned()));
    line.head();
    line.expect("3\r\ntwo\r\n0\r\n\r\n");
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
    assert_eq!(client.answer().body, "2");
    line.head();
    line.expect("thr");
    // The third body's length is three, so that its end is here.
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3");
    assert_eq!(client.answer().body, "3");
    Request::get("/healthz").send_on(&mut client).expect(200);
}

#[test]
fn a_stream_finishes_at_the_end_or_is_cut() {
    let (api, mut sidecar, scene) = start(&[]);
    let mut client = get(&sidecar, "/");
    let (mut line, _) = api.accept();
    line.say(CHUNKED);
    client.head();
    sidecar.signal("-TERM");
    line.say("2\r\nab\r\n0\r\n\r\n");
    assert_eq!(client.rest(), b"2\r\nab\r\n0\r\n\r\n");
    assert!(sidecar.wait().success());
    let scene = scene.with("Sidecar:Limits:ShutdownTimeout", "0.2");
    let mut sidecar = scene.start();
    let mut client = get(&sidecar, "/");
    let (mut line, _) = api.accept();
    line.say(CHUNKED);
    line.say("2\r\nab\r\n");
    client.head();
    sidecar.signal("-TERM");
    assert_eq!(client.rest(), b"2\r\nab\r\n", "no last chunk");
    line.ends();
    assert!(sidecar.wait().success());
}

#[test]
fn many_streams_hold_a_thread_each_and_no_more() {
    const MANY: usize = 100;
    let (api, sidecar, _scene) = start(&[]);
    let streams: Vec<_> = (0..MANY)
        .map(|_| {
            let client = get(&sidecar, "/");
            let (mut line, _) = api.accept();
            line.say(CHUNKED);
            (client, line)
        })
        .collect();
    assert_eq!(figure(&sidecar, "entra_sidecar_proxy_streams"), MANY.to_string());
    assert!(sidecar.threads() < MANY + 30, "{}", sidecar.threads());
    for (mut client, mut line) in streams {
        line.say("0\r\n\r\n");
        client.answer().expect(200);
    }
    eventually("no stream is left", || figure(&sidecar, "entra_sidecar_proxy_streams") == "0");
}

#[test]
fn streams_over_idle_connections_hold_no_thread() {
    const MANY: usize = 30;
    let (api, sidecar, _scene) = start(&[]);
    let sidecar = sidecar.with_keys();
    let threads = sidecar.threads();
    let mut streams: Vec<_> = (0..MANY)
        .map(|_| {
            let client = get(&sidecar, "/");
            (client, api.accept().0)
        })
        .collect();
    for (client, line) in &mut streams {
        line.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.answer().expect(200);
    }
    eventually("the threads that opened the connections have ended", || sidecar.threads() <= threads + 1);
    for (client, _) in &mut streams {
        client.get(&format!("{APP}/again"));
    }
    for (_, line) in &mut streams {
        assert!(line.head().starts_with("GET /again "));
        line.say(CHUNKED);
        line.say("2\r\nab\r\n");
    }
    assert_eq!(figure(&sidecar, "entra_sidecar_proxy_streams"), MANY.to_string());
    assert!(sidecar.threads() <= threads + 1, "{} of {threads}", sidecar.threads());
    for (_, line) in &mut streams {
        line.say("0\r\n\r\n");
    }
    for (client, _) in &mut streams {
        assert_eq!(client.answer().expect(200).body, "ab");
    }
}

/// Has a call served over a connection that stays idle afterwards, so that a worker carries the next one.
fn warm(sidecar: &Sidecar, api: &LiveUpstream) -> Line {
    let mut client = get(sidecar, "/first");
    let (mut line, _) = api.accept();
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client.answer().expect(200);
    eventually("the connection is idle", || figure(sidecar, "entra_sidecar_upstream_calls{state=\"active\"}") == "0");
    line
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_seen() {
    let (api, sidecar, _scene) = start(&[]);
    for (answer, whole) in [
        ("HTTP/1.1 200 OK\r\n\r\nall of it", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false),
    ] {
        for _ in 0..8 {
            let mut line = warm(&sidecar, &api);
            let mut client = get(&sidecar, "/next");
            line.head();
            line.say(answer);
            drop(line);
            let mut seen = Vec::new();
            if whole {
                assert_eq!(client.answer().body, "all of it");
            } else {
                client.stream.read_to_end(&mut seen).unwrap();
                assert!(!seen.ends_with(b"0\r\n\r\n"), "{answer}");
            }
        }
    }
}

#[test]
fn a_request_that_was_answered_badly_is_not_repeated() {
    let (api, sidecar, _scene) = start(&[]);
    for answer in ["HTTP/1.1 099 Early\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
        let mut line = warm(&sidecar, &api);
        let mut client = get(&sidecar, "/next");
        line.head();
        line.say(answer);
        client.answer().expect(502);
        line.ends();
    }
}

#[test]
fn lines_of_an_answers_head_may_end_in_a_bare_line_feed() {
    let (api, sidecar, _scene) = start(&[]);
    let mut client = get(&sidecar, "/x");
    let (mut line, _) = api.accept();
    line.say("HTTP/1.1 200 OK\nX-Own: 1\nContent-Length: 2\n\nok");
    let answer = client.answer().expect(200);
    assert_eq!((answer.header("X-Own"), answer.body.as_str()), (Some("1"), "ok"));
}

#[test]
fn interim_answers_are_no_answer_in_time() {
    let (api, sidecar, _scene) = start(&[("Sidecar:Limits:ProxyFirstByteTimeout", "0.5")]);
    let mut client = get(&sidecar, "/x");
    let (mut line, _) = api.accept();
    let flood = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    thread::spawn(move || while line.stream.write_all(&flood).is_ok() {});
    client.answer().expect(504);
}
