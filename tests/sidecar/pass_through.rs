//! What passes through to an API and back: every byte that is the caller's or the API's, and nothing that is not.

use local_tenant::Kind;
use local_tenant::directory::Condition;

use super::raw_upstream::{Act, ROOT, RawUpstream, Received, ok};
use super::support::{Client, Request, Response, Scene, Sidecar, claims};

const APP: &str = "/ProxyUnauthenticated/App";

fn scene(base: &str, settings: &[(&str, &str)]) -> Scene {
    let scene = Scene::new().with("DownstreamApis:App:BaseUrl", base).with("DownstreamApis:Down:BaseUrl", base);
    settings.iter().fold(scene, |scene, (key, value)| scene.with(key, value))
}

fn start(settings: &[(&str, &str)]) -> (RawUpstream, Scene, Sidecar) {
    let api = RawUpstream::start(|_| ok("{}"));
    let scene = scene(&format!("http://{}/v1", api.address), settings);
    let sidecar = scene.start();
    (api, scene, sidecar)
}

/// The head's lines but for host, token and id.
fn own(received: &Received) -> Vec<&str> {
    let given = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        ["Host", "Authorization", "x-ms-client-request-id"].iter().any(|own| name.eq_ignore_ascii_case(own))
    };
    received.head.iter().map(String::as_str).filter(|line| !given(line)).collect()
}

#[test]
fn a_request_passes_with_the_token_put_in() {
    let (api, scene, sidecar) = start(&[]);
    let sidecar = sidecar.with_keys();
    let target = "//a%2Fb;v=1/%252F%00'(x)?$select=id&x=%24+&x=&y=\\|";
    for route in ["/Proxy/Down", APP] {
        let request = Request::new("REPORT", &format!("{route}{target}"))
            .bearer(&scene.user("alice"))
            .header("Accept-Encoding", "gzip, br")
            .header("api-key", "dummy")
            .header("Cookie", "a=b")
            .header("X-Sidecar-Whatever", "1")
            .header("X-Forwarded-For", "1.2.3.4")
            .header("Via", "1.1 x")
            .header("X-Named", "1")
            .header("x-stainless-lang", "python")
            .body("a/b", "hello");
        let mut client = Client::connect(sidecar.address);
        let answer = request.header("Connection", "X-Named, x-ms-client-request-id").send_on(&mut client);
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
        let received = api.last();
        assert_eq!(
            own(&received),
            [
                "REPORT /v1//a%2Fb;v=1/%252F%00'(x)?$select=id&x=%24+&x=&y=\\| HTTP/1.1",
                "Accept-Encoding: gzip, br",
                "x-stainless-lang: python",
                "Content-Type: a/b",
                "Content-Length: 5"
            ]
        );
        assert_eq!(received.body, b"hello");
        assert_eq!(received.header("host"), [api.address.to_string()]);
        let token = received.header("authorization").concat();
        let claims = claims(token.strip_prefix("Bearer ").unwrap());
        assert_eq!(claims.get("idtyp").is_some(), route == APP, "{claims}");
        assert_eq!(received.header("x-ms-client-request-id"), answer.all("x-ms-client-request-id"));
    }
    sidecar.get_as("no token at all", "/ProxyUnauthenticated/App").expect(200);
    assert_eq!(own(&api.last()), ["GET /v1 HTTP/1.1"]);
}

#[test]
fn an_answer_passes_as_it_came() {
    let api = RawUpstream::start(|_| {
        Act::Keep(
            b"HTTP/1.1 207 Many Things\r\nserver: own\r\nSET-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: X-Gone\r\n\
              X-Gone: 1\r\nKeep-Alive: timeout=5\r\nX-Sidecar-Error: 1\r\nContent-Encoding: gzip\r\nETag: \"x\"\r\n\
              date: then\r\nx-ms-client-request-id: of-the-api\r\nContent-Length: 2\r\n\r\n\x1f\x08"
                .to_vec(),
        )
    });
    let scene = scene(&format!("http://{}", api.address), &[]);
    let sidecar = scene.start();
    let mut client = Client::connect(sidecar.address);
    for _ in 0..2 {
        let answer = Request::get(APP).send_on(&mut client);
        let shown: Vec<String> = answer.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            shown,
            [
                "server: own", "SET-Cookie: a=1", "Set-Cookie: b=2", "Content-Encoding: gzip", "ETag: \"x\"",
                "date: then", "x-ms-client-request-id: of-the-api", "Content-Length: 2"
            ]
        );
        assert_eq!((answer.status, answer.body.as_str()), (207, "\x1f\x08"));
    }
    client.get(APP);
    assert!(client.head().starts_with("HTTP/1.1 207 Many Things\r\n"));
    assert_eq!(api.connections(), 1);
}

