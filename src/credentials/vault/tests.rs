//! Against a scripted vault: complete requests, their number, and error messages.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::config;
use crate::credentials::Source;
use crate::credentials::testing::{World, answer, certificates, data, now, verified};
use crate::outbound::{HeaderFields, OutError};

const VAULT: &str = "https://own.vault.azure.net";
const DAY: u64 = 24 * 60 * 60;

type Answer = Result<OutResponse, OutError>;

fn described(vault: &str) -> config::VaultCertificate {
    config::VaultCertificate {
        vault: Url::parse(vault).unwrap(),
        name: "app".into(),
        managed_identity_client_id: Some("m".into()),
    }
}

fn certificate(vault: &str, variables: &[(&str, &str)]) -> VaultCertificate {
    VaultCertificate::new(&described(vault), environment(variables))
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(|name| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "stands for an exchange, which may fail")]
fn challenge(resource: &str) -> Answer {
    let field = format!("Bearer authorization=\"https://login.microsoftonline.com/t1\", {resource}");
    Ok(OutResponse { status: 401, headers: HeaderFields::from([("www-authenticate", field)]), body: Vec::new() })
}

/// The vault's description of the certificate in `tests/data/credentials`.
fn about() -> Value {
    json!({
        "kid": format!("{VAULT}/keys/app/v1"),
        "sid": format!("{VAULT}/secrets/app/v1"),
        "cer": STANDARD.encode(&certificates("leaf.crt.pem")[0]),
        "attributes": {"enabled": true, "nbf": now() - 10, "exp": now() + 100 * DAY},
        "policy": {"key_props": {"exportable": true}},
    })
}

fn pem() -> Value {
    json!({"value": std::fs::read_to_string(data("pkcs8.pem")).unwrap(), "contentType": "application/x-pem-file"})
}

/// A vault with it: challenges requests without a token, and answers by path.
fn vault(about: Value, secret: Value) -> World {
    World::with(now(), move |upstream, request| {
        assert_eq!(upstream, Upstream::KeyVault);
        if !request.contains("\nauthorization: Bearer MI") {
            return challenge("resource=\"https://vault.azure.net\"");
        }
        match request.split(['?', ' ']).nth(1).unwrap().strip_prefix(VAULT).unwrap() {
            "/certificates/app" => answer(200, &about.to_string()),
            "/secrets/app/v1" => answer(200, &secret.to_string()),
            "/keys/app/v1/sign" => answer(200, &sign(request).to_string()),
            path => panic!("{path}"),
        }
    })
}

/// Returns the hash, since `ring` only signs messages; the local tenant signs for real.
fn sign(request: &str) -> Value {
    let body: Value = serde_json::from_str(request.lines().last().unwrap()).unwrap();
    assert_eq!(body["alg"], "PS256");
    json!({"value": body["value"]})
}

#[test]
fn the_certificate_is_read_from_its_secret_and_kept() {
    let world = vault(about(), pem());
    let source = certificate(VAULT, &[]);
    verified(&world.authenticate(&source).unwrap());
    let get = |path: &str, token: &str| {
        format!("GET {VAULT}/{path}?api-version=7.5\naccept: application/json\nx-ms-client-request-id: cid{token}")
    };
    let token = "\nauthorization: Bearer MI";
    let expected = [get("certificates/app", ""), get("certificates/app", token), get("secrets/app/v1", token)];
    assert_eq!(world.requests(), expected);
    assert_eq!(world.asked.lock().unwrap()[0], (Some("m".into()), "https://vault.azure.net".into()));

    verified(&world.authenticate(&source).unwrap());
    assert_eq!(world.requests().len(), 0);
    let end = source.expires_at(now()).unwrap();
    assert!(end > now() + 100 * DAY, "the certificate's own date");

    source.reload();
    verified(&world.authenticate(&source).unwrap());
    assert_eq!(world.requests(), expected[1..], "the resource is known by now");
}

