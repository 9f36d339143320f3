//! Redirects of an API: told by default, and where the operator allows it followed, the token staying at home.

use base64::Engine as _;
use local_tenant::Kind;
use local_tenant::message::percent_encode;
use serde_json::json;

use super::raw_upstream::{Act, RawUpstream, Received, ok};
use super::support::{Request, Scene, Sidecar};

const APP: &str = "/DownstreamApiUnauthenticated/App";

/// Answers `/<status>?<location>` with that redirect, and any other path with 200.
fn redirecting() -> RawUpstream {
    RawUpstream::start(|request| {
        let (path, location) = request.target().split_once('?').unwrap_or((request.target(), ""));
        match path.trim_start_matches('/').parse::<u16>() {
            Ok(status) if !location.is_empty() => {
                let location = local_tenant::message::percent_decode(location, false);
                Act::Keep(
                    format!("HTTP/1.1 {status} Go\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nthere")
                        .into_bytes(),
                )
            }
            _ => ok("arrived"),
        }
    })
}

fn scene(api: &RawUpstream, allowed: bool) -> (Scene, Sidecar) {
    let scene = Scene::new()
        .with("DownstreamApis:App:BaseUrl", &format!("http://{}/", api.address))
        .with("DownstreamApis:App:ExtraHeaderParameters:X-Key", "of-the-api")
        .with("Sidecar:AllowOutboundRedirects", &allowed.to_string());
    let sidecar = scene.start();
    (scene, sidecar)
}

fn call(sidecar: &Sidecar, method: &str, status: u16, location: &str) -> (u16, String) {
    let path = percent_encode(&format!("{status}?{}", percent_encode(location)));
    let target = format!("{APP}?optionsOverride.RelativePath={path}&optionsOverride.HttpMethod={method}");
    let result = Request::new("POST", &target).body("a/b", "body").send(sidecar.address).expect(200).json();
    let status = u16::try_from(result["statusCode"].as_u64().unwrap()).unwrap();
    (status, result["content"].as_str().unwrap_or_default().to_owned())
}

/// What a request shows: method, target, and which of token, own header, type and body it carries.
fn shown(request: &Received) -> String {
    let (method, _) = request.head[0].split_once(' ').unwrap();
    let names = ["authorization", "x-key", "content-type"].into_iter();
    let carried: Vec<_> = names.filter(|name| !request.header(name).is_empty()).collect();
    let body = if request.body.is_empty() { "" } else { " body" };
    format!("{method} {} {}{body}", request.target(), carried.join(","))
}

#[test]
fn by_default_a_redirect_is_the_answer() {
    let api = redirecting();
    let (_scene, sidecar) = scene(&api, false);
    for status in [301, 302, 303, 307, 308] {
        assert_eq!(call(&sidecar, "POST", status, "/x"), (status, "there".to_owned()));
    }
    assert_eq!(api.received().len(), 5);
}

#[test]
fn on_the_same_origin_the_request_goes_on_as_its_status_says() {
    const WHOLE: &str = "authorization,x-key,content-type body";
    const BARE: &str = "authorization,x-key";
    let api = redirecting();
    let (_scene, sidecar) = scene(&api, true);
    let own = format!("http://{}/x", api.address);
    for (method, status, location, then) in [
        ("GET", 301, "/x?y=1", format!("GET /x?y=1 {BARE}")),
        ("GET", 302, "x", format!("GET /x {BARE}")),
        ("GET", 302, "/a b/\u{e9}", format!("GET /a%20b/%C3%A9 {BARE}")),
        ("GET", 307, "./a/../x#f", format!("GET /x {BARE}")),
        ("GET", 308, own.as_str(), format!("GET /x {BARE}")),
        ("POST", 301, "/x", format!("GET /x {BARE}")),
        ("POST", 302, "/x", format!("GET /x {BARE}")),
        ("POST", 303, "/x", format!("GET /x {BARE}")),
        ("POST", 307, "/x", format!("POST /x {WHOLE}")),
        ("POST", 308, "/x", format!("POST /x {WHOLE}")),
        ("PUT", 301, "/x", format!("PUT /x {WHOLE}")),
        ("PUT", 303, "/x", format!("GET /x {BARE}")),
        ("PATCH", 308, "/x", format!("PATCH /x {WHOLE}")),
        ("DELETE", 307, "/x", format!("DELETE /x {WHOLE}")),
    ] {
        let before = api.received().len();
        assert_eq!(
            call(&sidecar, method, status, location),
            (200, "arrived".to_owned()),
            "{method} {status} {location}"
        );
        assert_eq!(api.received().len(), before + 2, "{method} {status} {location}");
        assert_eq!(shown(&api.last()), then, "{method} {status} {location}");
    }
    // No redirect (RFC 9110 §15.4), or no place to go to.
    for (status, location) in
        [(300, "/x"), (304, "/x"), (201, "/x"), (302, " "), (302, "ftp://x/"), (302, "http://u:p@x/")]
    {
        let before = api.received().len();
        assert_eq!(call(&sidecar, "GET", status, location).0, status, "{status} {location}");
        assert_eq!(api.received().len(), before + 1, "{status} {location}");
    }
}

