//! Tokens bound to a key of the caller's (RFC 7800; RFC 7638 for the thumbprint).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use local_tenant::Kind;
use local_tenant::certificate::CLIENT_1;
use local_tenant::directory::{AGENT_ID, APP_ID, APP_SECRET, USER_IDENTITY_CLIENT_ID};
use local_tenant::keys::{SigningKey, der_of_pem};
use serde_json::json;

use super::support::{Response, Scene, claims, command};
use super::wire::{acquire, is_exactly, last, requests};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const DOWN: &str = "/AuthorizationHeader/Down";
const OPEN: &str = "/AuthorizationHeaderUnauthenticated/Down";
pub const ACCOUNT: &str = "agent-user@contoso.onmicrosoft.com";

// The key of RFC 7638 §3.1.
const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
pub const KID: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
pub const REQ_CNF: &str = "eyJraWQiOiJOemJMc1hoOHVEQ2NkLTZNTndYRjRXXzdub1dYRlpBZkhreFpzUkdDOVhzIn0";
const SPKI: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0vx7agoebGcQSuuPiLJX
ZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS
oc/BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ/2W+5JsGY4Hc5n9yBXArwl93lqt
7/RN5w6Cf0h4QyQ5v+65YGjQR0/FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0
zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt+bFTWhAI4vMQFh6WeZu0f
M4lFd2NcRwr3XPksINHaQ+G/xBniIqbw0Ls1jF44+csFCur+kEgU8awapJzKnqDK
gwIDAQAB";