#[cfg(feature = "pfx")]
#[test]
fn a_secret_may_be_a_pfx() {
    let pfx = STANDARD.encode(std::fs::read(data("modern-empty.pfx")).unwrap());
    let world = vault(about(), json!({"value": pfx, "contentType": "application/x-pkcs12"}));
    verified(&world.authenticate(&certificate(VAULT, &[])).unwrap());
}

#[test]
fn what_the_vault_says_of_it_must_fit() {
    let with = |path: &str, value: Value| {
        let mut about = about();
        *about.pointer_mut(path).unwrap() = value;
        about
    };
    for (about, secret, words) in [
        (with("/attributes/enabled", json!(false)), pem(), "disabled"),
        (with("/attributes/exp", json!(now() - 1)), pem(), "expired 1 s ago"),
        (with("/attributes/nbf", json!(now() + 1)), pem(), "becomes valid in 1 s"),
        (with("/attributes/exp", Value::Null), pem(), "no dates"),
        (with("/policy/key_props/exportable", json!(false)), pem(), "SignedAssertionFromVault"),
        (with("/policy/key_props/exportable", Value::Null), pem(), "SignedAssertionFromVault"),
        (with("/sid", json!("https://own.vault.azure.net/secrets/app")), pem(), "no secret"),
        (with("/sid", json!("https://own.vault.azure.net/keys/app/v1")), pem(), "no secret"),
        (with("/sid", json!("https://own.vault.azure.net/secrets/../v1")), pem(), "no secret"),
        (about(), json!({"value": "x", "contentType": "text/plain"}), "neither"),
        (about(), json!({"value": "?", "contentType": "application/x-pkcs12"}), "not base64"),
        (about(), json!({"contentType": "application/x-pem-file"}), "no value"),
    ] {
        let outcome = vault(about, secret).authenticate(&certificate(VAULT, &[]));
        let Err(Failure::Unusable(reason)) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains(words) && reason.contains(VAULT), "{reason}");
    }
}

#[test]
fn a_key_that_stays_in_the_vault_signs_there() {
    let world = vault(about(), Value::Null);
    let source = VaultSigner::new(&described(VAULT), environment(&[]));
    let assertion = world.authenticate(&source).unwrap();
    let parts: Vec<&str> = assertion.split('.').collect();
    let hash = ring::digest::digest(&ring::digest::SHA256, format!("{}.{}", parts[0], parts[1]).as_bytes());
    assert_eq!(parts[2], URL_SAFE_NO_PAD.encode(hash), "what the vault gave for the hash");
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    assert_eq!(header["x5t#S256"], crate::value::b64::url_sha256(&certificates("leaf.crt.pem")[0]));
    let requests = world.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(
        requests[2],
        format!(
            "POST {VAULT}/keys/app/v1/sign?api-version=7.5\naccept: application/json\nx-ms-client-request-id: cid\n\
             authorization: Bearer MI\ncontent-type: application/json\n{{\"alg\":\"PS256\",\"value\":\"{}\"}}",
            parts[2]
        )
    );
    world.authenticate(&source).unwrap();
    assert_eq!(world.requests().len(), 1, "each assertion is signed; the certificate is kept");
}

#[test]
fn a_token_is_only_for_a_service_that_the_vault_is_part_of() {
    for (vault, resource, good) in [
        (VAULT, "resource=\"https://vault.azure.net\"", true),
        (VAULT, "resource=\"https://vault.azure.net/\"", true),
        (VAULT, "scope=\"https://vault.azure.net/.default\"", true),
        ("https://own.vault.usgovcloudapi.net/", "resource=\"https://vault.usgovcloudapi.net\"", true),
        ("http://127.0.0.1:9", "resource=\"https://vault.azure.net\"", true),
        ("https://own.evil.example", "resource=\"https://vault.azure.net\"", false),
        ("https://ownvault.azure.net", "resource=\"https://vault.azure.net\"", false),
        (VAULT, "resource=\"https://management.azure.com\"", false),
        (VAULT, "resource=\"https://net\"", false),
        (VAULT, "resource=\"https://\"", false),
        (VAULT, "resource=\"vault.azure.net\"", false),
        (VAULT, "realm=\"x\"", false),
    ] {
        let world = World::with(now(), move |_, _| challenge(resource));
        assert!(world.authenticate(&certificate(vault, &[])).is_err());
        assert_eq!(world.requests().len(), if good { 2 } else { 1 }, "{vault} {resource}");
        assert_eq!(world.asked.lock().unwrap().len(), usize::from(good), "{vault} {resource}");
    }
}

