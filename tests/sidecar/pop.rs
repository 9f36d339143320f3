//! Tokens bound to a key and signed HTTP requests: contract section 6, protocol page section 5.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use local_tenant::certificate::CLIENT_1;
use local_tenant::directory::{AGENT_ID, APP_ID, APP_SECRET, USER_IDENTITY_CLIENT_ID};
use local_tenant::jwt::Decoded;
use local_tenant::keys::{SigningKey, der_of_pem};
use local_tenant::message::percent_encode;
use local_tenant::{Kind, Record};
use serde_json::{Value, json};

use super::support::{Request, Response, Scene, Sidecar, claims};
use super::wire::{acquire, is_exactly, last, requests};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const DOWN: &str = "/AuthorizationHeader/Down";
const OPEN: &str = "/AuthorizationHeaderUnauthenticated/Down";
const ACCOUNT: &str = "agent-user@contoso.onmicrosoft.com";

// The key of RFC 7638 §3.1.
const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
const KID: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
const REQ_CNF: &str = "eyJraWQiOiJOemJMc1hoOHVEQ2NkLTZNTndYRjRXXzdub1dYRlpBZkhreFpzUkdDOVhzIn0";
const SPKI: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0vx7agoebGcQSuuPiLJX
ZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS
oc/BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ/2W+5JsGY4Hc5n9yBXArwl93lqt
7/RN5w6Cf0h4QyQ5v+65YGjQR0/FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0
zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt+bFTWhAI4vMQFh6WeZu0f
M4lFd2NcRwr3XPksINHaQ+G/xBniIqbw0Ls1jF44+csFCur+kEgU8awapJzKnqDK
gwIDAQAB";

