//! `/Validate`: docs/endpoints.md, and RFC 6750 §3 for the challenge.

use base64::Engine as _;
use local_tenant::{Action, Answer, Fault, Kind};

use super::support::{Request, Scene, eventually};

#[test]
fn a_good_token_is_answered_with_its_claims_unchanged() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let mint = scene.tenant.mint_user("alice").claim("zebra", 1).claim("apple", vec![1, 2]).claim("big", 1e20);
    let token = mint.token();
    let response = sidecar.get_as(&token, "/Validate").expect(200);
    let start = format!(r#"{{"protocol":"Bearer","token":"{token}","claims":{{"#);
    assert!(response.body.starts_with(&start), "{}", response.body);
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    assert!(response.body.ends_with(&format!(r#""claims":{payload}}}"#)), "{}", response.body);
    for (name, value) in [
        ("Content-Type", "application/json; charset=utf-8"),
        ("Cache-Control", "no-cache, no-store, must-revalidate"),
        ("Pragma", "no-cache"),
        ("Expires", "0"),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    assert!(response.header("Date").is_some() && response.header("Server").is_none());
}

#[test]
fn a_token_of_version_1_is_as_good() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    sidecar.get_as(&scene.tenant.mint_user("alice").version_1().token(), "/Validate").expect(200);
}

#[test]
fn no_token_is_400_and_another_scheme_is_challenged() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    sidecar.get("/Validate").problem(400, "No token found");
    for value in ["Basic dXNlcjpwdw==", "Bearer", "Bearer ", "bearer", "Digest x"] {
        let response = Request::get("/Validate").header("Authorization", value).send(sidecar.address).expect(401);
        assert_eq!(response.header("WWW-Authenticate"), Some("Bearer"), "{value:?}");
        assert!(response.json().get("detail").is_none());
    }
}

#[test]
fn each_failed_check_is_named_in_the_challenge_only() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let mint = || scene.tenant.mint_user("alice");
    let good = mint().token();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let cases = [
        (format!("{head}.{first}{}", &signature[1..]), "The signature is invalid"),
        (mint().audience("somebody-else").token(), "The audience 'somebody-else' is invalid"),
        (mint().claim("iss", "https://evil.example/").token(), "The issuer 'https://evil.example/' is invalid"),
        (mint().without("exp").token(), "The token has no expiration"),
        (mint().claim("nbf", 0).claim("exp", 951_782_400).token(), "The token expired at '02/29/2000 00:00:00'"),
        (
            mint().claim("nbf", 4_102_444_800_u64).claim("exp", 4_102_444_900_u64).token(),
            "The token is not valid before '01/01/2100 00:00:00'",
        ),
        (mint().header("kid", "nobody").token(), "The signature key was not found"),
        (mint().header("alg", "none").token(), "The signature algorithm is not allowed"),
    ];
    for (token, description) in cases {
        let response = sidecar.get_as(&token, "/Validate").expect(401);
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{description}\"");
        assert_eq!(response.header("WWW-Authenticate"), Some(challenge.as_str()));
        assert!(response.json().get("detail").is_none());
        assert!(!response.body.contains(&token));
    }
    sidecar.get_as("not.a.token", "/Validate").expect(401);
}

#[test]
fn a_missing_required_scope_is_403() {
    let scene = Scene::new().with("AzureAd:Scopes", "access_as_user files.read");
    let sidecar = scene.start().with_keys();
    let with = |scopes: &str| sidecar.get_as(&scene.tenant.mint_user("alice").scopes(scopes).token(), "/Validate");
    with("x files.read").expect(200);
    with("x").problem(403, "The scope 'access_as_user' or 'files.read' is required");
    let target = "/AuthorizationHeader/Down";
    let response = sidecar.get_as(&scene.tenant.mint_user("alice").scopes("x").token(), target);
    response.problem(403, "The scope 'access_as_user' or 'files.read' is required");
}

