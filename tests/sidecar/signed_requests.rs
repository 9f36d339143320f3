//! Signed HTTP requests with the sidecar as the holder of the key
//! (draft-ietf-oauth-signed-http-request-03; docs/endpoints.md, "Signed requests").

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use local_tenant::directory::{AGENT_ID, APP_ID};
use local_tenant::jwt::Decoded;
use local_tenant::keys::{SigningKey, der_of_pem};
use local_tenant::message::percent_encode;
use local_tenant::{Kind, Record};
use serde_json::{Value, json};

use super::pop::{ACCOUNT, KID, REQ_CNF, bound, pem, with_key};
use super::support::{Request, Response, Scene, Sidecar, claims};
use super::wire::{acquire, last, requests};

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
}

#[test]
fn each_request_is_signed_anew_around_one_token() {
    let scene = signing();
    let sidecar = scene.start();
    let (first, second) = (signed_request(&sidecar.get(SIGNED)), signed_request(&sidecar.get(SIGNED)));
    assert_eq!(first.payload["at"], second.payload["at"], "one token");
    assert_ne!(first.payload["nonce"], second.payload["nonce"]);
    assert_eq!(requests(&scene.tenant).len(), 1);
}

#[test]
fn a_signed_request_has_seven_members() {
    let scene = signing();
    let first = signed_request(&scene.start().get(SIGNED));
    let members: Vec<_> = first.payload.keys().map(String::as_str).collect();
    assert_eq!(members.len(), 7, "{members:?}");
    for (name, value) in [("m", "GET"), ("p", "/api/pop/orders"), ("u", &scene.tenant.address().to_string())] {
        assert_eq!(first.text(name), Some(value));
    }
    assert!(first.payload["nonce"].as_str().unwrap().len() >= 22, "128 random bits");
}

/// What was asked for is bound to that key and says nothing else.
#[test]
fn the_token_within_is_bound_to_the_key_that_signs() {
    let scene = signing();
    let first = signed_request(&scene.start().get(SIGNED));
    let kid = first.header_text("kid").unwrap();
    assert_eq!(claims(first.text("at").unwrap())["cnf"], json!({"kid": kid}));
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
fn further_claims_are_signed() {
    let scene = signing();
    let sidecar = scene.start();
    for name in ["PopClaims", "PopClaim"] {
        let response = sidecar.get(&with(name, r#"{"nonce":"mine","order":[1,{"a":null}]}"#)).expect(200);
        let signed = signed_request(&response);
        assert_eq!((signed.text("nonce"), &signed.payload["order"]), (Some("mine"), &json!([1, {"a": null}])));
        let header = response.json()["authorizationHeader"].as_str().unwrap().to_owned();
        assert_eq!(present(&scene, &header, "GET", "/api/pop/orders").status, 200);
    }
}

fn with(name: &str, value: &str) -> String {
    format!("{SIGNED}?{}", acquire(name, value))
}

#[test]
fn no_claim_replaces_one_that_the_sidecar_signs() {
    let scene = signing();
    let sidecar = scene.start();
    for name in ["at", "ts", "m", "u", "p", "q", "h", "b", "cnf"] {
        sidecar.get(&with("PopClaims", &json!({ name: "x" }).to_string())).expect(400);
    }
    for claims in ["[]", "1", "null", "\"x\"", "{", "{}x", "x", r#"{"c\u006ef":1}"#, r#"{"nonce":1,"at":2}"#] {
        let body = sidecar.get(&with("PopClaims", claims)).expect(400).body;
        assert!(body.contains("PopClaims: expected a JSON object"), "{body}");
    }
    assert_eq!(requests(&scene.tenant).len(), 0);
}

/// They are the caller's to sign; still they are an object.
#[test]
fn claims_beside_a_callers_key_are_not_signed() {
    let scene = signing();
    let sidecar = scene.start();
    let both = |claims: &str| with_key(&with("PopClaims", claims), REQ_CNF);
    bound(&sidecar.get(&both(r#"{"at":"x","any":1}"#)), KID);
    sidecar.get(&both("[]")).expect(400);
}

#[test]
fn a_caller_may_ask_for_a_bearer_token_instead() {
    let scene = signing();
    let sidecar = scene.start();
    sidecar.get(&with("AuthenticationScheme", "Basic")).expect(400);
    let bearer = sidecar.get(&with("AuthenticationScheme", "bearer")).expect(200);
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

#[test]
fn what_one_sidecar_signs_another_accepts() {
    let scene = signing().with("DownstreamApis:Signed:Scopes", &format!("api://{APP_ID}/.default"));
    let sidecar = scene.start();
    let header = sidecar.get(SIGNED).expect(200).json()["authorizationHeader"].as_str().unwrap().to_owned();
    let other = scene.start().with_keys();
    let validate = |method: &str, path: &str| {
        Request::get("/Validate")
            .header("Authorization", &header)
            .header("original-method", method)
            .header("original-uri", &format!("{}{path}", scene.tenant.base_url()))
            .send(other.address)
    };
    let accepted = validate("GET", "/api/pop/orders").expect(200).json();
    assert_eq!((&accepted["protocol"], &accepted["claims"]["azp"]), (&json!("PoP"), &json!(APP_ID)));
    validate("POST", "/api/pop/orders").expect(401);
    validate("GET", "/api/pop/other").expect(401);
}