#[test]
fn who_asks_is_what_the_environment_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("e30.{}.c2ln\n", URL_SAFE_NO_PAD.encode("{}"))).unwrap();
    let file = file.to_str().unwrap();
    let common = [("AZURE_CLIENT_ID", "c 2"), ("AZURE_TENANT_ID", "t2")];
    let secret = [&common[..], &[("AZURE_CLIENT_SECRET", "s&")]].concat();
    let host = [("AZURE_FEDERATED_TOKEN_FILE", file), ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/")];
    let workload = [&common[..], &host].concat();
    for (variables, url, proof) in [
        (secret, "https://login.microsoftonline.com", "client_secret=s%26"),
        (
            workload,
            "https://login.microsoftonline.us",
            "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=e30.e30.c2ln",
        ),
    ] {
        let world = World::with(now(), |upstream, request| match upstream {
            Upstream::Token => answer(200, r#"{"access_token":"VT","expires_in":"3600","token_type":"Bearer"}"#),
            _ if !request.contains("\nauthorization: Bearer VT") => challenge("resource=\"https://vault.azure.net\""),
            _ if request.contains("/secrets/") => answer(200, &pem().to_string()),
            _ => answer(200, &about().to_string()),
        });
        let source = certificate(VAULT, &variables);
        verified(&world.authenticate(&source).unwrap());
        let requests = world.requests();
        assert_eq!(
            requests[1],
            format!(
                "POST {url}/t2/oauth2/v2.0/token\naccept: application/json\n\
                 content-type: application/x-www-form-urlencoded\nclient-request-id: cid\n\
                 client_id=c+2&{proof}&scope=https%3A%2F%2Fvault.azure.net%2F.default&grant_type=client_credentials"
            )
        );
        assert_eq!(requests.len(), 4, "one token for both requests to the vault");
        let again = |seconds| {
            world.clock.advance(Duration::from_secs(seconds));
            source.reload();
            world.authenticate(&source).unwrap();
            world.requests().len()
        };
        assert_eq!((again(3299), again(1)), (2, 3), "the token is used until five minutes before its end");
    }
}

#[test]
fn a_managed_identity_is_the_one_that_is_named_nearest() {
    for (own, registered, variable, expected) in [
        (Some("a"), Some("b"), Some("c"), Some("a")),
        (None, Some("b"), Some("c"), Some("b")),
        (None, None, Some("c"), Some("c")),
        (None, None, None, None),
    ] {
        let mut world = vault(about(), pem());
        world.registration.managed_identity_client_id = registered.map(str::to_owned);
        let variables: Vec<_> = variable.map(|id| ("AZURE_CLIENT_ID", id)).into_iter().collect();
        let described =
            config::VaultCertificate { managed_identity_client_id: own.map(str::to_owned), ..described(VAULT) };
        let source = VaultCertificate::new(&described, environment(&variables));
        world.authenticate(&source).unwrap();
        assert_eq!(world.asked.lock().unwrap()[0].0.as_deref(), expected);
    }
}

#[test]
fn an_authority_without_tls_gets_no_secret() {
    let variables = [
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_SECRET", "s"),
        ("AZURE_AUTHORITY_HOST", "http://login.example/"),
    ];
    let world = World::with(now(), |_, _| challenge("resource=\"https://vault.azure.net\""));
    let Err(Failure::Unusable(reason)) = world.authenticate(&certificate(VAULT, &variables)) else { panic!("refused") };
    assert!(reason.contains("AZURE_AUTHORITY_HOST"), "{reason}");
    assert_eq!(world.requests().len(), 1);
}

/// The failure that an answer to an authenticated request causes, the number of requests, and the
/// time they took.
fn failing(first: impl Fn() -> Answer + Send + Sync + 'static) -> (Failure, usize, u64) {
    let world = World::with(now(), move |_, request| {
        if request.contains("\nauthorization") { first() } else { challenge("resource=\"https://vault.azure.net\"") }
    });
    let failure = world.authenticate(&certificate(VAULT, &[])).unwrap_err();
    (failure, world.requests().len() - 1, world.clock.unix() - now())
}

#[test]
fn a_refusal_says_what_to_do_and_a_failure_that_it_passes() {
    let refusal = r#"{"error":{"code":"Forbidden","message":"Caller is not authorized\r\nmore"}}"#;
    let (failure, requests, _) = failing(move || answer(403, refusal));
    let Failure::Unusable(reason) = failure else { panic!("{failure:?}") };
    assert!(reason.contains("403: Forbidden: Caller is not authorized;"), "{reason}");
    assert!(reason.contains("grant") && requests == 1, "{reason}");
    for (status, words) in [(404, "KeyVaultCertificateName"), (401, "tenant"), (400, "400"), (302, "302")] {
        let (failure, requests, _) = failing(move || answer(status, ""));
        let Failure::Unusable(reason) = failure else { panic!("{failure:?}") };
        assert!(reason.contains(words) && requests == 1, "{reason}");
    }
    for status in [408, 500, 503] {
        let (failure, requests, _) = failing(move || answer(status, ""));
        assert!(matches!(failure, Failure::Unavailable(_)) && requests == 2, "{status}");
    }
    let (failure, requests, _) = failing(|| answer(429, ""));
    assert!(matches!(failure, Failure::Unavailable(_)) && requests == 1);
    let (failure, requests, _) = failing(|| answer(200, "<html>"));
    assert!(matches!(failure, Failure::Unavailable(_)) && requests == 1);
    for (error, expected) in [
        (OutError::Connect("refused".into()), 2),
        (OutError::Broken("reset".into()), 2),
        (OutError::Timeout("10 s".into()), 1),
        (OutError::TooLarge(1), 1),
    ] {
        let (failure, requests, _) = failing(move || Err(error.clone()));
        assert!(matches!(failure, Failure::Unavailable(_)) && requests == expected);
    }
}

#[test]
fn retry_after_is_waited_for_up_to_five_seconds() {
    let advised = |seconds: &'static str| {
        failing(move || {
            Ok(OutResponse { status: 503, headers: HeaderFields::from([("retry-after", seconds)]), body: Vec::new() })
        })
    };
    let (_, requests, waited) = advised("5");
    assert_eq!((requests, waited), (2, 5));
    let (_, requests, waited) = advised("6");
    assert_eq!((requests, waited), (1, 0));
}

#[test]
fn a_refusal_for_the_vault_repeats_no_secret() {
    let refused = |code: &'static str| {
        let world = World::with(now(), move |upstream, request| {
            if upstream != Upstream::Token {
                return challenge("resource=\"https://vault.azure.net\"");
            }
            let form = request.lines().last().unwrap();
            answer(400, &json!({"error": code, "error_description": format!("bad hunter~2&x in {form}")}).to_string())
        });
        let variables = [("AZURE_CLIENT_ID", "c"), ("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_SECRET", "hunter~2&x")];
        world.authenticate(&certificate(VAULT, &variables)).unwrap_err()
    };
    let Failure::Unusable(reason) = refused("invalid_client") else { panic!("it is refused for good") };
    assert!(reason.contains("bad [redacted] in client_id=c&client_secret=[redacted]&scope"), "{reason}");
    assert!(!reason.contains("hunter"), "{reason}");
    assert!(matches!(refused("temporarily_unavailable"), Failure::Unavailable(_)));
}