#[test]
fn what_has_no_body_ends_with_its_head() {
    let api = RawUpstream::start(|request| {
        Act::Keep(match request.target() {
            "/204" => b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".to_vec(),
            "/206" => {
                b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab".to_vec()
            }
            _ => b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec(),
        })
    });
    let scene = scene(&format!("http://{}", api.address), &[]);
    let sidecar = scene.start();
    let mut client = Client::connect(sidecar.address);
    let mut answer = |method: &str, path: &str| {
        Request::new(method, &format!("{APP}{path}")).begin_on(&mut client);
        if method == "HEAD" {
            let hint = client.answer_to_head();
            assert_eq!((hint.status, hint.header("Link"), hint.headers.len()), (103, Some("</a>"), 1));
        }
        if method == "HEAD" || path == "/304" { client.answer_to_head() } else { client.answer() }
    };
    let head = answer("HEAD", "/x");
    assert_eq!((head.status, head.header("Content-Length")), (200, Some("9")));
    assert_eq!(answer("GET", "/204").header("Content-Length"), None);
    assert_eq!(answer("DELETE", "/304").header("Content-Length"), Some("9"));
    assert_eq!(answer("GET", "/206").header("Content-Range"), Some("bytes 0-1/9"));
    assert_eq!(api.connections(), 1, "each ended where it ends");
}

#[test]
fn links_of_the_api_lead_through_the_sidecar() {
    let address = std::sync::Arc::new(std::sync::OnceLock::new());
    let own = std::sync::Arc::clone(&address);
    let api = RawUpstream::start(move |_| {
        let base = format!("http://{}/v1/r", own.get().unwrap());
        Act::Keep(
            format!(
                "HTTP/1.1 302 Found\r\nLocation: {base}/next?x=1&p=1\r\nContent-Location: {base}\r\nOperation-Location: {base}2\r\n\
                 Azure-AsyncOperation: http://other.test/v1/r/x\r\nLink: {base}/x\r\nContent-Length: 0\r\n\r\n"
            )
            .into_bytes(),
        )
    });
    address.set(api.address).unwrap();
    let scene = scene(&format!("http://{}/v1/", api.address), &[("DownstreamApis:App:RelativePath", "r?p=1")]);
    let sidecar = scene.start();
    let answer = Request::get("/proxyunauthenticated/%41pp/a?q=2").header("Host", "localhost:81").send(sidecar.address);
    assert_eq!(own_target(&api), "/v1/r/a?p=1&q=2");
    let here = "http://localhost:81/proxyunauthenticated/%41pp";
    let base = format!("http://{}/v1/r", api.address);
    for (name, expected) in [
        ("Location", format!("{here}/next?x=1")),
        ("Content-Location", here.to_owned()),
        ("Operation-Location", format!("{base}2")),
        ("Azure-AsyncOperation", "http://other.test/v1/r/x".to_owned()),
        ("Link", format!("{base}/x")),
    ] {
        assert_eq!(answer.header(name), Some(expected.as_str()));
    }
    assert_eq!(answer.status, 302, "it is the caller's to follow");
}

fn own_target(api: &RawUpstream) -> String {
    api.last().target().to_owned()
}

#[test]
fn the_configuration_says_what_is_added_and_kept() {
    let (api, _scene, sidecar) = start(&[
        ("DownstreamApis:App:ExtraHeaderParameters:X-Own", "configured"),
        ("DownstreamApis:App:ExtraHeaderParameters:Ocp-Apim-Subscription-Key", "of-the-operator"),
        ("DownstreamApis:App:ExtraQueryParameters:e", "a b"),
        ("DownstreamApis:App:Proxy:KeepHeaders", "cookie X-API-KEY"),
        ("DownstreamApis:App:AcceptHeader", "text/csv"),
        ("DownstreamApis:App:HttpMethod", "PUT"),
    ]);
    let names = ["X-Own", "Ocp-Apim-Subscription-Key", "Cookie", "x-api-key", "api-key"];
    let request = names.iter().fold(Request::get(&format!("{APP}/x?q")), |request, name| request.header(name, "mine"));
    request.send(sidecar.address).expect(200);
    assert_eq!(
        own(&api.last()),
        [
            "GET /v1/x?q&e=a%20b HTTP/1.1",
            "Cookie: mine",
            "x-api-key: mine",
            "ocp-apim-subscription-key: of-the-operator",
            "x-own: configured"
        ]
    );
}

