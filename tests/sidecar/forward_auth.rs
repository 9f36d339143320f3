//! `/ForwardAuth`, as reverse proxies ask it (docs/reverse-proxy.md).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use local_tenant::directory::{APP_ID, CALLER_ID, TENANT_ID};
use local_tenant::{Action, Answer, Fault, Kind};
use serde_json::json;

use super::support::{Client, Request, Response, Scene, claims, command};

const NAMES: [&str; 9] = ["Subject", "Object-Id", "Tenant", "Client", "Name", "User", "Scopes", "Roles", "Kind"];

/// The values of the default headers, each of which must be there once.
#[track_caller]
fn identity(response: &Response) -> [String; 9] {
    assert_eq!((response.status, response.body.as_str()), (200, ""));
    NAMES.map(|name| {
        let all = response.all(&format!("X-Auth-{name}"));
        assert_eq!(all.len(), 1, "{name}: {:?}", response.headers);
        all[0].to_owned()
    })
}

#[test]
fn a_good_token_is_200_with_who_the_user_is() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let token = scene.user("alice");
    let said = |name: &str| claims(&token)[name].as_str().unwrap().to_owned();
    let response = sidecar.get_as(&token, "/ForwardAuth");
    let [subject, object, tenant, client, name, user, scopes, roles, kind] = identity(&response);
    assert_eq!((subject, object, tenant, client), (said("sub"), said("oid"), TENANT_ID.into(), said("azp")));
    assert_eq!((name, user, scopes), (said("name").replace(' ', "%20"), said("preferred_username"), said("scp")));
    assert_eq!((roles.as_str(), kind.as_str()), ("", "user"));
    assert_eq!(response.header("Cache-Control"), Some("no-cache, no-store, must-revalidate"));
    assert_eq!(response.header("X-Auth-Claims"), None);
    let token = scene.tenant.mint_app(CALLER_ID).claim("roles", json!(["A.B", "c d"])).token();
    let [subject, _, _, client, name, user, scopes, roles, kind] = identity(&sidecar.get_as(&token, "/forwardauth"));
    assert_eq!((subject, client), (claims(&token)["sub"].as_str().unwrap().to_owned(), CALLER_ID.to_owned()));
    assert_eq!([&*name, &*user, &*scopes, &*roles, &*kind], ["", "", "", "A.B c%20d", "app"]);
}

#[test]
fn no_claim_leaves_its_header_or_makes_another() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let mint = scene.tenant.mint_user("alice").without("preferred_username").claim("upn", "ü@x");
    let mint = mint.claim("name", "Zoë 100%\r\nX-Auth-Kind: app").claim("scp", "a b%20c");
    let [.., name, user, scopes, _, kind] = identity(&sidecar.get_as(&mint.token(), "/ForwardAuth"));
    assert_eq!(name, "Zo%C3%AB%20100%25%0D%0AX-Auth-Kind:%20app");
    assert_eq!([&*user, &*scopes, &*kind], ["%C3%BC@x", "a b%2520c", "user"]);
    let v1 = scene.tenant.mint_user("alice").version_1().token();
    let [_, _, _, client, ..] = identity(&sidecar.get_as(&v1, "/ForwardAuth"));
    assert_eq!(claims(&v1)["appid"], client);
}

#[test]
fn method_body_path_and_origin_of_the_client_mean_nothing() {
    let scene = Scene::new().with("Sidecar:Limits:RequestBodyBytes", "10");
    let sidecar = scene.start().with_keys();
    let token = scene.user("alice");
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "TRACE"] {
        for target in ["/ForwardAuth", "/ForwardAuth/", "/ForwardAuth/a//b/%2e%2e/?scope=none&x=%zz", "/FORWARDAUTH/x"]
        {
            let request = Request::new(method, target).bearer(&token);
            let request = request.header("Origin", "https://app.example").header("Sec-Fetch-Site", "cross-site");
            request.send(sidecar.address).expect(200);
        }
    }
    // A body that never comes is not waited for, however long, and one that has come is ignored.
    for framing in
        ["Content-Length: 9000000000", "Transfer-Encoding: chunked", "Content-Length: 5\r\nExpect: 100-continue"]
    {
        let head = format!(
            "POST /ForwardAuth HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{framing}\r\n\r\n"
        );
        let mut client = Client::connect(sidecar.address);
        assert_eq!(client.send(head).answer().status, 200, "{framing}");
        assert!(client.ends(), "{framing}");
    }
    let mut client = Client::connect(sidecar.address);
    let whole = Request::new("POST", "/ForwardAuth").bearer(&token).bytes(vec![b'a'; 4000]);
    identity(&whole.send_on(&mut client));
    identity(&whole.send_on(&mut client));
}

