//! Several credentials: which is used, what is said of the others, and that none is given up for good
//! (docs/design.md, "Credentials").

use local_tenant::directory::{APP_ID, APP_SECRET, APP_SUBJECT, TENANT_ID};
use local_tenant::{Action, Answer, Fault, Kind};
use serde_json::json;

use super::credentials::{CREDENTIAL, refused, scene};
use super::support::{Scene, Sidecar, eventually};

const APP: &str = "/AuthorizationHeaderUnauthenticated/App";
const FORCED: &str = "/AuthorizationHeaderUnauthenticated/App?optionsOverride.AcquireTokenOptions.ForceRefresh=true";
const SECOND: &str = "AzureAd:ClientCredentials:1";

/// An entry behind the first.
fn and(scene: Scene, fields: &[(&str, &str)]) -> Scene {
    fields.iter().fold(scene, |scene, (name, value)| scene.with(&format!("{SECOND}:{name}"), value))
}

/// The secret behind this credential.
fn before_the_secret(fields: &[(&str, &str)]) -> Scene {
    and(scene(fields), &[("SourceType", "ClientSecret"), ("ClientSecret", APP_SECRET)])
}

fn says(sidecar: &Sidecar, words: &str) -> bool {
    sidecar.log().iter().any(|line| line.contains(words))
}

/// Which field proved the client in each token request.
fn proofs(scene: &Scene) -> Vec<&'static str> {
    let requests = scene.tenant.journal().of(Kind::Token);
    let proof = |record: &local_tenant::journal::Record| match record.field("client_secret") {
        Some(_) => "secret",
        None => record.field("client_assertion").map_or("none", |_| "assertion"),
    };
    requests.iter().map(proof).collect()
}

#[test]
fn the_first_working_credential_is_used_alone() {
    let scene = and(
        Scene::new(),
        &[("SourceType", "SignedAssertionFromManagedIdentity"), ("TokenExchangeUrl", "api://AzureADTokenExchange")],
    );
    let sidecar = scene.start_with(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", scene.tenant.base_url())]);
    sidecar.get(APP).expect(200);
    assert_eq!(proofs(&scene), ["secret"]);
    assert_eq!(scene.tenant.journal().count(Kind::ManagedIdentity), 0);
}

#[test]
fn a_failed_credential_is_skipped_with_a_warning() {
    let scene = before_the_secret(&[("SourceType", "Path"), ("CertificateDiskPath", "/absent.pem")]);
    let sidecar = scene.start();
    sidecar.get(APP).expect(200);
    assert_eq!(proofs(&scene), ["secret"]);
    eventually("the warning", || says(&sidecar, "credential 0 (Path): /absent.pem: No such file"));
    assert_eq!(sidecar.get("/healthz").expect(200).body, "Healthy", "one of them can be used");
}

#[test]
fn a_local_failure_is_tried_again_with_the_next_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.pem");
    let scene = before_the_secret(&[("SourceType", "Path"), ("CertificateDiskPath", path.to_str().unwrap())]);
    let sidecar = scene.start();
    sidecar.get(FORCED).expect(200);
    std::fs::write(&path, local_tenant::certificate::CLIENT_1.pem()).unwrap();
    sidecar.get(FORCED).expect(200);
    assert_eq!(proofs(&scene), ["secret", "assertion"]);
}

#[test]
fn a_credential_whose_upstream_is_down_is_skipped() {
    let scene = before_the_secret(&[("SourceType", "SignedAssertionFromManagedIdentity")]);
    let busy = Answer::status(429).header("Retry-After", "60");
    scene.tenant.fail(Fault::always(Kind::ManagedIdentity, Action::Answer(Box::new(busy))));
    let sidecar = scene.start_with(&[
        ("IDENTITY_ENDPOINT", &format!("{}/managed-identity/app-service", scene.tenant.base_url())),
        ("IDENTITY_HEADER", "x"),
    ]);
    for _ in 0..3 {
        sidecar.get(FORCED).expect(200);
    }
    assert_eq!(proofs(&scene), ["secret"; 3]);
    assert_eq!(scene.tenant.journal().count(Kind::ManagedIdentity), 1, "the others did not wait for it first");
    eventually("the warning", || says(&sidecar, "credential 0 (SignedAssertionFromManagedIdentity)"));
}

