//! The page for developers.

use local_tenant::certificate::CLIENT_1;
use local_tenant::directory::{APP_ID, TENANT_ID};
use serde_json::Value;

use super::secrecy::{HUSH, leaked};
use super::support::{Request, Response, Scene, Sidecar, free_port};

fn development() -> Scene {
    Scene::new().with("environment", "Development")
}

/// What the page shows.
fn state(sidecar: &Sidecar) -> Response {
    Request::get("/").header("Accept", "application/json").send(sidecar.address).expect(200)
}

/// Each check of this token with its outcome.
fn judged(sidecar: &Sidecar, token: &str) -> Vec<(String, String)> {
    let answer = Request::get("/").header("Accept", "application/json").bearer(token).send(sidecar.address).expect(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let state = answer.json();
    let checks = state["checks"].as_array().unwrap();
    checks.iter().map(|check| (text(&check["check"]), text(&check["outcome"]))).collect()
}

#[test]
fn the_page_is_for_development_alone() {
    let production = Scene::new().start();
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        let answer = Request::new(method, "/").header("Accept", "application/json").send(production.address);
        assert_eq!(answer.status, 404, "{method}");
    }
    let sidecar = development().start();
    Request::new("POST", "/").send(sidecar.address).expect(405);
    Request::new("GET", "//").send(sidecar.address).expect(404);
    let page = sidecar.get("/").expect(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.body);
}

