//! Who may call, and the answers to requests that are refused before their token is read (docs/endpoints.md, SECURITY.md).

use super::support::{Client, Request, Scene, eventually};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";

#[test]
fn foreign_hosts_and_web_pages_are_refused_and_health_is_open() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for (name, value) in [
        ("Host", "evil.example"),
        ("Host", ".localhost"),
        ("Host", "..localhost"),
        ("Host", "sidecar"),
        ("Host", "10.0.0.1"),
        ("Origin", "http://localhost"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        for target in [APP, "/Validate", "/nowhere"] {
            Request::get(target).header(name, value).send(sidecar.address).expect(403);
        }
        for target in ["/healthz", "/health", "/metrics"] {
            Request::get(target).header(name, value).send(sidecar.address).expect(200);
        }
    }
    Request::get(APP).header("Sec-Fetch-Site", "none").send(sidecar.address).expect(200);
    let scene = scene.with("AllowedHosts", "sidecar;*.local");
    let sidecar = scene.start();
    Request::get(APP).header("Host", "SIDECAR:5000").send(sidecar.address).expect(200);
    Request::get(APP).header("Host", "a.local").send(sidecar.address).expect(200);
}

#[test]
fn the_callers_token_is_demanded_where_it_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "open sesame\n").unwrap();
    let scene = Scene::new().with("Sidecar:CallerTokenFile", path.to_str().unwrap());
    let sidecar = scene.start();
    sidecar.get(APP).expect(403);
    let with = |token: &str| Request::get(APP).header("X-Sidecar-Token", token).send(sidecar.address);
    with("wrong").expect(403);
    with("open sesame").expect(200);
    std::fs::write(&path, "another").unwrap();
    with("open sesame").expect(403);
    with("another").expect(200);
    sidecar.get("/healthz").expect(200);
    std::fs::write(&path, "\u{feff}with a mark\r\n").unwrap();
    with("with a mark").expect(200);
}

#[test]
fn without_a_usable_token_file_nobody_is_admitted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let scene = Scene::new().with("Sidecar:CallerTokenFile", path.to_str().unwrap());
    let sidecar = scene.start();
    let with = |token: &str| Request::get(APP).header("X-Sidecar-Token", token).send(sidecar.address);
    let logged = |what: &str| {
        let line =
            |line: &String| line.contains("ERROR") && line.contains("Sidecar:CallerTokenFile") && line.contains(what);
        eventually("its line", || sidecar.log().iter().any(line));
    };
    // At the start, before anybody has called.
    logged("No such file");
    with("").expect(403);
    std::fs::write(&path, "secret").unwrap();
    with("secret").expect(200);
    std::fs::write(&path, "\n").unwrap();
    with("secret").expect(403);
    with("").expect(403);
    logged("is empty");
    std::fs::write(&path, "secret").unwrap();
    with("secret").expect(200);
    std::fs::remove_file(&path).unwrap();
    with("secret").expect(403);
    std::fs::create_dir(&path).unwrap();
    with("secret").expect(403);
    logged("not a file");
    sidecar.get("/healthz").expect(200);
}

#[test]
fn callers_of_other_machines_may_use_addresses_and_short_names() {
    for scene in
        [Scene::new().with("Sidecar:AllowedCallers", "10.0.0.0/8"), Scene::new().with("environment", "Development")]
    {
        let sidecar = scene.start();
        for host in ["sidecar", "sidecar:5000", "10.0.0.1:5000", "[fd00::1]"] {
            Request::get(APP).header("Host", host).send(sidecar.address).expect(200);
        }
        for host in ["evil.example", "..localhost", "sidecar."] {
            Request::get(APP).header("Host", host).send(sidecar.address).expect(403);
        }
    }
}

#[test]
fn wider_callers_get_no_overrides_on_unauthenticated_endpoints() {
    let scene = Scene::new().with("Sidecar:AllowedCallers", "10.0.0.0/8");
    let sidecar = scene.start();
    for endpoint in ["AuthorizationHeaderUnauthenticated", "DownstreamApiUnauthenticated"] {
        sidecar.get(&format!("/{endpoint}/App")).expect(200);
        sidecar.get(&format!("/{endpoint}/App?optionsOverride.AcceptHeader=text/csv")).expect(403);
    }
}