#[test]
fn without_any_usable_credential_each_is_named() {
    let expired = super::credentials::key("client-expired.crt.pem");
    let scene = and(
        scene(&[("SourceType", "Path"), ("CertificateDiskPath", "/absent.pem")]),
        &[
            ("SourceType", "Path"),
            ("CertificateDiskPath", &expired),
            ("CertificateKeyDiskPath", &super::credentials::key("client-expired.pem")),
        ],
    );
    let sidecar = scene.start();
    let answer = sidecar.get(APP).problem(500, "Failed to acquire token for downstream API");
    let extensions = answer.json()["extensions"].clone();
    assert_eq!(extensions["errorCode"], "invalid_client_credential");
    assert_eq!(
        extensions["credentials"],
        json!([{"index": 0, "sourceType": "Path"}, {"index": 1, "sourceType": "Path"}])
    );
    assert!(!answer.body.contains("absent.pem"), "files are the operator's to know: {}", answer.body);
    for words in ["credential 0 (Path): /absent.pem: No such file", "credential 1 (Path): ", "the certificate expired"]
    {
        eventually(words, || says(&sidecar, words));
    }
    assert_eq!(sidecar.get("/healthz").expect(503).body, "Unhealthy\nno usable credential in AzureAd\n");
    assert_eq!(scene.tenant.journal().count(Kind::Token), 0);
}

#[test]
fn a_credential_that_may_recover_makes_it_503_not_500() {
    let scene = and(
        scene(&[("SourceType", "Path"), ("CertificateDiskPath", "/absent.pem")]),
        &[("SourceType", "SignedAssertionFromManagedIdentity")],
    );
    let busy = Answer::status(429).header("Retry-After", "60");
    scene.tenant.fail(Fault::once(Kind::ManagedIdentity, Action::Answer(Box::new(busy))));
    let endpoint = format!("{}/managed-identity/app-service", scene.tenant.base_url());
    let secret = local_tenant::managed_identity::HEADER_SECRET;
    let sidecar = scene.start_with(&[("IDENTITY_ENDPOINT", &endpoint), ("IDENTITY_HEADER", secret)]);
    let answer = sidecar.get(APP).problem(503, "Failed to acquire token for downstream API");
    assert_eq!(answer.json()["extensions"], json!({"retryable": true}));
    assert!(answer.header("Retry-After").is_some());
    sidecar.get("/healthz").expect(200);
}

#[test]
fn a_missing_source_type_is_inferred_and_warned_about() {
    let certificate = local_tenant::certificate::CLIENT_1.pem();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.pem");
    std::fs::write(&file, certificate).unwrap();
    for (field, value, kind) in
        [("ClientSecret", APP_SECRET, "ClientSecret"), ("CertificateDiskPath", file.to_str().unwrap(), "Path")]
    {
        let scene = scene(&[(field, value)]);
        let sidecar = scene.start();
        sidecar.get(APP).expect(200);
        let told = format!("{CREDENTIAL}:SourceType");
        eventually(kind, || {
            says(&sidecar, &told) && says(&sidecar, &format!("taken for {kind}, because {field} is set"))
        });
    }
}

#[test]
fn a_workload_identity_needs_no_configuration() {
    let scene = scene(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, scene.tenant.federated_assertion(APP_SUBJECT, 3600)).unwrap();
    // What the webhook of AKS sets besides must not change where the token comes from.
    let sidecar = scene.start_with(&[
        ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
        ("AZURE_CLIENT_ID", "00000000-0000-4000-8000-000000000000"),
        ("AZURE_TENANT_ID", "00000000-0000-4000-8000-000000000001"),
        ("AZURE_AUTHORITY_HOST", "https://unused.example/"),
    ]);
    sidecar.get(APP).expect(200);
    let request = scene.tenant.journal().of(Kind::Token).remove(0);
    assert_eq!(request.request.path, format!("/{TENANT_ID}/oauth2/v2.0/token"));
    assert_eq!(request.field("client_id"), Some(APP_ID));
    assert_eq!(proofs(&scene), ["assertion"]);
}

#[test]
fn no_credential_at_all_is_healthy_and_acquires_nothing() {
    let scene = scene(&[]);
    let sidecar = scene.start();
    sidecar.get("/healthz").expect(200);
    let (status, body) = refused(&sidecar);
    assert_eq!(status, 500);
    assert!(body.contains("invalid_client_credential"), "{body}");
    assert_eq!(scene.tenant.journal().count(Kind::Token), 0);
}
