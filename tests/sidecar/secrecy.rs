//! Secrets never reach the log or an answer. [`super::support::Sidecar`] checks every line of every process in the
//! suite, at the finest level of the log.

use std::fs;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local_tenant::certificate::{
    CLIENT_1, CLIENT_1_PFX, CLIENT_1_PFX_LEGACY, CLIENT_1_PFX_PASSWORD, CLIENT_EC, PFX_PASSWORD,
};
use local_tenant::directory::{AGENT_ID, APP_SECRET, APP_SECRET_EXPIRED, OTHER_APP_SECRET};
use local_tenant::managed_identity::{ARC_KEY, HEADER_SECRET};
use local_tenant::message::percent_encode;

use local_tenant::{Action, Fault, Kind};

use super::support::{Scene, Sidecar};
use super::wire::acquire;

/// What a test makes up and wants kept starts with this: session keys, caller tokens, proof keys.
pub const HUSH: &str = "hush-hush-";

static SECRETS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut secrets: Vec<String> = [
        // Tokens, assertions and all other JSON in base64url; then the tenant's refresh tokens.
        "eyJ", "0.refresh.", "PRIVATE KEY", HUSH,
    ]
    .map(str::to_owned)
    .into();
    for word in [APP_SECRET, APP_SECRET_EXPIRED, OTHER_APP_SECRET, PFX_PASSWORD, HEADER_SECRET, ARC_KEY] {
        let encoded = percent_encode(word);
        secrets.extend([word.to_owned(), encoded.replace("%20", "+"), encoded, STANDARD.encode(word)]);
    }
    for archive in [CLIENT_1_PFX, CLIENT_1_PFX_PASSWORD, CLIENT_1_PFX_LEGACY] {
        let text = STANDARD.encode(archive);
        secrets.push(text[text.len() / 2..][..40].to_owned());
    }
    secrets.extend(private_key_lines());
    secrets
});

/// A line out of each private key, from behind its public half.
fn private_key_lines() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/local-tenant/keys");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.extension().is_some_and(|end| end == "pem")).map(fs::read_to_string);
    let keys = texts.map(Result::unwrap).filter(|text| text.contains("PRIVATE KEY"));
    keys.map(|text| {
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        body[body.len() / 2..][..40].to_owned()
    })
    .collect()
}

/// The secret that stands in a line.
pub fn leaked(line: &str) -> Option<&'static str> {
    SECRETS.iter().map(String::as_str).find(|secret| line.contains(secret))
}

#[test]
fn every_secret_is_found_and_an_ordinary_line_is_not() {
    assert!(SECRETS.len() > 30, "{}", SECRETS.len());
    for secret in SECRETS.iter() {
        assert!(secret.len() >= 3 && leaked(&format!("token: \"{secret}\", and more")).is_some(), "{secret}");
    }
    for line in ["", "GET /AuthorizationHeader 200 1 ms", "the token endpoint at 127.0.0.1 answered 503"] {
        assert_eq!(leaked(line), None);
    }
}

#[test]
fn a_process_that_writes_a_secret_fails_its_test() {
    for (stream, secret) in [("log", APP_SECRET), ("log", "Bearer eyJhbGciOiJub25lIn0"), ("output", "anything")] {
        let scene = Scene::new();
        let sidecar = scene.start();
        match stream {
            "log" => sidecar.log.lock().unwrap().push(format!("TRACE {secret}")),
            _ => sidecar.output.lock().unwrap().push_str(secret),
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(sidecar)));
        assert!(ended.is_err(), "{stream}: {secret}");
    }
}

/// Every flow once, and each of its failures that quotes what was sent.
#[test]
fn nothing_secret_is_written_even_where_everything_is() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, proof_key) = (folder.path().join("client.pem"), folder.path().join("proof.pem"));
    fs::write(&certificate, CLIENT_1.pem()).unwrap();
    fs::write(&proof_key, CLIENT_EC.key_pem).unwrap();
    let scene = Scene::new()
        .with("AzureAd:ClientCredentials:1:SourceType", "Path")
        .with("AzureAd:ClientCredentials:1:CertificateDiskPath", certificate.to_str().unwrap())
        .with("Sidecar:SignedHttpRequests:KeyFile", proof_key.to_str().unwrap());
    let with_secret = scene.start_with(&[("RUST_LOG", "trace")]).with_keys();
    let mut settings = scene.settings.clone();
    settings.retain(|key, _| !key.starts_with("AzureAd:ClientCredentials:0:"));
    let with_certificate = Sidecar::start(&settings, &[("RUST_LOG", "trace")]).with_keys();
    let alice = scene.user("alice");
    let session = acquire("LongRunningWebApiSessionKey", &format!("{HUSH}session"));
    let account = format!("AgentIdentity={AGENT_ID}&AgentUsername=agent-user@contoso.onmicrosoft.com");
    let (open, own) = ("/AuthorizationHeaderUnauthenticated/Down", "/AuthorizationHeader/Down");
    let flows = [
        "/Validate".to_owned(),
        "/AuthorizationHeader/App".to_owned(),
        own.to_owned(),
        format!("{own}?AgentIdentity={AGENT_ID}"),
        format!("{own}?{session}"),
        format!("{open}?{session}&{}", acquire("ForceRefresh", "true")),
        format!("{open}?{account}"),
        format!("{own}?{}", acquire("AuthenticationScheme", "PoP")),
        format!("/DownstreamApi/Down?{}", acquire("PopClaims", r#"{"nonce":"n"}"#)),
    ];
    for sidecar in [&with_secret, &with_certificate] {
        for flow in &flows {
            sidecar.get_as(&alice, flow).expect(200);
        }
    }
    // Entra, or what claims to be it, repeats all that it was sent.
    let sent: Vec<_> = scene.tenant.journal().of(Kind::Token).into_iter().flat_map(|sent| sent.form).collect();
    let proofs =
        ["client_secret", "client_assertion", "assertion", "refresh_token", "user_federated_identity_credential"];
    assert!(proofs.iter().all(|proof| sent.iter().any(|(name, _)| name == proof)));
    let fault = Fault::always(Kind::Token, Action::Echo);
    scene.tenant.fail(fault);
    for sidecar in [&with_secret, &with_certificate] {
        for flow in flows.iter().skip(1) {
            let separator = if flow.contains('?') { '&' } else { '?' };
            let forced = format!("{flow}{separator}{}", acquire("ForceRefresh", "true"));
            let answer = sidecar.get_as(&alice, &forced).expect(500);
            assert_eq!(leaked(&answer.body), None, "{flow}: {}", answer.body);
            assert!(answer.body.contains("[redacted]"), "{flow}: {}", answer.body);
        }
    }
}