pub fn pem(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

pub fn with_key(target: &str, key: &str) -> String {
    let separator = if target.contains('?') { '&' } else { '?' };
    format!("{target}{separator}{}", acquire("PopPublicKey", key))
}

/// The value of the header, which is bound to this key.
pub fn bound(response: &Response, kid: &str) -> String {
    assert_eq!(response.status, 200, "{}", response.body);
    let header = response.json()["authorizationHeader"].as_str().unwrap().to_owned();
    let token = header.strip_prefix("PoP ").unwrap_or_else(|| panic!("{header}"));
    assert_eq!(claims(token)["cnf"], json!({"kid": kid}));
    token.to_owned()
}

#[test]
fn check_online_asks_for_bound_tokens_where_an_api_has_them() {
    let scene = Scene::new()
        .with("DownstreamApis:App:AcquireTokenOptions:PopPublicKey", REQ_CNF)
        .with("DownstreamApis:Own:Scopes", "api://downstream/.default")
        .with("DownstreamApis:Own:RequestAppToken", "true")
        .with("DownstreamApis:Own:ProtocolScheme", "PoP");
    let mut command = command();
    command.args(["check", "--online"]);
    for (key, value) in &scene.settings {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let requests = requests(&scene.tenant);
    let bound: Vec<_> =
        requests.iter().map(|request| (request.field("token_type"), request.field("req_cnf"))).collect();
    assert_eq!(bound.len(), 2);
    assert_eq!(bound[0], (Some("pop"), Some(REQ_CNF)));
    assert!(bound[1].0 == Some("pop") && bound[1].1.is_some_and(|own| own != REQ_CNF), "{bound:?}");
}

#[test]
fn one_key_in_every_form_is_one_token() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let der = STANDARD.decode(SPKI.replace('\n', "")).unwrap();
    let jwk = json!({"kty": "RSA", "n": N, "e": "AQAB", "alg": "PS256", "use": "sig", "kid": "mine"}).to_string();
    let spki = pem("PUBLIC KEY", SPKI);
    let pkcs1 = pem("RSA PUBLIC KEY", &STANDARD.encode(&der[24..]));
    let forms = [
        REQ_CNF.to_owned(),
        json!({"kid": KID}).to_string(),
        format!(" {}\n", json!({"kid": KID})),
        jwk.clone(),
        STANDARD.encode(&jwk),
        URL_SAFE_NO_PAD.encode(&jwk),
        spki.clone(),
        spki.replace('\n', "\r\n"),
        STANDARD.encode(&spki),
        URL_SAFE_NO_PAD.encode(&spki),
        pkcs1.clone(),
        STANDARD.encode(&pkcs1),
        STANDARD.encode(&der),
        URL_SAFE_NO_PAD.encode(&der),
        STANDARD.encode(&der[24..]),
    ];
    let tokens = forms.map(|form| bound(&sidecar.get(&with_key(APP, &form)), KID));
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    // As a careless client writes it: each `+` becomes a blank on the way.
    let careless = STANDARD.encode(&der);
    assert!(careless.contains('+'));
    let careless = format!("{APP}?optionsOverride.AcquireTokenOptions.PopPublicKey={careless}");
    assert_eq!(bound(&sidecar.get(&careless), KID), tokens[0]);
    assert_eq!(requests(&scene.tenant).len(), 1);

    for (form, key) in [
        (CLIENT_1.certificate_pem.to_owned(), CLIENT_1.certificate().key),
        (STANDARD.encode(CLIENT_1.certificate_pem), CLIENT_1.certificate().key),
        (SigningKey::p256("").public().jwk().to_string(), SigningKey::p256("").public()),
        (SigningKey::p384("").public().jwk().to_string(), SigningKey::p384("").public()),
    ] {
        bound(&sidecar.get(&with_key(APP, &form)), &key.thumbprint());
    }
    assert_eq!(requests(&scene.tenant).len(), 4, "each key has its token");
}

#[test]
fn every_flow_binds_the_token_of_its_last_request() {
    let session = acquire("LongRunningWebApiSessionKey", "hush-hush-s1");
    for (target, legs) in [
        (APP.to_owned(), 1),
        (DOWN.to_owned(), 1),
        (format!("{DOWN}?{session}"), 1),
        (format!("{APP}?AgentIdentity={AGENT_ID}"), 2),
        (format!("{DOWN}?AgentIdentity={AGENT_ID}"), 2),
        (format!("{OPEN}?AgentIdentity={AGENT_ID}&AgentUsername={ACCOUNT}"), 3),
    ] {
        let scene = Scene::new();
        let sidecar = scene.start().with_keys();
        let alice = scene.user("alice");
        let ask = |target: &str| sidecar.get_as(&alice, target);
        let plain = ask(&target).token();
        let before = requests(&scene.tenant);
        assert_eq!(before.len(), legs, "{target}");
        let token = bound(&ask(&with_key(&target, REQ_CNF)), KID);
        assert_eq!(bound(&ask(&with_key(&target, REQ_CNF)), KID), token);
        assert_eq!(ask(&target).token(), plain, "the unbound token stays apart");
        let sent = requests(&scene.tenant);
        // The exchange tokens of agents are nobody's business but ours: they are not bound, and there already.
        assert_eq!(sent.len(), legs + 1, "{target}");
        assert!(before.iter().all(|sent| sent.field("req_cnf").is_none() && sent.field("token_type").is_none()));
        let (plain, pop) = (&sent[legs - 1], &sent[legs]);
        let mut expected = plain.form.clone();
        expected.extend([("token_type".to_owned(), "pop".to_owned()), ("req_cnf".to_owned(), REQ_CNF.to_owned())]);
        let sorted = |mut form: Vec<(String, String)>| {
            form.sort();
            form
        };
        assert_eq!(sorted(pop.form.clone()), sorted(expected), "{target}");
        let p256 = SigningKey::p256("").public();
        bound(&ask(&with_key(&target, &p256.jwk().to_string())), &p256.thumbprint());
        assert_eq!(requests(&scene.tenant).len(), legs + 2, "{target}");
    }
}

#[test]
fn a_renewal_of_a_session_is_bound_to_the_key_too() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let session = acquire("LongRunningWebApiSessionKey", "hush-hush-s1");
    sidecar.get_as(&scene.user("alice"), &format!("{DOWN}?{session}")).expect(200);
    bound(&sidecar.get(&with_key(&format!("{OPEN}?{session}"), REQ_CNF)), KID);
    let sent = last(&scene.tenant);
    assert_eq!(sent.field("grant_type"), Some("refresh_token"));
    assert_eq!((sent.field("token_type"), sent.field("req_cnf")), (Some("pop"), Some(REQ_CNF)));
}

