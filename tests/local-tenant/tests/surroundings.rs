//! Metadata, keys, downstream API, faults, journal and control.

mod support;

use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local_tenant::client::{Client, PATIENCE};
use local_tenant::directory::{APP_ID, TENANT_DOMAIN, TENANT_ID};
use local_tenant::jwt::Decoded;
use local_tenant::keys::PublicKey;
use local_tenant::{Action, Answer, Fault, Kind, LocalTenant, Options};
use serde_json::{Value, json};
use support::{app_fields, call, exchange, get, token};

fn start() -> LocalTenant {
    LocalTenant::start(Options::default())
}

fn path_of(tenant: &LocalTenant, url: &Value) -> String {
    url.as_str().unwrap().strip_prefix(tenant.base_url()).unwrap().to_owned()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn metadata_names_the_issuer_of_each_kind_of_tenant() {
    let tenant = start();
    let base = tenant.base_url();
    for (path, issuer) in [
        (format!("{TENANT_ID}/v2.0"), format!("{base}/{TENANT_ID}/v2.0")),
        (format!("{TENANT_DOMAIN}/v2.0"), format!("{base}/{TENANT_ID}/v2.0")),
        ("common/v2.0".into(), format!("{base}/{{tenantid}}/v2.0")),
        ("organizations/v2.0".into(), format!("{base}/{{tenantid}}/v2.0")),
        ("consumers/v2.0".into(), format!("{base}/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0")),
        (TENANT_ID.into(), format!("https://sts.windows.net/{TENANT_ID}/")),
        ("common".into(), "https://sts.windows.net/{tenantid}/".into()),
        (format!("{TENANT_DOMAIN}/B2C_1_signin/v2.0"), format!("{base}/{TENANT_ID}/v2.0/")),
    ] {
        let document = get(&tenant, &format!("/{path}/.well-known/openid-configuration"), &[]).json();
        assert_eq!(document["issuer"], issuer, "{path}");
        let keys = get(&tenant, &path_of(&tenant, &document["jwks_uri"]), &[]).json();
        assert!(keys["keys"].as_array().unwrap().len() >= 4, "{path}");
    }
    assert_eq!(get(&tenant, "/nowhere/v2.0/.well-known/openid-configuration", &[]).code(), 90_002);
}

#[test]
fn a_published_key_verifies_tokens_across_a_rotation() {
    let tenant = start();
    let verifies = |token: &str| {
        let keys = get(&tenant, &format!("/{TENANT_ID}/discovery/v2.0/keys"), &[]).json();
        let decoded = Decoded::of(token).unwrap();
        let jwk = keys["keys"].as_array().unwrap().iter().find(|k| k["kid"] == decoded.header["kid"]).cloned();
        jwk.is_some_and(|jwk| decoded.signed_by(&PublicKey::from_jwk(&jwk).unwrap()))
    };
    let before = tenant.mint_user("alice").token();
    let kid = tenant.rotate_keys();
    let after = tenant.mint_user("alice").token();
    assert!(verifies(&before) && verifies(&after));
    assert_eq!(Decoded::of(&after).unwrap().header["kid"], kid.as_str());
    assert!(verifies(&tenant.mint_user("alice").signed_by("local-p256").token()));
    tenant.keys(|keys| keys.publish(&kid, false));
    assert!(!verifies(&after));
}

#[test]
fn the_downstream_api_echoes_what_it_received() {
    let tenant = start();
    let token = token(&tenant, &app_fields(&[])).json()["access_token"].as_str().unwrap().to_owned();
    let headers =
        [("Authorization", bearer(&token)), ("X-Custom", "yes".into()), ("Content-Type", "text/plain".into())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let echo = call(&tenant, "PATCH", "/api/items/1?a=1&b=x%20y", &headers, b"\xff body").json();
    assert_eq!(echo["method"], "PATCH");
    assert_eq!(echo["path"], "/api/items/1");
    assert_eq!(echo["query"], json!([["a", "1"], ["b", "x y"]]));
    assert!(echo["headers"].as_array().unwrap().contains(&json!(["X-Custom", "yes"])));
    assert_eq!(echo["bodyBase64"], STANDARD.encode(b"\xff body"));
    assert_eq!(echo["token"]["azp"], APP_ID);
}

#[test]
fn the_downstream_api_refuses_tokens_that_are_not_for_it() {
    let tenant = start();
    let mint = || tenant.mint_user("alice");
    for token in [
        mint().expires_in(-1).token(),
        mint().audience("api://unknown").token(),
        mint().claim("cnf", json!({"kid": "x"})).token(),
        mint().header("kid", "unknown").token(),
        "rubbish".into(),
    ] {
        let reply = get(&tenant, "/api/x", &[("Authorization", &bearer(&token))]);
        assert_eq!(reply.status, 401, "{}", reply.body);
        assert!(reply.header("WWW-Authenticate").unwrap().contains("invalid_token"));
    }
    assert_eq!(get(&tenant, "/api/x", &[]).status, 401);
    assert_eq!(get(&tenant, "/api/anonymous/x", &[]).status, 200);
}

#[test]
fn the_downstream_api_answers_as_it_is_told() {
    let tenant = start();
    let ask = |query: &str| get(&tenant, &format!("/api/anonymous?{query}"), &[]);
    assert_eq!(ask("_status=418").status, 418);
    let raw = |query: &str| {
        let head = format!("GET /api/anonymous?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        exchange(&tenant, head)
    };
    assert!(raw("_body=binary").ends_with(b"\r\n\r\n\x00\x01\x02\xfd\xfe\xff"));
    assert_eq!(ask("_body=size:100000").body.len(), 100_000);
    assert!(ask("_body=empty").body.is_empty());
    assert_eq!(ask("_header=X-One:1&_header=Set-Cookie:a%3Db").header("set-cookie"), Some("a=b"));
    let redirect = ask("_redirect=https%3A%2F%2Felsewhere.example%2F");
    assert_eq!((redirect.status, redirect.header("location")), (302, Some("https://elsewhere.example/")));
    assert!(raw("_body=text&_framing=chunked").ends_with(b"\r\n0\r\n\r\n"));
    assert_eq!(raw("_body=size:1000&_cut=300").len(), 300);
}

#[test]
fn a_token_with_the_claims_of_a_challenge_meets_it() {
    let tenant = start();
    let fetch = |changes: &[(&'static str, &str)]| {
        let changes: Vec<(&str, &str)> = changes.to_vec();
        let body = token(&tenant, &app_fields(&changes)).json();
        bearer(body["access_token"].as_str().unwrap())
    };
    let refused = get(&tenant, "/api/x?_challenge=1700000000", &[("Authorization", &fetch(&[]))]);
    assert_eq!(refused.status, 401);
    let challenge = refused.header("WWW-Authenticate").unwrap();
    assert!(challenge.contains("error=\"insufficient_claims\""));
    let claims = challenge.split("claims=\"").nth(1).unwrap().trim_end_matches('"').to_owned();
    let claims = String::from_utf8(STANDARD.decode(claims).unwrap()).unwrap();
    let token = fetch(&[("claims", &claims)]);
    assert_eq!(get(&tenant, "/api/x?_challenge=1700000000", &[("Authorization", &token)]).status, 200);
}

#[test]
fn faults_apply_as_often_as_asked_and_only_where_asked() {
    let tenant = start();
    let busy = Answer::text(503, "busy").header("Retry-After", "1");
    tenant.fail(Fault::times(Kind::Token, 2, Action::Answer(Box::new(busy))).with_field("client_id", APP_ID));
    let status = || token(&tenant, &app_fields(&[])).status;
    assert_eq!(get(&tenant, "/api/anonymous", &[]).status, 200);
    assert_eq!([status(), status(), status()], [503, 503, 200]);
    assert_eq!(tenant.journal().of(Kind::Token)[0].status, Some(503));
}

#[test]
fn a_connection_is_cut_where_it_is_asked_to_be() {
    let tenant = start();
    let send = |body_too: bool| {
        let body = "grant_type=client_credentials";
        let target = format!("/{TENANT_ID}/oauth2/v2.0/token");
        let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        exchange(&tenant, head + if body_too { body } else { "" }).len()
    };
    tenant.fail(Fault::once(Kind::Token, Action::CutBeforeBody));
    assert_eq!(send(false), 0);
    tenant.fail(Fault::once(Kind::Token, Action::CutBeforeAnswer));
    assert_eq!(send(true), 0);
    tenant.fail(Fault::once(Kind::Token, Action::Truncate(20)));
    assert_eq!(send(true), 20);
    assert_eq!(tenant.journal().count(Kind::Token), 3);
}

#[test]
fn held_requests_wait_until_they_are_released() {
    let tenant = start();
    tenant.fail(Fault::always(Kind::Token, Action::Hold));
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| token(&tenant, &app_fields(&[])).status)).collect();
        assert!(tenant.faults().wait_held(3, PATIENCE));
        tenant.faults().clear();
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap() == 200));
    });
}

