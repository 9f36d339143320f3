use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use zeroize::Zeroizing;

use super::super::OutBody;
use super::super::resolver::SystemResolver;
use super::*;
use crate::value::url::Url;

/// A server that runs `serve` on a thread per connection, and counts connections.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    fn start(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (Arc::clone(&connections), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (number, serve) = (count.fetch_add(1, Ordering::SeqCst), Arc::clone(&serve));
                thread::spawn(move || serve(number, stream));
            }
        });
        Self { address, connections }
    }

    /// Answers every request with the same bytes.
    fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(
            move |_, mut stream| while read_request(&mut stream).is_some() && stream.write_all(&answer).is_ok() {},
        )
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Head and body of the next request; `None` when the client has closed.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let start = text.len();
        if reader.read_line(&mut text).ok()? == 0 {
            return None;
        }
        let line = text[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    text.push_str(&String::from_utf8_lossy(&body));
    Some(text)
}

fn exchange() -> UreqExchange {
    exchange_with(Proxies::default(), Roots::BuiltIn)
}

fn exchange_with(proxies: Proxies, roots: Roots) -> UreqExchange {
    UreqExchange::new(ExchangeSettings { roots, ..settings(proxies) }).unwrap()
}

fn settings(proxies: Proxies) -> ExchangeSettings {
    ExchangeSettings {
        connect_timeout: Duration::from_secs(30),
        roots: Roots::BuiltIn,
        proxies,
        resolver: Arc::new(SystemResolver),
        machine: None,
    }
}

fn get(url: &str) -> OutRequest {
    OutRequest {
        upstream: Upstream::Downstream,
        method: "GET".into(),
        url: Url::parse(url).unwrap(),
        headers: Vec::new(),
        body: None,
        memory: None,
        timeout: Duration::from_secs(30),
        max_body: 1024,
        pooled: true,
        redirected_from: None,
    }
}

