//! TLS, proxies and the reuse of connections, through the whole program.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use local_tenant::Kind;
use serde_json::json;

use super::raw_upstream::{Act, ROOT, RawUpstream, ok};
use super::support::{Client, Response, Scene, Sidecar, command, eventually};

const APP: &str = "/DownstreamApiUnauthenticated/App";

fn scene(base: &str) -> Scene {
    Scene::new().with("DownstreamApis:App:BaseUrl", base)
}

fn https(api: &RawUpstream) -> Scene {
    scene(&format!("https://localhost:{}/v1?secret=1", api.address.port()))
}

#[track_caller]
fn welcome(sidecar: &Sidecar) {
    assert_eq!(sidecar.get(APP).expect(200).json()["content"], json!("welcome"));
}

#[track_caller]
fn unreachable(sidecar: &Sidecar, reason: &str) {
    let problem = sidecar.get(APP).expect(502);
    let detail = problem.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("The downstream API 'App' cannot be reached: http"), "{detail}");
    assert!(detail.contains(reason) && !detail.contains("secret"), "{detail}");
}

#[test]
fn whom_to_trust_is_said_in_any_of_three_ways() {
    let api = RawUpstream::tls(|_| ok("welcome"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(ROOT, folder.path().join("0a1b2c3d.0")).unwrap();
    let folder = folder.path().to_str().unwrap();
    welcome(&https(&api).with("Sidecar:TrustedCertificates", ROOT).start());
    for (variable, value) in [("SSL_CERT_FILE", ROOT), ("SSL_CERT_DIR", folder)] {
        welcome(&https(&api).start_with(&[(variable, value)]));
    }
}

#[test]
fn a_field_of_the_body_is_sent_on_byte_for_byte() {
    let api = RawUpstream::start(|_| ok("x"));
    let scene = scene(&format!("http://{}", api.address));
    let sidecar = scene.start();
    for name in ["\u{e4}".as_bytes(), b"\xe4"] {
        let mut client = Client::connect(sidecar.address);
        let head = format!("POST {APP} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n");
        client.send(
            [head.as_bytes(), b"Content-Type: text/", name, b"\r\nContent-Disposition: attachment; filename=", name]
                .concat(),
        );
        client.send("\r\n\r\n1");
        client.answer().expect(200);
        let seen = String::from_utf8_lossy(name);
        let request = api.last();
        assert_eq!(request.header("Content-Type"), [format!("text/{seen}")]);
        assert_eq!(request.header("Content-Disposition"), [format!("attachment; filename={seen}")]);
    }
}

#[test]
fn an_answer_that_never_comes_over_an_idle_connection_is_a_timeout() {
    let api = RawUpstream::start(|request| if request.target() == "/warm" { ok("x") } else { Act::Stall(Vec::new()) });
    let scene = scene(&format!("http://{}", api.address)).with("Sidecar:Limits:DownstreamTimeout", "0.5");
    let sidecar = scene.start();
    sidecar.get(&format!("{APP}?optionsOverride.RelativePath=warm")).expect(200);
    let detail = sidecar.get(APP).expect(504).json()["detail"].to_string();
    assert!(detail.contains("no complete answer within 500ms (Sidecar:Limits:DownstreamTimeout)"), "{detail}");
    assert_eq!(api.received().len(), 2, "it is not asked again");
}

#[test]
fn an_untrusted_server_gets_no_request_and_is_named() {
    let api = RawUpstream::tls(|_| ok("welcome"));
    let other_root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/outbound/testdata/root.pem");
    // The built-in roots do not know it, and the operator's take their place.
    unreachable(&https(&api).start(), &format!("https://localhost:{}: TLS: ", api.address.port()));
    unreachable(&https(&api).start_with(&[("SSL_CERT_FILE", other_root)]), "UnknownIssuer");
    let by_number = scene(&format!("https://{}/?secret=1", api.address)).with("Sidecar:TrustedCertificates", ROOT);
    unreachable(&by_number.start(), &format!("https://{}: TLS: ", api.address));
    assert_eq!(api.received().len(), 0);
    let plain = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let by_mistake = scene(&format!("https://{}/?secret=1", plain.local_addr().unwrap()));
    thread::spawn(move || {
        let (mut client, _) = plain.accept().unwrap();
        client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = io::copy(&mut client, &mut io::sink());
    });
    unreachable(&by_mistake.start(), "TLS: ");
}

#[test]
fn roots_that_cannot_be_read_stop_the_start() {
    let scene = Scene::new();
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        let mut command = command();
        command.env(variable, "/absent/roots").args(["--urls", "http://127.0.0.1:0"]);
        for (key, value) in &scene.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("/absent/roots") && told.contains(variable), "{told}");
    }
}