/// Refused by the sidecar, which says so: with the status, what is said, and whether an SDK may try again.
#[track_caller]
fn refused(answer: &Response, status: u16, detail: &str, retry: bool) {
    assert_eq!(answer.header("X-Sidecar-Error"), Some("1"));
    assert_eq!(answer.header("x-should-retry"), (!retry).then_some("false"));
    assert_eq!(answer.status, status, "{}", answer.body);
    let problem = answer.json();
    assert!(problem["detail"].as_str().unwrap_or_default().starts_with(detail), "{problem}");
}

#[test]
fn the_sidecars_own_refusals_are_told_from_the_apis() {
    let (api, scene, sidecar) = start(&[
        ("DownstreamApis:Off:BaseUrl", "http://localhost:1"),
        ("DownstreamApis:Off:Proxy:Enabled", "false"),
        ("DownstreamApis:Bare:Scopes", "a/.default"),
        ("DownstreamApis:Dead:BaseUrl", "http://127.0.0.1:1"),
        ("DownstreamApis:Dead:Scopes", "api://downstream/.default"),
    ]);
    let sidecar = sidecar.with_keys();
    let get = |target: &str| sidecar.get(target);
    refused(&get("/Proxy/Down/x"), 401, "", false);
    refused(&sidecar.get_as("x.y.z", "/Proxy/Down/x"), 401, "", false);
    refused(&get("/Proxy/"), 400, "Service name is required", false);
    refused(&get("/ProxyUnauthenticated/nobody/x"), 404, "Downstream API 'nobody' not configured", false);
    for name in ["off", "Bare"] {
        let shown = if name == "off" { "Off" } else { name };
        let detail = format!("Pass-through is off for the API '{shown}'");
        refused(&get(&format!("/ProxyUnauthenticated/{name}/x")), 404, &detail, false);
    }
    refused(&get("/ProxyUnauthenticated/Dead/x"), 502, "The downstream API 'Dead' cannot be reached", true);
    for path in ["/../x", "/a/%2e%2E/b", "/a%2f..", "/a/..%5cb", "/a\\b"] {
        refused(&get(&format!("{APP}{path}")), 400, "The path behind the service name: expected", false);
    }
    for method in ["TRACE", "CONNECT"] {
        let answer = Request::new(method, &format!("{APP}/x")).send(sidecar.address);
        assert!(answer.header("Allow").is_some_and(|allow| allow.contains("OPTIONS")));
        refused(&answer, 405, "", false);
    }
    let upgrade = |value: &str| Request::get(APP).header("Upgrade", value).send(sidecar.address);
    refused(&upgrade("h2c, WebSocket"), 501, "Upgrade is not supported", false);
    upgrade("h2c").expect(200);
    assert_eq!(own(&api.last()), ["GET /v1 HTTP/1.1"]);
    let mut client = Client::connect(sidecar.address);
    client.send(format!("GET {APP} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"));
    refused(&client.answer(), 400, "Host is repeated", false);
    let user = scene.user("alice");
    let options = |text: &str| Request::get("/Proxy/Down").bearer(&user).header("X-Sidecar-Options", text);
    let mut client = Client::connect(sidecar.address);
    client
        .send(format!("GET {APP} HTTP/1.1\r\nHost: localhost\r\nX-Sidecar-Options: a\r\nX-Sidecar-Options: b\r\n\r\n"));
    refused(&client.answer(), 400, "X-Sidecar-Options may be given once only", false);
    let unsaid = options("optionsOverride.BaseUrl=http://localhost:2").send(sidecar.address);
    refused(&unsaid, 400, "optionsOverride.BaseUrl: expected nothing in X-Sidecar-Options", false);
    let unknown = options("optionsOverride.Scope=x").send(sidecar.address);
    refused(&unknown, 400, "optionsOverride.Scope is unknown; did you mean optionsOverride.Scopes?", false);
    scene.tenant.directory(|directory| {
        directory.users.iter_mut().for_each(|user| user.condition = Condition::NeedsMfa);
    });
    refused(&options("").send(sidecar.address), 500, "MSAL.NetCore.interaction_required", false);
}