fn post(url: &str, body: &str) -> OutRequest {
    OutRequest { method: "POST".into(), body: Some(OutBody::Own(Zeroizing::new(body.into()))), ..get(url) }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn one_connection_serves_many_requests() {
    let server = Server::answering(ok("hello"));
    let exchange = exchange();
    for _ in 0..5 {
        assert_eq!(exchange.send(get(&server.url("/"))).unwrap().body, b"hello");
        assert_eq!(exchange.send(post(&server.url("/"), "x")).unwrap().body, b"hello");
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_request_says_what_it_was_given_and_no_more() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let journal = Arc::clone(&seen);
    let server = Server::start(move |_, mut stream| {
        while let Some(request) = read_request(&mut stream) {
            journal.lock().unwrap().push(request);
            stream.write_all(ok("").as_bytes()).unwrap();
        }
    });
    let exchange = exchange();
    let mut request = get(&server.url("/a%20b?c=d"));
    request.headers = vec![("authorization".into(), Zeroizing::new(b"Bearer t".to_vec()))];
    exchange.send(request).unwrap();
    let with_body = |method: &str, body: &str| {
        let request = OutRequest { method: method.into(), ..post(&server.url("/"), body) };
        exchange.send(request).unwrap();
    };
    with_body("DELETE", "x");
    with_body("PROPFIND", "y");
    with_body("POST", "");
    let version = env!("CARGO_PKG_VERSION");
    let common = |length: &str| format!("{length}user-agent: entra-sidecar/{version}\r\n");
    let sorted = |request: &str| {
        let mut lines: Vec<_> = request.lines().map(str::to_owned).collect();
        lines[1..].sort();
        lines.join("\r\n")
    };
    let host = format!("Host: {}", server.address);
    let expected = [
        format!("GET /a%20b?c=d HTTP/1.1\r\n{host}\r\nauthorization: Bearer t\r\n{}\r\n", common("")),
        format!("DELETE / HTTP/1.1\r\n{host}\r\n{}\r\nx", common("content-length: 1\r\n")),
        format!("PROPFIND / HTTP/1.1\r\n{host}\r\n{}\r\ny", common("content-length: 1\r\n")),
        format!("POST / HTTP/1.1\r\n{host}\r\n{}\r\n", common("content-length: 0\r\n")),
    ];
    let seen = seen.lock().unwrap();
    assert_eq!(
        seen.iter().map(|request| sorted(request)).collect::<Vec<_>>(),
        expected.map(|request| sorted(&request))
    );
}

#[test]
fn a_pooled_connection_that_the_server_closed_is_replaced() {
    let server = Server::start(|_, mut stream| {
        read_request(&mut stream);
        stream.write_all(ok("once").as_bytes()).unwrap();
    });
    let exchange = exchange();
    for number in 1..=3 {
        let request = if number % 2 == 0 { post(&server.url("/"), "x") } else { get(&server.url("/")) };
        // The close may arrive while the next request is on its way; a POST lost this way is not
        // repeated.
        let request = OutRequest { upstream: Upstream::KeyVault, ..request };
        assert_eq!(exchange.send(request).unwrap().body, b"once");
        assert_eq!(server.connections(), number);
    }
}

/// Serves one request per connection and closes on the second without an answer. Counts what it has
/// read.
fn closing_on_the_second() -> (Server, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let server = Server::start(move |_, mut stream| {
        for answer in [ok("first"), String::new()] {
            if read_request(&mut stream).is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    (server, read)
}

#[test]
fn a_harmless_request_lost_on_a_pooled_connection_is_resent() {
    for (upstream, method, repeated) in [
        (Upstream::Downstream, "GET", true),
        (Upstream::Downstream, "PUT", true),
        (Upstream::Token, "POST", false),
        (Upstream::KeyVault, "POST", true),
        (Upstream::Downstream, "POST", false),
        (Upstream::Downstream, "PATCH", false),
    ] {
        let (server, read) = closing_on_the_second();
        let exchange = exchange();
        exchange.send(get(&server.url("/"))).unwrap();
        let body = (method != "GET").then(|| Zeroizing::new(b"x".to_vec()));
        let request =
            OutRequest { upstream, method: method.into(), body: body.map(OutBody::Own), ..get(&server.url("/")) };
        let answer = exchange.send(request);
        if repeated {
            assert_eq!(answer.unwrap().body, b"first", "{method}");
            assert_eq!(read.load(Ordering::SeqCst), 3, "{method}");
        } else {
            assert!(matches!(answer, Err(OutError::Broken(_))), "{method}");
            assert_eq!(read.load(Ordering::SeqCst), 2, "{method}");
        }
    }
}

#[test]
fn a_new_connection_that_breaks_is_not_tried_again() {
    let server = Server::start(|_, mut stream| {
        read_request(&mut stream);
    });
    assert!(matches!(exchange().send(get(&server.url("/"))), Err(OutError::Broken(_))));
    assert_eq!(server.connections(), 1);
}

#[test]
fn what_is_tried_once_more_gets_a_connection_of_its_own() {
    let (server, read) = closing_on_the_second();
    let exchange = exchange();
    exchange.send(get(&server.url("/"))).unwrap();
    let request = OutRequest { upstream: Upstream::Token, pooled: false, ..post(&server.url("/"), "x") };
    assert_eq!(exchange.send(request).unwrap().body, b"first");
    assert_eq!((server.connections(), read.load(Ordering::SeqCst)), (2, 2));
}

#[test]
fn a_server_that_is_not_there_is_named_without_path_or_query() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = exchange().send(get(&format!("http://{address}/path?secret=1"))).unwrap_err();
    assert_eq!(refused, OutError::Connect(format!("http://{address}: Connection refused (os error 111)")));
}

#[test]
fn a_server_that_never_answers_times_out() {
    let server = Server::start(|_, mut stream| {
        read_request(&mut stream);
        read_request(&mut stream);
    });
    let request = OutRequest { timeout: Duration::from_millis(50), ..get(&server.url("/path")) };
    let host = format!("http://{}: no ", server.address);
    match exchange().send(request) {
        Err(OutError::Timeout(text)) => assert!(text.starts_with(&host) && text.contains(" within 50ms"), "{text}"),
        other => panic!("{other:?}"),
    }
    // A stalling body times out too.
    let server = Server::start(|_, mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
        read_request(&mut stream);
    });
    let request = OutRequest { timeout: Duration::from_millis(50), ..get(&server.url("/path")) };
    assert!(matches!(exchange().send(request), Err(OutError::Timeout(_))));
}

#[test]
fn a_body_has_a_limit_however_it_is_framed() {
    for length in [1023, 1024, 1025] {
        let body = "b".repeat(length);
        for answer in [
            ok(&body),
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"),
        ] {
            let close = answer.contains("close");
            let server = Server::start(move |_, mut stream| {
                while read_request(&mut stream).is_some() && stream.write_all(answer.as_bytes()).is_ok() && !close {}
            });
            match exchange().send(get(&server.url("/"))) {
                Ok(answer) => assert!(length <= 1024 && answer.body.len() == length, "{length}"),
                Err(error) => assert!(length > 1024 && error == OutError::TooLarge(1024), "{length}: {error}"),
            }
        }
    }
}

#[test]
fn a_truncated_body_is_an_error() {
    let server = Server::start(|_, mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
    });
    assert!(matches!(exchange().send(get(&server.url("/"))), Err(OutError::Broken(_))));
}

#[test]
fn an_answer_is_passed_on_whole_whatever_its_status() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let server = Server::answering(format!(
        "{interim}HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nX-Two: a\r\nX-Two: b\r\nX-Latin: \u{e9}\r\n\
         Set-Cookie: c=1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nno"
    ));
    let exchange = exchange();
    for _ in 0..2 {
        let answer = exchange.send(get(&server.url("/"))).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (302, &b"no"[..]));
        assert_eq!(answer.header("location"), Some("http://127.0.0.1:1/"));
        let two: Vec<_> = answer.headers.all("x-two").collect();
        assert_eq!(two, [b"a", b"b"]);
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn what_is_no_http_is_broken() {
    for answer in
        ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.1 200 OK\r\nbad header\r\n\r\n"]
    {
        let server = Server::answering(answer);
        assert!(matches!(exchange().send(get(&server.url("/"))), Err(OutError::Broken(_))), "{answer}");
    }
}

#[test]
fn an_idle_connection_that_the_upstream_closed_is_closed_too() {
    let (ended, seen) = std::sync::mpsc::channel();
    let ended = Mutex::new(ended);
    let gate = Arc::new(std::sync::Barrier::new(2));
    let idles = Arc::clone(&gate);
    let server = Server::start(move |_, mut stream| {
        read_request(&mut stream).unwrap();
        stream.write_all(ok("x").as_bytes()).unwrap();
        idles.wait();
        // The connection stays half open until the client also closes its half.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let end = std::io::Read::read(&mut stream, &mut [0]);
        ended.lock().unwrap().send(end.map_err(|error| error.kind())).unwrap();
    });
    let exchange = exchange();
    assert!(exchange.send(get(&server.url("/"))).is_ok());
    gate.wait();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        exchange.connections.tidy();
        match seen.recv_timeout(Duration::from_millis(10)) {
            Ok(end) => break assert_eq!(end, Ok(0)),
            Err(_) => assert!(Instant::now() < deadline, "it stays in CLOSE-WAIT"),
        }
    }
}

#[test]
fn localhost_is_resolved_without_a_name_server() {
    let server = Server::answering(ok("here"));
    let answer = exchange().send(get(&format!("http://api.localhost:{}/", server.address.port())));
    assert_eq!(answer.unwrap().body, b"here");
}

#[test]
fn managed_identities_avoid_the_proxy() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let journal = Arc::clone(&seen);
    let proxy = Server::start(move |_, mut stream| {
        let request = read_request(&mut stream).unwrap_or_default();
        journal.lock().unwrap().push(request.lines().next().unwrap_or_default().to_owned());
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let url = format!("http://user:hunter2@{}", proxy.address);
    let proxies = Proxies::from_environment(|name| (name == "HTTPS_PROXY").then(|| url.clone())).unwrap();
    let exchange = exchange_with(proxies, Roots::BuiltIn);
    let Err(OutError::Proxy { cause, timed_out: false }) = exchange.send(get("https://api.invalid/path")) else {
        panic!("the proxy's failure")
    };
    assert!(cause.starts_with(&format!("http://{} (the proxy): no tunnel: ", proxy.address)), "{cause}");
    assert!(!cause.contains("hunter2") && !cause.contains("api.invalid"), "{cause}");
    assert_eq!(*seen.lock().unwrap(), ["CONNECT api.invalid:443 HTTP/1.1"]);
    // An unroutable address (RFC 5737); the proxy must not be asked.
    let identity = OutRequest {
        upstream: Upstream::ManagedIdentity,
        timeout: Duration::from_millis(20),
        ..get("https://192.0.2.1/")
    };
    assert!(exchange.send(identity).is_err());
    assert_eq!(proxy.connections(), 1);
}

#[test]
fn what_a_proxy_fails_in_is_told_of_the_proxy() {
    // The port is closed again.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = Server::start(|_, stream| drop(stream));
    let refusing = Server::answering("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    for address in [gone, silent.address, refusing.address] {
        for scheme in ["https", "http"] {
            let url = format!("http://user:hunter2@{address}");
            let proxies = Proxies::from_environment(|name| name.ends_with("_proxy").then(|| url.clone())).unwrap();
            let exchange = exchange_with(proxies, Roots::BuiltIn);
            let failure = exchange.send(get(&format!("{scheme}://api.invalid/"))).unwrap_err();
            let OutError::Proxy { cause, timed_out: false } = failure else {
                panic!("{scheme} {address}: {failure:?}")
            };
            assert!(
                cause.starts_with(&format!("http://{address} (the proxy): ")) && !cause.contains("hunter2"),
                "{cause}"
            );
        }
    }
}

#[test]
fn a_proxy_variable_that_is_no_url_stops_the_start() {
    for (text, expected) in [
        ("http://", "a host name or address"),
        ("http://user:hunter2@proxy:notaport", "a port from 1 to 65535"),
        ("socks5://user:hunter2@proxy", "the http:// or https:// URL of a proxy"),
        ("ftp://proxy", "the http:// or https:// URL of a proxy"),
    ] {
        let proxies = Proxies::from_environment(|name| (name == "https_proxy").then(|| text.into()));
        let exchange = proxies.and_then(|proxies| UreqExchange::new(settings(proxies)));
        assert_eq!(exchange.unwrap_err().to_string(), format!("https_proxy: expected {expected}"), "{text}");
    }
}

/// A TLS server for `localhost`, certified by the test root. Its answer and the end of TLS leave at once, and TCP stays open.
/// It reports which handshakes were resumed.
fn tls_server(fields: &'static str) -> (Server, Arc<Mutex<Vec<rustls::HandshakeKind>>>) {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../testdata/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../testdata/server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (config, handshakes) = (Arc::new(config), Arc::new(Mutex::new(Vec::new())));
    let journal = Arc::clone(&handshakes);
    let server = Server::start(move |_, mut stream| {
        let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut stream);
        let mut head = [0; 2048];
        if stream.read(&mut head).is_ok_and(|read| read > 0) {
            journal.lock().unwrap().extend(stream.conn.handshake_kind());
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 6\r\n\r\nsecret");
            stream.conn.writer().write_all(answer.as_bytes()).unwrap();
            stream.conn.send_close_notify();
            let mut records = Vec::new();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut records).unwrap();
            }
            stream.sock.write_all(&records).unwrap();
            let _ = stream.sock.read_to_end(&mut Vec::new());
        }
    });
    (server, handshakes)
}