/// An API over TLS whose answers end as its paths say.
#[test]
fn an_answers_head_has_one_limit_for_callers_of_every_kind() {
    let api = RawUpstream::start(|request| {
        let length: usize = request.target()[1..].parse().unwrap();
        Act::Close(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Long: {}\r\n\r\n", "x".repeat(length)).into())
    });
    let scene = scene(&format!("http://{}", api.address));
    let sidecar = scene.start();
    for (length, status) in [(30_000, 200), (40_000, 502)] {
        call(&sidecar, &length.to_string()).expect(status);
        sidecar.get(&format!("/ProxyUnauthenticated/App/{length}")).expect(status);
    }
}

fn ending() -> (RawUpstream, Scene, Sidecar) {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let api = RawUpstream::tls(move |request| match request.target() {
        "/cut" => Act::Cut(b"HTTP/1.1 200 OK\r\n\r\nhalf".to_vec()),
        "/closed" => Act::Close(b"HTTP/1.1 200 OK\r\n\r\nwhole".to_vec()),
        "/two" => Act::Keep(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{evil}").into_bytes()),
        "/down" => Act::Keep(b"HTTP/1.1 302 Go\r\nLocation: http://localhost/\r\nContent-Length: 0\r\n\r\n".to_vec()),
        _ => ok("welcome"),
    });
    let scene = scene(&format!("https://localhost:{}/", api.address.port()))
        .with("Sidecar:TrustedCertificates", ROOT)
        .with("Sidecar:AllowOutboundRedirects", "true");
    let sidecar = scene.start();
    (api, scene, sidecar)
}

fn call(sidecar: &Sidecar, path: &str) -> Response {
    sidecar.get(&format!("{APP}?optionsOverride.RelativePath={path}"))
}

#[test]
fn one_tls_connection_serves_many_requests() {
    let (api, _scene, sidecar) = ending();
    for _ in 0..5 {
        welcome(&sidecar);
    }
    assert_eq!(api.connections(), 1);
}

/// Whoever cuts the line must not pass for the end of an answer (RFC 8446 §6.1).
#[test]
fn an_answer_that_comes_before_the_body_was_read_arrives_over_tls_too() {
    let api = RawUpstream::tls_in_a_hurry("HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 4\r\n\r\nless");
    let scene = https(&api).with("Sidecar:TrustedCertificates", ROOT);
    let sidecar = scene.start();
    let body = "x".repeat(3_000_000);
    for target in ["/ProxyUnauthenticated/App", APP] {
        let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut client = Client::connect(sidecar.address);
        client.send(head + &body);
        let answer = client.answer();
        assert!(answer.body.contains("less"), "{target}: {} {}", answer.status, answer.body);
    }
}

#[test]
fn a_tls_connection_that_is_cut_ends_no_answer() {
    let (_api, _scene, sidecar) = ending();
    call(&sidecar, "cut").expect(502);
    assert_eq!(call(&sidecar, "closed").expect(200).json()["content"], json!("whole"));
}

#[test]
fn a_second_answer_behind_the_first_answers_nobody() {
    let (_api, _scene, sidecar) = ending();
    assert_eq!(call(&sidecar, "two").expect(200).json()["content"], json!("good"));
    welcome(&sidecar);
}

#[test]
fn no_redirect_leads_from_https_to_http() {
    let (_api, _scene, sidecar) = ending();
    assert_eq!(call(&sidecar, "down").expect(200).json()["statusCode"], json!(302));
}

#[test]
fn few_connections_serve_many_requests_to_entra_and_the_api() {
    let api = RawUpstream::start(|_| ok("welcome"));
    let scene = scene(&format!("http://{}/", api.address));
    let sidecar = scene.start().with_keys();
    let accepted = scene.tenant.accepted_connections();
    for _ in 0..20 {
        sidecar.get(&format!("{APP}?optionsOverride.AcquireTokenOptions.ForceRefresh=true")).expect(200);
    }
    assert_eq!((scene.tenant.journal().count(Kind::Token), api.received().len(), api.connections()), (20, 20, 1));
    // The keys were fetched by a thread of its own, perhaps at the same time.
    assert!(scene.tenant.accepted_connections() <= accepted + 1);
    // A connection that was closed meanwhile is replaced, and nobody notices.
    scene.tenant.cut_connections();
    eventually("the tenant's connections end", || scene.tenant.open_connections() == 0);
    sidecar.get(&format!("{APP}?optionsOverride.AcquireTokenOptions.ForceRefresh=true")).expect(200);
}

/// A proxy that opens tunnels, all to one address, and keeps what it was asked.
struct Tunnels {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Tunnels {
    fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let journal = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let head = read_head(&client);
                journal.lock().unwrap().push(head);
                let server = TcpStream::connect(target).unwrap();
                (&client).write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").unwrap();
                for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<Vec<String>> {
        self.asked.lock().unwrap().clone()
    }
}

/// Byte by byte, since what follows is not ours.
fn read_head(stream: &TcpStream) -> Vec<String> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => return lines,
            text => lines.push(text.to_owned()),
        }
    }
}

