//! Inbound tokens.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_sidecar::internal::config::PopValidation;
use entra_sidecar::internal::jwks::{KeySet, V1, accepted_issuers};
use entra_sidecar::internal::jwt::{OriginalRequest, SignedRequests};
use entra_sidecar::internal::jwt::{Policy, Rejection, Validator, compact, verify};
use entra_sidecar::internal::value::Key;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::Value;

const NOW: u64 = 1_700_000_000;
/// Seconds.
const SKEW: u64 = 300;
const CLIENT: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const HEADER: &str = r#"{"alg":"ES256","kid":"k"}"#;

static KEY: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    let pkcs8 = include_bytes!("../../tests/data/keys/p256.pk8");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new()).unwrap()
});
static JWK: LazyLock<String> = LazyLock::new(|| {
    let (x, y) = KEY.public_key().as_ref()[1..].split_at(32);
    format!(r#"{{"kid":"k","kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, b64(x), b64(y))
});
static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let issuer = "https://login.microsoftonline.com/{tenantid}/v2.0";
    KeySet::new(vec![Key::from_jwk(&JWK).unwrap()], issuer, accepted_issuers(issuer, V1::Unknown))
});

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(header: &str, payload: &[u8]) -> String {
    let input = format!("{}.{}", b64(header), b64(payload));
    let signature = KEY.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
    format!("{input}.{}", b64(signature))
}

fn policy() -> Policy {
    Policy {
        audiences: vec![CLIENT.into()],
        issuers: Vec::new(),
        skew: SKEW,
        required_scopes: Vec::new(),
        allow_acl: true,
        validate_issuer: true,
        require_expiration: true,
        role_claim: "roles".into(),
        allowed_tenants: Vec::new(),
        reject_bound_as_bearer: false,
        max_bytes: 64 * 1024,
    }
}

/// The description goes into a quoted string of a header.
fn is_harmless(rejection: &Rejection) {
    let text = rejection.description();
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'), "{text:?}");
}

/// Whatever arrives is refused, since none of it is signed; as a header, it is read as another reader would.
pub fn compact_jwt(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        match Validator::new(policy(), 1).validate(text, &KEYS, NOW) {
            Ok(_) => panic!("accepted without a signature"),
            Err(rejection) => is_harmless(&rejection),
        }
    }
    let token = format!("{}.e30.AA", b64(data));
    if let Ok(jws) = compact::parse(&token) {
        let header: Value = serde_json::from_slice(data).unwrap();
        assert_eq!(header["alg"].as_str().map(str::to_lowercase), Some(format!("{:?}", jws.algorithm).to_lowercase()));
        assert_eq!(header.get("kid").and_then(Value::as_str), jws.kid.as_deref());
        assert!(header.get("crit").is_none() && header.get("b64").is_none());
    }
}

/// A signed payload is accepted only if another reader finds in it the right issuer, audience and times.
pub fn claims(data: &[u8]) {
    let verified = match verify(&signed(HEADER, data), &KEYS, &policy(), NOW) {
        Ok(verified) => verified,
        Err(rejection) => return is_harmless(&rejection),
    };
    assert_eq!(verified.claims_json().as_bytes(), data);
    let claims: Value = serde_json::from_slice(data).unwrap();
    let text = |name: &str| claims[name].as_str().unwrap();
    let (issuer, tenant) = (text("iss"), text("tid"));
    let hosts = ["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"];
    let own = |host: &&str| issuer == format!("https://{host}/{tenant}/v2.0");
    assert!(hosts.iter().any(own) || issuer == format!("https://sts.windows.net/{tenant}/"), "{issuer} {tenant}");
    assert!(!tenant.contains(['/', '?', '#', '%']), "{tenant}");
    let ours = |aud: &Value| aud.as_str().is_some_and(|aud| aud == CLIENT || aud == format!("{CLIENT}/"));
    assert!(ours(&claims["aud"]) || claims["aud"].as_array().is_some_and(|all| all.iter().any(ours)));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (now, skew) = (NOW as f64, SKEW as f64);
    assert!(claims["exp"].as_f64().unwrap() >= now - skew);
    assert!(claims.get("nbf").is_none_or(|nbf| nbf.as_f64().unwrap() < now + skew + 1.0));
    assert!(!verified.is_app_only() || verified.scopes().next().is_none());
}

/// Members of a signed request, signed with the right key around a good access token: accepted only for the request at hand.
pub fn signed_request(data: &[u8]) {
    static ACCESS_TOKEN: LazyLock<String> = LazyLock::new(|| {
        let issuer = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        let jwk = &*JWK;
        let claims = format!(
            r#"{{"aud":"{CLIENT}","iss":"{issuer}","exp":1700003600,"tid":"{TENANT}","idtyp":"app","cnf":{{"jwk":{jwk}}}}}"#
        );
        signed(HEADER, claims.as_bytes())
    });
    static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| Validator::new(policy(), 1));
    let settings = PopValidation {
        method: true,
        host: true,
        path: true,
        query: true,
        accept_unsigned_query: false,
        present_claims: false,
        claims_when_present: Vec::new(),
        lifetime: Duration::from_mins(5),
        reject_replays: false,
        reject_bound_as_bearer: false,
    };
    let Ok(members) = std::str::from_utf8(data) else { return };
    let payload = format!(r#"{{"at":"{}",{members}}}"#, *ACCESS_TOKEN);
    let request = OriginalRequest::parse("GET", "https://api.example/me?a=1").unwrap();
    let signed = signed(r#"{"alg":"ES256","typ":"pop"}"#, payload.as_bytes());
    match SignedRequests::new(settings).verify(&signed, &request, &VALIDATOR, &KEYS, NOW) {
        Err(rejection) => is_harmless(&rejection),
        Ok(token) => {
            assert_eq!(token.assertion(), *ACCESS_TOKEN);
            let claims: Value = serde_json::from_str(&payload).unwrap();
            assert_eq!((&claims["m"], claims["p"].as_str().unwrap().trim_matches('/')), (&"GET".into(), "me"));
            let host = claims["u"].as_str().unwrap().to_lowercase();
            assert!(host == "api.example" || host == "api.example:443", "{host}");
            assert_eq!(claims["q"][0], serde_json::json!(["a"]));
            assert!((claims["ts"].as_f64().unwrap().floor() - 1_700_000_000.0).abs() <= 300.0);
        }
    }
}

/// Nothing can be encrypted for a key without knowing it, but anybody can send five parts: one refusal for all of them.
#[cfg(feature = "jwe")]
pub fn jwe(data: &[u8]) {
    use entra_sidecar::internal::jwt::jwe::{DecryptionKey, decrypt};
    static KEYS: LazyLock<Vec<DecryptionKey>> =
        LazyLock::new(|| vec![DecryptionKey::new(include_bytes!("../../tests/data/keys/rsa-a.pk8"), None).unwrap()]);
    let refused = |token: &str| assert_eq!(decrypt(token, &KEYS).map(|_| ()), Err(Rejection::DecryptionFailed));
    match std::str::from_utf8(data) {
        Ok(text) if text.contains('.') => refused(text),
        // As a header, over parts of the right lengths.
        _ => refused(&format!("{}.{}.{}.{}.{}", b64(data), b64([1; 256]), b64([2; 16]), b64([3; 32]), b64([4; 16]))),
    }
}