#[test]
fn nothing_runs_in_the_page_but_what_came_with_it() {
    let sidecar = development().start();
    let page = sidecar.get("/").expect(200);
    let policy = page.header("content-security-policy").unwrap();
    for rule in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'"] {
        assert!(policy.split("; ").any(|own| own == rule), "{rule}: {policy}");
    }
    for sources in ["style-src", "script-src"] {
        let own = policy.split("; ").find_map(|own| own.strip_prefix(sources)).unwrap();
        assert!(own.starts_with(" 'sha256-") && own.ends_with("='") && own.split(' ').count() == 2, "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("cross-origin-resource-policy"), Some("same-origin"));
    assert_eq!(page.header("cache-control"), Some("no-cache, no-store, must-revalidate"));
}

#[test]
fn the_page_is_of_no_use_to_another_origin() {
    let sidecar = development().start();
    for accept in ["text/html", "application/json"] {
        for (name, value) in [
            ("Origin", "https://web.page.example"),
            ("Origin", "null"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
            ("Host", "evil.example"),
        ] {
            Request::get("/").header("Accept", accept).header(name, value).send(sidecar.address).expect(403);
        }
        for site in ["none", "same-origin"] {
            let request = Request::get("/").header("Accept", accept).header("Sec-Fetch-Site", site);
            let answer = request.send(sidecar.address).expect(200);
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
}

#[test]
fn the_page_shows_what_is_configured_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (pem, token) = (folder.path().join("client.pem"), folder.path().join("token"));
    std::fs::write(&pem, CLIENT_1.pem()).unwrap();
    std::fs::write(&token, format!("{HUSH}caller")).unwrap();
    let scene = development();
    let base = format!("{}/", scene.tenant.base_url());
    let mut scene = scene
        .with("AzureAd:ClientCredentials:1:SourceType", "Path")
        .with("AzureAd:ClientCredentials:1:CertificateDiskPath", pem.to_str().unwrap())
        .with("AzureAd:ClientCredentials:2:SourceType", "Path")
        .with("AzureAd:ClientCredentials:2:CertificateDiskPath", "/nowhere.pfx")
        .with("AzureAd:ClientCredentials:2:CertificatePassword", &format!("{HUSH}password"))
        .with("AzureAd:TokenDecryptionCredentials:0:SourceType", "Path")
        .with("AzureAd:TokenDecryptionCredentials:0:CertificateDiskPath", pem.to_str().unwrap())
        .with("Other:Instance", &base)
        .with("Other:TenantId", TENANT_ID)
        .with("Other:ClientId", "1b0f9b6c-3c1e-4a52-8a7f-c1d2e3f40516")
        .with("Other:ClientSecret", &format!("{HUSH}secret"))
        .with("DownstreamApis:Down:Proxy:Enabled", "false")
        .with("Sidecar:CallerTokenFile", token.to_str().unwrap());
    for (key, value) in [
        ("Scopes", "api://downstream/.default"),
        ("RequestAppToken", "true"),
        ("AcquireTokenOptions:AuthenticationOptionsName", "Other"),
        ("AcquireTokenOptions:LongRunningWebApiSessionKey", &format!("{HUSH}session")),
        ("AcquireTokenOptions:ExtraHeadersParameters:X-Key", &format!("{HUSH}header")),
        ("AcquireTokenOptions:ExtraQueryParameters:key", &format!("{HUSH}query")),
    ] {
        scene = scene.with(&format!("DownstreamApis:Partner:{key}"), value);
    }
    let sidecar = scene.start();
    Request::get("/").header("Accept", "application/json").send(sidecar.address).expect(403);
    let mine = |target: &str| {
        let request = Request::get(target).header("X-Sidecar-Token", &format!("{HUSH}caller"));
        request.header("Accept", "application/json").send(sidecar.address)
    };
    mine("/AuthorizationHeaderUnauthenticated/App").expect(200);
    mine("/AuthorizationHeaderUnauthenticated/Partner").expect(500);
    let answer = mine("/").expect(200);
    assert_eq!(leaked(&answer.body), None, "{}", answer.body);
    let state = answer.json();
    assert_eq!(state["health"], "Healthy");
    let own = &state["registrations"][0];
    assert_eq!((&own["section"], &own["clientId"]), (&"AzureAd".into(), &APP_ID.into()));
    assert_eq!(own["authority"], format!("{base}{TENANT_ID}"));
    let told = |at: usize| (own["credentials"][at]["type"].clone(), own["credentials"][at]["usable"].clone());
    assert_eq!(told(0), ("ClientSecret".into(), true.into()));
    assert_eq!((told(1), told(2)), (("Path".into(), true.into()), ("Path".into(), false.into())));
    assert!(own["credentials"][1]["expires"].as_str().unwrap().ends_with('Z'));
    assert_eq!(state["registrations"][1]["section"], "Other");
    let apis: Vec<_> = state["apis"].as_array().unwrap().iter().map(|api| (&api["name"], &api["whose"])).collect();
    let expected = [("App", "the application"), ("Down", "the user"), ("Partner", "the application")];
    for (own, (name, whose)) in apis.into_iter().zip(expected) {
        assert_eq!(own, (&name.into(), &whose.into()));
    }
    assert_eq!(state["apis"][2]["registration"], "Other");
    let proxied = |at: usize| state["apis"][at]["proxy"].as_bool();
    assert_eq!((proxied(0), proxied(1), state["oauth"].as_bool()), (Some(true), Some(false), Some(true)));
}

#[test]
fn the_page_shows_the_last_requests_and_what_went_wrong() {
    let scene = development()
        .with("DownstreamApis:Gone:BaseUrl", &format!("http://127.0.0.1:{}/", free_port()))
        .with("DownstreamApis:Gone:Scopes", "api://downstream/.default")
        .with("DownstreamApis:Gone:RequestAppToken", "true");
    let sidecar = scene.start().with_keys();
    sidecar.get("/AuthorizationHeaderUnauthenticated/App").expect(200);
    sidecar.get("/AuthorizationHeaderUnauthenticated/Nobody?optionsOverride.Scopes=x").expect(404);
    sidecar.get_as(&scene.tenant.mint_user("alice").expires_in(-3600).token(), "/Validate").expect(401);
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    Request::get("/nothing").header("x-ms-client-request-id", id).send(sidecar.address).expect(404);
    sidecar.get("/ProxyUnauthenticated/App/x").expect(200);
    sidecar.get("/ProxyUnauthenticated/Gone/y").expect(502);
    // The page's own are left out.
    sidecar.get("/").expect(200);
    state(&sidecar);
    let state = state(&sidecar).json();
    let requests = state["requests"].as_array().unwrap();
    let seen: Vec<_> = requests.iter().map(|one| (one["route"].as_str().unwrap(), one["status"].clone())).collect();
    assert_eq!(
        seen,
        [
            ("/ProxyUnauthenticated/{serviceName}/{path}", 502.into()),
            ("/ProxyUnauthenticated/{serviceName}/{path}", 200.into()),
            ("unknown", 404.into()),
            ("/Validate", 401.into()),
            ("/AuthorizationHeaderUnauthenticated/{serviceName}", 404.into()),
            ("/AuthorizationHeaderUnauthenticated/{serviceName}", 200.into()),
        ]
    );
    assert_eq!((&requests[2]["id"], &requests[2]["method"]), (&id.into(), &"GET".into()));
    let problem = |at: usize| requests[at]["problem"].as_str().unwrap();
    assert_eq!((problem(1), problem(2), problem(5)), ("", "Not Found", ""));
    assert!(problem(0).starts_with("The downstream API 'Gone' cannot be reached"), "{}", problem(0));
    assert!(problem(3).starts_with("The token expired"), "{}", problem(3));
    assert_eq!(problem(4), "Downstream API 'Nobody' not configured");
    assert!(requests[5]["milliseconds"].as_f64().unwrap() > 0.0 && requests[5]["time"].as_str().unwrap().len() == 20);
}

#[test]
fn a_pasted_token_is_judged_check_by_check() {
    let scene = development();
    let sidecar = scene.start().with_keys();
    let good = judged(&sidecar, &scene.user("alice"));
    assert!(good.len() > 7 && good.iter().all(|(_, outcome)| outcome == "passed"), "{good:?}");
    let foreign = judged(&sidecar, &scene.tenant.mint_user("alice").claim("aud", "api://another").token());
    let outcome = |name: &str| &*foreign.iter().find(|(own, _)| own == name).unwrap().1;
    assert_eq!((outcome("issuer"), outcome("audience"), outcome("lifetime")), ("passed", "FAILED", "not reached"));
    let (check, outcome) = &judged(&sidecar, "nonsense")[1];
    assert_eq!((&**check, &**outcome), ("structure", "FAILED"));
    // The page without a token judges nothing.
    assert_eq!(state(&sidecar).json()["checks"].as_array().unwrap().len(), 0);
}