#[test]
fn another_origin_sees_neither_token_nor_headers_nor_body() {
    let (api, other) = (redirecting(), redirecting());
    let (_scene, sidecar) = scene(&api, true);
    let foreign = format!("http://{}/x", other.address);
    for (method, status) in [("GET", 301), ("GET", 302), ("GET", 307), ("GET", 308), ("POST", 302), ("POST", 303)] {
        assert_eq!(call(&sidecar, method, status, &foreign), (200, "arrived".to_owned()), "{method} {status}");
        assert_eq!(shown(&other.last()), "GET /x ", "{method} {status}");
    }
    // `localhost` is another origin than `127.0.0.1`, and so is another port or scheme.
    let by_name = format!("http://localhost:{}/x", api.address.port());
    call(&sidecar, "GET", 302, &by_name);
    assert_eq!(shown(&api.last()), "GET /x ");
    // There and back again: the token does not come back.
    let back = format!("http://{}/302?http://{}/x", other.address, api.address);
    assert_eq!(call(&sidecar, "GET", 302, &back).0, 200);
    assert_eq!(shown(&api.last()), "GET /x ");
    // What writes is not sent to anybody else.
    let before = other.received().len();
    for (method, status) in [("POST", 307), ("POST", 308), ("PUT", 302), ("PATCH", 301), ("DELETE", 307)] {
        assert_eq!(call(&sidecar, method, status, &foreign).0, status, "{method} {status}");
    }
    assert_eq!(other.received().len(), before);
}

#[test]
fn a_redirect_does_not_lead_into_the_machine_or_its_networks() {
    let api = redirecting();
    let (_scene, sidecar) = scene(&api, true);
    let hidden = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let port = hidden.local_addr().unwrap().port();
    hidden.set_nonblocking(true).unwrap();
    for host in
        ["127.0.0.2", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.2]", "169.254.169.254", "100.64.0.1", "10.0.0.1"]
    {
        let location = format!("http://{host}:{port}/x");
        assert_eq!(call(&sidecar, "GET", 302, &location), (302, "there".to_owned()), "{host}");
    }
    assert_eq!(hidden.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn five_redirects_are_followed_and_the_sixth_is_told() {
    let api = RawUpstream::start(|request| {
        let number: usize = request.target().trim_start_matches('/').parse().unwrap();
        match number {
            0 => ok("arrived"),
            _ => Act::Keep(
                format!("HTTP/1.1 302 Go\r\nLocation: /{}\r\nContent-Length: 0\r\n\r\n", number - 1).into_bytes(),
            ),
        }
    });
    let (_scene, sidecar) = scene(&api, true);
    for (start, status, requests) in [(5, 200, 6), (6, 302, 6)] {
        let before = api.received().len();
        let result = sidecar.get(&format!("{APP}?optionsOverride.RelativePath={start}")).expect(200).json();
        assert_eq!((&result["statusCode"], api.received().len() - before), (&json!(status), requests), "{start}");
    }
}

/// Whoever is not the API has no say about tokens for it.
#[test]
fn a_challenge_of_another_origin_asks_for_no_token() {
    let claims = base64::engine::general_purpose::STANDARD.encode("{\"access_token\":{}}");
    let other = RawUpstream::start(move |_| {
        let challenge = format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\"");
        Act::Keep(format!("HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n").into_bytes())
    });
    let api = redirecting();
    let (scene, sidecar) = scene(&api, true);
    assert_eq!(call(&sidecar, "GET", 302, &format!("http://{}/x", other.address)).0, 401);
    assert_eq!((scene.tenant.journal().count(Kind::Token), other.received().len()), (1, 1));
}

#[test]
fn the_deadline_is_that_of_the_whole_call() {
    let api = RawUpstream::start(|request| match request.target() {
        "/start" => Act::Keep(b"HTTP/1.1 302 Go\r\nLocation: /end\r\nContent-Length: 0\r\n\r\n".to_vec()),
        _ => Act::Stall(Vec::new()),
    });
    let scene = scene(&api, true).0.with("Sidecar:Limits:DownstreamTimeout", "0.3");
    let sidecar = scene.start();
    let began = std::time::Instant::now();
    sidecar.get(&format!("{APP}?optionsOverride.RelativePath=start")).expect(504);
    assert!(began.elapsed() >= std::time::Duration::from_millis(300));
    assert_eq!(api.received().len(), 2);
}