#[test]
fn options_come_in_a_header_and_the_query_is_the_apis() {
    let (api, scene, sidecar) = start(&[]);
    let sidecar = sidecar.with_keys();
    let request = |text: &str| {
        let request = Request::get("/Proxy/Down?optionsOverride.RequestAppToken=maybe&AgentIdentitx=1");
        request.bearer(&scene.user("alice")).header("X-Sidecar-Options", text).send(sidecar.address).expect(200);
        let token = api.last().header("authorization").concat();
        claims(token.strip_prefix("Bearer ").unwrap())
    };
    assert!(request("")["name"].is_string());
    let asked = "optionsOverride.RequestAppToken=true&optionsOverride.Scopes=api%3A%2F%2Fdownstream%2F.default";
    assert_eq!(request(asked)["idtyp"], "app");
    assert_eq!(own_target(&api), "/v1?optionsOverride.RequestAppToken=maybe&AgentIdentitx=1");
    // Bound to the request as it goes on.
    request("optionsOverride.AcquireTokenOptions.CorrelationId=7f2c1e36-0d6b-4f0e-9a39-0f3a5f6f1c11");
    assert_eq!(api.last().header("x-ms-client-request-id"), ["7f2c1e36-0d6b-4f0e-9a39-0f3a5f6f1c11"]);
    let pop = "optionsOverride.AcquireTokenOptions.AuthenticationScheme=PoP";
    Request::new("MERGE", &format!("{APP}/a%20b?c")).header("X-Sidecar-Options", pop).send(sidecar.address).expect(200);
    let signed = api.last().header("authorization").concat();
    let members = claims(signed.strip_prefix("PoP ").unwrap());
    assert_eq!((members["m"].as_str(), members["p"].as_str()), (Some("MERGE"), Some("/v1/a%20b")), "{members}");
}

#[test]
fn overrides_and_pass_through_can_be_switched_off() {
    let (_api, scene, sidecar) = start(&[
        ("Sidecar:AllowOverrides:CallDownstreamApi", "false"),
        ("Sidecar:AllowOverrides:CallDownstreamApiUnauthenticated", "false"),
    ]);
    let sidecar = sidecar.with_keys();
    for (target, setting) in [("/Proxy/Down", "CallDownstreamApi"), (APP, "CallDownstreamApiUnauthenticated")] {
        let request = Request::get(target).bearer(&scene.user("alice"));
        let asked = request.header("X-Sidecar-Options", "AgentIdentity=7f2c1e36-0d6b-4f0e-9a39-0f3a5f6f1c11");
        let detail =
            format!("Overrides and agent parameters are not allowed here: Sidecar:AllowOverrides:{setting} is false");
        refused(&asked.send(sidecar.address), 403, &detail, false);
    }
    let off = scene.with("Sidecar:Proxy", "false").start();
    for method in ["GET", "TRACE"] {
        let answer = Request::new(method, &format!("{APP}/x")).send(off.address).expect(404);
        assert_eq!(answer.header("X-Sidecar-Error"), None);
    }
}

#[test]
fn the_application_acts_where_it_may_and_no_token_comes() {
    let (api, _scene, sidecar) = start(&[
        ("Sidecar:AllowAppTokenWithoutUser", "true"),
        ("DownstreamApis:Down:Scopes", "api://downstream/.default"),
    ]);
    sidecar.get("/Proxy/Down").expect(200);
    assert_eq!(api.received().len(), 1);
    let sidecar = sidecar.with_keys();
    sidecar.get_as("x.y.z", "/Proxy/Down").expect(401);
}

#[test]
fn a_kept_header_is_one_of_a_few() {
    let scene = Scene::new().with("DownstreamApis:App:Proxy:KeepHeaders", "Cookie Via");
    let args = scene.settings.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]);
    let output = super::support::command().arg("check").args(args).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{told}");
    assert!(
        told.contains("DownstreamApis:App:Proxy:KeepHeaders") && told.contains("expected one of Cookie, api-key"),
        "{told}"
    );
}

/// An API that wants claims once for each path, or always.
fn challenging(forever: bool) -> (RawUpstream, Scene) {
    let asked = std::sync::Mutex::new(std::collections::HashSet::new());
    let api = RawUpstream::start(move |request| {
        if !asked.lock().unwrap().insert(request.target().to_owned()) && !forever {
            return ok("welcome");
        }
        let claims = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxIn19fQ==";
        Act::Keep(
            format!(
                "HTTP/1.1 401 Wanting\r\nWWW-Authenticate: Bearer error=\"insufficient_claims\", claims=\"{claims}\"\r\n\
                 Content-Length: 2\r\n\r\nno"
            )
            .into_bytes(),
        )
    });
    let scene = scene(&format!("http://{}", api.address), &[]);
    (api, scene)
}