#[test]
fn a_new_key_is_accepted_at_the_first_token_that_it_signed() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let kid = scene.tenant.rotate_keys();
    let token = scene.tenant.mint_user("alice").signed_by(&kid).token();
    sidecar.get_as(&token, "/Validate").expect(200);
    let fetches = scene.tenant.journal().count(Kind::Jwks);
    for number in 0..5 {
        let token = scene.tenant.mint_user("alice").header("kid", format!("unknown-{number}")).token();
        sidecar.get_as(&token, "/Validate").expect(401);
    }
    assert_eq!(scene.tenant.journal().count(Kind::Jwks), fetches, "one fetch for unknown keys in 30 seconds");
}

#[test]
fn without_keys_it_is_503_until_they_come() {
    let scene = Scene::new();
    scene.tenant.fail(Fault::always(Kind::Metadata, Action::Answer(Box::new(Answer::status(500)))));
    let sidecar = scene.start();
    let token = scene.user("alice");
    for target in ["/Validate", "/ForwardAuth", "/AuthorizationHeader/Down", "/DownstreamApi/Down"] {
        let response = sidecar.get_as(&token, target).problem(503, "Signing keys are not available");
        assert!(response.header("Retry-After").is_some());
    }
    sidecar.get("/healthz").expect(200);
    scene.tenant.faults().clear();
    eventually("validation works", || sidecar.get_as(&token, "/Validate").status == 200);
}

#[test]
fn a_signed_request_is_judged_with_the_request_that_it_is_for() {
    let scene = Scene::new();
    let sidecar = scene.start().with_keys();
    let pop = |method: Option<&str>, uri: Option<&str>| {
        let request = Request::get("/Validate").header("Authorization", "PoP a.b.c");
        let request = method.map_or(Request::get("/Validate").header("Authorization", "PoP a.b.c"), |method| {
            request.header("original-method", method)
        });
        uri.into_iter().fold(request, |request, uri| request.header("original-uri", uri)).send(sidecar.address)
    };
    pop(None, None).problem(400, "The header original-method is required with a signed request");
    pop(Some("GET"), None).problem(400, "The header original-uri is required with a signed request");
    let response = pop(Some("GET"), Some("https://api.example/x")).expect(401);
    let challenges: Vec<_> = response
        .headers
        .iter()
        .filter(|(name, _)| name == "WWW-Authenticate")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(challenges, ["Bearer", "PoP error=\"invalid_token\""]);
}

#[cfg(feature = "jwe")]
#[test]
fn an_encrypted_token_is_decrypted_and_told_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decryption.pem");
    std::fs::write(&path, local_tenant::certificate::CLIENT_1.pem()).unwrap();
    let scene = Scene::new()
        .with("AzureAd:TokenDecryptionCredentials:0:SourceType", "Path")
        .with("AzureAd:TokenDecryptionCredentials:0:CertificateDiskPath", path.to_str().unwrap());
    let sidecar = scene.start().with_keys();
    let public = local_tenant::certificate::CLIENT_1.signing_key().public();
    for (alg, enc) in [("RSA-OAEP", "A256GCM"), ("RSA-OAEP-256", "A128CBC-HS256")] {
        let mint = scene.tenant.mint_user("alice");
        let sealed = mint.encrypted(&public, "any", alg, enc);
        let body = sidecar.get_as(&sealed, "/Validate").expect(200).json();
        assert_eq!((body["token"].as_str(), body["claims"]["name"].as_str()), (Some(sealed.as_str()), Some("alice")));
        sidecar.get_as(&sealed, "/AuthorizationHeader/Down").expect(200);
        let assertion = scene.tenant.journal().of(Kind::Token).pop().unwrap().field("assertion").unwrap().to_owned();
        assert_eq!(assertion.split('.').count(), 3, "on-behalf-of presents the inner token");
        let (start, end) = sealed.split_at(sealed.len() - 30);
        let other = if end.starts_with('A') { 'B' } else { 'A' };
        let damaged = format!("{start}{other}{}", &end[1..]);
        sidecar.get_as(&damaged, "/Validate").expect(401);
    }
}