#[test]
fn https_goes_through_the_proxys_tunnel() {
    let api = RawUpstream::tls(|_| ok("welcome"));
    let proxy = Tunnels::to(api.address);
    let url = format!("http://user:hunter%202@{}", proxy.address);
    let scene = scene("https://api.test/v1").with("Sidecar:TrustedCertificates", ROOT);
    let sidecar = scene.start_with(&[("HTTPS_PROXY", &url), ("HTTP_PROXY", "http://127.0.0.1:1")]);
    welcome(&sidecar);
    welcome(&sidecar);
    // One tunnel for both, and none to loopback, where the tenant is.
    let asked = proxy.asked();
    assert_eq!((asked.len(), api.connections()), (1, 1));
    assert_eq!(asked[0][0], "CONNECT api.test:443 HTTP/1.1");
    assert!(asked[0].iter().any(|line| line == "Host: api.test:443"), "{asked:?}");
    // `user:hunter 2`, which the API has no business to know.
    assert!(asked[0].iter().any(|line| line == "Proxy-Authorization: Basic dXNlcjpodW50ZXIgMg=="), "{asked:?}");
    assert_eq!((api.last().header("Host"), api.last().header("Proxy-Authorization")), (vec!["api.test"], vec![]));
    assert!(!sidecar.log().iter().any(|line| line.contains("hunter") || line.contains("dXNlcjp")));
    // The lower-case name first.
    welcome(&scene.start_with(&[("https_proxy", &url), ("HTTPS_PROXY", "http://127.0.0.1:1")]));
    // A certificate is the host's, not the proxy's.
    let scene = scene.with("DownstreamApis:App:BaseUrl", "https://third.test/");
    unreachable(&scene.start_with(&[("HTTPS_PROXY", &url)]), "https://third.test: TLS: ");
}