fn test_root() -> Roots {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/outbound/testdata/root.pem");
    Roots::load(&[path.into()], &mut |_| ()).unwrap()
}

#[test]
fn a_certificate_is_checked_against_the_roots_and_the_name() {
    let (server, handshakes) = tls_server("Connection: close\r\n");
    let port = server.address.port();
    let trusting = exchange_with(Proxies::default(), test_root());
    for _ in 0..2 {
        assert_eq!(trusting.send(get(&format!("https://localhost:{port}/"))).unwrap().body, b"secret");
    }
    assert_eq!(*handshakes.lock().unwrap(), [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
    let wrong_name = trusting.send(get(&format!("https://127.0.0.1:{port}/"))).unwrap_err();
    assert!(matches!(&wrong_name, OutError::Connect(text) if text.contains("TLS: ")), "{wrong_name}");
    let unknown_root = exchange().send(get(&format!("https://localhost:{port}/path"))).unwrap_err().to_string();
    assert_eq!(unknown_root, format!("https://localhost:{port}: TLS: invalid peer certificate: UnknownIssuer"));
}

#[test]
fn a_connection_whose_tls_has_ended_serves_no_other_request() {
    let (server, handshakes) = tls_server("");
    let exchange = exchange_with(Proxies::default(), test_root());
    let url = format!("https://localhost:{}/", server.address.port());
    for _ in 0..3 {
        let request = OutRequest { timeout: Duration::from_secs(5), ..post(&url, "x") };
        assert_eq!(exchange.send(request).unwrap().body, b"secret");
    }
    assert_eq!(handshakes.lock().unwrap().len(), 3);
}

#[test]
fn a_managed_identity_endpoint_may_be_pinned_by_thumbprint() {
    let (server, _) = tls_server("Connection: close\r\n");
    // The certificate in testdata/server.pem; its name does not matter here.
    let own = "1F73DAFAF5BC5CD10F5A4AC08078573CFFEE36A7";
    let other = &own.replace("1F", "2F");
    for url in [format!("https://localhost:{}/", server.address.port()), format!("https://{}/", server.address)] {
        let send = |thumbprint: &str, upstream| {
            let machine = Thumbprint::parse(thumbprint).ok();
            assert!(machine.is_some());
            let exchange = UreqExchange::new(ExchangeSettings { machine, ..settings(Proxies::default()) }).unwrap();
            exchange.send(OutRequest { upstream, ..get(&url) }).map(|answer| answer.body.clone())
        };
        assert_eq!(send(own, Upstream::ManagedIdentity), Ok(b"secret".to_vec()));
        let refused = send(other, Upstream::ManagedIdentity);
        assert!(matches!(&refused, Err(OutError::Connect(text)) if text.contains("TLS: ")), "{refused:?}");
        assert!(send(own, Upstream::Downstream).is_err(), "for no other upstream");
    }
}

#[test]
fn roots_vouch_beside_a_thumbprint() {
    let (server, _) = tls_server("Connection: close\r\n");
    let machine = Thumbprint::parse(&"0".repeat(40)).ok();
    let exchange =
        UreqExchange::new(ExchangeSettings { machine, roots: test_root(), ..settings(Proxies::default()) }).unwrap();
    let request = |host: &str| OutRequest {
        upstream: Upstream::ManagedIdentity,
        ..get(&format!("https://{host}:{}/", server.address.port()))
    };
    assert_eq!(exchange.send(request("localhost")).unwrap().body, b"secret");
    assert!(exchange.send(request("127.0.0.1")).is_err());
}