#[test]
fn the_journal_knows_connections_and_fields() {
    let tenant = start();
    token(&tenant, &app_fields(&[]));
    token(&tenant, &app_fields(&[]));
    let records = tenant.journal().of(Kind::Token);
    assert_eq!(records[0].field("grant_type"), Some("client_credentials"));
    assert_ne!(records[0].request.connection, records[1].request.connection);
    assert_eq!(tenant.accepted_connections(), 2);
    let listed = get(&tenant, "/_control/journal?kind=token", &[]).json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    call(&tenant, "DELETE", "/_control/journal", &[], b"");
    assert!(tenant.journal().all().is_empty());
}

#[test]
fn control_mints_what_curl_asks_for() {
    let tenant = start();
    let mint = |query: &str| Decoded::of(&get(&tenant, &format!("/_control/mint?{query}"), &[]).body).unwrap();
    let user = mint("kind=user&user=bob&scp=a+b&claim.x=%5B1%5D&header.typ=at%2Bjwt&expires_in=-60");
    assert_eq!(user.payload["preferred_username"], "bob@contoso.onmicrosoft.com");
    assert_eq!((&user.payload["scp"], &user.payload["x"]), (&"a b".into(), &json!([1])));
    assert_eq!(user.header["typ"], "at+jwt");
    let old = mint("kind=app&version=1&alg=PS256");
    assert_eq!((&old.payload["ver"], &old.header["alg"]), (&"1.0".into(), &"PS256".into()));
    assert_eq!(get(&tenant, "/_control/mint?nonsense=1", &[]).status, 400);
    assert_eq!(call(&tenant, "POST", "/_control/faults?kind=token&status=429&retry_after=7", &[], b"").status, 204);
    let reply = token(&tenant, &app_fields(&[]));
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("7")));
    assert_eq!(call(&tenant, "POST", "/_control/settings?expires_in=60&refresh_in=30", &[], b"").status, 204);
    assert_eq!(token(&tenant, &app_fields(&[])).json()["refresh_in"], 30);
}

#[test]
fn a_thousand_connections_are_served_at_once() {
    let tenant = start();
    let mut clients: Vec<Client> = (0..1000).map(|_| Client::connect(tenant.address())).collect();
    for client in &mut clients {
        client.get("/api/anonymous?_body=empty");
    }
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(tenant.accepted_connections(), 1000);
}

#[test]
fn a_chunked_body_and_the_absolute_form_are_understood() {
    let tenant = start();
    let request = "POST http://api.example/api/anonymous HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
                   Connection: close\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
    let echo = Client::connect(tenant.address()).send(request).answer().json();
    assert_eq!(echo["body"], "abcde");
    assert!(echo["headers"].as_array().unwrap().contains(&json!(["Host", "api.example"])), "{echo}");
}