#[test]
fn the_other_rules_for_callers_apply_to_proxies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "of the proxy").unwrap();
    let scene = Scene::new().with("Sidecar:CallerTokenFile", path.to_str().unwrap());
    let sidecar = scene.start().with_keys();
    let ask =
        |caller: &str| Request::get("/ForwardAuth").bearer(&scene.user("alice")).header("X-Sidecar-Token", caller);
    ask("of the proxy").send(sidecar.address).expect(200);
    ask("another").send(sidecar.address).expect(403);
    sidecar.get_as(&scene.user("alice"), "/ForwardAuth").expect(403);
    ask("of the proxy").header("Host", "app.example").send(sidecar.address).expect(403);
}

#[test]
fn what_is_no_good_token_is_refused_with_its_challenge() {
    let scene = Scene::new().with("AzureAd:Scopes", "read");
    let sidecar = scene.start().with_keys();
    let challenge = |response: Response| response.expect(401).header("WWW-Authenticate").unwrap().to_owned();
    assert_eq!(challenge(sidecar.get("/ForwardAuth")), "Bearer");
    for value in ["Basic eDp5", "PoP e30.e30.e30", "Bearer"] {
        let request = Request::new("PUT", "/ForwardAuth/x").header("Authorization", value);
        assert_eq!(challenge(request.send(sidecar.address)), "Bearer", "{value}");
    }
    let expired = scene.tenant.mint_user("alice").scopes("read").expires_in(-3600).token();
    let said = challenge(sidecar.get_as(&expired, "/ForwardAuth"));
    assert!(said.starts_with("Bearer error=\"invalid_token\", error_description=\"The token expired"), "{said}");
    let other = scene.tenant.mint_user("alice").scopes("write").token();
    sidecar.get_as(&other, "/ForwardAuth").problem(403, "The scope 'read' is required");
    // The application does not act without a token here, wherever else it may.
    let scene = Scene::new().with("Sidecar:AllowAppTokenWithoutUser", "true");
    scene.start().with_keys().get("/ForwardAuth").expect(401);
}

#[test]
fn without_keys_no_token_passes_forward_auth() {
    let scene = Scene::new();
    scene.tenant.fail(Fault::always(Kind::Jwks, Action::Answer(Box::new(Answer::status(500)))));
    let response = scene.start().get_as(&scene.user("alice"), "/ForwardAuth/x");
    assert_eq!(response.header("Retry-After"), Some("5"));
    assert_eq!(response.header("X-Auth-Kind"), None);
    response.problem(503, "Signing keys are not available");
}