#[test]
fn a_bearer_token_in_place_of_a_bound_one_is_never_passed_on() {
    let scene = Scene::new().with("DownstreamApis:Machine:Scopes", "api://downstream/.default").with(
        "DownstreamApis:Machine:AcquireTokenOptions:ManagedIdentity:UserAssignedClientId",
        USER_IDENTITY_CLIENT_ID,
    );
    scene.tenant.settings(|settings| settings.ignores_pop = true);
    let sidecar = scene.start_with(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", scene.tenant.base_url())]).with_keys();
    let alice = scene.user("alice");
    let scheme = acquire("AuthenticationScheme", "PoP");
    let machine = "/AuthorizationHeaderUnauthenticated/Machine";
    for target in [
        with_key(APP, REQ_CNF),
        with_key(DOWN, REQ_CNF),
        with_key(&format!("{DOWN}?AgentIdentity={AGENT_ID}"), REQ_CNF),
        format!("{APP}?{scheme}"),
        format!("/DownstreamApiUnauthenticated/App?{scheme}"),
        // The machine's identity endpoint knows no other than bearer tokens.
        with_key(machine, REQ_CNF),
        format!("{machine}?{scheme}"),
    ] {
        for _ in 0..2 {
            let response = sidecar.get_as(&alice, &target).expect(500);
            assert_eq!(response.json()["extensions"]["errorCode"], "token_type_mismatch", "{target}");
            assert!(!response.body.contains("eyJ"), "{}", response.body);
        }
    }
    assert_eq!(scene.tenant.journal().count(Kind::Downstream), 0);
    sidecar.get(APP).expect(200);
    sidecar.get(machine).expect(200);
}

#[test]
fn what_is_no_public_key_is_refused_before_anybody_is_asked() {
    let scene = Scene::new();
    let sidecar = scene.start();
    let weak = json!({"kty": "RSA", "n": &N[..340], "e": "AQAB"}).to_string();
    let private = json!({"kty": "RSA", "n": N, "e": "AQAB", "d": "AQAB"}).to_string();
    for key in [
        "x",
        "{}",
        "{\"kid\":1}",
        "-----BEGIN PUBLIC KEY-----",
        "AAAA",
        r#"{"kty":"oct","k":"c2VjcmV0"}"#,
        r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#,
        &STANDARD.encode("{\"kid\":\"\"}"),
        &weak,
        &private,
        CLIENT_1.key_pem,
        &STANDARD.encode(CLIENT_1.key_pem),
        &STANDARD.encode(der_of_pem(CLIENT_1.key_pem)),
        &"A".repeat(17_000),
    ] {
        for target in [APP, OPEN, "/DownstreamApiUnauthenticated/App"] {
            let body = sidecar.get(&with_key(target, key)).expect(400).body;
            assert!(body.contains("AcquireTokenOptions.PopPublicKey: expected "), "{key}: {body}");
            assert!(key.len() < 4 || !body.contains(key), "{body}");
        }
    }
    assert_eq!(requests(&scene.tenant).len(), 0);
}

#[test]
fn a_configured_key_binds_every_token_of_its_api() {
    let scene = Scene::new().with("DownstreamApis:App:AcquireTokenOptions:PopPublicKey", REQ_CNF);
    let sidecar = scene.start();
    bound(&sidecar.get(APP), KID);
    let p256 = SigningKey::p256("").public();
    bound(&sidecar.get(&with_key(APP, &p256.jwk().to_string())), &p256.thumbprint());
    let fields = |req_cnf| {
        [
            ("client_id", APP_ID),
            ("client_secret", APP_SECRET),
            ("scope", "api://downstream/.default"),
            ("grant_type", "client_credentials"),
            ("client_info", "2"),
            ("token_type", "pop"),
            ("req_cnf", req_cnf),
        ]
    };
    let sent = requests(&scene.tenant);
    is_exactly(&sent[0], &fields(REQ_CNF), &[]);
    is_exactly(&sent[1], &fields(&URL_SAFE_NO_PAD.encode(json!({"kid": p256.thumbprint()}).to_string())), &[]);
}