#[test]
fn http_goes_to_the_proxy_itself() {
    let proxy = RawUpstream::start(|_| ok("welcome"));
    let url = format!("http://user:hunter2@{}", proxy.address);
    let scene = scene("http://api.test:8080/v1?a=b").with("Sidecar:AllowInsecureUpstream", "true");
    let sidecar = scene.start_with(&[("HTTP_PROXY", &url)]);
    for _ in 0..3 {
        welcome(&sidecar);
    }
    // Larger than the client's buffer.
    let long = "x".repeat(8000);
    let headers = ["a", "b", "c"].map(|name| format!("&optionsOverride.CustomHeader.{name}={long}")).concat();
    super::support::Request::new("POST", &format!("{APP}?optionsOverride.RelativePath=me{headers}"))
        .body("a/b", "body")
        .send(sidecar.address)
        .expect(200);
    let received = proxy.received();
    assert_eq!(received[0].head[0], "GET http://api.test:8080/v1?a=b HTTP/1.1");
    assert_eq!(received[3].head[0], "POST http://api.test:8080/v1/me?a=b HTTP/1.1");
    assert_eq!((received[3].header("c"), received[3].body.as_slice()), (vec![long.as_str()], &b"body"[..]));
    for request in &received {
        assert_eq!(request.header("Host"), ["api.test:8080"]);
        assert_eq!(request.header("Proxy-Authorization"), ["Basic dXNlcjpodW50ZXIy"]);
    }
    assert_eq!((received.len(), proxy.connections()), (4, 1));
    assert!(!sidecar.log().iter().any(|line| line.contains("hunter2") || line.contains("dXNlcjp")));
}

#[test]
fn a_proxy_may_itself_be_reached_over_tls() {
    let proxy = RawUpstream::tls(|_| ok("welcome"));
    let url = format!("https://localhost:{}", proxy.address.port());
    let scene = scene("http://api.test/v1").with("Sidecar:AllowInsecureUpstream", "true");
    welcome(&scene.start_with(&[("HTTP_PROXY", &url), ("SSL_CERT_FILE", ROOT)]));
    assert_eq!(proxy.last().head[0], "GET http://api.test/v1 HTTP/1.1");
}

#[test]
fn exceptions_are_called_without_the_proxy() {
    let proxy = RawUpstream::start(|_| ok("welcome"));
    let url = format!("http://{}", proxy.address);
    // An address that nobody has (RFC 5737), or whose network cannot be reached at all.
    let scene = scene("http://192.0.2.1/v1")
        .with("Sidecar:AllowInsecureUpstream", "true")
        .with("Sidecar:Limits:ConnectTimeout", "0.2");
    for exceptions in ["192.0.2.1", "other.test,192.0.2.0/24", "*"] {
        let sidecar = scene.start_with(&[("HTTP_PROXY", &url), ("NO_PROXY", exceptions)]);
        let response = sidecar.get(APP);
        let deadline = response.body.contains("within 200ms (Sidecar:Limits:ConnectTimeout)");
        assert!(response.status == 502 || response.status == 504 && deadline, "{exceptions}: {}", response.body);
    }
    assert_eq!(proxy.connections(), 0);
    welcome(&scene.start_with(&[("HTTP_PROXY", &url), ("NO_PROXY", "192.0.2.2")]));
}

#[test]
fn a_proxy_that_refuses_or_is_not_there_is_named_as_the_cause() {
    let refusing = RawUpstream::start(|_| {
        Act::Close(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n".to_vec())
    });
    let scene = scene("https://api.test/?secret=1");
    let through = |url: &str| scene.start_with(&[("HTTPS_PROXY", url)]);
    unreachable(
        &through(&format!("http://user:hunter2@{}", refusing.address)),
        &format!("http://{} (the proxy): no tunnel: ", refusing.address),
    );
    let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    unreachable(&through(&format!("http://{gone}")), &format!("http://{gone} (the proxy): Connection refused"));
}

#[test]
fn an_api_may_have_an_address_of_either_family() {
    // Where the machine has no IPv6 there is nothing to prove.
    let Ok(listener) = TcpListener::bind(("::1", 0)) else { return };
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let host = read_head(&client).into_iter().find(|line| line.to_ascii_lowercase().starts_with("host: "));
            let body = host.unwrap_or_default();
            let answer =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            (&client).write_all(answer.as_bytes()).unwrap();
        }
    });
    // `localhost` has both; the one that does not answer is passed over.
    for host in ["[::1]", "localhost"] {
        let scene = scene(&format!("http://{host}:{port}/"));
        let sidecar = scene.start();
        let content = sidecar.get(APP).expect(200).json()["content"].as_str().unwrap().to_ascii_lowercase();
        assert_eq!(content, format!("host: {host}:{port}"));
    }
}