#[test]
fn a_route_asks_for_scopes_roles_and_audiences() {
    let scene = Scene::new().with("AzureAd:Audiences", &format!("{APP_ID} api://other"));
    let sidecar = scene.start().with_keys();
    let user = scene.tenant.mint_user("alice").scopes("read write").claim("roles", json!(["Boss"])).token();
    for (query, status) in [
        ("", 200),
        ("scope=read", 200),
        ("SCOPE=none&Scope=write&", 200),
        ("scope=none", 403),
        ("scope=Read", 403),
        ("scope=read+write", 403),
        ("role=Boss&role=Other", 200),
        ("role=Other", 403),
        ("scope=read&role=Other", 403),
        ("scope=none&role=Boss", 403),
        ("audience=api://other", 401),
        (&format!("audience=api://other&audience={APP_ID}"), 200),
        ("audience=api://other&scope=none", 401),
        ("scope=", 400),
        ("scope", 400),
        ("scopes=read", 400),
        ("scope=%zz", 400),
        ("AgentIdentity=a", 400),
    ] {
        sidecar.get_as(&user, &format!("/ForwardAuth?{query}")).expect(status);
        let by_header =
            |target: &str| Request::get(target).bearer(&user).header("X-Sidecar-Options", query).send(sidecar.address);
        by_header("/ForwardAuth").expect(status);
        by_header("/ForwardAuth/x?scope=none").expect(status);
        // Neither of the two loosens the other.
        by_header("/ForwardAuth?scope=none").expect(if status == 400 || status == 401 { status } else { 403 });
    }
    let refused = |query: &str| sidecar.get_as(&user, &format!("/ForwardAuth?{query}"));
    refused("scope=a&scope=b").problem(403, "The scope 'a' or 'b' is required");
    refused("role=a&role=b").problem(403, "The role 'a' or 'b' is required");
    refused("x=1").problem(400, "x is unknown; did you mean scope, role or audience?");
    let said = refused("audience=api://other").expect(401);
    let expected = format!("Bearer error=\"invalid_token\", error_description=\"The audience '{APP_ID}' is invalid\"");
    assert_eq!(said.header("WWW-Authenticate"), Some(expected.as_str()));
    // Syntax is judged before the token.
    sidecar.get("/ForwardAuth?x=1").expect(400);
    let twice = Request::get("/ForwardAuth").bearer(&user).header("X-Sidecar-Options", "\r\nX-Sidecar-Options:");
    twice.send(sidecar.address).problem(400, "X-Sidecar-Options may be given once only");
}

#[test]
fn headers_follow_the_claims_that_are_configured() {
    let scene = Scene::new()
        .with("Sidecar:ForwardAuth:Headers:x-auth-user", "email")
        .with("Sidecar:ForwardAuth:Headers:X-Groups", "groups")
        .with("Sidecar:ForwardAuth:Headers:X-Forwarded-Email", "email")
        .with("Sidecar:ForwardAuth:Claims", "true");
    let sidecar = scene.start().with_keys();
    let mint = scene.tenant.mint_user("alice").claim("email", "a@b").claim("groups", json!(["one", "two words", 3]));
    let token = mint.token();
    let response = sidecar.get_as(&token, "/ForwardAuth");
    let [.., user, _, _, kind] = identity(&response);
    assert_eq!((user.as_str(), kind.as_str()), ("a@b", "user"));
    assert_eq!(response.all("X-Groups"), ["one two%20words 3"]);
    assert_eq!(response.all("X-Forwarded-Email"), ["a@b"]);
    let payload = URL_SAFE_NO_PAD.decode(response.header("X-Auth-Claims").unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&payload).unwrap(), claims(&token));
    let response = sidecar.get_as(&scene.user("alice"), "/ForwardAuth");
    assert_eq!((response.all("X-Groups"), response.all("X-Auth-User").len()), (vec![""], 1));
}

#[test]
fn a_header_that_frames_an_answer_stops_the_start() {
    let fixed = ["Date", "Host", "Server"];
    for name in
        ["Content-Length", "transfer-encoding", "Connection", "Proxy-Authenticate", "Te", "X Y"].iter().chain(&fixed)
    {
        let setting = format!("--set=Sidecar:ForwardAuth:Headers:{name}=sub");
        let output = command().args(["check", &setting]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("Sidecar:ForwardAuth:Headers:{name}: \"sub\": expected the name of")), "{said}");
    }
}

#[test]
fn the_forward_auth_door_can_be_closed() {
    let scene = Scene::new().with("Sidecar:ForwardAuth:Enabled", "false");
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&scene.user("alice"), "/ForwardAuth").expect(404);
    Request::new("POST", "/ForwardAuth/x").send(sidecar.address).expect(404);
}