#[test]
fn a_challenge_is_met_once_where_nothing_was_sent() {
    let (api, scene) = challenging(false);
    let sidecar = scene.start();
    assert_eq!(sidecar.get(&format!("{APP}/a")).expect(200).body, "welcome");
    assert_eq!(scene.tenant.journal().count(Kind::Token), 2);
    let tokens: Vec<String> = api.received().iter().map(|request| request.header("authorization").concat()).collect();
    assert_ne!(tokens[0], tokens[1]);
    let with_body = Request::new("POST", &format!("{APP}/b")).body("a/b", "x").send(sidecar.address);
    assert_eq!((with_body.status, with_body.body.as_str()), (401, "no"));
    assert_eq!(with_body.header("X-Sidecar-Error"), None);
    assert_eq!((scene.tenant.journal().count(Kind::Token), api.received().len()), (2, 3));
    let (api, scene) = challenging(true);
    let sidecar = scene.start();
    assert_eq!(sidecar.get(APP).expect(401).body, "no");
    assert_eq!(api.received().len(), 2, "once");
}

#[test]
fn where_entra_wants_interaction_the_apis_401_passes() {
    let (api, scene) = challenging(true);
    let sidecar = scene.start().with_keys();
    let token = scene.user("alice");
    sidecar.get_as(&token, "/AuthorizationHeader/Down").expect(200);
    scene.tenant.directory(|directory| {
        directory.users.iter_mut().for_each(|user| user.condition = Condition::NeedsMfa);
    });
    let answer = sidecar.get_as(&token, "/Proxy/Down");
    assert_eq!((answer.status, answer.body.as_str(), api.received().len()), (401, "no", 1));
    assert!(answer.header("WWW-Authenticate").is_some_and(|value| value.contains("insufficient_claims")));
}

#[test]
fn over_tls_a_body_passes_and_a_cut_breaks_it_off() {
    let long = "x".repeat(3_000_000);
    let body = long.clone();
    let api = RawUpstream::tls(move |request| match request.target() {
        "/cut" => Act::Cut(b"HTTP/1.1 200 OK\r\n\r\nhalf".to_vec()),
        "/close" => Act::Close(b"HTTP/1.1 200 OK\r\n\r\nwhole".to_vec()),
        _ => ok(&format!("{}{body}", request.body.len())),
    });
    let scene = scene(&format!("https://localhost:{}", api.address.port()), &[("Sidecar:TrustedCertificates", ROOT)]);
    let sidecar = scene.start();
    let mut client = Client::connect(sidecar.address);
    for _ in 0..2 {
        let answer = Request::new("PUT", APP).bytes(long.clone()).send_on(&mut client);
        assert_eq!(answer.body.len(), 3_000_007);
        assert!(answer.body.starts_with("3000000x"));
    }
    assert_eq!(api.connections(), 1);
    client.get(&format!("{APP}/close"));
    assert_eq!(client.answer().body, "whole");
    client.get(&format!("{APP}/cut"));
    assert!(client.head().contains("Transfer-Encoding: chunked"));
    assert_eq!(client.rest(), b"4\r\nhalf\r\n");
}

#[test]
fn what_passes_goes_through_a_proxy_too() {
    let proxy = RawUpstream::start(|request| {
        if request.target().ends_with("/407") {
            return Act::Keep(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n".to_vec());
        }
        ok("welcome")
    });
    let scene = scene("http://api.test:8080/v1", &[("Sidecar:AllowInsecureUpstream", "true")]);
    let sidecar = scene.start_with(&[("HTTP_PROXY", &format!("http://user:hunter2@{}", proxy.address))]);
    assert_eq!(sidecar.get(&format!("{APP}/x?y")).expect(200).body, "welcome");
    let asked = proxy.last();
    assert_eq!(asked.head[0], "GET http://api.test:8080/v1/x?y HTTP/1.1");
    assert_eq!(
        (asked.header("host"), asked.header("proxy-authorization")),
        (vec!["api.test:8080"], vec!["Basic dXNlcjpodW50ZXIy"])
    );
    refused(&sidecar.get(&format!("{APP}/407")), 502, "The downstream API 'App' cannot be reached", true);
}