fn pem(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn with_key(target: &str, key: &str) -> String {
    let separator = if target.contains('?') { '&' } else { '?' };
    format!("{target}{separator}{}", acquire("PopPublicKey", key))
}

/// The value of the header, which is bound to this key.
fn bound(response: &Response, kid: &str) -> String {
    assert_eq!(response.status, 200, "{}", response.body);
    let header = response.json()["authorizationHeader"].as_str().unwrap().to_owned();
    let token = header.strip_prefix("PoP ").unwrap_or_else(|| panic!("{header}"));
    assert_eq!(claims(token)["cnf"], json!({"kid": kid}));
    token.to_owned()
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
fn every_flow_asks_for_a_bound_token_on_its_last_leg_and_keeps_it_for_that_key() {
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

// From here on the sidecar holds the key.

const SIGNED: &str = "/AuthorizationHeaderUnauthenticated/Signed";

/// `Signed` is an API that wants signed requests and gets them.
fn signing() -> Scene {
    let scene = Scene::new();
    let base = format!("{}pop/", scene.settings["DownstreamApis:App:BaseUrl"]);
    scene
        .with("DownstreamApis:Signed:BaseUrl", &base)
        .with("DownstreamApis:Signed:RelativePath", "orders?$top=1")
        .with("DownstreamApis:Signed:Scopes", "api://downstream/.default")
        .with("DownstreamApis:Signed:RequestAppToken", "true")
        .with("DownstreamApis:Signed:AcquireTokenOptions:AuthenticationScheme", "PoP")
}

fn signed_request(response: &Response) -> Decoded {
    let header = response.json()["authorizationHeader"].as_str().unwrap().to_owned();
    Decoded::of(header.strip_prefix("PoP ").unwrap_or_else(|| panic!("{header}"))).unwrap()
}

/// What the API itself says to a request with this header.
fn present(scene: &Scene, authorization: &str, method: &str, target: &str) -> Response {
    Request::new(method, target)
        .header("Host", &scene.tenant.address().to_string())
        .header("Authorization", authorization)
        .send(scene.tenant.address())
}

#[test]
fn a_signed_request_is_good_for_its_method_host_and_path_alone() {
    let scene = signing();
    let sidecar = scene.start();
    let first = sidecar.get(SIGNED).expect(200);
    let header = first.json()["authorizationHeader"].as_str().unwrap().to_owned();
    for (method, path, status) in [
        ("GET", "/api/pop/orders?$top=1", 200),
        ("GET", "/api/pop/orders", 200),
        ("GET", "/api/pop/other", 401),
        ("POST", "/api/pop/orders", 401),
    ] {
        assert_eq!(present(&scene, &header, method, path).status, status, "{method} {path}");
    }
    let (first, second) = (signed_request(&first), signed_request(&sidecar.get(SIGNED)));
    assert_eq!(first.payload["at"], second.payload["at"], "one token");
    assert_ne!(first.payload["nonce"], second.payload["nonce"], "each request is signed anew");
    assert_eq!(requests(&scene.tenant).len(), 1);
    let members: Vec<_> = first.payload.keys().map(String::as_str).collect();
    assert_eq!(members.len(), 7, "{members:?}");
    for (name, value) in [("m", "GET"), ("p", "/api/pop/orders"), ("u", &scene.tenant.address().to_string())] {
        assert_eq!(first.text(name), Some(value));
    }
    assert!(first.payload["nonce"].as_str().unwrap().len() >= 22, "128 random bits");
    let kid = first.header_text("kid").unwrap();
    assert_eq!(claims(first.text("at").unwrap())["cnf"], json!({"kid": kid}));
    // What was asked for is bound to that key and says nothing else.
    let sent = last(&scene.tenant);
    let req_cnf = URL_SAFE_NO_PAD.encode(json!({"kid": kid}).to_string());
    assert_eq!((sent.field("token_type"), sent.field("req_cnf")), (Some("pop"), Some(req_cnf.as_str())));
}

#[test]
fn what_the_caller_overrides_is_what_is_signed() {
    let scene = signing();
    let api = scene.settings["DownstreamApis:App:BaseUrl"].clone();
    let scene = scene.with("DownstreamApis:Signed:HttpMethod", "POST");
    let sidecar = scene.start();
    let other_base = percent_encode(&format!("{api}pop/v2"));
    for (query, method, path) in [
        ("", "POST", "/api/pop/orders"),
        ("?optionsOverride.HttpMethod=patch", "PATCH", "/api/pop/orders"),
        ("?optionsOverride.RelativePath=a%20b/c", "POST", "/api/pop/a%20b/c"),
        ("?optionsOverride.RelativePath=x%3Fy%3Dz", "POST", "/api/pop/x"),
        (&format!("?optionsOverride.BaseUrl={other_base}"), "POST", "/api/pop/v2/orders"),
    ] {
        let response = sidecar.get(&format!("{SIGNED}{query}")).expect(200);
        let header = response.json()["authorizationHeader"].as_str().unwrap().to_owned();
        let signed = signed_request(&response);
        assert_eq!((signed.text("m"), signed.text("p")), (Some(method), Some(path)), "{query}");
        assert_eq!(present(&scene, &header, method, path).status, 200, "{query}");
        let target = format!("/DownstreamApiUnauthenticated/Signed{query}");
        assert_eq!(sidecar.get(&target).expect(200).json()["statusCode"], 200, "{query}");
        let received = scene.tenant.journal().of(Kind::Downstream).pop().unwrap().request;
        assert_eq!((received.method.as_str(), received.path.as_str()), (method, path));
        assert!(received.header("authorization").unwrap().starts_with("PoP "));
    }
}

#[test]
fn signed_requests_are_made_for_users_and_agents_as_well() {
    let scene = signing().with("DownstreamApis:Signed:RequestAppToken", "false");
    let sidecar = scene.start().with_keys();
    let alice = scene.user("alice");
    let user = "optionsOverride.Scopes=api://downstream/read";
    for (target, name) in [
        (format!("/DownstreamApi/Signed?{user}"), Some("alice")),
        (format!("/DownstreamApi/Signed?{user}&AgentIdentity={AGENT_ID}"), Some("alice")),
        (format!("/DownstreamApi/Signed?{user}&AgentIdentity={AGENT_ID}&AgentUsername={ACCOUNT}"), Some("agent-user")),
        (format!("/DownstreamApiUnauthenticated/Signed?AgentIdentity={AGENT_ID}"), None),
        (
            format!("/DownstreamApi/Signed?{user}&{}", acquire("LongRunningWebApiSessionKey", "hush-hush-s")),
            Some("alice"),
        ),
    ] {
        let result = sidecar.get_as(&alice, &target).expect(200).json();
        let echo: Value = serde_json::from_str(result["content"].as_str().unwrap()).unwrap();
        assert_eq!((&result["statusCode"], echo["token"]["name"].as_str()), (&json!(200), name), "{target}");
        assert!(echo["token"]["cnf"]["kid"].is_string());
    }
}

#[test]
fn the_key_is_that_of_the_file_and_its_tokens_are_bound_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/local-tenant/keys/");
    let file = |name: &str| std::fs::read_to_string(format!("{keys}{name}")).unwrap();
    let (rsa, ec) = (file("signing-1.pem"), file("signing-p256.pem"));
    // PKCS #8 wraps the older forms.
    let pkcs1 = pem("RSA PRIVATE KEY", &STANDARD.encode(&der_of_pem(&rsa)[26..]));
    let sec1 = pem("EC PRIVATE KEY", &STANDARD.encode(&der_of_pem(&ec)[29..]));
    for (content, algorithm, kid) in [
        (&rsa, "PS256", SigningKey::rsa("", &rsa).public().thumbprint()),
        (&pkcs1, "PS256", SigningKey::rsa("", &rsa).public().thumbprint()),
        (&ec, "ES256", SigningKey::p256("").public().thumbprint()),
        (&sec1, "ES256", SigningKey::p256("").public().thumbprint()),
    ] {
        let path = folder.path().join("key.pem");
        std::fs::write(&path, content).unwrap();
        let scene = signing().with("Sidecar:SignedHttpRequests:KeyFile", path.to_str().unwrap());
        let sidecar = scene.start();
        let signed = signed_request(&sidecar.get(SIGNED).expect(200));
        assert_eq!((signed.header_text("alg"), signed.header_text("kid")), (Some(algorithm), Some(kid.as_str())));
        let result = sidecar.get("/DownstreamApiUnauthenticated/Signed").expect(200).json();
        assert_eq!(result["statusCode"], 200, "{result}");
    }
    // Without a file the key lives as long as the process.
    let scene = signing();
    let kid = |sidecar: &Sidecar| signed_request(&sidecar.get(SIGNED).expect(200)).header["kid"].clone();
    assert_ne!(kid(&scene.start()), kid(&scene.start()));
}

#[test]
fn further_claims_are_signed_unless_they_are_the_sidecars_own() {
    let scene = signing();
    let sidecar = scene.start();
    let with = |name: &str, claims: &str| format!("{SIGNED}?{}", acquire(name, claims));
    for name in ["PopClaims", "PopClaim"] {
        let response = sidecar.get(&with(name, r#"{"nonce":"mine","order":[1,{"a":null}]}"#)).expect(200);
        let signed = signed_request(&response);
        assert_eq!((signed.text("nonce"), &signed.payload["order"]), (Some("mine"), &json!([1, {"a": null}])));
        let header = response.json()["authorizationHeader"].as_str().unwrap().to_owned();
        assert_eq!(present(&scene, &header, "GET", "/api/pop/orders").status, 200);
    }
    let before = requests(&scene.tenant).len();
    for name in ["at", "ts", "m", "u", "p", "q", "h", "b", "cnf"] {
        sidecar.get(&with("PopClaims", &json!({ name: "x" }).to_string())).expect(400);
    }
    for claims in ["[]", "1", "null", "\"x\"", "{", "{}x", "x", r#"{"c\u006ef":1}"#, r#"{"nonce":1,"at":2}"#] {
        let body = sidecar.get(&with("PopClaims", claims)).expect(400).body;
        assert!(body.contains("PopClaims: expected a JSON object"), "{body}");
    }
    assert_eq!(requests(&scene.tenant).len(), before);
    // Beside a key of the caller's they are the caller's to sign; still they are an object.
    let both = |claims: &str| with_key(&with("PopClaims", claims), REQ_CNF);
    bound(&sidecar.get(&both(r#"{"at":"x","any":1}"#)), KID);
    sidecar.get(&both("[]")).expect(400);
    sidecar.get(&format!("{SIGNED}?{}", acquire("AuthenticationScheme", "Basic"))).expect(400);
    let bearer = sidecar.get(&format!("{SIGNED}?{}", acquire("AuthenticationScheme", "bearer"))).expect(200);
    assert!(bearer.json()["authorizationHeader"].as_str().unwrap().starts_with("Bearer "));
}

#[test]
fn a_challenge_is_met_with_a_bound_token_and_a_new_signature() {
    let scene = signing();
    let sidecar = scene.start();
    let target = "/DownstreamApiUnauthenticated/Signed?optionsOverride.RelativePath=orders%3F_challenge%3D1700000000";
    assert_eq!(sidecar.get(target).expect(200).json()["statusCode"], 200);
    let sent: Vec<Record> = requests(&scene.tenant);
    assert_eq!(sent.len(), 2);
    assert!(sent[1].field("claims").unwrap().contains("1700000000") && sent[1].field("token_type") == Some("pop"));
}