#[test]
fn forbidden_overrides_are_refused_not_ignored() {
    let scene = Scene::new().with("Sidecar:AllowOverrides:GetAuthorizationHeaderUnauthenticated", "false");
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    for query in ["AgentIdentity=a", "optionsOverride.Scopes=a"] {
        let response = sidecar.get(&format!("{APP}?{query}")).expect(403);
        assert!(
            response.body.contains("Sidecar:AllowOverrides:GetAuthorizationHeaderUnauthenticated"),
            "{}",
            response.body
        );
    }
    sidecar.get("/DownstreamApiUnauthenticated/App?optionsOverride.AcceptHeader=text/csv").expect(200);
}

#[test]
fn ambiguous_framing_is_refused_once_and_the_connection_closed() {
    let scene = Scene::new();
    let sidecar = scene.start();
    for request in [
        "POST /DownstreamApiUnauthenticated/App HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\nHost: localhost\n\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nBad Name: x\r\n\r\n",
        "GET /Validate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    ] {
        let mut client = Client::connect(sidecar.address);
        let answer = client.send(request).answer();
        assert_eq!(answer.status, 400, "{request:?}: {}", answer.body);
        assert_eq!(answer.header("Content-Type"), Some("application/problem+json"));
        assert!(client.ends(), "{request:?}");
    }
}

#[test]
fn a_refusal_before_parsing_has_an_id_and_a_log_line() {
    let scene = Scene::new().with("Sidecar:Limits:RequestBodyBytes", "10");
    let sidecar = scene.start();
    let id = "11112222-3333-4444-5555-666677778888";
    let answer = Request::new("POST", "/DownstreamApiUnauthenticated/Down?secret=1")
        .header("x-ms-client-request-id", id)
        .body("text/plain", "eleven byte")
        .send(sidecar.address)
        .expect(413);
    assert!(answer.body.contains("longer than 10 bytes (Sidecar:Limits:RequestBodyBytes)"), "{}", answer.body);
    assert_eq!(answer.header("x-ms-client-request-id"), Some(id));
    let line =
        |line: &String| line.contains("POST /DownstreamApiUnauthenticated/{serviceName} 413") && line.contains(id);
    eventually("its line", || sidecar.log().iter().any(line));
    // Of a head that is none, not even the id is believed.
    let answer = Request::get("/healthz").header("Content-Length", "x").header("x-ms-client-request-id", id);
    let answer = answer.send(sidecar.address).expect(400);
    assert!(answer.header("x-ms-client-request-id").is_some_and(|own| own.len() == 36 && own != id));
}

#[test]
fn limits_of_head_body_and_token_have_their_statuses() {
    let scene = Scene::new().with("Sidecar:Limits:RequestBodyBytes", "1000").with("Sidecar:Limits:TokenBytes", "2000");
    let sidecar = scene.start().with_keys();
    let long = "a".repeat(33 * 1024);
    Request::get("/healthz").header("X-Long", &long).send(sidecar.address).expect(431);
    Request::get(&format!("/{long}")).send(sidecar.address).expect(414);
    let many = (0..101).fold(Request::get("/healthz"), |request, number| request.header(&format!("X-{number}"), "1"));
    many.send(sidecar.address).expect(431);
    let post = |size: usize| {
        Request::new("POST", "/DownstreamApiUnauthenticated/App")
            .body("text/plain", vec![b'a'; size])
            .send(sidecar.address)
    };
    post(1000).expect(200);
    post(1001).expect(413);
    sidecar.get_as(&"a".repeat(2001), "/Validate").expect(401);
}

#[test]
fn a_refusal_keeps_the_connection_if_the_whole_body_is_there() {
    let sidecar = Scene::new().start();
    let mut client = Client::connect(sidecar.address);
    let head = "POST /DownstreamApi/Down HTTP/1.1\r\nHost: localhost\r\n";
    for body in ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"] {
        let refused = client.send(format!("{head}{body}")).answer().expect(401);
        assert_eq!(refused.header("Connection"), None, "{body}");
    }
    client.get("/healthz").answer().expect(200);
    for body in [
        "Content-Length: 4\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "Transfer-Encoding: chunked\r\n\r\nx\r\n",
    ] {
        let mut client = Client::connect(sidecar.address);
        let refused = client.send(format!("{head}{body}")).answer().expect(401);
        assert_eq!(refused.header("Connection"), Some("close"), "{body}");
    }
}
